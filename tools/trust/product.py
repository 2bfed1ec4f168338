"""The product's functions over many simulated experiments at once: columns in, columns out.

``effects`` goes the product's whole way, ``compare_all`` over exact integers. ``sequences`` is for
millions of looks: the product's edge rules and confidence sequence over arrays of the same means
and variances; that both ways agree is checked wherever it is used.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_processors.stats.comparisons import Comparison, compare_all
from stream_processors.stats.edges import Pairs, Side, judge
from stream_processors.stats.effects import CupedEffect, Effect, Plan
from stream_processors.stats.sequential import confidence_sequence
from stream_processors.stats.sums import JointSums, MetricSums
from tools.trust.laws import Arm, Columns, Floats, Law

Mask = NDArray[np.bool_]
COMPARISONS_AT_A_TIME = 2_000


class Results(NamedTuple):
    """What the product says of every experiment; NaN where it says nothing.

    Attributes:
        status: Of every effect.
        estimate: Treatment mean less the control's.
        std_error: Of the estimate.
        p_value: Of the fixed-horizon test.
        low: Lower end of its interval.
        high: Upper end.
        relative: The relative effect.
        relative_low: Lower end of its fixed-horizon interval.
        relative_high: Upper end.
        sequence_p: Always-valid p-value at this look alone.
        sequence_low: Lower end of the confidence sequence.
        sequence_high: Upper end.
        relative_sequence_low: Lower end of the relative effect's sequence.
        relative_sequence_high: Upper end.
    """

    status: NDArray[np.str_]
    estimate: Floats
    std_error: Floats
    p_value: Floats
    low: Floats
    high: Floats
    relative: Floats
    relative_low: Floats
    relative_high: Floats
    sequence_p: Floats
    sequence_low: Floats
    sequence_high: Floats
    relative_sequence_low: Floats
    relative_sequence_high: Floats

    def covers(self, truth: float) -> Mask:
        """Return whether the interval of the difference holds the true one."""
        return (self.low <= truth) & (truth <= self.high)

    def relative_covers(self, truth: float) -> Mask:
        """Return whether the interval of the relative effect holds the true one."""
        return (self.relative_low <= truth) & (truth <= self.relative_high)


class Sequences(NamedTuple):
    """What the product shows at every look; arrays of one shape.

    Attributes:
        is_shown: Whether the sequence has started: the edge rules and the burn-in.
        is_defined: Whether there is a standard error at all, burn-in or not.
        z: Estimate over standard error; 0 where there is none.
        low: Lower end of the sequence, burn-in or not; -inf where there is none.
        high: Upper end.
        p_value: Always-valid, at this look alone.
    """

    is_shown: Mask
    is_defined: Mask
    z: Floats
    low: Floats
    high: Floats
    p_value: Floats

    def excludes(self, truth: float) -> Mask:
        """Return whether the sequence excludes a value, burn-in or not."""
        return (self.low > truth) | (self.high < truth)


def effects(law: Law, control: Arm, treatment: Arm, plan: Plan) -> Results:
    """Return the product's results of rows of sums: adjusted, where there is a covariate."""
    pairs = list(zip(metric_sums(control), metric_sums(treatment), strict=True))
    found: list[Effect] = []
    for start in range(0, len(pairs), COMPARISONS_AT_A_TIME):
        found += compare_all(
            [
                Comparison(law.kind, one, other, precision=law.precision, plan=plan)
                for one, other in pairs[start : start + COMPARISONS_AT_A_TIME]
            ]
        )
    if control.covariates is not None:
        return results_of([one.cuped for one in found if one.cuped is not None])
    return results_of(found)


def results_of(found: Sequence[Effect | CupedEffect]) -> Results:
    """Return effects as columns."""
    numbers = np.array([_numbers(one) for one in found], dtype=np.float64)
    return Results(np.array([one.status for one in found]), *numbers.T)


def sequences(law: Law, control: Columns, treatment: Columns, plan: Plan) -> Sequences:
    """Return the confidence sequence of a difference of means at every place of an array."""
    shape = control.unit_count.shape
    sides = [_side(law, one) for one in (control, treatment)]
    verdicts = judge(Pairs(*sides))
    estimate = sides[1].mean - sides[0].mean
    variance = sides[0].mean_variance + sides[1].mean_variance
    is_defined = variance > 0
    std_error = np.sqrt(np.where(is_defined, variance, 1.0))
    test = confidence_sequence(
        estimate,
        std_error,
        unit_count=np.maximum(sides[0].unit_count + sides[1].unit_count, 1.0),
        alpha=plan.alpha,
        n_star=plan.n_star,
    )
    return Sequences(
        is_shown=verdicts.shows_sequence.reshape(shape),
        is_defined=is_defined.reshape(shape),
        z=np.where(is_defined, estimate / std_error, 0.0).reshape(shape),
        low=np.where(is_defined, test.low, -np.inf).reshape(shape),
        high=np.where(is_defined, test.high, np.inf).reshape(shape),
        p_value=np.where(is_defined, test.p_value, 1.0).reshape(shape),
    )


def metric_sums(arm: Arm) -> list[MetricSums]:
    """Return the sums of every row as the product keeps them."""
    totals = joint_sums(arm.total)
    if arm.covariates is None:
        return [MetricSums(one) for one in totals]
    pairs = zip(totals, joint_sums(arm.covariates), strict=True)
    return [MetricSums(one, covariates) for one, covariates in pairs]


def joint_sums(columns: Columns) -> list[JointSums]:
    """Return every row as the product's exact integers."""
    counts = columns.unit_count.ravel().astype(np.int64).tolist()
    sums = _rows(columns.sums)
    products = _rows(columns.products)
    return [
        JointSums(count, tuple(its_sums), tuple(its_products))
        for count, its_sums, its_products in zip(counts, sums, products, strict=True)
    ]


def _rows(values: Floats) -> list[list[int]]:
    assert np.abs(values).max(initial=0) < 2.0**53, "sums of doubles are no longer exact"
    rows: list[list[int]] = values.reshape(-1, values.shape[-1]).astype(np.int64).tolist()
    return rows


def _side(law: Law, columns: Columns) -> Side:
    quanta = 10.0**law.precision
    count = columns.unit_count.ravel()
    total = columns.sums[..., 0].ravel()
    squares = columns.products[..., 0].ravel()
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    # Sums of squares about the mean: doubles of these sizes lose nothing that matters here.
    spread = np.maximum(squares - total * mean, 0.0)
    variance = np.divide(spread, count - 1, out=np.zeros_like(spread), where=count > 1)
    is_rate = law.kind == "conversion"
    nothing = np.ones_like(count)
    mean_variance = np.divide(variance, count, out=np.zeros_like(total), where=count > 0)
    mean_variance /= quanta**2
    return Side(
        is_possible=np.ones(len(count), dtype=bool),
        unit_count=count,
        least_count=count,
        burn_in_count=count,
        event_count=np.minimum(total, count - total) if is_rate else np.full(len(count), np.inf),
        mean=mean / quanta,
        mean_variance=mean_variance,
        effect_variance=mean_variance,
        variance=variance / quanta**2,
        denominator=nothing,
        denominator_variance=0.0 * nothing,
    )


def _numbers(effect: Effect | CupedEffect) -> tuple[Any, ...]:
    fixed, sequence, relative = effect.fixed_horizon, effect.sequence, effect.relative
    return (
        effect.estimate,
        effect.std_error,
        fixed and fixed.p_value,
        fixed and fixed.low,
        fixed and fixed.high,
        relative.estimate,
        relative.fixed_horizon and relative.fixed_horizon.low,
        relative.fixed_horizon and relative.fixed_horizon.high,
        sequence and sequence.p_value,
        sequence and sequence.low,
        sequence and sequence.high,
        relative.sequence and relative.sequence.low,
        relative.sequence and relative.sequence.high,
    )
