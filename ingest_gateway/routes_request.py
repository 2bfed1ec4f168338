"""What every route needs of a request: the parts of the application, and a body within limits."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Annotated, NamedTuple, TypeVar

import msgspec
from fastapi import Depends, Request

from ingest_gateway.body import form_of
from ingest_gateway.commands import CommandSender
from ingest_gateway.control_view import ControlView
from ingest_gateway.errors import (
    BodyTooLargeError,
    UnsupportedMediaTypeError,
    ViewUnavailableError,
)
from ingest_gateway.imports import ImportDoor
from ingest_gateway.intake import Intake
from ingest_gateway.room import Room
from ingest_gateway.routes_problems import ProblemError, invalid_fields
from ingest_gateway.sink import EventSink
from ingest_gateway.splitting import BodyForm
from schemas.definitions import FieldError
from schemas.shapes import ERRORS_MAX, RepeatedKeyError, check_keys, shape_errors

BODY_TIMEOUT_S = 12.0
"""A client that takes longer to send its body is told so, and let go: two seconds later its
connection is closed without a word."""

VIEW_TIMEOUT_S = 1.5
"""A request that comes before the control log was read waits so long."""

VIEW_POLL_S = 0.01

JSON_BODY_BYTES_MAX = 100_000
"""A body that is no events: a definition, a question for decisions."""

Body = TypeVar("Body")

_WHERE = re.compile(r"^(?P<message>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"field `(?P<field>[^`]*)`")


class Parts(NamedTuple):
    """What ``create_app`` is given.

    Attributes:
        sink: Where messages go.
        view: What is known of the control log.
        intake: Takes events in, through HTTP or as logged decisions.
        commands: Has commands carried out.
        clock_ms: Wall clock.
        new_id: Makes ids of commands.
        room: What requests may take up together.
        imports: Takes import batches in.
    """

    sink: EventSink
    view: ControlView
    intake: Intake
    commands: CommandSender
    clock_ms: Callable[[], int]
    new_id: Callable[[], str]
    room: Room
    imports: ImportDoor


async def parts_of(request: Request) -> Parts:
    """Return the parts that this application is made of.

    A coroutine only because FastAPI sends other functions to a thread pool.
    """
    found: Parts = request.app.state.parts
    return found


PartsOfApp = Annotated[Parts, Depends(parts_of)]


async def wait_for_view(parts: PartsOfApp) -> None:
    """Let a request wait until the control log was read once.

    Before that nothing is known: not how late an event may be, nor which experiments there are. An
    answer would be of another platform, and an event that is late would be taken for one that
    counts.

    Raises:
        ViewUnavailableError: If that takes too long.
    """
    if parts.view.is_caught_up:
        return
    try:
        async with asyncio.timeout(VIEW_TIMEOUT_S):
            while not parts.view.is_caught_up:  # noqa: ASYNC110  # another thread reads the log
                await asyncio.sleep(VIEW_POLL_S)
    except TimeoutError as error:
        message = "the control log has not been read since this gateway started; send it again"
        raise ViewUnavailableError(message) from error


@asynccontextmanager
async def body_deadline() -> AsyncIterator[None]:
    """Give a client the time that it has to send its body.

    Raises:
        ProblemError: If it does not arrive in time.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            yield
    except TimeoutError as error:
        message = f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s"
        raise ProblemError(
            408, "request_timeout", message, headers={"Connection": "close"}
        ) from error


async def read_body(request: Request, bytes_max: int) -> bytes:
    """Return the body, as it came.

    Raises:
        BodyTooLargeError: If it is longer than ``bytes_max``; the rest is not read.
        ProblemError: If it does not arrive in time.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > bytes_max:
        raise _too_large(bytes_max)
    chunks: list[bytes] = []
    size = 0
    async with body_deadline():
        async for chunk in request.stream():
            size += len(chunk)
            if size > bytes_max:
                raise _too_large(bytes_max)
            chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_json(request: Request, body_type: type[Body]) -> Body:
    """Return a JSON body as ``body_type``; an empty body is an empty object.

    Raises:
        ProblemError: If it is no JSON (400), or another type of body (422, with the field).
    """
    raw = await read_body(request, JSON_BODY_BYTES_MAX)
    if raw and form_of(request.headers.get("content-type")) is not BodyForm.JSON:
        raise UnsupportedMediaTypeError("NDJSON, must be application/json here")
    return decode_json(raw or b"{}", body_type)


def decode_json(raw: bytes, body_type: type[Body]) -> Body:
    """Return ``raw`` as ``body_type``.

    Raises:
        ProblemError: If it is no JSON (400), or another type of body (422, with the field).
    """
    try:
        found = msgspec.json.decode(raw, type=body_type)
        check_keys(raw)
        return found
    except msgspec.ValidationError as error:
        errors = islice(shape_errors(msgspec.json.decode(raw), body_type), ERRORS_MAX)
        raise invalid_fields(list(errors) or [field_error(str(error))]) from error
    except RepeatedKeyError as error:
        raise invalid_fields([FieldError(error.key[:128], str(error), "malformed")]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError(400, "malformed", f"the body is not JSON: {error}") from error


def field_error(text: str) -> FieldError:
    """Return what msgspec says of a body, as the field and the rule."""
    found = _WHERE.match(text)
    assert found is not None
    message, path = found["message"], found["path"] or ""
    named = _FIELD.search(message)
    parts = [path] if path else []
    if named is not None:
        parts.append(named["field"])
    return FieldError(".".join(parts), message)


def _too_large(bytes_max: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is longer than {bytes_max} bytes")
