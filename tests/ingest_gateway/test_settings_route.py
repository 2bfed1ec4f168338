"""Logged settings over HTTP: doors use the value as of the answer, at once."""

import uuid

from tests.ingest_gateway.worlds import World

MINUTE_MS = 60_000


async def take(world: World, age_ms: int) -> str:
    """Post an event of that age; return what became of it."""
    event = {
        "type": "metric",
        "event_id": uuid.uuid4().hex,
        "unit_id": "u",
        "metric": "buy",
        "timestamp": world.parts.clock_ms() - age_ms,
    }
    answer = await world.client.post("/v1/events", json=event)
    found = answer.json()
    return "accepted" if found["accepted"] else "late" if found["late"] else answer.text


async def test_doors_use_a_lateness_as_soon_as_it_is_answered(world: World) -> None:
    became = []
    for lateness in ("30m", "1h", "20m", "50m"):
        answer = await world.client.patch("/v1/settings", json={"lateness": lateness})
        assert answer.status_code == 200, answer.text
        assert answer.json()["lateness"] == lateness
        assert f"up to {lateness}" in answer.json()["effects"][0]
        became.append(await take(world, 45 * MINUTE_MS))

    assert became == ["late", "accepted", "late", "accepted"]
    assert (await world.client.get("/v1/settings")).json()["lateness"] == "50m"


async def test_what_was_too_late_stays_late_when_the_lateness_is_raised(memory: World) -> None:
    """Ids that old were forgotten: a resend could not be told from a new event."""
    await memory.client.patch("/v1/settings", json={"lateness": "3h"})

    assert await take(memory, 90 * MINUTE_MS) == "late"
    assert await take(memory, 59 * MINUTE_MS) == "accepted"


async def test_sources_are_added_and_retired_and_the_answer_says_what_that_does(
    memory: World,
) -> None:
    added = await memory.client.patch("/v1/settings", json={"add_sources": ["a/0", "a/1"]})
    retired = await memory.client.patch("/v1/settings", json={"retire_sources": ["a/0"]})
    unknown = await memory.client.patch("/v1/settings", json={"retire_sources": ["a/0"]})

    assert added.json()["sources"] == ["a/0", "a/1"]
    assert retired.json()["sources"] == ["a/1"]
    assert "a/0" in retired.json()["effects"][0]
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_source")
    assert "must be one of a/1" in unknown.json()["errors"][0]["message"]


async def test_wrong_settings_are_refused_by_field(memory: World) -> None:
    before = (await memory.client.get("/v1/settings")).json()
    for body, fields in (
        ({"lateness": "soon"}, {"lateness"}),
        ({"lateness": "1ms"}, {"lateness"}),
        ({"lateness": 3_600_000, "stride": "x"}, {"lateness", "stride"}),
        ({"stride": 0}, {"stride"}),
        ({"colour": "red"}, {"colour"}),
        ({}, {""}),
    ):
        answer = await memory.client.patch("/v1/settings", json=body)
        assert answer.status_code == 422, answer.text
        assert {error["field"] for error in answer.json()["errors"]} == fields
    assert (await memory.client.get("/v1/settings")).json() == before


async def test_the_stride_is_set_and_left_to_itself(memory: World) -> None:
    fixed = await memory.client.patch("/v1/settings", json={"stride": 5})
    free = await memory.client.patch("/v1/settings", json={"stride": None})

    assert (fixed.json()["stride"], free.json()["stride"]) == (5, None)
    assert "5 ticks" in fixed.json()["effects"][0]
    assert "200 a second" in free.json()["effects"][0]
