"""POST /v1/events: the answer says what became of every event, and all of it is durable."""

import gzip
import json
import time
import uuid
from typing import Any

import pyarrow as pa
import pytest

from schemas.batch import read_batch
from schemas.topics import DEAD_LETTERS, EVENTS, KIND_BATCH, LATE
from tests.ingest_gateway.worlds import World

HOUR_MS = 3_600_000


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:12]}"


def metric(**fields: Any) -> dict[str, Any]:
    event = {"type": "metric", "event_id": unique("m"), "unit_id": unique("u"), "metric": "buy"}
    return event | fields


async def running_experiment(world: World) -> str:
    experiment_id = unique("exp")
    definition = {
        "id": experiment_id,
        "variants": [{"id": "control"}, {"id": "treatment"}],
        "metrics": [{"id": "buy", "kind": "conversion"}],
    }
    created = await world.client.post("/v1/experiments", json=definition)
    assert created.status_code == 201, created.text
    started = await world.client.post(f"/v1/experiments/{experiment_id}/start")
    assert started.status_code == 200, started.text
    return experiment_id


def assignment(experiment_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "assignment",
        "event_id": unique("a"),
        "experiment_id": experiment_id,
        "unit_id": unique("u"),
        "variant": "control",
    } | fields


def batches(world: World, topic: str) -> dict[tuple[int, int], pa.RecordBatch]:
    return {
        (partition, offset): read_batch(message.value)
        for partition, log in enumerate(world.read(topic))
        for offset, message in enumerate(log)
        if dict(message.headers).get("litmus.kind") == KIND_BATCH
    }


def rows_of(world: World, topic: str, unit_ids: set[str]) -> list[tuple[int, int, str]]:
    """Return (partition, offset, unit id) of every row of these units."""
    return [
        (partition, offset, unit_id)
        for (partition, offset), batch in batches(world, topic).items()
        for unit_id in batch.column("unit_id").to_pylist()
        if unit_id in unit_ids
    ]


async def test_every_accepted_event_is_in_the_log_where_the_answer_says(world: World) -> None:
    events = [metric() for _ in range(40)]

    answer = await world.client.post("/v1/events", json=events)

    assert answer.status_code == 202
    body = answer.json()
    assert (body["accepted"], body["late"], body["rejected"]) == (40, 0, [])
    rows = rows_of(world, EVENTS.name, {event["unit_id"] for event in events})
    assert len(rows) == 40
    last = {str(partition): offset for partition, offset, _ in sorted(rows)}
    assert body["log"] == last


async def test_one_object_and_ndjson_and_gzip_are_taken(world: World) -> None:
    lines = b"\n".join(json.dumps(metric()).encode() for _ in range(3))
    headers = {"content-type": "application/x-ndjson", "content-encoding": "gzip"}

    single = await world.client.post("/v1/events", json=metric())
    many = await world.client.post("/v1/events", content=gzip.compress(lines), headers=headers)

    assert (single.status_code, single.json()["accepted"]) == (202, 1)
    assert (many.status_code, many.json()["accepted"]) == (202, 3)


async def test_a_bad_event_is_set_aside_before_the_answer(world: World) -> None:
    bad = metric(value="many")

    answer = await world.client.post("/v1/events", json=[metric(), bad])

    assert answer.status_code == 202
    (rejected,) = answer.json()["rejected"]
    assert (rejected["index"], rejected["code"], rejected["field"]) == (1, "malformed", "value")
    letters = [
        (json.loads(message.value), dict(message.headers))
        for log in world.read(DEAD_LETTERS.name)
        for message in log
    ]
    (headers,) = [headers for value, headers in letters if value == bad]
    assert headers["litmus.dlq.topic"] == b"http"
    assert headers["litmus.dlq.code"] == b"malformed"


async def test_a_late_event_is_kept_apart_and_is_no_refusal(world: World) -> None:
    late = metric(timestamp=time.time_ns() // 1_000_000 - 2 * HOUR_MS)

    answer = await world.client.post("/v1/events", json=late)

    assert answer.status_code == 202
    assert answer.json() == {"accepted": 0, "late": 1, "rejected": [], "log": {}}
    assert len(rows_of(world, LATE.name, {late["unit_id"]})) == 1
    assert not rows_of(world, EVENTS.name, {late["unit_id"]})


async def test_nothing_accepted_is_422_with_the_same_body(world: World) -> None:
    answer = await world.client.post("/v1/events", json=[metric(event_id="")])

    assert answer.status_code == 422
    body = answer.json()
    assert (body["accepted"], body["late"], body["log"]) == (0, 0, {})
    assert body["rejected"][0]["code"] == "id_invalid"


async def test_an_idempotency_key_stands_for_the_ids_and_gives_the_same_again(
    world: World,
) -> None:
    event = metric()
    del event["event_id"]
    key = {"idempotency-key": unique("key")}

    for _ in range(2):
        answer = await world.client.post("/v1/events", json=[event], headers=key)
        assert answer.status_code == 202
    ids = [
        event_id
        for batch in batches(world, EVENTS.name).values()
        for unit_id, event_id in zip(
            batch.column("unit_id").to_pylist(), batch.column("event_id").to_pylist(), strict=True
        )
        if unit_id == event["unit_id"]
    ]

    assert len(ids) == 2
    assert len(set(ids)) == 1


async def test_an_assignment_is_taken_as_soon_as_the_start_is_answered(world: World) -> None:
    experiment_id = await running_experiment(world)

    answer = await world.client.post("/v1/events", json=assignment(experiment_id))

    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)


async def test_an_unknown_experiment_is_refused_by_name(world: World) -> None:
    answer = await world.client.post("/v1/events", json=assignment(unique("no-such")))

    assert answer.status_code == 422
    assert answer.json()["rejected"][0]["code"] == "unknown_experiment"


REFUSED = {
    "no json": (b"nonsense", {"content-type": "application/json"}, 400, "malformed_body"),
    "cut off": (b'[{"type": ', {"content-type": "application/json"}, 400, "malformed_body"),
    "not its type": (b"[]", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
    "no gzip": (
        b"[]",
        {"content-type": "application/json", "content-encoding": "gzip"},
        400,
        "malformed_body",
    ),
    "too long": (
        b" " * 4_000_001,
        {"content-type": "application/json"},
        413,
        "body_too_large",
    ),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in REFUSED.items()])
async def test_a_body_that_cannot_be_taken_is_a_problem(
    memory: World, case: tuple[bytes, dict[str, str], int, str]
) -> None:
    body, headers, status, code = case

    answer = await memory.client.post("/v1/events", content=body, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail"} <= answer.json().keys()
    assert not batches(memory, EVENTS.name)


@pytest.mark.parametrize("trouble", ["away", "answers_lost"])
async def test_what_is_not_durable_is_503_and_may_be_sent_again(
    memory: World, trouble: str
) -> None:
    events = [metric() for _ in range(5)]
    setattr(memory.parts.sink, trouble, True)

    refused = await memory.client.post("/v1/events", json=events)
    setattr(memory.parts.sink, trouble, False)
    taken = await memory.client.post("/v1/events", json=events)

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["code"] == "sink_unavailable"
    assert (taken.status_code, taken.json()["accepted"]) == (202, 5)


async def test_every_event_is_counted_by_what_became_of_it(memory: World) -> None:
    async def counted(outcome: str) -> float:
        text = (await memory.client.get("/metrics")).text
        name = f'litmus_gateway_events_total{{door="http",outcome="{outcome}"}} '
        return sum(float(line[len(name) :]) for line in text.splitlines() if line.startswith(name))

    before = [await counted(outcome) for outcome in ("accepted", "rejected")]
    await memory.client.post("/v1/events", json=[metric(), metric(), metric(value=None)])
    after = [await counted(outcome) for outcome in ("accepted", "rejected")]

    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 1]
