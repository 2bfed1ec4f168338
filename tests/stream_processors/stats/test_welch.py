"""Welch's test and relative effects of totals: reference cases, scipy, and exact fractions."""

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from stream_processors.stats.comparisons import compare
from stream_processors.stats.effects import Plan
from stream_processors.stats.relative import (
    Contrast,
    Interval,
    contrast_of,
    delta_std_error,
    fieller_interval,
    log_interval,
    relative_degrees_of_freedom,
)
from stream_processors.stats.sums import Moments, Sums, difference_of_means
from stream_processors.stats.tails import (
    normal_critical_value,
    t_critical_value,
    two_sided_t_p_value,
)
from stream_processors.stats.welch import welch_test
from tests.stream_processors.stats.oracles import assert_matches, cases_of

VALUES = st.lists(st.integers(-1_000, 1_000), min_size=2, max_size=30)


def moments_of(arm: dict[str, float]) -> Moments:
    return Moments(int(arm["n"]), arm["mean"], arm["var"])


def sums_of(values: list[int]) -> Sums:
    return Sums(len(values), sum(values), sum(value * value for value in values))


def fieller_of(control: Moments, treatment: Moments) -> Interval | None:
    ends = fieller_interval(contrast_of(control, treatment), normal_critical_value(0.05))
    return Interval(ends.low.item(), ends.high.item()) if ends.is_bounded.item() else None


def log_of(contrast: Contrast, alpha: float) -> Interval:
    critical = t_critical_value(alpha, relative_degrees_of_freedom(contrast))
    ends = log_interval(contrast, critical)
    assert ends.is_bounded.all()
    return Interval(ends.low.item(), ends.high.item())


@pytest.mark.parametrize("case", cases_of("welch_t"))
def test_reference_cases_are_met(case: dict[str, Any]) -> None:
    control = moments_of(case["inputs"]["control"])
    treatment = moments_of(case["inputs"]["treatment"])
    alpha = case["inputs"]["alpha"]
    test = welch_test(control, treatment, alpha=alpha)
    contrast = contrast_of(control, treatment)
    # The file gives Fieller's interval at 95 % in every case, whatever the case's alpha.
    fieller = fieller_of(control, treatment)
    assert fieller is not None
    assert_matches(
        case,
        diff=test.difference,
        se=test.std_error,
        t=test.t,
        df=test.degrees_of_freedom,
        p_value=test.p_value,
        ci=(test.low, test.high),
        relative_lift=contrast.estimate.item(),
        relative_lift_se_delta=delta_std_error(contrast).item(),
        relative_lift_ci_logt=tuple(log_of(contrast, alpha)),
        df_log=relative_degrees_of_freedom(contrast).item(),
        relative_lift_ci_fieller_z=tuple(fieller),
    )


@pytest.mark.parametrize("case", cases_of("relative_lift_delta"))
def test_the_delta_method_agrees_with_growthbook(case: dict[str, Any]) -> None:
    arms = [
        Sums(arm["n"], round(arm["sum"] * 10**2), round(arm["sum_sq"] * 10**4))
        for arm in (case["inputs"]["control"], case["inputs"]["treatment"])
    ]
    moments = [
        Moments(
            one.unit_count,
            one.sum_q / one.unit_count / 100,
            one.spread_q / one.unit_count / (one.unit_count - 1) / 10**4,
        )
        for one in arms
    ]
    contrast = contrast_of(*moments)
    estimate, std_error = contrast.estimate.item(), delta_std_error(contrast).item()
    freedom = welch_test(*moments, alpha=0.05).degrees_of_freedom
    reach = t_critical_value(0.05, freedom) * std_error
    assert_matches(
        case,
        lift=estimate,
        se=std_error,
        df=freedom,
        ci=(estimate - reach, estimate + reach),
        p_value_of_relative_statistic=two_sided_t_p_value(estimate / std_error, freedom),
    )


@given(VALUES, VALUES)
def test_totals_are_compared_as_scipy_compares_the_values(
    control: list[int], treatment: list[int]
) -> None:
    assume(len(set(control)) > 1 and len(set(treatment)) > 1)
    effect = compare(
        sums_of(control), sums_of(treatment), precision=2, is_rate=False, plan=Plan(alpha=0.1)
    )
    expected = stats.ttest_ind(
        [value / 100 for value in treatment], [value / 100 for value in control], equal_var=False
    )
    fixed = effect.fixed_horizon
    assert fixed is not None
    assert fixed.test == "welch"
    assert fixed.statistic == pytest.approx(expected.statistic, rel=1e-7, abs=1e-9)
    assert fixed.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert fixed.degrees_of_freedom == pytest.approx(expected.df, rel=1e-9)
    low, high = expected.confidence_interval(0.9)
    assert (fixed.low, fixed.high) == pytest.approx((low, high), rel=1e-7, abs=1e-9)


def test_one_arm_without_variance_leaves_the_other_arms_degrees_of_freedom() -> None:
    effect = compare(
        Sums(200, 400, 800), sums_of([1, 2, 3, 6] * 50), precision=0, is_rate=False, plan=Plan()
    )
    assert effect.flags == ("one_variance_zero",)
    assert effect.fixed_horizon is not None
    assert effect.fixed_horizon.degrees_of_freedom == 199


def test_a_difference_of_large_means_keeps_its_digits() -> None:
    """10⁹ + 1/3 against 10⁹: rounded means are 10⁻⁷ apart from the truth, integers are not."""
    control, treatment = Sums(3, 3 * 10**9, 3 * 10**18), Sums(3, 3 * 10**9 + 1, 4 * 10**18)
    assert difference_of_means(control, treatment, precision=0) == 1 / 3


def test_a_negative_control_divides_by_its_absolute_value() -> None:
    """-10 to -8 is a gain of 20 %: Fieller's interval is mirrored with it."""
    control = Moments(1_000, -10.0, 4.0)
    treatment = Moments(1_000, -8.0, 4.0)
    mirrored = fieller_of(Moments(1_000, 10.0, 4.0), Moments(1_000, 8.0, 4.0))
    interval = fieller_of(control, treatment)
    assert interval is not None
    assert mirrored is not None
    assert interval == pytest.approx((-mirrored.high, -mirrored.low))
    estimate = contrast_of(control, treatment).estimate.item()
    assert interval.low < estimate == pytest.approx(0.2)


def test_a_negative_control_that_rises_has_gained() -> None:
    control, treatment = sums_of([-11, -10, -9] * 40), sums_of([-9, -8, -7] * 40)
    effect = compare(control, treatment, precision=0, is_rate=False, plan=Plan())
    assert effect.flags == ("control_negative",)
    assert effect.relative.estimate == pytest.approx(0.2)
    assert effect.relative.fixed_horizon is not None
    assert effect.relative.fixed_horizon.low < 0.2 < effect.relative.fixed_horizon.high


def test_fieller_is_unbounded_when_the_control_may_be_zero() -> None:
    assert fieller_of(Moments(10, 1.0, 10.0), Moments(10, 1.0, 10.0)) is None


def test_a_log_interval_beyond_all_floats_is_unbounded() -> None:
    contrast = contrast_of(Moments(10, 1.0, 10.0), Moments(10, 2.0, 10.0))
    interval = log_interval(contrast, 1e6)
    assert not interval.is_bounded.any()
    assert interval.low.tolist() == interval.high.tolist() == [0.0]


def test_mixed_signs_use_fieller() -> None:
    effect = compare(
        sums_of([9, 10, 11] * 40), sums_of([-2, -1, 0] * 40), precision=0, is_rate=False,
        plan=Plan(),
    )  # fmt: skip
    assert effect.relative.method == "fieller"
    assert effect.relative.estimate == pytest.approx(-1.1)
    assert effect.relative.fixed_horizon is not None
    assert effect.relative.sequence is not None
    assert effect.relative.sequence.low < effect.relative.fixed_horizon.low
    assert effect.relative.sequence.high > effect.relative.fixed_horizon.high


@given(
    st.floats(5, 50), st.floats(-50, 50), st.floats(0.1, 9), st.floats(0.1, 9), st.floats(0.5, 3)
)
def test_fiellers_ends_are_where_the_contrast_is_just_rejected(
    control_mean: float, treatment_mean: float, one: float, other: float, critical: float
) -> None:
    """(m_t - r m_c)² = critical² · Var(m_t - r m_c) at r = 1 + either end."""
    control, treatment = Moments(50, control_mean, one), Moments(70, treatment_mean, other)
    interval = fieller_interval(contrast_of(control, treatment), critical)
    assert interval.is_bounded.all()
    for end in (interval.low.item(), interval.high.item()):
        ratio = 1 + end
        variance = treatment.mean_variance + ratio**2 * control.mean_variance
        assert abs(treatment_mean - ratio * control_mean) == pytest.approx(
            critical * math.sqrt(variance), rel=1e-6
        )


@pytest.mark.parametrize(
    ("control", "treatment", "message"),
    [
        (Moments(1, 1.0, 0.0), Moments(2, 1.0, 1.0), "unit_count == 1"),
        (Moments(2, 1.0, 0.0), Moments(2, 1.0, 0.0), "both variances are 0"),
    ],
)
def test_what_has_no_variance_is_refused(
    control: Moments, treatment: Moments, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        welch_test(control, treatment, alpha=0.05)
