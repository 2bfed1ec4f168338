"""The catalogue: what is agreed for ever about the events of one metric name. Pure.

An entry is made by command, or by the first definition that uses the name, and never changes: day
totals are kept and values are quantised by it, and what was dropped or rounded cannot be had back.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from schemas.control import CatalogueEntry
from schemas.definitions import (
    DEFAULT_PRECISION,
    KEEP_DAYS_MAX,
    PRECISION_MAX,
    FieldError,
    MetricBody,
)
from schemas.identifiers import NAME_RULE, is_name
from schemas.imports import DAY_MS
from stream_processors.control.refusals import RefusedError, invalid, shaped

ENTRIES_MAX = 10_000
"""Every snapshot of control holds them all."""

Catalogue = Mapping[str, CatalogueEntry]


class EntryBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry as it is put."""

    precision: int = DEFAULT_PRECISION
    keep_days: int = 0


def put(name: str, body: dict[str, Any], entries: Catalogue, now_ms: int) -> CatalogueEntry | None:
    """Return the entry that a command makes; None if it is there already.

    Raises:
        RefusedError: 422 if it breaks a rule, 409 if there is another one or no room.
    """
    posted = shaped(body, EntryBody)
    errors = list(_entry_errors(name, posted))
    if errors:
        raise invalid(errors)
    entry = CatalogueEntry(name, posted.precision, posted.keep_days, first_live_day(now_ms))
    known = entries.get(name)
    if known is None:
        _check_room(entries, 1)
        return entry
    if (known.precision, known.keep_days) != (entry.precision, entry.keep_days):
        detail = (
            f"the entry of metric {name!r} is precision {known.precision}, keep_days "
            f"{known.keep_days}, and an entry never changes; to count otherwise, send the events "
            "under another metric name"
        )
        raise RefusedError(409, "entry_differs", detail, entry=known)
    return None


def first_live_day(now_ms: int) -> int:
    """Return the first whole UTC day after ``now_ms``, in days since 1970-01-01."""
    return now_ms // DAY_MS + 1


def with_precision(metrics: Iterable[MetricBody], entries: Catalogue) -> list[MetricBody]:
    """Return ``metrics``, each with its own precision, or that of its names' entries."""
    metrics = list(metrics)
    settled = {name: entry.precision for name, entry in entries.items()}
    for metric in metrics:
        for name in names_of(metric):
            if metric.precision is not None:
                settled.setdefault(name, metric.precision)
    return [
        msgspec.structs.replace(metric, precision=_settled(metric, settled))
        if metric.precision is None
        else metric
        for metric in metrics
    ]


def entered(metrics: Iterable[MetricBody], entries: Catalogue, now_ms: int) -> list[CatalogueEntry]:
    """Return the entries that a definition's metrics make, for names that have none.

    Args:
        metrics: As they are posted: a precision that is not given is None.
        entries: The catalogue.
        now_ms: When the definition came.

    Raises:
        RefusedError: 422 if a metric asks for what the entry of its name does not say, 409 if
            there is no room.
    """
    metrics, made = with_precision(metrics, entries), dict[str, CatalogueEntry]()
    for metric in metrics:
        for name in names_of(metric):
            if name not in entries:
                made[name] = _made(name, metric, made.get(name), now_ms)
    errors = [
        error
        for index, metric in enumerate(metrics)
        for name in names_of(metric)
        for error in _differences(metric, f"metrics[{index}]", entries.get(name) or made[name])
    ]
    if errors:
        raise invalid(errors)
    _check_room(entries, len(made))
    return list(made.values())


def names_of(metric: MetricBody) -> list[str]:
    """Return the names of the metric events that a metric is made of."""
    parts = [name for name in (metric.numerator, metric.denominator) if name is not None]
    return parts or [metric.event or metric.id]


def _made(
    name: str, metric: MetricBody, sooner: CatalogueEntry | None, now_ms: int
) -> CatalogueEntry:
    if sooner is not None:
        days = max(sooner.keep_days, metric.covariate_days)
        return msgspec.structs.replace(sooner, keep_days=days)
    precision = DEFAULT_PRECISION if metric.precision is None else metric.precision
    return CatalogueEntry(name, precision, metric.covariate_days, first_live_day(now_ms))


def _settled(metric: MetricBody, settled: Mapping[str, int]) -> int | None:
    return next((settled[name] for name in names_of(metric) if name in settled), None)


def _differences(metric: MetricBody, where: str, entry: CatalogueEntry) -> Iterable[FieldError]:
    if metric.precision not in (None, entry.precision):
        way_out = (
            "numerator and denominator of a ratio need the same one: send one of them under "
            "another name too"
            if metric.kind == "ratio"
            else "leave it out, or measure another metric event"
        )
        message = (
            f"precision == {metric.precision}, must be {entry.precision}, the precision of "
            f"{entry.name!r} in the catalogue, which never changes; {way_out}"
        )
        yield FieldError(f"{where}.precision", message, "precision_differs")
    if metric.covariate_days > entry.keep_days:
        message = (
            f"covariate_days == {metric.covariate_days}, must be {entry.keep_days} at most: so "
            f"many days of {entry.name!r} are kept by its catalogue entry, which never changes; "
            "ask for fewer, or send the events under another name too, with "
            f"PUT /v1/metrics/<name> and keep_days {metric.covariate_days} first"
        )
        yield FieldError(f"{where}.covariate_days", message, "keep_days_exceeded")


def _entry_errors(name: str, posted: EntryBody) -> Iterable[FieldError]:
    if not is_name(name):
        yield FieldError("name", f"{name[:200]!r}, {NAME_RULE}", "id_invalid")
    if not 0 <= posted.precision <= PRECISION_MAX:
        message = f"precision == {posted.precision}, must be 0 to {PRECISION_MAX}"
        yield FieldError("precision", message)
    if not 0 <= posted.keep_days <= KEEP_DAYS_MAX:
        message = f"keep_days == {posted.keep_days}, must be 0 to {KEEP_DAYS_MAX}"
        yield FieldError("keep_days", message)


def _check_room(entries: Catalogue, more: int) -> None:
    if len(entries) + more > ENTRIES_MAX:
        detail = f"the catalogue holds {len(entries)} metric names, must be {ENTRIES_MAX} at most"
        raise RefusedError(409, "catalogue_full", detail)
