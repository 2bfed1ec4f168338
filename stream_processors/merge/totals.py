"""An experiment's sums over all partitions. Integers only, so the order of adding is free."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from schemas.definitions import OTHER_SEGMENT, Definition
from schemas.partials import ExperimentSums, Reported
from stream_processors.merge.metric_sums import (
    Columns,
    OfMetrics,
    add_metrics,
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


def totals_of(sums: ExperimentSums, definition: Definition) -> Totals:
    """Return what one partition reported, in the shape of the definition.

    Metrics may be added while an experiment runs. A partition that has not reported since has no
    unit that counts for them, so what it did not say is zero.
    """
    variants, metrics = len(definition.variants), len(definition.metrics)
    if len(sums.units) != variants or max(len(sums.matured), len(sums.open)) > metrics:
        raise ValueError(
            f"{sums.experiment_id}: sums of {len(sums.units)} variants and {len(sums.open)}"
            f" metrics, must be {variants} and at most {metrics}"
        )
    reported = {one.group: one for one in sums.segments}
    nothing = no_totals(definition)
    groups = iter(range(1, 1 + sum(map(len, segments_of(definition).values()))))
    return _one_of(
        sums,
        definition,
        {
            attribute: {
                value: _one_of(reported[group], definition, {}) if group in reported else nothing
                for value, group in zip(values, groups, strict=False)
            }
            for attribute, values in segments_of(definition).items()
        },
        is_final=sums.final,
    )


def add_totals(parts: Iterable[Totals], definition: Definition) -> Totals:
    """Return the totals over all partitions; each unit is in exactly one."""
    parts = list(parts)
    if not parts:
        nothing = no_totals(definition)
        segments = {
            attribute: dict.fromkeys(values, nothing)
            for attribute, values in segments_of(definition).items()
        }
        return nothing._replace(segments=segments)
    segments = {
        attribute: {
            value: _added([part.segments[attribute][value] for part in parts], {})
            for value in values
        }
        for attribute, values in segments_of(definition).items()
    }
    return _added(parts, segments)


def segments_of(definition: Definition) -> dict[str, list[str]]:
    """Return the values of every attribute, all others together at the end."""
    return {name: [*values, OTHER_SEGMENT] for name, values in definition.segments.items()}


def no_totals(definition: Definition) -> Totals:
    """Return the totals of no units, without segments."""
    variants = len(definition.variants)
    nothing = tuple((no_metric_sums(metric),) * variants for metric in definition.metrics)
    return Totals((0,) * variants, 0, nothing, nothing, (0,) * len(nothing), {})


def _one_of(
    sums: Reported,
    definition: Definition,
    segments: dict[str, dict[str, Totals]],
    *,
    is_final: bool = False,
) -> Totals:
    metrics = definition.metrics
    return Totals(
        tuple(sums.units),
        sums.crossovers,
        metrics_of(
            definition,
            Columns(
                sums.matured,
                sums.matured_covariates,
                sums.matured_capped,
                sums.matured_histograms,
            ),
        ),
        metrics_of(
            definition,
            Columns(sums.open, sums.open_covariates, sums.open_capped, sums.open_histograms),
        ),
        tuple(sums.overflowed) + (0,) * (len(metrics) - len(sums.overflowed)),
        segments,
        is_final,
    )


def _added(parts: list[Totals], segments: dict[str, dict[str, Totals]]) -> Totals:
    if len(parts) == 1 and not segments:
        return parts[0]
    return Totals(
        tuple(map(sum, zip(*(part.units for part in parts), strict=True))),
        sum(part.crossovers for part in parts),
        add_metrics([part.matured for part in parts]),
        add_metrics([part.open for part in parts]),
        tuple(map(sum, zip(*(part.overflowed for part in parts), strict=True))),
        segments,
        any(part.is_final for part in parts),
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
