"""The rules of one event, each written once. Pure.

Precedence of refusals: too_large, malformed (what is no JSON object, or repeats a key),
unknown_type, then field by field: event_id_missing, id_invalid, malformed, value_not_finite,
value_out_of_range, timestamp_ahead; then unknown_experiment, unknown_variant, and at last
experiment_not_running. Of a late assignment only the experiment and the variant are asked.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from ingest_gateway.errors import RejectionCode
from ingest_gateway.events import KIND_ASSIGNMENT, KIND_METRIC, Admitted
from schemas.control import ControlState
from schemas.definitions import Definition
from schemas.identifiers import EXTERNAL_ID_RULE, NAME_RULE, is_external_id, is_name
from schemas.times import TIMESTAMP_MS_MIN, parse_time_ms

EVENT_BYTES_MAX = 32_000
ATTRIBUTES_BYTES_MAX = 4_096
VALUE_MAX = 1e12
TIMESTAMP_AHEAD_MS_MAX = 5 * 60_000
ALLOCATION_VERSION_MAX = 2**63 - 1
EXACT_INTEGER_MAX = 2**53
"""Beyond it readers of JSON disagree on what a number is."""

DEFAULT_UNIT_TYPE = "user"
TYPES = {"assignment": KIND_ASSIGNMENT, "metric": KIND_METRIC}

_COMMON = ("type", "event_id", "unit_type", "unit_id", "timestamp", "attributes", "experiment_id")
FIELDS = {
    KIND_ASSIGNMENT: frozenset({*_COMMON, "variant", "allocation_version"}),
    KIND_METRIC: frozenset({*_COMMON, "metric", "value"}),
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Refusal(Exception):  # noqa: N818  # never leaves the gateway: it becomes a Rejection
    """An event breaks a rule."""

    def __init__(self, code: RejectionCode, field: str | None, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.message = message


class Terms(NamedTuple):
    """What an event is judged by, beside itself.

    Attributes:
        received_at_ms: When a door took it.
        control: What is known of experiments and settings.
        topic_type: ``type`` of an event without one; an event must not contradict it.
        substitute_id: Id of an event without one; None: it must have one.
    """

    received_at_ms: int
    control: ControlState
    topic_type: str | None = None
    substitute_id: str | None = None


class Verdict(NamedTuple):
    """An event that breaks no rule, and whether it comes too late to count."""

    event: Admitted
    is_late: bool


def judge(raw: bytes | memoryview, terms: Terms) -> Verdict:
    """Return the event that ``raw`` is.

    Raises:
        Refusal: If it breaks a rule; the first one, by the precedence above.
    """
    if len(raw) > EVENT_BYTES_MAX:
        message = f"event == {len(raw)} bytes, must be {EVENT_BYTES_MAX} at most"
        raise Refusal(RejectionCode.TOO_LARGE, None, message)
    fields = parse_object(raw)
    kind = _kind(fields, terms.topic_type)
    for name in fields:
        if name not in FIELDS[kind]:
            rule = f"must be one of {', '.join(sorted(FIELDS[kind]))}"
            raise _malformed(_shown_name(name), f"unknown field {_shown(name)}, {rule}")
    timestamp_ms = _timestamp_ms(fields, terms.received_at_ms)
    experiment_id = _experiment_id(fields, kind)
    event = Admitted(
        kind=kind,
        unit_type=_name(fields, "unit_type", DEFAULT_UNIT_TYPE),
        unit_id=_external_id(fields, "unit_id"),
        event_id=_event_id(fields, terms.substitute_id),
        experiment_id=experiment_id,
        variant=_name(fields, "variant") if kind == KIND_ASSIGNMENT else None,
        metric=_name(fields, "metric") if kind == KIND_METRIC else None,
        attributes=canonical_attributes(fields.get("attributes")),
        value=_value(fields) if kind == KIND_METRIC else 0.0,
        timestamp_ms=timestamp_ms,
        timestamp_given="timestamp" in fields,
        received_at_ms=terms.received_at_ms,
        allocation_version=_allocation_version(fields),
    )
    is_late = terms.control.settings.is_late(timestamp_ms, terms.received_at_ms)
    if experiment_id is not None:
        _check_experiment(event, terms.control, is_late=is_late)
    return Verdict(event, is_late)


def parse_object(raw: bytes | memoryview) -> dict[str, Any]:
    """Return the object that ``raw`` is, NaN and infinities as they are written.

    Raises:
        Refusal: If it is none, is not UTF-8, or an object in it repeats a key.
    """
    try:
        text = str(raw, "utf-8")
        found = _decoder.decode(text)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise _malformed(None, "half of a surrogate pair, must be whole characters") from error
    except UnicodeDecodeError as error:
        message = f"byte {error.start} is not UTF-8 ({error.reason}), must be UTF-8"
        raise _malformed(None, message) from error
    except RecursionError as error:
        raise _malformed(None, "nested too deep, must be an object of plain fields") from error
    except ValueError as error:
        raise _malformed(None, f"not JSON: {error}"[:200]) from error
    if not isinstance(found, dict):
        raise _malformed(None, f"{_shown(found)}, must be an object")
    return found


def canonical_attributes(attributes: object) -> str | None:
    """Return attributes as the one JSON text that means them; None when there are none.

    Raises:
        Refusal: If they are not a small flat object.
    """
    if attributes is None or attributes == {}:
        return None
    if not isinstance(attributes, dict):
        raise _malformed("attributes", f"attributes == {_shown(attributes)}, must be an object")
    for name, value in attributes.items():
        _check_attribute(name, value)
    text = json.dumps(attributes, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    size = len(text.encode())
    if size > ATTRIBUTES_BYTES_MAX:
        message = f"attributes == {size} bytes, must be {ATTRIBUTES_BYTES_MAX} at most"
        raise Refusal(RejectionCode.TOO_LARGE, "attributes", message)
    return text


def experiment_of(
    control: ControlState, experiment_id: str, unit_type: str, variant: str | None
) -> Definition:
    """Return the experiment that an event names.

    Args:
        control: What is known.
        experiment_id: The experiment.
        unit_type: Type of the event's unit.
        variant: The variant; None for a metric event, which names none.

    Raises:
        Refusal: If there is none, it is about other units, or has no such variant.
    """
    definition = control.definitions.get(experiment_id)
    if definition is None:
        message = f"experiment_id == {_shown(experiment_id)}, must be an experiment that exists"
        raise Refusal(RejectionCode.UNKNOWN_EXPERIMENT, "experiment_id", message)
    if variant is not None and variant not in definition.variant_ids:
        known = ", ".join(definition.variant_ids)
        message = f"variant == {_shown(variant)}, must be one of {known}"
        raise Refusal(RejectionCode.UNKNOWN_VARIANT, "variant", message)
    if unit_type != definition.unit_type:
        message = (
            f"unit_type == {_shown(unit_type)}, must be {definition.unit_type!r}, "
            f"the unit type of experiment {experiment_id!r}"
        )
        raise Refusal(RejectionCode.ID_INVALID, "unit_type", message)
    return definition


def _integer(text: str) -> int:
    # Python refuses to read more than 4300 digits; the first 400 break every rule as well.
    return int(text[:400])


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        message = f"key {_shown(repeated)} stands there twice, must stand there once"
        raise _malformed(_shown_name(repeated), message)
    return found


# NaN and Infinity are no JSON, but a client that writes them is told so by the field's own rule.
_decoder = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_constant=float, parse_int=_integer
)


def _kind(fields: dict[str, Any], topic_type: str | None) -> int:
    given = fields.get("type", topic_type)
    if given is None and "type" not in fields:
        raise _missing("type")
    if not isinstance(given, str) or given not in TYPES:
        message = f"type == {_shown(given)}, must be one of {', '.join(TYPES)}"
        raise Refusal(RejectionCode.UNKNOWN_TYPE, "type", message)
    if topic_type is not None and given != topic_type:
        message = f"type == {_shown(given)}, must be {topic_type!r} on this topic"
        raise Refusal(RejectionCode.UNKNOWN_TYPE, "type", message)
    return TYPES[given]


def _text(fields: dict[str, Any], field: str) -> str:
    value = fields[field]
    if not isinstance(value, str):
        raise _malformed(field, f"{field} == {_shown(value)}, must be a string")
    return value


def _name(fields: dict[str, Any], field: str, default: str | None = None) -> str:
    if field not in fields:
        if default is None:
            raise _missing(field)
        return default
    value = _text(fields, field)
    if not is_name(value):
        message = f"{field} == {_shown(value)}, {NAME_RULE}"
        raise Refusal(RejectionCode.ID_INVALID, field, message)
    return value


def _external_id(fields: dict[str, Any], field: str) -> str:
    if field not in fields:
        raise _missing(field)
    value = _text(fields, field)
    if not is_external_id(value):
        message = f"{field} == {_shown(value)}, {EXTERNAL_ID_RULE}"
        raise Refusal(RejectionCode.ID_INVALID, field, message)
    return value


def _event_id(fields: dict[str, Any], substitute: str | None) -> str:
    if "event_id" in fields:
        return _external_id(fields, "event_id")
    if substitute is None:
        message = "event_id is missing, must be there, or an Idempotency-Key for the request"
        raise Refusal(RejectionCode.EVENT_ID_MISSING, "event_id", message)
    return substitute


def _experiment_id(fields: dict[str, Any], kind: int) -> str | None:
    if kind == KIND_METRIC and fields.get("experiment_id") is None:
        return None
    return _name(fields, "experiment_id")


def _value(fields: dict[str, Any]) -> float:
    value = fields.get("value", 1)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _malformed("value", f"value == {_shown(value)}, must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        message = f"value == {value}, must be finite"
        raise Refusal(RejectionCode.VALUE_NOT_FINITE, "value", message)
    if abs(value) > VALUE_MAX:
        message = f"value == {_shown(value)}, must be between -1e12 and 1e12"
        raise Refusal(RejectionCode.VALUE_OUT_OF_RANGE, "value", message)
    return float(value)


def _timestamp_ms(fields: dict[str, Any], received_at_ms: int) -> int:
    timestamp = fields.get("timestamp", received_at_ms)
    if isinstance(timestamp, str):
        try:
            milliseconds = parse_time_ms(timestamp)
        except ValueError as error:
            message = f"timestamp == {_shown(timestamp)}, {_TIMESTAMP_RULE}"
            raise _malformed("timestamp", message) from error
    elif isinstance(timestamp, int) and not isinstance(timestamp, bool):
        milliseconds = timestamp
    else:
        message = f"timestamp == {_shown(timestamp)}, {_TIMESTAMP_RULE}"
        raise _malformed("timestamp", message)
    if milliseconds < TIMESTAMP_MS_MIN:
        raise _malformed("timestamp", f"timestamp == {_shown(timestamp)}, must not be before 1970")
    latest = received_at_ms + TIMESTAMP_AHEAD_MS_MAX
    if milliseconds > latest:
        message = (
            f"timestamp == {_shown(timestamp)}, must be {latest} at most: "
            "5 minutes after it was received"
        )
        raise Refusal(RejectionCode.TIMESTAMP_AHEAD, "timestamp", message)
    return milliseconds


_TIMESTAMP_RULE = (
    "must be RFC 3339 with an offset, as 2026-11-21T18:00:00.123Z, or integer epoch milliseconds"
)


def _allocation_version(fields: dict[str, Any]) -> int | None:
    version = fields.get("allocation_version")
    if version is None:
        return None
    is_integer = isinstance(version, int) and not isinstance(version, bool)
    if not is_integer or not 0 <= version <= ALLOCATION_VERSION_MAX:
        message = f"allocation_version == {_shown(version)}, must be an integer, 0 or more"
        raise _malformed("allocation_version", message)
    return int(version)


def _check_attribute(name: str, value: object) -> None:
    field = f"attributes.{_shown_name(name)}"
    if not is_name(name):
        raise Refusal(RejectionCode.ID_INVALID, field, f"attribute {_shown(name)}, {NAME_RULE}")
    if isinstance(value, str):
        is_good = not _CONTROL.search(value)
        rule = "must hold no control characters"
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        is_good = abs(value) <= EXACT_INTEGER_MAX
        rule = "must be an integer between -2**53 and 2**53"
    elif isinstance(value, float):
        is_good = math.isfinite(value)
        rule = "must be finite"
    else:
        is_good = False
        rule = "must be a string, a number, true, false or null"
    if not is_good:
        raise _malformed(field, f"{field} == {_shown(value)}, {rule}")


def _check_experiment(event: Admitted, control: ControlState, *, is_late: bool) -> None:
    assert event.experiment_id is not None
    definition = experiment_of(control, event.experiment_id, event.unit_type, event.variant)
    if event.kind == KIND_METRIC or is_late or definition.counts_at(event.timestamp_ms):
        return
    spans = ", ".join(_spans(definition)) or "none: it never ran"
    message = (
        f"timestamp == {event.timestamp_ms}, must be in a running interval of experiment "
        f"{event.experiment_id!r}: {spans}"
    )
    raise Refusal(RejectionCode.EXPERIMENT_NOT_RUNNING, "timestamp", message)


def _spans(definition: Definition) -> Iterable[str]:
    for interval in definition.intervals[-3:]:
        end = "now" if interval.end_ms is None else str(interval.end_ms)
        yield f"[{interval.start_ms}, {end})"


def _missing(field: str) -> Refusal:
    return _malformed(field, f"{field} is missing, must be there")


def _malformed(field: str | None, message: str) -> Refusal:
    return Refusal(RejectionCode.MALFORMED, field, message)


def _shown_name(name: str) -> str:
    """Return a key as it may stand in an answer: short, and no half characters."""
    return name[:128].encode("utf-8", "replace").decode()


def _shown(value: object) -> str:
    """Return a value as a message shows it: as JSON, and short."""
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "something nested deep"
    return text if len(text) <= 100 else f"{text[:100]}…"
