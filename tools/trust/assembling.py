"""Simulated sums in the form in which merge holds them: what a look is computed from."""

from collections.abc import Sequence

from stream_processors.merge.totals import Totals
from stream_processors.stats.sums import MetricSums
from tools.trust.laws import Arm
from tools.trust.product import metric_sums


def totals_of_arms(metrics: Sequence[Sequence[Arm]], *, is_final: bool = False) -> Totals:
    """Return the totals of one experiment, all of whose units have matured.

    Args:
        metrics: By metric, by variant in the order of the definition: one row of sums.
        is_final: Whether its last look is taken.
    """
    return totals_of_sums(
        [[metric_sums(arm)[0] for arm in variants] for variants in metrics], is_final=is_final
    )


def totals_of_sums(metrics: Sequence[Sequence[MetricSums]], *, is_final: bool = False) -> Totals:
    """Return the same from the product's own sums."""
    sums = tuple(tuple(variants) for variants in metrics)
    return Totals(
        units=tuple(one.total.unit_count for one in sums[0]),
        crossovers=0,
        matured=sums,
        open=sums,
        overflowed=(0,) * len(metrics),
        segments={},
        is_final=is_final,
    )
