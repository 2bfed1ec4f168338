"""Posteriors of effects: conjugate, exact far out, and labelled as what they are."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from stream_processors.stats.bayes import (
    FLAT,
    LABEL,
    MILLS_SERIES_FROM,
    NormalPrior,
    effect_posterior,
    standard_loss,
)
from tests.stream_processors.stats.oracles import assert_matches, cases_of

effects = st.floats(-1e6, 1e6)
deviations = st.floats(1e-6, 1e6)


def relative_effect_of(case: dict[str, Any]) -> tuple[float, float]:
    """Return estimate and delta-method standard error, from the sums of a case."""
    (n_c, mean_c, var_c), (n_t, mean_t, var_t) = (
        (
            arm["n"],
            arm["sum"] / arm["n"],
            (arm["sum_squares"] - arm["sum"] ** 2 / arm["n"]) / (arm["n"] - 1),
        )
        for arm in (case["inputs"]["a"], case["inputs"]["b"])
    )
    variance = var_t / n_t / mean_c**2 + var_c / n_c * mean_t**2 / mean_c**4
    return (mean_t - mean_c) / mean_c, math.sqrt(variance)


@pytest.mark.parametrize("case", cases_of("bayes_normal_effect"))
def test_normal_posteriors_match_the_reference(case: dict[str, Any]) -> None:
    inputs = case["inputs"]
    prior = NormalPrior(inputs["pm"], math.sqrt(inputs["pv"])) if inputs["proper"] else FLAT

    posterior = effect_posterior(*relative_effect_of(case), alpha=0.05, prior=prior)

    assert_matches(
        case,
        posterior_mean=posterior.mean,
        posterior_sd=posterior.std_dev,
        chance_to_win=posterior.chance_to_win,
        risk_control=posterior.loss_control,
        risk_treatment=posterior.loss_treatment,
        ci95=(posterior.low, posterior.high),
    )


def test_the_label_says_that_looks_are_not_protected() -> None:
    assert LABEL == "posterior; not protected against repeated looks"


@pytest.mark.parametrize("z", [-40.0, -7.0, -1.0, 0.0, 0.3, 2.0, 6.0, 9.9, 10.1, 20.0, 37.0])
def test_the_expected_loss_is_its_integral_however_small(z: float) -> None:
    # E[max(0, -X)] = ∫_0^∞ t φ(t + z) dt; e^(-z²/2) is taken out, so that nothing underflows.
    scale = math.exp(-z * z / 2) if z > 0 else 1.0
    integral, _ = integrate.quad(
        lambda t: t * math.exp(-t * t / 2 - t * z if z > 0 else -((t + z) ** 2) / 2),
        0,
        max(50.0, 50.0 - z) if z < 1 else 60 / z,
        points=[-z] if z < 0 else None,
        epsabs=0,
        epsrel=1e-12,
    )

    loss = float(standard_loss(np.array(z)))

    assert loss == pytest.approx(scale * integral / math.sqrt(2 * math.pi), rel=1e-10, abs=0)


def test_the_loss_does_not_jump_where_its_series_takes_over() -> None:
    below, above = standard_loss(np.nextafter(MILLS_SERIES_FROM, [0.0, 20.0]))

    assert below == pytest.approx(above, rel=1e-11, abs=0)


@given(effects, deviations)
def test_a_flat_prior_leaves_the_estimate_as_it_is(estimate: float, std_error: float) -> None:
    posterior = effect_posterior(estimate, std_error, alpha=0.05)

    assert (posterior.mean, posterior.std_dev) == (estimate, std_error)
    assert posterior.chance_to_win == stats.norm.cdf(estimate / std_error)


@given(effects, deviations, effects, deviations)
def test_the_posterior_lies_between_prior_and_data_and_is_narrower_than_both(
    estimate: float, std_error: float, mean: float, std_dev: float
) -> None:
    posterior = effect_posterior(estimate, std_error, alpha=0.05, prior=NormalPrior(mean, std_dev))

    slack = 1e-9 * max(abs(estimate), abs(mean))
    assert min(estimate, mean) - slack <= posterior.mean <= max(estimate, mean) + slack
    assert posterior.std_dev <= min(std_error, std_dev) * (1 + 1e-12)
    assert posterior.low <= posterior.mean <= posterior.high


@given(effects, deviations)
def test_turning_the_direction_swaps_the_arms(estimate: float, std_error: float) -> None:
    up = effect_posterior(estimate, std_error, alpha=0.05)
    down = effect_posterior(-estimate, std_error, alpha=0.05, is_lower_better=True)

    assert up.chance_to_win == down.chance_to_win
    assert (up.loss_treatment, up.loss_control) == (down.loss_treatment, down.loss_control)
    assert (up.low, up.high) == (-down.high, -down.low)


@given(effects, deviations)
def test_the_two_losses_differ_by_the_effect(estimate: float, std_error: float) -> None:
    posterior = effect_posterior(estimate, std_error, alpha=0.05)

    difference = posterior.loss_control - posterior.loss_treatment
    assert difference == pytest.approx(estimate, rel=1e-9, abs=1e-9 * std_error)
    assert min(posterior.loss_control, posterior.loss_treatment) >= 0


@given(st.lists(st.tuples(effects, deviations), min_size=1, max_size=5))
def test_many_effects_at_once_are_each_of_them(pairs: list[tuple[float, float]]) -> None:
    estimates, errors = np.array(pairs).T
    prior = NormalPrior(0.0, 2.0)

    together = effect_posterior(estimates, errors, alpha=0.1, prior=prior)

    for index, (estimate, std_error) in enumerate(pairs):
        alone = effect_posterior(estimate, std_error, alpha=0.1, prior=prior)
        assert alone == pytest.approx(tuple(field[index] for field in together), rel=1e-12)
        assert all(isinstance(field, float) for field in alone)


@pytest.mark.parametrize(
    ("estimate", "std_error", "alpha", "prior"),
    [
        (math.nan, 1.0, 0.05, FLAT),
        (math.inf, 1.0, 0.05, FLAT),
        (0.0, 0.0, 0.05, FLAT),
        (0.0, math.inf, 0.05, FLAT),
        (0.0, 1.0, 0.0, FLAT),
        (0.0, 1.0, 0.05, NormalPrior(0.0, 0.0)),
        (0.0, 1.0, 0.05, NormalPrior(math.nan, 1.0)),
    ],
)
def test_numbers_out_of_range_are_refused(
    estimate: float, std_error: float, alpha: float, prior: NormalPrior
) -> None:
    with pytest.raises(ValueError, match="must"):
        effect_posterior(estimate, std_error, alpha=alpha, prior=prior)
