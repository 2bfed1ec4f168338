"""Plans for one look: reference cases, statsmodels and tea-tasting, edges, and plans that hold."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats
from statsmodels.stats import power as sm_power

from stream_processors.stats.guardrails import ArmMean, Guardrail, Margin, fixed_guardrail
from stream_processors.stats.planning import PlanError, PlanInputs, PlanResult, plan
from stream_processors.stats.planning_days import days_to_enter, days_to_mature, units_entered
from stream_processors.stats.planning_fixed import noncentral_t_tail
from stream_processors.stats.planning_formulas import formula_of
from tests.stream_processors.stats.oracles import CASES, assert_matches, cases_of

Z_HALF_ALPHA = float(stats.norm.isf(0.025))
Z_POWER = float(stats.norm.ppf(0.8))


def total(**fields: Any) -> PlanInputs:
    """A metric of unit totals with mean 1 and standard deviation 1."""
    return PlanInputs(**({"kind": "sum", "baseline": 1.0, "deviation": 1.0} | fields))


def rate(**fields: Any) -> PlanInputs:
    return PlanInputs(**({"kind": "conversion", "baseline": 0.1} | fields))


def control_units(inputs: PlanInputs) -> float:
    found = plan(dataclasses.replace(inputs, goal="sample_size")).units_control_exact
    assert found is not None
    return found


@pytest.mark.parametrize("case", cases_of("sample_size_proportion"))
def test_reference_sizes_of_rates_are_met(case: dict[str, Any]) -> None:
    inputs = case["inputs"]
    found = {
        name: control_units(
            rate(
                baseline=inputs["p1"],
                effect=inputs["p2"] - inputs["p1"],
                effect_scale="absolute",
                formula=formula,
            )
        )
        for name, formula in {
            "evan_miller": "evan_miller",
            "pooled": "pooled",
            "unpooled": "unpooled",
            "arcsine_cohen_h": "arcsine",
            "statsmodels_samplesize_proportions_2indep_onetail": None,
        }.items()
    }
    assert_matches(case, **found)


@pytest.mark.parametrize("case", cases_of("sample_size_mean"))
def test_reference_sizes_of_means_are_met(case: dict[str, Any]) -> None:
    inputs = case["inputs"]
    asked = total(
        effect=inputs["diff"],
        effect_scale="absolute",
        deviation=float(inputs["sd"]),
        alpha=inputs["alpha"],
        power=inputs["power"],
    )
    found = {
        "n_control_t": control_units(asked),
        "n_control_z": control_units(dataclasses.replace(asked, formula="normal")),
    }
    assert_matches(case, **{name: found[name] for name in found if name in case["expected"]})


@pytest.mark.parametrize("case", cases_of("sample_size_rule_of_thumb"))
def test_the_rule_of_thumb_is_two_percent_above(case: dict[str, Any]) -> None:
    """16 σ² / δ² rounds 2 (1.96 + 0.84)² = 15.70 up."""
    for one, expected in zip(case["inputs"]["cases"], case["expected"]["n"], strict=True):
        baseline = one.get("mean", one.get("p"))
        deviation = one["sd"] if "sd" in one else math.sqrt(baseline * (1 - baseline))
        delta = one["relative"] * baseline
        assert 16 * deviation**2 / delta**2 == pytest.approx(expected, rel=1e-9)
        exact = control_units(
            total(baseline=baseline, deviation=deviation, effect=0.05, formula="normal")
        )
        assert expected / exact == pytest.approx(16 / 15.698, rel=1e-4)


@pytest.mark.parametrize("case", cases_of("power_mean"))
def test_the_reference_power_of_means_is_met(case: dict[str, Any]) -> None:
    inputs = case["inputs"]
    asked = total(
        goal="power",
        effect=inputs["diff"],
        effect_scale="absolute",
        units=inputs["n_control"] + inputs["n_treatment"],
    )
    normal = dataclasses.replace(asked, formula="normal")
    smallest = dataclasses.replace(normal, goal="minimum_effect", effect=None)
    assert_matches(
        case,
        power_t=plan(asked).power,
        power_z=plan(normal).power,
        mde80_z=plan(smallest).effect,
    )


@pytest.mark.parametrize("case", cases_of("power_proportion"))
def test_the_reference_power_of_rates_is_met(case: dict[str, Any]) -> None:
    inputs = case["inputs"]
    asked = rate(
        baseline=inputs["p_control"],
        goal="power",
        effect=inputs["diff"],
        effect_scale="absolute",
        units=2 * inputs["n_control"],
    )
    assert_matches(case, power=plan(asked).power)


@pytest.mark.parametrize("case", cases_of("sample_size_ratio_cuped"))
def test_the_reference_size_of_a_ratio_with_a_covariate_is_met(case: dict[str, Any]) -> None:
    sample, expected = case["inputs"]["sample"], case["expected"]
    names, count = ("y", "d", "xy", "xd"), sample["n"]
    means = {name: sample[f"sum_{name}"] / count for name in names}

    def covariance(one: str, other: str) -> float:
        key = f"sum_{one}*{other}" if f"sum_{one}*{other}" in sample else f"sum_{other}*{one}"
        return (sample[key] - count * means[one] * means[other]) / (count - 1)

    def of_ratios(a: str, b: str, c: str, d: str) -> float:
        """Covariance of a/b and c/d, per unit, by the delta method."""
        first, second = means[a] / means[b], means[c] / means[d]
        return (
            covariance(a, c)
            - second * covariance(a, d)
            - first * covariance(b, c)
            + first * second * covariance(b, d)
        ) / (means[b] * means[d])

    variance, past = of_ratios("y", "d", "y", "d"), of_ratios("xy", "xd", "xy", "xd")
    correlation = of_ratios("y", "d", "xy", "xd") / math.sqrt(variance * past)
    asked = PlanInputs(
        kind="ratio",
        baseline=means["y"] / means["d"],
        deviation=math.sqrt(variance),
        effect=case["inputs"]["rel_effect"],
    )
    assert 2 * control_units(asked) == pytest.approx(expected["total_n_without"], abs=1)
    with_past = dataclasses.replace(asked, covariate_correlation=correlation)
    assert 2 * control_units(with_past) == pytest.approx(expected["total_n_with_cuped"], abs=1)
    half = dataclasses.replace(with_past, covariate_share=0.5)
    assert control_units(with_past) < control_units(half) < control_units(asked)


def test_every_reference_case_of_planning_is_checked() -> None:
    planned = {one["category"] for one in CASES if one["id"].startswith(("size-", "power-"))}
    assert planned == {
        "sample_size_proportion",
        "sample_size_mean",
        "sample_size_rule_of_thumb",
        "sample_size_ratio_cuped",
        "power_mean",
        "power_proportion",
    }


@given(
    st.floats(0.05, 0.5),
    st.sampled_from([0.001, 0.05, 0.2]),
    st.sampled_from([0.5, 0.8, 0.99]),
    st.sampled_from([1, 2]),
)
def test_sizes_are_those_of_statsmodels(
    effect: float, alpha: float, power: float, sides: Any
) -> None:
    """Where they have an answer: at alpha = 0.001 and n = 66 their power is not a number."""
    asked = total(effect=effect, effect_scale="absolute", alpha=alpha, power=power, sides=sides)
    units = control_units(asked)
    alternative = "two-sided" if sides == 2 else "larger"
    theirs = float(sm_power.TTestIndPower().power(effect, units, alpha, alternative=alternative))
    assert math.isnan(theirs) or theirs == pytest.approx(power, abs=1e-9)


@given(st.floats(1, 1e7), st.floats(-6, 40), st.floats(1e-4, 0.99))
def test_the_noncentral_t_is_scipys_where_that_is_a_number(
    freedom: float, drift: float, tail: float
) -> None:
    t = float(stats.t.isf(tail / 2, freedom))
    found = noncentral_t_tail(t, freedom, drift)
    assert 0 <= found <= 1 + 1e-12
    theirs = 1 - float(special.nctdtr(freedom, drift, t))
    assert math.isnan(theirs) or found == pytest.approx(theirs, abs=1e-7)
    if drift == 0:
        assert found == pytest.approx(tail / 2, abs=1e-9)


def test_the_noncentral_t_is_a_number_where_scipys_is_not() -> None:
    """P(T' <= -3.37) with 130 degrees of freedom and drift 5.74, by direct integration."""
    freedom, drift, t = 129.68, 5.7376, -3.37
    assert math.isnan(stats.nct.cdf(t, freedom, drift))
    expected, _ = integrate.quad(
        lambda x: stats.norm.cdf(t * math.sqrt(x / freedom) - drift) * stats.chi2.pdf(x, freedom),
        20,
        400,
        epsabs=0,
        epsrel=1e-10,
    )
    assert noncentral_t_tail(-t, freedom, -drift) == pytest.approx(expected, rel=1e-8)


@given(st.floats(0.02, 0.9), st.floats(0.2, 5.0), st.integers(200, 100_000))
def test_power_with_unequal_shares_is_statsmodels(effect: float, ratio: float, units: int) -> None:
    asked = total(
        goal="power",
        effect=effect,
        effect_scale="absolute",
        units=units,
        weights=(1.0, ratio),
        formula="normal",
    )
    control = units / (1 + ratio)
    expected = sm_power.NormalIndPower().power(effect, control, 0.05, ratio=ratio)
    assert plan(asked).power == pytest.approx(float(expected), abs=1e-9)


KINDS = [
    rate(),
    total(),
    total(kind="count"),
    total(kind="mean", treatment_deviation=1.5),
    total(kind="ratio", formula="normal", covariate_correlation=0.6),
    PlanInputs(kind="quantile", baseline=10.0, quantile=0.9, density=0.02),
]


@pytest.mark.parametrize("inputs", KINDS, ids=lambda one: one.kind)
@pytest.mark.parametrize("direction", ["increase", "decrease"])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 0.3, 0.2)])
def test_size_power_and_smallest_effect_are_one_equation(
    inputs: PlanInputs, direction: Any, weights: tuple[float, ...]
) -> None:
    """The smallest effect of n units needs n units, and they find it as often as was asked."""
    smallest = plan(
        dataclasses.replace(
            inputs, goal="minimum_effect", units=40_000, direction=direction, weights=weights
        )
    )
    assert smallest.effect is not None
    assert (smallest.effect > 0) == (direction == "increase")
    assert smallest.power == pytest.approx(0.8, abs=2e-6)
    back = dataclasses.replace(
        inputs,
        effect=smallest.effect,
        effect_scale="absolute",
        direction=direction,
        weights=weights,
    )
    assert control_units(back) == pytest.approx(40_000 * weights[0] / sum(weights), rel=1e-6)
    found = plan(dataclasses.replace(back, goal="power", units=40_000))
    assert found.power == pytest.approx(0.8, abs=2e-6)


def test_a_quantile_is_planned_by_its_density() -> None:
    """√(0.9 · 0.1) / 0.02 = 15: the same as a mean with that deviation."""
    by_density = PlanInputs(kind="quantile", baseline=10.0, quantile=0.9, density=0.02, effect=0.1)
    by_deviation = total(baseline=10.0, deviation=15.0, effect=0.1, formula="normal")
    assert control_units(by_density) == pytest.approx(control_units(by_deviation), rel=1e-12)


def test_non_inferiority_by_hand() -> None:
    """(1.645 + 0.842)² · 2 · 1² / 0.05² with a true effect of 0, one-sided."""
    asked = total(margin=0.05, margin_scale="absolute", formula="normal")
    expected = (stats.norm.isf(0.05) + Z_POWER) ** 2 * 2 / 0.05**2
    assert control_units(asked) == pytest.approx(expected, rel=1e-9)
    worse = dataclasses.replace(asked, effect=-0.02, effect_scale="absolute")
    assert control_units(worse) == pytest.approx(expected * (0.05 / 0.03) ** 2, rel=1e-9)


def test_a_relative_margin_counts_the_controls_noise_by_the_contrast() -> None:
    """treatment - 0.8 control has the variance 1 + 0.64; a decrease has 1 + 1.44."""
    asked = total(margin=0.2, formula="normal")
    one_sided = (stats.norm.isf(0.05) + Z_POWER) ** 2 / 0.2**2
    assert control_units(asked) == pytest.approx(one_sided * 1.64, rel=1e-9)
    latency = dataclasses.replace(asked, direction="decrease")
    assert control_units(latency) == pytest.approx(one_sided * 2.44, rel=1e-9)


def test_an_effect_beyond_the_margin_is_never_shown_to_be_within_it() -> None:
    found = plan(total(margin=0.05, effect=-0.06, margin_scale="absolute"))
    assert found.status == "not_attainable"
    assert found.units is found.power is None


def test_guardrails_that_pass_share_alpha_with_nothing() -> None:
    """All of them have to pass, so passing is not corrected: nor is its plan."""
    asked = rate(margin=0.1, direction="decrease")
    alone = plan(asked)
    several = plan(dataclasses.replace(asked, decision_metrics=3, weights=(1.0, 1.0, 1.0)))
    assert several.alpha_per_comparison == alone.alpha_per_comparison == 0.05
    assert several.comparisons == 1
    assert several.units_by_variant == (alone.units_by_variant[0],) * 3
    assert not any("shared" in note for note in several.notes)


def test_several_variants_share_alpha_and_the_smallest_decides() -> None:
    asked = rate(effect=0.1, weights=(0.5, 0.3, 0.2), decision_metrics=2)
    found = plan(asked)
    assert found.comparisons == 4
    assert found.alpha_per_comparison == 0.05 / 4
    pair = plan(rate(effect=0.1, weights=(0.5, 0.2), alpha=0.05 / 4))
    assert found.units_control_exact == pytest.approx(pair.units_control_exact, rel=1e-12)
    alone = plan(dataclasses.replace(asked, correction="none"))
    assert alone.alpha_per_comparison == 0.05
    assert sum(found.units_by_variant) == found.units


def test_units_given_are_split_without_a_rest() -> None:
    found = plan(total(goal="power", effect=0.1, units=1_001, weights=(1.0, 1.0, 1.0)))
    assert found.units == sum(found.units_by_variant) == 1_001
    assert max(found.units_by_variant) - min(found.units_by_variant) == 1


def test_the_smallest_relative_effect_counts_the_controls_noise() -> None:
    """r solves r² m² = k² (σ² / n)(1 + (1 + r)²)."""
    units = 20_000
    found = plan(total(goal="minimum_effect", baseline=10.0, deviation=30.0, units=units))
    r = found.relative_minimum_effect
    assert r is not None
    assert found.relative_effect is not None
    assert r > found.relative_effect
    k = (found.effect or 0.0) / math.sqrt(2 * 900 / (units / 2))
    assert r**2 * 100 == pytest.approx(k**2 * 900 / (units / 2) * (1 + (1 + r) ** 2), rel=1e-9)


@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_of_a_negative_baseline_it_is_a_share_of_its_size(direction: Any) -> None:
    """A mean of -10 that rises is one of 10 that falls."""
    asked = total(goal="minimum_effect", baseline=-10.0, deviation=30.0, units=20_000)
    turned = "decrease" if direction == "increase" else "increase"
    found = plan(dataclasses.replace(asked, direction=direction)).relative_minimum_effect
    mirrored = plan(dataclasses.replace(asked, baseline=10.0, direction=turned))
    assert mirrored.relative_minimum_effect is not None
    assert found == pytest.approx(-mirrored.relative_minimum_effect, rel=1e-12)


def test_a_smallest_relative_effect_may_not_exist() -> None:
    """It needs n > k² s² / m² in the control, k = 2.80: with s = 30 and m = 1 that is 7,064."""
    k = Z_HALF_ALPHA + Z_POWER
    limit = 2 * k**2 * 900
    for units, status in ((limit * 0.999, "not_attainable"), (limit * 1.001, "ok")):
        found = plan(
            total(goal="minimum_effect", deviation=30.0, units=int(units), formula="normal")
        )
        assert found.status == "ok"
        assert found.relative_status == status
        assert (found.relative_minimum_effect is None) == (status != "ok")
    nothing = plan(total(goal="minimum_effect", baseline=0.0, units=1_000))
    assert nothing.relative_status == "undefined"
    assert nothing.relative_effect is None


def test_an_effect_that_no_rate_can_have_is_not_attainable() -> None:
    found = plan(rate(baseline=0.001, goal="minimum_effect", units=100, direction="decrease"))
    assert found.status == "not_attainable"
    assert found.notes[0].startswith("even the largest")


def test_days_wait_for_the_ramp_and_for_the_last_unit_to_mature() -> None:
    """100 + 500 on the first two days, 1,000 a day from then on; three days more to mature."""
    ramp = (0.1, 0.5, 1.0)
    assert days_to_enter(600, units_per_day=1_000, ramp=ramp) == 2.0
    assert days_to_enter(50, units_per_day=1_000, ramp=ramp) == 0.5
    assert days_to_enter(3_100, units_per_day=1_000, ramp=ramp) == 4.5
    found = days_to_mature(3_100, units_per_day=1_000, ramp=ramp, window_days=3)
    assert found == 7.5


@given(
    st.floats(0, 1e7),
    st.floats(1, 1e6),
    st.lists(st.floats(0.01, 1), min_size=1, max_size=5),
)
def test_units_and_days_are_inverse(units: float, per_day: float, ramp: list[float]) -> None:
    days = days_to_enter(units, units_per_day=per_day, ramp=ramp)
    assert units_entered(days, units_per_day=per_day, ramp=ramp) == pytest.approx(
        units, rel=1e-9, abs=1e-6
    )


def test_days_are_none_without_traffic() -> None:
    assert plan(rate(effect=0.1)).days is None
    found = plan(rate(effect=0.1, units_per_day=1_000, window_days=2))
    assert found.units is not None
    assert found.days == pytest.approx(found.units / 1_000 + 2)


@pytest.mark.parametrize(
    ("field", "inputs"),
    [
        ("effect", rate()),
        ("effect", rate(effect=0.0)),
        ("effect", rate(effect=20.0)),
        ("units", rate(goal="power", effect=0.1)),
        ("units", rate(goal="minimum_effect", units=3)),
        ("baseline", rate(baseline=1.0, effect=0.1)),
        ("baseline", total(baseline=0.0, effect=0.1)),
        ("baseline", total(baseline=math.nan, effect=0.1)),
        ("deviation", total(deviation=None, effect=0.1)),
        ("treatment_deviation", total(treatment_deviation=0.0, effect=0.1)),
        ("quantile", PlanInputs(kind="quantile", baseline=1.0, density=1.0, effect=0.1)),
        ("density", PlanInputs(kind="quantile", baseline=1.0, quantile=0.5, effect=0.1)),
        ("alpha", rate(alpha=0.0, effect=0.1)),
        ("power", rate(power=0.04, effect=0.1)),
        ("weights", rate(weights=(1.0,), effect=0.1)),
        ("weights", rate(weights=(1.0, 0.0), effect=0.1)),
        ("margin", rate(margin=0.0)),
        ("formula", rate(margin=0.1, formula="pooled")),
        ("margin", rate(margin=0.1, goal="minimum_effect", units=100)),
        ("formula", rate(formula="normal", effect=0.1)),
        ("formula", total(formula="pooled", effect=0.1)),
        ("decision_metrics", rate(decision_metrics=0, effect=0.1)),
        ("covariate_correlation", total(covariate_correlation=1.0, effect=0.1)),
        ("covariate_share", total(covariate_share=1.1, effect=0.1)),
        ("units_per_day", rate(units_per_day=0.0, effect=0.1)),
        ("ramp", rate(ramp=(), effect=0.1)),
        ("window_days", rate(window_days=-1.0, effect=0.1)),
        ("planned_looks", rate(planned_looks=(0.5, 0.4, 1.0), effect=0.1)),
        ("planned_looks", rate(planned_looks=(0.5,), effect=0.1)),
        ("spending_power", rate(spending_power=0.0, effect=0.1)),
        ("looks", rate(looks=0, effect=0.1)),
        ("n_star", rate(n_star=0, effect=0.1)),
        ("prior_deviation", rate(prior_deviation=0.0, effect=0.1)),
        ("threshold", rate(threshold=0.5, method="bayesian", effect=0.1)),
        ("prior_mean", total(prior_mean=0.1, prior_deviation=0.01, method="bayesian", effect=0.1)),
        ("prior", rate(prior_deviation=0.01, method="bayesian", effect=0.1)),
    ],
)
def test_what_cannot_be_planned_names_the_field(field: str, inputs: PlanInputs) -> None:
    with pytest.raises(PlanError) as raised:
        plan(inputs)
    assert raised.value.field == field


@pytest.mark.parametrize("inputs", [*KINDS, rate(margin=0.1), total(margin=0.1)])
def test_every_plan_names_its_formula_and_its_source(inputs: PlanInputs) -> None:
    for method in ("fixed_horizon", "always_valid", "group_sequential", "bayesian"):
        asked = dataclasses.replace(inputs, method=method, formula=None)
        formula = formula_of(asked)
        assert formula.name
        assert formula.source
        assert "=" in formula.expression
    is_guardrail = inputs.margin is not None
    fixed = formula_of(dataclasses.replace(inputs, formula=None))
    assert fixed.name.startswith("non_inferiority_") == is_guardrail


def _welch_rejects(rng: np.random.Generator, *, units: int, effect: float, runs: int) -> float:
    means = [rng.normal(mean, 1 / math.sqrt(units), runs) for mean in (1.0, 1.0 + effect)]
    variances = [rng.chisquare(units - 1, runs) / (units - 1) for _ in range(2)]
    t = (means[1] - means[0]) / np.sqrt((variances[0] + variances[1]) / units)
    return float(np.mean(np.abs(t) > stats.t.isf(0.025, 2 * units - 2)))


def test_planned_sizes_of_means_deliver_their_power() -> None:
    units = plan(total(effect=0.3)).units_by_variant[0]
    found = _welch_rejects(np.random.default_rng(1), units=units, effect=0.3, runs=20_000)
    assert found == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / 20_000) + 0.005)


def test_planned_sizes_of_rates_deliver_their_power() -> None:
    result: PlanResult = plan(rate(effect=0.2))
    units, rng, runs = result.units_by_variant[0], np.random.default_rng(2), 20_000
    counts = [rng.binomial(units, p, runs) for p in (0.1, 0.12)]
    pooled = (counts[0] + counts[1]) / (2 * units)
    z = (counts[1] - counts[0]) / units / np.sqrt(pooled * (1 - pooled) * 2 / units)
    found = float(np.mean(np.abs(z) > Z_HALF_ALPHA))
    assert found == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / runs) + 0.003)


def _arm(units: int, converted: int) -> ArmMean:
    share = converted / units
    return ArmMean(units, share, math.sqrt(share * (1 - share) / (units - 1)))


def _share_that_passes(asked: PlanInputs, units: tuple[int, ...], *, runs: int) -> float:
    """By the test that reads a guardrail, with two variants that do not differ."""
    assert asked.margin is not None
    guardrail = Guardrail(Margin(asked.margin, asked.margin_scale), asked.direction, asked.alpha)
    rng = np.random.default_rng(4)
    drawn = zip(*(rng.binomial(n, asked.baseline, runs).tolist() for n in units), strict=True)
    tests = (
        fixed_guardrail(_arm(units[0], c), _arm(units[1], t), guardrail, is_rate=True)
        for c, t in drawn
    )
    return sum(test.status == "pass" for test in tests) / runs


@pytest.mark.parametrize(
    ("baseline", "margin", "scale", "weights", "direction"),
    [
        (0.01, 0.005, "absolute", (1.0, 1.0), "decrease"),
        (0.002, 0.002, "absolute", (1.0, 1.0), "decrease"),
        (0.01, 0.005, "absolute", (9.0, 1.0), "decrease"),
        (0.002, 0.002, "absolute", (9.0, 1.0), "decrease"),
        (0.002, 0.002, "absolute", (19.0, 1.0), "decrease"),
        (0.99, 0.005, "absolute", (9.0, 1.0), "increase"),
        (0.05, 0.2, "relative", (19.0, 1.0), "decrease"),
        (0.05, 0.2, "relative", (1.0, 4.0), "increase"),
        (0.02, 0.5, "relative", (9.0, 1.0), "decrease"),
    ],
)
def test_planned_guardrails_of_rates_pass_as_often_as_planned(
    baseline: float, margin: float, scale: Any, weights: tuple[float, ...], direction: Any
) -> None:
    asked = rate(
        baseline=baseline,
        margin=margin,
        margin_scale=scale,
        weights=weights,
        direction=direction,
        method="fixed_horizon",
    )
    found = plan(asked)
    assert found.formula.name == "non_inferiority_score"
    passed = _share_that_passes(asked, found.units_by_variant, runs=3_000)
    assert found.power == pytest.approx(passed, abs=0.03)


def test_the_plain_size_of_a_rates_guardrail_can_still_be_asked_for() -> None:
    """(z_a + z_b)² · 2 p(1 - p) / m²: too few for the score test, and it says its name."""
    asked = rate(margin=0.02, margin_scale="absolute", formula="unpooled")
    expected = (stats.norm.isf(0.05) + Z_POWER) ** 2 * 2 * 0.1 * 0.9 / 0.02**2
    assert control_units(asked) == pytest.approx(expected, rel=1e-9)
    assert plan(asked).formula.name == "non_inferiority_unpooled"
    assert plan(dataclasses.replace(asked, formula=None)).units > plan(asked).units


def test_a_rates_guardrail_is_planned_for_the_rarest_conversions() -> None:
    """Of rare events only their number counts: the size goes by 1 / rate."""
    rare = [rate(baseline=p, margin=p, margin_scale="absolute") for p in (1e-9, 1e-6)]
    few, many = (control_units(one) * one.baseline for one in rare)
    assert few == pytest.approx(many, rel=1e-5)


def test_a_relative_margin_of_a_rate_waits_until_conversions_can_be_expected() -> None:
    asked = rate(baseline=0.01, margin=3.0, weights=(19.0, 1.0), direction="decrease")
    found = plan(asked)
    assert _share_that_passes(asked, found.units_by_variant, runs=500) >= 0.8
    assert found.notes[-1].startswith("nothing is found before the burn-in")
    early = dataclasses.replace(asked, goal="power", units=found.units // 3)
    assert plan(early).power == 0
    counts = (found.units_by_variant[0] // 3, found.units_by_variant[1] // 3)
    assert _share_that_passes(early, counts, runs=500) <= 0.05


def test_a_watched_rates_guardrail_is_planned_with_its_share_of_alpha() -> None:
    asked = rate(margin=0.1, method="always_valid")
    assert plan(asked).alpha_per_comparison == pytest.approx(0.045)
    assert plan(total(margin=0.1, method="always_valid")).alpha_per_comparison == 0.05
    decision = rate(effect=0.1, method="always_valid")
    assert plan(decision).alpha_per_comparison == 0.05
