"""What is kept of a metric: exact integer sums, so that order and partitioning cannot matter."""

import operator
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np

from stream_processors.stats.tails import plain


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

    @property
    def spread(self) -> "Spread":
        """Return n(n - 1) times the covariances: exact integers."""
        count, sums, products = self
        # One total and two are nearly all there is: no loop for them.
        if len(sums) == 1:
            return Spread(count, 1, (count * products[0] - sums[0] * sums[0],))
        if len(sums) == 2:
            (y, d), (yy, yd, dd) = sums, products
            return Spread(count, 2, (count * yy - y * y, count * yd - y * d, count * dd - d * d))
        # In the order of the products: (0, 0), (0, 1), …, (1, 1), …
        pairs = combinations_with_replacement(sums, 2)
        central = [
            count * product - one * other
            for product, (one, other) in zip(products, pairs, strict=True)
        ]
        return Spread(count, len(sums), tuple(central))

    def checked_spread(self) -> "Spread | None":
        """Return the spread, or None if no set of units has these sums."""
        count, sums, products = self
        dimension = len(sums)
        if count < 0 or len(products) != dimension * (dimension + 1) // 2:
            return None
        if count == 0:
            nothing = not any(sums) and not any(products)
            return Spread(0, dimension, products) if nothing else None
        spread = self.spread
        return spread if spread.is_semidefinite else None

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
        kept: list[int] = []
        start = 0
        for row in range(count):
            kept.extend(self.products[start : start + count - row])
            start += dimension - row
        return JointSums(self.unit_count, self.sums[:count], tuple(kept))


class Spread(NamedTuple):
    """How the totals of a variant's units vary together, in exact integers.

    Attributes:
        unit_count: Units.
        dimension: Totals per unit.
        products: n Σz_i·z_j - Σz_i·Σz_j for i ≤ j, row by row: n(n - 1) times the covariances.
    """

    unit_count: int
    dimension: int
    products: tuple[int, ...]

    @property
    def is_semidefinite(self) -> bool:
        """Return whether the totals of any units vary like this: no negative eigenvalue.

        References:
            Bareiss (1968), "Sylvester's identity and multistep integer-preserving Gaussian
            elimination", Mathematics of Computation 22; a zero pivot demands a row of zeros.
        """
        dimension, upper = self.dimension, self.products
        if dimension == 1:
            return upper[0] >= 0
        if dimension == 2:
            one, both, other = upper
            return one >= 0 <= other and one * other >= both * both
        if dimension == 4 and _is_clearly_definite(upper):
            return True
        rows, start = [], 0
        for row in range(dimension):
            rows.append(list(upper[start : start + dimension - row]))
            start += dimension - row
        divisor = 1
        while rows:
            first, *rows = rows
            pivot = first[0]
            if pivot < 0 or (pivot == 0 and any(first)):
                return False
            if pivot == 0:
                continue
            for row, entries in enumerate(rows, start=1):
                factor = first[row]
                for column, entry in enumerate(entries, start=row):
                    entries[column - row] = (pivot * entry - factor * first[column]) // divisor
            divisor = pivot
        return True


PIVOT_SHARE_MIN = 1e-3
"""Pivots above this share of their diagonal entry prove a matrix of four totals definite.

Scaled to ones on the diagonal, the factors' product has a determinant above PIVOT_SHARE_MIN³ and
so an eigenvalue of at least (3/4)³ of that, 4 · 10⁻¹⁰; rounding of entries and elimination moves
eigenvalues by less than 10⁻¹⁴ (Higham 2002, "Accuracy and Stability of Numerical Algorithms",
theorem 10.5). What is nearer to 0 is for integers to decide.
"""


def _is_clearly_definite(upper: tuple[int, ...]) -> bool:
    """Return whether floats suffice to see that a 4 x 4 matrix is positive definite."""
    try:
        aa, ab, ac, ad, bb, bc, bd, cc, cd, dd = map(float, upper)
    except OverflowError:
        return False
    least = PIVOT_SHARE_MIN
    if aa <= 0:
        return False
    by_b, by_c, by_d = ab / aa, ac / aa, ad / aa
    pivot = bb - by_b * ab
    if not pivot > least * bb > 0:
        return False
    bc -= by_b * ac
    bd -= by_b * ad
    by_cc, by_dd = bc / pivot, bd / pivot
    pivot = cc - by_c * ac - by_cc * bc
    if not pivot > least * cc > 0:
        return False
    cd -= by_c * ad + by_cc * bd
    return dd - by_d * ad - by_dd * bd - cd * cd / pivot > least * dd > 0


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
    """Mean and variance of the values of one variant; numbers, or arrays of one shape.

    Attributes:
        unit_count: Units, >= 2.
        mean: In metric units per unit.
        variance: Of the values, with n - 1 in the denominator; metric units squared, >= 0.
    """

    unit_count: Any
    mean: Any
    variance: Any

    @property
    def mean_variance(self) -> Any:
        """Return the variance of the mean: the squared standard error."""
        return self.variance / self.unit_count

    @property
    def std_error(self) -> Any:
        """Return the standard error of the mean."""
        return plain(np.sqrt(self.mean_variance))


class Form(NamedTuple):
    """Σ coefficient_i · z_i / denominator, with the totals z of a unit in quanta."""

    coefficients: tuple[int, ...]
    denominator: int


class Share(NamedTuple):
    """A ratio of two integers: a mean, or a ratio of means. The denominator is not 0."""

    numerator: int
    denominator: int

    @property
    def value(self) -> float:
        """Return the nearest float."""
        return self.numerator / self.denominator

    def minus(self, other: "Share") -> "Share":
        """Return the difference, exactly."""
        return Share(
            self.numerator * other.denominator - other.numerator * self.denominator,
            self.denominator * other.denominator,
        )


def covariance(spread: Spread, one: Form, other: Form) -> float:
    """Return the covariance of two forms over the units, n - 1 in the denominator.

    Args:
        spread: Of at least two units; of as many totals as the forms have coefficients, or more:
            what a form does not name has coefficient 0.
        one: A form.
        other: The same form for its variance.

    Returns:
        The float nearest to the exact value.
    """
    count = spread.unit_count
    scale = one.denominator * other.denominator * (count * (count - 1))
    return bilinear(spread, one, other) / scale


def bilinear(spread: Spread, one: Form, other: Form) -> int:
    """Return n(n - 1) times both denominators times the covariance: an integer."""
    first, second = one.coefficients, other.coefficients
    _, dimension, central = spread
    if len(first) == len(second) == 1:
        return first[0] * second[0] * central[0]
    if dimension == 2 == len(first) == len(second):
        (a, b), (c, d) = first, second
        return a * c * central[0] + (a * d + b * c) * central[1] + b * d * central[2]
    first += (0,) * (dimension - len(first))
    second += (0,) * (dimension - len(second))
    total, position = 0, 0
    for row in range(dimension):
        a, b = first[row], second[row]
        after = position + dimension - row
        if a or b:
            # The row's inner sums first, so that the longest integers are multiplied once.
            tail = central[position + 1 : after]
            with_a = sum(map(operator.mul, second[row + 1 :], tail))
            if one is other:
                total += a * (a * central[position] + 2 * with_a)
            else:
                with_b = sum(map(operator.mul, first[row + 1 :], tail))
                total += a * (b * central[position] + with_a) + b * with_b
        position = after
    return total


def quanta(precision: int) -> int:
    """Return how many quanta make one metric unit."""
    return int(10**precision)


def sample_mean(sums: Sums, precision: int) -> float:
    """Return the float nearest to the mean of the values. At least one unit."""
    return Share(sums.sum_q, sums.unit_count * quanta(precision)).value


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
    if sums.spread_q < 0:
        raise ValueError(f"sums == {sums}, must be sums of real values")
    value = Form((1,), quanta(precision))
    return covariance(joint_sums(sums).spread, value, value)


def moments(sums: Sums, precision: int) -> Moments:
    """Return mean and variance. At least two units."""
    mean = sample_mean(sums, precision)
    return Moments(sums.unit_count, mean, sample_variance(sums, precision))


def difference_of_means(control: Sums, treatment: Sums, precision: int) -> float:
    """Return treatment mean - control mean, rounded once.

    Taken from the integers, because the difference of two rounded means of 10⁹ has lost digits.
    """
    shares = (Share(one.sum_q, one.unit_count * quanta(precision)) for one in (treatment, control))
    return next(shares).minus(next(shares)).value
