"""A guardrail that has passed passes at every later look, until something contradicts it."""

import json
from typing import Any

import msgspec
import pytest

from schemas.definitions import Analysis, Definition, Metric
from stream_processors.merge.look import Look, compute_look, recompute
from stream_processors.merge.path import ComparisonPath, ExperimentPath
from stream_processors.stats.sums import Sums
from tests.stream_processors.merge.builders import (
    CONVERSION,
    make_cut,
    make_definition,
    make_totals,
    rate,
)

HOUR_MS = 3_600_000
SPEND = Metric(
    "spend", "sum", "spent", role="guardrail", window_ms=HOUR_MS, precision=0,
    margin={"absolute": 0.5},
)  # fmt: skip
REFUNDS = Metric(
    "refunds", "conversion", "refund", role="guardrail", window_ms=HOUR_MS, direction="decrease",
    margin={"absolute": 0.01},
)  # fmt: skip

Pair = tuple[Sums, Sums]


def orders(units: int, buyers: int, price: int) -> Sums:
    return Sums(units, buyers * price, buyers * price**2)


PASSING = orders(18_000, 3_600, 5), orders(2_000, 400, 5)
"""One in five units has an order of 5, in both."""

WIDE = orders(500, 100, 5), orders(500, 100, 5)
"""The same of far fewer units: an interval that reaches beyond the margin."""

WORSE = orders(18_000, 3_600, 5), orders(2_000, 20, 5)
"""By 0.95: more than the margin."""

SPARSE = Sums(18_001, 3_600 * 5 + 1_500, 3_600 * 5**2 + 1_500**2), PASSING[1]
"""One very large order in the control: no sequence for the treatment's small variant."""


def define(guardrail: Metric) -> Definition:
    definition = make_definition(metrics=[CONVERSION, guardrail], weights=(0.9, 0.1))
    return msgspec.structs.replace(definition, analysis=Analysis(n_star=50_000))


def looks_of(definition: Definition, *pairs: Pair, is_final: bool = False) -> list[Look]:
    """Return looks of a guardrail's sums, each from the record of the one before."""
    looks: list[Look] = []
    for tick, pair in enumerate(pairs, 1):
        before = looks[-1].path_after if looks else ExperimentPath()
        before = msgspec.msgpack.decode(msgspec.msgpack.encode(before), type=ExperimentPath)
        deciding = [rate(one.unit_count, one.unit_count // 10) for one in pair]
        totals = make_totals(deciding, pair, is_final=is_final and tick == len(pairs))
        looks.append(compute_look(definition, totals, cut=make_cut(tick), path_before=before))
    return looks


def effect_of(look: Look) -> Any:
    return next(
        entry["effects"][0]
        for entry in look.results["metrics"]
        if entry["role"] == "guardrail" and entry["basis"] == "matured"
    )


def states_of(looks: list[Look]) -> list[str]:
    return [effect_of(look)["guardrail"]["status"] for look in looks]


@pytest.mark.parametrize("is_final", [False, True])
def test_what_passed_passes_at_a_look_without_a_sequence(is_final: bool) -> None:
    alone = looks_of(define(SPEND), SPARSE, is_final=is_final)
    looks = looks_of(define(SPEND), PASSING, SPARSE, is_final=is_final)

    assert effect_of(looks[1])["status"] == "sparse"
    assert (states_of(alone), states_of(looks)) == (["undecided"], ["pass", "pass"])
    rail = effect_of(looks[1])["guardrail"]
    assert (rail["reason"], rail["room"], rail["room_low"]) == ("sparse", None, None)
    [reason] = [
        one for one in looks[1].results["verdict"]["reasons"] if one["metric_id"] == "spend"
    ]
    assert reason["code"] == "guardrail_pass"
    room = effect_of(looks[0])["guardrail"]["room_low"]
    assert rail["passed_room"] == room
    assert reason["text"] == (
        "spend: treatment stays within its margin: passed at an earlier look with room of at "
        f"least {room:.4g}."
    )


def test_what_passed_passes_at_a_look_whose_interval_is_wide() -> None:
    assert states_of(looks_of(define(SPEND), WIDE)) == ["undecided"]
    looks = looks_of(define(SPEND), PASSING, WIDE, PASSING)
    assert states_of(looks) == ["pass"] * 3
    rooms = [look.path_after.of("spend", "treatment").passed_room for look in looks]
    assert rooms == [effect_of(looks[0])["guardrail"]["room_low"]] * 3
    assert rooms[0] > 0


def test_a_pass_of_an_earlier_look_says_what_decides_and_what_this_look_has() -> None:
    looks = looks_of(define(SPEND), PASSING, WIDE, PASSING)
    rails = [effect_of(look)["guardrail"] for look in looks]
    assert rails[1]["room_low"] < 0 < rails[1]["passed_room"] == rails[0]["room_low"]
    assert [rail.get("passed_room") for rail in (rails[0], rails[2])] == [None, None]
    [text] = [
        one["text"] for one in looks[1].results["verdict"]["reasons"] if one["metric_id"] == "spend"
    ]
    assert f"earlier look with room of at least {rails[0]['room_low']:.4g}; at this one +0 " in text


def test_no_difference_has_no_minus() -> None:
    less = msgspec.structs.replace(SPEND, direction="decrease")
    for look in looks_of(define(less), PASSING, WIDE):
        texts = [one["text"] for one in look.results["verdict"]["reasons"]]
        assert any(": +0" in text or "one +0" in text for text in texts)
        assert not any("-0 " in text or "-0," in text for text in texts)


def test_what_contradicts_a_pass_leaves_no_room_of_it() -> None:
    better = PASSING[0], orders(2_000, 1_600, 5)
    looks = looks_of(define(SPEND), better, PASSING, SPARSE, WORSE)
    rails = [effect_of(look)["guardrail"] for look in looks]
    assert not any("passed_room" in rail for rail in rails)


def test_a_rate_that_passed_passes_when_units_leave_until_it_waits_again() -> None:
    many, few = (rate(90_000, 3_600), rate(10_000, 400)), (rate(9_000, 360), rate(90, 4))
    looks = looks_of(define(REFUNDS), many, few)
    assert effect_of(looks[1])["status"] == "warming_up"
    assert states_of(looks) == ["pass", "pass"]


def test_a_failure_after_a_pass_wins_and_stays() -> None:
    looks = looks_of(define(SPEND), PASSING, WORSE, SPARSE, PASSING)
    assert states_of(looks) == ["pass", "fail", "fail", "fail"]


def test_a_guardrail_whose_looks_contradict_each_other_passes_no_more() -> None:
    """Far better first, as good later: within the margin at both, but not one effect."""
    better = PASSING[0], orders(2_000, 1_600, 5)
    looks = looks_of(define(SPEND), better, PASSING, SPARSE)
    assert states_of(looks) == ["pass", "undecided", "undecided"]
    assert effect_of(looks[2])["guardrail"]["reason"] == "empty_intersection"


def test_sums_that_contradict_each_other_pass_nothing() -> None:
    broken = PASSING[0], Sums(2_000, 400 * 5, 1)
    looks = looks_of(define(SPEND), PASSING, broken)
    assert effect_of(looks[1])["status"] == "invalid_input"
    assert states_of(looks) == ["pass", "undecided"]


def test_a_pass_is_of_one_cap() -> None:
    passed = ComparisonPath(low=-0.1, high=0.1, cap=64, passed_room=0.5)
    assert passed.at_cap(64, 2) == passed
    assert passed.at_cap(512, 2).passed_room == 0

    for kept, state in ((passed, "undecided"), (msgspec.structs.replace(passed, cap=None), "pass")):
        before = ExperimentPath({"spend": {"treatment": kept}})
        for pair in (WIDE, SPARSE):
            totals = make_totals([rate(pair[0].unit_count, 100), rate(500, 50)], pair)
            look = compute_look(define(SPEND), totals, cut=make_cut(2), path_before=before)
            assert states_of([look]) == [state]


def test_a_restart_between_looks_changes_no_byte_of_a_pass() -> None:
    definition = define(SPEND)
    for look in looks_of(definition, PASSING, SPARSE, WIDE):
        record = msgspec.json.decode(msgspec.json.encode(look.record))
        again = recompute(record, definition)
        assert (again.sha256, again.results) == (look.sha256, look.results)
        path = look.path_after
        assert ExperimentPath.from_exact(json.loads(json.dumps(path.exact()))) == path


def test_a_record_of_before_passes_were_remembered_is_read_and_gone_on_with() -> None:
    [first] = looks_of(define(SPEND), PASSING)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(first.path_after))
    del stored["comparisons"]["spend"]["treatment"]["passed_room"]
    path = msgspec.convert(stored, ExperimentPath)
    assert path.of("spend", "treatment").passed_room == 0

    deciding = [rate(one.unit_count, one.unit_count // 10) for one in PASSING]
    for pair, state in ((SPARSE, "undecided"), (PASSING, "pass"), (SPARSE, "pass")):
        look = compute_look(
            define(SPEND), make_totals(deciding, pair), cut=make_cut(2), path_before=path
        )
        path = look.path_after
        assert states_of([look]) == [state]
