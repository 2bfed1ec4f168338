"""Every method decides by its own numbers: at its own looks, with its own correction, and alone."""

import json
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.definitions import Analysis, Definition, Metric, Prior
from stream_processors.merge.look import Asked, Look, compute_look, compute_looks, recompute
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.rows import rows_of
from stream_processors.merge.totals import Totals
from stream_processors.stats.sums import JointSums, MetricSums, Sums, joint_sums
from tests.seeds import Draw, examples
from tests.stream_processors.merge.builders import (
    CONVERSION,
    finite_numbers_only,
    make_cut,
    make_definition,
    make_totals,
    rate,
)

Integers = NDArray[np.int64]
Method = Literal["always_valid", "group_sequential", "fixed_horizon", "bayesian"]
METHODS: tuple[Method, ...] = ("always_valid", "group_sequential", "fixed_horizon", "bayesian")
HOUR_MS = 3_600_000
ORDERS = Metric("orders", "count", "purchase", window_ms=HOUR_MS)
REFUNDS = Metric(
    "refunds",
    "conversion",
    "refund",
    role="guardrail",
    window_ms=HOUR_MS,
    direction="decrease",
    margin={"absolute": 0.01},
)
ADJUSTED = Metric("revenue", "sum", "purchase", window_ms=HOUR_MS, precision=0, covariate_days=7)
CLICKS = Metric("clicks", "count", "click", role="secondary", window_ms=HOUR_MS)


def planned(method: Method, **fields: Any) -> Analysis:
    if method == "group_sequential":
        fields = {"units_max": 10_000, **fields}
    return Analysis(method=method, **fields)


def define(method: Method, *metrics: Metric, variants: int = 2, **fields: Any) -> Definition:
    made = make_definition(metrics=metrics or (CONVERSION,), weights=(1 / variants,) * variants)
    return msgspec.structs.replace(made, analysis=planned(method, **fields))


def look_at(
    definition: Definition, totals: Totals, path: ExperimentPath | None = None, tick: int = 1
) -> Look:
    return compute_look(
        definition, totals, cut=make_cut(tick), path_before=path or ExperimentPath()
    )


def totals_with(*metrics: Sequence[MetricSums], is_final: bool = False) -> Totals:
    """Return totals whose matured and open sums are the same."""
    per_metric = tuple(map(tuple, metrics))
    units = tuple(one.total.unit_count for one in per_metric[0])
    return Totals(units, 0, per_metric, per_metric, (0,) * len(metrics), {}, is_final)


def effect_of(look: Look, metric_id: str = "conversion") -> Any:
    return next(
        entry["effects"][0]
        for entry in look.results["metrics"]
        if (entry["metric_id"], entry["basis"]) == (metric_id, "matured")
    )


def counts(units: int, total: int) -> Sums:
    return Sums(units, total, 3 * total)


NEARLY_EQUAL = make_totals([rate(1_000, 100), rate(1_000, 104)])
CLEAR = make_totals([rate(1_000, 100), rate(1_000, 300)])
CLEAR_AT_END = make_totals([rate(1_000, 100), rate(1_000, 300)], is_final=True)


# --- which numbers are there, and which decide ---


@pytest.mark.parametrize("method", METHODS)
def test_only_the_method_of_the_definition_has_its_own_numbers(method: Method) -> None:
    absolute = effect_of(look_at(define(method), CLEAR))["absolute"]

    assert absolute["fixed_horizon"] is not None
    assert absolute["always_valid"] is not None
    assert (absolute["group_sequential"] is not None) == (method == "group_sequential")
    assert (absolute["posterior"] is not None) == (method == "bayesian")


@pytest.mark.parametrize("method", METHODS)
def test_what_decides_is_of_one_method_only(method: Method) -> None:
    effect = effect_of(look_at(define(method), CLEAR_AT_END))
    decision, absolute = effect["decision"], effect["absolute"]

    assert (decision["method"], decision["of"], decision["status"]) == (method, "absolute", "ok")
    match method:
        case "always_valid":
            valid = absolute["always_valid"]
            assert decision["p_value"] == valid["running_p_value"]
            assert (decision["low"], decision["high"]) == (
                valid["running_low"],
                valid["running_high"],
            )
        case "bayesian":
            assert decision["p_value"] is None
            assert decision["low"] == absolute["posterior"]["low"]
        case "group_sequential":
            numbers = absolute[method]
            assert decision["p_value"] == numbers["p_value"]
            assert (decision["low"], decision["high"]) == (
                numbers["running_low"],
                numbers["running_high"],
            )
        case _:
            numbers = absolute[method]
            assert [decision[name] for name in ("p_value", "low", "high")] == [
                numbers[name] for name in ("p_value", "low", "high")
            ]
    assert decision["rejects"] is True


def test_a_fixed_horizon_decides_at_the_last_look_only() -> None:
    definition = define("fixed_horizon")

    live, last = look_at(definition, CLEAR), look_at(definition, CLEAR_AT_END)

    assert effect_of(live)["decision"]["status"] == "waiting_for_look"
    assert effect_of(live)["decision"]["p_value"] is None
    assert live.results["verdict"]["reading"] == "waiting_for_look"
    assert last.results["verdict"]["reading"] == "improvement"


SPARSE = [Sums(9_000, 180, 180), Sums(1_000, 45, 45)]
"""Orders of too few units of the smaller variant for a sequence, enough for one look."""


def test_a_planned_look_that_is_sparse_is_taken_and_read_in_one_voice() -> None:
    definition = msgspec.structs.replace(
        make_definition(metrics=(ORDERS,), weights=(0.9, 0.1)), analysis=planned("fixed_horizon")
    )
    live = look_at(definition, make_totals(SPARSE))
    last = look_at(definition, make_totals(SPARSE, is_final=True))

    assert effect_of(live, "orders")["status"] == "sparse"
    assert effect_of(live, "orders")["decision"]["status"] == "waiting_for_look"
    assert live.results["verdict"]["reading"] == "waiting_for_look"
    assert [row.value["p_value"] for row in rows_of(live.results, 0)] == [None] * 4
    effect = effect_of(last, "orders")
    p_value = effect["absolute"]["fixed_horizon"]["p_value"]
    assert (effect["decision"]["status"], effect["decision"]["p_value"]) == ("ok", p_value)
    assert effect["adjusted"]["rejects"] is True
    assert last.results["verdict"]["reading"] == "improvement"
    assert [row.value["p_value"] for row in rows_of(last.results, 0)] == [None, p_value, None, None]
    assert last.results["metrics"][1]["effects"][0]["status"] == "ok", "open units wait for nothing"


@pytest.mark.parametrize("arms", [SPARSE, [Sums(810, 270, 270), Sums(90, 70, 70)]])
def test_one_look_of_too_few_units_promises_no_error_rate(arms: list[Sums]) -> None:
    definition = msgspec.structs.replace(
        make_definition(metrics=(ORDERS,), weights=(0.9, 0.1)), analysis=planned("fixed_horizon")
    )
    live = look_at(definition, make_totals(arms)).results["verdict"]
    last = look_at(definition, make_totals(arms, is_final=True)).results["verdict"]

    assert "at most 5 %" in live["guarantee"], "of the look to come"
    assert "error_rate_not_held" not in [one["code"] for one in live["reasons"]]
    assert last["reading"] == "improvement"
    assert "Too few units for its error rate to hold" in last["text"]
    assert "No error rate is guaranteed for orders" in last["guarantee"]
    assert "%" not in last["guarantee"]
    [note] = [one for one in last["reasons"] if one["code"] == "error_rate_not_held"]
    assert (note["metric_id"], note["variant"]) == ("orders", "treatment")
    assert "too few units for the error rate to hold" in note["text"]


def test_one_look_promises_an_error_rate_of_what_has_enough_units() -> None:
    both = msgspec.structs.replace(
        make_definition(metrics=(CONVERSION, ORDERS), weights=(0.9, 0.1)),
        analysis=planned("fixed_horizon"),
    )
    rates = [rate(9_000, 90), rate(1_000, 10)]
    enough = [Sums(9_000, 900, 900), Sums(1_000, 100, 100)]
    sparse, held = (
        look_at(both, make_totals(rates, arms, is_final=True)).results for arms in (SPARSE, enough)
    )
    told = sparse["verdict"]["guarantee"]
    assert "No error rate is guaranteed for orders" in told
    assert "at most 5 %" in told, "of the rate, few of which converted"
    assert sparse["metrics"][0]["effects"][0]["status"] == "warming_up"
    assert held["verdict"]["guarantee"].startswith("If no treatment differed")


def test_a_posterior_is_labelled_and_corrected_by_nothing() -> None:
    look = look_at(define("bayesian"), CLEAR)
    effect = effect_of(look)

    posterior = effect["absolute"]["posterior"]
    assert "not protected against repeated looks" in posterior["label"]
    assert posterior["model"] == "beta"
    assert posterior["chance"] > 0.999
    assert posterior["loss_treatment"] < posterior["loss_control"]
    assert effect["adjusted"] is None
    assert "No error rate is guaranteed" in look.results["verdict"]["guarantee"]


def test_a_posterior_knows_which_way_is_better() -> None:
    fewer = msgspec.structs.replace(CONVERSION, direction="decrease")
    posterior = effect_of(look_at(define("bayesian", fewer), CLEAR))["absolute"]["posterior"]

    assert posterior["chance"] < 0.001
    assert posterior["loss_treatment"] > posterior["loss_control"]


def test_a_prior_pulls_a_mean_to_itself() -> None:
    totals = make_totals([counts(1_000, 500), counts(1_000, 600)])

    flat = effect_of(look_at(define("bayesian", ORDERS), totals), "orders")
    tight = effect_of(look_at(define("bayesian", ORDERS, prior=Prior(0.001)), totals), "orders")

    assert flat["absolute"]["posterior"]["mean"] == pytest.approx(flat["absolute"]["estimate"])
    assert abs(tight["absolute"]["posterior"]["mean"]) < 0.01


@pytest.mark.parametrize(("units", "status"), [(2, "insufficient"), (3, "ok"), (20, "ok")])
def test_a_posterior_of_few_units_knows_how_little_they_say(units: int, status: str) -> None:
    totals = make_totals([Sums(units, units, 3 * units), Sums(units, 2 * units, 6 * units)])
    effect = effect_of(look_at(define("bayesian", ORDERS), totals), "orders")

    assert effect["decision"]["status"] == status
    posterior = effect["absolute"]["posterior"]
    if status == "ok":
        reach = 1.96 * effect["absolute"]["std_error"]
        assert posterior["model"] == "student"
        assert posterior["high"] > effect["absolute"]["estimate"] + reach
        assert (posterior["sd"] is None) == (units == 3)
    else:
        assert posterior is None


def test_what_is_normal_by_the_delta_method_only_waits_for_the_burn_in() -> None:
    basket = Metric("basket", "ratio", "spent", denominator="orders", window_ms=HOUR_MS)
    few, enough = (
        effect_of(
            look_at(
                define("bayesian", basket),
                totals_with([ratio_sums(units, 3), ratio_sums(units, 4)]),
            ),
            "basket",
        )
        for units in (50, 500)
    )

    assert (few["decision"]["status"], few["absolute"]["posterior"]) == ("warming_up", None)
    assert few["relative"]["posterior"] is None
    assert enough["decision"]["status"] == "ok"
    assert enough["absolute"]["posterior"]["model"] == "student"


def ratio_sums(units: int, spent: int) -> MetricSums:
    """Return half the units with one order, half with two, and ``spent`` or nothing each."""
    half = units // 2
    sums = (half * spent, 3 * half)
    return MetricSums(JointSums(units, sums, (half * spent**2, half * spent, 5 * half)))


# --- planned looks ---


def test_planned_looks_are_taken_when_due_and_stay_as_they_were() -> None:
    definition = define("group_sequential")
    path = ExperimentPath()
    taken = []
    for tick, units in enumerate((500, 1_000, 1_400, 2_000, 2_100, 4_900, 5_000, 5_100), 1):
        totals = make_totals([rate(units, units // 10), rate(units, units // 9)])
        look = look_at(definition, totals, path, tick)
        path = look.path_after
        entry = effect_of(look)["absolute"]["group_sequential"]
        taken.append(None if entry is None else (entry["look"], entry["information"]))

    assert taken == [
        None, (1, 0.2), (1, 0.2), (2, 0.4), (2, 0.4), (3, 0.98), (4, 1.0), (4, 1.0),
    ]  # fmt: skip


def test_between_planned_looks_nothing_is_decided_by_what_came_since() -> None:
    definition = define("group_sequential")
    first = look_at(definition, make_totals([rate(1_000, 100), rate(1_000, 104)]))
    between = look_at(definition, make_totals([rate(1_500, 100), rate(1_500, 500)]),
                      first.path_after, 2)  # fmt: skip

    assert effect_of(first)["decision"]["rejects"] is False
    assert effect_of(between)["decision"] == effect_of(first)["decision"]
    assert between.results["verdict"]["reading"] == "running_no_evidence"
    assert between.path_after.of("conversion", "treatment").group == (
        first.path_after.of("conversion", "treatment").group
    )


def test_a_boundary_that_was_crossed_stays_crossed() -> None:
    definition = define("group_sequential")
    crossed = look_at(definition, CLEAR)
    later = look_at(definition, make_totals([rate(4_000, 400), rate(4_000, 400)]),
                    crossed.path_after, 2)  # fmt: skip

    for look in (crossed, later):
        group = effect_of(look)["absolute"]["group_sequential"]
        assert group["status"] == "rejected"
        assert group["p_value"] <= 0.05
        assert group["stagewise"]["p_value"] <= 0.05
        assert look.results["verdict"]["reading"] == "improvement"


def test_a_test_among_others_goes_on_until_the_correction_agrees() -> None:
    """The first z, 2.6, is beyond the boundary of one test alone, not beyond that of two."""
    definition = define("group_sequential", CONVERSION, ORDERS, spending="pocock")
    path, found = ExperimentPath(), []
    equal = [counts(4_000, 1_000), counts(4_000, 1_000)]
    for tick, (units, converted) in enumerate([(1_000, 138), (2_000, 330)], 1):
        rates = [rate(units, units // 10), rate(units, converted)]
        look = look_at(definition, make_totals(rates, equal), path, tick)
        path = look.path_after
        effect = effect_of(look)
        found.append((effect["decision"]["rejects"], effect["adjusted"]["rejects"]))
        group = effect["absolute"]["group_sequential"]
        assert group["family_boundary"] > group["boundary"]
        assert (group["status"] == "rejected") == effect["adjusted"]["rejects"]

    assert found == [(True, False), (True, True)]
    assert look.results["verdict"]["reading"] == "improvement"


def test_a_metric_that_is_added_leaves_the_plans_of_the_others_as_they_were() -> None:
    later = msgspec.structs.replace(ORDERS, added_at_ms=1)
    totals = [rate(1_000, 100), rate(1_000, 104)], [counts(1_000, 500), counts(1_000, 500)]

    alone = look_at(define("group_sequential"), make_totals(totals[0]))
    grown = look_at(define("group_sequential", CONVERSION, later), make_totals(*totals))

    before, after = (effect_of(one)["absolute"]["group_sequential"] for one in (alone, grown))
    assert after == before
    added = effect_of(grown, "orders")["absolute"]["group_sequential"]
    assert added["family_boundary"] > added["boundary"] == before["boundary"]


def test_an_end_between_planned_looks_takes_no_look_whatever_it_shows() -> None:
    definition = define("group_sequential", CONVERSION, REFUNDS)
    near, far = rate(1_000, 104), rate(1_500, 500)
    first = look_at(
        definition, make_totals([rate(1_000, 100), near], [rate(1_000, 50), rate(1_000, 51)])
    )
    sums = [rate(1_500, 100), far], [rate(1_500, 50), far]
    end = look_at(definition, make_totals(*sums, is_final=True), first.path_after, 2)

    group, before = (effect_of(one)["absolute"]["group_sequential"] for one in (end, first))
    assert group == before | {"held_back": "stopped_before_look"}
    assert effect_of(end)["decision"] == effect_of(first)["decision"]
    assert end.path_after.of("refunds", "treatment").guard == (
        first.path_after.of("refunds", "treatment").guard
    )
    told = end.results["verdict"]
    assert told["reading"] == "stopped_before_look"
    assert "stopped before its next planned look" in told["text"]
    assert "the experiment was stopped before the next one" in told["reasons"][0]["text"]


def test_an_end_before_the_first_planned_look_tests_nothing() -> None:
    definition = define("group_sequential", CONVERSION, REFUNDS)
    sums = [rate(900, 90), rate(900, 400)], [rate(900, 9), rate(900, 400)]
    end = look_at(definition, make_totals(*sums, is_final=True))

    assert effect_of(end)["absolute"]["group_sequential"] is None
    assert effect_of(end)["decision"]["status"] == "stopped_before_look"
    assert effect_of(end, "refunds")["guardrail"]["reason"] == "stopped_before_look"
    assert end.results["verdict"]["reading"] == "stopped_before_look"
    assert "before the first planned look" in end.results["verdict"]["reasons"][0]["text"]


def test_an_end_at_or_beyond_a_planned_look_is_that_look() -> None:
    definition = define("group_sequential")
    for units, information in ((1_000, 0.2), (5_500, 1.1)):
        totals = make_totals([rate(units, units // 10), rate(units, units // 4)], is_final=True)
        end = look_at(definition, totals)

        group = effect_of(end)["absolute"]["group_sequential"]
        assert (group["information"], group["held_back"]) == (information, None)
        assert end.results["verdict"]["reading"] == "improvement"


def test_a_finding_of_a_planned_look_outlives_an_end_that_was_not_planned() -> None:
    definition = define("group_sequential")
    crossed = look_at(definition, CLEAR)
    totals = make_totals([rate(1_400, 140), rate(1_400, 140)], is_final=True)
    end = look_at(definition, totals, crossed.path_after, 2)

    assert effect_of(end)["decision"] == effect_of(crossed)["decision"]
    assert effect_of(end)["absolute"]["group_sequential"]["held_back"] is None
    assert end.results["verdict"]["reading"] == "improvement"


def test_open_units_take_no_planned_look() -> None:
    look = look_at(define("group_sequential"), CLEAR)

    assert "group_sequential" not in look.results["metrics"][1]["effects"][0]["absolute"]


@pytest.mark.parametrize(
    ("metric", "arms", "status", "reading", "words"),
    [
        (CONVERSION, (rate(120, 60), rate(95, 45)), "warming_up", "too_few_units_at_end",
         "has too few units yet"),
        (CONVERSION, (rate(500, 0), rate(500, 100)), "warming_up", "not_tested_at_end",
         "too few converted units"),
        (CONVERSION, (rate(500, 0), rate(500, 0)), "zero_variance", "not_tested_at_end",
         "nothing to test"),
        (ORDERS, (Sums(500, 500, 500), Sums(500, 500, 500)), "zero_variance",
         "not_tested_at_end", "nothing to test"),
    ],
)  # fmt: skip
def test_a_look_that_is_due_and_cannot_be_taken_is_named_and_spends_nothing(
    metric: Metric, arms: tuple[Sums, Sums], status: str, reading: str, words: str
) -> None:
    definition = define("group_sequential", metric, units_max=1_000)

    due = look_at(definition, make_totals(arms))
    end = look_at(definition, make_totals(arms, is_final=True), due.path_after, 2)

    for look in (due, end):
        assert effect_of(look, metric.id)["decision"]["status"] == status
        assert effect_of(look, metric.id)["decision"]["rejects"] is None
        assert look.path_after.of(metric.id, "treatment").group is None
        assert words in look.results["verdict"]["reasons"][0]["text"]
    assert due.results["verdict"]["reading"] == "warming_up"
    assert end.results["verdict"]["reading"] == reading


def test_a_look_that_was_held_back_is_taken_once_with_all_that_may_be_spent_by_then() -> None:
    definition = define("group_sequential", units_max=1_000)
    held = look_at(definition, make_totals([rate(200, 0), rate(200, 40)]))
    taken = look_at(definition, make_totals([rate(300, 60), rate(300, 61)]), held.path_after, 2)
    straight = look_at(definition, make_totals([rate(300, 60), rate(300, 61)]))

    group = effect_of(taken)["absolute"]["group_sequential"]
    assert group == effect_of(straight)["absolute"]["group_sequential"]
    assert (group["look"], group["information"]) == (1, 0.6)


def test_a_planned_look_that_was_taken_stands_while_the_next_one_is_held_back() -> None:
    """Late events can leave a rate without conversions; what was read then still holds."""
    definition = define("group_sequential", units_max=4_000)
    first = look_at(definition, make_totals([rate(800, 100), rate(800, 104)]))
    held = look_at(
        definition, make_totals([rate(2_000, 0), rate(2_000, 0)], is_final=True),
        first.path_after, 2,
    )  # fmt: skip

    group = effect_of(held)["absolute"]["group_sequential"]
    before = effect_of(first)["absolute"]["group_sequential"]
    assert group == before | {"held_back": "zero_variance"}
    assert effect_of(held)["decision"] == effect_of(first)["decision"]
    assert "the one that is due has the same value" in held.results["verdict"]["reasons"][0]["text"]


def test_an_end_far_from_the_planned_units_is_no_finding_of_no_effect() -> None:
    definition = define("group_sequential", units_max=10**9, planned_looks=(1e-6, 1.0))
    look = look_at(definition, make_totals([rate(1_000, 100), rate(1_000, 300)], is_final=True))

    assert effect_of(look)["decision"]["status"] == "stopped_before_look"
    assert look.results["verdict"]["reading"] == "stopped_before_look"


def test_a_guardrail_names_what_holds_its_planned_look_back() -> None:
    definition = define("group_sequential", CONVERSION, REFUNDS, units_max=1_000)
    sold = [rate(500, 100), rate(500, 104)]
    reasons = [
        effect_of(look_at(definition, make_totals(sold, refunds)), "refunds")["guardrail"]["reason"]
        for refunds in (
            [rate(500, 0), rate(500, 0)], [Sums(), rate(999, 9)], [rate(50, 5), rate(50, 5)],
        )
    ]  # fmt: skip

    assert reasons == ["zero_variance", "no_units", "waiting_for_look"]


# --- several comparisons ---


def test_decisions_are_corrected_together_and_secondary_metrics_among_themselves() -> None:
    metrics = (CONVERSION, ORDERS, CLICKS)
    totals = make_totals(
        [rate(1_000, 100), rate(1_000, 300), rate(1_000, 100)],
        [counts(1_000, 500), counts(1_000, 500), counts(1_000, 505)],
        [counts(1_000, 500), counts(1_000, 900), counts(1_000, 500)],
    )
    look = look_at(define("always_valid", *metrics, variants=3), totals)
    adjusted = {
        (entry["metric_id"], effect["variant"]): effect["adjusted"]
        for entry in look.results["metrics"]
        if entry["basis"] == "matured"
        for effect in entry["effects"]
    }

    first = adjusted["conversion", "treatment"]
    assert (first["method"], first["family"], first["family_size"]) == ("holm", "decision", 4)
    assert first["p_value"] == pytest.approx(
        4 * effect_of(look)["absolute"]["always_valid"]["running_p_value"]
    )
    assert first["rejects"] is True
    assert adjusted["orders", "arm-2"]["rejects"] is False
    clicks = adjusted["clicks", "treatment"]
    assert (clicks["method"], clicks["family"], clicks["family_size"]) == ("e_bh", "secondary", 2)
    assert clicks["e_value"] == pytest.approx(np.exp(clicks["log_e_value"]))
    assert clicks["rejects"] is True


def test_what_one_comparison_finds_a_family_of_many_may_not() -> None:
    """A finding taken alone, among 20 decision metrics."""
    alone = [rate(2_000, 200), rate(2_000, 276)]
    many = [msgspec.structs.replace(CONVERSION, id=f"m{index}") for index in range(20)]
    equal = [rate(2_000, 200), rate(2_000, 200)]

    one = look_at(define("always_valid"), make_totals(alone))
    crowd = look_at(define("always_valid", *many), make_totals(alone, *[equal] * 19))

    assert 0.0025 < effect_of(one)["decision"]["p_value"] <= 0.05
    assert one.results["verdict"]["reading"] == "improvement"
    assert effect_of(crowd, "m0")["decision"]["rejects"] is True
    assert crowd.results["verdict"]["reading"] == "running_no_evidence"


# --- guardrails ---


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("refunds", "status"), [(400, "pass"), (800, "fail"), (500, "undecided")])
def test_a_guardrail_is_held_against_its_margin(method: Method, refunds: int, status: str) -> None:
    """10,000 units per variant: 0.04 against 0.04, 0.08, or 0.05, at a margin of 0.01."""
    totals = make_totals(
        [rate(10_000, 1_000), rate(10_000, 1_500)],
        [rate(10_000, 400), rate(10_000, refunds)],
        is_final=True,
    )
    look = look_at(define(method, CONVERSION, REFUNDS), totals)
    found = effect_of(look, "refunds")["guardrail"]

    readings = {
        "pass": "improvement",
        "fail": "guardrail_failed",
        "undecided": "guardrail_failed",
    }
    shown = "harm" if status == "undecided" else status
    assert found["status"] == shown
    assert look.results["verdict"]["reading"] == readings[status]


def test_a_guardrail_without_a_margin_is_watched_for_harm() -> None:
    watched = msgspec.structs.replace(REFUNDS, margin=None)
    definition = define("always_valid", CONVERSION, watched)
    deciding = [rate(10_000, 1_000), rate(10_000, 1_500)]

    calm = look_at(definition, make_totals(deciding, [rate(10_000, 400), rate(10_000, 400)]))
    worse = look_at(definition, make_totals(deciding, [rate(10_000, 400), rate(10_000, 800)]))

    assert effect_of(calm, "refunds")["guardrail"]["status"] == "watched"
    assert calm.results["verdict"]["reading"] == "improvement"
    assert effect_of(worse, "refunds")["guardrail"]["status"] == "harm"
    assert worse.results["verdict"]["reading"] == "guardrail_failed"


def test_evidence_of_harm_is_remembered_over_looks() -> None:
    definition = define("always_valid", CONVERSION, REFUNDS)
    deciding = [rate(10_000, 1_000), rate(10_000, 1_000)]
    bad = look_at(definition, make_totals(deciding, [rate(10_000, 400), rate(10_000, 480)]))
    good = look_at(definition, make_totals(deciding, [rate(10_000, 400), rate(10_000, 400)]),
                   bad.path_after, 2)  # fmt: skip

    before, after = (effect_of(one, "refunds")["guardrail"]["harm_p_value"] for one in (bad, good))
    assert after == before < 1


@pytest.mark.parametrize("margin", [{"absolute": 0.01}, None])
def test_a_guardrail_that_failed_does_not_pass_when_its_looks_contradict_each_other(
    margin: Any,
) -> None:
    guarded = msgspec.structs.replace(REFUNDS, margin=margin)
    definition = define("always_valid", CONVERSION, guarded)
    path = ExperimentPath()
    for tick, (units, refunds) in enumerate([(10_000, 800), (200_000, 8_000)], 1):
        look = look_at(
            definition,
            make_totals(
                [rate(units, units // 10), rate(units, units // 5)],
                [rate(units, units // 25), rate(units, refunds)],
            ),
            path,
            tick,
        )
        path = look.path_after
        assert ExperimentPath.from_exact(json.loads(json.dumps(path.exact()))) == path

    effect = effect_of(look, "refunds")
    assert effect["status"] == "empty_intersection"
    assert effect["guardrail"]["low"] < 0 < effect["guardrail"]["high"]
    assert effect["adjusted"]["rejects"]
    assert effect["guardrail"]["is_harmed"]
    assert effect["guardrail"]["status"] == ("fail" if margin else "harm")
    assert effect["guardrail"]["reason"] == "empty_intersection"
    assert look.results["verdict"]["reading"] == "guardrail_failed"


def test_a_guardrail_that_contradicts_itself_without_harm_is_no_success() -> None:
    """Fewer refunds first, as many later: never worse, but not one effect either."""
    definition = define("always_valid", CONVERSION, REFUNDS)
    path = ExperimentPath()
    for tick, (units, refunds) in enumerate([(10_000, 200), (200_000, 8_000)], 1):
        deciding = [rate(units, units // 10), rate(units, units // 5)]
        totals = make_totals(deciding, [rate(units, units // 25), rate(units, refunds)])
        look = look_at(definition, totals, path, tick)
        path = look.path_after

    found = effect_of(look, "refunds")["guardrail"]
    assert (found["status"], found["is_harmed"]) == ("undecided", False)
    assert look.results["verdict"]["reading"] == "inconsistent"


def test_a_rate_without_conversions_waits_for_them() -> None:
    look = look_at(define("always_valid"), make_totals([rate(1_000, 0), rate(1_000, 400)]))

    assert "waits for 30 of both in each" in look.results["verdict"]["reasons"][0]["text"]
    assert look.results["verdict"]["text"].startswith("Not enough data so far")


# --- covariates ---


def with_past(rng: np.random.Generator, units: int, lift: int) -> MetricSums:
    x = rng.poisson(100, units)
    return joint(x + rng.poisson(10, units) + lift, x)


def joint(y: Integers, x: Integers) -> MetricSums:
    """Return the sums of units that all have a pre-period."""
    products = tuple(int(one.sum()) for one in (y * y, y * x, x * x))
    covariates = JointSums(len(y), (int(y.sum()), int(x.sum())), products)
    return MetricSums(covariates.of_first(1), covariates)


def adjusted_totals(seed: int, lift: int) -> Totals:
    rng = np.random.default_rng(seed)
    return totals_with([with_past(rng, 1_000, 0), with_past(rng, 1_000, lift)])


def test_one_unit_without_a_past_keeps_the_adjustment_and_the_decision() -> None:
    rng = np.random.default_rng(7)
    control, treatment = with_past(rng, 1_000, 0), with_past(rng, 1_000, 1)
    newcomer = JointSums(1, (110,), (110**2,))
    control = control._replace(total=control.total.plus(newcomer))
    totals = totals_with([control, treatment])._replace(is_final=True)

    effect = effect_of(look_at(define("always_valid", ADJUSTED), totals), "revenue")

    assert effect["cuped"]["handling"] == "mean_past"
    assert effect["cuped"]["covered_share"] == 2_000 / 2_001
    assert effect["cuped"]["variance_reduction"] > 0.8
    assert (effect["decision"]["of"], effect["decision"]["status"]) == ("cuped", "ok")


@pytest.mark.parametrize("method", METHODS)
def test_where_there_is_a_covariate_the_adjusted_effect_decides(method: Method) -> None:
    definition = define(method, ADJUSTED)
    totals = adjusted_totals(7, lift=1)._replace(is_final=True)

    look = look_at(definition, totals)

    effect = effect_of(look, "revenue")
    cuped, decision = effect["cuped"], effect["decision"]
    assert cuped["variance_reduction"] > 0.85
    assert cuped["std_error"] < 0.5 * effect["absolute"]["std_error"]
    assert (decision["of"], decision["status"], decision["rejects"]) == ("cuped", "ok", True)
    assert look.results["verdict"]["reading"] == "improvement"
    assert cuped["estimate"] == pytest.approx(1, abs=0.5)


def test_running_numbers_of_both_estimates_are_kept_apart() -> None:
    definition = define("always_valid", ADJUSTED)
    first = look_at(definition, adjusted_totals(7, lift=1))
    second = look_at(definition, adjusted_totals(8, lift=1), first.path_after, 2)

    effect = effect_of(second, "revenue")
    for shown, path in (
        (effect["absolute"], second.path_after.of("revenue", "treatment")),
        (effect["cuped"], second.path_after.adjusted_of("revenue", "treatment")),
    ):
        assert shown["always_valid"]["running_low"] == path.low
        assert shown["always_valid"]["running_high"] == path.high
    assert effect["decision"]["low"] == effect["cuped"]["always_valid"]["running_low"]


# --- looks are values ---


def random_totals(data: Any, definition: Definition, *, is_final: bool) -> Totals:
    def sums(metric: Metric) -> Sums:
        units = data.draw(st.integers(0, 3_000))
        hits = data.draw(st.integers(0, units))
        return rate(units, hits) if metric.kind == "conversion" else counts(units, hits)

    def arm(metric: Metric) -> MetricSums:
        one = joint_sums(sums(metric))
        if not metric.covariate_days:
            return MetricSums(one)
        total, square = one.sums[0], one.products[0]
        past = JointSums(one.unit_count, (total, total), (square, square, square))
        newcomers = data.draw(st.lists(st.integers(0, 10**6), max_size=3))
        squares = sum(spent * spent for spent in newcomers)
        of_newcomers = JointSums(len(newcomers), (sum(newcomers),), (squares,))
        return MetricSums(one.plus(of_newcomers), past)

    return totals_with(
        *[[arm(one) for _ in definition.variants] for one in definition.metrics],
        is_final=is_final,
    )


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
@examples(40)
def test_every_look_can_be_computed_again_from_its_record(method: Method, data: Any) -> None:
    definition = define(method, CONVERSION, ORDERS, REFUNDS, ADJUSTED, CLICKS)
    path = ExperimentPath()
    for tick, is_final in enumerate((False, False, True), 1):
        totals = random_totals(data, definition, is_final=is_final)
        look = look_at(definition, totals, path, tick)
        published = json.loads(json.dumps(look.record, allow_nan=False))
        assert recompute(published, definition).record == look.record
        assert finite_numbers_only(look.record)
        path = msgspec.msgpack.decode(msgspec.msgpack.encode(look.path_after), type=ExperimentPath)
        assert path == look.path_after


@given(data=st.data())
def test_nothing_that_runs_widens(data: Any) -> None:
    definition = define("always_valid", CONVERSION)
    path = ExperimentPath()
    before = (1.0, -np.inf, np.inf)
    for tick in (1, 2, 3, 4):
        look = look_at(definition, random_totals(data, definition, is_final=False), path, tick)
        path = look.path_after
        now = path.of("conversion", "treatment")
        low, high = (-np.inf if now.low is None else now.low,
                     np.inf if now.high is None else now.high)  # fmt: skip
        assert now.p_value <= before[0]
        assert low >= before[1]
        assert high <= before[2]
        before = (now.p_value, low, high)


def test_looks_that_are_computed_together_are_those_computed_alone() -> None:
    asked = [
        Asked(
            msgspec.structs.replace(define(method, CONVERSION, REFUNDS), id=f"x-{index}"),
            make_totals(
                [rate(1_000 + index, 100), rate(1_000, 120 + index)],
                [rate(1_000 + index, 10), rate(1_000, 30)],
            ),
            make_cut(index + 1),
            ExperimentPath(),
        )
        for index, method in enumerate(METHODS * 3)
    ]

    together = compute_looks(asked)

    for one, look in zip(asked, together, strict=True):
        alone = compute_look(one.definition, one.totals, cut=one.cut, path_before=one.path_before)
        assert alone == look


# --- what a verdict is worth ---


@pytest.mark.parametrize("method", ["always_valid", "group_sequential", "fixed_horizon"])
def test_equal_variants_are_seldom_told_apart(method: Method) -> None:
    """A/A/B under the null: two metrics, two treatments, ten looks, alpha 0.1.

    A false reading at any look counts. The bound is three standard errors above alpha.
    """
    few, many = (40, 60) if method == "group_sequential" else (150, 300)
    experiments = few if Draw.are_few else many
    looks, step, alpha = 10, 500, 0.1
    definition = msgspec.structs.replace(
        define(method, CONVERSION, ORDERS, variants=3, alpha=alpha, n_star=5_000)
    )
    rng = np.random.default_rng(20_261_122)
    hits = rng.binomial(step, 0.2, size=(experiments, looks, 3)).cumsum(axis=1)
    orders = rng.poisson(0.5, size=(experiments, looks, 3, step))
    totals_of = orders.sum(axis=3).cumsum(axis=1)
    squares_of = (orders**2).sum(axis=3).cumsum(axis=1)
    paths = [ExperimentPath()] * experiments
    told = np.zeros(experiments, dtype=bool)
    for look_index in range(looks):
        units, is_last = step * (look_index + 1), look_index == looks - 1
        asked = [
            Asked(
                definition,
                make_totals(
                    [rate(units, int(one)) for one in hits[index, look_index]],
                    [
                        Sums(units, int(total), int(square))
                        for total, square in zip(
                            totals_of[index, look_index],
                            squares_of[index, look_index],
                            strict=True,
                        )
                    ],
                    is_final=is_last,
                ),
                make_cut(look_index + 1),
                paths[index],
            )
            for index in range(experiments)
        ]
        computed = compute_looks(asked)
        paths = [look.path_after for look in computed]
        readings = [look.results["verdict"]["reading"] for look in computed]
        told |= np.isin(readings, ["improvement", "harm", "mixed", "inconsistent"])

    assert told.mean() <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / experiments)


def test_rates_without_any_spread_are_believed_and_read_in_one_voice() -> None:
    look = look_at(define("bayesian"), make_totals([rate(4, 0), rate(4, 4)]))
    effect = effect_of(look)
    posterior = effect["absolute"]["posterior"]

    assert posterior["high"] < 1
    assert posterior["chance"] > 0.975
    assert effect["decision"]["status"] == "warming_up"
    assert look.results["verdict"]["reading"] == "warming_up"
    assert "nothing to test" not in str(look.results["verdict"])


@pytest.mark.parametrize(
    ("control", "treatment"),
    [((10_000, 0), (100, 0)), ((10_000, 30), (100, 2)), ((10_000, 10_000), (100, 100))],
)
def test_a_uniform_prior_decides_nothing_of_rates_of_very_unequal_variants(
    control: tuple[int, int], treatment: tuple[int, int]
) -> None:
    """Either posterior is far from 0, by what a prior of every second unit makes of few units."""
    definition = msgspec.structs.replace(
        make_definition(metrics=(CONVERSION,), weights=(100, 1)), analysis=planned("bayesian")
    )
    look = look_at(definition, make_totals([rate(*control), rate(*treatment)]))
    effect = effect_of(look)
    posterior = effect["absolute"]["posterior"]

    assert not posterior["low"] < 0 < posterior["high"], "believed all the same"
    assert (effect["decision"]["status"], effect["decision"]["rejects"]) == ("warming_up", None)
    assert effect["decision"]["low"] is None
    assert look.results["verdict"]["reading"] == "warming_up"
    assert "waits for 30 of both in each" in look.results["verdict"]["reasons"][0]["text"]


def test_rates_decide_by_their_posteriors_from_30_of_both_on() -> None:
    readings = [
        look_at(define("bayesian"), make_totals([rate(1_000, 30 - less), rate(1_000, 90)]))
        .results["verdict"]["reading"]
        for less in (0, 1)
    ]  # fmt: skip

    assert readings == ["improvement", "warming_up"]


def test_a_decision_with_a_prior_holds_numbers_of_one_posterior_only() -> None:
    totals = make_totals([counts(1_000, 50), counts(1_000, 80)])
    believed = define("bayesian", ORDERS, prior=Prior(0.005, -0.02))
    look = look_at(believed, totals)
    effect = effect_of(look, "orders")

    assert look.results["verdict"]["reading"] == "harm"
    assert effect["relative"]["posterior"] is None
    assert effect["decision"]["relative"] == {"estimate": None, "low": None, "high": None}
    assert "%" not in look.results["verdict"]["reasons"][0]["text"]
    guarded = msgspec.structs.replace(ORDERS, role="secondary")
    flat = effect_of(
        look_at(define("bayesian", guarded, prior=Prior(0.005, -0.02)), totals), "orders"
    )
    assert flat["absolute"]["posterior"]["mean"] == pytest.approx(0.03)
