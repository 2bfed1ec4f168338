"""What became of each row of a unit on arrival, as the engine's row ledger has it. Pure.

Written apart from the engine, from the same rules: one unit, one row at a time. Tests hold the two
to each other.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from tools.tracing.rows import Event, Row


class Fate(StrEnum):
    """What became of a row; the names are those of the ledger."""

    FRESH = "fresh"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    STALE = "stale"
    REFUSED = "refused"


class Judged(NamedTuple):
    """A row and its fate.

    Attributes:
        row: The row.
        fate: What became of it.
        of: The row that it repeats or contradicts.
        differs: Fields in which it contradicts that one: name, there, here.
        why: Why it was refused.
    """

    row: Row
    fate: Fate
    of: Row | None = None
    differs: tuple[tuple[str, object, object], ...] = ()
    why: str = ""


def judge(rows: Iterable[Row]) -> list[Judged]:
    """Return the fate of every row of a unit, given all of them in their order."""
    first_of: dict[tuple[int, int], list[Row]] = {}
    judged = []
    for row in rows:
        one = _judge(row, first_of.get(row.event.event_hash, []))
        if one.fate is Fate.FRESH:
            first_of.setdefault(row.event.event_hash, []).append(row)
        judged.append(one)
    return judged


def _judge(row: Row, before: list[Row]) -> Judged:
    refusal = _refusal(row)
    if refusal:
        return Judged(row, Fate.REFUSED, why=refusal)
    horizon_ms = row.times.horizon_ms
    if row.event.timestamp_ms < horizon_ms:
        return Judged(row, Fate.STALE)
    # An id is forgotten when its event's own timestamp is older than the horizon.
    known = next((one for one in before if one.event.timestamp_ms >= horizon_ms), None)
    if known is None:
        return Judged(row, Fate.FRESH)
    differs = _differences(known.event, row.event)
    return Judged(row, Fate.CONFLICT if differs else Fate.DUPLICATE, known, differs)


def _refusal(row: Row) -> str:
    """Return why the engine knows nothing to do with a row; doors refuse such events already."""
    event, definitions = row.event, row.control.definitions
    if event.kind == "assignment" and event.experiment_id is None:
        return "an assignment without an experiment"
    if event.experiment_id is None:
        return ""
    definition = definitions.get(event.experiment_id)
    if definition is None:
        return f"no experiment {event.experiment_id!r} was defined by then"
    if definition.unit_type != row.unit_type:
        return f"{definition.id} is about units of type {definition.unit_type!r}"
    if event.kind == "assignment" and event.variant not in definition.variant_ids:
        return f"{definition.id} has no variant {event.variant!r}"
    return ""


def _differences(first: Event, again: Event) -> tuple[tuple[str, object, object], ...]:
    """Return what a resend must repeat and does not; a timestamp only if the producer gave it."""
    compared: list[tuple[str, object, object]] = [
        (name, getattr(first, name), getattr(again, name))
        for name in ("kind", "experiment_id", "variant", "metric", "value")
    ]
    there, here = (one.timestamp_ms if one.timestamp_given else None for one in (first, again))
    compared.append(("timestamp", there, here))
    return tuple(one for one in compared if one[1] != one[2])
