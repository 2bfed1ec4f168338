"""Harm of rare events, exactly: fair without an effect, at any look, and quick with a large one."""

import numpy as np
import pytest
from scipy import integrate, special, stats

from stream_processors.stats.rare_rates import RareCounts, harm_p_value, log_e_value_of_more

HALF = 0.5


def mixture(converted: tuple[int, int], share: float) -> float:
    """e of the converted units of (treatment, control), by quadrature of its definition."""
    k_t, k_c = converted

    def ratio(theta: float) -> float:
        return float((theta / share) ** k_t * ((1 - theta) / (1 - share)) ** k_c)

    return float(integrate.quad(ratio, share, 1)[0] / (1 - share))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("converted", [(0, 0), (3, 0), (0, 3), (9, 4), (12, 12)])
def test_the_evidence_is_the_mean_of_both_mixtures(
    converted: tuple[int, int], share: float
) -> None:
    k_t, k_c = converted
    log_e = log_e_value_of_more(
        RareCounts(k_c + 7, k_c), RareCounts(k_t + 5, k_t), treatment_share=share
    )
    expected = (mixture(converted, share) + mixture((7, 5), 1 - share)) / 2
    assert np.exp(log_e) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9])
def test_without_an_effect_the_evidence_is_expected_to_be_one(share: float) -> None:
    """Over all ways in which 40 converted units can come from the two variants."""
    counts = np.arange(41)
    evidence = [
        2 * np.exp(
            log_e_value_of_more(
                RareCounts(40 - int(k), 40 - int(k)), RareCounts(int(k), int(k)),
                treatment_share=share,
            )
        ) - 1
        for k in counts
    ]  # fmt: skip
    assert stats.binom.pmf(counts, 40, share) @ evidence == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_harm_is_shown_at_some_look_in_no_more_than_alpha_of_experiments(share: float) -> None:
    """A look after each of about 60 conversions among 3,000 units: nothing is planned."""
    rng, alpha, units = np.random.default_rng(20), 0.05, 3_000
    false = 0
    for _ in range(1_000):
        is_treated = rng.random(units) < share
        converts = rng.random(units) < 0.02
        k_t, k_c = np.cumsum(is_treated & converts), np.cumsum(~is_treated & converts)
        looks = np.flatnonzero(converts)
        e = _evidence(k_t[looks], k_c[looks], share)
        false += bool((e >= 1 / alpha).any())
    assert false / 1_000 <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / 1_000)


def _evidence(k_t: np.ndarray, k_c: np.ndarray, share: float) -> np.ndarray:
    """The converted units' evidence, vectorised: twice the test's at most."""
    log_e = special.betaln(k_t + 1, k_c + 1) + np.log(special.betainc(k_c + 1, k_t + 1, 1 - share))
    log_e -= np.log1p(-share) + k_t * np.log(share) + k_c * np.log1p(-share)
    return np.asarray(np.exp(log_e))


def test_a_catastrophe_is_seen_at_once_and_a_few_events_show_nothing() -> None:
    control = RareCounts(10_000, 5)
    p_values = [
        harm_p_value(control, RareCounts(10_000, k), treatment_share=HALF, is_more_better=False)
        for k in (1_500, 30, 8, 5, 0)
    ]
    assert p_values[0] < 1e-300
    assert p_values[1] < 0.001
    assert p_values[2:] == [1.0, 1.0, 1.0]


def test_a_lower_rate_is_the_harm_where_conversions_are_good() -> None:
    good, bad = RareCounts(5_000, 4_999), RareCounts(5_000, 4_900)
    assert harm_p_value(good, bad, treatment_share=HALF, is_more_better=True) < 1e-10
    assert harm_p_value(bad, good, treatment_share=HALF, is_more_better=True) == 1
    assert harm_p_value(good, bad, treatment_share=HALF, is_more_better=False) == 1


def test_hundreds_of_millions_of_units_leave_no_float() -> None:
    many = RareCounts(500_000_000, 250_000_000)
    fewer = RareCounts(500_000_000, 200_000_000)
    for sides in ((many, fewer), (fewer, many)):
        p_value = harm_p_value(*sides, treatment_share=HALF, is_more_better=False)
        assert 0 <= p_value <= 1


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"treatment_share == .*, must be in"):
        log_e_value_of_more(RareCounts(9, 1), RareCounts(9, 1), treatment_share=share)


def test_more_conversions_than_units_are_refused() -> None:
    with pytest.raises(ValueError, match=r"control\.conversion_count == 10, must be between"):
        log_e_value_of_more(RareCounts(9, 10), RareCounts(9, 1), treatment_share=HALF)
