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
from schemas.definitions import Definition, Metric

OPEN_END = 2**63 - 1
"""A time that never comes: the end of an open interval, the stop of what is not stopped."""

KIND_CODES = {"conversion": 0, "count": 1, "sum": 2}


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
        ("unit_type", "i4"),
        ("interval_start", "i4"),
        ("interval_end", "i4"),
        ("variant_start", "i4"),
        ("slot_start", "i4"),
        ("slot_end", "i4"),
        ("totals", "i4"),
        ("excludes", "?"),
        ("final", "?"),
        ("covariates", "?"),
    ],
    align=True,
)
"""An experiment.

``started``: first start, OPEN_END before. ``stopped``: events from then on do not count, OPEN_END
while it may go on. ``…_start`` and ``…_end``: its share of the intervals and slots;
``variant_start``: its first row in the counts of units. ``totals``: words of a cell. ``excludes``:
whether a unit with two variants leaves all arms. ``final``: whether its cells are dropped.
``covariates``: whether any of its metrics has one.
"""

INTERVAL = np.dtype([("start", "i8"), ("end", "i8")], align=True)
"""Assignments count while start <= timestamp < end."""

SLOT_RULE = np.dtype(
    [
        ("window", "i8"),
        ("added", "i8"),
        ("scale", "f8"),
        ("metric", "i4"),
        ("row", "i4"),
        ("at", "i4"),
        ("covariate_at", "i4"),
        ("covariate_days", "i4"),
        ("covariate_row", "i4"),
        ("kind", "u1"),
    ],
    align=True,
)
"""One metric of one experiment.

``window``: milliseconds, -1 for none. ``added``: units count whose entry is not before this.
``scale``: 10 ** precision. ``metric``: code of the metric events it is made of. ``row``: of its
first variant in the sums. ``at``: its first word among a cell's totals. ``covariate_…``: first word
of its covariate, -1 for none; days before the entry's; row of its first variant in the sums with
a covariate. ``kind``: 0 conversion, 1 count, 2 sum.
"""

COVARIATE_TOTALS = 3
_TOTALS = {"conversion": 1, "count": 1, "sum": 2}

METRIC_RULE = np.dtype([("scale", "f8"), ("keep_days", "i4"), ("live_from_day", "i4")], align=True)
"""What the catalogue says of a metric name; ``keep_days`` 0: no day totals."""


class Plan(NamedTuple):
    """What the kernels need to know.

    Attributes:
        experiments: EXPERIMENT by ordinal.
        intervals: INTERVAL of all experiments.
        slots: SLOT_RULE of all experiments.
        metrics: METRIC_RULE of all metric names that were known when the plan was made.
        tracker_start: Per metric name, where its share of ``tracker`` starts; one more at the end.
        tracker: Experiments that track a metric name.
    """

    experiments: NDArray[np.void]
    intervals: NDArray[np.void]
    slots: NDArray[np.void]
    metrics: NDArray[np.void]
    tracker_start: NDArray[np.int32]
    tracker: NDArray[np.int32]


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
    codes = [metrics.code(metric.event) for one in definitions for metric in one.metrics]
    kept = {metrics.code(entry.name): entry for entry in catalogue.values()}
    trackers: list[list[int]] = [[] for _ in metrics.values]
    tracked = ((one, metrics.code(metric.event)) for one in definitions for metric in one.metrics)
    for one, code in tracked:
        if one.ordinal not in final and one.ordinal not in trackers[code]:
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
        slots=_slots(definitions, codes),
        metrics=rules,
        tracker_start=_starts(len(ordinals) for ordinals in trackers),
        tracker=np.array([one for ordinals in trackers for one in ordinals], np.int32),
    )


def _slots(definitions: list[Definition], codes: list[int]) -> NDArray[np.void]:
    slots = np.zeros(len(codes), SLOT_RULE)
    place, row, covariate_row = 0, 0, 0
    for one in definitions:
        width, at = len(one.variants), 0
        for metric in one.metrics:
            rule = slots[place]
            rule["window"] = -1 if metric.window_ms is None else metric.window_ms
            rule["added"], rule["scale"] = metric.added_at_ms, 10.0**metric.precision
            rule["metric"], rule["kind"] = codes[place], KIND_CODES[metric.kind]
            rule["row"], rule["at"], rule["covariate_at"] = row, at, -1
            if metric.covariate_days:
                rule["covariate_at"] = at + _TOTALS[metric.kind]
                rule["covariate_days"] = metric.covariate_days
                rule["covariate_row"] = covariate_row
                covariate_row += width
            at += totals_of(metric)
            row += width
            place += 1
    return slots


def totals_of(metric: Metric) -> int:
    """Return how many words of a cell a metric takes."""
    return _TOTALS[metric.kind] + (COVARIATE_TOTALS if metric.covariate_days else 0)


def _experiments(
    definitions: list[Definition], final: set[int], unit_types: Names
) -> NDArray[np.void]:
    experiments = np.zeros(len(definitions), EXPERIMENT)
    for kind, counts in (
        ("interval", [len(one.intervals) for one in definitions]),
        ("slot", [len(one.metrics) for one in definitions]),
    ):
        starts = _starts(counts)
        experiments[f"{kind}_start"], experiments[f"{kind}_end"] = starts[:-1], starts[1:]
    experiments["variant_start"] = _starts(len(one.variants) for one in definitions)[:-1]
    for row, one in zip(experiments, definitions, strict=True):
        row["started"], row["stopped"] = _or_never(one.started_at_ms), _or_never(one.stopped_at_ms)
        row["unit_type"] = unit_types.code(one.unit_type)
        row["totals"] = sum(map(totals_of, one.metrics))
        row["excludes"], row["final"] = one.crossover == "exclude", one.ordinal in final
        row["covariates"] = any(metric.covariate_days for metric in one.metrics)
    return experiments


def variant_count(definitions: list[Definition]) -> int:
    """Return the variants of all experiments together."""
    return sum(len(one.variants) for one in definitions)


def sum_row_count(definitions: list[Definition]) -> int:
    """Return the rows of the arrays of sums: one per slot and variant."""
    return sum(len(one.variants) * len(one.metrics) for one in definitions)


def covariate_row_count(definitions: list[Definition]) -> int:
    """Return the rows of the sums with a covariate: one per such slot and variant."""
    return sum(
        len(one.variants) * sum(metric.covariate_days > 0 for metric in one.metrics)
        for one in definitions
    )


def _or_never(time_ms: int | None) -> int:
    return OPEN_END if time_ms is None else time_ms


def _starts(counts: Iterable[int]) -> NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(list(counts), dtype=np.int64)]).astype(np.int32)
