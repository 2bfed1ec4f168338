"""A ceiling on dead letters: over it nothing is set aside, and nothing is taken silently either."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from ingest_gateway.__main__ import wall_clock_ms
from ingest_gateway.dead_letter_ceiling import DeadLetterCeiling, bytes_of
from ingest_gateway.errors import UnavailableError
from ingest_gateway.group_commit import GroupCommit
from ingest_gateway.intake import Intake
from ingest_gateway.sink import Delivery, MemorySink, Message
from ingest_gateway.validator import BodyForm
from schemas.topics import DEAD_LETTERS, EVENTS
from tests.ingest_gateway.test_events_route import batches, metric
from tests.ingest_gateway.worlds import World

CEILING = 1_000_000
"""Of the gateway in memory."""

ANSWER_TIMEOUT_MS = 100


def test_within_any_hour_no_more_than_the_ceiling_is_set_aside() -> None:
    rng, ceiling, now_s = random.Random(7), DeadLetterCeiling(1_000), 50.0
    taken: list[tuple[float, int]] = []
    refused = 0
    for _ in range(20_000):
        now_s += rng.expovariate(1 / 20)
        size = rng.randrange(1, 200)
        if ceiling.has_room(size, now_s):
            ceiling.add(size, now_s)
            taken.append((now_s, size))
        else:
            refused += 1
        assert sum(one for at_s, one in taken[-1_000:] if at_s > now_s - 3_540) <= 1_000
    assert refused > 1_000
    assert len(taken) > 500


def test_what_is_set_aside_alone_fits_however_large_it_is() -> None:
    ceiling = DeadLetterCeiling(10)
    assert ceiling.has_room(5_000, 0.0)
    ceiling.add(5_000, 0.0)
    assert not ceiling.has_room(1, 3_599.0)
    assert ceiling.has_room(5_000, 3_660.0)


def test_what_is_taken_back_counts_no_more_and_leaves_nothing_behind() -> None:
    ceiling = DeadLetterCeiling(1_000)
    ceiling.add(600, 0.0)
    ceiling.add(300, 65.0)
    ceiling.take_back(600, 0.0)
    for now_s in (65.0, 3_601.0):  # before and after the minute of what was taken back is over
        assert ceiling.has_room(700, now_s)
        assert not ceiling.has_room(701, now_s)
    assert ceiling.has_room(1_000, 3_661.0)


async def test_over_the_ceiling_a_request_with_refused_events_is_503_and_says_which(
    memory: World,
) -> None:
    async def post(*events: dict[str, Any]) -> Any:
        body = b"\n".join(json.dumps(event).encode() for event in events)
        headers = {"content-type": "application/x-ndjson"}
        return await memory.client.post("/v1/events", content=body, headers=headers)

    large = metric(metric="x" * 8_000, value="many")
    sent = 0
    while (answer := await post(*[large] * 20)).status_code == 422:
        sent += 20
    letters_before = sum(map(len, memory.read(DEAD_LETTERS.name)))
    rows_before = len(batches(memory, EVENTS.name))
    mixed = await post(metric(), large, metric())
    good = await post(metric(), metric())

    assert letters_before == sent > 80
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "60"
    assert mixed.status_code == 503
    problem = mixed.json()
    assert problem["code"] == "dead_letters_full"
    assert [one["index"] for one in problem["rejected"]] == [1]
    assert (good.status_code, good.json()["accepted"]) == (202, 2)
    assert sum(map(len, memory.read(DEAD_LETTERS.name))) == letters_before
    assert len(batches(memory, EVENTS.name)) - rows_before <= 2  # of the good ones


async def test_what_could_not_be_set_aside_does_not_count(memory: World) -> None:
    large = metric(metric="x" * 8_000, value="many")
    sink: Any = memory.parts.sink
    sink.away = True
    for _ in range(2 * CEILING // (100 * 8_000) + 1):
        assert (await memory.client.post("/v1/events", json=[large] * 100)).json()["code"] == (
            "sink_unavailable"
        )
    sink.away = False
    assert (await memory.client.post("/v1/events", json=[large] * 100)).status_code == 422


class LateSink(MemorySink):
    """Writes everything, and acknowledges it later than a request may take."""

    async def publish(self, messages: Sequence[Message]) -> list[Delivery]:
        written = await super().publish(messages)
        await asyncio.sleep(3 * ANSWER_TIMEOUT_MS / 1_000)
        return written


async def test_what_was_set_aside_counts_although_its_request_was_answered_too_late(
    memory: World,
) -> None:
    sink = LateSink()
    intake = Intake(
        memory.parts.view,
        GroupCommit(sink, partition_count=1, clock_s=time.monotonic),
        wall_clock_ms,
        answer_timeout_ms=ANSWER_TIMEOUT_MS,
        ceiling=DeadLetterCeiling(CEILING),
        clock_s=time.monotonic,
    )
    body = json.dumps([metric(metric="x" * 8_000, value="many")] * 40).encode()

    async def refusal() -> str:
        with pytest.raises(UnavailableError) as refused:
            await intake.take(body, form=BodyForm.JSON)
        return refused.value.code

    codes = [await refusal() for _ in range(6)]
    written = bytes_of(sink.of(DEAD_LETTERS.name))
    taken = codes.count("sink_unavailable")
    assert codes == ["sink_unavailable"] * taken + ["dead_letters_full"] * (6 - taken)
    assert 0 < written <= CEILING


async def test_what_may_have_been_set_aside_counts_although_no_answer_came(memory: World) -> None:
    large = metric(metric="x" * 8_000, value="many")
    sink: Any = memory.parts.sink
    sink.answers_lost = True
    codes = [
        (await memory.client.post("/v1/events", json=[large] * 40)).json()["code"] for _ in range(6)
    ]
    assert codes[0] == "sink_unavailable"
    assert codes[-1] == "dead_letters_full"
    assert bytes_of(sink.of(DEAD_LETTERS.name)) <= CEILING
