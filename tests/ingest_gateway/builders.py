"""Events and experiments with defaults; a test names only the fields that it is about."""

import json
from typing import Any

from ingest_gateway.errors import CONTROL_CODES, RejectionCode
from ingest_gateway.events import KIND_METRIC, Admitted
from ingest_gateway.validator import (
    Admission,
    BodyForm,
    Records,
    RejectedItem,
    admit,
    admit_records,
)
from schemas.control import ControlState, Settings
from schemas.definitions import Analysis, Definition, Interval, Metric, Variant

NOW_MS = 1_795_284_000_123
"""2026-11-21T18:00:00.123Z"""

HOUR_MS = 3_600_000
MINUTE_MS = 60_000


def definition(experiment_id: str = "checkout-color", /, **changed: Any) -> Definition:
    fields: dict[str, Any] = {
        "ordinal": 0,
        "version": 1,
        "variants": [Variant("control", 0.5, is_control=True), Variant("treatment", 0.5)],
        "metrics": [Metric("purchase", "conversion", "purchase", window_ms=HOUR_MS)],
        "seed": experiment_id,
        "analysis": Analysis(),
        "status": "running",
        "intervals": [Interval(NOW_MS - 100 * HOUR_MS)],
    }
    return Definition(id=experiment_id, **(fields | changed))


def control(*definitions: Definition, lateness_ms: int = HOUR_MS) -> ControlState:
    known = definitions or (definition(),)
    return ControlState({one.id: one for one in known}, Settings(lateness_ms=lateness_ms))


def assignment(**changed: Any) -> dict[str, Any]:
    fields = {
        "type": "assignment",
        "event_id": "a-1",
        "experiment_id": "checkout-color",
        "unit_id": "u-123",
        "variant": "treatment",
        "timestamp": NOW_MS,
    }
    return {name: value for name, value in (fields | changed).items() if value is not ...}


def metric(**changed: Any) -> dict[str, Any]:
    fields = {
        "type": "metric",
        "event_id": "m-1",
        "unit_id": "u-123",
        "metric": "purchase",
        "value": 49.9,
        "timestamp": NOW_MS,
    }
    return {name: value for name, value in (fields | changed).items() if value is not ...}


def admitted(**changed: Any) -> Admitted:
    fields: dict[str, Any] = {
        "kind": KIND_METRIC,
        "unit_type": "user",
        "unit_id": "u-123",
        "event_id": "m-1",
        "experiment_id": None,
        "variant": None,
        "metric": "purchase",
        "attributes": None,
        "value": 49.9,
        "timestamp_ms": NOW_MS,
        "timestamp_given": True,
        "received_at_ms": NOW_MS,
        "allocation_version": None,
    }
    return Admitted(**(fields | changed))


def admit_json(events: object, **changed: Any) -> Admission:
    """Admit an array or an object, given as values or as bytes."""
    body = events if isinstance(events, bytes) else json.dumps(events).encode()
    terms: dict[str, Any] = {
        "form": BodyForm.JSON,
        "received_at_ms": NOW_MS,
        "control": control(),
    }
    return admit(body, **(terms | changed))


def admit_lines(lines: list[bytes], **changed: Any) -> Admission:
    return admit_json(b"\n".join(lines), form=BodyForm.NDJSON, **changed)


def refusal(admission: Admission) -> tuple[RejectionCode, str | None]:
    """Return code and field of the only event, which was refused."""
    assert not admission.accepted
    assert not admission.late
    (item,) = admission.rejected
    return item.rejection.code, item.rejection.field


def admit_record(
    value: bytes,
    *,
    topic_type: Any,
    received_at_ms: int,
    control: ControlState,
    position_id: str,
) -> Admission:
    """Admit one record of a topic by itself."""
    records = Records([value], topic_type, [received_at_ms], lambda _: position_id)
    (verdict,) = admit_records(records, control)
    if isinstance(verdict, RejectedItem):
        return Admission([], [], [verdict], verdict.rejection.code in CONTROL_CODES)
    accepted, late = ([], [verdict.event]) if verdict.is_late else ([verdict.event], [])
    return Admission(accepted, late, [], depends_on_control=False)
