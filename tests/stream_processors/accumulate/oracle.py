"""The rules of counting, as a person would do them by hand: one unit, one event at a time.

Written apart from the engine: no arrays, no state, no order. Given the set of events that count
as fresh, the kept day rows and the definitions as they ended, it says what the sums must be.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.definitions import CapQuantile, Definition, Metric
from schemas.hashing import hash128, unit_hashes, unit_key
from stream_processors.stats.buckets import bucket_of
from stream_processors.stats.sums import CapSums, JointSums, MetricSums
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
    """What one unit gives to one metric.

    Attributes:
        totals: One, or numerator and denominator.
        covariates: The same before its entry, None if it has no pre-period.
        values: Of its events, quantised.
        shard: Which of 64 it is in, by its hash.
    """

    totals: tuple[int, ...]
    covariates: tuple[int, ...] | None
    values: tuple[int, ...]
    shard: int


def fresh(events: Iterable[Event]) -> list[Event]:
    """Return each event once, by (unit, event id)."""
    return list(
        {(one.unit_type, one.unit, one.event_id): one for one in reversed(list(events))}.values()
    )


def tie(event: Event) -> tuple[int, int]:
    """Return what breaks ties between assignments of one timestamp: the event's hash."""
    return _tie(event.unit_type, event.unit, event.event_id)


@lru_cache(maxsize=100_000)
def shard_of(unit_type: str, unit: str) -> int:
    """Return which of 64 shards a unit is in: six bits of its hash."""
    high, _ = unit_hashes(pa.array([unit_key(unit_type, unit)], pa.string()))
    return int(high[0]) // 2**54 % 64


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


Named = list[tuple[str, float]]
"""Values, each with the name of its metric events."""


def totals_of(metric: Metric, named: Named) -> tuple[int, ...] | None:
    """Return what a metric makes of the values of one unit; None if it left by its magnitude."""
    values = [value for name, value in named if name == metric.event]
    if metric.kind == "conversion":
        return (int(any(value > 0 for value in values)),)
    if metric.kind == "count":
        return (len(values),)
    if metric.of == "events":
        is_too_large = any(added_up([value], metric.precision) is None for value in values)
        return None if is_too_large else (len(values),)
    total = added_up(values, metric.precision)
    if metric.kind == "ratio":
        divided_by = [value for name, value in named if name == metric.denominator]
        both = (total, added_up(divided_by, metric.precision))
        return None if None in both else both
    if total is None:
        return None
    return (total, len(values)) if metric.kind == "mean" else (total,)


class Unit:
    """One unit in one experiment, from all its events; nothing of it changes."""

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
        self._data: dict[str, Datum | None] = {}

    def counts_for(self, metric: Metric) -> bool:
        return self.first.timestamp >= metric.added_at_ms

    def holds(self, metric: Metric, event: Event) -> bool:
        entry = self.first.timestamp
        end = NEVER if metric.window_ms is None else entry + metric.window_ms
        return (
            event.metric in names_of(metric)
            and entry <= event.timestamp < end
            and event.timestamp < self.stop
            and self.counts_for(metric)
        )

    def pre_period(self, metric: Metric) -> Named:
        """Return the values of the whole UTC days before the day of the unit's entry."""
        entry_day = self.first.timestamp // DAY_MS
        return [
            (name, row.value)
            for name in names_of(metric)
            for row in self.days.get(name, [])
            if entry_day - metric.covariate_days <= row.day < entry_day
        ]

    def datum(self, metric: Metric) -> Datum | None:
        """Return what the unit gives to the metric; None if it left by any magnitude."""
        if metric.id not in self._data:
            self._data[metric.id] = self._datum(metric)
        return self._data[metric.id]

    def _datum(self, metric: Metric) -> Datum | None:
        held = [(one.metric, one.value) for one in self.events if self.holds(metric, one)]
        totals, before = totals_of(metric, held), []
        if metric.covariate_days and metric.kind != "quantile":
            before = self.pre_period(metric)
        covariates = totals_of(metric, before)
        if totals is None or covariates is None:
            return None
        values = tuple(round_half_even(value * 10.0**metric.precision) for _, value in held)
        shard = shard_of(self.first.unit_type, self.first.unit)
        return Datum(totals, covariates if before else None, values, shard)

    @cached_property
    def given(self) -> dict[str, Any]:
        """Return the attributes of its first assignment."""
        found: dict[str, Any] = json.loads(self.first.attributes or "{}")
        return found

    def is_in(self, attribute: str, value: str | None) -> bool:
        """Return whether its first assignment has a value, or for None no declared one."""
        given = self.given.get(attribute)
        text = given if isinstance(given, str) else json.dumps(given)
        declared = self.definition.segments[attribute]
        if value is None:
            return given is None or text not in declared
        return given is not None and text == value

    def matured(self, metric: Metric, settled: int) -> bool:
        if metric.window_ms is None:
            return False
        return self.first.timestamp + metric.window_ms <= min(settled, self.stop)

    def attribution(self) -> Counter:
        """Return what became of its metric events."""
        return self._attribution

    @cached_property
    def _attribution(self) -> Counter:
        outcome: Counter = Counter()
        for event in self.events:
            tracking = [one for one in self.definition.metrics if event.metric in names_of(one)]
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


def names_of(metric: Metric) -> tuple[str, ...]:
    """Return the names of the metric events that a metric is made of."""
    return (metric.event, metric.denominator) if metric.kind == "ratio" else (metric.event,)


def joint_sums_of(vectors: list[tuple[int, ...]], dimension: int) -> JointSums:
    """Return count, sums and products over vectors of totals."""
    axes = range(dimension)
    return JointSums(
        len(vectors),
        tuple(sum(one[i] for one in vectors) for i in axes),
        tuple(sum(one[i] * one[j] for one in vectors) for i in axes for j in axes if i <= j),
    )


@lru_cache(maxsize=20_000)
def metric_sums_of(metric: Metric, data: tuple[Datum, ...]) -> MetricSums:
    """Return all that is kept of a metric over units; most come again at the next tick."""
    dimension = 2 if metric.kind in ("ratio", "mean") else 1
    totals, caps = [one.totals for one in data], None
    if metric.cap is not None:
        scale = 10**metric.precision if metric.kind == "sum" else 1
        if isinstance(metric.cap, CapQuantile):
            anchor = 5**metric.precision if metric.kind == "sum" else 1
            limits = [anchor * 2**n for n in range(32)]
        else:
            limits = [round_half_even(metric.cap * scale)]
        caps = tuple(
            CapSums(
                sum(q > limit for (q,) in totals),
                sum(min(q, limit) for (q,) in totals),
                sum(min(q, limit) ** 2 for (q,) in totals),
            )
            for limit in limits
        )
        if not isinstance(metric.cap, CapQuantile):
            totals = [(min(q, limits[0]),) for (q,) in totals]
    vectors = [
        one + datum.covariates
        for one, datum in zip(totals, data, strict=True)
        if datum.covariates is not None
    ]
    has_covariates = metric.covariate_days > 0 and metric.kind != "quantile"
    of_units = metric.kind == "quantile" and metric.of != "events"
    return MetricSums(
        total=joint_sums_of(totals, dimension),
        covariates=joint_sums_of(vectors, 2 * dimension) if has_covariates else None,
        caps=caps,
        histogram=dict(Counter(bucket_of(q) for (q,) in totals)) if of_units else None,
        shards=shards_of(data) if metric.of == "events" else None,
    )


def shards_of(data: tuple[Datum, ...]) -> tuple[dict[int, int], ...]:
    """Return how many values of events lie in which bucket, shard by shard."""
    shards: tuple[dict[int, int], ...] = tuple({} for _ in range(64))
    for one in data:
        counts = shards[one.shard]
        for bucket in map(bucket_of, one.values):
            counts[bucket] = counts.get(bucket, 0) + 1
    return shards


def added_over(units: list[Unit], definition: Definition, settled: int) -> dict[str, Any]:
    """Return all that is counted of an experiment over its units."""
    outcome: Counter = Counter()
    for unit in units:
        outcome += unit.attribution()
    exposed = [unit for unit in units if unit.first is not None]
    return {
        "attribution": [
            outcome[name] for name in ("counted", "outside_window", "excluded", "no_assignment")
        ],
        **summed(exposed, definition, settled),
        "segments": {
            attribute: {
                value or "other": summed(
                    [unit for unit in exposed if unit.is_in(attribute, value)], definition, settled
                )
                for value in [*values, None]
            }
            for attribute, values in definition.segments.items()
        },
    }


def summed(exposed: list[Unit], definition: Definition, settled: int) -> dict[str, Any]:
    """Return what is summed over exposed units."""
    inside = [unit for unit in exposed if not unit.crossed]
    sums: dict[str, list] = {"matured": [], "open": []}
    overflowed = []
    for metric in definition.metrics:
        counting = [(unit, unit.datum(metric)) for unit in inside if unit.counts_for(metric)]
        overflowed.append(sum(datum is None for _, datum in counting))
        kept = [(unit, datum) for unit, datum in counting if datum is not None]
        for basis, of_basis in (
            ("open", kept),
            ("matured", [one for one in kept if one[0].matured(metric, settled)]),
        ):
            sums[basis].append([
                metric_sums_of(
                    metric,
                    tuple(datum for unit, datum in of_basis if unit.first.variant == variant),
                )
                for variant in definition.variant_ids
            ])  # fmt: skip
    return {
        "units": [
            sum(unit.first.variant == variant for unit in inside)
            for variant in definition.variant_ids
        ],
        "crossovers": len(exposed) - len(inside),
        "overflowed": overflowed,
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
