"""An experiment's sums over all partitions. Integers only, so the order of adding is free."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from schemas.definitions import OTHER_SEGMENT, Definition
from schemas.partials import ExperimentSums, Reported
from stream_processors.merge.metric_sums import (
    Columns,
    OfMetrics,
    emptied_metrics,
    metrics_from_strings,
    metrics_of,
    metrics_to_strings,
    no_metric_sums,
)

ATTRIBUTIONS = ("counted", "outside_window", "excluded", "no_assignment")
"""What becomes of metric events, in the order in which partials count it."""


class Totals(NamedTuple):
    """The integers that a look is made of.

    Attributes:
        units: Exposed units per variant, in the order of the definition.
        crossovers: Units that were assigned two variants.
        matured: Per metric, per variant; of units whose window has passed.
        open: The same over all exposed units.
        overflowed: Per metric, units whose magnitude reached the limit and left.
        segments: By attribute and value, ``other`` included: the same of the units in it. Segments
            of segments there are none.
        is_final: Whether a partition said that this is the last report.
    """

    units: tuple[int, ...]
    crossovers: int
    matured: OfMetrics
    open: OfMetrics
    overflowed: tuple[int, ...]
    segments: dict[str, dict[str, "Totals"]]
    is_final: bool = False

    def as_strings(self) -> dict[str, Any]:
        """Return every integer in decimal, for readers whose numbers are floats.

        Histograms are the bytes of ``schemas.partials.histogram_to_bytes`` in base 64. Segments
        without a unit are null.
        """
        written: dict[str, Any] = {
            "units": [str(count) for count in self.units],
            "crossovers": str(self.crossovers),
            "overflowed": [str(count) for count in self.overflowed],
        }
        written |= metrics_to_strings("matured", self.matured)
        written |= metrics_to_strings("open", self.open)
        if self.segments:
            written["segments"] = {
                attribute: {
                    value: totals.as_strings() if totals.any() else None
                    for value, totals in values.items()
                }
                for attribute, values in self.segments.items()
            }
        return written

    def any(self) -> bool:
        """Return whether a unit is in it."""
        return any(self.units) or self.crossovers != 0

    def emptied(self) -> "Totals":
        """Return the totals of no units, of the same metrics."""
        return Totals(
            (0,) * len(self.units),
            0,
            emptied_metrics(self.matured),
            emptied_metrics(self.open),
            (0,) * len(self.overflowed),
            {},
        )


def totals_from_strings(integers: dict[str, Any], *, is_final: bool) -> Totals:
    """Return the totals that ``as_strings`` wrote down."""
    every = _one_from_strings(integers, is_final=is_final)
    nothing = every.emptied()
    return every._replace(
        segments={
            attribute: {
                value: nothing if one is None else _one_from_strings(one, is_final=False)
                for value, one in values.items()
            }
            for attribute, values in integers.get("segments", {}).items()
        }
    )


def totals_of(reports: Iterable[ExperimentSums], definition: Definition) -> Totals:
    """Return the totals over all partitions, in the shape of the definition.

    Metrics may be added while an experiment runs. A partition that has not reported since has no
    unit that counts for them, so what it did not say is zero.

    Args:
        reports: Of partitions; each unit is in exactly one.
        definition: The newest of the experiment.

    Raises:
        ValueError: If a partition reported other variants, or more metrics, than there are.
    """
    reports = list(reports)
    for one in reports:
        _check(one, definition)
    groups: dict[int, list[Reported]] = {}
    for one in reports:
        for segment in one.segments:
            groups.setdefault(segment.group, []).append(segment)
    nothing = no_totals(definition)
    numbers = itertools.count(1)
    segments = {
        attribute: {
            value: _added(groups[group], definition) if group in groups else nothing
            for value, group in zip(values, numbers, strict=False)
        }
        for attribute, values in segments_of(definition).items()
    }
    added = _added(reports, definition) if reports else nothing
    return added._replace(segments=segments, is_final=any(one.final for one in reports))


def _check(sums: ExperimentSums, definition: Definition) -> None:
    variants, metrics = len(definition.variants), len(definition.metrics)
    if len(sums.units) != variants or max(len(sums.matured), len(sums.open)) > metrics:
        raise ValueError(
            f"{sums.experiment_id}: sums of {len(sums.units)} variants and {len(sums.open)}"
            f" metrics, must be {variants} and at most {metrics}"
        )


def segments_of(definition: Definition) -> dict[str, list[str]]:
    """Return the values of every attribute, all others together at the end."""
    return {name: [*values, OTHER_SEGMENT] for name, values in definition.segments.items()}


def no_totals(definition: Definition) -> Totals:
    """Return the totals of no units, without segments."""
    variants = len(definition.variants)
    nothing = tuple((no_metric_sums(metric),) * variants for metric in definition.metrics)
    return Totals((0,) * variants, 0, nothing, nothing, (0,) * len(nothing), {})


def _added(parts: Sequence[Reported], definition: Definition) -> Totals:
    """Return the totals of what was reported, segments left out."""
    matured = [
        Columns(one.matured, one.matured_covariates, one.matured_capped, one.matured_histograms)
        for one in parts
    ]
    unmatured = [
        Columns(one.open, one.open_covariates, one.open_capped, one.open_histograms)
        for one in parts
    ]
    overflowed = itertools.zip_longest(*(one.overflowed for one in parts), fillvalue=0)
    counts = tuple(map(sum, overflowed))
    return Totals(
        tuple(map(sum, zip(*(one.units for one in parts), strict=True))),
        sum(one.crossovers for one in parts),
        metrics_of(definition, matured),
        metrics_of(definition, unmatured),
        counts + (0,) * (len(definition.metrics) - len(counts)),
        {},
    )


def _one_from_strings(integers: dict[str, Any], *, is_final: bool) -> Totals:
    return Totals(
        tuple(map(int, integers["units"])),
        int(integers["crossovers"]),
        metrics_from_strings("matured", integers),
        metrics_from_strings("open", integers),
        tuple(map(int, integers["overflowed"])),
        {},
        is_final,
    )
