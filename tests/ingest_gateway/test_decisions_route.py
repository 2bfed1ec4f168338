"""Decisions: from memory, the same every time, and an assignment only when logged."""

import uuid
from typing import Any

import growthbook.core
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_gateway.decisions import DecisionReason, decide
from schemas.control import ControlState
from schemas.decisions import bucket_of
from schemas.definitions import Definition, Interval, Variant
from schemas.topics import EVENTS
from tests.ingest_gateway.test_events_route import batches, running_experiment
from tests.ingest_gateway.worlds import World

NOW_MS = 1_795_284_000_000


def experiment(**fields: Any) -> Definition:
    colour = Definition(
        id="colour",
        ordinal=1,
        version=1,
        variants=[Variant("control", 0.5, is_control=True), Variant("treatment", 0.5)],
        metrics=[],
        seed="colour",
        intervals=[Interval(NOW_MS - 1)],
    )
    return msgspec.structs.replace(colour, **fields)


def reason(definition: Definition, unit_type: str = "user") -> DecisionReason:
    control = ControlState({definition.id: definition})
    (decision,) = decide(
        control, [definition.id], unit_type=unit_type, unit_id="u-1", now_ms=NOW_MS
    )
    return decision.reason


def test_every_reason_is_named() -> None:
    assert reason(experiment()) == "assigned"
    assert reason(experiment(intervals=[])) == "not_running"
    assert reason(experiment(intervals=[Interval(0, NOW_MS)])) == "not_running"
    assert reason(experiment(coverage=1e-9)) == "not_covered"
    assert reason(experiment(), unit_type="session") == "wrong_unit_type"
    (unknown,) = decide(ControlState(), ["nothing"], unit_type="user", unit_id="u", now_ms=NOW_MS)
    assert (unknown.variant, unknown.reason) == (None, "unknown_experiment")


def test_without_ids_every_running_experiment_on_such_units_decides() -> None:
    definitions = [
        experiment(id="second", ordinal=2),
        experiment(id="first", ordinal=1),
        experiment(id="over", intervals=[Interval(0, 1)]),
        experiment(id="elsewhere", unit_type="session"),
    ]
    control = ControlState({one.id: one for one in definitions})

    decisions = decide(control, None, unit_type="user", unit_id="u-1", now_ms=NOW_MS)

    assert [one.experiment_id for one in decisions] == ["first", "second"]


@given(st.text(max_size=20), st.text(min_size=1, max_size=40))
def test_a_unit_lies_where_growthbooks_sdk_puts_it(seed: str, unit_id: str) -> None:
    assert bucket_of(seed, unit_id) == growthbook.core.gbhash(seed, unit_id, 2)


async def test_a_decision_that_is_not_logged_leaves_no_trace(world: World) -> None:
    experiment_id, unit_id = await running_experiment(world), uuid.uuid4().hex
    question = {"unit_id": unit_id, "experiment_ids": [experiment_id, "nothing"]}

    answers = [await world.client.post("/v1/decisions", json=question) for _ in range(2)]

    first, second = (answer.json() for answer in answers)
    assert first == second
    decision, unknown = first["decisions"]
    assert decision["variant"] in ("control", "treatment")
    assert (decision["reason"], decision["propensity"]) == ("assigned", 0.5)
    assert decision["allocation_version"] is None
    assert (unknown["variant"], unknown["reason"]) == (None, "unknown_experiment")
    assert "log" not in first
    assert not assignments(world, unit_id)


async def test_a_logged_decision_is_durable_and_has_the_same_id_again(world: World) -> None:
    experiment_id, unit_id = await running_experiment(world), uuid.uuid4().hex
    question = {"unit_id": unit_id, "experiment_ids": [experiment_id], "log": True}

    answers = [await world.client.post("/v1/decisions", json=question) for _ in range(2)]

    variant = answers[0].json()["decisions"][0]["variant"]
    logged = assignments(world, unit_id)
    assert [row["variant"] for row in logged] == [variant, variant]
    assert len({row["event_id"] for row in logged}) == 1
    assert not logged[0]["timestamp_given"]
    assert all(answer.json()["log"] for answer in answers)


@pytest.mark.parametrize(
    ("question", "field"),
    [({"unit_id": ""}, "unit_id"), ({}, "unit_id"), ({"unit_id": "u", "colour": 1}, "colour")],
)
async def test_a_wrong_question_is_refused_by_field(
    memory: World, question: dict[str, Any], field: str
) -> None:
    answer = await memory.client.post("/v1/decisions", json=question)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_decisions_work_while_no_broker_answers(memory: World) -> None:
    experiment_id = await running_experiment(memory)
    memory.parts.sink.away = True  # type: ignore[attr-defined]
    question = {"unit_id": "u-1", "experiment_ids": [experiment_id]}

    decided = await memory.client.post("/v1/decisions", json=question)
    logged = await memory.client.post("/v1/decisions", json=question | {"log": True})

    assert (decided.status_code, logged.status_code) == (200, 503)


def assignments(world: World, unit_id: str) -> list[dict[str, Any]]:
    return [
        row
        for batch in batches(world, EVENTS.name).values()
        for row in batch.to_pylist()
        if row["unit_id"] == unit_id
    ]
