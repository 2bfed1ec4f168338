"""Credible intervals of two rates against closed forms, sums over a fine grid, and the plan."""

import math

import numpy as np
import pytest
from scipy import stats

from stream_processors.stats.bayes_beta import Beta, compare_rates
from stream_processors.stats.bayes_rate_intervals import (
    chances_at_most,
    difference_intervals,
    relative_intervals,
)
from stream_processors.stats.planning import plan
from stream_processors.stats.planning_inputs import PlanInputs
from stream_processors.stats.tails import Floats

PAIRS = [
    ((1, 4), (4, 1)),
    ((2, 900), (1, 1000)),
    ((1, 1001), (1, 1001)),
    ((51, 951), (81, 921)),
    ((301, 9701), (3, 20)),
    ((6, 9996), (1501, 8501)),
    ((1001, 1), (900, 102)),
    ((50_001, 950_001), (51_001, 949_001)),
]
GRID = (np.arange(60_000) + 0.5) / 60_000


def betas(rates: list[tuple[int, int]]) -> Beta[Floats]:
    a, b = np.array(rates, dtype=float).T
    return Beta(a, b)


def test_two_rates_without_data_differ_as_a_triangle_says() -> None:
    flat = betas([(1, 1)])
    for alpha in (0.05, 1e-3, 1e-6):
        low, high = difference_intervals(flat, flat, np.array([alpha]))
        assert high[0] == pytest.approx(1 - math.sqrt(alpha), abs=1e-9)
        assert low[0] == pytest.approx(-high[0], abs=1e-9)
        # Of the ratio of two uniform numbers, alpha / 2 is above 1 / alpha.
        low, high = relative_intervals(flat, flat, np.array([alpha]))
        assert high[0] == pytest.approx(1 / alpha - 1, rel=1e-8)
        assert low[0] == pytest.approx(alpha - 1, rel=1e-9)


@pytest.mark.parametrize("is_relative", [False, True])
def test_ends_leave_half_of_alpha_on_each_side(*, is_relative: bool) -> None:
    control, treatment = (betas([pair[arm] for pair in PAIRS]) for arm in (0, 1))
    solve = relative_intervals if is_relative else difference_intervals
    low, high = solve(control, treatment, np.full(len(PAIRS), 0.05))
    for (c, t), below, above in zip(PAIRS, low, high, strict=True):
        rates = stats.beta(*c).ppf(GRID)
        for end, tail in ((below, stats.beta(*t).cdf), (above, stats.beta(*t).sf)):
            moved = rates * (1 + end) if is_relative else rates + end
            assert np.mean(tail(moved)) == pytest.approx(0.025, rel=2e-5)


@pytest.mark.parametrize("is_relative", [False, True])
@pytest.mark.parametrize("bound", [-0.4, -0.01, 0.0, 0.002, 0.5])
def test_a_chance_is_the_sum_over_a_fine_grid(*, bound: float, is_relative: bool) -> None:
    control, treatment = (betas([pair[arm] for pair in PAIRS]) for arm in (0, 1))
    bounds = np.full(len(PAIRS), bound)
    found = chances_at_most(control, treatment, bounds, is_relative=is_relative)
    for (c, t), chance in zip(PAIRS, found, strict=True):
        rates = stats.beta(*c).ppf(GRID)
        moved = rates * (1 + bound) if is_relative else rates + bound
        assert chance == pytest.approx(np.mean(stats.beta(*t).cdf(moved)), abs=2e-5)
    if bound == 0:
        expected = 1 - compare_rates(control, treatment).chance_to_beat
        np.testing.assert_allclose(found, expected, atol=1e-8)


def test_an_interval_stays_within_what_is_possible_and_agrees_with_the_chance() -> None:
    control, treatment = betas([(1, 4), (1, 3), (4, 1)]), betas([(4, 1), (3, 1), (1, 4)])
    low, high = difference_intervals(control, treatment, np.full(3, 0.05))
    assert np.all((low > -1) & (high < 1))
    chance = compare_rates(control, treatment).chance_to_beat
    assert np.array_equal(low > 0, chance > 0.975)
    assert np.array_equal(high < 0, chance < 0.025)


def test_the_planned_chance_of_a_decision_is_the_share_of_intervals_above_0() -> None:
    units, runs = 40_000, 3_000
    planned = plan(
        PlanInputs(
            kind="conversion", baseline=0.05, effect=0.1, method="bayesian", goal="power",
            units=units,
        )
    ).power  # fmt: skip
    rng = np.random.default_rng(7)
    control, treatment = (
        Beta(1.0 + found, 1.0 + units / 2 - found)
        for found in (rng.binomial(units // 2, rate, runs) for rate in (0.05, 0.055))
    )
    low, _ = difference_intervals(control, treatment, np.full(runs, 0.05))
    assert planned == pytest.approx(np.mean(low > 0), abs=4 * math.sqrt(0.25 / runs))
