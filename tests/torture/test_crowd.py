"""What is sent follows from the seed, holds every hard case, and each door must answer as said."""

import json
from collections import Counter
from random import Random

import pytest

from ingest_gateway.errors import RejectionCode
from ingest_gateway.rules import Refusal, Terms, judge
from schemas.control import ControlState, Settings
from schemas.definitions import Definition, Interval, Variant
from tools.torture.crowd import Crowd, Habits, Item, as_json
from tools.torture.experiments import COVARIATE_DAYS, Running, experiment_body
from tools.torture.journal import ACCEPTED, ANY, LATE, Event, Hostile

NOW_MS = 1_795_284_000_000
LATENESS_MS = 300_000
SECONDS = 40


def items_of(seed: int, habits: Habits | None = None) -> list[Item]:
    """Return what a crowd sends in some seconds; a second takes a second."""
    running = Running(["x", "y"], ["passing"])
    options = {"habits": habits} if habits else {}
    crowd = Crowd(Random(seed), running, lateness_ms=LATENESS_MS, **options)
    sent = list(crowd.settle_in(100, NOW_MS))
    for second in range(SECONDS):
        crowd.come(200, second, NOW_MS + second * 1_000)
        sent += crowd.due(second)
    sent += crowd.due(float("inf"))
    assert crowd.waiting_count == 0
    return sent


def test_the_same_seed_sends_the_same() -> None:
    assert items_of(1) == items_of(1)
    assert items_of(1) != items_of(2)


def test_a_crowd_is_as_large_as_was_asked_for() -> None:
    assert 0.95 < len(items_of(3)) / (100 + SECONDS * 200) < 1.1


def test_every_hard_case_comes() -> None:
    sent = items_of(4)
    events = [item.content for item in sent if isinstance(item.content, Event)]
    repeats = Counter(map(repr, events))
    named = [one for one in events if one.event_id is not None]
    contents = {(one.unit, one.event_id): set() for one in named}
    variants = {}
    for one in named:
        contents[one.unit, one.event_id].add(repr(one))
        if one.variant:
            variants.setdefault((one.unit, one.experiment), set()).add(one.variant)

    assert max(repeats.values()) > 1, "duplicates"
    assert any(len(same) > 1 for same in contents.values()), "the same id with another content"
    assert any(len(two) > 1 for two in variants.values()), "crossovers"
    assert any(one.metric and one.experiment for one in events), "events of one experiment"
    assert any(one.timestamp is None for one in events), "events without a time"
    assert len(events) - len(named) > 10, "events without an id"
    assert all(one.metric for one in events if one.event_id is None)
    assert any(one.metric and one.value is None for one in events), "events without a value"
    assert {item.wanted for item in sent} >= {ACCEPTED, ANY, LATE}
    order = [one.timestamp for one in events if one.timestamp]
    assert order != sorted(order), "out of order"


def test_hostile_bytes_break_the_rule_that_they_say_and_no_two_are_alike() -> None:
    sent = [item for item in items_of(5, Habits(hostile=0.2)) if isinstance(item.content, Hostile)]
    raws = [item.content.raw for item in sent]

    assert len(set(raws)) == len(raws)
    for item in sent:
        with pytest.raises(Refusal) as refused:
            judge(item.content.raw, Terms(NOW_MS, control()))
        assert refused.value.code == item.content.code == item.wanted
    assert {item.wanted for item in sent} >= {
        RejectionCode.MALFORMED,
        RejectionCode.UNKNOWN_VARIANT,
        RejectionCode.TIMESTAMP_AHEAD,
        RejectionCode.VALUE_NOT_FINITE,
    }


def test_other_events_break_none() -> None:
    for item in items_of(6):
        if isinstance(item.content, Event):
            terms = Terms(NOW_MS, control(), substitute_id="topic/0/1")
            verdict = judge(json.dumps(as_json(item.content)).encode(), terms)
            assert verdict.event.unit_id == item.content.unit
            assert verdict.is_late == (item.wanted == LATE)


def control() -> ControlState:
    """Return what a door knows: the experiments of the crowd, long running."""
    ids = ["x", "y", "passing"]
    variants = [Variant(id="c", weight=0.5, is_control=True), Variant(id="t", weight=0.5)]
    definitions = {
        name: Definition(
            id=name,
            ordinal=ordinal,
            version=1,
            seed=name,
            variants=variants,
            metrics=[],
            status="running",
            intervals=[Interval(0, None)],
        )
        for ordinal, name in enumerate(ids)
    }
    return ControlState(definitions, settings=Settings(lateness_ms=LATENESS_MS))


def test_a_crowd_knows_how_many_have_come() -> None:
    crowd = Crowd(Random(1), Running(["x"]), lateness_ms=LATENESS_MS)
    assert crowd.unit_count == 0

    units = {item.content.unit for item in crowd.settle_in(7, NOW_MS)}

    assert crowd.unit_count == 7
    assert units == {f"u-{number}" for number in range(7)}


def test_experiments_have_metrics_of_several_kinds_windows_and_covariates() -> None:
    metrics = experiment_body("x")["metrics"]
    assert {one.get("covariate_days", 0) for one in metrics} == {0, 2, COVARIATE_DAYS}

    assert {one["kind"] for one in metrics} == {"conversion", "count", "sum"}
    assert len({one.get("window") for one in metrics}) == 4
