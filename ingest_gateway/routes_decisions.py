"""``POST /v1/decisions``: which variants a unit gets, from memory; logged when asked to."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from ingest_gateway.decisions import Decision, decide, decision_event_id
from ingest_gateway.intake import Intaken
from ingest_gateway.openapi import body_of
from ingest_gateway.routes_problems import invalid_fields
from ingest_gateway.routes_request import Parts, PartsOfApp, read_json
from ingest_gateway.telemetry import report_decision
from ingest_gateway.validator import BodyForm
from schemas.definitions import FieldError
from schemas.identifiers import EXTERNAL_ID_RULE, NAME_RULE, is_external_id, is_name

router = APIRouter(prefix="/v1", tags=["decisions"])

EXPERIMENTS_MAX = 1_000


class DecisionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked. ``experiment_ids`` null: every experiment that runs on such units."""

    unit_id: str
    unit_type: str = "user"
    attributes: dict[str, Any] | None = None
    experiment_ids: list[str] | None = None
    log: bool = False


_EXAMPLE = {"unit_id": "u-123", "experiment_ids": ["checkout-color"]}


@router.post("/decisions", openapi_extra=body_of(DecisionBody, example=_EXAMPLE))
async def make_decisions(request: Request, parts: PartsOfApp) -> Response:
    """Decide for one unit. With ``log`` the assignments are durable before the answer."""
    body = await read_json(request, DecisionBody)
    _check(body)
    decisions = decide(
        parts.view.usable,
        body.experiment_ids,
        unit_type=body.unit_type,
        unit_id=body.unit_id,
        now_ms=parts.clock_ms(),
    )
    answer: dict[str, Any] = {"decisions": [decision._asdict() for decision in decisions]}
    if body.log:
        taken = await _log(parts, body, decisions)
        answer["log"] = taken.log if taken else {}
    for decision in decisions:
        report_decision(decision.reason.value)
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def _log(parts: Parts, body: DecisionBody, decisions: list[Decision]) -> Intaken | None:
    """Take the decisions in as assignments, through the same door as everybody's events."""
    events = [
        {
            "type": "assignment",
            "event_id": decision_event_id(
                one.experiment_id, body.unit_type, body.unit_id, one.variant
            ),
            "experiment_id": one.experiment_id,
            "unit_type": body.unit_type,
            "unit_id": body.unit_id,
            "variant": one.variant,
            "attributes": body.attributes,
        }
        for one in decisions
        if one.variant is not None
    ]
    if not events:
        return None
    taken = await parts.intake.take(msgspec.json.encode(events), form=BodyForm.JSON)
    if taken.rejected:
        raise invalid_fields(
            [
                FieldError(one.field or "", one.message, one.code.value)
                for one in taken.rejected[:10]
            ]
        )
    return taken


def _check(body: DecisionBody) -> None:
    errors = []
    if not is_external_id(body.unit_id):
        errors.append(FieldError("unit_id", f"{body.unit_id!r}, {EXTERNAL_ID_RULE}", "id_invalid"))
    if not is_name(body.unit_type):
        errors.append(FieldError("unit_type", f"{body.unit_type!r}, {NAME_RULE}", "id_invalid"))
    if body.experiment_ids is not None and len(body.experiment_ids) > EXPERIMENTS_MAX:
        message = f"{len(body.experiment_ids)} ids, must be {EXPERIMENTS_MAX} at most"
        errors.append(FieldError("experiment_ids", message, "too_large"))
    if errors:
        raise invalid_fields(errors)
