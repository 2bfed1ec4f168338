"""The catalogue over HTTP, and that a definition and its entries agree."""

import uuid
from datetime import UTC, datetime, timedelta

from tests.ingest_gateway.worlds import World

WITHIN = {"precision": 2, "keep_days": 14}


def name() -> str:
    return f"buy-{uuid.uuid4().hex[:12]}"


async def test_an_entry_is_made_once_and_shown(world: World) -> None:
    metric = name()
    made = await world.client.put(f"/v1/metrics/{metric}", json=WITHIN)
    again = await world.client.put(f"/v1/metrics/{metric}", json=WITHIN)
    other = await world.client.put(f"/v1/metrics/{metric}", json=WITHIN | {"keep_days": 15})
    got = await world.client.get(f"/v1/metrics/{metric}")
    listed = await world.client.get("/v1/metrics")

    today = datetime.fromtimestamp(world.parts.clock_ms() / 1_000, UTC).date()
    tomorrow = (today + timedelta(days=1)).isoformat()
    entry = {"name": metric, **WITHIN, "live_from": tomorrow}
    assert (made.status_code, made.json()) == (201, entry)
    assert (again.status_code, again.json()) == (200, entry)
    assert (other.status_code, other.json()["code"]) == (409, "entry_differs")
    assert other.json()["entry"] == entry
    assert got.json() == entry
    assert entry in listed.json()["metrics"]


async def test_wrong_fields_of_an_entry_are_all_named(memory: World) -> None:
    ranges = await memory.client.put("/v1/metrics/buy", json={"precision": 10, "keep_days": -1})
    types = await memory.client.put("/v1/metrics/buy", json={"precision": "2", "keep": 1})
    twice = await memory.client.put(
        "/v1/metrics/buy",
        content=b'{"precision": 2, "precision": 3}',
        headers={"content-type": "application/json"},
    )
    named = await memory.client.put("/v1/metrics/a b", json={})

    for answer, fields in (
        (ranges, {"precision", "keep_days"}),
        (types, {"precision", "keep"}),
        (twice, {"precision"}),
        (named, {"name"}),
    ):
        assert answer.status_code == 422, answer.text
        assert {error["field"] for error in answer.json()["errors"]} == fields


async def test_an_unknown_entry_is_404(memory: World) -> None:
    answer = await memory.client.get("/v1/metrics/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_metric")


async def test_a_definition_makes_and_keeps_to_entries(memory: World) -> None:
    metric = {"id": "m", "kind": "sum", "event": "buy", "covariate_days": 7}
    body = {"id": "x", "variants": [{"id": "a"}, {"id": "b"}], "metrics": [metric]}
    made = await memory.client.post("/v1/experiments", json=body)
    entry = await memory.client.get("/v1/metrics/buy")
    beyond = await memory.client.post(
        "/v1/experiments", json=body | {"id": "y", "metrics": [metric | {"covariate_days": 8}]}
    )
    finer = await memory.client.post(
        "/v1/experiments", json=body | {"id": "y", "metrics": [metric | {"precision": 7}]}
    )

    assert made.status_code == 201
    assert (entry.json()["precision"], entry.json()["keep_days"]) == (6, 7)
    assert (beyond.status_code, beyond.json()["code"]) == (422, "keep_days_exceeded")
    assert beyond.json()["errors"][0]["field"] == "metrics[0].covariate_days"
    assert (finer.status_code, finer.json()["code"]) == (422, "precision_differs")
