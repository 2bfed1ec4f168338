"""How broken must a split be to be seen? Power and size of the sample ratio test."""

import math
from collections.abc import Sequence

from scipy import special

from stream_processors.stats.sample_ratio import MISMATCH_ALPHA


def noncentrality_per_unit(planned: Sequence[float], actual: Sequence[float]) -> float:
    """Return Σ (p - p₀)² / p₀ of the actual shares against the planned ones.

    Args:
        planned: Weights in any scale, > 0.
        actual: The same variants' shares in truth, in any scale, >= 0.

    Raises:
        ValueError: If the variants are not the same, or a planned weight is not above 0.
    """
    if len(planned) != len(actual) or len(planned) < 2 or min(planned) <= 0 or min(actual) < 0:
        raise ValueError("planned and actual must be shares of the same two or more variants")
    wanted, found = math.fsum(planned), math.fsum(actual)
    return math.fsum(
        (real / found - plan / wanted) ** 2 / (plan / wanted)
        for plan, real in zip(planned, actual, strict=True)
    )


def sample_ratio_power(
    units: float,
    planned: Sequence[float],
    actual: Sequence[float],
    *,
    alpha: float = MISMATCH_ALPHA,
) -> float:
    """Return the probability that χ² raises the alarm at one look.

    Args:
        units: Of all variants.
        planned: Weights in any scale.
        actual: What the shares are in truth; with 1 % of the treatment's units lost (1, 0.99).
        alpha: Level of the alarm.

    References:
        Cohen (1988), ch. 7: noncentral χ² with N Σ (p - p₀)² / p₀.

    Example:
        >>> round(sample_ratio_power(2_000_000, (1, 1), (1, 0.99)), 4)
        0.9999
    """
    freedom = len(planned) - 1
    critical = float(special.chdtri(freedom, alpha))
    return 1 - float(
        special.chndtr(critical, freedom, units * noncentrality_per_unit(planned, actual))
    )


def sample_ratio_units(
    planned: Sequence[float],
    actual: Sequence[float],
    *,
    power: float = 0.99,
    alpha: float = MISMATCH_ALPHA,
) -> float:
    """Return the units of all variants at which the alarm is raised with a probability.

    Raises:
        ValueError: If the shares are as planned: then no number of units is enough.
    """
    distance = noncentrality_per_unit(planned, actual)
    if distance == 0:
        raise ValueError("actual == planned: there is nothing to see")
    freedom = len(planned) - 1
    critical = float(special.chdtri(freedom, alpha))
    return float(special.chndtrinc(critical, freedom, 1 - power)) / distance
