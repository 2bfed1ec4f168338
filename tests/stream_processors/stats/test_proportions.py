"""Two rates: the reference cases, the definition, and the rules of what is refused."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

from stream_processors.stats.comparisons import compare
from stream_processors.stats.effects import Effect, Plan
from stream_processors.stats.exact import exact_p_value
from stream_processors.stats.proportions import (
    Rate,
    compare_proportions,
    newcombe_interval,
    wilson_interval,
)
from stream_processors.stats.sums import Sums
from stream_processors.stats.tails import normal_critical_value
from tests.stream_processors.stats.oracles import assert_matches, cases_of


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    count = draw(st.integers(1, 5_000))
    return Rate(count, draw(st.integers(0, count)))


def rate_of(arm: dict[str, int]) -> Rate:
    return Rate(arm["n"], arm["conversions"])


def effect_of(control: Rate, treatment: Rate, alpha: float = 0.05) -> Effect:
    sums = [Sums(rate[0], rate[1], rate[1]) for rate in (control, treatment)]
    return compare(*sums, precision=0, is_rate=True, plan=Plan(alpha=alpha))


@pytest.mark.parametrize("case", cases_of("two_proportion_z"))
def test_reference_cases_are_met(case: dict[str, Any]) -> None:
    control, treatment = rate_of(case["inputs"]["control"]), rate_of(case["inputs"]["treatment"])
    if "result" in case["expected"]:
        effect = effect_of(control, treatment)
        assert effect.status == "invalid_input"
        assert effect.estimate is None
        assert effect.fixed_horizon is None
        with pytest.raises(ValueError, match="conversion_count == 120"):
            compare_proportions(control, treatment, alpha=0.05)
        return
    test = compare_proportions(control, treatment, alpha=case["inputs"]["alpha"])
    assert_matches(
        case,
        p_control=control.value,
        p_treatment=treatment.value,
        diff=test.difference,
        z_pooled=test.z,
        p_value_pooled=test.p_value,
        newcombe_ci_95=(test.low, test.high),
    )


@pytest.mark.parametrize("case", cases_of("two_proportion_z"))
def test_relative_effects_of_rates_are_met_or_undefined(case: dict[str, Any]) -> None:
    control, treatment = rate_of(case["inputs"]["control"]), rate_of(case["inputs"]["treatment"])
    relative = effect_of(control, treatment).relative
    if "relative_lift" not in case["expected"]:
        assert relative.status in ("undefined", "invalid_input")
        assert relative.estimate is None
        assert relative.fixed_horizon is None
        return
    assert relative.method == "log"
    assert relative.fixed_horizon is not None
    assert_matches(
        case,
        relative_lift=relative.estimate,
        relative_lift_ci95_log=tuple(relative.fixed_horizon),
        relative_lift_se_delta=relative.std_error,
    )


@pytest.mark.parametrize(
    ("control", "treatment", "z", "low", "high"),
    [
        (38, 42, 0.448111, -0.002392, 0.003192),
        (46, 69, 2.150954, -0.001044, 0.005644),
        (46, 46, 0.0, -0.002993, 0.002993),
    ],
)
def test_the_campaigns_of_the_open_bandit_dataset_are_met(
    control: int, treatment: int, z: float, low: float, high: float
) -> None:
    effect = effect_of(Rate(10_000, control), Rate(10_000, treatment))
    assert effect.status == "ok"
    assert effect.fixed_horizon is not None
    assert effect.sequence is not None
    assert effect.fixed_horizon.statistic == pytest.approx(z, abs=5e-7)
    assert effect.sequence.low == pytest.approx(low, abs=5e-7)
    assert effect.sequence.high == pytest.approx(high, abs=5e-7)


def test_a_fixed_horizon_reader_would_call_the_men_campaign_significant() -> None:
    effect = effect_of(Rate(10_000, 46), Rate(10_000, 69))
    assert effect.fixed_horizon is not None
    assert effect.sequence is not None
    assert effect.fixed_horizon.p_value == pytest.approx(0.0314798, abs=5e-8)
    assert effect.sequence.p_value > 0.05


@given(rates(), rates())
def test_z_squared_is_pearsons_chi_square(control: Rate, treatment: Rate) -> None:
    converted = control.conversion_count + treatment.conversion_count
    if converted in (0, control.unit_count + treatment.unit_count):
        with pytest.raises(ValueError, match="z needs some, and not all"):
            compare_proportions(control, treatment, alpha=0.05)
        return
    test = compare_proportions(control, treatment, alpha=0.05)
    table = [[rate[1], rate[0] - rate[1]] for rate in (control, treatment)]
    expected = stats.chi2_contingency(table, correction=False)
    assert test.z is not None
    assert test.z**2 == pytest.approx(expected.statistic, rel=1e-9, abs=1e-12)
    assert test.p_value == pytest.approx(expected.pvalue, rel=1e-9)


@given(rates(), st.sampled_from([0.01, 0.05, 0.1]))
def test_wilsons_interval_solves_its_definition(rate: Rate, alpha: float) -> None:
    """Its ends are the rates p at which (p̂ - p) / √(p(1 - p) / n) is ±z, or 0 and 1."""
    z = normal_critical_value(alpha)
    low, high = wilson_interval(rate, z)
    assert 0 <= low <= rate.value <= high <= 1
    for end in {low, high} - {0.0, 1.0}:
        reach = z * math.sqrt(end * (1 - end) / rate.unit_count)
        assert abs(rate.value - end) == pytest.approx(reach, rel=1e-6, abs=1e-12)


@given(rates(), rates())
def test_swapping_the_arms_mirrors_everything(control: Rate, treatment: Rate) -> None:
    there = newcombe_interval(control, treatment, alpha=0.05)
    back = newcombe_interval(treatment, control, alpha=0.05)
    assert there == pytest.approx((-back[1], -back[0]), abs=1e-12)
    assert -1 <= there[0] <= treatment.value - control.value <= there[1] <= 1
    if 0 < control[1] + treatment[1] < control[0] + treatment[0]:
        tests = (
            compare_proportions(control, treatment, alpha=0.05),
            compare_proportions(treatment, control, alpha=0.05),
        )
        assert tests[0].p_value == tests[1].p_value


def test_many_rates_at_once_are_the_rates_one_by_one() -> None:
    control = Rate(np.array([50, 10_000, 28]), np.array([0, 46, 14]))
    treatment = Rate(np.array([52, 10_000, 30]), np.array([5, 69, 16]))
    together = compare_proportions(control, treatment, alpha=0.05)
    for index in range(3):
        alone = compare_proportions(
            Rate(int(control[0][index]), int(control[1][index])),
            Rate(int(treatment[0][index]), int(treatment[1][index])),
            alpha=0.05,
        )
        assert alone == tuple(column[index] for column in together)


def test_where_test_and_interval_disagree_the_interval_decides_and_it_is_said() -> None:
    """None of 9 against 3 of 8: pooled z says p = .043, Newcombe's interval holds no effect."""
    control, treatment = Rate(9, 0), Rate(8, 3)
    effect = effect_of(control, treatment)
    assert effect.fixed_horizon is not None
    assert effect.fixed_horizon.p_value < 0.05
    assert effect.fixed_horizon.low < 0 < effect.fixed_horizon.high
    assert not effect.fixed_horizon.rejects
    assert "interval_decides" in effect.flags
    assert "interval_decides" not in effect_of(Rate(10_000, 46), Rate(10_000, 69)).flags


def test_units_are_required() -> None:
    with pytest.raises(ValueError, match="unit_count == 0"):
        compare_proportions(Rate(0, 0), Rate(1, 1), alpha=0.05)


def test_the_log_ratio_has_the_error_of_the_delta_method() -> None:
    # (1 - .5)/(100 · .5) + (1 - .25)/(400 · .25) = .01 + .0075
    relative = effect_of(Rate(100, 50), Rate(400, 100)).relative
    assert relative.std_error == pytest.approx(math.sqrt(0.0175) * 0.5)
    assert relative.fixed_horizon is not None
    reach = normal_critical_value(0.05) * math.sqrt(0.0175)
    assert relative.fixed_horizon.low == pytest.approx(0.5 * math.exp(-reach) - 1)


@pytest.mark.parametrize("case", cases_of("two_proportion_exact"))
def test_exact_tests_of_small_counts_are_met(case: dict[str, Any]) -> None:
    control, treatment = rate_of(case["inputs"]["control"]), rate_of(case["inputs"]["treatment"])
    assert_matches(
        case,
        fisher_two_sided=exact_p_value(control, treatment, method="fisher"),
        barnard_pooled=exact_p_value(control, treatment, method="barnard"),
        boschloo=exact_p_value(control, treatment, method="boschloo"),
    )


@given(rates(), rates())
def test_effects_agree_with_statsmodels(control: Rate, treatment: Rate) -> None:
    assume(min(control[0], treatment[0]) > 1)
    # Without any variance there is a difference, and no test.
    assume(any(0 < rate[1] < rate[0] for rate in (control, treatment)))
    fixed = effect_of(control, treatment).fixed_horizon
    assert fixed is not None
    z, p_value = proportions_ztest([treatment[1], control[1]], [treatment[0], control[0]])
    assert (fixed.statistic, fixed.p_value) == pytest.approx((z, p_value), rel=1e-9, abs=1e-12)
    low, high = confint_proportions_2indep(
        treatment[1], treatment[0], control[1], control[0], method="newcomb"
    )
    assert (fixed.low, fixed.high) == pytest.approx((low, high), abs=1e-9)
