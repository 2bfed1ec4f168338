"""The edge table, row by row, and: whatever the sums are, no NaN and no infinity come out."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_processors.stats.comparisons import compare
from stream_processors.stats.edges import EDGE_RULES
from stream_processors.stats.effects import Plan
from stream_processors.stats.sums import Sums

WIDE = st.integers(-(2**100), 2**100)


def rate(count: int, converted: int) -> Sums:
    return Sums(count, converted, converted)


GOOD = Sums(1_000, 5_000, 30_000)


@pytest.mark.parametrize(
    ("control", "treatment", "is_rate", "status", "relative_status"),
    [
        (Sums(), GOOD, False, "no_units", "no_units"),
        (GOOD, Sums(), False, "no_units", "no_units"),
        (Sums(1, 5, 25), GOOD, False, "insufficient", "insufficient"),
        (Sums(9, 45, 225), Sums(9, 54, 324), False, "zero_variance", "zero_variance"),
        (rate(500, 0), rate(500, 0), True, "zero_variance", "zero_variance"),
        (rate(100, 120), rate(100, 121), True, "invalid_input", "invalid_input"),
        (rate(100, -1), rate(100, 10), True, "invalid_input", "invalid_input"),
        (Sums(100, 10, 12), rate(100, 10), True, "invalid_input", "invalid_input"),
        (Sums(100, 10, -1), GOOD, False, "invalid_input", "invalid_input"),
        (Sums(2, 10, 1), GOOD, False, "invalid_input", "invalid_input"),
        (Sums(0, 1, 1), GOOD, False, "invalid_input", "invalid_input"),
        (Sums(-1, 0, 0), GOOD, False, "invalid_input", "invalid_input"),
        (Sums(99, 495, 3_000), GOOD, False, "warming_up", "ok"),
        (rate(1_000, 29), rate(1_000, 50), True, "warming_up", "ok"),
        (rate(1_000, 500), rate(1_000, 971), True, "warming_up", "ok"),
        (rate(1_000, 30), rate(1_000, 970), True, "ok", "ok"),
        (Sums(1_000, 0, 5_000), GOOD, False, "ok", "undefined"),
        (Sums(1_000, 90, 1_000), GOOD, False, "ok", "undefined"),
        (rate(1_000, 100), rate(1_000, 0), True, "warming_up", "undefined"),
        (GOOD, GOOD, False, "ok", "ok"),
        # 2 % of units have an order: none of 101 had one by chance, none of 10,000 not by chance.
        (rate(9_999, 200), rate(101, 0), False, "one_variance_zero", "one_variance_zero"),
        (rate(101, 0), rate(9_999, 200), False, "one_variance_zero", "one_variance_zero"),
        (rate(10_000, 0), rate(10_000, 1_500), False, "ok", "undefined"),
        # All bought once, one of the others twice: alike, but not for lack of orders.
        (
            Sums(101, 101, 101),
            Sums(9_999, 10_199, 10_599),
            False,
            "one_variance_zero",
            "one_variance_zero",
        ),
        (rate(9_999, 200), rate(101, 2), False, "sparse", "ok"),
        (rate(18_000, 360), rate(2_000, 36), False, "sparse", "ok"),
        (rate(27_000, 540), rate(3_000, 54), False, "ok", "ok"),
        (rate(1_000, 5), rate(1_000, 4), False, "ok", "undefined"),
        (Sums(2_000, 10, 50_000), Sums(500, -5, 12_500), False, "sparse", "undefined"),
        (Sums(12_000, 10, 300_000), Sums(3_000, -5, 75_000), False, "ok", "undefined"),
        (Sums(50, 250, 1_500), Sums(2_000, 40, 40), False, "warming_up", "ok"),
    ],
)
def test_every_condition_has_its_status(
    control: Sums, treatment: Sums, is_rate: bool, status: str, relative_status: str
) -> None:
    effect = compare(control, treatment, precision=0, is_rate=is_rate, plan=Plan())
    assert (effect.status, effect.relative.status) == (status, relative_status)


def test_flags_hide_nothing() -> None:
    sums = Sums(1_000, -5_000, 30_000), Sums(200, 400, 800)
    effect = compare(*sums, precision=0, is_rate=False, plan=Plan())
    assert effect.status == "ok"
    assert effect.flags == ("one_variance_zero", "control_negative")
    assert effect.fixed_horizon is not None


def test_a_rate_of_few_conversions_is_flagged_for_an_exact_test() -> None:
    plan = Plan()
    flagged = [
        "small_cells" in compare(*sides, precision=0, is_rate=True, plan=plan).flags
        for sides in (
            (rate(100, 4), rate(100, 50)),
            (rate(100, 50), rate(100, 96)),
            (rate(100, 5), rate(100, 95)),
        )
    ]
    assert flagged == [True, True, False]


def test_a_mean_at_three_standard_errors_divides_and_below_does_not() -> None:
    """n = 101, Σ = 303, variance 101 → mean 3, standard error 1, in exact integers."""
    at_three = Sums(101, 303, 101 * 100 + 909)
    below = Sums(101, 303, 101 * 100 + 910)
    statuses = [
        compare(control, GOOD, precision=0, is_rate=False, plan=Plan()).relative.status
        for control in (at_three, below)
    ]
    assert statuses == ["ok", "undefined"]


def test_without_variance_the_difference_is_shown_and_no_p_value() -> None:
    effect = compare(Sums(9, 45, 225), Sums(9, 54, 324), precision=0, is_rate=False, plan=Plan())
    assert effect.estimate == 1
    assert effect.std_error == 0
    assert effect.fixed_horizon is None
    assert effect.sequence is None


def test_statuses_are_listed_once_in_one_table() -> None:
    assert {rule.status for rule in EDGE_RULES} == {
        "invalid_input", "no_units", "insufficient", "zero_variance", "warming_up", "undefined",
        "one_variance_zero", "control_negative", "denominator_near_zero",
        "small_cells", "sparse",
    }  # fmt: skip


@st.composite
def possible_sums(draw: st.DrawFn) -> Sums:
    values = draw(st.lists(st.integers(-(2**61), 2**61), max_size=4))
    copies = draw(st.sampled_from([1, 50, 10**9]))
    return Sums(
        copies * len(values), copies * sum(values), copies * sum(value**2 for value in values)
    )


ANY_SUMS = st.one_of(
    possible_sums(),
    st.builds(Sums, st.integers(-2, 10**9), WIDE, WIDE),
    st.builds(rate, st.integers(0, 2_000), st.integers(0, 2_000)),
)


@given(
    ANY_SUMS,
    ANY_SUMS,
    st.integers(0, 9),
    st.booleans(),
    st.sampled_from([1e-12, 0.001, 0.05, 0.49]),
    st.sampled_from([2, 5_000, 10**12]),
)
def test_no_number_that_comes_out_is_nan_or_infinite(
    control: Sums, treatment: Sums, precision: int, is_rate: bool, alpha: float, n_star: int
) -> None:
    effect = compare(
        control,
        treatment,
        precision=0 if is_rate else precision,
        is_rate=is_rate,
        plan=Plan(alpha, n_star),
    )
    assert all(map(math.isfinite, _numbers(effect)))
    if effect.status == "ok":
        assert effect.fixed_horizon is not None
        assert effect.sequence is not None


def _numbers(value: Any) -> list[float]:
    if isinstance(value, tuple):
        return [number for one in value for number in _numbers(one)]
    return [value] if isinstance(value, int | float) else []
