"""The score test of two rates against a margin: by likelihood, by inversion, and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import optimize, special, stats

from stream_processors.stats.proportions import Rate
from stream_processors.stats.rate_margins import (
    rates_that_differ,
    score_bounds,
    score_statistic,
)

RATES = st.integers(1, 5_000).flatmap(lambda n: st.builds(Rate, st.just(n), st.integers(0, n)))


def log_likelihood(control: Rate, treatment: Rate, *, p_c: float, p_t: float) -> float:
    return float(
        sum(
            special.xlogy(rate.conversion_count, p)
            + special.xlog1py(rate.unit_count - rate.conversion_count, -p)
            for rate, p in ((control, p_c), (treatment, p_t))
        )
    )


@given(RATES, RATES, st.floats(-0.9, 0.9))
def test_no_other_rates_with_that_difference_are_more_likely(
    control: Rate, treatment: Rate, difference: float
) -> None:
    found = rates_that_differ(control, treatment, difference)
    assert found.treatment - found.control == pytest.approx(difference, abs=1e-12)
    assert -1e-12 <= found.control <= 1 + 1e-12
    assert 0 <= found.treatment <= 1
    best = log_likelihood(
        control, treatment, p_c=min(max(found.control, 0.0), 1.0), p_t=found.treatment
    )
    low, high = max(0.0, difference), min(1.0, 1.0 + difference)
    for p_t in np.linspace(low, high, 41)[1:-1]:
        other = log_likelihood(control, treatment, p_c=p_t - difference, p_t=p_t)
        assert other <= best + 1e-6 * max(1.0, abs(best))


def test_the_likelihoods_top_is_found_where_another_program_misses_it() -> None:
    """985 of 10,000 against 1,000 of 10,000, one point apart: by numerical maximisation.

    statsmodels 0.15 has x_c Δ² where the cubic of Miettinen and Nurminen has n_c Δ², and so gives
    z = 2.00923; at the maximum it is 2.00876. The reference case carries the former.
    """
    control, treatment, difference = Rate(10_000, 1_000), Rate(10_000, 985), -0.01
    top = optimize.minimize_scalar(
        lambda p_t: -log_likelihood(control, treatment, p_c=p_t - difference, p_t=p_t),
        bounds=(0.05, 0.2),
        method="bounded",
        options={"xatol": 1e-13},
    ).x
    found = rates_that_differ(control, treatment, difference)
    assert found.treatment == pytest.approx(top, abs=1e-8)
    variance = sum(p * (1 - p) / 10_000 for p in found)
    assert score_statistic(control, treatment, difference) == pytest.approx(
        (0.0985 - 0.1 + 0.01) / math.sqrt(variance), rel=1e-12
    )


@given(RATES, RATES)
def test_without_a_margin_it_is_the_pooled_z(control: Rate, treatment: Rate) -> None:
    units = control.unit_count + treatment.unit_count
    pooled = (control.conversion_count + treatment.conversion_count) / units
    assume(0 < pooled < 1)
    spread = pooled * (1 - pooled) * (1 / control.unit_count + 1 / treatment.unit_count)
    assert score_statistic(control, treatment, 0.0) == pytest.approx(
        (treatment.value - control.value) / math.sqrt(spread), rel=1e-6, abs=1e-9
    )


@given(RATES, RATES, st.sampled_from([0.01, 0.05, 0.1]))
def test_bounds_are_the_differences_that_are_not_rejected(
    control: Rate, treatment: Rate, alpha: float
) -> None:
    low, high = score_bounds(control, treatment, alpha=alpha)
    z = stats.norm.isf(alpha)
    assert -1 <= low <= treatment.value - control.value <= high <= 1
    if low > -1:
        assert score_statistic(control, treatment, low) == pytest.approx(z, abs=1e-6)
    if high < 1:
        assert score_statistic(control, treatment, high) == pytest.approx(-z, abs=1e-6)


def test_nobody_converted_is_evidence_that_nobody_converts() -> None:
    """With no conversions in n of each arm the bound is about z² / n, where plain ones are 0."""
    low, high = score_bounds(Rate(10_000, 0), Rate(10_000, 0), alpha=0.05)
    assert high == pytest.approx(stats.norm.isf(0.05) ** 2 / 10_000, rel=1e-3)
    assert low == pytest.approx(-high, rel=1e-9)


def test_at_the_margin_it_passes_as_seldom_as_promised() -> None:
    """True difference = -margin, rates of 5 %: by the exact chance of every outcome."""
    units, margin, p_c = 400, 0.02, 0.05
    counts = np.arange(0, 61)
    passes = 0.0
    for x_c, chance_c in zip(counts, stats.binom.pmf(counts, units, p_c), strict=True):
        for x_t, chance_t in zip(counts, stats.binom.pmf(counts, units, p_c - margin), strict=True):
            z = score_statistic(Rate(units, int(x_c)), Rate(units, int(x_t)), -margin)
            passes += chance_c * chance_t * (z > stats.norm.isf(0.05))
    assert passes == pytest.approx(0.05, abs=0.006)
