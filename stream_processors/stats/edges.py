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
    EdgeRule(
        "one_variance_zero",
        Hides.NOTHING,
        lambda pairs: (pairs.control.effect_variance == 0) | (pairs.treatment.effect_variance == 0),
    ),
    EdgeRule("small_cells", Hides.NOTHING, _either(lambda side: side.event_count < SMALL_CELL)),
    EdgeRule("control_negative", Hides.NOTHING, lambda pairs: pairs.control.mean < 0),
)


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
            status[applies] = index
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
