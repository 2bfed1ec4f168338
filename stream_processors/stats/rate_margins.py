"""Two rates against a margin: the score test, which needs no conversions to work.

The plain interval's standard error is 0 when nobody converted, as it should be for crashes; the
score test takes the variance that the *margin* would imply, and stays right with a few units.
"""

import math
from typing import NamedTuple

from scipy import special

from stream_processors.stats.proportions import Rate
from stream_processors.stats.roots import root_between


class MarginRates(NamedTuple):
    """The most likely rates of control and treatment that differ by a given amount."""

    control: float
    treatment: float


def rates_that_differ(control: Rate, treatment: Rate, difference: float) -> MarginRates:
    """Return the maximum likelihood under "treatment - control == difference".

    Args:
        control: At least one unit.
        treatment: At least one unit.
        difference: In (-1, 1).

    References:
        Miettinen, Nurminen (1985), Statistics in Medicine 4, appendix: the root of a cubic.
    """
    theta = control.unit_count / treatment.unit_count
    p_t, p_c = treatment.value, control.value
    a = 1 + theta
    b = -(1 + theta + p_t + theta * p_c + difference * (theta + 2))
    c = difference**2 + difference * (2 * p_t + theta + 1) + p_t + theta * p_c
    d = -p_t * difference * (1 + difference)
    v = (b / (3 * a)) ** 3 - b * c / (6 * a * a) + d / (2 * a)
    u = math.copysign(math.sqrt(max(0.0, (b / (3 * a)) ** 2 - c / (3 * a))), v)
    turn = 1.0 if u == 0 else min(1.0, max(-1.0, v / u**3))
    rate = 2 * u * math.cos((math.pi + math.acos(turn)) / 3) - b / (3 * a)
    # Rounding may leave the square of possible rates by 1e-17.
    rate = min(max(rate, 0.0, difference), 1.0, 1.0 + difference)
    return MarginRates(rate - difference, rate)


def rates_in_ratio(control: Rate, treatment: Rate, ratio: float) -> MarginRates:
    """Return the maximum likelihood under "treatment == ratio * control".

    Args:
        control: At least one unit.
        treatment: At least one unit.
        ratio: Finite; at 0 or below only a treatment of 0 is possible.

    References:
        Farrington, Manning (1990), Statistics in Medicine 9, 1447-1454: the root of a quadratic.
    """
    if ratio <= 0:
        return MarginRates(control.value if ratio == 0 else 0.0, 0.0)
    units = control.unit_count + treatment.unit_count
    converted = control.conversion_count + treatment.conversion_count
    b = (
        treatment.conversion_count
        + ratio * control.conversion_count
        + ratio * treatment.unit_count
        + control.unit_count
    )
    root = math.sqrt(max(0.0, b * b - 4 * ratio * units * converted))
    rate = min(2 * converted / (b + root), 1.0, 1 / ratio)
    return MarginRates(rate, min(1.0, ratio * rate))


def score_statistic(control: Rate, treatment: Rate, difference: float) -> float:
    """Return z of "treatment - control == difference"; infinite where only that is impossible.

    References:
        Farrington, Manning (1990), Statistics in Medicine 9, without a continuity correction.
    """
    rates = rates_that_differ(control, treatment, difference)
    variance = (
        rates.control * (1 - rates.control) / control.unit_count
        + rates.treatment * (1 - rates.treatment) / treatment.unit_count
    )
    distance = treatment.value - control.value - difference
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def score_bounds(control: Rate, treatment: Rate, *, alpha: float) -> tuple[float, float]:
    """Return both one-sided bounds of treatment - control: the differences that are not rejected.

    Args:
        control: At least one unit.
        treatment: At least one unit.
        alpha: Error probability of *each* bound, in (0, 1/2).
    """
    z = -float(special.ndtri(alpha))
    difference = treatment.value - control.value
    edge = 1 - 1e-12

    def low_excess(one: float) -> float:
        return score_statistic(control, treatment, one) - z

    def high_excess(one: float) -> float:
        return score_statistic(control, treatment, one) + z

    low, high = -1.0, 1.0
    if difference > -edge and low_excess(-edge) > 0:
        low = root_between(low_excess, -edge, difference, xtol=1e-14)
    if difference < edge and high_excess(edge) < 0:
        high = root_between(high_excess, difference, edge, xtol=1e-14)
    return low, high
