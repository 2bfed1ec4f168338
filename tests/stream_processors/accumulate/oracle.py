"""The rules of counting, as a person would do them by hand: one unit, one event at a time.

Written apart from the engine: no arrays, no state, no order. Given the set of events that count
as fresh and the definitions as they ended, it says what the sums must be.
"""

import math
from collections import Counter
from collections.abc import Iterable

from schemas.definitions import Definition, Metric
from schemas.partials import Sums
from tests.stream_processors.accumulate.builders import Event

NEVER = math.inf
Q_LIMIT = 2**62


def fresh(events: Iterable[Event]) -> list[Event]:
    """Return each event once, by (unit, event id)."""
    return list(
        {(one.unit_type, one.unit, one.event_id): one for one in reversed(list(events))}.values()
    )


def tie(event: Event) -> tuple[int, int]:
    """Return what breaks ties between assignments of one timestamp: the event's hash."""
    import pyarrow as pa

    from schemas.hashing import hash128, unit_hashes, unit_key

    high, low = unit_hashes(pa.array([unit_key(event.unit_type, event.unit)], pa.string()))
    high, low = hash128(pa.array([event.event_id], pa.string()), high, low)
    return int(high[0]), int(low[0])


class Unit:
    """One unit in one experiment, from all its events."""

    def __init__(self, definition: Definition, events: list[Event]) -> None:
        self.definition = definition
        self.stop = definition.stopped_at_ms if definition.stopped_at_ms is not None else NEVER
        assignments = [
            one
            for one in events
            if one.variant
            and one.experiment == definition.id
            and definition.counts_at(one.timestamp)
        ]
        self.events = [
            one for one in events if one.metric and one.experiment in (None, definition.id)
        ]
        self.first = min(assignments, key=lambda one: (one.timestamp, tie(one)), default=None)
        self.crossed = (
            definition.crossover == "exclude" and len({one.variant for one in assignments}) > 1
        )

    def counts_for(self, metric: Metric) -> bool:
        return self.first.timestamp >= metric.added_at_ms

    def holds(self, metric: Metric, event: Event) -> bool:
        entry = self.first.timestamp
        end = NEVER if metric.window_ms is None else entry + metric.window_ms
        return (
            event.metric == metric.event
            and entry <= event.timestamp < end
            and event.timestamp < self.stop
            and self.counts_for(metric)
        )

    def total(self, metric: Metric) -> int | None:
        """Return the unit's datum, None if its magniture left the metric."""
        held = [one for one in self.events if self.holds(metric, one)]
        if metric.kind == "conversion":
            return int(any(one.value > 0 for one in held))
        if metric.kind == "count":
            return len(held)
        quantised = [round_half_even(one.value * 10.0**metric.precision) for one in held]
        magnitude = sum((abs(q) >> 20) + 1 for q in quantised if q)
        if any(abs(q) >= Q_LIMIT for q in quantised) or magnitude >= 2**42:
            return None
        return sum(quantised)

    def matured(self, metric: Metric, settled: int) -> bool:
        if metric.window_ms is None:
            return False
        return self.first.timestamp + metric.window_ms <= min(settled, self.stop)

    def attribution(self) -> Counter:
        """Return what became of its metric events."""
        outcome: Counter = Counter()
        for event in self.events:
            tracking = [one for one in self.definition.metrics if one.event == event.metric]
            if not tracking or self.definition.started_at_ms is None:
                continue
            since = min(max(self.definition.started_at_ms, one.added_at_ms) for one in tracking)
            if event.timestamp < since:
                continue
            if self.first is None or event.timestamp < self.first.timestamp:
                outcome["no_assignment"] += 1
            elif self.crossed:
                outcome["excluded"] += 1
            elif any(self.holds(one, event) for one in tracking):
                outcome["counted"] += 1
            else:
                outcome["outside_window"] += 1
        return outcome


def round_half_even(value: float) -> int:
    """Return the integer nearest to a float; Python's round is half-even, as rint is."""
    return round(value)


def expected(definition: Definition, events: list[Event], settled: int) -> dict:
    """Return all that is counted of an experiment."""
    by_unit: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        if event.unit_type == definition.unit_type:
            by_unit.setdefault((event.unit_type, event.unit), []).append(event)
    units = [Unit(definition, its_events) for its_events in by_unit.values()]
    exposed = [unit for unit in units if unit.first is not None]
    inside = [unit for unit in exposed if not unit.crossed]
    outcome: Counter = Counter()
    for unit in units:
        outcome += unit.attribution()

    def sums(metric: Metric, variant: str, *, matured: bool) -> Sums:
        totals = [
            unit.total(metric)
            for unit in inside
            if unit.first.variant == variant
            and unit.counts_for(metric)
            and (not matured or unit.matured(metric, settled))
        ]
        kept = [total for total in totals if total is not None]
        return Sums(len(kept), sum(kept), sum(total**2 for total in kept))

    return {
        "units": [
            sum(unit.first.variant == variant for unit in inside)
            for variant in definition.variant_ids
        ],
        "crossovers": len(exposed) - len(inside),
        "matured": [
            [sums(metric, variant, matured=True) for variant in definition.variant_ids]
            for metric in definition.metrics
        ],
        "open": [
            [sums(metric, variant, matured=False) for variant in definition.variant_ids]
            for metric in definition.metrics
        ],
        "overflowed": [
            sum(unit.counts_for(metric) and unit.total(metric) is None for unit in inside)
            for metric in definition.metrics
        ],
        "attribution": [
            outcome[name] for name in ("counted", "outside_window", "excluded", "no_assignment")
        ],
    }
