"""Quantiles and tails of the normal and of Student's t, accurate far out.

Tails are never 1 - cdf: that is 0 from z of about 8.3 on, where the truth is not.
"""

import math
from functools import lru_cache

from scipy import special


def two_sided_normal_p_value(z: float) -> float:
    """Return P(|Z| >= |z|) of a standard normal."""
    return math.erfc(abs(z) / math.sqrt(2))


def two_sided_t_p_value(t: float, degrees_of_freedom: float) -> float:
    """Return P(|T| >= |t|) of Student's t, by the regularised incomplete beta function."""
    return min(1.0, 2.0 * float(special.stdtr(degrees_of_freedom, -abs(t))))


def chi_square_p_value(chi_square: float, degrees_of_freedom: int) -> float:
    """Return P(X >= chi_square), by the regularised upper incomplete gamma function."""
    return float(special.gammaincc(degrees_of_freedom / 2, chi_square / 2))


@lru_cache(maxsize=256)
def normal_critical_value(alpha: float) -> float:
    """Return z with P(|Z| >= z) == alpha."""
    return -float(special.ndtri(alpha / 2))


def t_critical_value(alpha: float, degrees_of_freedom: float) -> float:
    """Return t with P(|T| >= t) == alpha."""
    return -float(special.stdtrit(degrees_of_freedom, alpha / 2))
