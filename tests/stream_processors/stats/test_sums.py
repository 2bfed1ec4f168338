"""Sums are exact: means and variances are the floats nearest to the truth, in any order."""

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_processors.stats.sums import (
    Spread,
    Sums,
    difference_of_means,
    moments,
    sample_mean,
    sample_variance,
)
from stream_processors.stats.tails import two_sided_normal_p_value, two_sided_t_p_value
from tests.stream_processors.stats.oracles import assert_matches, cases_of, is_close
from tests.stream_processors.stats.units import joint_sums_of

QUANTA = st.lists(st.integers(-(2**61), 2**61), min_size=2, max_size=50)

NIST = {
    "num-01": ["10000001", "10000003", "10000002"],
    "num-02": ["1.2", *["1.1", "1.3"] * 500],
    "num-03": ["1000000.2", *["1000000.1", "1000000.3"] * 500],
    "num-04": ["10000000.2", *["10000000.1", "10000000.3"] * 500],
}


def sums_of(values: list[int]) -> Sums:
    return Sums(len(values), sum(values), sum(value * value for value in values))


@pytest.mark.parametrize("case", cases_of("numerics_summary"))
def test_certified_means_and_deviations_are_met(case: dict[str, Any]) -> None:
    arm = moments(sums_of([int(Decimal(value) * 10) for value in NIST[case["id"]]]), precision=1)
    assert arm.unit_count == case["inputs"]["n"]
    assert_matches(case, mean=arm.mean, sd=math.sqrt(arm.variance))


@pytest.mark.parametrize("case", cases_of("numerics_merge"))
def test_values_near_a_billion_keep_their_variance(case: dict[str, Any]) -> None:
    values, state = [], 12_345
    for _ in range(case["inputs"]["n"]):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        # 1/1024 is 9,765,625 · 10⁻¹⁰, so ten digits hold every value exactly.
        values.append(10**9 * 10**10 + (state >> 40) % 4096 * 9_765_625)
    parts = [values[:1], [], values[1:3], values[3:70_000], values[70_000:]]
    whole = Sums(*(sum(column) for column in zip(*map(sums_of, parts), strict=True)))
    assert whole == sums_of(values)
    offset = Sums(1, 10**19, 10**38)
    mean_minus_offset = difference_of_means(offset, whole, precision=10)
    variance = sample_variance(whole, precision=10)
    assert_matches(case, mean_minus_offset=mean_minus_offset, variance=variance)
    assert variance != pytest.approx(8053.144211442114)


@pytest.mark.parametrize("case", cases_of("numerics_sum"))
def test_cancelling_values_leave_nothing_behind(case: dict[str, Any]) -> None:
    values = [int(value) for value in case["inputs"]["values"]]
    expected = next(value for key, value in case["expected"].items() if "sum" in key.lower())
    assert sums_of(values).sum_q == expected


@pytest.mark.parametrize("case", cases_of("numerics_tail"))
def test_tails_are_right_far_out(case: dict[str, Any]) -> None:
    expected = case["expected"]
    for z, p_value in zip(case["inputs"]["z"], expected["two_sided_p_z"], strict=True):
        assert is_close(two_sided_normal_p_value(z), p_value, case["tolerance"]), z
    for (t, freedom), p_value in zip(case["inputs"]["t"], expected["two_sided_p_t"], strict=True):
        assert is_close(two_sided_t_p_value(t, freedom), p_value, case["tolerance"]), t


@given(QUANTA, st.integers(0, 9))
def test_mean_and_variance_are_the_nearest_floats(values: list[int], precision: int) -> None:
    sums = sums_of(values)
    exact = [Fraction(value, 10**precision) for value in values]
    mean = sum(exact, Fraction(0)) / len(exact)
    variance = sum(((value - mean) ** 2 for value in exact), Fraction(0)) / (len(exact) - 1)
    assert sample_mean(sums, precision) == float(mean)
    assert sample_variance(sums, precision) == float(variance)


@given(QUANTA, QUANTA, st.integers(0, 9))
def test_the_difference_of_means_is_the_nearest_float(
    control: list[int], treatment: list[int], precision: int
) -> None:
    exact = Fraction(sum(treatment), len(treatment)) - Fraction(sum(control), len(control))
    got = difference_of_means(sums_of(control), sums_of(treatment), precision)
    assert got == float(exact / 10**precision)


@pytest.mark.parametrize(
    ("sums", "message"),
    [(Sums(1, 5, 25), "unit_count == 1"), (Sums(2, 10, 1), "must be sums of real values")],
)
def test_sums_without_a_variance_are_refused(sums: Sums, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_variance(sums, precision=0)


@given(
    st.lists(
        st.tuples(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9)),
        min_size=4,
        max_size=9,
        unique=True,
    ),
    st.integers(-9, 9),
    st.integers(-9, 9),
    st.sampled_from([0, 1, 10**6]),
)
def test_one_quantum_too_little_is_seen_however_near_four_totals_are_to_a_line(
    pairs: list[tuple[int, int]], one: int, other: int, blur: int
) -> None:
    """The fourth is a combination of others, but for ``blur``: floats must not decide there."""
    rows = [(a, b, a * a // 10**9, one * a + other * b + blur * (a % 2)) for a, b in pairs]
    sums = joint_sums_of(rows, 4)
    spread = sums.checked_spread()
    assert spread is not None
    exact = Spread(spread.unit_count, 4, spread.products)
    assert exact.is_semidefinite
    # Taken from a diagonal entry of a matrix that is singular, anything makes it indefinite.
    if blur == 0 and spread.products[9] > 0:
        assert not exact._replace(
            products=(*spread.products[:9], spread.products[9] - 1)
        ).is_semidefinite
