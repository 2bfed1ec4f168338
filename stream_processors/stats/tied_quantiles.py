"""Quantiles where totals are tied: the difference of two by inversion in rank space.

A standard error describes a quantile whose distribution is smooth around it. Where many totals are
equal, or none lie between two values, the estimate stands still or jumps: no standard error says
that. What holds there, too, is a test of "θ is the quantile": the share of totals below θ is at
most p, and the share up to θ at least p. How far a variant's shares are from that, in standard
errors of a share, is z(θ). At the true quantiles of both variants z_c² + z_t² is at most that of
two independent normals, so

- all pairs (θ_c, θ_t) with z_c² + z_t² up to the critical value of χ² with two degrees of freedom
  hold the true pair with chance 1 - alpha, and their differences are the interval;
- its least value over θ_c = θ_t, against the same law, is the test of no difference;
- the product of both variants' normal mixtures of z is an e-process for the true pair, and its
  least value over θ_c = θ_t the e-value of no difference.

So tests and intervals agree. Where the distributions are smooth, one degree of freedom would do:
these intervals are a fourth wider (12 % at N*, always valid).

References:
    Woodruff (1952), "Confidence intervals for medians and other position measures", JASA 47.
    Howard, Ramdas (2022), "Sequential estimation of quantiles with applications to A/B testing and
    best-arm identification", Bernoulli 28(3): quantiles from time-uniform bounds of ranks.
    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, arXiv 2103.06476v7: the mixture, as in
    ``sequential``.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_processors.stats.buckets import BUCKET_MAX, LOWER_EDGES, Q_MAX
from stream_processors.stats.sequential import SequentialTest, mixture_variance
from stream_processors.stats.tails import Floats

WINDOW = 4.0
"""Standard errors of the share around the quantile in which its distribution has to be smooth."""

GAP_MAX = 0.5
"""A gap of more than this share of what one standard error spans is none of a smooth density."""

GAP_CHANCE = math.exp(-4)
"""About the chance that a smooth density is taken for one with a gap, in one variant."""

NEIGHBOUR_FACTOR = 2
"""A bucket this many times as dense as both its neighbours holds totals that are equal."""

Integers = NDArray[np.int64]


class RankCurve(NamedTuple):
    """The distribution function of one variant, at the edges of buckets.

    Attributes:
        buckets: With totals, upwards; int64, shape (m,).
        shares: Of all totals, up to and with each bucket; float64, shape (m,), the last is 1.
        quantile: p, in (0, 1).
        share_error: Standard error of a share of p, > 0.
        unit_count: Units, > 0.
        freedom: Of the standard error; inf: it is the binomial's.
    """

    buckets: Integers
    shares: Floats
    quantile: float
    share_error: float
    unit_count: int
    freedom: float = math.inf

    def distances(self, buckets: Integers) -> Floats:
        """Return z of buckets: standard errors from p to the shares below and up to each."""
        shares = np.concatenate([[0.0], self.shares])
        below = shares[np.searchsorted(self.buckets, buckets, side="left")]
        up_to = shares[np.searchsorted(self.buckets, buckets, side="right")]
        away = np.maximum(below - self.quantile, self.quantile - up_to)
        return np.maximum(away, 0.0) / self.share_error

    @property
    def reach(self) -> float:
        """Return the z from which on an interval has no end on one side."""
        return min(self.quantile, 1 - self.quantile) / self.share_error


class TiedTest(NamedTuple):
    """The difference of two quantiles at one planned look.

    Attributes:
        statistic: √ of the least z_c² + z_t² at one value, with the sign of the difference.
        p_value: Of no difference, at most alpha exactly where the interval excludes 0.
        low: Lower end of the interval of the difference, in quanta.
        high: Its upper end.
    """

    statistic: float
    p_value: float
    low: float
    high: float


def edges_of(buckets: Integers) -> tuple[Floats, Floats]:
    """Return the lowest and highest total of every bucket, in quanta."""
    places = buckets + BUCKET_MAX
    last = len(LOWER_EDGES) - 1
    high = np.where(places < last, LOWER_EDGES[np.minimum(places + 1, last)] - 1, Q_MAX)
    return LOWER_EDGES[places].astype(np.float64), high.astype(np.float64)


def is_constant(curve: RankCurve) -> bool:
    """Return whether all totals are one and the same, or share a bucket."""
    return len(curve.buckets) == 1


def has_ties(curve: RankCurve) -> bool:
    """Return whether a quantile's distribution is not smooth around it. Looks at one variant only.

    Within ``WINDOW`` standard errors of the quantile's share it has

    - an atom: a bucket with more than one standard error's share of totals, of a single value, or
      beyond what it had at ``NEIGHBOUR_FACTOR`` times the density of the denser bucket beside it;
    - or a gap: values without totals over more than ``GAP_MAX`` of what one standard error of the
      share spans around it, and over more than spacings of so few totals can leave by chance.
    """
    low, high = edges_of(curve.buckets)
    return _has_atom(curve, low, high) or _has_gap(curve, low, high)


def _has_atom(curve: RankCurve, low: Floats, high: Floats) -> bool:
    reach = WINDOW * curve.share_error
    masses = np.diff(curve.shares, prepend=0.0)
    below = curve.shares - masses
    near = (curve.shares >= curve.quantile - reach) & (below <= curve.quantile + reach)
    widths = high - low + 1
    densities = masses / widths
    beside = np.zeros(len(masses))
    is_next = np.diff(curve.buckets) == 1
    beside[1:] = np.where(is_next, densities[:-1], 0.0)
    beside[:-1] = np.maximum(beside[:-1], np.where(is_next, densities[1:], 0.0))
    smooth = np.where(widths > 1, NEIGHBOUR_FACTOR * beside * widths, 0.0)
    return bool(np.any(near & (masses - smooth > curve.share_error)))


def _has_gap(curve: RankCurve, low: Floats, high: Floats) -> bool:
    error, at = curve.share_error, curve.shares[:-1]
    gaps = low[1:] - high[:-1] - 1
    near = np.flatnonzero((np.abs(at - curve.quantile) <= WINDOW * error) & (gaps > 0))
    if not near.size:
        return False
    shares = np.column_stack([np.concatenate([[0.0], at]), curve.shares]).ravel()
    values = np.column_stack([low, high]).ravel()
    left, right = np.maximum(at[near] - error, 0.0), np.minimum(at[near] + error, 1.0)
    spread = np.interp(right, shares, values) - np.interp(left, shares, values) - gaps[near]
    per_error = np.maximum(spread, 0.0) * error / (right - left)
    # Spacings are exponential: the largest of m is about (ln m - ln chance) times their mean.
    ranks = curve.quantile * (1 - curve.quantile) / error
    by_chance = (math.log(2 * WINDOW * ranks + 1) - math.log(GAP_CHANCE)) / ranks
    return bool(np.any(gaps[near] > max(GAP_MAX, by_chance) * per_error))


def fixed_reach(alpha: float, freedom: float = math.inf) -> float:
    """Return √ of what z_c² + z_t² may come to at the true pair: χ² of 2 degrees, or 2 F(2, df)."""
    if math.isinf(freedom):
        return math.sqrt(-2 * math.log(alpha))
    return math.sqrt(freedom * math.expm1(-2 * math.log(alpha) / freedom))


def tied_test(control: RankCurve, treatment: RankCurve, *, alpha: float) -> TiedTest:
    """Return test and interval of treatment - control for one planned look.

    The ends are infinite where a variant has too few totals; see ``RankCurve.reach``.

    Args:
        control: One variant.
        treatment: The other, at the same quantile.
        alpha: Error probability, in (0, 1).
    """
    freedom = min(control.freedom, treatment.freedom)
    squared, sign = _least(control, treatment, (1.0, 1.0))
    log_p = -squared / 2
    if math.isfinite(freedom):
        log_p = -freedom / 2 * math.log1p(squared / freedom)
    low, high = _ends(control, treatment, (1.0, 1.0), fixed_reach(alpha, freedom) ** 2)
    return TiedTest(sign * math.sqrt(squared), math.exp(log_p), low, high)


def tied_sequence(
    control: RankCurve, treatment: RankCurve, *, alpha: float, n_star: float
) -> SequentialTest:
    """Return test and interval of treatment - control for all looks together, in quanta.

    Args:
        control: One variant; past the burn-in (``quantiles.BURN_IN_RANK``).
        treatment: The other, at the same quantile.
        alpha: Error probability over all looks, in (0, 1).
        n_star: Units of the pair at which it is about tightest.

    Returns:
        The test, its ends infinite as in ``tied_test``; the critical value is of √(z_c² + z_t²),
        weighted by each mixture's share k / (1 + k).
    """
    rate = float(mixture_variance(alpha, n_star))
    # As if both variants had as many units: any multiple of a variant's own units is valid.
    k = [2 * one.unit_count * rate for one in (control, treatment)]
    weights = (k[0] / (1 + k[0]), k[1] / (1 + k[1]))
    penalty = (math.log1p(k[0]) + math.log1p(k[1])) / 2
    squared, _ = _least(control, treatment, weights)
    log_e = squared / 2 - penalty
    limit = 2 * (penalty - math.log(alpha))
    low, high = _ends(control, treatment, weights, limit)
    return SequentialTest(low, high, math.exp(-max(log_e, 0.0)), log_e, math.sqrt(limit))


def _least(
    control: RankCurve, treatment: RankCurve, weights: tuple[float, float]
) -> tuple[float, float]:
    """Return the least weighted z_c² + z_t² at one value of both, and the difference's sign."""
    # Between buckets with totals of either, neither is nearer to its quantile than beside them.
    buckets = np.union1d(control.buckets, treatment.buckets)
    costs = [
        weight * one.distances(buckets) ** 2
        for weight, one in zip(weights, (control, treatment), strict=True)
    ]
    at = [int(buckets[int(np.argmin(cost))]) for cost in costs]
    return float(np.min(costs[0] + costs[1])), math.copysign(1.0, at[1] - at[0])


def _ends(
    control: RankCurve, treatment: RankCurve, weights: tuple[float, float], limit: float
) -> tuple[float, float]:
    """Return the least and largest θ_t - θ_c with a weighted z_c² + z_t² of ``limit`` at most."""
    least_c, most_c = _branches(control, weights[0])
    least_t, most_t = _branches(treatment, weights[1])
    return 0.0 - _farthest(most_c, least_t, limit), _farthest(most_t, least_c, limit) + 0.0  # no -0


class _Branch(NamedTuple):
    """How far a quantile can be on one side: outwards; values are negated on the lower side."""

    costs: Floats
    values: Floats


def _branches(curve: RankCurve, weight: float) -> tuple[_Branch, _Branch]:
    costs = weight * curve.distances(curve.buckets) ** 2
    low, high = edges_of(curve.buckets)
    best = int(np.argmin(costs))
    last = len(costs) - int(np.argmin(costs[::-1]))
    beyond = (
        weight * (curve.quantile / curve.share_error) ** 2,
        weight * ((1 - curve.quantile) / curve.share_error) ** 2,
    )
    lower = _Branch(
        np.append(costs[:last][::-1], beyond[0]), np.append(-low[:last][::-1], math.inf)
    )
    upper = _Branch(np.append(costs[best:], beyond[1]), np.append(high[best:], math.inf))
    return lower, upper


def _farthest(one: _Branch, other: _Branch, limit: float) -> float:
    """Return the largest sum of values whose costs together are at most the limit."""
    allowed = one.costs <= limit
    places = np.searchsorted(other.costs, limit - one.costs[allowed], side="right") - 1
    # Both start at cost 0: the estimate itself is always inside.
    return float(np.max(one.values[allowed] + other.values[np.maximum(places, 0)]))
