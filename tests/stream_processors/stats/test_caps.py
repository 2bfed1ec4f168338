"""One cap for all arms, chosen without looking at which arm a unit is in."""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from stream_processors.stats.caps import (
    CAP_COUNT,
    CAP_GRID,
    PRECISION_MAX,
    CapChoice,
    cap_grid,
    choose_cap,
    compare_capped_units,
    fixed_cap_q,
    sums_of_capped,
)
from stream_processors.stats.sums import Sums, sample_mean
from tests.stream_processors.stats.oracles import assert_matches, cases_of


class Capped(NamedTuple):
    capped_units: int
    sum_q: int
    sum_squares_q: int


def capped_at(totals_q: list[int], cap_q: int) -> Capped:
    kept = [min(total, cap_q) for total in totals_q]
    return Capped(
        sum(total > cap_q for total in totals_q), sum(kept), sum(total**2 for total in kept)
    )


def capped_by_arm(arms: list[list[int]], precision: int) -> list[list[int]]:
    grid = cap_grid(precision)
    return [[capped_at(totals, cap).capped_units for cap in grid] for totals in arms]


@pytest.mark.parametrize("precision", range(PRECISION_MAX + 1))
def test_caps_are_exact_powers_of_two_in_metric_units(precision: int) -> None:
    caps = cap_grid(precision)

    assert len(caps) == CAP_COUNT
    assert caps == tuple(CAP_GRID[precision].tolist())
    in_units = [cap / 10**precision for cap in caps]
    assert in_units == [2.0 ** (step - precision) for step in range(CAP_COUNT)]
    assert caps[-1] < 2**62


def test_there_is_no_grid_beyond_the_highest_precision() -> None:
    with pytest.raises(ValueError, match="precision == 10"):
        cap_grid(10)


def test_a_fixed_cap_is_rounded_as_values_are() -> None:
    assert fixed_cap_q(100, 2) == 10_000
    assert [fixed_cap_q(cap, 0) for cap in (0.5, 1.5, 2.5)] == [0, 2, 2]
    assert fixed_cap_q(0.000_001_5, 6) == int(np.rint(0.000_001_5 * 10.0**6))


@pytest.mark.parametrize("case", cases_of("winsor_fixed_cap"))
def test_a_fixed_cap_applies_to_the_total_of_a_unit(case: dict[str, Any]) -> None:
    totals_q = [round(total * 10.0**6) for total in case["inputs"]["unit_totals"]]
    capped = capped_at(totals_q, fixed_cap_q(case["inputs"]["cap"], 6))

    sums = sums_of_capped(len(totals_q), capped)

    assert capped.capped_units == 3
    assert_matches(
        case,
        n=float(sums.unit_count),
        sum=sums.sum_q / 10**6,
        sum_sq=sums.sum_squares_q / 10**12,
    )
    assert sample_mean(sums, 6) == 51.949


totals_of_arm = st.lists(st.integers(0, 10**12), min_size=1, max_size=60)


@given(st.lists(totals_of_arm, min_size=2, max_size=4), st.sampled_from([0.5, 0.9, 0.99, 0.999]))
def test_the_cap_is_the_first_that_is_not_below_the_pooled_quantile(
    arms: list[list[int]], quantile: float
) -> None:
    pooled = sorted(total for totals in arms for total in totals)
    # ceil in decimals: k of n with k / n >= quantile.
    rank = -(-round(quantile * 1_000) * len(pooled) // 1_000)
    threshold = pooled[rank - 1]
    grid = cap_grid(6)

    choice = choose_cap(
        [len(totals) for totals in arms],
        capped_by_arm(arms, 6),
        precision=6,
        quantile=quantile,
    )

    above = [(step, cap) for step, cap in enumerate(grid) if cap >= threshold]
    if not above:
        assert choice == CapChoice("above_grid")
    elif above[0][0] == 0:
        assert choice == CapChoice("below_grid")
    else:
        assert choice == CapChoice("ok", *above[0])


@given(st.lists(totals_of_arm, min_size=2, max_size=2), st.data())
def test_the_choice_does_not_know_which_arm_a_unit_is_in(
    arms: list[list[int]], data: st.DataObject
) -> None:
    pooled = [total for totals in arms for total in totals]
    shuffled = data.draw(st.permutations(pooled))
    dealt = [shuffled[: len(arms[0])], shuffled[len(arms[0]) :]]
    counts = [len(totals) for totals in arms]

    one = choose_cap(counts, capped_by_arm(arms, 6), precision=6, quantile=0.9)
    other = choose_cap(counts, capped_by_arm(dealt, 6), precision=6, quantile=0.9)

    assert one == other


def test_a_quantile_is_read_as_a_decimal() -> None:
    # 0.999 of 1,000 units: exactly one may be capped, although the float 0.999 is above 0.999.
    at_most_one = [[5] * 10 + [1] * 10 + [0] * 12, [0] * 32]

    choice = choose_cap([500, 500], at_most_one, precision=6)

    assert choice == CapChoice("ok", 10, 15_625 * 2**10)


def test_no_unit_no_cap() -> None:
    assert choose_cap([0, 0], [[0] * 32, [0] * 32], precision=6) == CapChoice("no_units")


def test_a_metric_that_is_nearly_always_zero_is_not_flattened() -> None:
    arms = [[0] * 1_999 + [10**9], [0] * 2_000]

    choice = choose_cap([2_000, 2_000], capped_by_arm(arms, 6), precision=6)

    assert choice == CapChoice("below_grid")


def test_totals_beyond_the_grid_are_not_capped() -> None:
    assert choose_cap([10, 10], [[1] * 32, [0] * 32], precision=6).status == "above_grid"


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.1, math.nan])
def test_a_quantile_outside_its_range_is_refused(quantile: float) -> None:
    with pytest.raises(ValueError, match="quantile =="):
        choose_cap([1, 1], [[0] * 32, [0] * 32], precision=6, quantile=quantile)


def test_caps_of_every_arm_are_asked_for() -> None:
    with pytest.raises(ValueError, match="must be 2"):
        choose_cap([1, 1], [[0] * 32], precision=6)


@pytest.mark.parametrize(
    ("units", "capped"),
    [([10_000, 10_000], [12, 31]), ([5_000, 9_000, 7_000], [8, 9, 12])],
)
def test_many_capped_units_are_compared_by_chi_square(units: list[int], capped: list[int]) -> None:
    rest = [n - c for n, c in zip(units, capped, strict=True)]
    expected = stats.chi2_contingency([capped, rest], correction=False).pvalue

    result = compare_capped_units(units, capped)

    assert (result.status, result.test) == ("ok", "chi_square")
    assert result.p_value == pytest.approx(expected, rel=1e-12)


def test_few_capped_units_are_compared_exactly() -> None:
    result = compare_capped_units([4, 4], [3, 1])

    # Fisher's tea tasting, two-sided: (16 + 1 + 16 + 1) of 70 tables.
    assert (result.status, result.test) == ("ok", "fisher")
    assert result.p_value == pytest.approx(34 / 70, rel=1e-12)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 9), st.booleans(), st.data())
def test_few_units_on_one_side_of_the_cap_are_compared_as_scipy_does(
    one: int, other: int, few: int, most_are_capped: bool, data: st.DataObject
) -> None:
    first = data.draw(st.integers(max(0, few - other), min(few, one)))
    capped, units = [first, few - first], [one, other]
    if most_are_capped:
        capped = [n - c for n, c in zip(units, capped, strict=True)]
    result = compare_capped_units(units, capped)
    assume(result.test == "fisher")

    table = [[c, n - c] for c, n in zip(capped, units, strict=True)]
    assert result.p_value == pytest.approx(float(stats.fisher_exact(table).pvalue), rel=1e-8)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.data())
def test_the_comparison_does_not_depend_on_the_order_of_the_arms(
    one: int, other: int, data: st.DataObject
) -> None:
    capped = [data.draw(st.integers(0, min(n, 2_000))) for n in (one, other)]

    forth = compare_capped_units([one, other], capped)
    back = compare_capped_units([other, one], capped[::-1])

    assert forth.status == back.status
    if forth.p_value is None or back.p_value is None:
        assert forth.status == "none_capped"
    else:
        assert 0 <= forth.p_value <= 1
        assert forth.p_value == pytest.approx(back.p_value, rel=1e-9)


@pytest.mark.parametrize(
    ("units", "capped", "status"),
    [
        ([10, 0], [1, 0], "no_units"),
        ([10, 10], [0, 0], "none_capped"),
        ([10, 10, 10], [1, 0, 0], "insufficient"),
    ],
)
def test_a_comparison_that_cannot_be_made_says_why(
    units: list[int], capped: list[int], status: str
) -> None:
    assert compare_capped_units(units, capped) == (status, None, None)


@pytest.mark.parametrize(("units", "capped"), [([10], [1]), ([10, 10], [11, 0]), ([5, 5], [-1, 0])])
def test_impossible_counts_are_refused(units: list[int], capped: list[int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        compare_capped_units(units, capped)


def test_capped_sums_have_the_form_of_all_sums() -> None:
    assert sums_of_capped(3, Capped(1, 7, 19)) == Sums(3, 7, 19)
