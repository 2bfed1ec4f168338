"""Every protocol holds at a small size and a fixed seed, and fails where the product is spoiled.

The spoiled functions are the product's own, one line changed each: a suite that passes them would
prove nothing.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from stream_processors.merge import posteriors
from stream_processors.stats import cuped, edges, group_sequential, inference, sequential
from tools.trust import (
    beliefs,
    clustered,
    data_checks,
    exactness,
    extremes,
    families,
    fixed_horizon,
    growing,
    guarded,
    margins,
    merging,
    peeking,
    planned_looks,
    purity,
    restarts,
    unequal,
    verdicts,
)
from tools.trust.checks import Found, Trial
from tools.trust.logs import Line, UnitTotals, batch_answer
from tools.trust.protocols import PROTOCOLS
from tools.trust.running import rng_of

Run = Callable[[Trial], Found]


@pytest.fixture(autouse=True)
def _small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logs of three protocols have so many units at every scale."""
    for module in (exactness, purity, restarts):
        monkeypatch.setattr(module, "UNITS", module.UNITS // 3)


def tried(run: Run, scale: float, seed: int = 1) -> Found:
    return run(Trial(rng_of(seed, "tests", "a part"), scale))


def missed(found: Found) -> set[str]:
    return {check.id for check in found.checks if not check.passed}


QUICK: list[tuple[Run, float]] = [
    (partial(fixed_horizon.no_effect, "bernoulli_0.1"), 0.05),
    (partial(fixed_horizon.no_effect, "bernoulli_0.01"), 0.05),
    (partial(fixed_horizon.no_effect, "normal"), 0.05),
    (partial(fixed_horizon.no_effect, "ratio"), 0.04),
    (partial(fixed_horizon.no_effect, "cuped_new"), 0.04),
    (partial(peeking.watch_without_effect, "normal"), 0.02),
    (partial(peeking.watch_without_effect, "bernoulli_0.01"), 0.02),
    (partial(peeking.watch_without_effect, "zero_inflated"), 0.02),
    (partial(peeking.look_after_every_pair, "normal", peeking.EARLY), 0.04),
    (partial(planned_looks.planned_looks, "obrien_fleming", "equal"), 0.025),
    (partial(planned_looks.planned_looks, "pocock", "unequal"), 0.025),
    (partial(planned_looks.stopped_when_it_looked_good, "pocock", "one_look"), 0.025),
    (peeking.equal_looks, 0.05),
    (partial(fixed_horizon.coverage, "bernoulli_0.1", "log"), 0.04),
    (partial(fixed_horizon.coverage, "negative", "Fieller"), 0.04),
    (partial(peeking.cover_at_all_looks, "normal", 0.015), 0.02),
    (fixed_horizon.power_of_sequence, 0.04),
    (partial(fixed_horizon.planned_size, "rate"), 0.04),
    (data_checks.fair_split, 0.025),
    (data_checks.broken_split, 0.02),
    (families.no_effects, 0.1),
    (families.some_effects, 0.1),
    (partial(margins.at_the_margin, "bernoulli_0.1", "absolute"), 0.04),
    (clustered.one_arm_coverage, 0.05),
    (partial(exactness.stream_is_batch, "all_of_it"), 0.1),
    (purity.recompute_all, 1.0),
    (merging.random_parts, 0.05),
    (extremes.table, 1.0),
    (restarts.kill_merge, 0.2),
    (partial(verdicts.false_winners, "fixed_horizon"), 0.02),
    (growing.enrolment_over, 0.15),
    (growing.sooner, 0.1),
    (partial(beliefs.effects_believed, "rate", "90"), 0.1),
    (partial(beliefs.effects_believed, "mean", "90"), 0.05),
    (partial(beliefs.guardrails_believed, "rate", "90"), 0.1),
    (partial(unequal.unequal, "rate", "99"), 0.1),
    (partial(unequal.unequal, "lognormal", "90"), 0.1),
    (partial(unequal.fair_split, "90"), 0.02),
    (partial(guarded.guardrails, "always_valid", "95"), 0.03),
    (partial(guarded.guardrails, "bayesian", "95"), 0.1),
    (partial(guarded.guardrails, "fixed_horizon", "95"), 0.2),
    (partial(guarded.guardrails, "group_sequential", "95"), 0.08),
]


def name_of(case: Any) -> str:
    if isinstance(case, partial):
        return "-".join([case.func.__name__, *map(str, case.args)])
    return case.__name__ if callable(case) else str(case)


@pytest.mark.parametrize(("run", "scale"), QUICK, ids=name_of)
def test_a_protocol_holds(run: Run, scale: float) -> None:
    found = tried(run, scale)

    assert found.checks
    assert missed(found) == set()


def test_every_protocol_that_is_run_is_tried_here() -> None:
    tried_here = {getattr(run, "func", run).__name__ for run, _ in QUICK}
    slow = {"quantiles_without_effect", "quantile_coverage", "daily_cohorts", "aa_end_to_end"}
    parts = {
        getattr(part.run, "func", part.run).__name__
        for protocol in PROTOCOLS
        if not protocol.is_whole_stack
        for part in protocol.parts
    }

    assert parts - slow <= tried_here
    assert [int(one.id) for one in PROTOCOLS] == list(range(1, 28))
    ids = [(one.id, part.name) for one in PROTOCOLS for part in one.parts]
    assert len(set(ids)) == len(ids)


# --- what is spoiled ---


def test_a_standard_error_that_is_a_tenth_too_small_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true = inference.welch_test_of_sum

    def spoiled(difference: Any, variances: Any, counts: Any, *, alpha: Any) -> Any:
        return true(difference, 0.81 * variances, counts, alpha=alpha)

    monkeypatch.setattr(inference, "welch_test_of_sum", spoiled)

    # Rejects at .05 where |z| > 1.96 · .9: 7.8 %.
    no_effect = missed(tried(partial(fixed_horizon.no_effect, "normal"), 0.3))
    assert "1.normal.reject_05" in no_effect
    coverage = missed(tried(partial(fixed_horizon.coverage, "normal", "log"), 0.2))
    assert {"6.normal.absolute.lift_0.95", "6.normal.absolute.lift_0.2.95"} <= coverage


def test_a_covariate_that_is_centred_within_each_variant_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spoiled(control: Any, treatment: Any, theta: Any, counts: Any) -> float:
        # The effect stays unadjusted, the standard error shrinks: 16 % at a correlation of .7.
        return float(treatment.share.minus(control.share).value)

    monkeypatch.setattr(cuped, "_difference", spoiled)

    assert "1.cuped.reject_05" in missed(tried(partial(fixed_horizon.no_effect, "cuped"), 0.1))


def test_a_sequence_without_its_burn_in_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "BURN_IN_UNITS", 2)

    found = tried(partial(peeking.look_after_every_pair, "normal", peeking.EARLY), 0.1)

    assert "3.normal.20" in missed(found)


def test_a_sequence_that_is_too_narrow_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true = sequential.mixture_sequence

    def spoiled(estimate: Any, std_error: Any, **rest: Any) -> Any:
        return true(estimate, 0.8 * np.asarray(std_error), **rest)

    monkeypatch.setattr(sequential, "mixture_sequence", spoiled)

    found = missed(tried(partial(peeking.watch_without_effect, "normal"), 0.1))

    assert {"2.normal.always_valid", "2.normal.sequence_alone"} <= found
    # The product's whole way was not spoiled: that both differ is seen, too.
    assert "2.normal.same_numbers" in found


def test_boundaries_that_are_a_tenth_too_low_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true = group_sequential._solve

    def spoiled(*args: Any, **rest: Any) -> float:
        return 0.9 * true(*args, **rest)

    monkeypatch.setattr(group_sequential, "_solve", spoiled)

    found = tried(partial(planned_looks.planned_looks, "pocock", "equal"), 0.06)

    assert "4.pocock.equal" in missed(found)


def test_a_posterior_that_is_too_sure_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true = posteriors.difference_posteriors

    def spoiled(given: Any) -> Any:
        return true(given._replace(std_errors=0.7 * given.std_errors))

    monkeypatch.setattr(posteriors, "difference_posteriors", spoiled)

    found = tried(partial(beliefs.effects_believed, "mean_flat", "90"), 0.2)

    # Holds the truth where |z| < 1.96 · .7: in 83 %.
    assert "25.mean_flat.90.interval" in missed(found)


def test_a_lost_event_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(lines: list[Line]) -> tuple[list[UnitTotals], int]:
        return batch_answer([line for line in lines if line.event_id != "m7.0"])

    monkeypatch.setattr(exactness, "batch_answer", spoiled)

    found = tried(partial(exactness.stream_is_batch, "shuffle"), 0.1, seed=3)

    assert missed(found) == {"13.shuffle"}


def test_an_effect_that_is_not_a_number_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true = extremes.compare_all

    def spoiled(comparisons: Any) -> Any:
        return [one._replace(std_error=math.nan) for one in true(comparisons)]

    monkeypatch.setattr(extremes, "compare_all", spoiled)

    assert missed(extremes.table(Trial(np.random.default_rng(1)))) == {"17.finite"}
