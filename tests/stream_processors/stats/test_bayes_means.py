"""Normal-inverse-gamma beliefs of means."""

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from stream_processors.stats.bayes_means import NormalInverseGamma, chance_to_beat, mean_posterior
from tests.stream_processors.stats.oracles import assert_matches, cases_of, is_close

beliefs = st.builds(
    NormalInverseGamma,
    mu=st.floats(-10, 10),
    kappa=st.floats(1e-2, 1e4),
    alpha=st.floats(0.5, 1e4),
    beta=st.floats(1e-2, 1e4),
)


@pytest.mark.parametrize("case", cases_of("bayes_nig"))
def test_means_match_the_reference(case: dict[str, Any]) -> None:
    inputs, expected = case["inputs"], case["expected"]
    prior = NormalInverseGamma(*(float(value) for value in inputs["prior"].values()))

    both = [
        mean_posterior(inputs[arm]["n"], inputs[arm]["mean"], inputs[arm]["ss_dev"], prior)
        for arm in ("control", "treatment")
    ]

    for posterior, name in zip(both, ("post_control", "post_treatment"), strict=True):
        for field, value in expected[name].items():
            assert is_close(getattr(posterior, field), value, case["tolerance"])
    assert_matches(case, chance_to_beat_means=chance_to_beat(*both))


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=12), st.integers(1, 11))
def test_learning_in_two_parts_is_learning_at_once(values: list[int], cut: int) -> None:
    prior = NormalInverseGamma(1.0, 0.5, 2.0, 3.0)

    belief = prior
    for part in (values[:cut], values[cut:]):
        belief = learn(part, belief)

    assert belief == pytest.approx(learn(values, prior), rel=1e-10, abs=1e-12)


def learn(values: list[int], prior: NormalInverseGamma) -> NormalInverseGamma:
    if not values:
        return mean_posterior(0, math.nan, 0.0, prior)
    mean = Fraction(sum(values), len(values))
    deviations = sum((value - mean) ** 2 for value in values)
    return mean_posterior(len(values), float(mean), float(deviations), prior)


@given(beliefs, beliefs)
def test_the_chance_is_that_of_adaptive_quadrature(
    one: NormalInverseGamma, other: NormalInverseGamma
) -> None:
    laws = [stats.t(b.degrees_of_freedom, b.mu, b.scale) for b in (one, other)]
    if one.scale <= other.scale:
        expected = integrate.quad(lambda p: laws[1].sf(laws[0].ppf(p)), 0, 1, limit=300)[0]
    else:
        expected = integrate.quad(lambda p: laws[0].cdf(laws[1].ppf(p)), 0, 1, limit=300)[0]

    assert chance_to_beat(one, other) == pytest.approx(expected, abs=1e-7)


@given(beliefs, beliefs)
def test_exchanging_the_arms_gives_the_other_chance(
    one: NormalInverseGamma, other: NormalInverseGamma
) -> None:
    total = chance_to_beat(one, other) + chance_to_beat(other, one)

    assert total == pytest.approx(1, abs=1e-9)


def test_equal_beliefs_are_even() -> None:
    belief = NormalInverseGamma(3.0, 10.0, 4.0, 2.0)

    assert chance_to_beat(belief, belief) == pytest.approx(0.5, abs=1e-12)


def test_a_small_chance_keeps_its_digits() -> None:
    # Cauchy beliefs (2 · ½ degrees): their difference is Cauchy with both scales added.
    one, other = (NormalInverseGamma(mu, 1.0, 0.5, 0.5) for mu in (0.0, 1e6))

    expected = math.atan(2 / 1e6) / math.pi
    assert chance_to_beat(other, one) == pytest.approx(expected, rel=1e-7, abs=0)


@given(beliefs)
def test_the_credible_interval_of_a_mean_is_students(belief: NormalInverseGamma) -> None:
    law = stats.t(belief.degrees_of_freedom, belief.mu, belief.scale)

    assert belief.credible_interval(0.1) == pytest.approx(law.interval(0.9), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("unit_count", "mean", "squared"), [(-1, 0.0, 0.0), (2, 0.0, -1.0), (2, math.nan, 1.0)]
)
def test_sums_out_of_range_are_refused(unit_count: int, mean: float, squared: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        mean_posterior(unit_count, mean, squared)


@pytest.mark.parametrize("field", ["kappa", "alpha", "beta"])
def test_beliefs_out_of_range_are_refused(field: str) -> None:
    fine = NormalInverseGamma(0.0, 1.0, 1.0, 1.0)

    with pytest.raises(ValueError, match=f"{field} == 0"):
        chance_to_beat(fine, fine._replace(**{field: 0.0}))
