"""The chance of each variant to be the best."""

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stream_processors.stats.bayes_best import chances_best_normal, chances_best_rates
from stream_processors.stats.bayes_beta import Beta, compare_rates
from tests.stream_processors.stats.oracles import assert_matches, cases_of

posteriors = st.builds(Beta, st.floats(0.5, 1e6), st.floats(0.5, 1e6))
beliefs = st.tuples(st.floats(-10, 10), st.floats(1e-3, 10))


@pytest.mark.parametrize("case", cases_of("prob_best_beta"))
def test_rates_match_the_reference(case: dict[str, Any]) -> None:
    given_posteriors = [Beta(float(a), float(b)) for a, b in case["inputs"]["posteriors"]]

    assert_matches(case, prob_best=chances_best_rates(given_posteriors))


@pytest.mark.parametrize("case", cases_of("prob_best_normal"))
def test_normal_beliefs_match_the_reference(case: dict[str, Any]) -> None:
    inputs = case["inputs"]

    assert_matches(case, prob_best=chances_best_normal(inputs["means"], inputs["sds"]))


@given(st.lists(posteriors, min_size=1, max_size=6))
def test_chances_of_rates_add_up_to_one(arms: list[Beta[float]]) -> None:
    chances = chances_best_rates(arms)

    assert math.fsum(chances) == pytest.approx(1, abs=1e-9)
    assert min(chances) >= 0


@given(st.lists(beliefs, min_size=1, max_size=8))
def test_chances_of_normal_beliefs_add_up_to_one(arms: list[tuple[float, float]]) -> None:
    means, std_devs = zip(*arms, strict=True)
    chances = chances_best_normal(means, std_devs)

    assert math.fsum(chances) == pytest.approx(1, abs=1e-9)
    assert min(chances) >= 0


@given(posteriors, posteriors)
def test_two_rates_have_the_chances_of_a_pair(one: Beta[float], other: Beta[float]) -> None:
    chances = chances_best_rates([one, other])

    assert chances[1] == pytest.approx(compare_rates(one, other).chance_to_beat, abs=1e-8)


@given(beliefs, beliefs)
def test_two_normal_beliefs_have_a_closed_form(
    one: tuple[float, float], other: tuple[float, float]
) -> None:
    (mean, std_dev), (mean_other, std_dev_other) = one, other
    expected = stats.norm.cdf((mean - mean_other) / math.hypot(std_dev, std_dev_other))

    chances = chances_best_normal((mean, mean_other), (std_dev, std_dev_other))

    assert chances[0] == pytest.approx(expected, abs=1e-10)


def test_powers_of_a_uniform_rate_have_a_closed_form() -> None:
    # Beta(k, 1) has the distribution x^k: the chances are k / Σk.
    powers = [1, 2, 5, 12]
    chances = chances_best_rates([Beta(float(k), 1.0) for k in powers])

    assert chances == pytest.approx([float(Fraction(k, 20)) for k in powers], rel=1e-10)


@given(st.lists(posteriors, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_the_variants_does_not_matter(arms: list[Beta[float]], random: Any) -> None:
    order = list(range(len(arms)))
    random.shuffle(order)

    chances = chances_best_rates(arms)
    shuffled = chances_best_rates([arms[index] for index in order])

    assert shuffled == pytest.approx([chances[index] for index in order], rel=1e-9, abs=1e-15)


def test_beliefs_of_very_different_width_keep_their_precision() -> None:
    # The narrow one wins where the wide one is below it: Φ(0.5).
    chances = chances_best_normal((0.5, 0.0), (1e-6, 1.0))

    assert chances[0] == pytest.approx(stats.norm.cdf(0.5), abs=1e-9)


@pytest.mark.parametrize("bad", [[], [Beta(0.0, 1.0)], [Beta(1.0, math.inf)]])
def test_rates_out_of_range_are_refused(bad: list[Beta[float]]) -> None:
    with pytest.raises(ValueError, match="posteriors =="):
        chances_best_rates(bad)


@pytest.mark.parametrize(
    ("means", "std_devs"),
    [([], []), ([math.nan], [1.0]), ([0.0], [0.0]), ([0.0, 1.0], [1.0])],
)
def test_beliefs_out_of_range_are_refused(means: list[float], std_devs: list[float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        chances_best_normal(means, std_devs)
