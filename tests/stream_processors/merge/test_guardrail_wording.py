"""A guardrail is said with the one-sided bound that decides, not with an interval beside it."""

import re
from typing import Any

import msgspec
import pytest

from schemas.definitions import Analysis, Metric
from stream_processors.merge.look import compute_look
from stream_processors.merge.path import ExperimentPath
from tests.stream_processors.merge.builders import make_cut, make_definition, make_totals, rate

PURCHASES = Metric("conversion", "conversion", "purchase", window_ms=3_600_000)


def guarded(failed: int, method: Any) -> tuple[dict[str, Any], str]:
    """The guardrail's entry and text; of 10,000 units each 1,000 of the control failed."""
    errors = Metric(
        "err",
        "conversion",
        "err",
        window_ms=3_600_000,
        role="guardrail",
        direction="decrease",
        margin={"absolute": 0.01},
    )
    definition = make_definition(metrics=(PURCHASES, errors))
    definition = msgspec.structs.replace(definition, analysis=Analysis(method=method))
    totals = make_totals(
        [rate(10_000, 1_000), rate(10_000, 1_300)],
        [rate(10_000, 1_000), rate(10_000, failed)],
        is_final=method == "fixed_horizon",
    )
    results = compute_look(definition, totals, cut=make_cut(), path_before=ExperimentPath()).results
    entry = next(
        one for one in results["metrics"] if (one["metric_id"], one["basis"]) == ("err", "matured")
    )
    [text] = [one["text"] for one in results["verdict"]["reasons"] if one["metric_id"] == "err"]
    return entry["effects"][0], text


@pytest.mark.parametrize("method", ["always_valid", "fixed_horizon"])
def test_what_is_said_of_a_guardrail_agrees_with_the_bound_beside_it(method: Any) -> None:
    seen = set()
    for failed in range(700, 1_600, 9):
        effect, text = guarded(failed, method)
        rail = effect["guardrail"]
        seen.add(rail["status"])
        assert f"{-rail['gain']:+.4g}" in text
        found = re.search(r"at least \+?([\d.e-]+)", text)
        assert (found is None) == (rail["status"] == "undecided"), text
        if found is not None:  # Above 0: it got worse, or is off the margin on the side named.
            assert float(found[1].rstrip(".")) > 0, text
    assert seen == {"pass", "harm", "fail", "undecided"}


def test_a_harm_is_said_with_its_own_bound_where_the_interval_beside_it_has_0() -> None:
    effect, text = guarded(1_128, "always_valid")
    assert effect["guardrail"]["status"] == "harm"
    assert effect["decision"]["low"] < 0 < effect["decision"]["high"]
    bound = -effect["guardrail"]["high"]
    assert text == f"err: treatment got worse: +0.0128 (at least {bound:+.4g})."


def test_a_belief_is_said_with_its_chance() -> None:
    effect, text = guarded(1_000, "bayesian")
    chance = effect["guardrail"]["chance_within_margin"]
    assert effect["guardrail"]["status"] == "pass"
    assert f"within the margin with a chance of {100 * chance:.3g} %" in text
