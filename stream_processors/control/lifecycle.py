"""What may be done to an experiment, and what it is afterwards. Pure.

Lifecycle: draft -> running <-> paused -> stopped -> archived. A draft may change in every field.
Once there is data, whatever would change its meaning is refused: name and the words of the
hypothesis are free, coverage may grow, secondary metrics may be added. Anything else is a new
experiment.
"""

import math
from typing import Any, NamedTuple

import msgspec

from schemas.control import CatalogueEntry, Settings
from schemas.definitions import (
    Definition,
    DefinitionBody,
    FieldError,
    Interval,
    InvalidDefinitionError,
    Metric,
    Variant,
    define,
    public,
)
from schemas.times import format_duration_ms, format_time_ms
from stream_processors.control import catalogue
from stream_processors.control.catalogue import Catalogue
from stream_processors.control.refusals import RefusedError, shaped

DEFINITION_BYTES_MAX = 90_000
"""It travels in control records, ticks and snapshots, whose messages are limited."""

_FIXED_FIELDS = (
    "seed",
    "variants",
    "unit_type",
    "crossover",
    "allocation",
    "targeting",
    "segments",
    "analysis",
)


class Defined(NamedTuple):
    """A definition, and what it makes of the catalogue.

    Attributes:
        definition: The definition.
        entries: Of names of metric events that had none.
    """

    definition: Definition
    entries: list[CatalogueEntry]


def created(
    body: dict[str, Any], *, ordinal: int, version: int, now_ms: int, entries: Catalogue
) -> Defined:
    """Return the draft that ``body`` describes.

    Raises:
        RefusedError: 422 with what is wrong with each field.
    """
    posted = _posted(body)
    definition = _defined(
        _with_precision(posted, entries), ordinal=ordinal, version=version, created_at_ms=now_ms
    )
    return Defined(definition, catalogue.entered(posted.metrics, entries, now_ms))


def patched(
    current: Definition, body: dict[str, Any], *, version: int, now_ms: int, entries: Catalogue
) -> Defined:
    """Return ``current`` with the fields of ``body``, if it may change so.

    Raises:
        RefusedError: 422 if the result is no definition, 409 if data would change its meaning.
    """
    if current.status == "archived":
        raise RefusedError(409, "lifecycle", f"{current.id!r} is archived, it cannot change")
    if body.get("id", current.id) != current.id:
        error = FieldError("id", f"{body['id']!r}, must stay {current.id!r}")
        raise RefusedError(422, "invalid", "the id of an experiment cannot change", [error])
    fields = public(current)
    posted = _posted({name: fields[name] for name in DefinitionBody.__struct_fields__} | body)
    candidate = _defined(
        _with_precision(posted, entries),
        ordinal=current.ordinal,
        version=version,
        created_at_ms=current.created_at_ms,
    )
    kept = {name: getattr(current, name) for name in ("variants", "metrics") if name not in body}
    lived = {
        name: getattr(current, name)
        for name in ("status", "started_at_ms", "stopped_at_ms", "intervals")
    }
    candidate = msgspec.structs.replace(candidate, **kept, **lived)
    if current.status != "draft":
        candidate = _with_data(current, candidate, now_ms)
    if "metrics" not in body:
        return Defined(candidate, [])
    return Defined(candidate, catalogue.entered(posted.metrics, entries, now_ms))


def started(
    current: Definition, body: dict[str, Any], *, version: int, now_ms: int, settings: Settings
) -> Definition:
    """Return a draft as it runs, from now or from an earlier ``at_ms`` that is not too late."""
    _require(current, "start", "draft")
    at_ms = _only_field(body, "at_ms", now_ms)
    if not isinstance(at_ms, int) or isinstance(at_ms, bool):
        raise _invalid_start(f"{at_ms!r}, must be a time")
    if at_ms > now_ms or settings.is_late(at_ms, now_ms):
        lateness = format_duration_ms(settings.lateness_ms)
        floor = f" and not before {format_time_ms(settings.floor_ms)}" if settings.floor_ms else ""
        raise _invalid_start(
            f"{_shown(at_ms)}, must be no later than now, {format_time_ms(now_ms)}, and at most "
            f"the lateness, {lateness}, before it{floor}"
        )
    return msgspec.structs.replace(
        current,
        version=version,
        status="running",
        started_at_ms=at_ms,
        intervals=[Interval(at_ms)],
    )


def paused(current: Definition, *, version: int, now_ms: int) -> Definition:
    """Return a running experiment as it is when assignments no longer count."""
    _require(current, "pause", "running")
    return msgspec.structs.replace(
        current, version=version, status="paused", intervals=_closed(current, now_ms)
    )


def resumed(current: Definition, *, version: int, now_ms: int) -> Definition:
    """Return a paused experiment as it runs again."""
    _require(current, "resume", "paused")
    intervals = [*current.intervals, Interval(_not_before_last(current, now_ms))]
    return _sendable(
        msgspec.structs.replace(current, version=version, status="running", intervals=intervals)
    )


def stopped(current: Definition, *, version: int, now_ms: int) -> Definition:
    """Return a running or paused experiment as it is when events no longer count."""
    _require(current, "stop", "running", "paused")
    return msgspec.structs.replace(
        current,
        version=version,
        status="stopped",
        stopped_at_ms=_not_before_last(current, now_ms),
        intervals=_closed(current, now_ms),
    )


def archived(current: Definition, *, version: int) -> Definition:
    """Return a stopped experiment as it is put away."""
    _require(current, "archive", "stopped")
    return msgspec.structs.replace(current, version=version, status="archived")


def _require(current: Definition, action: str, *statuses: str) -> None:
    if current.status not in statuses:
        allowed = " or ".join(statuses)
        detail = f"{current.id!r} is {current.status}, {action} needs one that is {allowed}"
        raise RefusedError(409, "lifecycle", detail)


def _only_field(body: dict[str, Any], name: str, default: Any) -> Any:
    if unknown := sorted(body.keys() - {name}):
        errors = [FieldError(field, "not a field of this command") for field in unknown]
        raise RefusedError(422, "invalid", f"unknown fields: {', '.join(unknown)}", errors)
    return default if body.get(name) is None else body[name]


def _invalid_start(message: str) -> RefusedError:
    return RefusedError(422, "invalid", f"at: {message}", [FieldError("at", message)])


def _shown(at_ms: int) -> str:
    try:
        return format_time_ms(at_ms)
    except OverflowError:
        return str(at_ms)


def _not_before_last(current: Definition, now_ms: int) -> int:
    """Return ``now_ms``, or the last boundary should the broker's clock have gone back."""
    last = current.intervals[-1]
    return max(now_ms, last.start_ms if last.end_ms is None else last.end_ms)


def _closed(current: Definition, now_ms: int) -> list[Interval]:
    *before, last = current.intervals
    if last.end_ms is not None:
        return current.intervals
    return [*before, Interval(last.start_ms, _not_before_last(current, now_ms))]


def _posted(body: dict[str, Any]) -> DefinitionBody:
    return shaped(body, DefinitionBody)


def _with_precision(posted: DefinitionBody, entries: Catalogue) -> DefinitionBody:
    metrics = catalogue.with_precision(posted.metrics, entries)
    return msgspec.structs.replace(posted, metrics=metrics)


def _defined(
    posted: DefinitionBody, *, ordinal: int, version: int, created_at_ms: int
) -> Definition:
    try:
        definition = define(posted, ordinal=ordinal, version=version, created_at_ms=created_at_ms)
    except InvalidDefinitionError as error:
        raise RefusedError(422, "invalid", str(error), error.errors) from error
    return _sendable(definition)


def _sendable(definition: Definition) -> Definition:
    weight = len(msgspec.json.encode(definition))
    if weight > DEFINITION_BYTES_MAX:
        detail = f"the definition has {weight} bytes, must be {DEFINITION_BYTES_MAX} at most"
        raise RefusedError(422, "too_large", detail)
    return definition


def _with_data(current: Definition, candidate: Definition, now_ms: int) -> Definition:
    if _same_variants(current.variants, candidate.variants):
        candidate = msgspec.structs.replace(candidate, variants=current.variants)
    errors = [
        FieldError(name, "cannot change once the experiment has started", "not_while_running")
        for name in _FIXED_FIELDS
        if getattr(current, name) != getattr(candidate, name)
    ]
    if current.minimum_effect != candidate.minimum_effect:
        message = "cannot change once the experiment has started: results are read by it"
        errors.append(FieldError("hypothesis.minimum_effect", message, "not_while_running"))
    if candidate.coverage < current.coverage:
        message = f"coverage == {candidate.coverage}, may only grow from {current.coverage}"
        errors.append(FieldError("coverage", message, "not_while_running"))
    metrics = _grown_metrics(current, candidate.metrics, now_ms, errors)
    if errors:
        detail = "; ".join(f"{error.field}: {error.message}" for error in errors)
        raise RefusedError(409, "not_while_running", detail, errors)
    return msgspec.structs.replace(candidate, metrics=metrics)


def _same_variants(old: list[Variant], new: list[Variant]) -> bool:
    """Return whether they differ in the rounding of normalised weights at most."""
    return [(one.id, one.is_control) for one in old] == [
        (one.id, one.is_control) for one in new
    ] and all(
        math.isclose(one.weight, other.weight, rel_tol=1e-9)
        for one, other in zip(old, new, strict=True)
    )


def _grown_metrics(
    current: Definition, posted: list[Metric], now_ms: int, errors: list[FieldError]
) -> list[Metric]:
    """Return the metrics as they are and the new ones after them, whose units enter from now.

    A new one may not join the families whose chance of any false finding is guaranteed. A family
    that grows corrects more strictly: it would take findings back that were already read, or,
    where the corrections of before stay, err more often than it promises.
    """
    by_id = {metric.id: metric for metric in posted}
    for metric in current.metrics:
        new = by_id.pop(metric.id, None)
        if new is None:
            message = "cannot be removed once the experiment has started; post all metrics"
        elif msgspec.structs.replace(new, added_at_ms=metric.added_at_ms) != metric:
            message = "cannot change once the experiment has started; add another metric"
        else:
            continue
        errors.append(FieldError(f"metrics.{metric.id}", message, "not_while_running"))
    if by_id and current.status == "stopped":
        message = "cannot be added to a stopped experiment: no unit enters any more"
        errors.extend(FieldError(f"metrics.{name}", message, "not_while_running") for name in by_id)
    elif by_id:
        errors.extend(
            FieldError(f"metrics.{name}.role", _role_refused(metric), "not_while_running")
            for name, metric in by_id.items()
            if metric.role != "secondary"
        )
    added = [msgspec.structs.replace(metric, added_at_ms=now_ms) for metric in by_id.values()]
    return [*current.metrics, *added]


def _role_refused(metric: Metric) -> str:
    return (
        f'"{metric.role}", must be "secondary" for a metric that is added once the experiment has '
        "started: another one that decides or guards would change what is already read of the "
        'others. Add it with "role": "secondary", or plan a new experiment with it'
    )
