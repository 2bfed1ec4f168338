"""``POST /v1/events``: the HTTP door. 202 means that every event in the answer is durable."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from ingest_gateway import body
from ingest_gateway.routes_request import PartsOfApp, body_deadline

router = APIRouter(prefix="/v1", tags=["events"])

PATH = "/v1/events"

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
    key = request.headers.get("idempotency-key")
    with parts.room.hold() as held:
        encoding = request.headers.get("content-encoding")
        async with body_deadline():
            plain = await body.read_body(request.stream(), encoding, held)
        held.begin()
        taken = await parts.intake.take(plain, form=form, idempotency_key=key)
    status = 202 if taken.accepted or taken.late else 422
    return Response(msgspec.json.encode(taken._asdict()), status, media_type="application/json")
