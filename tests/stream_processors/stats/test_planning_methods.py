"""Plans of runs of looks and of posterior decisions: published inflations, and simulated runs."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from stream_processors.stats import planning_bayes
from stream_processors.stats.comparisons import Comparison, compare_all
from stream_processors.stats.edges import BURN_IN_UNITS
from stream_processors.stats.effects import Plan
from stream_processors.stats.group_sequential import GroupPlan, boundaries
from stream_processors.stats.guardrails import ArmMean, Guardrail, Margin, sequential_guardrail
from stream_processors.stats.planning import PlanError, PlanInputs, plan
from stream_processors.stats.planning_sample_ratio import (
    noncentrality_per_unit,
    sample_ratio_loss,
    sample_ratio_power,
    sample_ratio_units,
    with_loss,
)
from stream_processors.stats.planning_sequential import group_drift, run_of
from stream_processors.stats.sample_ratio import sample_ratio_log_e_value
from stream_processors.stats.sequential import critical_value, mixture_variance
from stream_processors.stats.sums import JointSums, MetricSums
from tests.stream_processors.stats.oracles import CASES

RUNS = 20_000


def total(**fields: Any) -> PlanInputs:
    """A metric of unit totals with mean 1 and standard deviation 1."""
    return PlanInputs(**({"kind": "sum", "baseline": 1.0, "deviation": 1.0} | fields))


def walks(drift: float, times: np.ndarray, *, seed: int) -> np.ndarray:
    """z at the looks of experiments with that drift, shape (RUNS, looks)."""
    steps = np.diff(times, prepend=0.0)
    rng = np.random.default_rng(seed)
    scores = np.cumsum(rng.normal(drift * steps, np.sqrt(steps), (RUNS, len(times))), axis=1)
    return scores / np.sqrt(times)


def run_results(z: np.ndarray, critical: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """Share of runs that reject on either side, and the average share of the units used."""
    crossed = np.abs(z) > critical
    rejected = crossed.any(axis=1)
    stop = np.where(rejected, times[crossed.argmax(axis=1)], 1.0)
    return float(rejected.mean()), float(stop.mean())


@pytest.mark.parametrize(
    ("looks", "power", "pocock", "obrien_fleming"),
    [
        (2, 0.8, 1.110, 1.008),
        (3, 0.8, 1.166, 1.017),
        (5, 0.8, 1.229, 1.028),
        (10, 0.8, 1.301, 1.040),
        (5, 0.9, 1.207, 1.026),
    ],
)
def test_published_inflations_are_met(
    looks: int, power: float, pocock: float, obrien_fleming: float
) -> None:
    """Jennison and Turnbull (2000), tables 2.2 and 2.4, alpha = 0.05 two-sided.

    They leave out rejections on the wrong side.
    """
    times = [(look + 1) / looks for look in range(looks)]
    single = stats.norm.isf(0.025) + stats.norm.ppf(power)
    for expected, shape in ((pocock, 0.0), (obrien_fleming, 0.5)):
        low, high = 1.5, 4.0
        for _ in range(60):
            constant = (low + high) / 2
            run = run_of(times, [constant * time**-shape for time in times], 2)
            low, high = (constant, high) if run.power(0.0, 2) > 0.05 else (low, constant)
        found = (group_drift(run, power, 1) / single) ** 2
        assert found == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock", "power"])
def test_group_sequential_plans_deliver_their_power_and_their_expected_units(
    spending: Any,
) -> None:
    found = plan(
        total(effect=0.05, method="group_sequential", spending=spending, spending_power=1.5)
    )
    assert found.units is not None
    assert found.expected_units is not None
    assert found.expected_units_null is not None
    times, critical = np.array([0.2, 0.4, 0.6, 0.8, 1.0]), np.array(found.boundaries)
    drift = 0.05 / math.sqrt(2 / (found.units / 2))
    power, share = run_results(walks(drift, times, seed=1), critical, times)
    assert power == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / RUNS))
    assert found.expected_units / found.units == pytest.approx(share, abs=0.01)
    error, null_share = run_results(walks(0.0, times, seed=2), critical, times)
    assert error == pytest.approx(0.05, abs=4 * math.sqrt(0.0475 / RUNS))
    assert found.expected_units_null / found.units == pytest.approx(null_share, abs=0.005)


def test_the_reference_power_of_a_watched_run_is_met() -> None:
    """Case aa-01: effect 0.05 sd, 20,000 units, N* 20,000, 200 looks: 78.0 % of 20,000 runs."""
    case = next(case for case in CASES if case["id"] == "aa-01")
    expected = case["expected"]["asympcs_power_normal_effect_.05sd_Nstar20000"]
    asked = total(
        goal="power", effect=0.05, units=20_000, method="always_valid", n_star=20_000, looks=200
    )
    error = 4 * math.sqrt(expected * (1 - expected) / RUNS)
    assert plan(asked).power == pytest.approx(expected, abs=error)
    fixed = plan(dataclasses.replace(asked, method="fixed_horizon")).power
    assert fixed == pytest.approx(case["expected"]["fixed_power_same"], abs=0.004)


@pytest.mark.parametrize("n_star", [None, 2_000])
def test_always_valid_plans_deliver_their_power_and_their_expected_units(
    n_star: int | None,
) -> None:
    found = plan(total(effect=0.1, method="always_valid", n_star=n_star, looks=40))
    assert found.units is not None
    assert found.expected_units is not None
    times = np.arange(1, 41) / 40
    counts = found.units * times
    critical = critical_value(counts, alpha=0.05, n_star=found.n_star)
    critical = np.where(counts / 2 < BURN_IN_UNITS, np.inf, critical)
    drift = 0.1 / math.sqrt(2 / (found.units / 2))
    power, share = run_results(walks(drift, times, seed=3), critical, times)
    assert power == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / RUNS))
    assert found.expected_units / found.units == pytest.approx(share, abs=0.01)
    assert found.power_single_look is not None
    assert found.power_single_look < 0.8
    assert found.inflation is not None
    assert 1.5 < found.inflation < 2


def test_sequences_tuned_to_their_end_need_the_least_units_about() -> None:
    units = {
        n_star: plan(total(effect=0.2, method="always_valid", n_star=n_star, looks=30)).units
        for n_star in (None, 100, 10_000)
    }
    assert units[None] is not None
    assert all(units[None] < (units[other] or 0) for other in (100, 10_000))


def test_a_run_that_ends_in_the_burn_in_finds_nothing() -> None:
    found = plan(total(goal="power", effect=2.0, units=198, method="always_valid"))
    assert found.power == found.power_single_look == 0.0
    assert found.expected_units is None
    after = plan(total(goal="power", effect=2.0, units=200, method="always_valid"))
    assert after.power == pytest.approx(1.0, abs=1e-9)


def test_a_rate_starts_when_thirty_units_converted_in_both_arms() -> None:
    """At 1 % and 2 % that is 4,305 units of the control, with two standard errors to spare."""
    asked = PlanInputs(
        kind="conversion", baseline=0.01, effect=1.0, goal="power", method="always_valid"
    )
    before, after = (
        plan(dataclasses.replace(asked, units=units)).power for units in (8_610, 8_612)
    )
    assert before == 0.0
    assert after is not None
    assert after > 0.1


def chance_of_a_start(units: tuple[int, ...], rates: tuple[float, float]) -> float:
    """Chance that 30 units converted, and 30 did not, of each: exact, by the binomial law."""
    chances = [
        stats.binom.cdf(count - 30, count, rate) - stats.binom.cdf(29, count, rate)
        for count, rate in zip(units, rates, strict=True)
    ]
    return math.prod(chances) if min(units) >= BURN_IN_UNITS else 0.0


@pytest.mark.parametrize("method", ["always_valid", "group_sequential", "bayesian"])
@pytest.mark.parametrize("power", [0.8, 0.95])
@pytest.mark.parametrize(
    "rates", [(0.01, 0.05), (0.001, 0.05), (0.2, 0.6), (0.98, 0.8), (0.02, 0.02 * 1.9)]
)
def test_at_its_end_a_plan_of_rates_has_started_at_least_as_often_as_it_finds(
    rates: tuple[float, float], power: float, method: Any
) -> None:
    """With the expected counts alone, every second experiment would still wait."""
    for weights in ((1.0, 1.0), (9.0, 1.0), (1.0, 9.0)):
        found = plan(
            PlanInputs(kind="conversion", baseline=rates[0], effect=rates[1] - rates[0],
                       effect_scale="absolute", power=power, method=method, weights=weights)
        )  # fmt: skip
        assert found.power is not None
        assert found.power >= power - 1e-6
        assert chance_of_a_start(found.units_by_variant, rates) >= power


def test_a_rate_decides_by_its_posterior_from_the_burn_in_on() -> None:
    asked = PlanInputs(kind="conversion", baseline=0.01, effect=4.0, method="bayesian")
    found, at_once = plan(asked), plan(dataclasses.replace(asked, margin=0.001))
    assert found.units_by_variant == (4_306, 4_306)
    assert "nothing is found before the burn-in of about 8,612 units" in found.notes
    fewer = dataclasses.replace(asked, goal="power", units=8_610)
    assert plan(fewer).power == 0
    believed = plan(dataclasses.replace(fewer, covariate_correlation=0.3, prior_deviation=0.02))
    assert (believed.power, believed.assurance) == (0, 0)
    assert at_once.units is not None  # Guardrails do not wait for it.
    assert at_once.units < 2_000
    assert not any("burn-in" in note for note in at_once.notes)


def test_a_posterior_of_totals_waits_for_the_burn_in_only_where_a_covariate_adjusts_it() -> None:
    asked = total(effect=2.0, method="bayesian")
    adjusted = plan(dataclasses.replace(asked, covariate_correlation=0.3))
    assert adjusted.units == 200
    assert (plan(asked).units or 0) < 30


def test_a_mixture_over_effects_is_an_n_star_by_another_name() -> None:
    """τ² / SE² = N ρ², so that τ² = ρ² N SE², with N SE² = 4 for two equal arms of variance 1."""
    asked = total(goal="power", effect=0.05, units=20_000, method="always_valid", looks=30)
    tau = math.sqrt(4 * mixture_variance(0.05, 5_000))
    by_effects = plan(dataclasses.replace(asked, tau=tau))
    by_units = plan(dataclasses.replace(asked, n_star=5_000))
    assert by_effects.power == pytest.approx(by_units.power, rel=1e-9)
    assert (by_effects.n_star, by_units.n_star) == (None, 5_000)
    for wrong in (dataclasses.replace(asked, tau=0.0), dataclasses.replace(asked, tau=1, n_star=5)):
        with pytest.raises(PlanError, match="tau"):
            plan(wrong)


@pytest.mark.parametrize("method", ["always_valid", "group_sequential"])
@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_size_power_and_smallest_effect_are_one_equation(method: Any, direction: Any) -> None:
    asked = PlanInputs(
        kind="conversion",
        baseline=0.1,
        goal="minimum_effect",
        units=30_000,
        direction=direction,
        method=method,
        n_star=5_000,
        looks=30,
    )
    smallest = plan(asked)
    assert smallest.effect is not None
    assert (smallest.effect > 0) == (direction == "increase")
    back = dataclasses.replace(
        asked, goal="sample_size", effect=smallest.effect, effect_scale="absolute"
    )
    size = plan(back)
    assert size.units_control_exact == pytest.approx(15_000, rel=1e-6)
    power = plan(dataclasses.replace(back, goal="power")).power
    assert power == pytest.approx(0.8, abs=2e-6)


@pytest.mark.parametrize("method", ["always_valid", "group_sequential"])
def test_guardrails_are_planned_on_one_side(method: Any) -> None:
    """At the margin itself a guardrail passes in alpha of the runs, and no more."""
    asked = total(margin=0.05, method=method, looks=30)
    found = plan(asked)
    assert found.power == pytest.approx(0.8, abs=1e-4)
    at_margin = dataclasses.replace(asked, effect=-0.05 + 1e-9, goal="power", units=found.units)
    chance = plan(at_margin).power
    assert chance is not None
    if method == "group_sequential":
        assert chance == pytest.approx(0.05, abs=1e-6)
    else:
        assert chance < 0.05


def test_watched_guardrails_pass_as_often_as_planned() -> None:
    """By simulated runs against the bounds that a guardrail itself has."""
    looks, units, n_star, margin = 30, 8_000, 2_000, 0.08
    asked = total(
        goal="power",
        margin=margin,
        margin_scale="absolute",
        units=units,
        method="always_valid",
        n_star=n_star,
        looks=looks,
    )
    guardrail = Guardrail(Margin(margin, "absolute"))
    times, critical = np.arange(1, looks + 1) / looks, []
    for time in times:
        arm = ArmMean(round(units * time / 2), 1.0, 1 / math.sqrt(units * time / 2))
        test = sequential_guardrail(arm, arm, guardrail, n_star=n_star)
        assert test.critical_value is not None
        critical.append(test.critical_value)
    z = walks(margin / math.sqrt(2 / (units / 2)), times, seed=6)
    started = units * times / 2 >= BURN_IN_UNITS
    passed = float((z > np.array(critical))[:, started].any(axis=1).mean())
    found = plan(asked)
    assert found.power == pytest.approx(passed, abs=4 * math.sqrt(0.25 / RUNS))
    at_end = stats.norm.sf(critical[-1] - margin / math.sqrt(2 / (units / 2)))
    assert found.power_single_look == pytest.approx(at_end, rel=1e-9)


def test_planned_boundaries_are_those_of_the_test() -> None:
    found = plan(total(effect=0.1, method="group_sequential", planned_looks=(0.3, 0.8, 1.0)))
    assert found.boundaries == boundaries((0.3, 0.8, 1.0), GroupPlan())


def test_a_flat_prior_decides_like_a_one_sided_test_at_one_less_the_threshold() -> None:
    bayesian = plan(total(effect=0.1, method="bayesian", threshold=0.95))
    fixed = plan(total(effect=0.1, sides=1, alpha=0.05, formula="normal"))
    assert bayesian.units == fixed.units
    assert bayesian.power == pytest.approx(fixed.power)
    assert bayesian.assurance is None


@pytest.mark.parametrize("prior_mean", [-0.02, 0.0, 0.02])
@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_decisions_by_a_posterior_come_as_often_as_planned(
    prior_mean: float, direction: Any
) -> None:
    """By drawing estimates, and for the assurance effects too, from what is assumed."""
    asked = total(
        goal="power",
        effect=0.08,
        effect_scale="absolute",
        units=3_000,
        method="bayesian",
        threshold=0.95,
        prior_mean=prior_mean,
        prior_deviation=0.05,
    )
    if direction == "decrease":
        asked = dataclasses.replace(
            asked, direction=direction, effect=-0.08, prior_mean=-prior_mean
        )
    found = plan(asked)
    rng = np.random.default_rng(4)
    std_error = math.sqrt(2 / 1_500)
    precision = 1 / std_error**2 + 1 / 0.05**2
    for expected, effects in (
        (found.power, np.full(RUNS, 0.08)),
        (found.assurance, rng.normal(prior_mean, 0.05, RUNS)),
    ):
        estimates = rng.normal(effects, std_error)
        mean = (estimates / std_error**2 + prior_mean / 0.05**2) / precision
        decided = np.mean(stats.norm.cdf(mean * math.sqrt(precision)) > 0.95)
        assert expected == pytest.approx(decided, abs=4 * math.sqrt(0.25 / RUNS))


def test_a_sceptical_prior_needs_more_units_and_they_deliver() -> None:
    flat = plan(total(effect=0.1, method="bayesian"))
    sceptical = plan(total(effect=0.1, method="bayesian", prior_deviation=0.05))
    assert sceptical.units is not None
    assert flat.units is not None
    assert sceptical.units > flat.units
    assert sceptical.power == pytest.approx(0.8, abs=2e-4)


def test_a_prior_that_decides_by_itself_is_refused() -> None:
    rule = planning_bayes.Rule(0.95, 0.1, 0.05)
    assert planning_bayes.decides_without_data(rule)
    with pytest.raises(PlanError, match="prior alone"):
        plan(total(effect=0.1, method="bayesian", prior_mean=0.1, prior_deviation=0.05))


def test_the_notes_say_what_a_plan_does_not_promise() -> None:
    bayesian = plan(total(effect=0.1, method="bayesian"))
    assert any("not protected against repeated looks" in note for note in bayesian.notes)
    watched = plan(total(effect=0.1, method="always_valid", looks=20))
    assert any("20 equal looks" in note for note in watched.notes)


@pytest.mark.parametrize("actual", [(1.0, 0.97), (0.5, 0.5, 0.95)])
def test_a_broken_split_is_seen_as_often_as_planned(actual: tuple[float, ...]) -> None:
    planned, units = [1.0] * len(actual), 60_000
    shares = np.array(actual) / sum(actual)
    counts = np.random.default_rng(5).multinomial(units, shares, 4_000)
    chi_square = ((counts - units / len(actual)) ** 2 / (units / len(actual))).sum(axis=1)
    seen = np.mean(chi_square > stats.chi2.isf(0.001, len(actual) - 1))
    expected = sample_ratio_power(units, planned, actual)
    assert expected == pytest.approx(seen, abs=4 * math.sqrt(0.25 / 4_000))
    needed = sample_ratio_units(planned, actual, power=0.9)
    assert sample_ratio_power(needed, planned, actual) == pytest.approx(0.9, abs=1e-9)


def test_one_percent_lost_of_a_million_is_seen() -> None:
    """As statistics of sample ratios have it: more than 99 % at p < 0.001."""
    assert sample_ratio_power(2_000_000, (1, 1), (1, 0.99)) > 0.99


def test_a_split_as_planned_has_nothing_to_be_seen() -> None:
    assert noncentrality_per_unit((1, 1), (3, 3)) == 0
    assert sample_ratio_power(10**6, (1, 1), (1, 1)) == pytest.approx(0.001, rel=1e-9)
    with pytest.raises(ValueError, match="nothing to see"):
        sample_ratio_units((1, 1), (2, 2))
    with pytest.raises(ValueError, match="same two or more"):
        sample_ratio_power(100, (1, 1), (1, 1, 1))


@pytest.mark.parametrize(("units", "loss"), [(2_250, 0.2), (20_000, 0.07), (1_000_000, 0.01)])
def test_the_power_of_the_watched_split_is_that_of_exact_counts(units: int, loss: float) -> None:
    """Of two variants: the counts at which the check itself raises the alarm, and their chance."""
    low, high = 0, units // 2
    while high - low > 1:
        middle = (low + high) // 2
        counts = (units - middle, middle)
        is_alarm = sample_ratio_log_e_value(counts, (1, 1)) > math.log(1_000)
        low, high = (middle, high) if is_alarm else (low, middle)
    share = (1 - loss) / (2 - loss)
    exact = stats.binom.cdf(low, units, share) + stats.binom.sf(units - low - 1, units, share)
    found = sample_ratio_power(units, (1, 1), (1, 1 - loss), check="sequential")
    assert 0.5 < exact < 0.95
    assert found == pytest.approx(float(exact), abs=0.02)


@pytest.mark.parametrize("check", ["sequential", "chi_square"])
def test_units_loss_and_power_of_the_split_are_one_equation(check: Any) -> None:
    planned = (0.5, 0.3, 0.2)
    units = sample_ratio_units(planned, with_loss(planned, 2, 0.05), power=0.9, check=check)
    power = sample_ratio_power(units, planned, with_loss(planned, 2, 0.05), check=check)
    assert power == pytest.approx(0.9, abs=1e-9)
    loss = sample_ratio_loss(units, planned, 2, power=0.9, check=check)
    assert loss == pytest.approx(0.05, rel=1e-6)
    assert sample_ratio_loss(10, planned, 2, power=0.9, check=check) is None


def rare_counts(**fields: Any) -> PlanInputs:
    """Orders of 2 % of the units against 4 %, of which one in ten is treated."""
    about = {"kind": "count", "baseline": 0.02, "deviation": 0.14, "treatment_deviation": 0.196}
    return PlanInputs(
        **(about | {"effect": 1.0, "weights": (9.0, 1.0), "method": "always_valid"} | fields)
    )


@pytest.mark.parametrize("method", ["always_valid", "group_sequential"])
def test_a_plan_of_rare_values_waits_until_they_are_no_longer_sparse(method: Any) -> None:
    found = plan(rare_counts(method=method))
    assert found.units_control_exact is not None
    assert found.power is not None
    too_few = plan(rare_counts(method=method, goal="power", units=found.units * 9 // 10))
    assert too_few.power == 0
    assert any("before the burn-in" in note for note in found.notes)


def test_a_plan_of_rare_values_keeps_its_power_in_the_comparisons_themselves() -> None:
    """Simulated: the sequence starts at the end of the plan, and finds what it promised."""
    found = plan(rare_counts())
    rng, runs = np.random.default_rng(11), 1_500
    arms = [
        [
            MetricSums(JointSums(units, (int(orders),), (int(orders),)))
            for orders in rng.binomial(units, rate, runs)
        ]
        for units, rate in zip(found.units_by_variant, (0.02, 0.04), strict=True)
    ]
    asked = [
        Comparison("count", control, treatment, Plan(0.05, found.n_star or 0))
        for control, treatment in zip(*arms, strict=True)
    ]
    sequences = [effect.sequence for effect in compare_all(asked)]
    started = [one for one in sequences if one is not None]
    assert len(started) > 0.95 * runs
    rejected = sum(one.p_value <= 0.05 for one in started) / runs
    assert found.power is not None
    assert rejected == pytest.approx(found.power, abs=0.04)
    assert rejected > 0.8


@pytest.mark.parametrize("method", ["always_valid", "group_sequential"])
def test_a_plan_of_a_rare_quantile_waits_for_units_beyond_it(method: Any) -> None:
    about = {"kind": "quantile", "baseline": 1_000.0, "quantile": 0.99, "density": 5e-5}
    found = plan(PlanInputs(**about, effect=0.5, method=method))
    assert 3_000 <= min(found.units_by_variant) <= max(found.units_by_variant) <= 3_001
    fewer = plan(PlanInputs(**about, effect=0.5, method=method, goal="power", units=5_998))
    assert fewer.power == 0


def test_planned_looks_before_the_burn_in_are_not_counted_and_are_named() -> None:
    looks = (0.05, 0.5, 1.0)
    found = plan(total(goal="power", units=1_000, effect=0.2, method="group_sequential",
                       planned_looks=looks))  # fmt: skip
    later = plan(total(goal="power", units=1_000, effect=0.2, method="group_sequential",
                       planned_looks=looks[1:]))  # fmt: skip
    assert (found.power, found.boundaries) == (later.power, later.boundaries)
    assert "nothing is found at 0.05 of the units" in " ".join(found.notes)
    assert not any("burn-in" in note for note in later.notes)
