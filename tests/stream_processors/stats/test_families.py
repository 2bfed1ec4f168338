"""Families: who shares an error probability, by what it is kept, and what is promised."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_processors.stats.families import (
    GUARANTEES,
    AnalysisMethod,
    Candidate,
    adjust_families,
    family_of,
)
from stream_processors.stats.sequential import confidence_sequence, critical_value

METHODS: tuple[AnalysisMethod, ...] = (
    "fixed_horizon",
    "always_valid",
    "group_sequential",
    "bayesian",
)

FAMILIES = ("decision", "guardrail", "secondary", "segment:country")


def test_roles_are_families_and_every_attribute_is_one_of_its_own() -> None:
    assert family_of("decision") == "decision"
    assert family_of("guardrail") == "guardrail"
    assert family_of("secondary", "country") == "segment:country"
    assert family_of("decision", "device") == "segment:device"


@pytest.mark.parametrize(
    ("method", "family", "expected"),
    [
        ("fixed_horizon", "decision", ("holm", "family_wise_at_one_look")),
        ("fixed_horizon", "guardrail", ("holm", "family_wise_at_one_look")),
        ("fixed_horizon", "secondary", ("benjamini_hochberg", "false_discovery_at_one_look")),
        ("fixed_horizon", "segment:country", ("benjamini_hochberg", "false_discovery_at_one_look")),
        ("always_valid", "decision", ("holm", "family_wise_at_all_looks")),
        ("always_valid", "secondary", ("e_bh", "false_discovery_at_any_look")),
        ("always_valid", "segment:country", ("e_bh", "false_discovery_at_any_look")),
        ("group_sequential", "guardrail", ("holm", "family_wise_at_all_looks")),
        (
            "group_sequential",
            "secondary",
            ("benjamini_yekutieli", "false_discovery_at_any_look"),
        ),
        ("bayesian", "decision", ("none", "none")),
    ],
)
def test_the_method_and_the_role_say_what_is_promised(
    method: AnalysisMethod, family: str, expected: tuple[str, str]
) -> None:
    (found,) = adjust_families([Candidate(family, 0.01, 4.0)], method=method, alpha=0.05)
    assert (found.method, found.guarantee) == expected
    assert found.guarantee in GUARANTEES


@given(
    st.lists(st.tuples(st.sampled_from(FAMILIES), st.floats(0, 1), st.floats(-2, 9)), max_size=15),
    st.sampled_from(METHODS),
)
def test_a_family_is_corrected_for_its_own_members_only(
    rows: list[tuple[str, float, float]], method: AnalysisMethod
) -> None:
    candidates = [Candidate(*row) for row in rows]
    found = adjust_families(candidates, method=method, alpha=0.05)
    assert [one.family for one in found] == [one.family for one in candidates]
    for family in FAMILIES:
        indices = [i for i, one in enumerate(candidates) if one.family == family]
        alone = adjust_families([candidates[i] for i in indices], method=method, alpha=0.05)
        assert [found[i] for i in indices] == alone


def test_holm_by_hand() -> None:
    """0.01 · 3, then max(that, 0.02 · 2), then max(that, 0.5)."""
    found = adjust_families(
        [Candidate("decision", p) for p in (0.02, 0.5, 0.01)], method="always_valid", alpha=0.05
    )
    assert [one.p_value for one in found] == pytest.approx([0.04, 0.5, 0.03])
    assert [one.rejects for one in found] == [True, False, True]
    assert {one.interval_alpha for one in found} == {0.05 / 3}


def test_at_a_fixed_horizon_what_is_undefined_is_no_part_of_the_family() -> None:
    found = adjust_families(
        [Candidate("decision", 0.04), Candidate("decision", None)],
        method="fixed_horizon",
        alpha=0.05,
    )
    assert found[0].p_value == 0.04
    assert (found[0].family_size, found[0].undefined_count) == (1, 1)
    assert found[1].p_value is found[1].rejects is found[1].interval_alpha is None


@pytest.mark.parametrize("method", ["always_valid", "group_sequential"])
def test_where_one_looks_again_what_is_not_defined_yet_counts(method: AnalysisMethod) -> None:
    """Else the first look would spend all of alpha on what is ready first, and the rest later."""
    found = adjust_families(
        [Candidate("decision", 0.04), Candidate("decision", None)], method=method, alpha=0.05
    )
    assert found[0].p_value == 0.08
    assert found[0].rejects is False
    assert (found[0].family_size, found[0].undefined_count) == (2, 1)
    assert found[1].p_value is found[1].rejects is None


def test_e_values_that_are_not_defined_yet_count_as_one() -> None:
    found = adjust_families(
        [Candidate("secondary", 0.5, 4.0), Candidate("secondary", None, None)],
        method="always_valid",
        alpha=0.05,
    )
    assert found[0].log_e_value == pytest.approx(4.0 - math.log(2))
    assert found[0].rejects
    assert found[0].interval_alpha == 0.025
    assert found[1].log_e_value is found[1].rejects is None


def test_intervals_of_claims_are_as_wide_as_the_claims_are_many() -> None:
    rows = [Candidate("secondary", p) for p in (0.001, 0.002, 0.4, 0.9)]
    found = adjust_families(rows, method="fixed_horizon", alpha=0.05)
    assert [one.rejects for one in found] == [True, True, False, False]
    assert {one.interval_alpha for one in found} == {0.05 * 2 / 4}


def test_a_posterior_makes_no_claim_that_could_be_wrong() -> None:
    (found,) = adjust_families([Candidate("decision", 0.001)], method="bayesian", alpha=0.05)
    assert found.rejects is found.p_value is None


def test_no_candidates_are_no_families() -> None:
    assert adjust_families([], method="always_valid", alpha=0.05) == []


def _watched(seed: int, *, experiments: int, metrics: int, looks: int) -> tuple[Any, Any]:
    """z after each look, of metrics that share half of their noise; no effect anywhere."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(experiments, looks, 1))
    own = rng.normal(size=(experiments, looks, metrics))
    scores = np.cumsum(math.sqrt(0.5) * shared + math.sqrt(0.5) * own, axis=1)
    number = np.arange(1, looks + 1)
    return scores / np.sqrt(number)[None, :, None], number


def test_watching_a_family_all_the_time_raises_any_false_claim_as_seldom_as_promised() -> None:
    """Holm on running always-valid p-values, at 40 looks; on plain ones it breaks."""
    experiments, metrics, looks, step = 600, 4, 40, 250
    z, number = _watched(3, experiments=experiments, metrics=metrics, looks=looks)
    claims, plain_claims = 0, 0
    for one in z:
        test = confidence_sequence(
            one, np.ones_like(one), unit_count=step * number[:, None], alpha=0.05, n_star=5_000
        )
        running = np.minimum.accumulate(test.p_value, axis=0)
        # Running p-values only fall, so that the last look has every claim that was ever made.
        rows = [Candidate("decision", float(p)) for p in running[-1]]
        claims += any(
            found.rejects for found in adjust_families(rows, method="always_valid", alpha=0.05)
        )
        plain = [math.erfc(value / math.sqrt(2)) for value in np.abs(one).max(axis=0)]
        rows = [Candidate("decision", p) for p in plain]
        plain_claims += any(
            found.rejects for found in adjust_families(rows, method="fixed_horizon", alpha=0.05)
        )
    assert claims / experiments <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / experiments)
    assert plain_claims / experiments > 0.2


def test_the_claim_of_one_comparison_is_that_of_its_interval() -> None:
    """With m comparisons, Holm's first claim is an interval at level alpha / m that excludes 0."""
    alpha, metrics, units = 0.05, 3, 20_000
    edge = critical_value(units, alpha=alpha / metrics, n_star=5_000)
    for z in (edge - 0.01, edge + 0.01):
        # The p-value that belongs to this z is the level whose boundary it is on.
        low, high = 1e-9, 0.5
        for _ in range(200):
            middle = math.sqrt(low * high)
            on_edge = critical_value(units, alpha=middle, n_star=5_000)
            low, high = (middle, high) if on_edge > z else (low, middle)
        rows = [Candidate("decision", p) for p in (high, 0.9, 0.9)]
        first = adjust_families(rows, method="always_valid", alpha=alpha)[0]
        assert first.rejects == (z > edge)
