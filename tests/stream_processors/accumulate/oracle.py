"""The rules of counting, as a person would do them by hand: one unit, one event at a time.

Written apart from the engine: no arrays, no state, no order. Given the set of events that count
as fresh, the kept day rows and the definitions as they ended, it says what the sums must be.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.definitions import Definition, Metric
from schemas.hashing import hash128, unit_hashes, unit_key
from schemas.partials import CovariateSums, Sums
from tests.stream_processors.accumulate.builders import Event

NEVER = math.inf
Q_LIMIT = 2**62
MAGNITUDE_LIMIT = 2**42
DAY_MS = 86_400_000


class DayRow(NamedTuple):
    """An event or an imported row that counts into the day totals of one unit and metric name."""

    day: int
    value: float


Days = Mapping[str, list[DayRow]]
"""Metric name to the rows of one unit."""


class Datum(NamedTuple):
    """What one unit gives to one metric: its total, and its covariate if it has a pre-period."""

    total: int
    covariate: int | None


def fresh(events: Iterable[Event]) -> list[Event]:
    """Return each event once, by (unit, event id)."""
    return list(
        {(one.unit_type, one.unit, one.event_id): one for one in reversed(list(events))}.values()
    )


def tie(event: Event) -> tuple[int, int]:
    """Return what breaks ties between assignments of one timestamp: the event's hash."""
    return _tie(event.unit_type, event.unit, event.event_id)


@lru_cache(maxsize=100_000)
def _tie(unit_type: str, unit: str, event_id: str) -> tuple[int, int]:
    high, low = unit_hashes(pa.array([unit_key(unit_type, unit)], pa.string()))
    high, low = hash128(pa.array([event_id], pa.string()), high, low)
    return int(high[0]), int(low[0])


def round_half_even(value: float) -> int:
    """Return the integer nearest to a float; Python's round is half-even, as rint is."""
    return round(value)


def added_up(values: Iterable[float], precision: int) -> int | None:
    """Return the sum of quantised values; None if its magnitude reached the limit."""
    quantised = [round_half_even(value * 10.0**precision) for value in values]
    magnitude = sum((abs(q) >> 20) + 1 for q in quantised if q)
    if any(abs(q) >= Q_LIMIT for q in quantised) or magnitude >= MAGNITUDE_LIMIT:
        return None
    return sum(quantised)


def total_of(metric: Metric, values: list[float]) -> int | None:
    """Return what a metric makes of the values of one unit; None if it left by its magnitude."""
    if metric.kind == "conversion":
        return int(any(value > 0 for value in values))
    if metric.kind == "count":
        return len(values)
    return added_up(values, metric.precision)


class Unit:
    """One unit in one experiment, from all its events."""

    def __init__(
        self, definition: Definition, events: list[Event], days: Days | None = None
    ) -> None:
        self.definition = definition
        self.days: Days = days or {}
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
        """Return the unit's total, None if its magnitude left the metric."""
        return total_of(metric, [one.value for one in self.events if self.holds(metric, one)])

    def pre_period(self, metric: Metric) -> list[float]:
        """Return the values of the whole UTC days before the day of the unit's entry."""
        entry_day = self.first.timestamp // DAY_MS
        return [
            row.value
            for row in self.days.get(metric.event, [])
            if entry_day - metric.covariate_days <= row.day < entry_day
        ]

    def datum(self, metric: Metric) -> Datum | None:
        """Return what the unit gives to the metric; None if it left by the magnitude of either."""
        total, before = self.total(metric), self.pre_period(metric)
        covariate = total_of(metric, before)
        if total is None or covariate is None:
            return None
        return Datum(total, covariate if before else None)

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


def sums_of(data: list[Datum]) -> Sums:
    """Return the sums over units."""
    totals = [one.total for one in data]
    return Sums(len(totals), sum(totals), sum(total**2 for total in totals))


def covariate_sums_of(data: list[Datum]) -> CovariateSums:
    """Return the sums over the units that have a pre-period."""
    pairs = [(one.total, one.covariate) for one in data if one.covariate is not None]
    return CovariateSums(
        unit_count=len(pairs),
        sum_q=sum(q for q, _ in pairs),
        sum_squares_q=sum(q * q for q, _ in pairs),
        sum_x=sum(x for _, x in pairs),
        sum_squares_x=sum(x * x for _, x in pairs),
        sum_products=sum(q * x for q, x in pairs),
    )


def added_over(units: list[Unit], definition: Definition, settled: int) -> dict[str, Any]:
    """Return all that is counted of an experiment over its units."""
    exposed = [unit for unit in units if unit.first is not None]
    inside = [unit for unit in exposed if not unit.crossed]
    outcome: Counter = Counter()
    for unit in units:
        outcome += unit.attribution()
    sums: dict[str, list] = {
        name: [] for name in ("matured", "open", "matured_covariates", "open_covariates")
    }
    overflowed = []
    for metric in definition.metrics:
        counting = [(unit, unit.datum(metric)) for unit in inside if unit.counts_for(metric)]
        overflowed.append(sum(datum is None for _, datum in counting))
        kept = [(unit, datum) for unit, datum in counting if datum is not None]
        for basis, of_basis in (
            ("open", kept),
            ("matured", [one for one in kept if one[0].matured(metric, settled)]),
        ):
            by_variant = [
                [datum for unit, datum in of_basis if unit.first.variant == variant]
                for variant in definition.variant_ids
            ]
            sums[basis].append([sums_of(data) for data in by_variant])
            sums[f"{basis}_covariates"].append(
                [covariate_sums_of(data) for data in by_variant] if metric.covariate_days else []
            )
    return {
        "units": [
            sum(unit.first.variant == variant for unit in inside)
            for variant in definition.variant_ids
        ],
        "crossovers": len(exposed) - len(inside),
        "overflowed": overflowed,
        "attribution": [
            outcome[name] for name in ("counted", "outside_window", "excluded", "no_assignment")
        ],
        **sums,
    }


def expected(
    definition: Definition,
    events: list[Event],
    settled: int,
    days: Mapping[tuple[str, str], Days] | None = None,
) -> dict[str, Any]:
    """Return all that is counted of an experiment; ``days`` by unit type and unit."""
    by_unit: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        if event.unit_type == definition.unit_type:
            by_unit.setdefault((event.unit_type, event.unit), []).append(event)
    units = [
        Unit(definition, its_events, (days or {}).get(key)) for key, its_events in by_unit.items()
    ]
    return added_over(units, definition, settled)
