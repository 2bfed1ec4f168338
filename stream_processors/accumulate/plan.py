"""Definitions as arrays: what the kernels need to know of every experiment. Pure.

Experiments are numbered by their ordinal, which is the same in every process. Names of metrics
and unit types are numbered as they are first seen by this partition; those numbers never leave
the process.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.control import CatalogueEntry
from schemas.definitions import Definition
from stream_processors.accumulate.layout import (
    Sizes,
    elsewhere,
    group_starts,
    places_mark,
    shape_of,
    sizes_of,
    unit_counts_of,
)
from stream_processors.stats.buckets import LOWER_EDGES
from stream_processors.stats.cap_grid import CAP_GRID

OPEN_END = 2**63 - 1
"""A time that never comes: the end of an open interval, the stop of what is not stopped."""


class Names:
    """Numbers for strings, in the order in which they were first seen."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.values: list[str] = []

    def code(self, name: str) -> int:
        """Return the number of ``name``, a new one if it has none yet."""
        code = self.codes.get(name)
        if code is None:
            code = self.codes[name] = len(self.values)
            self.values.append(name)
        return code

    def kept(self, used: NDArray[np.bool_]) -> tuple["Names", NDArray[np.int32]]:
        """Return the names in use, numbered anew, and the new number of each old one."""
        names = Names()
        for code in np.flatnonzero(used):
            names.code(self.values[code])
        return names, (np.cumsum(used) - 1).astype(np.int32)


EXPERIMENT = np.dtype(
    [
        ("started", "i8"),
        ("stopped", "i8"),
        ("places_mark", "i8"),
        ("unit_type", "i4"),
        ("interval_start", "i4"),
        ("interval_end", "i4"),
        ("slot_start", "i4"),
        ("slot_end", "i4"),
        ("attribute_start", "i4"),
        ("attribute_end", "i4"),
        ("variants", "i4"),
        ("units_start", "i4"),
        ("totals", "i4"),
        ("elsewhere", "u4"),
        ("excludes", "?"),
        ("final", "?"),
        ("covariates", "?"),
    ],
    align=True,
)
"""An experiment.

``started``: first start, OPEN_END before. ``stopped``: events from then on do not count, OPEN_END
while it may go on. ``…_start`` and ``…_end``: its share of the intervals, slots and attributes;
``units_start``: its first count of units. ``variants``: how many. ``totals``: words of a cell.
``places_mark``: tells places by its present segments from others; see ``layout``. ``elsewhere``:
places of a unit without attributes. ``excludes``: whether a unit with two variants leaves all arms.
``final``: whether its cells are dropped. ``covariates``: whether any of its metrics has one.
"""

INTERVAL = np.dtype([("start", "i8"), ("end", "i8")], align=True)
"""Assignments count while start <= timestamp < end."""

SLOT_RULE = np.dtype(
    [
        ("window", "i8"),
        ("added", "i8"),
        ("cap", "i8"),
        ("scale", "f8"),
        ("sums_start", "i8"),
        ("histogram_start", "i8"),
        ("range_start", "i4"),
        ("overflow_start", "i4"),
        ("metric", "i4"),
        ("divisor", "i4"),
        ("at", "i4"),
        ("covariate_at", "i4"),
        ("covariate_days", "i4"),
        ("block", "i4"),
        ("covariates_in_block", "i4"),
        ("capped_in_block", "i4"),
        ("grid", "i4"),
        ("dimension", "u1"),
        ("kind", "u1"),
    ],
    align=True,
)
"""One metric of one experiment.

``window``: milliseconds, -1 for none. ``added``: units count whose entry is not before this.
``cap``: what a unit's total counts for at most, in quanta. ``scale``: 10 ** precision. ``metric``,
``divisor``: codes of the metric events it is made of; the latter of a ratio only, else -1. ``at``,
``covariate_at``: first word of its totals, and of its covariates (-1 for none), among a cell's.
``covariate_days``: days before the entry's. ``dimension``: totals of a unit that are summed.
``kind``: see ``layout``.

``sums_start``, ``overflow_start``, ``histogram_start``, ``range_start``: where its share of the
arrays of sums begins. ``block``: words of one group, variant and basis; ``…_in_block``: where its
sums with covariates, and what is capped, begin in it, -1 for none. ``grid``: which grid of caps,
-1 for none.
"""

METRIC_RULE = np.dtype([("scale", "f8"), ("keep_days", "i4"), ("live_from_day", "i4")], align=True)
"""What the catalogue says of a metric name; ``keep_days`` 0: no day totals."""


class Plan(NamedTuple):
    """What the kernels need to know.

    Attributes:
        experiments: EXPERIMENT by ordinal.
        intervals: INTERVAL of all experiments.
        slots: SLOT_RULE of all experiments.
        group_start: Per attribute of all experiments, the group of its first value.
        metrics: METRIC_RULE of all metric names that were known when the plan was made.
        tracker_start: Per metric name, where its share of ``tracker`` starts; one more at the end.
        tracker: Experiments that track a metric name.
        grids: Caps in quanta by grid, shape (grids, caps).
        edges: Lowest total of every bucket.
    """

    experiments: NDArray[np.void]
    intervals: NDArray[np.void]
    slots: NDArray[np.void]
    group_start: NDArray[np.int32]
    metrics: NDArray[np.void]
    tracker_start: NDArray[np.int32]
    tracker: NDArray[np.int32]
    grids: NDArray[np.int64]
    edges: NDArray[np.int64]


def in_order(definitions: Mapping[str, Definition]) -> list[Definition]:
    """Return the definitions by ordinal."""
    return sorted(definitions.values(), key=lambda definition: definition.ordinal)


def is_final(definition: Definition, horizon_ms: int) -> bool:
    """Return whether nothing that may still arrive can change the experiment."""
    return definition.stopped_at_ms is not None and horizon_ms > definition.stopped_at_ms


def make_plan(
    definitions: list[Definition],
    catalogue: Mapping[str, CatalogueEntry],
    *,
    final: set[int],
    metrics: Names,
    unit_types: Names,
) -> Plan:
    """Return the arrays of ``definitions``, which are in order of their ordinals.

    Args:
        definitions: All that there are, ordinal i at place i.
        catalogue: By metric name.
        final: Ordinals whose cells are dropped.
        metrics: Numbers of metric names; those of the definitions and the catalogue are added.
        unit_types: Numbers of unit types; likewise.
    """
    for one in definitions:
        for metric in one.metrics:
            for name in metric.events:
                metrics.code(name)
    kept = {metrics.code(entry.name): entry for entry in catalogue.values()}
    trackers: list[list[int]] = [[] for _ in metrics.values]
    for one in definitions:
        for code in {metrics.code(name) for metric in one.metrics for name in metric.events}:
            if one.ordinal not in final:
                trackers[code].append(one.ordinal)
    rules = np.zeros(len(metrics.values), METRIC_RULE)
    for code, entry in kept.items():
        rules[code] = (10.0**entry.precision, entry.keep_days, entry.live_from_day)
    return Plan(
        experiments=_experiments(definitions, final, unit_types),
        intervals=np.array(
            [
                (interval.start_ms, _or_never(interval.end_ms))
                for one in definitions
                for interval in one.intervals
            ],
            INTERVAL,
        ),
        slots=_slots(definitions, metrics),
        group_start=np.array(
            [start for one in definitions for start in group_starts(one)], np.int32
        ),
        metrics=rules,
        tracker_start=_starts(len(ordinals) for ordinals in trackers),
        tracker=np.array([one for ordinals in trackers for one in ordinals], np.int32),
        grids=CAP_GRID,
        edges=LOWER_EDGES,
    )


def _slots(definitions: list[Definition], metrics: Names) -> NDArray[np.void]:
    slots = np.zeros(sum(len(one.metrics) for one in definitions), SLOT_RULE)
    rules = iter(slots)
    starts = Sizes(0, 0, 0, 0, 0)
    for one in definitions:
        at = 0
        for metric in one.metrics:
            rule, shape = next(rules), shape_of(metric)
            rule["window"] = -1 if metric.window_ms is None else metric.window_ms
            rule["added"], rule["scale"] = metric.added_at_ms, 10.0**metric.precision
            rule["cap"], rule["grid"] = shape.cap, shape.grid
            codes = [metrics.code(name) for name in metric.events]
            rule["metric"], rule["divisor"] = codes[0], codes[1] if len(codes) > 1 else -1
            rule["at"], rule["covariate_at"] = at, -1
            if shape.covariate_words:
                rule["covariate_at"] = at + shape.words
                rule["covariate_days"] = metric.covariate_days
            at += shape.words + shape.covariate_words
            rule["kind"], rule["dimension"] = shape.kind, shape.dimension
            rule["block"], rule["covariates_in_block"] = shape.block, shape.covariates_in_block
            rule["capped_in_block"] = shape.capped_in_block
            rule["sums_start"], rule["overflow_start"] = starts.sums, starts.overflowed
            rule["histogram_start"], rule["range_start"] = starts.histograms, starts.ranges
            starts = starts.plus(sizes_of(one, metric))
    return slots


def _experiments(
    definitions: list[Definition], final: set[int], unit_types: Names
) -> NDArray[np.void]:
    experiments = np.zeros(len(definitions), EXPERIMENT)
    for kind, counts in (
        ("interval", [len(one.intervals) for one in definitions]),
        ("slot", [len(one.metrics) for one in definitions]),
        ("attribute", [len(one.segments) for one in definitions]),
    ):
        starts = _starts(counts)
        experiments[f"{kind}_start"], experiments[f"{kind}_end"] = starts[:-1], starts[1:]
    experiments["units_start"] = _starts(unit_counts_of(one) for one in definitions)[:-1]
    for row, one in zip(experiments, definitions, strict=True):
        row["started"], row["stopped"] = _or_never(one.started_at_ms), _or_never(one.stopped_at_ms)
        row["variants"], row["unit_type"] = len(one.variants), unit_types.code(one.unit_type)
        row["totals"] = sum(
            shape.words + shape.covariate_words for shape in map(shape_of, one.metrics)
        )
        row["excludes"], row["final"] = one.crossover == "exclude", one.ordinal in final
        row["covariates"] = any(shape_of(metric).covariate_words for metric in one.metrics)
        row["places_mark"], row["elsewhere"] = places_mark(one), elsewhere(one)
    return experiments


def _or_never(time_ms: int | None) -> int:
    return OPEN_END if time_ms is None else time_ms


def _starts(counts: Iterable[int]) -> NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(list(counts), dtype=np.int64)]).astype(np.int32)
