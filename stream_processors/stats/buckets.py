"""Log buckets of quantised totals: counts at their edges are exact, values are good to 0.5 %.

The edges are made by a rule over integers, so every machine, and a compiled kernel that searches
``LOWER_EDGES``, puts a total into the same bucket. Merging histograms is adding counts.

Bucket 0 holds the total 0, bucket k >= 1 the integers from the k-th edge to just below the next,
bucket -k their negatives. The edges are greedy: from a lowest value a bucket reaches up to the
largest integer b with b / a <= 201 / 199, so

- the harmonic mean 2ab / (a + b) of its ends, which stands for the bucket, differs from every
  value in it by at most (b - a) / (b + a) <= 1 / 200 of that value (0.5 %);
- no bucket is narrower than a quantum, and totals up to 99 quanta have buckets of their own,
  which makes counts exact where they are small.

References:
    Masson, Rim, Lee (2019), "DDSketch: a fast and fully-mergeable quantile sketch with
    relative-error guarantees", PVLDB 12(12): the same guarantee from logarithms of floats.
"""

from bisect import bisect_right
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RATIO_NUMERATOR, RATIO_DENOMINATOR = 201, 199
"""Highest over lowest value of a bucket is at most (1 + 1/200) / (1 - 1/200)."""

RELATIVE_ERROR = 1 / 200
"""How far a bucket's representative can be from a value in it, as a share of that value."""

Q_MAX = 2**63 - 1
"""Largest total that has a bucket; the smallest is ``-Q_MAX - 1``."""


def _positive_edges() -> list[int]:
    """Return the lowest value of every bucket of positive totals, upwards."""
    edges = [1]
    while (following := edges[-1] * RATIO_NUMERATOR // RATIO_DENOMINATOR + 1) <= Q_MAX:
        edges.append(following)
    return edges


def _lower_edges() -> NDArray[np.int64]:
    positive = _positive_edges()
    # A negative bucket mirrors a positive one, so its lowest value is the other's highest.
    negative = [1 - edge for edge in reversed(positive[1:])]
    edges = np.array([-Q_MAX - 1, *negative, 0, *positive], dtype=np.int64)
    edges.flags.writeable = False
    return edges


LOWER_EDGES = _lower_edges()
"""Lowest total of every bucket, upwards: int64, shape (2 * BUCKET_MAX + 1,), read-only.

A total q lies in bucket ``np.searchsorted(LOWER_EDGES, q, side="right") - 1 - BUCKET_MAX``, for
all of int64.
"""

BUCKET_MAX = len(LOWER_EDGES) // 2
"""Buckets are numbered ``-BUCKET_MAX`` to ``BUCKET_MAX``; they fit 16 bits."""

_LOWER_EDGES: list[int] = LOWER_EDGES.tolist()


class BucketEdges(NamedTuple):
    """Lowest and highest total of a bucket, both in it, in quanta."""

    low: int
    high: int


def bucket_of(total_q: int) -> int:
    """Return the bucket of a total in quanta.

    Raises:
        ValueError: If the total is not in the range of int64.
    """
    if not -Q_MAX - 1 <= total_q <= Q_MAX:
        raise ValueError(f"total_q == {total_q}, must be >= -2**63 and < 2**63")
    return bisect_right(_LOWER_EDGES, total_q) - 1 - BUCKET_MAX


def buckets_of(totals_q: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bucket of every total: int64 in, int64 of the same shape out."""
    return np.searchsorted(LOWER_EDGES, totals_q, side="right") - (1 + BUCKET_MAX)


def bucket_edges(bucket: int) -> BucketEdges:
    """Return the lowest and the highest total of a bucket, both included, in quanta.

    Raises:
        ValueError: If there is no such bucket.
    """
    index = _index(bucket)
    high = _LOWER_EDGES[index + 1] - 1 if bucket < BUCKET_MAX else Q_MAX
    return BucketEdges(_LOWER_EDGES[index], high)


def bucket_value(bucket: int, precision: int) -> float:
    """Return what stands for the totals of a bucket, in metric units.

    Args:
        bucket: Its number, ``-BUCKET_MAX`` to ``BUCKET_MAX``.
        precision: Decimal digits kept when the values were quantised, >= 0.

    Returns:
        The float nearest to the harmonic mean of the bucket's ends: within 0.5 % of every total
        in it, and the total itself where the bucket holds only one.

    Raises:
        ValueError: If there is no such bucket.
    """
    low, high = bucket_edges(bucket)
    if low == high:
        return low / int(10**precision)
    return 2 * low * high / ((low + high) * int(10**precision))


def _index(bucket: int) -> int:
    if not -BUCKET_MAX <= bucket <= BUCKET_MAX:
        raise ValueError(f"bucket == {bucket}, must be >= {-BUCKET_MAX} and <= {BUCKET_MAX}")
    return bucket + BUCKET_MAX
