"""Many comparisons: reference cases, statsmodels, e-BH by its definition, and error rates."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats import multitest

from stream_processors.stats.multiplicity import Procedure, adjust_e_values, adjust_p_values
from tests.stream_processors.stats.oracles import cases_of, is_close

NAMES: dict[str, Procedure] = {
    "bonferroni": "bonferroni",
    "holm": "holm",
    "holm-sidak": "holm_sidak",
    "simes-hochberg": "hochberg",
    "fdr_bh": "benjamini_hochberg",
    "fdr_by": "benjamini_yekutieli",
}

# Few distinct values, so that ties are common.
P_VALUES = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.001, 0.01, 0.04, 0.5, 1.0])),
    min_size=1,
    max_size=12,
)
LOG_E_VALUES = st.lists(
    st.one_of(st.floats(-5, 12), st.sampled_from([0.0, 3.0, 5.0])), min_size=1, max_size=12
)


@pytest.mark.parametrize("case", cases_of("multiple_testing"))
@pytest.mark.parametrize("name", NAMES)
def test_reference_cases_are_met(case: dict[str, Any], name: str) -> None:
    inputs, expected = case["inputs"], case["expected"][name]
    found = adjust_p_values(inputs["p"], procedure=NAMES[name], alpha=inputs["alpha"])
    for got, wanted in zip(found.p_values, expected["p_adj"], strict=True):
        assert got is not None
        assert is_close(got, wanted, case["tolerance"])
    assert list(found.rejects) == expected["reject"]


@given(P_VALUES, st.sampled_from([0.01, 0.05, 0.3]))
def test_holm_claims_step_by_step_until_one_is_too_large(
    p_values: list[float], alpha: float
) -> None:
    """The definition: the i-th smallest is claimed if all up to it are <= alpha / (m - i + 1)."""
    ordered = sorted(p_values)
    steps = [alpha / (len(ordered) - index) for index in range(len(ordered))]
    if min(abs(p - step) for p, step in zip(ordered, steps, strict=True)) < 1e-12:
        return  # On the edge rounding decides.
    claims = 0
    while claims < len(ordered) and ordered[claims] <= steps[claims]:
        claims += 1
    found = adjust_p_values(p_values, procedure="holm", alpha=alpha)
    assert sum(found.rejects) == claims


# Theirs of Holm collects garbage at every call, which takes a second in a large process.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "holm"])
@given(p_values=P_VALUES)
def test_it_is_statsmodels(name: str, p_values: list[float]) -> None:
    found = adjust_p_values(p_values, procedure=NAMES[name], alpha=0.05)
    with np.errstate(divide="ignore"):  # Theirs, for p-values of 1.
        _, expected, _, _ = multitest.multipletests(p_values, alpha=0.05, method=name)
    assert list(found.p_values) == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-12)


@given(P_VALUES, st.data())
def test_what_is_undefined_is_dropped_and_counted_and_the_order_kept(
    p_values: list[float], data: st.DataObject
) -> None:
    """Adjusting with gaps is adjusting without them, with the gaps put back."""
    gaps = data.draw(st.lists(st.booleans(), min_size=len(p_values), max_size=len(p_values)))
    with_gaps = [None if gap else p for gap, p in zip(gaps, p_values, strict=True)]
    found = adjust_p_values(with_gaps, procedure="holm", alpha=0.05)
    rest = adjust_p_values([p for p in with_gaps if p is not None], procedure="holm", alpha=0.05)
    assert [p for p in found.p_values if p is not None] == list(rest.p_values)
    assert [p is None for p in found.p_values] == gaps
    assert not any(rejects and gap for rejects, gap in zip(found.rejects, gaps, strict=True))
    assert (found.family_size, found.dropped_count) == (len(p_values) - sum(gaps), sum(gaps))


@pytest.mark.parametrize("procedure", NAMES.values())
@given(p_values=P_VALUES)
def test_equal_p_values_stay_equal(procedure: Procedure, p_values: list[float]) -> None:
    found = adjust_p_values(p_values, procedure=procedure, alpha=0.05).p_values
    for one, adjusted in zip(p_values, found, strict=True):
        assert {other for p, other in zip(p_values, found, strict=True) if p == one} == {adjusted}


def test_an_empty_family_is_one() -> None:
    found = adjust_p_values([None, None], procedure="holm", alpha=0.05)
    assert found == ((None, None), (False, False), 0, 2)
    assert adjust_e_values([], alpha=0.05) == ((), (), 0, 0)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_what_is_no_p_value_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"p_values\[1\]"):
        adjust_p_values([0.5, wrong], procedure="holm", alpha=0.05)


def test_what_is_no_e_value_is_refused() -> None:
    with pytest.raises(ValueError, match=r"log_e_values\[0\]"):
        adjust_e_values([math.nan], alpha=0.05)


@given(LOG_E_VALUES, st.sampled_from([0.01, 0.05, 0.2]))
def test_e_bh_claims_the_largest_k_with_enough_each(
    log_e_values: list[float], alpha: float
) -> None:
    """Wang and Ramdas: k* is the largest k with k e_(k) / m >= 1 / alpha; claim those k."""
    size = len(log_e_values)
    ordered = sorted(log_e_values, reverse=True)
    margins = [math.log(k / size) + ordered[k - 1] + math.log(alpha) for k in range(1, size + 1)]
    if min(map(abs, margins)) < 1e-9:
        return  # On the edge rounding decides.
    k_star = max((k for k in range(1, size + 1) if margins[k - 1] >= 0), default=0)
    found = adjust_e_values(log_e_values, alpha=alpha)
    assert sum(found.rejects) == k_star
    claimed = [one for one, rejects in zip(log_e_values, found.rejects, strict=True) if rejects]
    assert sorted(claimed, reverse=True) == ordered[:k_star]


@given(LOG_E_VALUES)
def test_e_bh_is_bh_on_the_inverse_e_values(log_e_values: list[float]) -> None:
    found = adjust_e_values(log_e_values, alpha=0.05)
    capped = [math.exp(-max(0.0, one)) for one in log_e_values]
    as_p = adjust_p_values(capped, procedure="benjamini_hochberg", alpha=0.05)
    for log_e, p in zip(found.log_e_values, as_p.p_values, strict=True):
        assert log_e is not None
        assert math.exp(-max(0.0, log_e)) == pytest.approx(p, rel=1e-9)


def test_undefined_e_values_are_dropped_and_counted() -> None:
    found = adjust_e_values([5.0, None, 1.0], alpha=0.05)
    assert found.log_e_values == (
        pytest.approx(5.0 + math.log(1 / 2)),
        None,
        pytest.approx(1.0),
    )
    assert found.rejects == (True, False, False)
    assert (found.family_size, found.dropped_count) == (2, 1)


def _z(rng: np.random.Generator, *, replications: int, size: int, correlation: float) -> Any:
    shared = rng.normal(size=(replications, 1))
    own = rng.normal(size=(replications, size))
    return math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_holm_makes_any_false_claim_as_seldom_as_promised(correlation: float) -> None:
    z = _z(np.random.default_rng(5), replications=4_000, size=10, correlation=correlation)
    p_values = np.array([[math.erfc(abs(one) / math.sqrt(2)) for one in row] for row in z])
    false = np.mean(
        [any(adjust_p_values(row, procedure="holm", alpha=0.05).rejects) for row in p_values]
    )
    assert false <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 4_000)
    assert false > 0.01  # The test is not empty: some are made.


def test_bh_bounds_the_share_of_false_claims_and_finds_more_than_holm() -> None:
    z = _z(np.random.default_rng(6), replications=4_000, size=10, correlation=0.0)
    z[:, :3] += 3.0
    shares, found_bh, found_holm = [], 0, 0
    for row in z:
        p_values = [math.erfc(abs(one) / math.sqrt(2)) for one in row]
        claims = adjust_p_values(p_values, procedure="benjamini_hochberg", alpha=0.05).rejects
        shares.append(sum(claims[3:]) / max(1, sum(claims)))
        found_bh += sum(claims[:3])
        found_holm += sum(adjust_p_values(p_values, procedure="holm", alpha=0.05).rejects[:3])
    error = 4 * np.std(shares) / math.sqrt(len(shares))
    assert np.mean(shares) == pytest.approx(0.05 * 0.7, abs=error)
    assert found_bh > found_holm
