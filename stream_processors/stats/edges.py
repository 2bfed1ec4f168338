"""The edge rules: one table and one function, which fail closed.

Whatever the sums are, the first rule that hides the effect or its tests gives the status; the
others hide the relative effect, hold the sequence back, or only set a flag.
"""

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from stream_processors.stats.sums import Sums

BURN_IN_UNITS = 100
"""Units per arm before a sequence starts; its guarantee is asymptotic."""

BURN_IN_CONVERSIONS = 30
"""For rates: converted units per arm, and units that did not convert, before it starts."""

MEAN_STD_ERRORS_MIN = 3
"""A control mean nearer to 0 than this many standard errors divides nothing."""


class Hides(Enum):
    """What a rule takes away."""

    EFFECT = "effect"
    TESTS = "tests"
    RELATIVE = "relative"
    SEQUENCE = "sequence"
    NOTHING = "nothing"


class Pair(NamedTuple):
    """Two arms to compare; ``is_rate`` says that a unit's value can only be 0 or 1."""

    control: Sums
    treatment: Sums
    is_rate: bool


class EdgeRule(NamedTuple):
    """One row of the table."""

    status: str
    hides: Hides
    applies: Callable[[Pair], bool]


class Verdict(NamedTuple):
    """What may be shown of a comparison.

    Attributes:
        status: ``ok``, or the first rule that hides something other than the relative effect.
        hides: What that rule hides.
        relative_status: ``ok`` or why there is no relative effect.
        flags: Rules that hide nothing, but that a reader should know of.
    """

    status: str
    hides: Hides
    relative_status: str
    flags: tuple[str, ...]


def is_possible(sums: Sums, *, is_rate: bool) -> bool:
    """Return whether any set of values has these sums."""
    count, sum_q, sum_squares_q = sums
    if count < 0 or sum_squares_q < 0 or sums.spread_q < 0:
        return False
    if is_rate:
        return sum_squares_q == sum_q and 0 <= sum_q <= count
    return count > 0 or sum_q == sum_squares_q == 0


def _any_arm(rule: Callable[[Sums], bool]) -> Callable[[Pair], bool]:
    return lambda pair: rule(pair.control) or rule(pair.treatment)


def _is_control_near_zero(pair: Pair) -> bool:
    # |mean| < 3 SE, squared and times n²(n - 1): integers, so nothing is rounded.
    count, sum_q, _ = pair.control
    spread_q = pair.control.spread_q
    return sum_q == 0 or sum_q**2 * (count - 1) < MEAN_STD_ERRORS_MIN**2 * spread_q


def _is_warming_up(pair: Pair) -> bool:
    for count, sum_q, _ in (pair.control, pair.treatment):
        if count < BURN_IN_UNITS:
            return True
        if pair.is_rate and min(sum_q, count - sum_q) < BURN_IN_CONVERSIONS:
            return True
    return False


EDGE_RULES = (
    EdgeRule(
        "invalid_input",
        Hides.EFFECT,
        lambda pair: (
            not is_possible(pair.control, is_rate=pair.is_rate)
            or not is_possible(pair.treatment, is_rate=pair.is_rate)
        ),
    ),
    EdgeRule("no_units", Hides.EFFECT, _any_arm(lambda sums: sums.unit_count == 0)),
    EdgeRule("insufficient", Hides.EFFECT, _any_arm(lambda sums: sums.unit_count < 2)),
    EdgeRule(
        "zero_variance",
        Hides.TESTS,
        lambda pair: pair.control.spread_q == 0 == pair.treatment.spread_q,
    ),
    EdgeRule("warming_up", Hides.SEQUENCE, _is_warming_up),
    EdgeRule("undefined", Hides.RELATIVE, _is_control_near_zero),
    EdgeRule(
        "undefined",
        Hides.RELATIVE,
        lambda pair: pair.is_rate and pair.treatment.sum_q == 0,
    ),
    EdgeRule("one_variance_zero", Hides.NOTHING, _any_arm(lambda sums: sums.spread_q == 0)),
    EdgeRule("control_negative", Hides.NOTHING, lambda pair: pair.control.sum_q < 0),
)


def judge(pair: Pair) -> Verdict:
    """Return what may be shown of a comparison, by the table."""
    status, hides = "ok", Hides.NOTHING
    relative_status = "ok"
    flags: list[str] = []
    for rule in EDGE_RULES:
        if not rule.applies(pair):
            continue
        if rule.hides in (Hides.EFFECT, Hides.TESTS):
            return Verdict(rule.status, rule.hides, rule.status, ())
        if rule.hides is Hides.SEQUENCE:
            status, hides = rule.status, rule.hides
        elif rule.hides is Hides.RELATIVE:
            relative_status = rule.status
        else:
            flags.append(rule.status)
    return Verdict(status, hides, relative_status, tuple(flags))
