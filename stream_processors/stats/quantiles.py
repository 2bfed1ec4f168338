"""Quantiles of a metric in one variant, from counts in log buckets.

Counts at the edges of buckets are exact, so the share of totals below an edge is the sample's own.
Inside a bucket, one percent wide, the distribution is taken as uniform: an estimate is then at
most one bucket from the sample's quantile and nearly always far closer, and it moves smoothly with
the data. Values that merely stand for buckets would jump: two equal arms on either side of an edge
would differ by a percent, with a narrow standard error. A bucket of a single integer is not
smoothed: there the estimate is that very total.

Standard errors are half an interval over its critical value (Woodruff), never less than a bucket's
width allows. Intervals of one arm are conservative: outwards to the edges of buckets.

References:
    Woodruff (1952), "Confidence intervals for medians and other position measures", JASA 47.
    Deng, Knoblich, Lu (2018), "Applying the delta method in metric analytics", KDD, section 4.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from stream_processors.stats.buckets import BUCKET_MAX, bucket_edges
from stream_processors.stats.edges import BURN_IN_UNITS
from stream_processors.stats.sums import quanta
from stream_processors.stats.tails import normal_critical_value, t_critical_value
from stream_processors.stats.tied_quantiles import RankCurve, fixed_reach, has_ties, is_constant

BURN_IN_RANK = 30
"""Totals expected on either side of a quantile, in each arm, before a sequence of it starts."""

FILLED_SHARDS_MIN = 32
"""Shards with events that a variance between shards needs; about 45 units fill so many of 64."""


class Ranks(NamedTuple):
    """Order statistics at the ends of an interval; 0 and n + 1 do not exist: no bound there."""

    low: int
    high: int


class ArmQuantile(NamedTuple):
    """A quantile of one variant. What is None is so for the reason in ``status``.

    Attributes:
        status: ``ok``; ``invalid_input`` (a negative count, or no such bucket); ``no_units`` (for
            events: no events); ``insufficient`` (one unit, or events in too few shards);
            ``unbounded`` (too few units for an interval with two ends at this quantile: ``low`` or
            ``high`` is None, and so is ``std_error``).
        size: What the quantile is of: units, or events.
        estimate: In metric units: the inverted distribution function, uniform within buckets.
        low: Lower end of the interval, an edge of a bucket; None if it has none.
        high: Its upper end.
        std_error: Of the estimate, >= 0; 0 where the whole interval is one single total.
        degrees_of_freedom: Of the standard error: n - 1, or shards - 1.
        is_bucket_limited: Whether the bucket's width, not the sample's size, gives ``std_error``.
        is_warm: Whether there is enough for a sequence to start.
        design_effect: Variance of the share below the quantile over that of as many independent
            events; None for quantiles of units.
        is_tied: Whether totals are tied at the quantile: ``std_error`` then says too little, and
            differences are for ``tied_quantiles``.
        curve: For those; None where there is no interval with two ends.
    """

    status: str
    size: int
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    std_error: float | None = None
    degrees_of_freedom: int | None = None
    is_bucket_limited: bool = False
    is_warm: bool = False
    design_effect: float | None = None
    is_tied: bool = False
    curve: RankCurve | None = None


def unit_quantile(
    histogram: Mapping[int, int], *, quantile: float, precision: int, alpha: float
) -> ArmQuantile:
    """Return a quantile of unit totals, with the interval of exact binomial order statistics.

    Args:
        histogram: Bucket of ``buckets`` → units whose total lies in it, zeros included.
        quantile: In (0, 1), read as the decimal number that it is written as.
        precision: Decimal digits kept when the values were quantised.
        alpha: Error probability of the interval, in (0, 1).

    Raises:
        ValueError: If quantile or alpha is not in (0, 1).
    """
    _check(quantile, alpha)
    counts = _Counts.of(histogram)
    if counts is None:
        return ArmQuantile("invalid_input", sum(histogram.values()))
    n = counts.total
    if n == 0:
        return ArmQuantile("no_units", 0)
    point = counts.at(_exact(quantile) * n, precision)
    if n < 2:
        return ArmQuantile("insufficient", n, point.value)
    ranks = order_statistic_ranks(n, quantile=quantile, alpha=alpha)
    z = normal_critical_value(alpha)
    reach = z * math.sqrt(n * quantile * (1 - quantile))
    arm = _with_interval(counts, point, ranks, (quantile * n, reach, z), precision)
    is_warm = n >= BURN_IN_UNITS and _is_rank_warm(n, quantile)
    arm = arm._replace(degrees_of_freedom=n - 1, is_warm=is_warm)
    share_error = math.sqrt(quantile * (1 - quantile) / n)
    return _with_ties(arm, _curve(counts, quantile, share_error, n), alpha)


def event_quantile(
    shards: Sequence[Mapping[int, int]],
    *,
    unit_count: int,
    quantile: float,
    precision: int,
    alpha: float,
) -> ArmQuantile:
    """Return a quantile of event values, whose events cluster in units.

    Args:
        shards: By shard of the units' hash: bucket of ``buckets`` → events. A unit's events are
            all in one shard; shards without events count too.
        unit_count: Units of the variant.
        quantile: In (0, 1), read as the decimal number that it is written as.
        precision: Decimal digits kept when the values were quantised.
        alpha: Error probability of the interval, in (0, 1).

    Raises:
        ValueError: If quantile or alpha is not in (0, 1), or there are fewer than two shards.

    References:
        Woodruff's interval (1952) with the variance between random groups: Wolter (2007),
        "Introduction to Variance Estimation", chapter 2. Student's t with shards - 1 degrees.
    """
    _check(quantile, alpha)
    if len(shards) < 2:
        raise ValueError(f"len(shards) == {len(shards)}, must be >= 2")
    events = _ShardedCounts.of(shards)
    if events is None:
        return ArmQuantile("invalid_input", sum(sum(shard.values()) for shard in shards))
    counts, n = events.counts, events.counts.total
    if n == 0:
        return ArmQuantile("no_units", 0)
    point = counts.at(_exact(quantile) * n, precision)
    below, totals = events.below(point), events.totals
    if np.count_nonzero(totals) < min(FILLED_SHARDS_MIN, len(shards)):
        return ArmQuantile("insufficient", n, point.value)
    share_error = random_group_std_error(below, totals)
    t = t_critical_value(alpha, len(shards) - 1)
    centre, reach = quantile * n, t * share_error * n
    low, high = math.ceil(centre - reach), math.ceil(centre + reach)
    ranks = Ranks(max(low, 0), min(high, n + 1))
    arm = _with_interval(counts, point, ranks, (centre, reach, t), precision)
    binomial = quantile * (1 - quantile) / n
    arm = arm._replace(
        degrees_of_freedom=len(shards) - 1,
        is_warm=unit_count >= BURN_IN_UNITS and _is_rank_warm(n, quantile),
        design_effect=share_error**2 / binomial,
    )
    error = math.sqrt(binomial * max(events.design_effects(point), default=1.0))
    curve = _curve(counts, quantile, error, unit_count, freedom=len(shards) - 1)
    return _with_ties(arm, curve, alpha)


def order_statistic_ranks(n: int, *, quantile: float, alpha: float) -> Ranks:
    """Return the ranks, from 1, of the order statistics that enclose a quantile.

    The lower one is the highest, the upper one the lowest, that miss it with a chance of at most
    alpha / 2 each; as ``scipy.stats.quantile_test`` does.

    Args:
        n: Observations, >= 1, independent.
        quantile: In (0, 1).
        alpha: Error probability of the interval, in (0, 1).

    References:
        Conover (1999), "Practical Nonparametric Statistics", section 3.2.
    """
    tail = alpha / 2
    # Cornish and Fisher put both within a step or two; exact tails decide.
    spread = math.sqrt(n * quantile * (1 - quantile))
    z = normal_critical_value(alpha)
    skew = (1 - 2 * quantile) * (z * z - 1) / 6
    low = min(max(math.floor(n * quantile - z * spread + skew), 0), n)
    while low > 0 and _at_most(low - 1, n, quantile) > tail:
        low -= 1
    while low < n and _at_most(low, n, quantile) <= tail:
        low += 1
    high = min(max(math.ceil(n * quantile + z * spread + skew) + 1, 1), n + 1)
    while high <= n and _at_least(high, n, quantile) > tail:
        high += 1
    while high > 1 and _at_least(high - 1, n, quantile) <= tail:
        high -= 1
    return Ranks(low, high)


def random_group_std_error(below: NDArray[np.float64], totals: NDArray[np.float64]) -> float:
    """Return the standard error of a share Σ below / Σ totals, from the spread between groups.

    Args:
        below: Events below the quantile in each group, float64, shape (groups,).
        totals: Events in each group, the same shape; at least one event in all.

    References:
        √(G / (G - 1) · Σ (S_g - F·M_g)²) / M, with F = S / M: the linearised ratio.
    """
    groups, total = len(totals), float(totals.sum())
    residuals = below - below.sum() / total * totals
    return math.sqrt(groups / (groups - 1) * float(residuals @ residuals)) / total


class _Point(NamedTuple):
    """Where a rank falls: the value there, its bucket, the share of it below, its width."""

    value: float
    bucket: int
    share: float
    width: float


class _Counts(NamedTuple):
    """A histogram, sorted: buckets with counts above 0, and counts up to and with each."""

    buckets: NDArray[np.int64]
    cumulative: NDArray[np.int64]

    @classmethod
    def of(cls, histogram: Mapping[int, int]) -> "_Counts | None":
        size = len(histogram)
        buckets = np.fromiter(histogram.keys(), np.int64, size)
        counts = np.fromiter(histogram.values(), np.int64, size)
        if not _are_possible(buckets, counts):
            return None
        order = np.argsort(buckets)
        order = order[counts[order] > 0]
        return cls(buckets[order], np.cumsum(counts[order]))

    @property
    def total(self) -> int:
        return int(self.cumulative[-1]) if len(self.cumulative) else 0

    def bucket_at(self, rank: int) -> int:
        """Return the bucket of an order statistic, 1 to n."""
        return int(self.buckets[np.searchsorted(self.cumulative, rank)])

    def at(self, rank: Fraction | float, precision: int) -> _Point:
        """Return the point below which ``rank`` of the counts lie, 0 < rank <= n."""
        index = int(np.searchsorted(self.cumulative, math.ceil(rank)))
        bucket = int(self.buckets[index])
        low, high = bucket_edges(bucket)
        if low == high:
            return _Point(low / quanta(precision), bucket, 1.0, 0.0)
        before = int(self.cumulative[index - 1]) if index else 0
        share = float((rank - before) / (int(self.cumulative[index]) - before))
        # An integer stands for all values that are rounded to it.
        width = high - low + 1
        value = (low - 0.5 + share * width) / quanta(precision)
        return _Point(value, bucket, share, width / quanta(precision))


class _ShardedCounts(NamedTuple):
    """Counts by shard and bucket, one row for each that occurs, and their histogram."""

    counts: _Counts
    totals: NDArray[np.float64]
    row_shard: NDArray[np.int64]
    row_bucket: NDArray[np.int64]
    row_count: NDArray[np.float64]

    @classmethod
    def of(cls, shards: Sequence[Mapping[int, int]]) -> "_ShardedCounts | None":
        sizes = [len(shard) for shard in shards]
        size = sum(sizes)
        buckets = np.fromiter(chain.from_iterable(shards), np.int64, size)
        values = chain.from_iterable(shard.values() for shard in shards)
        counts = np.fromiter(values, np.int64, size)
        if not _are_possible(buckets, counts):
            return None
        merged = np.zeros(2 * BUCKET_MAX + 1, dtype=np.int64)
        np.add.at(merged, buckets + BUCKET_MAX, counts)
        filled = np.flatnonzero(merged)
        rows = np.repeat(np.arange(len(shards)), sizes)
        weights = counts.astype(np.float64)
        return cls(
            counts=_Counts(filled - BUCKET_MAX, np.cumsum(merged[filled])),
            totals=np.bincount(rows, weights, len(shards)).astype(np.float64),
            row_shard=rows,
            row_bucket=buckets,
            row_count=weights,
        )

    def below(self, point: _Point) -> NDArray[np.float64]:
        """Return each shard's events below a point: of its bucket, the same share everywhere."""
        share = (self.row_bucket < point.bucket) + point.share * (self.row_bucket == point.bucket)
        counts = np.bincount(self.row_shard, share * self.row_count, len(self.totals))
        return counts.astype(np.float64)

    def design_effects(self, point: _Point) -> list[float]:
        """Return those of the shares below a point's bucket and up to it, where there are any.

        The share at the point itself is of no use where half of all events are equal there: it is
        at the bucket's edges that ties are told from others.
        """
        n, found = self.counts.total, []
        for share in (0.0, 1.0):
            below = self.below(point._replace(share=share))
            part = float(below.sum()) / n
            if 0 < part < 1:
                error = random_group_std_error(below, self.totals)
                found.append(error**2 * n / (part * (1 - part)))
        return found


def _curve(
    counts: _Counts, quantile: float, share_error: float, units: int, *, freedom: float = math.inf
) -> RankCurve:
    shares = counts.cumulative / counts.total
    return RankCurve(counts.buckets, shares, quantile, share_error, units, freedom)


def _with_ties(arm: ArmQuantile, curve: RankCurve, alpha: float) -> ArmQuantile:
    """Return the arm with its ties; ``unbounded`` where ranks alone give no two ends."""
    if arm.status != "ok":
        return arm
    # Of a constant nothing but its value is known, and of that everything.
    is_tied = not is_constant(curve) and has_ties(curve)
    if is_tied and fixed_reach(alpha, curve.freedom) >= curve.reach:
        return arm._replace(status="unbounded", std_error=None)
    return arm._replace(is_tied=is_tied, curve=curve)


def _with_interval(
    counts: _Counts,
    point: _Point,
    ranks: Ranks,
    reach: tuple[float, float, float],
    precision: int,
) -> ArmQuantile:
    """Return estimate, interval and standard error.

    ``reach`` is the rank of the quantile, how far the interval of ranks reaches on either side,
    and the critical value in that.
    """
    n = counts.total
    low = high = std_error = None
    is_bucket_limited = False
    if ranks.low >= 1:
        low = bucket_edges(counts.bucket_at(ranks.low)).low / quanta(precision)
    if ranks.high <= n:
        high = bucket_edges(counts.bucket_at(ranks.high)).high / quanta(precision)
    centre, rank_reach, critical = reach
    is_bounded = low is not None and high is not None
    if is_bounded and centre - rank_reach > 0 and centre + rank_reach <= n:
        upper = counts.at(centre + rank_reach, precision).value
        width = upper - counts.at(centre - rank_reach, precision).value
        is_bucket_limited = width < point.width
        std_error = max(width, point.width) / (2 * critical)
    return ArmQuantile(
        "ok" if std_error is not None else "unbounded",
        n,
        point.value,
        low,
        high,
        std_error,
        is_bucket_limited=is_bucket_limited,
    )


def _are_possible(buckets: NDArray[np.int64], counts: NDArray[np.int64]) -> bool:
    return not len(counts) or bool(counts.min() >= 0 and np.abs(buckets).max() <= BUCKET_MAX)


def _at_most(k: int, n: int, p: float) -> float:
    """Return P(B <= k) of a binomial, 0 <= k < n."""
    return float(special.betainc(n - k, k + 1, 1 - p))


def _at_least(k: int, n: int, p: float) -> float:
    """Return P(B >= k) of a binomial, 1 <= k <= n."""
    return float(special.betainc(k, n - k + 1, p))


def _is_rank_warm(n: int, quantile: float) -> bool:
    return n * min(quantile, 1 - quantile) >= BURN_IN_RANK


@lru_cache(maxsize=256)
def _exact(quantile: float) -> Fraction:
    """Return the decimal number that the float was written as: 0.9, not 0.90000000000000002."""
    return Fraction(repr(float(quantile)))


def _check(quantile: float, alpha: float) -> None:
    for name, value in (("quantile", quantile), ("alpha", alpha)):
        if not 0 < value < 1:
            raise ValueError(f"{name} == {value}, must be > 0 and < 1")
