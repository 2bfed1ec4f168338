"""Bucket edges are integers of a rule, the same on every machine, and their error is bounded."""

import hashlib
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_processors.stats.buckets import (
    BUCKET_MAX,
    LOWER_EDGES,
    Q_MAX,
    bucket_edges,
    bucket_of,
    bucket_value,
    buckets_of,
)

BUCKETS = range(-BUCKET_MAX, BUCKET_MAX + 1)
totals = st.one_of(
    st.integers(-Q_MAX - 1, Q_MAX),
    st.integers(-1_000, 1_000),
    st.builds(
        lambda index, step: LOWER_EDGES[index].item() + step,
        st.integers(1, 2 * BUCKET_MAX),
        st.integers(-1, 0),
    ),
)


def test_the_edges_are_these_very_integers_everywhere() -> None:
    edges = LOWER_EDGES.astype("<i8").tobytes()

    assert (BUCKET_MAX, len(LOWER_EDGES)) == (3_963, 7_927)
    assert hashlib.sha256(edges).hexdigest() == (
        "3a137996410d25d03f96c127ebb4dce6389f414792e8241852214e8b72e0ede2"
    )


def test_the_edges_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        LOWER_EDGES[0] = 0


def test_buckets_cover_int64_without_gap_or_overlap() -> None:
    edges = [bucket_edges(bucket) for bucket in BUCKETS]

    assert (edges[0].low, edges[-1].high) == (-(2**63), 2**63 - 1)
    assert all(low <= high for low, high in edges)
    assert all(one.high + 1 == other.low for one, other in pairwise(edges))


def test_no_bucket_spans_more_than_the_ratio_and_none_could_reach_one_quantum_further() -> None:
    for bucket in range(1, BUCKET_MAX):
        low, high = bucket_edges(bucket)

        assert Fraction(high, low) <= Fraction(201, 199)
        assert Fraction(high + 1, low) > Fraction(201, 199)


def test_small_totals_are_kept_exactly() -> None:
    for total in range(-99, 100):
        assert bucket_edges(bucket_of(total)) == (total, total)
        assert bucket_value(bucket_of(total), 0) == total
    assert bucket_edges(bucket_of(100)) == (100, 101)


def test_negative_buckets_mirror_positive_ones() -> None:
    for bucket in range(1, BUCKET_MAX):
        low, high = bucket_edges(bucket)

        assert bucket_edges(-bucket) == (-high, -low)
        assert bucket_value(-bucket, 6) == -bucket_value(bucket, 6)


@given(totals)
@example(-Q_MAX - 1)
@example(Q_MAX)
@example(0)
def test_a_total_lies_in_its_bucket_and_its_value_is_within_half_a_percent(total: int) -> None:
    low, high = bucket_edges(bucket_of(total))

    assert low <= total <= high
    representative = Fraction(bucket_value(bucket_of(total), 0))
    # 2⁻⁵³: the representative is rounded to a float once.
    assert abs(representative - total) <= abs(total) * (Fraction(1, 200) + Fraction(1, 2**52))


@given(totals, totals)
def test_larger_totals_never_have_lower_buckets(one: int, other: int) -> None:
    low, high = sorted((one, other))

    assert bucket_of(low) <= bucket_of(high)


@given(st.lists(totals, min_size=1))
def test_arrays_get_the_buckets_of_their_elements(values: list[int]) -> None:
    buckets = buckets_of(np.array(values, dtype=np.int64))

    assert buckets.tolist() == [bucket_of(value) for value in values]


def test_the_search_of_the_documentation_finds_the_same_buckets() -> None:
    totals_q = np.concatenate([LOWER_EDGES, LOWER_EDGES[1:] - 1])

    found = np.searchsorted(LOWER_EDGES, totals_q, side="right") - 1 - BUCKET_MAX

    assert found.tolist() == [*BUCKETS, *BUCKETS[:-1]]


@pytest.mark.parametrize("total", [2**63, -(2**63) - 1])
def test_a_total_outside_int64_has_no_bucket(total: int) -> None:
    with pytest.raises(ValueError, match=r"must be >= -2\*\*63"):
        bucket_of(total)


@pytest.mark.parametrize("bucket", [BUCKET_MAX + 1, -BUCKET_MAX - 1])
def test_a_number_beyond_the_last_is_no_bucket(bucket: int) -> None:
    with pytest.raises(ValueError, match=f"bucket == {bucket}"):
        bucket_edges(bucket)
