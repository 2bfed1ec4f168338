"""A path is of one cap: when the cap of the grid moves, running numbers begin anew, and say so."""

from typing import Any

import msgspec
import numpy as np
import pytest

from schemas.definitions import Analysis, CapQuantile, Definition, Metric
from stream_processors.merge.look import Look, compute_look, recompute
from stream_processors.merge.path import CapMove, ExperimentPath
from stream_processors.merge.totals import Totals
from stream_processors.stats.caps import cap_grid
from stream_processors.stats.sums import CapSums, MetricSums
from tests.stream_processors.merge.builders import make_cut, make_definition
from tests.stream_processors.merge.test_kinds import Integers, joint, totals_with

HOUR_MS = 3_600_000
SPEND = Metric("spend", "sum", "spent", window_ms=HOUR_MS, precision=0, cap=CapQuantile(0.99))
GUARDED = msgspec.structs.replace(SPEND, role="guardrail", margin={"absolute": 1.0})
FIXED = msgspec.structs.replace(SPEND, cap=64.0)
UNITS = 2_000
"""That every look adds to each variant."""


def sums_of(totals: Integers) -> MetricSums:
    caps = []
    for cap in cap_grid(0):
        kept = np.minimum(totals, cap)
        caps.append(CapSums(int((totals > cap).sum()), int(kept.sum()), int((kept**2).sum())))
    return MetricSums(joint(totals), caps=tuple(caps))


def arms_of(looks: int, lift: int = 5) -> list[Integers]:
    """Return totals of both variants: from the second look on the treatment has a long tail."""
    rng = np.random.default_rng(20_261_122)
    control = rng.poisson(40, 4 * UNITS)
    treatment = rng.poisson(40 + lift, 4 * UNITS)
    tail = rng.random(3 * UNITS) < 0.1
    treatment[UNITS:] = np.where(tail, 400, treatment[UNITS:])
    return [control[: looks * UNITS], treatment[: looks * UNITS]]


def totals_at(look: int, lift: int = 5, *, is_final: bool = False) -> Totals:
    return totals_with([sums_of(one) for one in arms_of(look, lift)], is_final=is_final)


def define(metric: Metric = SPEND, **analysis: Any) -> Definition:
    definition = make_definition(metrics=[metric])
    changed = Analysis(**{"n_star": 5_000, **analysis})
    return msgspec.structs.replace(definition, analysis=changed)


def looks_at(definition: Definition, count: int = 3, lift: int = 5) -> list[Look]:
    looks: list[Look] = []
    for number in range(1, count + 1):
        before = looks[-1].path_after if looks else ExperimentPath()
        totals = totals_at(number, lift)
        looks.append(compute_look(definition, totals, cut=make_cut(number), path_before=before))
    return looks


def entry_of(look: Look) -> dict[str, Any]:
    entry: dict[str, Any] = look.results["metrics"][0]
    return entry


def effect_of(look: Look) -> dict[str, Any]:
    effect: dict[str, Any] = entry_of(look)["effects"][0]
    return effect


def codes_of(look: Look) -> list[str]:
    return [reason["code"] for reason in look.results["verdict"]["reasons"]]


MOVED = {"tick": 2, "cap_before": 64.0, "cap": 512.0}


def test_a_new_path_begins_where_the_cap_moves_and_goes_on_from_there() -> None:
    first, second, third = looks_at(define())

    assert [entry_of(look)["cap"]["cap"] for look in (first, second, third)] == [64, 512, 512]
    one, two, three = (
        effect_of(look)["absolute"]["always_valid"] for look in (first, second, third)
    )
    assert two["low"] > one["high"], "of another effect: together they would exclude each other"
    assert (two["running_low"], two["running_high"]) == (two["low"], two["high"])
    assert two["running_p_value"] == two["p_value"]
    assert three["running_low"] == max(two["low"], three["low"])
    assert three["running_high"] == min(two["high"], three["high"])
    assert [effect_of(look)["status"] for look in (first, second, third)] == ["ok"] * 3


def test_the_look_says_since_when_its_running_numbers_are_kept() -> None:
    first, second, third = looks_at(define())

    assert effect_of(first)["decision"]["cap_moved"] is None
    assert effect_of(second)["decision"]["cap_moved"] == MOVED
    assert effect_of(third)["decision"]["cap_moved"] == MOVED, "they still are of no look before"
    assert "cap_moved" not in codes_of(first)
    [reason] = [one for one in second.results["verdict"]["reasons"] if one["code"] == "cap_moved"]
    assert reason["text"] == (
        "spend: the cap moved from 64 to 512 at tick 2. An effect at another cap is another "
        "effect, so running numbers began anew there."
    )


def test_a_finding_at_a_cap_before_is_none_of_this_one() -> None:
    """At the second cap the tail that comes makes the first look's certainty worth nothing."""
    rng = np.random.default_rng(5)
    first = [rng.poisson(40, UNITS), rng.poisson(45, UNITS)]
    wild = [rng.choice([0, 30_000], 60) for _ in range(2)]
    second = [np.concatenate(pair) for pair in zip(first, wild, strict=True)]

    before = compute_look(
        define(), totals_with([sums_of(one) for one in first]), cut=make_cut(1),
        path_before=ExperimentPath(),
    )  # fmt: skip
    after = compute_look(
        define(), totals_with([sums_of(one) for one in second]), cut=make_cut(2),
        path_before=before.path_after,
    )  # fmt: skip

    assert before.results["verdict"]["reading"] == "improvement"
    assert after.results["verdict"]["reading"] == "running_no_evidence"
    assert effect_of(after)["adjusted"]["p_value"] == effect_of(after)["decision"]["p_value"] == 1.0


@pytest.mark.parametrize("method", ["always_valid", "group_sequential"])
def test_a_restart_between_looks_changes_nothing_of_it(method: str) -> None:
    definition = define(method=method, units_max=4 * 2 * UNITS, planned_looks=(0.25, 0.5, 1.0))
    looks = looks_at(definition)
    for number, look in enumerate(looks[:-1], start=2):
        stored = msgspec.msgpack.encode(look.path_after)
        path = msgspec.msgpack.decode(stored, type=ExperimentPath)
        assert path == look.path_after
        again = compute_look(definition, totals_at(number), cut=make_cut(number), path_before=path)
        assert (again.sha256, again.results) == (
            looks[number - 1].sha256,
            looks[number - 1].results,
        )
    for look in looks:
        record = msgspec.json.decode(msgspec.json.encode(look.record))
        again = recompute(record, definition)
        assert (again.sha256, again.results) == (look.sha256, look.results)


def test_planned_looks_keep_what_they_spent_and_intersect_no_intervals_of_two_caps() -> None:
    lift = 0
    definition = define(
        method="group_sequential", units_max=2 * 4 * UNITS, planned_looks=(0.25, 0.5, 0.75, 1.0)
    )
    looks = looks_at(definition, 3, lift)
    one, two, three = (effect_of(look)["absolute"]["group_sequential"] for look in looks)

    assert one["status"] == "continue"
    assert (two["look"], two["alpha_spent"] > one["alpha_spent"]) == (2, True)
    assert two["low"] > one["high"]
    assert (two["running_low"], two["running_high"]) == (two["low"], two["high"])
    assert effect_of(looks[1])["decision"]["status"] == "ok"
    assert effect_of(looks[1])["decision"]["cap_moved"] == MOVED
    assert "stays spent" in looks[1].results["verdict"]["reasons"][-1]["text"]
    assert three == two, "it is over: its numbers stay those of the look that ended it"


def test_a_guardrail_forgets_no_failure_when_the_cap_moves() -> None:
    looks = looks_at(define(GUARDED), 2, lift=-5)
    one, two = (effect_of(look)["guardrail"] for look in looks)

    assert (one["status"], two["status"]) == ("fail", "fail")
    assert two["room_low"] > 0, "by itself the second look would pass"
    assert effect_of(looks[1])["decision"]["cap_moved"] == MOVED
    assert "shown before stays shown" in looks[1].results["verdict"]["reasons"][-1]["text"]


def test_a_path_from_before_caps_were_remembered_begins_anew_once() -> None:
    path = looks_at(define(), 1)[0].path_after
    old = {
        metric: {one: msgspec.structs.replace(it, cap=None) for one, it in paths.items()}
        for metric, paths in path.comparisons.items()
    }
    before = msgspec.structs.replace(path, comparisons=old)

    look = compute_look(define(), totals_at(1), cut=make_cut(2), path_before=before)
    again = compute_look(define(), totals_at(1), cut=make_cut(3), path_before=look.path_after)

    moved = look.path_after.of("spend", "treatment").moved
    assert moved == CapMove(2)
    assert again.path_after == look.path_after


def test_a_cap_that_stands_and_one_that_is_fixed_begin_nothing_anew() -> None:
    definition = define()
    first = looks_at(definition, 1)[0]
    second = compute_look(definition, totals_at(1), cut=make_cut(2), path_before=first.path_after)
    assert effect_of(second)["decision"]["cap_moved"] is None
    assert second.path_after == first.path_after

    arms = [[joint(one) for one in arms_of(number)] for number in (1, 2)]
    assert all("cap_moved" not in effect_of(look)["decision"] for look in _fixed(arms))


def _fixed(arms: Any) -> list[Look]:
    looks: list[Look] = []
    for number, of_look in enumerate(arms, start=1):
        kept = [CapSums(0, one.sums[0], one.products[0]) for one in of_look]
        sums = [MetricSums(one, caps=(cap,)) for one, cap in zip(of_look, kept, strict=True)]
        before = looks[-1].path_after if looks else ExperimentPath()
        looks.append(
            compute_look(define(FIXED), totals_with(sums), cut=make_cut(number), path_before=before)
        )
    return looks
