"""``POST /v1/events``: the HTTP door. 202 means that every event in the answer is durable."""

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from ingest_gateway import body
from ingest_gateway.routes_problems import ProblemError
from ingest_gateway.routes_request import BODY_TIMEOUT_S, PartsOfApp

router = APIRouter(prefix="/v1", tags=["events"])

_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["type", "event_id", "unit_id"],
    "example": {
        "type": "metric",
        "event_id": "m-1",
        "unit_id": "u-123",
        "metric": "purchase",
        "value": 49.9,
        "timestamp": "2026-11-21T18:00:00.123Z",
    },
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"oneOf": [_EVENT, {"type": "array", "items": _EVENT}]}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}


@router.post("/events", status_code=202, openapi_extra=_BODY)
async def ingest_events(request: Request, parts: PartsOfApp) -> Response:
    """Take one event, an array, or NDJSON; plain, gzip or zstd. 422 when none was taken."""
    form = body.form_of(request.headers.get("content-type"))
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            encoding = request.headers.get("content-encoding")
            plain = await body.read_body(request.stream(), encoding)
    except TimeoutError as error:
        message = f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s"
        raise ProblemError(408, "request_timeout", message) from error
    key = request.headers.get("idempotency-key")
    taken = await parts.intake.take(plain, form=form, idempotency_key=key)
    status = 202 if taken.accepted or taken.late else 422
    return Response(msgspec.json.encode(taken._asdict()), status, media_type="application/json")
