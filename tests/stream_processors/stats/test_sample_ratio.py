"""Sample ratio: reference cases, weight 0, and evidence that does not depend on the path."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stream_processors.stats.sample_ratio import (
    CONCENTRATIONS,
    Epoch,
    log_e_value_of_epochs,
    sample_ratio_by_segment,
    sample_ratio_log_bayes_factor,
    sample_ratio_log_e_value,
    sample_ratio_of_epochs,
    sample_ratio_test,
    sequential_p_value,
)
from tests.stream_processors.stats.oracles import assert_matches, cases_of

COUNTS = st.lists(st.integers(0, 10**6), min_size=2, max_size=5)


@pytest.mark.parametrize("case", cases_of("srm_chi2"))
def test_reference_cases_are_met(case: dict[str, Any]) -> None:
    test = sample_ratio_test(case["inputs"]["observed"], case["inputs"]["weights"])
    got = {"chi2": test.chi_square, "df": test.degrees_of_freedom, "p_value": test.p_value}
    assert_matches(case, **{name: got[name] for name in got if name in case["expected"]})


@pytest.mark.parametrize("case", cases_of("srm_sequential"))
def test_sequential_reference_cases_are_met(case: dict[str, Any]) -> None:
    inputs, expected = case["inputs"], case["expected"]
    cumulative = np.cumsum(inputs["batches"], axis=0).tolist()
    factors = [
        sample_ratio_log_bayes_factor(counts, inputs["p0"], concentration=inputs["concentration"])
        for counts in cumulative
    ]
    running = np.minimum.accumulate([sequential_p_value(factor) for factor in factors])
    assert factors == pytest.approx(expected["log_bayes_factor"], rel=1e-9, abs=1e-9)
    assert list(running) == pytest.approx(expected["sequential_p"], rel=1e-9, abs=1e-9)
    assert_matches(case, final_log_bf_from_cumulative_counts=factors[-1])


@given(COUNTS, st.data())
def test_it_is_scipys_chi_square(counts: list[int], data: st.DataObject) -> None:
    weights = [data.draw(st.integers(1, 10)) for _ in counts]
    total = sum(counts)
    if not total:
        return
    expected = stats.chisquare(counts, [total * one / sum(weights) for one in weights])
    test = sample_ratio_test(counts, weights)
    assert test.chi_square == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    assert test.p_value == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-300)


@given(COUNTS)
def test_a_variant_of_weight_zero_changes_nothing(counts: list[int]) -> None:
    weights = [1.0] * len(counts)
    assert sample_ratio_test([*counts, 0], [*weights, 0.0]) == sample_ratio_test(counts, weights)
    assert sample_ratio_log_bayes_factor(
        [*counts, 0], [*weights, 0.0]
    ) == sample_ratio_log_bayes_factor(counts, weights)
    assert sample_ratio_log_e_value([*counts, 0], [*weights, 0.0]) == sample_ratio_log_e_value(
        counts, weights
    )


def test_one_variant_with_a_weight_has_nothing_to_compare() -> None:
    assert sample_ratio_test([5, 0], [1.0, 0.0]) == (0.0, 0, 1.0)


def test_an_epoch_alone_is_pearsons_test() -> None:
    counts, weights = (10_021, 9_977, 30_110), (0.2, 0.2, 0.6)
    alone, fixed = (
        sample_ratio_of_epochs([Epoch(counts, weights)]),
        sample_ratio_test(counts, weights),
    )
    assert alone.chi_square == pytest.approx(fixed.chi_square, rel=1e-9)
    assert alone.degrees_of_freedom == fixed.degrees_of_freedom
    assert alone.p_value == pytest.approx(fixed.p_value, rel=1e-9)


def test_z_of_epochs_by_hand() -> None:
    """480 of 1,000 at 1/2, then 90 of 1,000 at 1/10: -30 over √(250 + 90)."""
    epochs = [Epoch((480, 520), (1, 1)), Epoch((90, 910), (1, 9))]
    found = sample_ratio_of_epochs(epochs)
    expected = -30 / math.sqrt(340)
    assert found.z == pytest.approx((expected, -expected))
    assert found.chi_square == pytest.approx(expected**2)
    assert found.degrees_of_freedom == 1


def test_weights_that_change_are_no_mismatch_though_the_totals_are_far_from_either() -> None:
    """10,000 at 1:1 and 10,000 at 9:1, as planned: totals of 14,000 and 6,000."""
    epochs = [Epoch((5_000, 5_000), (1, 1)), Epoch((9_000, 1_000), (9, 1))]
    assert sample_ratio_of_epochs(epochs).p_value == pytest.approx(1.0)
    assert log_e_value_of_epochs(epochs) < 0
    assert sample_ratio_test((14_000, 6_000), (1, 1)).p_value < 1e-100


def test_variants_that_never_share_an_epoch_are_compared_apart() -> None:
    """A against B, then C against D: two degrees of freedom, the sum of two tests."""
    epochs = [Epoch((100, 120, 0, 0), (1, 1, 0, 0)), Epoch((0, 0, 50, 70), (0, 0, 1, 1))]
    found = sample_ratio_of_epochs(epochs)
    parts = [sample_ratio_test((100, 120), (1, 1)), sample_ratio_test((50, 70), (1, 1))]
    assert found.degrees_of_freedom == 2
    assert found.chi_square == pytest.approx(sum(part.chi_square for part in parts))


def test_units_of_a_variant_without_a_weight_are_no_part_of_an_epoch() -> None:
    """As at a single look: they are stragglers of an earlier epoch."""
    clean = sample_ratio_of_epochs([Epoch((480, 520, 0), (1, 1, 0))])
    with_stragglers = sample_ratio_of_epochs([Epoch((480, 520, 70), (1, 1, 0))])
    assert with_stragglers == clean
    assert clean.degrees_of_freedom == 1
    assert clean.z[2] is None


def test_evidence_of_epochs_multiplies_within_a_prior_and_is_averaged_over_them() -> None:
    one, other = Epoch((480, 520), (1, 1)), Epoch((90, 910), (1, 9))
    products = [
        math.exp(
            sample_ratio_log_bayes_factor(one.counts, one.weights, concentration=concentration)
            + sample_ratio_log_bayes_factor(
                other.counts, other.weights, concentration=concentration
            )
        )
        for concentration in CONCENTRATIONS
    ]
    assert log_e_value_of_epochs([one, other]) == pytest.approx(math.log(np.mean(products)))
    assert log_e_value_of_epochs([one]) == sample_ratio_log_e_value(one.counts, one.weights)
    assert log_e_value_of_epochs([]) == 0


def test_a_gross_loss_is_seen_among_two_thousand_units() -> None:
    """A fifth of one variant's units is lost: the single prior of before held it to be fair."""
    counts = (1_000, 1_250)
    assert sample_ratio_test(counts, (1, 1)).p_value == pytest.approx(1.4e-7, rel=0.05)
    assert sequential_p_value(sample_ratio_log_bayes_factor(counts, (1, 1))) > 0.05
    assert sequential_p_value(sample_ratio_log_e_value(counts, (1, 1))) < 1e-4


def test_a_split_far_off_in_a_hundred_units_is_seen_and_a_small_loss_among_millions() -> None:
    assert sequential_p_value(sample_ratio_log_e_value((100, 180), (1, 1))) < 0.001
    assert sequential_p_value(sample_ratio_log_e_value((5_000_000, 4_975_000), (1, 1))) < 1e-6


def test_the_mean_of_the_evidence_under_the_plan_is_one() -> None:
    """Exactly an e-value: its expectation over all outcomes of a few units, by enumeration."""
    for weights in ((0.5, 0.5), (0.9, 0.1)):
        for units in (1, 7, 60):
            chances = stats.binom.pmf(np.arange(units + 1), units, weights[0])
            values = [
                math.exp(sample_ratio_log_e_value((count, units - count), weights))
                for count in range(units + 1)
            ]
            assert float(np.dot(chances, values)) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.8, 0.1, 0.1)])
def test_however_often_one_looks_a_fair_split_is_called_broken_at_most_at_alpha(
    weights: tuple[float, ...],
) -> None:
    """600 experiments, looks from ten units on, at 5 %: Ville's inequality holds with room."""
    rng = np.random.default_rng(11)
    growth = np.diff(np.geomspace(10, 100_000, 25).astype(int), prepend=0)
    broken = 0
    for _ in range(600):
        looks = np.cumsum(rng.multinomial(growth, weights), axis=0).tolist()
        best = max(sample_ratio_log_e_value(counts, weights) for counts in looks)
        broken += sequential_p_value(best) < 0.05
    assert 0 < broken / 600 <= 0.05


def test_a_variant_that_got_everything_throughout_has_no_z() -> None:
    found = sample_ratio_of_epochs([Epoch((10, 0), (1, 0))])
    assert found == ((None, None), 0.0, 0, 1.0)
    assert sample_ratio_of_epochs([]) == ((), 0.0, 0, 1.0)
    with pytest.raises(ValueError, match="all variants"):
        sample_ratio_of_epochs([Epoch((1, 2), (1, 1)), Epoch((1,), (1,))])


def test_honest_epochs_raise_as_few_alarms_as_they_should() -> None:
    """Weights that follow the last counts, as a bandit's do; alarms at 5 % of 4,000."""
    rng = np.random.default_rng(3)
    p_values = []
    for _ in range(4_000):
        share, epochs = 0.5, []
        for _ in range(4):
            count = int(rng.binomial(500, share))
            epochs.append(Epoch((count, 500 - count), (share, 1 - share)))
            share = min(0.9, max(0.1, share + 0.2 * (count / 500 > share) - 0.1))
        p_values.append(sample_ratio_of_epochs(epochs).p_value)
    found = float(np.mean(np.array(p_values) < 0.05))
    assert found == pytest.approx(0.05, abs=4 * math.sqrt(0.0475 / 4_000) + 0.003)


def test_segments_are_corrected_for_their_number() -> None:
    """p of 0.0006 is an alarm alone, and none among four (0.0024)."""
    odd, even = (10_000, 10_490), (5_000, 5_000)
    assert sample_ratio_test(odd, (1, 1)).p_value == pytest.approx(0.0006, abs=1e-4)
    (alone,) = sample_ratio_by_segment([odd], (1, 1))
    assert alone.mismatch
    among = sample_ratio_by_segment([odd, even, even, even], (1, 1))
    assert not any(one.mismatch for one in among)
    assert among[0].adjusted_p_value == pytest.approx(4 * among[0].test.p_value)
    broken = sample_ratio_by_segment([(50_000, 45_000), even], (1, 1))
    assert [one.mismatch for one in broken] == [True, False]
    assert [one.sequential_mismatch for one in broken] == [True, False]


def test_a_segment_with_a_handful_of_units_is_left_out_of_the_family() -> None:
    found = sample_ratio_by_segment([(4, 5), (10_000, 10_490)], (1, 1))
    assert [one.status for one in found] == ["insufficient", "ok"]
    assert found[0].adjusted_p_value is None
    assert not found[0].mismatch
    assert found[1].adjusted_p_value == found[1].test.p_value


def test_watching_an_honest_split_raises_few_alarms_and_a_broken_one_is_found() -> None:
    rng = np.random.default_rng(7)
    experiments, looks = 500, 20
    alarms, found = 0, 0
    for _ in range(experiments):
        honest = np.cumsum(rng.binomial(5_000, 0.5, looks))
        broken = np.cumsum(rng.binomial(100_000, 0.495, looks))
        alarms += _alarms(honest, 5_000)
        found += _alarms(broken, 100_000)
    assert alarms <= 2
    assert found >= 495


def _alarms(treatment: np.ndarray, per_look: int) -> bool:
    return any(
        sequential_p_value(
            sample_ratio_log_e_value([per_look * (look + 1) - int(count), int(count)], [0.5, 0.5])
        )
        < 0.001
        for look, count in enumerate(treatment)
    )


def test_a_unit_where_none_can_be_is_an_alarm_at_once_and_for_ever() -> None:
    for evidence in (sample_ratio_log_bayes_factor, sample_ratio_log_e_value):
        assert sequential_p_value(evidence([500, 500, 1], [1, 1, 0])) == 0
        assert sequential_p_value(evidence([500, 500, 0], [1, 1, 0])) == 1
