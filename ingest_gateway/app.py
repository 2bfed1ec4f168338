"""The HTTP application: routes, problems, probes. What it is made of comes from outside."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest_gateway import (
    routes_decisions,
    routes_events,
    routes_experiments,
    routes_imports,
    routes_metrics,
    routes_settings,
)
from ingest_gateway.errors import QueueFullError
from ingest_gateway.routes_problems import add_problem_handlers, refusal
from ingest_gateway.routes_request import Parts, PartsOfApp, wait_for_view
from ingest_gateway.settled_watch import Settled
from ingest_gateway.telemetry import REGISTRY, report_request

OpenParts = Callable[[], AbstractAsyncContextManager[Parts]]

probes = APIRouter(tags=["probes"])


def create_app(open_parts: OpenParts) -> FastAPI:
    """Return the application; ``open_parts`` is entered when it starts, and left when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_parts() as parts:
            app.state.parts = parts
            yield

    app = FastAPIOffline(
        title="Litmus ingest gateway",
        description="Events in, experiments, decisions. 202 means durable; after a 5xx send again.",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.add_middleware(Shedding)
    app.add_middleware(Timed)
    add_problem_handlers(app)
    for routes in (
        routes_events,
        routes_experiments,
        routes_decisions,
        routes_metrics,
        routes_imports,
        routes_settings,
    ):
        app.include_router(routes.router, dependencies=[Depends(wait_for_view)])
    app.include_router(probes)
    return app


@probes.get("/health")
async def health() -> dict[str, str]:
    """Answer while the process lives."""
    return {"status": "ok"}


@probes.get("/ready")
async def ready(parts: PartsOfApp) -> Response:
    """200 when the control log was read to its end, a broker answers, and events are taken."""
    settled, clock = parts.view.settled, parts.view.clock
    own_ms, now_s = parts.clock_ms(), time.monotonic()
    clock_problem = clock.problem(own_ms, now_s)
    conditions = {
        "control_log_read": parts.view.is_caught_up,
        "broker_reachable": parts.sink.reachable,
        "clock_in_step": clock_problem is None,
        "takes_events": settled.state is not Settled.STOPPED and clock_problem is None,
    }
    state: dict[str, Any] = conditions | {"settled": settled.state, "settled_lag_s": settled.lag_s}
    state["clock_skew_s"] = clock.skew_s(own_ms, now_s)
    if clock_problem is not None:
        state["clock_advice"] = clock_problem
    if settled.state is not Settled.CURRENT:
        state["settled_advice"] = settled.advice
    is_ready = all(conditions.values())
    return JSONResponse({"ready": is_ready} | state, 200 if is_ready else 503)


@probes.get("/metrics")
async def metrics() -> Response:
    """Return the metrics as Prometheus reads them."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


class Shedding:
    """Middleware that refuses events before their body is read, while requests wait too long."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        if scope["type"] == "http" and scope["path"] == routes_events.PATH:
            parts: Parts = scope["app"].state.parts
            if parts.room.is_congested:
                error = QueueFullError("requests wait too long already")
                await refusal(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Timed:
    """Middleware that times every request by route and status."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started_s = time.perf_counter()
        try:
            await self._app(scope, receive, noting_status)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            report_request(route, status, time.perf_counter() - started_s)
