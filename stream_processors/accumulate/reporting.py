"""The sums of an experiment as a partition reports them: arrays in, a message's struct out."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.definitions import Definition
from schemas.partials import ExperimentSums, SegmentSums, histogram_to_bytes
from stream_processors.accumulate.kernels.writing_sums import write_sums
from stream_processors.accumulate.layout import (
    BASES,
    BUCKETS,
    CLASS_WORDS,
    GRID_CLASSES,
    Shape,
    group_count,
    shape_of,
)
from stream_processors.accumulate.plan import Plan
from stream_processors.accumulate.state import State
from stream_processors.stats.buckets import BUCKET_MAX

OPEN, MATURED = range(BASES)

_INTEGER_BYTES_MAX = 25
"""A length, and three limbs."""


class _Metric(NamedTuple):
    """A slot, and the definition's metric that it is of."""

    rule: np.void
    shape: Shape


def attribution(state: State, ordinal: int) -> list[int]:
    """Return the metric events of an experiment: counted, outside, excluded, no assignment."""
    without = int(state.no_assignment[:, ordinal].sum())
    counts = state.experiments[["counted", "outside", "excluded"]][ordinal]
    return [*counts.tolist(), without]


def report(state: State, plan: Plan, definition: Definition, *, final: bool) -> ExperimentSums:
    """Return the cumulative sums of one experiment, of all units and by segment."""
    rule = plan.experiments[definition.ordinal]
    slots = plan.slots[int(rule["slot_start"]) : int(rule["slot_end"])]
    metrics = [
        _Metric(one, shape_of(metric))
        for one, metric in zip(slots, definition.metrics, strict=True)
    ]
    report_of = _GroupReport(state, metrics, int(rule["units_start"]), len(definition.variants))
    segments = [
        SegmentSums(group=group, **report_of.fields(group))
        for group in range(1, group_count(definition))
        if report_of.has_units(group)
    ]
    return ExperimentSums(
        experiment_id=definition.id,
        attribution=attribution(state, definition.ordinal),
        final=final,
        segments=segments,
        **report_of.fields(0),
    )


class _GroupReport:
    """Reads the sums of an experiment's groups."""

    def __init__(
        self, state: State, metrics: list[_Metric], units_start: int, variant_count: int
    ) -> None:
        self._state, self._metrics = state, metrics
        self._units_start, self._variants = units_start, variant_count
        blocks = [one.shape.block for one in metrics]
        self._out = np.empty(_INTEGER_BYTES_MAX * variant_count * max(blocks, default=0), np.uint8)

    def has_units(self, group: int) -> bool:
        """Return whether any unit is in a group."""
        return bool(self._units(group).any())

    def fields(self, group: int) -> dict[str, Any]:
        """Return the fields of a report that a segment has too."""
        *units, crossovers = self._units(group).tolist()
        fields: dict[str, Any] = {
            "units": units,
            "crossovers": crossovers,
            "overflowed": [
                int(self._state.overflowed[int(one.rule["overflow_start"]) + group])
                for one in self._metrics
            ],
        }
        for basis, name in ((MATURED, "matured"), (OPEN, "open")):
            every = self._metrics
            fields[name] = [self._joint(one, group, basis, 0) for one in every]
            fields[f"{name}_covariates"] = [self._covariates(one, group, basis) for one in every]
            fields[f"{name}_capped"] = [self._capped(one, group, basis) for one in every]
            fields[f"{name}_histograms"] = [self._histograms(one, group, basis) for one in every]
        return fields

    def _units(self, group: int) -> NDArray[np.int64]:
        start = self._units_start + group * (self._variants + 1)
        return self._state.units_of[start : start + self._variants + 1]

    def _first(self, one: _Metric, group: int, basis: int) -> int:
        rows = group * self._variants * BASES + basis
        return int(one.rule["sums_start"]) + rows * one.shape.block

    def _joint(self, one: _Metric, group: int, basis: int, offset: int) -> bytes:
        dimension = one.shape.dimension * (2 if offset else 1)
        first = self._first(one, group, basis) + offset
        sums = dimension + dimension * (dimension + 1) // 2
        return self._written(first, BASES * one.shape.block, self._variants, sums)

    def _covariates(self, one: _Metric, group: int, basis: int) -> bytes:
        offset = one.shape.covariates_in_block
        return self._joint(one, group, basis, offset) if offset >= 0 else b""

    def _capped(self, one: _Metric, group: int, basis: int) -> bytes:
        if one.shape.capped_in_block < 0:
            return b""
        first = self._first(one, group, basis) + one.shape.capped_in_block
        step = BASES * one.shape.block
        if one.shape.grid < 0:
            return self._written(first, step, self._variants, 0)
        return b"".join(
            self._written(first + variant * step, CLASS_WORDS, GRID_CLASSES, 2)
            for variant in range(self._variants)
        )

    def _written(self, first: int, step: int, rows: int, sums: int) -> bytes:
        """Return rows of sums: a count of units each, and so many sums after it."""
        length = write_sums(self._state.sums, first, step, rows, sums, self._out)
        return self._out[:length].tobytes()

    def _histograms(self, one: _Metric, group: int, basis: int) -> list[bytes]:
        width = one.shape.histogram_width
        if not width:
            return []
        written = []
        for variant in range(self._variants):
            row = (group * self._variants + variant) * BASES + basis
            from_end, end = self._state.ranges[int(one.rule["range_start"]) + row].tolist()
            start = BUCKETS - from_end if end else 0
            first = int(one.rule["histogram_start"]) + (row * BUCKETS + start) * width
            counts = self._state.histograms[first : first + (end - start) * width]
            written.append(histogram_to_bytes(counts.reshape(-1, width), start - BUCKET_MAX))
        return written
