"""A verdict reads what decides and nothing else, and never calls a spoiled experiment a success."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.definitions import Analysis, Definition, Metric
from stream_processors.merge.verdict import FINDINGS, Reading, verdict
from tests.stream_processors.merge.builders import make_definition

HOUR_MS = 3_600_000
SALES, SPEED, REFUNDS, CLICKS = "sales", "load_time", "refunds", "clicks"
METRICS = {
    SALES: Metric(SALES, "sum", "purchase", window_ms=HOUR_MS),
    SPEED: Metric(SPEED, "sum", "load", window_ms=HOUR_MS, direction="decrease"),
    REFUNDS: Metric(
        REFUNDS,
        "conversion",
        "refund",
        role="guardrail",
        window_ms=HOUR_MS,
        direction="decrease",
        margin={"absolute": 0.01},
    ),
    CLICKS: Metric(CLICKS, "count", "click", role="secondary", window_ms=HOUR_MS),
}

UP = {"low": 0.01, "high": 0.05, "rejects": True}
DOWN = {"low": -0.05, "high": -0.01, "rejects": True}
NOTHING = {"low": -0.02, "high": 0.03, "rejects": False}
WARMING = {"status": "warming_up"}
PLANNED = {"status": "waiting_for_look"}
STOPPED = {"status": "stopped_before_look"}
TORN = {"status": "empty_intersection"}
INVALID = {"status": "invalid_input"}
LOST_BY_CORRECTION = {**UP, "survives": False}
TORN_GUARD = {**TORN, "state": "undecided", "reason": "empty_intersection", "rejects": False}
HARM_WITHIN = {**UP, "state": "pass", "is_harmed": True}


def gains(low: float | None, high: float | None) -> dict[str, float | None]:
    """The bounds of a guardrail whose margin is 0.01, and of which less is better."""
    if low is None or high is None:
        return dict.fromkeys(("gain", "low", "high", "room", "room_low", "room_high"))
    gain = {"gain": -(low + high) / 2, "low": -high, "high": -low}
    return gain | {f"room_{end}": gain[end] + 0.01 for end in ("low", "high")}


def effect(metric: str, says: dict[str, Any], variant: str = "treatment") -> dict[str, Any]:
    status = says.get("status", "ok")
    low, high = says.get("low"), says.get("high")
    estimate = None if low is None or high is None else (low + high) / 2
    ends = {"estimate": estimate, "low": low, "high": high}
    entry: dict[str, Any] = {
        "variant": variant,
        "control": "control",
        "status": status,
        "decision": {"status": status, "rejects": says.get("rejects"), **ends, "relative": ends},
        "adjusted": None,
    }
    if METRICS[metric].role == "guardrail":
        entry["guardrail"] = {
            "status": says.get("state", "undecided"),
            "margin": 0.01,
            "reason": says.get("reason"),
            "is_harmed": says.get("is_harmed", says.get("state") == "harm"),
            **gains(low, high),
        }
    if status == "ok":
        rejects = says.get("survives", says.get("rejects", False))
        entry["adjusted"] = {"method": "holm", "rejects": rejects}
    return entry


def results_of(
    metrics: dict[str, Any],
    *,
    mismatch: bool = False,
    in_segment: bool = False,
    final: bool = False,
    crossovers: int = 0,
) -> dict[str, Any]:
    segment = {"value": "CA", "mismatch": in_segment, "adjusted_p_value": 1e-5}
    return {
        "final": final,
        "variants": [{"variant": one, "units": 1_000} for one in ("control", "treatment")],
        "crossovers": crossovers,
        "analysis": {"method": "always_valid", "alpha": 0.05},
        "sample_ratio": {"mismatch": mismatch, "p_value": 0.5, "sequential_p_value": 1e-6},
        "sample_ratio_by_segment": {"country": [segment]},
        "metrics": [
            {
                "metric_id": metric,
                "role": METRICS[metric].role,
                "basis": "matured",
                "overflowed": 0,
                "variants": [
                    {"variant": "control", "units": 40, "total": 12},
                    {"variant": "treatment", "units": 60, "total": 18},
                    {"variant": "arm-2", "units": 60, "total": 18},
                ],
                "effects": [
                    effect(metric, one, variant)
                    for variant, one in zip(
                        ("treatment", "arm-2"),
                        says if isinstance(says, list) else [says],
                        strict=False,
                    )
                ],
            }
            for metric, says in metrics.items()
        ],
    }


def definition_of(
    *metrics: str,
    method: Any = "always_valid",
    minimum_effect: float | None = None,
    variants: int = 2,
) -> Definition:
    definition = make_definition(
        metrics=[METRICS[one] for one in metrics], weights=[1 / variants] * variants
    )
    return msgspec.structs.replace(
        definition,
        analysis=Analysis(method=method),
        hypothesis={"null": "", "alternative": "", "minimum_effect": minimum_effect},
    )


def judged(metrics: dict[str, Any], **fields: Any) -> dict[str, Any]:
    minimum_effect = fields.pop("minimum_effect", None)
    definition = definition_of(*metrics, minimum_effect=minimum_effect)
    return verdict(definition, results_of(metrics, **fields))


@pytest.mark.parametrize(
    ("metrics", "running", "at_end"),
    [
        ({SALES: UP}, "improvement", "improvement"),
        ({SALES: DOWN}, "harm", "harm"),
        ({SALES: NOTHING}, "running_no_evidence", "no_effect_found_at_end"),
        ({SALES: WARMING}, "warming_up", "too_few_units_at_end"),
        ({SALES: PLANNED}, "waiting_for_look", "not_tested_at_end"),
        ({SALES: PLANNED, SPEED: WARMING}, "waiting_for_look", "not_tested_at_end"),
        ({SALES: TORN}, "inconsistent", "inconsistent"),
        ({SALES: INVALID}, "invalid", "invalid"),
        ({SALES: LOST_BY_CORRECTION}, "running_no_evidence", "no_effect_found_at_end"),
        ({SPEED: UP}, "harm", "harm"),
        ({SPEED: DOWN}, "improvement", "improvement"),
        ({SALES: UP, SPEED: UP}, "mixed", "mixed"),
        ({SALES: UP, SPEED: DOWN}, "improvement", "improvement"),
        ({SALES: UP, SPEED: NOTHING}, "improvement", "improvement"),
        ({SALES: DOWN, SPEED: WARMING}, "harm", "harm"),
        ({SALES: NOTHING, SPEED: WARMING}, "running_no_evidence", "no_effect_found_at_end"),
        ({SALES: UP, SPEED: TORN}, "inconsistent", "inconsistent"),
        ({SALES: UP, SPEED: INVALID}, "invalid", "invalid"),
        ({SALES: UP, REFUNDS: {"state": "pass"}}, "improvement", "improvement"),
        (
            {SALES: UP, REFUNDS: {"state": "undecided"}},
            "improvement_guardrails_open",
            "improvement_guardrails_open",
        ),
        (
            {SALES: UP, REFUNDS: {"state": "undecided", **WARMING}},
            "improvement_guardrails_open",
            "improvement_guardrails_open",
        ),
        ({SALES: UP, REFUNDS: {"state": "fail"}}, "guardrail_failed", "guardrail_failed"),
        ({SALES: NOTHING, REFUNDS: {"state": "fail"}}, "guardrail_failed", "guardrail_failed"),
        (
            {SALES: UP, REFUNDS: {"state": "harm", "rejects": True}},
            "guardrail_failed",
            "guardrail_failed",
        ),
        (
            {SALES: UP, REFUNDS: {"state": "harm", "rejects": False}},
            "improvement_guardrails_open",
            "improvement_guardrails_open",
        ),
        ({SALES: UP, REFUNDS: INVALID}, "invalid", "invalid"),
        ({SALES: UP, REFUNDS: TORN_GUARD}, "inconsistent", "inconsistent"),
        ({SALES: DOWN, REFUNDS: TORN_GUARD}, "harm", "harm"),
        (
            {SALES: UP, REFUNDS: {**TORN_GUARD, "status": "ok", "state": "harm"}},
            "inconsistent",
            "inconsistent",
        ),
        ({REFUNDS: {"state": "pass"}}, "no_decision_metric", "no_decision_metric"),
    ],
    ids=str,
)
def test_the_table_of_readings(metrics: dict[str, Any], running: str, at_end: str) -> None:
    assert judged(metrics)["reading"] == running
    assert judged(metrics, final=True)["reading"] == at_end
    for spoiled in ({"mismatch": True}, {"in_segment": True}):
        assert judged(metrics, **spoiled)["reading"] == "sample_ratio_mismatch"


MINIMUM = 0.02
WORTH = {"low": 0.03, "high": 0.05, "rejects": True}
AT_MINIMUM = {"low": 0.02, "high": 0.05, "rejects": True}
PERHAPS = {"low": 0.01, "high": 0.05, "rejects": True}
TO_MINIMUM = {"low": 0.01, "high": 0.02, "rejects": True}
TOO_SMALL = {"low": 0.005, "high": 0.01, "rejects": True}
SMALL = {"low": -0.01, "high": 0.01, "rejects": False}
OPEN = {"low": -0.01, "high": 0.03, "rejects": False}
WORSE = {"low": -0.05, "high": -0.01, "rejects": True}
SMALL_BY_CORRECTION = {**TOO_SMALL, "survives": False}
WORTH_BY_CORRECTION = {**WORTH, "survives": False}
WORSE_BY_CORRECTION = {**WORSE, "survives": False}
PERHAPS_WORDS = "Whether by the minimum effect that was agreed on is not settled"


@pytest.mark.parametrize(
    ("says", "reading", "code", "words", "headline"),
    [
        (WORTH, "improvement", "better", "at least the minimum", "did better"),
        (AT_MINIMUM, "improvement", "better", "at least the minimum", "did better"),
        (PERHAPS, "improvement", "better", "perhaps by less", PERHAPS_WORDS),
        (TO_MINIMUM, "improvement", "better", "perhaps by less", PERHAPS_WORDS),
        (TOO_SMALL, "improvement_below_minimum", "better_small", "but by less than the minimum",
         "did better than the control, but by less than the minimum effect"),
        (SMALL, "smaller_than_minimum", "small", "not better by the minimum", "none was shown"),
        (OPEN, "running_no_evidence", "nothing", "shows no difference", "No difference shown"),
        (WORSE, "harm", "worse", "lower than control", "did worse"),
        (SMALL_BY_CORRECTION, "smaller_than_minimum", "small", "not better", "none was shown"),
        (WORTH_BY_CORRECTION, "running_no_evidence", "nothing", "taken alone", "No difference"),
        (WORSE_BY_CORRECTION, "smaller_than_minimum", "small", "not better", "none was shown"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("metric", [SALES, SPEED])
def test_an_effect_is_held_against_the_smallest_that_is_worth_having(
    metric: str, says: dict[str, Any], reading: str, code: str, words: str, headline: str
) -> None:
    if metric == SPEED:
        says = {**says, "low": -says["high"], "high": -says["low"]}
        words = words.replace("lower", "higher")

    found = judged({metric: says}, minimum_effect=MINIMUM)

    assert found["reading"] == reading
    assert found["reasons"][0]["code"] == f"decision_{code}"
    assert words in found["reasons"][0]["text"]
    assert headline in found["text"]
    assert (PERHAPS_WORDS in found["text"]) == (headline == PERHAPS_WORDS)


@pytest.mark.parametrize("minimum_effect", [None, 0.0])
@pytest.mark.parametrize("says", [WORTH, PERHAPS, TOO_SMALL])
def test_without_a_minimum_every_improvement_is_one(
    says: dict[str, Any], minimum_effect: float | None
) -> None:
    found = judged({SALES: says}, minimum_effect=minimum_effect)

    assert found["reading"] == "improvement"
    assert "minimum" not in found["text"] + found["reasons"][0]["text"]


SIDES = {
    "worth": WORTH, "perhaps": PERHAPS, "too small": TOO_SMALL, "small": SMALL, "open": OPEN,
    "worse": WORSE, "warming": WARMING,
}  # fmt: skip
BELOW = "improvement_below_minimum"
RUNNING = "running_no_evidence"
TWO_METRICS = {
    ("worth", "worth"): "improvement",
    ("worth", "perhaps"): "improvement",
    ("worth", "too small"): "improvement",
    ("worth", "small"): "improvement",
    ("worth", "open"): "improvement",
    ("worth", "worse"): "mixed",
    ("worth", "warming"): "improvement",
    ("perhaps", "perhaps"): "improvement",
    ("perhaps", "too small"): "improvement",
    ("perhaps", "small"): "improvement",
    ("perhaps", "open"): "improvement",
    ("perhaps", "worse"): "mixed",
    ("perhaps", "warming"): "improvement",
    ("too small", "too small"): BELOW,
    ("too small", "small"): BELOW,
    ("too small", "open"): BELOW,
    ("too small", "worse"): "mixed",
    ("too small", "warming"): BELOW,
    ("small", "small"): "smaller_than_minimum",
    ("small", "open"): RUNNING,
    ("small", "worse"): "harm",
    ("small", "warming"): RUNNING,
    ("open", "open"): RUNNING,
    ("open", "worse"): "harm",
    ("open", "warming"): RUNNING,
    ("worse", "worse"): "harm",
    ("worse", "warming"): "harm",
    ("warming", "warming"): "warming_up",
}


def mirrored(says: dict[str, Any]) -> dict[str, Any]:
    """Return what is as much better of a metric that should decrease."""
    if "low" not in says:
        return says
    return {**says, "low": -says["high"], "high": -says["low"]}


@pytest.mark.parametrize("pair", TWO_METRICS, ids=str)
def test_two_deciding_metrics_are_held_against_the_minimum_together(pair: tuple[str, str]) -> None:
    for one, other in (pair, pair[::-1]):
        metrics = {SALES: SIDES[one], SPEED: mirrored(SIDES[other])}
        found = judged(metrics, minimum_effect=MINIMUM)

        assert found["reading"] == TWO_METRICS[pair]
        is_perhaps = "perhaps" in pair and found["reading"] == "improvement"
        assert (PERHAPS_WORDS in found["text"]) == (is_perhaps and "worth" not in pair)


@pytest.mark.parametrize(
    ("state", "reading"),
    [("pass", BELOW), ("undecided", BELOW), ("fail", "guardrail_failed")],
)
def test_an_improvement_that_is_too_small_is_a_finding_that_nobody_is_told_to_ship(
    state: str, reading: str
) -> None:
    metrics = {SALES: TOO_SMALL, REFUNDS: {"state": state}}
    for final in (False, True):
        assert judged(metrics, minimum_effect=MINIMUM, final=final)["reading"] == reading
    assert Reading.IMPROVEMENT_BELOW_MINIMUM in FINDINGS


def test_without_a_relative_interval_the_minimum_is_not_settled() -> None:
    results = results_of({SALES: WORTH})
    results["metrics"][0]["effects"][0]["decision"]["relative"] |= {"low": None, "high": None}

    found = verdict(definition_of(SALES, minimum_effect=MINIMUM), results)

    assert found["reading"] == "improvement"
    assert PERHAPS_WORDS in found["text"]


def test_of_several_treatments_the_one_that_is_better_is_named() -> None:
    definition = definition_of(SALES, variants=4)
    results = results_of({SALES: [NOTHING, UP]})
    results["metrics"][0]["effects"].append(effect(SALES, DOWN, "arm-3"))

    found = verdict(definition, results)

    assert found["reading"] == "improvement"
    assert found["text"] == (
        "arm-2 did better than the control, and for arm-2 nothing that is guarded was shown to get "
        "worse. arm-3 did worse than the control. treatment: no difference shown so far."
    )
    assert found["treatments"] == [
        {"variant": "treatment", "reading": "running_no_evidence"},
        {"variant": "arm-2", "reading": "improvement"},
        {"variant": "arm-3", "reading": "harm"},
    ]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("fail", "arm-2 made something worse that is guarded: do not ship it as it is."),
        ("undecided", "for arm-2 everything that is guarded stays within its margin."),
    ],
)
def test_a_guardrail_of_one_treatment_does_not_hide_behind_another(state: str, words: str) -> None:
    says = {SALES: [UP, UP], REFUNDS: [{**UP, "state": "pass"}, {**UP, "state": state}]}
    found = verdict(definition_of(SALES, REFUNDS, variants=3), results_of(says))

    assert found["reading"] == "improvement"
    assert found["text"].startswith("treatment did better")
    assert "for treatment nothing that is guarded was shown to get worse" in found["text"]
    assert found["text"].endswith(words)


def test_harm_within_the_margin_is_said_of_the_treatment_that_did_it() -> None:
    says = {SALES: [UP, UP], REFUNDS: [{**UP, "state": "pass"}, HARM_WITHIN]}
    text = verdict(definition_of(SALES, REFUNDS, variants=3), results_of(says))["text"]

    assert "For arm-2 every guardrail stayed within its margin, but refunds got worse" in text
    assert "for treatment nothing that is guarded was shown to get worse" in text


def test_treatments_of_which_the_same_holds_are_named_together() -> None:
    found = verdict(definition_of(SALES, variants=3), results_of({SALES: [UP, UP]}))

    assert found["text"].startswith("treatment and arm-2 did better than the control, and nothing")


def test_an_alarm_of_the_split_is_about_all_treatments() -> None:
    results = results_of({SALES: [UP, DOWN]}, mismatch=True)
    text = verdict(definition_of(SALES, variants=3), results)["text"]

    assert text.startswith("Do not read this result")
    assert "did" not in text


@pytest.mark.parametrize(
    ("metrics", "running", "at_end"),
    [
        ({SALES: STOPPED}, "waiting_for_look", "stopped_before_look"),
        ({SALES: STOPPED, SPEED: NOTHING}, "running_no_evidence", "stopped_before_look"),
        ({SALES: STOPPED, SPEED: WARMING}, "waiting_for_look", "stopped_before_look"),
        ({SALES: STOPPED, SPEED: UP}, "harm", "harm"),
        ({SALES: UP, SPEED: STOPPED}, "improvement", "improvement"),
    ],
)
def test_a_test_that_was_broken_off_is_no_test_that_found_nothing(
    metrics: dict[str, Any], running: str, at_end: str
) -> None:
    assert judged(metrics)["reading"] == running
    assert judged(metrics, final=True)["reading"] == at_end


def test_open_units_and_secondary_metrics_decide_nothing() -> None:
    results = results_of({SALES: NOTHING, CLICKS: UP})
    results["metrics"].append({**results_of({SALES: UP})["metrics"][0], "basis": "open"})

    found = verdict(definition_of(SALES, CLICKS), results)

    assert found["reading"] == "running_no_evidence"
    assert [one["metric_id"] for one in found["reasons"]] == ["sales"]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("always_valid", "however often you look"),
        ("group_sequential", "over all planned looks"),
        ("fixed_horizon", "the only one that was planned"),
        ("bayesian", "No error rate is guaranteed"),
    ],
)
def test_the_guarantee_is_that_of_the_method(method: str, words: str) -> None:
    metrics = {SALES: NOTHING, SPEED: NOTHING}
    definition = definition_of(SALES, SPEED, method=method)

    guarantee = verdict(definition, results_of(metrics))["guarantee"]

    assert words in guarantee
    assert ("at most 5 %" in guarantee) == (method != "bayesian")
    assert ("all 2 comparisons" in guarantee) == (method != "bayesian")


def test_what_a_reader_should_know_is_told_and_changes_no_reading() -> None:
    results = results_of({SALES: UP}, crossovers=100)
    results["metrics"][0] |= {"overflowed": 3, "cap": {"imbalance_p_value": 1e-6}}

    found = verdict(definition_of(SALES), results)

    assert found["reading"] == "improvement"
    assert [one["code"] for one in found["reasons"]] == [
        "decision_better", "many_crossovers", "units_overflowed", "cap_imbalance",
    ]  # fmt: skip


def test_the_alarm_of_the_split_comes_first_and_names_the_segment() -> None:
    found = judged({SALES: UP}, in_segment=True)

    assert found["reasons"][0]["code"] == "segment_sample_ratio_mismatch"
    assert "country CA" in found["reasons"][0]["text"]
    assert found["treatments"] == [{"variant": "treatment", "reading": "sample_ratio_mismatch"}]


@pytest.mark.parametrize(
    ("guard", "headline", "reason"),
    [
        (HARM_WITHIN, "refunds got worse", "stays within its margin, but it got worse"),
        (
            {**HARM_WITHIN, "survives": False},
            "nothing that is guarded was shown to get worse",
            "but taken alone it got worse",
        ),
        (
            {**NOTHING, "state": "pass"},
            "nothing that is guarded was shown to get worse",
            "stays within its margin:",
        ),
    ],
)
def test_harm_within_the_margin_is_named(guard: dict[str, Any], headline: str, reason: str) -> None:
    found = judged({SALES: UP, REFUNDS: guard})

    assert found["reading"] == "improvement"
    assert headline in found["text"]
    assert reason in found["reasons"][1]["text"]


def test_a_torn_guardrail_is_said_to_be_torn_under_a_code_that_is_known() -> None:
    reason = judged({SALES: UP, REFUNDS: TORN_GUARD})["reasons"][1]

    assert reason["code"] == "guardrail_undecided"
    assert "looks that contradict each other" in reason["text"]


def sentence_of(decision: dict[str, Any], relative: dict[str, Any], **fields: Any) -> str:
    results = results_of({SALES: {**UP, **fields}})
    shown = results["metrics"][0]["effects"][0]["decision"]
    shown |= {**decision, "relative": relative}
    text: str = verdict(definition_of(SALES), results)["reasons"][0]["text"]
    return text


THIS_LOOK = {"estimate": 0.0141, "low": -0.0005, "high": 0.029}


@pytest.mark.parametrize(
    ("decision", "sentence"),
    [
        (
            {"estimate": 0.7, "low": 0.1, "high": 1.3},
            "sales: treatment is higher than control: +0.7 (+0.1 to +1.3), +1.41 %.",
        ),
        (
            {"estimate": -0.02, "low": 0.12, "high": 0.15},
            (
                "sales: treatment is higher than control: +0.12 to +0.15 by all looks together, "
                "-0.02 at this one."
            ),
        ),
        (
            {"estimate": 0.7, "low": 0.1, "high": None},
            "sales: treatment is higher than control: at least +0.1.",
        ),
        (
            {"estimate": -0.7, "low": None, "high": -0.1},
            "sales: treatment is lower than control: at most -0.1.",
        ),
    ],
)
def test_a_sentence_prints_the_interval_that_decided(
    decision: dict[str, Any], sentence: str
) -> None:
    """The relative interval is of this look alone: beside a running one it may span 0."""
    assert sentence_of(decision, THIS_LOOK) == sentence


def test_an_interval_without_0_that_the_correction_leaves_no_finding_is_explained() -> None:
    told = sentence_of({"estimate": 0.7, "low": 0.1, "high": 1.3}, THIS_LOOK, survives=False)

    assert "shows no difference that the correction for several comparisons leaves" in told


@pytest.mark.parametrize(
    ("status", "words", "headline", "at_end"),
    [
        ("warming_up", "has too few units yet", "Too few units so far", "with too few units"),
        ("no_units", "waits for the first units", "Too few units so far", "with too few units"),
        ("insufficient", "waits for two units", "Too few units so far", "with too few units"),
        ("zero_variance", "nothing to test", "Nothing to test so far", "with nothing to test"),
        ("undefined", "nothing to divide by", "Not enough data", "without a test"),
        ("denominator_near_zero", "clearly not 0", "Not enough data", "without a test"),
    ],
)
def test_what_has_no_numbers_says_what_it_waits_for(
    status: str, words: str, headline: str, at_end: str
) -> None:
    running = judged({SALES: {"status": status}})
    ended = judged({SALES: {"status": status}}, final=True)

    needs_units = status in ("warming_up", "no_units", "insufficient")
    at_last = "too_few_units_at_end" if needs_units else "not_tested_at_end"
    assert (running["reading"], ended["reading"]) == ("warming_up", at_last)
    assert words in running["reasons"][0]["text"]
    assert headline in running["text"]
    assert at_end in ended["text"]


def test_an_end_without_a_finding_says_what_was_not_tested() -> None:
    said = judged({SALES: NOTHING, SPEED: WARMING}, final=True)
    tested = judged({SALES: NOTHING, SPEED: NOTHING}, final=True)

    assert "Not every deciding metric could be tested" in said["text"]
    assert "Not every deciding metric" not in tested["text"]


decisions = st.sampled_from(
    [UP, DOWN, NOTHING, WARMING, PLANNED, STOPPED, TORN, INVALID, LOST_BY_CORRECTION]
)
states = st.sampled_from(["pass", "fail", "harm", "undecided"])
guards = st.builds(
    lambda state, rejects: {"state": state, "rejects": rejects}, states, st.booleans()
)
GOOD = {Reading.IMPROVEMENT, Reading.IMPROVEMENT_GUARDRAILS_OPEN}


@given(decisions, decisions, guards, st.booleans(), st.booleans(), st.booleans())
def test_a_broken_split_is_never_a_success(
    sales: Any, speed: Any, guard: Any, final: bool, mismatch: bool, in_segment: bool
) -> None:
    metrics = {SALES: sales, SPEED: speed, REFUNDS: guard}

    clean = judged(metrics, final=final)
    found = judged(metrics, final=final, mismatch=mismatch, in_segment=in_segment)

    if mismatch or in_segment:
        assert found["reading"] == Reading.SAMPLE_RATIO_MISMATCH
    else:
        assert found == clean
    assert found["text"]
    assert "{" not in found["text"]


@given(decisions, decisions, guards)
def test_a_guardrail_can_only_take_a_success_away(sales: Any, speed: Any, guard: Any) -> None:
    without = judged({SALES: sales, SPEED: speed})["reading"]
    guarded = judged({SALES: sales, SPEED: speed, REFUNDS: guard})["reading"]

    assert guarded not in GOOD or without in GOOD
    if guard["state"] == "fail" and Reading(without) is not Reading.INVALID:
        assert guarded == Reading.GUARDRAIL_FAILED


@given(decisions, decisions)
def test_a_difference_is_named_only_where_a_correction_left_one(sales: Any, speed: Any) -> None:
    found = judged({SALES: sales, SPEED: speed})["reading"]

    has_one = any(one in (UP, DOWN, TORN) for one in (sales, speed))
    is_invalid = INVALID in (sales, speed)
    assert (Reading(found) in FINDINGS) == (has_one and not is_invalid)
