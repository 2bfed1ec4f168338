"""A ceiling on dead letters: over it nothing is set aside, and nothing is taken silently either."""

import json
import random
from typing import Any

from ingest_gateway.dead_letter_ceiling import DeadLetterCeiling
from schemas.topics import DEAD_LETTERS, EVENTS
from tests.ingest_gateway.test_events_route import batches, metric
from tests.ingest_gateway.worlds import World

CEILING = 1_000_000
"""Of the gateway in memory."""


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
