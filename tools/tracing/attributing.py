"""What a fresh event of a unit means for one experiment, by the definitions as they are now. Pure.

The rules are those of ``kernels.placing``, as a person would do them by hand for one unit; order
of arrival changes nothing, so all its rows are taken together.
"""

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from schemas.definitions import Definition, Metric
from tools.tracing.rows import Event, Row

NEVER = math.inf
Q_LIMIT = 2**62
MAGNITUDE_LIMIT = 2**42
MAGNITUDE_SHIFT = 20


class Outcome(StrEnum):
    """What an event means for one experiment."""

    COUNTED = "counted"
    OUTSIDE_WINDOW = "outside_window"
    EXCLUDED = "excluded"
    NO_ASSIGNMENT = "no_assignment"
    NOT_TRACKED = "not_tracked"
    ENTRY = "entry"
    REPEATED = "repeated_assignment"
    CROSSOVER = "crossover"
    FIRST_STAYS = "first_stays"
    NOT_RUNNING = "not_running"


class Share(NamedTuple):
    """What an event adds to one metric.

    Attributes:
        metric: The metric.
        ends_ms: When the window of the unit closes; None: it is open.
        adds: What the event adds to the unit's total; None: nothing, it is outside.
        total: The unit's total; None: the unit left the metric, its magnitude is too large.
        matured_ms: When the total counts among the matured ones; None: never.
    """

    metric: Metric
    ends_ms: int | None
    adds: int | None
    total: int | None
    matured_ms: int | None


class Standing(NamedTuple):
    """A unit in an experiment.

    Attributes:
        definition: The experiment.
        assignments: Its fresh assignments that count, the first one first.
        events: Its fresh metric events.
    """

    definition: Definition
    assignments: list[Row]
    events: list[Row]

    @property
    def first(self) -> Row | None:
        """Return the assignment that decides."""
        return self.assignments[0] if self.assignments else None

    @property
    def other(self) -> Row | None:
        """Return the first assignment to another variant than the one that decides."""
        first = self.first
        if first is None:
            return None
        variant = first.event.variant
        return next((one for one in self.assignments if one.event.variant != variant), None)

    @property
    def crossed(self) -> bool:
        """Return whether the unit left all variants."""
        return self.definition.crossover == "exclude" and self.other is not None

    @property
    def stop_ms(self) -> float:
        """Return from when on events do not count."""
        stopped = self.definition.stopped_at_ms
        return NEVER if stopped is None else stopped


class Attribution(NamedTuple):
    """What an event means for one experiment.

    Attributes:
        standing: The unit in it.
        outcome: What became of the event.
        shares: What it adds to which metric.
        since_ms: From when on the experiment attributes events of this metric.
    """

    standing: Standing
    outcome: Outcome
    shares: list[Share]
    since_ms: int | None = None


def standing_in(definition: Definition, fresh: Iterable[Row]) -> Standing:
    """Return where a unit stands, given all its fresh rows."""
    rows = [row for row in fresh if row.unit_type == definition.unit_type]
    assignments = [
        row
        for row in rows
        if row.event.kind == "assignment"
        and row.event.experiment_id == definition.id
        and definition.counts_at(row.event.timestamp_ms)
    ]
    events = [
        row
        for row in rows
        if row.event.kind == "metric" and row.event.experiment_id in (None, definition.id)
    ]
    in_order = sorted(assignments, key=lambda row: (row.event.timestamp_ms, row.event.event_hash))
    return Standing(definition, in_order, events)


def attribute(row: Row, definition: Definition, fresh: list[Row]) -> Attribution | None:
    """Return what a fresh row means for an experiment; None: it does not concern it."""
    event = row.event
    if row.unit_type != definition.unit_type or event.experiment_id not in (None, definition.id):
        return None
    standing = standing_in(definition, fresh)
    if event.kind == "assignment":
        return Attribution(standing, _assigned(row, standing), [])
    tracking = [metric for metric in definition.metrics if metric.event == event.metric]
    if not tracking:
        return None
    started = definition.started_at_ms
    since_ms = None if started is None else min(max(started, m.added_at_ms) for m in tracking)
    if since_ms is None or event.timestamp_ms < since_ms:
        return Attribution(standing, Outcome.NOT_TRACKED, [], since_ms)
    first = standing.first
    if first is None or event.timestamp_ms < first.event.timestamp_ms:
        return Attribution(standing, Outcome.NO_ASSIGNMENT, [], since_ms)
    shares = [_share(metric, event, standing, first.event.timestamp_ms) for metric in tracking]
    if standing.crossed:
        return Attribution(standing, Outcome.EXCLUDED, shares, since_ms)
    held = any(share.adds is not None for share in shares)
    outcome = Outcome.COUNTED if held else Outcome.OUTSIDE_WINDOW
    return Attribution(standing, outcome, shares, since_ms)


def _assigned(row: Row, standing: Standing) -> Outcome:
    if row not in standing.assignments:
        return Outcome.NOT_RUNNING
    first = standing.first
    assert first is not None
    if standing.crossed:
        return Outcome.CROSSOVER
    if row is first:
        return Outcome.ENTRY
    same = row.event.variant == first.event.variant
    return Outcome.REPEATED if same else Outcome.FIRST_STAYS


def _share(metric: Metric, event: Event, standing: Standing, entry_ms: int) -> Share:
    counts = entry_ms >= metric.added_at_ms
    ends_ms = None if metric.window_ms is None else entry_ms + metric.window_ms
    stop_ms = standing.stop_ms
    matured_ms = ends_ms if counts and ends_ms is not None and ends_ms <= stop_ms else None
    held = counts and _holds(ends_ms, stop_ms, entry_ms, event)
    totalled = [
        row.event
        for row in standing.events
        if row.event.metric == metric.event
        and counts
        and _holds(ends_ms, stop_ms, entry_ms, row.event)
    ]
    return Share(
        metric,
        ends_ms,
        quantised(metric, event.value) if held else None,
        total_of(metric, totalled),
        matured_ms,
    )


def _holds(ends_ms: int | None, stop_ms: float, entry_ms: int, event: Event) -> bool:
    end_ms = min(NEVER if ends_ms is None else ends_ms, stop_ms)
    return entry_ms <= event.timestamp_ms < end_ms


def quantised(metric: Metric, value: float) -> int:
    """Return what a value adds to a unit's total."""
    if metric.kind == "conversion":
        return int(value > 0)
    if metric.kind == "count":
        return 1
    return round(value * 10.0**metric.precision)


def total_of(metric: Metric, events: Iterable[Event]) -> int | None:
    """Return a unit's total; None when it may be too large for exact sums."""
    added = [quantised(metric, event.value) for event in events]
    if metric.kind == "conversion":
        return int(any(added))
    magnitude = sum((abs(q) >> MAGNITUDE_SHIFT) + 1 for q in added if q)
    if metric.kind == "sum" and (
        magnitude >= MAGNITUDE_LIMIT or any(abs(q) >= Q_LIMIT for q in added)
    ):
        return None
    return sum(added)
