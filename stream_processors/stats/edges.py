"""The edge rules: one table and one function, which fail closed.

Whatever the sums are, the first rule that hides the effect or its tests gives the status; the
others hide the relative effect, hold the sequence back, or only set a flag. Rules are judged over
arrays: one place per comparison, and a comparison alone is an array of one.
"""

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_processors.stats.sums import JointSums, Sums, joint_sums
from stream_processors.stats.tails import Floats

Mask = NDArray[np.bool_]

BURN_IN_UNITS = 100
"""Units per variant before a sequence starts; its guarantee is asymptotic."""

BURN_IN_CONVERSIONS = 30
"""For rates: converted units per variant, and units that did not convert, before it starts."""

EFFECTIVE_UNITS_MIN = 60
"""Units that carry a metric's spread, in the smaller variant: see ``_is_sparse``."""

DIFFERENT_UNITS_MIN = 30
"""Expected units that differ where all of a variant are alike: see ``_is_alike_by_chance``."""

SPARSE_UNITS_MAX = 3_000
"""With so many units in the smaller variant a sequence starts, however sparse its values are."""

MEAN_STD_ERRORS_MIN = 3
"""A mean nearer to 0 than this many of its standard errors divides nothing."""


SMALL_CELL = 5
"""Below so many converted units, or others, of a variant an exact test is better than a z."""


class Hides(Enum):
    """What a rule takes away."""

    EFFECT = "effect"
    TESTS = "tests"
    RELATIVE = "relative"
    SEQUENCE = "sequence"
    NOTHING = "nothing"


class Side(NamedTuple):
    """One variant of every comparison: what the rules look at. Arrays of one shape.

    Attributes:
        is_possible: Whether any set of units has the sums.
        unit_count: Units that count.
        least_count: Units that a variance is estimated from: the ``unit_count``, or 0 or 1 where
            there is too little to estimate from.
        burn_in_count: Units that count towards the burn-in of a sequence: the ``unit_count``, or
            0 where it may not start yet.
        event_count: For rates, the fewer of converted units and others; infinite elsewhere.
        mean: The metric's mean or ratio, 0 where there is none.
        mean_variance: Its squared standard error, 0 where there is none.
        effect_variance: What the variant adds to the variance of the effect.
        variance: Of a unit's value, linearised for ratios; 0 of quantiles.
        denominator: Mean of a ratio's denominator; 1 of what is no ratio.
        denominator_variance: Its squared standard error.
    """

    is_possible: Mask
    unit_count: Floats
    least_count: Floats
    burn_in_count: Floats
    event_count: Floats
    mean: Floats
    mean_variance: Floats
    effect_variance: Floats
    variance: Floats
    denominator: Floats
    denominator_variance: Floats


class Pairs(NamedTuple):
    """Both variants of every comparison."""

    control: Side
    treatment: Side


class EdgeRule(NamedTuple):
    """One row of the table."""

    status: str
    hides: Hides
    applies: Callable[[Pairs], Mask]


class Verdicts(NamedTuple):
    """What may be shown of every comparison.

    Attributes:
        status: Row of ``EDGE_RULES`` that gives the status, or -1 for ``ok``.
        relative_status: Row that hides the relative effect, or -1.
        flags: Bit i is set where row i hides nothing, but a reader should know of it.
        shows_effect: Whether there is an estimate.
        shows_tests: Whether it can be tested.
        shows_sequence: Whether the test for all looks has started.
        shows_relative: Whether it has a relative scale.
    """

    status: NDArray[np.int64]
    relative_status: NDArray[np.int64]
    flags: NDArray[np.int64]
    shows_effect: Mask
    shows_tests: Mask
    shows_sequence: Mask
    shows_relative: Mask


def is_possible(sums: Sums | JointSums, *, is_rate: bool) -> bool:
    """Return whether any set of units has these sums."""
    joint = joint_sums(sums) if isinstance(sums, Sums) else sums
    return joint.checked_spread() is not None and (not is_rate or is_rate_possible(joint))


def is_rate_possible(sums: JointSums) -> bool:
    """Return whether the first total can be 0 or 1 of every unit, and nothing else."""
    return sums.products[0] == sums.sums[0] and 0 <= sums.sums[0] <= sums.unit_count


def _either(rule: Callable[[Side], Mask]) -> Callable[[Pairs], Mask]:
    return lambda pairs: rule(pairs.control) | rule(pairs.treatment)


def is_near_zero(mean: Floats, mean_variance: Floats) -> Mask:
    """Return where a mean is 0, or not known to be away from it."""
    near: Mask = (mean == 0) | (mean**2 < MEAN_STD_ERRORS_MIN**2 * mean_variance)
    return near


def _is_rate(side: Side) -> Mask:
    return np.isfinite(side.event_count)


def _has_one_variance(pairs: Pairs) -> Mask:
    return (pairs.control.effect_variance == 0) | (pairs.treatment.effect_variance == 0)


def _is_alike_by_chance(pairs: Pairs) -> Mask:
    """Return where one variant has no spread, and too few units for that to say anything.

    Its error would be taken for 0: 101 units without an order, of which 1 in 50 has one, would
    be "worse" beyond doubt. With v the value of all its n units and Y = X - v of a unit of the
    other variant, P(Y != 0) >= E(Y)² / E(Y²) (Cauchy-Schwarz), so without an effect n times that
    of its units, or more, were to differ. That none does has a chance below e^-30 from 30 on: it
    is an effect, and it is tested. Rates know their variance, and have tests of their own.
    """
    control, treatment = pairs
    squared = (treatment.mean - control.mean) ** 2
    alike = np.zeros(len(squared), dtype=bool)
    for side, other in ((control, treatment), (treatment, control)):
        spread = other.effect_variance * other.unit_count
        total = squared + spread
        share = np.divide(squared, total, out=np.zeros_like(squared), where=total > 0)
        is_small = side.unit_count * share < DIFFERENT_UNITS_MIN
        alike |= (side.effect_variance == 0) & (spread > 0) & is_small
    return alike & ~_is_rate(control)


def _is_sparse(pairs: Pairs) -> Mask:
    """Return where the smaller variant has too few units that carry the metric's spread.

    Where few units have a value (orders, revenue), a small variant that has few of them by chance
    has a small standard error, too, and looks worse beyond doubt. What drives this is the
    skewness of the difference: that of a unit's value, over √n of the smaller variant, times
    (N - n) / √(N (N + n)) with the N units of the larger one. The coefficient of variation CV
    stands for the skewness, which sums of squares do not tell: for zero-inflated values n / CV² is
    about the number of units with a value. So n / CV² over the square of that factor has to reach
    ``EFFECTIVE_UNITS_MIN``; variants of one size have a factor of 0, and never wait. CV is that
    of both variants together: a variant that lost its orders to the treatment is compared.

    A value around 0 (a change, a profit) has no CV to judge by; so ``SPARSE_UNITS_MAX`` ends it.
    """
    control, treatment = pairs
    smaller = np.minimum(control.unit_count, treatment.unit_count)
    larger = np.maximum(control.unit_count, treatment.unit_count)
    total = np.maximum(smaller + larger, 1.0)
    weights = control.unit_count / total, treatment.unit_count / total
    mean = weights[0] * control.mean + weights[1] * treatment.mean
    between = weights[0] * weights[1] * (treatment.mean - control.mean) ** 2
    variance = weights[0] * control.variance + weights[1] * treatment.variance + between
    imbalance = (larger - smaller) ** 2 / (np.maximum(larger, 1.0) * total)
    is_few = smaller * mean**2 < EFFECTIVE_UNITS_MIN * variance * imbalance
    has_spread = (control.variance > 0) | (treatment.variance > 0)
    is_sparse: Mask = is_few & has_spread & (smaller < SPARSE_UNITS_MAX) & ~_is_rate(control)
    return is_sparse


EDGE_RULES = (
    EdgeRule("invalid_input", Hides.EFFECT, _either(lambda side: ~side.is_possible)),
    EdgeRule("no_units", Hides.EFFECT, _either(lambda side: side.unit_count == 0)),
    EdgeRule("insufficient", Hides.EFFECT, _either(lambda side: side.least_count < 2)),
    EdgeRule("undefined", Hides.EFFECT, _either(lambda side: side.denominator == 0)),
    EdgeRule(
        "zero_variance",
        Hides.TESTS,
        lambda pairs: (pairs.control.effect_variance + pairs.treatment.effect_variance) == 0,
    ),
    EdgeRule("one_variance_zero", Hides.TESTS, _is_alike_by_chance),
    EdgeRule(
        "denominator_near_zero",
        Hides.TESTS,
        _either(lambda side: is_near_zero(side.denominator, side.denominator_variance)),
    ),
    EdgeRule(
        "warming_up",
        Hides.SEQUENCE,
        _either(
            lambda side: (
                (side.burn_in_count < BURN_IN_UNITS) | (side.event_count < BURN_IN_CONVERSIONS)
            )
        ),
    ),
    EdgeRule("sparse", Hides.SEQUENCE, _is_sparse),
    EdgeRule(
        "undefined",
        Hides.RELATIVE,
        lambda pairs: is_near_zero(pairs.control.mean, pairs.control.mean_variance),
    ),
    EdgeRule(
        "undefined",
        Hides.RELATIVE,
        lambda pairs: _is_rate(pairs.treatment) & (pairs.treatment.mean == 0),
    ),
    EdgeRule("one_variance_zero", Hides.NOTHING, _has_one_variance),
    EdgeRule("small_cells", Hides.NOTHING, _either(lambda side: side.event_count < SMALL_CELL)),
    EdgeRule("control_negative", Hides.NOTHING, lambda pairs: pairs.control.mean < 0),
)

OF_SEQUENCES = frozenset(rule.status for rule in EDGE_RULES if rule.hides is Hides.SEQUENCE)
"""Statuses of the rules that hold back the test for all looks, and no other."""


def judge(pairs: Pairs) -> Verdicts:
    """Return what may be shown of every comparison, by the table."""
    count = len(pairs.control.unit_count)
    status = np.full(count, -1)
    relative_status = np.full(count, -1)
    flags = np.zeros(count, dtype=np.int64)
    shown = {hides: np.ones(count, dtype=bool) for hides in Hides}
    for index, rule in enumerate(EDGE_RULES):
        applies = rule.applies(pairs) & shown[Hides.TESTS]
        shown[rule.hides] &= ~applies
        if rule.hides is Hides.RELATIVE:
            relative_status[applies & (relative_status < 0)] = index
        elif rule.hides is Hides.NOTHING:
            flags[applies] |= 1 << index
        else:
            status[applies & (status < 0)] = index
        shown[Hides.TESTS] &= shown[Hides.EFFECT]
    tested = shown[Hides.TESTS]
    return Verdicts(
        status=status,
        relative_status=np.where(tested, relative_status, status),
        flags=flags,
        shows_effect=shown[Hides.EFFECT],
        shows_tests=tested,
        shows_sequence=tested & shown[Hides.SEQUENCE],
        shows_relative=tested & shown[Hides.RELATIVE],
    )


def status_name(row: int) -> str:
    """Return the status that a row of the table gives; -1 is ``ok``."""
    return "ok" if row < 0 else EDGE_RULES[row].status


def flag_names(flags: int) -> tuple[str, ...]:
    """Return the names of the flags that are set."""
    if not flags:
        return ()
    return tuple(rule.status for index, rule in enumerate(EDGE_RULES) if flags >> index & 1)
