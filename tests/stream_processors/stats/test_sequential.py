"""Confidence sequences: the reference cases, the mixture by quadrature, and peeking."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from stream_processors.stats.relative import delta_effect
from stream_processors.stats.sequential import (
    confidence_sequence,
    critical_value,
    exact_mixture_variance,
    mixture_variance,
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
        estimate, std_error = delta_effect(control, treatment)
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
