"""Bands are those of the reference: 99.9 % binomial, 4 standard errors, Kolmogorov-Smirnov."""

import math

import pytest

from tools.trust.bands import (
    Band,
    around,
    at_least,
    at_most,
    distance_from_uniform,
    near,
    of_known,
    uniform_distance,
)


@pytest.mark.parametrize(
    ("share", "replications", "low", "high"),
    [
        (0.05, 10_000, 0.0430, 0.0573),
        (0.01, 10_000, 0.0069, 0.0134),
        (0.10, 10_000, 0.0903, 0.1100),
        (0.95, 10_000, 0.9427, 0.9570),
        (0.90, 10_000, 0.8900, 0.9097),
        (0.001, 20_000, 0.0003, 0.0018),
    ],
)
def test_a_band_holds_999_of_1000_shares(
    share: float, replications: int, low: float, high: float
) -> None:
    band = around(share, replications)

    assert band.low == pytest.approx(low, abs=6e-5)
    assert band.high == pytest.approx(high, abs=6e-5)
    assert at_most(share, replications) == Band(None, band.high)
    assert at_least(share, replications) == Band(band.low, None)


def test_a_band_around_a_simulation_knows_that_both_are_uncertain() -> None:
    # 4 √(.25 (1/100 + 1/300)) = 4 · .5 · √(4/300)
    band = near(0.5, of=100, replications=300)

    assert band.high == pytest.approx(0.5 + 2 * math.sqrt(4 / 300))
    assert of_known(0.5, 100) == Band(0.5 - 4 * 0.05, 0.5 + 4 * 0.05)


def test_ends_are_inside_and_what_is_no_number_is_not() -> None:
    assert Band(0.1, 0.2).holds(0.1)
    assert Band(0.1, 0.2).holds(0.2)
    assert not Band(0.1, 0.2).holds(0.2000001)
    assert Band(None, 0.2).holds(-5)
    assert not Band(None, 0.2).holds(math.nan)
    assert not Band(0.1, None).holds(math.nan)


def test_uniform_p_values_are_near_and_squared_ones_are_far() -> None:
    count = 1_000
    uniform = [(index + 0.5) / count for index in range(count)]
    band = uniform_distance(count)

    assert band.high == pytest.approx(0.0615, abs=1e-4)
    assert band.holds(distance_from_uniform(uniform))
    # P(U² <= x) = √x, farthest from x at x = 1/4: 1/4.
    assert distance_from_uniform([p * p for p in uniform]) == pytest.approx(0.25, abs=0.01)
