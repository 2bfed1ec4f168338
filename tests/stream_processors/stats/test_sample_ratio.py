"""Sample ratio: reference cases, weight 0, and evidence that does not depend on the path."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stream_processors.stats.sample_ratio import (
    sample_ratio_log_bayes_factor,
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


def test_one_variant_with_a_weight_has_nothing_to_compare() -> None:
    assert sample_ratio_test([5, 0], [1.0, 0.0]) == (0.0, 0, 1.0)


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
            sample_ratio_log_bayes_factor(
                [per_look * (look + 1) - int(count), int(count)], [0.5, 0.5]
            )
        )
        < 0.001
        for look, count in enumerate(treatment)
    )
