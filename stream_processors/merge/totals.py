"""An experiment's sums over all partitions. Integers only, so the order of adding is free."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from schemas.definitions import Definition
from schemas.partials import (
    CovariateSums,
    ExperimentSums,
    covariate_sums_from_bytes,
    sums_from_bytes,
)
from stream_processors.stats.sums import Sums

ATTRIBUTIONS = ("counted", "outside_window", "excluded", "no_assignment")
"""What becomes of metric events, in the order in which partials count it."""


Covariates = tuple[tuple[CovariateSums, ...], ...]


class Totals(NamedTuple):
    """The integers that a look is made of.

    Attributes:
        units: Exposed units per variant, in the order of the definition.
        crossovers: Units that were assigned two variants.
        matured: Per metric, per variant.
        open: The same over all exposed units.
        overflowed: Per metric, units whose magnitude reached the limit and left.
        matured_covariates: Per metric, per variant; of a metric without a covariate nothing.
        open_covariates: The same over all exposed units.
        is_final: Whether a partition said that this is the last report.
    """

    units: tuple[int, ...]
    crossovers: int
    matured: tuple[tuple[Sums, ...], ...]
    open: tuple[tuple[Sums, ...], ...]
    overflowed: tuple[int, ...]
    matured_covariates: Covariates
    open_covariates: Covariates
    is_final: bool = False

    def as_strings(self) -> dict[str, Any]:
        """Return every integer in decimal, for readers whose numbers are floats."""
        return {
            "units": [str(count) for count in self.units],
            "crossovers": str(self.crossovers),
            "matured": [_strings(metric) for metric in self.matured],
            "open": [_strings(metric) for metric in self.open],
            "overflowed": [str(count) for count in self.overflowed],
            "matured_covariates": [_covariate_strings(one) for one in self.matured_covariates],
            "open_covariates": [_covariate_strings(one) for one in self.open_covariates],
        }


def totals_from_strings(integers: dict[str, Any], *, is_final: bool) -> Totals:
    """Return the totals that ``as_strings`` wrote down."""
    return Totals(
        tuple(map(int, integers["units"])),
        int(integers["crossovers"]),
        tuple(_from_strings(metric) for metric in integers["matured"]),
        tuple(_from_strings(metric) for metric in integers["open"]),
        tuple(map(int, integers["overflowed"])),
        tuple(_covariates_from_strings(one) for one in integers["matured_covariates"]),
        tuple(_covariates_from_strings(one) for one in integers["open_covariates"]),
        is_final,
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
    return Totals(
        tuple(sums.units),
        sums.crossovers,
        _filled(sums.matured, variants, metrics),
        _filled(sums.open, variants, metrics),
        tuple(sums.overflowed) + (0,) * (metrics - len(sums.overflowed)),
        _filled_covariates(sums.matured_covariates, definition),
        _filled_covariates(sums.open_covariates, definition),
        sums.final,
    )


def add_totals(parts: Iterable[Totals], definition: Definition) -> Totals:
    """Return the totals over all partitions; each unit is in exactly one."""
    parts = list(parts)
    variants, metrics = len(definition.variants), len(definition.metrics)
    if not parts:
        nothing = ((Sums(),) * variants,) * metrics
        no_covariates = _filled_covariates([], definition)
        return Totals(
            (0,) * variants, 0, nothing, nothing, (0,) * metrics, no_covariates, no_covariates
        )
    return Totals(
        _add_counts([part.units for part in parts]),
        sum(part.crossovers for part in parts),
        _add_metrics([part.matured for part in parts]),
        _add_metrics([part.open for part in parts]),
        _add_counts([part.overflowed for part in parts]),
        _add_covariates([part.matured_covariates for part in parts]),
        _add_covariates([part.open_covariates for part in parts]),
        any(part.is_final for part in parts),
    )


def _filled(reported: Sequence[bytes], variants: int, metrics: int) -> tuple[tuple[Sums, ...], ...]:
    nothing = (Sums(),) * variants
    decoded = [
        tuple(Sums(one.unit_count, one.sum_q, one.sum_squares_q) for one in sums_from_bytes(value))
        or nothing
        for value in reported
    ]
    if any(len(metric) != variants for metric in decoded):
        raise ValueError(f"sums of {[len(metric) for metric in decoded]}, must be {variants} each")
    return tuple(decoded + [nothing] * (metrics - len(decoded)))


def _filled_covariates(reported: Sequence[bytes], definition: Definition) -> Covariates:
    """Return a row per metric; as in ``_filled``, what was not reported is zero."""
    nothing = (CovariateSums(),) * len(definition.variants)
    said = [tuple(covariate_sums_from_bytes(value)) for value in reported]
    said += [()] * (len(definition.metrics) - len(said))
    return tuple(
        (row or nothing) if metric.covariate_days else ()
        for metric, row in zip(definition.metrics, said, strict=True)
    )


def _add_covariates(parts: list[Covariates]) -> Covariates:
    first, *rest = parts
    for other in rest:
        first = tuple(
            tuple(one.plus(its) for one, its in zip(mine, theirs, strict=True))
            for mine, theirs in zip(first, other, strict=True)
        )
    return first


def _add_counts(rows: list[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*rows, strict=True)))


def _add_metrics(parts: list[tuple[tuple[Sums, ...], ...]]) -> tuple[tuple[Sums, ...], ...]:
    return tuple(
        tuple(
            Sums(*map(sum, zip(*variants, strict=True))) for variants in zip(*metrics, strict=True)
        )
        for metrics in zip(*parts, strict=True)
    )


def _strings(metric: tuple[Sums, ...]) -> list[list[str]]:
    return [[str(integer) for integer in sums] for sums in metric]


def _covariate_strings(metric: tuple[CovariateSums, ...]) -> list[list[str]]:
    return [[str(integer) for integer in msgspec.structs.astuple(sums)] for sums in metric]


def _covariates_from_strings(metric: list[list[str]]) -> tuple[CovariateSums, ...]:
    return tuple(CovariateSums(*map(int, sums)) for sums in metric)


def _from_strings(metric: list[list[str]]) -> tuple[Sums, ...]:
    return tuple(Sums(*map(int, sums)) for sums in metric)
