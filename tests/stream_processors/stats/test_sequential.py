"""Confidence sequences: the reference cases, the mixture by quadrature, and peeking."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from stream_processors.stats.relative import contrast_of, delta_std_error
from stream_processors.stats.sequential import (
    bernoulli_sequence,
    confidence_sequence,
    critical_value,
    exact_mixture_variance,
    log_e_value,
    mixture_critical_value,
    mixture_of_effects,
    mixture_sequence,
    mixture_variance,
    one_sided_sequence,
    sequential_t_test,
)
from stream_processors.stats.sums import Moments
from tests.stream_processors.stats.oracles import assert_matches, cases_of


def moments_of(arm: dict[str, Any]) -> Moments:
    count, total = arm["n"], arm["sum"]
    mean = total / count
    if arm["kind"] == "prop":
        return Moments(count, mean, mean * (1 - mean))
    return Moments(count, mean, (arm["sum_squares"] - total * mean) / (count - 1))


@pytest.mark.parametrize("case", cases_of("sequential_asympcs"))
def test_reference_cases_are_met(case: dict[str, Any]) -> None:
    inputs = case["inputs"]
    control, treatment = moments_of(inputs["control"]), moments_of(inputs["treatment"])
    alpha, n_star = inputs["alpha"], inputs["N_star_total"]
    if inputs["scale"] == "relative":
        contrast = contrast_of(control, treatment)
        estimate, std_error = contrast.estimate.item(), delta_std_error(contrast).item()
    else:
        estimate = treatment.mean - control.mean
        std_error = math.sqrt(control.mean_variance + treatment.mean_variance)
    units = control.unit_count + treatment.unit_count
    test = confidence_sequence(estimate, std_error, unit_count=units, alpha=alpha, n_star=n_star)
    assert_matches(
        case,
        estimate=estimate,
        se=std_error,
        rho2_approx=mixture_variance(alpha, n_star),
        rho2_exact_lambertW=exact_mixture_variance(alpha, n_star),
        critical_z=test.critical_value,
        ci=(test.low, test.high),
        log_e_value=test.log_e_value,
        p_instant=test.p_value,
    )


@given(
    st.floats(-4, 4),
    st.integers(1, 10**6),
    st.sampled_from([0.01, 0.05, 0.1]),
    st.integers(100, 10**5),
)
def test_the_e_value_is_the_mixture_of_likelihood_ratios(
    z: float, unit_count: int, alpha: float, n_star: int
) -> None:
    """E over θ ~ N(0, k) of exp(θ z - θ²/2), with k = N ρ²: the mSPRT by its definition."""
    k = unit_count * mixture_variance(alpha, n_star)
    test = confidence_sequence(z, 1.0, unit_count=unit_count, alpha=alpha, n_star=n_star)
    scale = math.sqrt(k / (1 + k))
    centre = z * k / (1 + k)

    def integrand(theta: float) -> float:
        return math.exp(theta * z - theta**2 / 2 - theta**2 / (2 * k))

    mixture, _ = integrate.quad(integrand, centre - 12 * scale, centre + 12 * scale)
    assert test.log_e_value == pytest.approx(
        math.log(mixture / math.sqrt(2 * math.pi * k)), abs=1e-6
    )


@given(st.floats(-8, 8), st.integers(200, 10**7), st.sampled_from([0.001, 0.05, 0.2]))
def test_the_interval_excludes_no_effect_when_the_p_value_is_at_most_alpha(
    z: float, unit_count: int, alpha: float
) -> None:
    test = confidence_sequence(z, 1.0, unit_count=unit_count, alpha=alpha, n_star=5_000)
    if abs(abs(z) - test.critical_value) > 1e-9:
        assert (test.low > 0 or test.high < 0) == (test.p_value <= alpha)
    assert 0 <= test.p_value <= 1


def test_the_tuned_sequence_is_tightest_near_n_star() -> None:
    widths = {n: critical_value(n, alpha=0.05, n_star=5_000) for n in (500, 5_000, 50_000)}
    assert min(widths, key=widths.__getitem__) == 5_000
    assert widths[5_000] == pytest.approx(3.035, abs=5e-4)


@pytest.mark.parametrize(
    ("estimate", "std_error"), [(math.nan, 1.0), (math.inf, 1.0), (0.0, 0.0), (0.0, math.inf)]
)
def test_what_is_not_finite_is_refused(estimate: float, std_error: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        confidence_sequence(estimate, std_error, unit_count=10, alpha=0.05, n_star=10)


@pytest.mark.parametrize("case", cases_of("sequential_msprt"))
def test_the_tuning_by_effects_is_the_msprt(case: dict[str, Any]) -> None:
    inputs = case["inputs"]
    variance = 2 * inputs["sigma2_per_arm"]
    std_error = math.sqrt(variance / inputs["pairs_n"])
    k = mixture_of_effects(math.sqrt(inputs["tau2"]), std_error)
    test = mixture_sequence(inputs["diff"], std_error, k=k, alpha=inputs["alpha"])
    assert_matches(
        case,
        log_Lambda=test.log_e_value,
        p=test.p_value,
        ci=(test.low, test.high),
        equivalent_rho2_per_pair=k / inputs["pairs_n"],
    )


@pytest.mark.parametrize("case", cases_of("sequential_t"))
def test_the_exact_version_for_normal_values_is_met(case: dict[str, Any]) -> None:
    inputs = case["inputs"]
    k, freedom = inputs["z2"] / inputs["phi"], inputs["nu"]
    test = mixture_sequence(
        math.sqrt(inputs["t_squared"]), 1.0, k=k, alpha=inputs["alpha"], degrees_of_freedom=freedom
    )
    assert_matches(
        case, log_bf=test.log_e_value, p=test.p_value, ci_half_width_in_se=test.critical_value
    )


@pytest.mark.parametrize("case", cases_of("sequential_normal_mixture"))
def test_the_core_is_the_normal_mixture_of_confseq(case: dict[str, Any]) -> None:
    """Their sum s with intrinsic time v is z = s/√v; their precision rho is v/k."""
    inputs = case["inputs"]
    rho = 1 / mixture_variance(inputs["alpha_opt"], inputs["v_opt"])
    k, root = inputs["v"] / rho, math.sqrt(inputs["v"])
    assert_matches(
        case,
        rho=rho,
        log_mixture=log_e_value(inputs["s"] / root, k),
        bound_at_v=mixture_critical_value(k, alpha=inputs["alpha"]) * root,
    )


@pytest.mark.parametrize("case", cases_of("sequential_bernoulli_cs"))
def test_one_rates_sequence_is_met(case: dict[str, Any]) -> None:
    inputs = case["inputs"]
    interval = bernoulli_sequence(
        inputs["trials"], inputs["successes"], alpha=inputs["alpha"], n_optimal=inputs["t_opt"]
    )
    assert_matches(case, ci=interval)


@pytest.mark.parametrize(("count", "converted"), [(1, 0), (1, 1), (5, 0), (5, 5), (10**6, 3)])
def test_one_rates_sequence_holds_from_the_first_unit_on(count: int, converted: int) -> None:
    low, high = bernoulli_sequence(count, converted, alpha=0.05, n_optimal=1_000)
    assert 0 <= low <= converted / count <= high <= 1
    assert low < high


def test_a_rate_of_more_conversions_than_units_has_no_sequence() -> None:
    with pytest.raises(ValueError, match="3 of 2 units"):
        bernoulli_sequence(2, 3, alpha=0.05, n_optimal=100)


def test_the_exact_version_goes_over_into_the_asymptotic_one() -> None:
    for z in (0.0, 0.5, 3.0, 12.0):
        assert log_e_value(z, 2.0, 1e9) == pytest.approx(log_e_value(z, 2.0), abs=1e-5)
    assert mixture_critical_value(2.0, alpha=0.05, degrees_of_freedom=1e9) == pytest.approx(
        mixture_critical_value(2.0, alpha=0.05), abs=1e-6
    )


def test_with_two_units_each_no_data_exclude_no_effect() -> None:
    """One degree of freedom, k = 1/2: even an infinite t has an e-value below 20."""
    control, treatment = Moments(2, 0.0, 1.0), Moments(2, 1e6, 1.0)
    test = sequential_t_test(control, treatment, phi=2.0, alpha=0.05)
    assert test.critical_value == math.inf
    assert test.p_value > 0.05


def test_the_exact_version_pools_the_variance() -> None:
    control, treatment = Moments(40, 1.0, 4.0), Moments(60, 2.5, 9.0)
    test = sequential_t_test(control, treatment, phi=10.0, alpha=0.05)
    pooled = (39 * 4.0 + 59 * 9.0) / 98
    std_error = math.sqrt(pooled * (1 / 40 + 1 / 60))
    assert test.log_e_value == pytest.approx(log_e_value(1.5 / std_error, 24 / 10.0, 98))
    assert (test.low + test.high) / 2 == pytest.approx(1.5)


@given(st.floats(-30, 30), st.floats(1e-3, 1e3), st.sampled_from([0.001, 0.05, 0.2]))
def test_one_side_is_its_closed_form(z: float, k: float, alpha: float) -> None:
    """arXiv 2103.06476v7, eq. 134, written as it stands there."""
    test = one_sided_sequence(z, 1.0, k=k, alpha=alpha)
    reach = math.sqrt(2 * (k + 1) / k * math.log(1 + math.sqrt(k + 1) / (2 * alpha)))
    assert test.critical_value == pytest.approx(reach, rel=1e-12)
    assert test.bound == pytest.approx(z - reach)
    assert 0 <= test.p_value <= 1
    if abs(test.bound) > 1e-9:
        assert (test.bound > 0) == (test.p_value < alpha)
    # The closed form is a little less evidence than the mixture itself.
    if 0 < test.p_value < 1:
        assert test.log_e_value >= -math.log(test.p_value) - 1e-9
    mirrored = one_sided_sequence(-z, 1.0, k=k, alpha=alpha, is_lower=False)
    assert (mirrored.bound, mirrored.p_value) == (-test.bound, test.p_value)


@given(st.floats(-4, 6), st.floats(0.1, 100))
def test_one_sides_e_value_is_the_mixture_over_half_a_normal(z: float, k: float) -> None:
    def integrand(theta: float) -> float:
        return math.exp(theta * z - theta**2 / 2 - theta**2 / (2 * k))

    centre, scale = z * k / (1 + k), math.sqrt(k / (1 + k))
    low, high = max(0.0, centre - 12 * scale), max(0.0, centre) + 12 * scale
    mixture, _ = integrate.quad(integrand, low, high, limit=200)
    expected = math.log(2 * mixture / math.sqrt(2 * math.pi * k))
    assert one_sided_sequence(z, 1.0, k=k, alpha=0.05).log_e_value == pytest.approx(
        expected, abs=1e-6
    )


def test_a_bound_moves_with_its_null() -> None:
    test = one_sided_sequence(0.5, 0.1, k=1.0, alpha=0.05, null=-0.02)
    assert test.p_value == one_sided_sequence(0.52, 0.1, k=1.0, alpha=0.05).p_value


def test_many_looks_at_once_are_the_looks_one_by_one() -> None:
    z = np.array([-3.0, 0.0, 2.0, 9.0])
    units = np.array([200, 1_000, 5_000, 10**6])
    alpha = np.array([0.05, 0.01, 0.1, 0.05])
    together = confidence_sequence(z, np.ones(4), unit_count=units, alpha=alpha, n_star=5_000)
    for index in range(4):
        alone = confidence_sequence(
            float(z[index]), 1.0, unit_count=int(units[index]), alpha=float(alpha[index]),
            n_star=5_000,
        )  # fmt: skip
        assert alone == tuple(column[index] for column in together)
        assert all(type(value) is float for value in alone)


def test_a_clear_winner_stays_finite() -> None:
    test = confidence_sequence(1e6, 1e-3, unit_count=10**9, alpha=0.05, n_star=5_000)
    assert test.p_value == 0
    assert math.isfinite(test.log_e_value)


def test_peeking_breaks_the_plain_test_and_not_the_sequence() -> None:
    """A/A, 200 looks at 50 units an arm each, N* 5,000: the reference has 43 % and 2.4 %."""
    experiments, looks, step = 4_000, 200, 50
    rng = np.random.default_rng(20_261_121)
    shape = (experiments, looks)
    sums, squares = [], []
    for _ in range(2):
        means = rng.normal(scale=math.sqrt(1 / step), size=shape)
        spreads = rng.chisquare(step - 1, size=shape)
        sums.append(np.cumsum(step * means, axis=1))
        squares.append(np.cumsum(spreads + step * means**2, axis=1))
    counts = step * np.arange(1, looks + 1)
    variances = [
        (square - total**2 / counts) / (counts - 1)
        for total, square in zip(sums, squares, strict=True)
    ]
    z = np.abs((sums[1] - sums[0]) / counts / np.sqrt((variances[0] + variances[1]) / counts))
    critical = np.array([critical_value(2 * int(n), alpha=0.05, n_star=5_000) for n in counts])
    burnt_in = counts >= 100
    always_valid = (z > critical)[:, burnt_in].any(axis=1).mean()
    plain = (z > 1.96)[:, burnt_in].any(axis=1).mean()
    assert always_valid <= 0.0551
    assert always_valid == pytest.approx(0.0244, abs=4 * math.sqrt(0.0244 / experiments))
    assert plain == pytest.approx(0.43, abs=0.04)
