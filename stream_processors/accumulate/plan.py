"""Definitions as arrays: what the kernels need to know of every experiment. Pure.

Experiments are numbered by their ordinal, which is the same in every process. Names of metrics
and unit types are numbered as they are first seen by this partition; those numbers never leave
the process.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.definitions import Definition

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
        ("excludes", "?"),
        ("final", "?"),
    ],
    align=True,
)
"""An experiment.

``started``: first start, OPEN_END before. ``stopped``: events from then on do not count, OPEN_END
while it may go on. ``…_start`` and ``…_end``: its share of the intervals and slots;
``variant_start``: its first row in the counts of units. ``excludes``: whether a unit with two
variants leaves all arms. ``final``: whether its cells are dropped.
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
        ("kind", "u1"),
    ],
    align=True,
)
"""One metric of one experiment.

``window``: milliseconds, -1 for none. ``added``: units count whose entry is not before this.
``scale``: 10 ** precision. ``metric``: code of the metric events it is made of. ``row``: of its
first variant in the sums. ``kind``: 0 conversion, 1 count, 2 sum.
"""


class Plan(NamedTuple):
    """What the kernels need to know.

    Attributes:
        experiments: EXPERIMENT by ordinal.
        intervals: INTERVAL of all experiments.
        slots: SLOT_RULE of all experiments.
        tracker_start: Per metric name, where its share of ``tracker`` starts; one more at the end.
        tracker: Experiments that track a metric name.
    """

    experiments: NDArray[np.void]
    intervals: NDArray[np.void]
    slots: NDArray[np.void]
    tracker_start: NDArray[np.int32]
    tracker: NDArray[np.int32]


def in_order(definitions: Mapping[str, Definition]) -> list[Definition]:
    """Return the definitions by ordinal."""
    return sorted(definitions.values(), key=lambda definition: definition.ordinal)


def is_final(definition: Definition, horizon_ms: int) -> bool:
    """Return whether nothing that may still arrive can change the experiment."""
    return definition.stopped_at_ms is not None and horizon_ms > definition.stopped_at_ms


def make_plan(
    definitions: list[Definition], *, final: set[int], metrics: Names, unit_types: Names
) -> Plan:
    """Return the arrays of ``definitions``, which are in order of their ordinals.

    Args:
        definitions: All that there are, ordinal i at place i.
        final: Ordinals whose cells are dropped.
        metrics: Numbers of metric names; those of the definitions are added.
        unit_types: Numbers of unit types; likewise.
    """
    slots = [(one, metric) for one in definitions for metric in one.metrics]
    codes = [metrics.code(metric.event) for _, metric in slots]
    width = [len(one.variants) for one, _ in slots]
    trackers: list[list[int]] = [[] for _ in metrics.values]
    for (one, _), code in zip(slots, codes, strict=True):
        if one.ordinal not in final and one.ordinal not in trackers[code]:
            trackers[code].append(one.ordinal)
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
        slots=np.array(
            [
                (
                    -1 if metric.window_ms is None else metric.window_ms,
                    metric.added_at_ms,
                    10.0**metric.precision,
                    code,
                    row,
                    KIND_CODES[metric.kind],
                )
                for (_, metric), code, row in zip(slots, codes, _starts(width)[:-1], strict=True)
            ],
            SLOT_RULE,
        ),
        tracker_start=_starts(len(ordinals) for ordinals in trackers),
        tracker=np.array([one for ordinals in trackers for one in ordinals], np.int32),
    )


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
        row["excludes"], row["final"] = one.crossover == "exclude", one.ordinal in final
    return experiments


def variant_count(definitions: list[Definition]) -> int:
    """Return the variants of all experiments together."""
    return sum(len(one.variants) for one in definitions)


def sum_row_count(definitions: list[Definition]) -> int:
    """Return the rows of the arrays of sums: one per slot and variant."""
    return sum(len(one.variants) * len(one.metrics) for one in definitions)


def _or_never(time_ms: int | None) -> int:
    return OPEN_END if time_ms is None else time_ms


def _starts(counts: Iterable[int]) -> NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(list(counts), dtype=np.int64)]).astype(np.int32)
