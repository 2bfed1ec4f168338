"""Two rates with Beta posteriors, against exact fractions and against quadrature of scipy."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import integrate, stats

from stream_processors.stats.bayes_beta import (
    Beta,
    beta_posterior,
    compare_rates,
    credible_interval,
    log_density,
)
from tests.stream_processors.stats.oracles import assert_matches, cases_of

counts = st.integers(1, 60)
parameters = st.floats(0.5, 1e7)


def beta_function(a: int, b: int) -> Fraction:
    return Fraction(math.factorial(a - 1) * math.factorial(b - 1), math.factorial(a + b - 1))


def exact_chance(lower: tuple[int, int], higher: tuple[int, int]) -> Fraction:
    """Return P(higher's rate > lower's), of whole parameters: Miller's finite sum."""
    (a, b), (a_h, b_h) = lower, higher
    return sum(
        (
            beta_function(a + i, b + b_h)
            / ((b_h + i) * beta_function(1 + i, b_h) * beta_function(a, b))
            for i in range(a_h)
        ),
        start=Fraction(0),
    )


def exact_loss(chosen: tuple[int, int], other: tuple[int, int]) -> Fraction:
    """Return E[max(0, other - chosen)]: E[other; other > chosen] - E[chosen; other > chosen]."""
    (a, b), (a_o, b_o) = chosen, other
    return Fraction(a_o, a_o + b_o) * exact_chance(chosen, (a_o + 1, b_o)) - Fraction(
        a, a + b
    ) * exact_chance((a + 1, b), other)


@pytest.mark.parametrize("case", cases_of("bayes_beta"))
def test_beta_posteriors_match_the_reference(case: dict[str, Any]) -> None:
    inputs, expected = case["inputs"], case["expected"]
    prior = Beta(*map(float, inputs["prior"]))
    control, treatment = (
        beta_posterior(inputs[arm]["n"], inputs[arm]["conversions"], prior)
        for arm in ("control", "treatment")
    )

    result = compare_rates(control, treatment)

    got: dict[str, Any] = {
        "chance_to_beat": result.chance_to_beat,
        "expected_loss_choose_treatment": result.loss_treatment,
        "expected_loss_choose_control": result.loss_control,
        "posterior_mean_control": control.mean,
        "posterior_mean_treatment": treatment.mean,
        "ci95_control": credible_interval(control, 0.05),
        "ci95_treatment": credible_interval(treatment, 0.05),
    }
    assert_matches(case, **{name: value for name, value in got.items() if name in expected})


@given(counts, counts, counts, counts)
@example(1, 1, 1, 1)
@example(60, 1, 1, 60)
@example(1, 60, 60, 1)
def test_chance_and_losses_are_those_of_exact_fractions(
    a_c: int, b_c: int, a_t: int, b_t: int
) -> None:
    control, treatment = (a_c, b_c), (a_t, b_t)

    result = compare_rates(Beta(float(a_c), float(b_c)), Beta(float(a_t), float(b_t)))

    assert result.chance_to_beat == pytest.approx(
        float(exact_chance(control, treatment)), rel=1e-8, abs=0
    )
    assert result.loss_treatment == pytest.approx(
        float(exact_loss(treatment, control)), rel=1e-8, abs=0
    )
    assert result.loss_control == pytest.approx(
        float(exact_loss(control, treatment)), rel=1e-8, abs=0
    )


@pytest.mark.parametrize(
    ("control", "treatment"),
    [((1, 400), (40, 400)), ((200, 900), (120, 980)), ((30, 30), (59, 2)), ((300, 3), (3, 300))],
)
def test_losses_that_hardly_occur_keep_their_digits(
    control: tuple[int, int], treatment: tuple[int, int]
) -> None:
    result = compare_rates(
        Beta(*(float(one) for one in control)), Beta(*(float(one) for one in treatment))
    )

    losses = (result.loss_treatment, result.loss_control)
    assert losses == pytest.approx(
        (float(exact_loss(treatment, control)), float(exact_loss(control, treatment))),
        rel=1e-8,
        abs=0,
    )
    assert 0 < min(losses) < 1e-5


@pytest.mark.parametrize(
    ("control", "treatment"),
    [
        ((120_001.0, 880_001.0), (121_000.0, 879_002.0)),
        ((38.0, 9_964.0), (42.0, 9_960.0)),
        ((1e8, 9e8), (1.0001e8, 8.9999e8)),
        ((0.5, 20.5), (3.5, 1e6)),
        ((2.5e5, 2.5e5), (26.0, 24.0)),
    ],
)
def test_large_and_lopsided_posteriors_match_adaptive_quadrature(
    control: tuple[float, float], treatment: tuple[float, float]
) -> None:
    one, other = stats.beta(*control), stats.beta(*treatment)
    # Over the probability scale of one arm the integrand lies between 0 and 1, wherever it is.
    chance, _ = integrate.quad(lambda p: one.cdf(other.ppf(p)), 0, 1, epsabs=1e-11, limit=400)

    result = compare_rates(Beta(*control), Beta(*treatment))

    assert result.chance_to_beat == pytest.approx(chance, abs=2e-9)
    assert result.mean == pytest.approx(other.mean() - one.mean(), rel=1e-6)
    assert result.std_dev == pytest.approx(math.hypot(one.std(), other.std()), rel=1e-9)


@given(parameters, parameters, parameters, parameters)
def test_exchanging_the_arms_exchanges_the_results(
    a_c: float, b_c: float, a_t: float, b_t: float
) -> None:
    forth = compare_rates(Beta(a_c, b_c), Beta(a_t, b_t))
    back = compare_rates(Beta(a_t, b_t), Beta(a_c, b_c))

    assert forth.chance_to_beat + back.chance_to_beat == pytest.approx(1, abs=1e-8)
    assert forth.loss_treatment == pytest.approx(back.loss_control, rel=1e-7, abs=1e-300)
    assert forth.loss_control == pytest.approx(back.loss_treatment, rel=1e-7, abs=1e-300)
    assert forth.mean == -back.mean


@given(parameters, parameters, parameters, parameters)
def test_counting_failures_instead_mirrors_the_results(
    a_c: float, b_c: float, a_t: float, b_t: float
) -> None:
    rates = compare_rates(Beta(a_c, b_c), Beta(a_t, b_t))
    failures = compare_rates(Beta(b_c, a_c), Beta(b_t, a_t))

    assert rates.chance_to_beat + failures.chance_to_beat == pytest.approx(1, abs=1e-8)
    assert rates.loss_treatment == pytest.approx(failures.loss_control, rel=1e-7, abs=1e-300)


@given(parameters, parameters, parameters, parameters)
def test_chances_are_chances_and_losses_differ_by_the_difference(
    a_c: float, b_c: float, a_t: float, b_t: float
) -> None:
    result = compare_rates(Beta(a_c, b_c), Beta(a_t, b_t))

    assert -1e-9 <= result.chance_to_beat <= 1 + 1e-9
    assert min(result.loss_treatment, result.loss_control) >= 0
    assert result.loss_control - result.loss_treatment == pytest.approx(result.mean, abs=1e-12)


def test_the_chance_grows_with_every_conversion() -> None:
    units = np.full(301, 300.0)
    control = beta_posterior(units, np.full(301, 40.0))

    result = compare_rates(control, beta_posterior(units, np.arange(301.0)))

    assert all(
        low < high
        for low, high in itertools.pairwise(result.chance_to_beat)
        if high < 1 - 1e-13  # from there on neighbours are the same float
    )
    assert all(low > high for low, high in itertools.pairwise(result.loss_treatment) if high > 0)


@given(st.lists(st.tuples(*[st.floats(0.5, 1e5)] * 4), min_size=1, max_size=6))
def test_many_pairs_at_once_are_each_of_them(pairs: list[tuple[float, ...]]) -> None:
    a_c, b_c, a_t, b_t = np.array(pairs).T

    together = compare_rates(Beta(a_c, b_c), Beta(a_t, b_t))

    for index, pair in enumerate(pairs):
        alone = compare_rates(Beta(*pair[:2]), Beta(*pair[2:]))
        # A pair may get more nodes in company: both are right, to the same digits.
        assert alone == pytest.approx(
            tuple(field[index] for field in together), rel=1e-7, abs=1e-12
        )
        assert all(isinstance(field, float) for field in alone)


@given(parameters, parameters, st.floats(-4, 4))
def test_the_density_of_log_odds_is_that_of_the_rate(a: float, b: float, steps: float) -> None:
    log_odds = math.log(a / b) + steps * math.sqrt(1 / a + 1 / b)
    rate = 1 / (1 + math.exp(-log_odds))

    found = float(log_density(np.array(a), np.array(b), np.array(log_odds)))

    expected = stats.beta.logpdf(rate, a, b) + math.log(rate) - np.log1p(math.exp(log_odds))
    # The tolerance is scipy's: parameters of 10⁷ cost it nine digits.
    assert found == pytest.approx(expected, abs=1e-9 * max(a, b, 10))


@given(st.floats(0.5, 1e6), st.floats(0.5, 1e6))
def test_a_credible_interval_leaves_equal_tails(a: float, b: float) -> None:
    low, high = credible_interval(Beta(a, b), 0.05)

    assert stats.beta.cdf(low, a, b) == pytest.approx(0.025, rel=1e-6)
    assert stats.beta.sf(high, a, b) == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize(("units", "conversions"), [(10, 11), (10, -1), (math.nan, 1)])
def test_more_conversions_than_units_are_refused(units: float, conversions: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        beta_posterior(units, conversions)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_parameters_out_of_range_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        compare_rates(Beta(1.0, 1.0), Beta(bad, 1.0))
