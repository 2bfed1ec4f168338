"""What is kept of a metric: exact integer sums, so that order and partitioning cannot matter."""

import math
from typing import NamedTuple


class Sums(NamedTuple):
    """Sums over the units of one variant; a value is stored as ``rint(value * 10**precision)``.

    Attributes:
        unit_count: Units, those with a value of zero included.
        sum_q: Sum of the quantised values, in metric units * 10**precision.
        sum_squares_q: Sum of their squares, in metric units squared * 10**(2 * precision).
    """

    unit_count: int = 0
    sum_q: int = 0
    sum_squares_q: int = 0

    @property
    def spread_q(self) -> int:
        """Return n Σq² - (Σq)², the exact integer in every variance; negative: no such values."""
        return self.unit_count * self.sum_squares_q - self.sum_q**2


class Moments(NamedTuple):
    """Mean and variance of the values of one variant.

    Attributes:
        unit_count: Units, >= 2.
        mean: In metric units per unit.
        variance: Of the values, with n - 1 in the denominator; metric units squared, >= 0.
    """

    unit_count: int
    mean: float
    variance: float

    @property
    def mean_variance(self) -> float:
        """Return the variance of the mean: the squared standard error."""
        return self.variance / self.unit_count

    @property
    def std_error(self) -> float:
        """Return the standard error of the mean."""
        return math.sqrt(self.mean_variance)


def quanta(precision: int) -> int:
    """Return how many quanta make one metric unit."""
    return int(10**precision)


def sample_mean(sums: Sums, precision: int) -> float:
    """Return the float nearest to the mean of the values. At least one unit."""
    return sums.sum_q / (sums.unit_count * quanta(precision))


def sample_variance(sums: Sums, precision: int) -> float:
    """Return the unbiased variance of the per-unit values.

    Args:
        sums: Sums over one variant. At least two units.
        precision: Decimal digits kept when the values were quantised, >= 0.

    Returns:
        Variance of the *values*, in metric units squared, >= 0. The result is the float nearest
        to the exact one: every step before the last is integer.

    Raises:
        ValueError: If there are fewer than two units, or no set of values has these sums.

    References:
        The "textbook algorithm" of Chan, Golub, LeVeque (1983), "Algorithms for Computing the
        Sample Variance", The American Statistician 37(3). It cancels badly in floats, which is
        what that paper is about, and not at all in integers.

    Example:
        >>> sample_variance(Sums(2, 400, 150**2 + 250**2), precision=2)  # 1.50 and 2.50
        0.5
    """
    if sums.unit_count < 2:
        raise ValueError(f"unit_count == {sums.unit_count}, must be >= 2")
    spread_q = sums.spread_q
    if spread_q < 0:
        raise ValueError(f"sums == {sums}, must be sums of real values")
    return spread_q / (sums.unit_count * (sums.unit_count - 1) * quanta(precision) ** 2)


def moments(sums: Sums, precision: int) -> Moments:
    """Return mean and variance. At least two units."""
    mean = sample_mean(sums, precision)
    return Moments(sums.unit_count, mean, sample_variance(sums, precision))


def difference_of_means(control: Sums, treatment: Sums, precision: int) -> float:
    """Return treatment mean - control mean, rounded once.

    Taken from the integers, because the difference of two rounded means of 10⁹ has lost digits.
    """
    crossed = treatment.sum_q * control.unit_count - control.sum_q * treatment.unit_count
    return crossed / (control.unit_count * treatment.unit_count * quanta(precision))
