"""What is kept of a metric: exact integer sums, so that order and partitioning cannot matter."""

import math
import operator
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


class JointSums(NamedTuple):
    """Sums over the units of one variant of k quantised totals each, z = (z₀, …, z_{k-1}).

    The totals of a metric are, in this order, (y) of a conversion, count or sum and (y, d) of a
    ratio or mean; with a covariate, over the units that have a pre-period, (y, x) and
    (y, d, x, w): d is the denominator, x and w are y and d before the entry.

    Attributes:
        unit_count: Units, those with totals of zero included.
        sums: Σz_i, k integers, in units of the total * 10**precision.
        products: Σz_i·z_j for i ≤ j, row by row: k(k + 1)/2 integers.
    """

    unit_count: int
    sums: tuple[int, ...]
    products: tuple[int, ...]

    @property
    def dimension(self) -> int:
        """Return k."""
        return len(self.sums)

    def plus(self, other: "JointSums") -> "JointSums":
        """Return the sums over the units of both; no unit may be in both."""
        return JointSums(
            self.unit_count + other.unit_count,
            tuple(map(operator.add, self.sums, other.sums)),
            tuple(map(operator.add, self.products, other.products)),
        )

    def minus(self, other: "JointSums") -> "JointSums":
        """Return the sums over the units that are not in ``other``, a part of these."""
        return JointSums(
            self.unit_count - other.unit_count,
            tuple(map(operator.sub, self.sums, other.sums)),
            tuple(map(operator.sub, self.products, other.products)),
        )

    def of_first(self, count: int) -> "JointSums":
        """Return the sums of the first ``count`` totals of every unit."""
        dimension = len(self.sums)
        kept, start = [], 0
        for row in range(count):
            kept.extend(self.products[start : start + count - row])
            start += dimension - row
        return JointSums(self.unit_count, self.sums[:count], tuple(kept))


def no_sums(dimension: int) -> JointSums:
    """Return the sums over no units of ``dimension`` totals."""
    return JointSums(0, (0,) * dimension, (0,) * (dimension * (dimension + 1) // 2))


def joint_sums(sums: Sums) -> JointSums:
    """Return the sums of one total in the form of those of several."""
    return JointSums(sums.unit_count, (sums.sum_q,), (sums.sum_squares_q,))


class CapSums(NamedTuple):
    """Sums of min(q, cap) over the units of one variant, for one cap of the grid.

    Attributes:
        capped_units: Units whose total exceeds the cap.
        sum_q: Σ min(q, cap).
        sum_squares_q: Σ min(q, cap)².
    """

    capped_units: int
    sum_q: int
    sum_squares_q: int


class MetricSums(NamedTuple):
    """All that is kept of one metric in one variant, on one basis (matured or open).

    Attributes:
        total: Over all units of the variant that count.
        covariates: Over those of them that have a pre-period: the total's values first, then
            the covariates. Units without one are all minus these: a stratum of their own.
        caps: One per cap of the grid, for metrics that are capped at a quantile.
        histogram: Of unit totals: log bucket → units.
        shards: Of events' values: log bucket → events, by hash of the unit, 64 of them.
    """

    total: JointSums
    covariates: JointSums | None = None
    caps: tuple[CapSums, ...] | None = None
    histogram: dict[int, int] | None = None
    shards: tuple[dict[int, int], ...] | None = None


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
