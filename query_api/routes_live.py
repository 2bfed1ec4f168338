"""What can be followed: results, over a WebSocket or as server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, WebSocket, WebSocketDisconnect
from sse_starlette import EventSourceResponse, ServerSentEvent

from query_api.live import (
    SEND_TIMEOUT_S,
    TOO_SLOW,
    EvictedError,
    Live,
    Subscription,
    TooManyClientsError,
)
from query_api.metrics import LIVE_EVICTED
from query_api.parts import Parts
from query_api.problems import ProblemError, render_problem
from query_api.routes import PartsOf, SnapshotOf, parts_of, snapshot_of

router = APIRouter(prefix="/v1/experiments/{experiment_id}")

TRY_AGAIN_LATER = 1013
CLOSE_TIMEOUT_S = 1.0
PING_S = 15


@router.websocket("/live")
async def follow_over_websocket(
    websocket: WebSocket, experiment_id: str, parts: Annotated[Parts, Depends(parts_of)]
) -> None:
    """Send the results object, now and whenever there is a newer look."""
    try:
        _refuse_other_sites(websocket)
        snapshot_of(experiment_id, parts)
        with parts.live.follow(experiment_id, "websocket") as subscription:
            await websocket.accept()
            reason = await _serve(websocket, subscription)
    except ProblemError as error:
        await websocket.send_denial_response(render_problem(error))
        return
    except TooManyClientsError as error:
        await websocket.send_denial_response(render_problem(_too_many(error)))
        return
    if reason is not None:
        with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await websocket.close(TRY_AGAIN_LATER, reason)


@router.get("/events", response_class=EventSourceResponse)
async def follow_over_events(
    experiment_id: str, _snapshot: SnapshotOf, parts: PartsOf
) -> EventSourceResponse:
    """Send the results object as server-sent events, now and whenever there is a newer look."""
    try:
        parts.live.check_room()
    except TooManyClientsError as error:
        raise _too_many(error) from error
    return EventSourceResponse(
        _events(parts.live, experiment_id), ping=PING_S, send_timeout=SEND_TIMEOUT_S
    )


def _refuse_other_sites(websocket: WebSocket) -> None:
    """Refuse the page of another site: browsers ask no leave for a WebSocket, unlike for HTTP."""
    origin = websocket.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != websocket.headers.get("host"):
        message = f"origin {origin!r}, must be that of the query API"
        raise ProblemError(403, "forbidden_origin", message)


def _too_many(error: TooManyClientsError) -> ProblemError:
    return ProblemError(503, "too_many_clients", str(error))


async def _serve(websocket: WebSocket, subscription: Subscription) -> str | None:
    """Send until the client leaves or is too slow; return why it is to be disconnected."""
    sending = asyncio.create_task(_send(websocket, subscription))
    listening = asyncio.create_task(_listen(websocket))
    evicted = asyncio.create_task(subscription.evicted.wait())
    tasks = (sending, listening, evicted)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    too_slow = isinstance(outcomes[0], EvictedError | TimeoutError) or outcomes[2] is True
    if isinstance(outcomes[0], TimeoutError) and outcomes[2] is not True:
        LIVE_EVICTED.inc()
    return TOO_SLOW if too_slow else None


async def _send(websocket: WebSocket, subscription: Subscription) -> None:
    while True:
        text = await subscription.next()
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await websocket.send_text(text)


async def _listen(websocket: WebSocket) -> None:
    """Read and forget what the client says, until it leaves."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def _events(live: Live, experiment_id: str) -> AsyncIterator[ServerSentEvent]:
    try:
        with live.follow(experiment_id, "sse") as subscription:
            while True:
                yield ServerSentEvent(await subscription.next())
    except (EvictedError, TooManyClientsError) as error:
        yield ServerSentEvent(str(error), event="closed")
