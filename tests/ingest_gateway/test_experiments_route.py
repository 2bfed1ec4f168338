"""Experiments over HTTP: shapes are checked here, lifecycles by control, answers are in use."""

import json
import uuid
from typing import Any

import msgspec
import pytest

from schemas.control import Command
from schemas.topics import COMMANDS
from tests.documentation import require_offline
from tests.ingest_gateway.worlds import World


def definition(**fields: Any) -> dict[str, Any]:
    return {
        "id": f"exp-{uuid.uuid4().hex[:12]}",
        "variants": [{"id": "control"}, {"id": "treatment", "weight": 3}],
        "metrics": [{"id": "buy", "kind": "conversion", "window": "72h"}],
    } | fields


async def created(world: World) -> dict[str, Any]:
    answer = await world.client.post("/v1/experiments", json=definition())
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def commands(world: World) -> list[Command]:
    (log, *_) = world.read(COMMANDS.name)
    return [msgspec.json.decode(message.value, type=Command) for message in log]


async def test_a_created_experiment_is_a_draft_and_known_at_once(world: World) -> None:
    posted = definition()

    answer = await world.client.post("/v1/experiments", json=posted)
    found = await world.client.get(f"/v1/experiments/{posted['id']}")
    listed = await world.client.get("/v1/experiments")

    assert (answer.status_code, answer.json()["status"]) == (201, "draft")
    assert answer.headers["location"] == f"/v1/experiments/{posted['id']}"
    assert [variant["weight"] for variant in answer.json()["variants"]] == [0.25, 0.75]
    assert found.json() == answer.json()
    assert answer.json() in listed.json()["experiments"]


async def test_the_lifecycle_is_answered_step_by_step(world: World) -> None:
    experiment = await created(world)
    path = f"/v1/experiments/{experiment['id']}"

    statuses = []
    for action in ("start", "pause", "resume", "stop", "archive"):
        answer = await world.client.post(f"{path}/{action}")
        assert answer.status_code == 200, answer.text
        statuses.append(answer.json()["status"])
    again = await world.client.post(f"{path}/start")

    assert statuses == ["running", "paused", "running", "stopped", "archived"]
    assert (again.status_code, again.headers["content-type"]) == (409, "application/problem+json")


async def test_a_known_id_is_409(world: World) -> None:
    experiment = await created(world)

    answer = await world.client.post("/v1/experiments", json=definition(id=experiment["id"]))

    assert answer.status_code == 409


async def test_a_patch_needs_the_version_it_is_based_on(world: World) -> None:
    experiment = await created(world)
    path, version = f"/v1/experiments/{experiment['id']}", experiment["version"]

    missing = await world.client.patch(path, json={"name": "New"})
    stale = await world.client.patch(path, json={"name": "New", "version": version - 1})
    by_header = await world.client.patch(
        path, json={"name": "New"}, headers={"if-match": f'"{version}"'}
    )
    by_body = await world.client.patch(
        path, json={"name": "Newer", "version": by_header.json()["version"]}
    )

    assert (missing.status_code, missing.json()["code"]) == (428, "version_missing")
    assert stale.status_code == 412
    assert (by_header.status_code, by_header.json()["name"]) == (200, "New")
    assert (by_body.status_code, by_body.json()["name"]) == (200, "Newer")
    assert by_body.headers["etag"] == f'"{by_body.json()["version"]}"'


async def test_a_start_may_name_an_earlier_time(world: World) -> None:
    experiment = await created(world)
    path = f"/v1/experiments/{experiment['id']}/start"
    earlier_ms = world.parts.clock_ms() - 60_000

    wrong = await world.client.post(path, json={"at": "yesterday"})
    answer = await world.client.post(path, json={"at": earlier_ms})

    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "at")
    definition_in_use = world.parts.view.usable.definitions[experiment["id"]]
    assert answer.status_code == 200
    assert definition_in_use.started_at_ms == earlier_ms


async def test_an_unknown_experiment_is_404(world: World) -> None:
    got = await world.client.get("/v1/experiments/no-such")
    started = await world.client.post("/v1/experiments/no-such/start")

    assert (got.status_code, got.json()["code"]) == (404, "unknown_experiment")
    assert started.status_code == 404


async def test_the_same_idempotency_key_is_answered_and_not_done_again(world: World) -> None:
    posted, key = definition(), {"idempotency-key": uuid.uuid4().hex}

    first = await world.client.post("/v1/experiments", json=posted, headers=key)
    again = await world.client.post("/v1/experiments", json=posted, headers=key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()


WRONG = {
    "no json": (b"{", 400, None),
    "no object": (b"[]", 422, ""),
    "field missing": (b'{"id": "e", "metrics": []}', 422, "variants"),
    "unknown field": (b'{"id": "e", "variants": [], "metrics": [], "x": 1}', 422, "x"),
    "wrong type": (
        b'{"id": "e", "variants": [{"id": 7}, {"id": "b"}], "metrics": []}',
        422,
        "variants[0].id",
    ),
    "key twice": (b'{"id": "e", "variants": [], "metrics": [], "id": "f"}', 422, "id"),
    "key twice inside": (
        b'{"id": "e", "variants": [{"id": "a", "id": "b"}], "metrics": []}',
        422,
        "id",
    ),
    "one variant": (
        b'{"id": "e", "variants": [{"id": "a"}], "metrics": [{"id": "m", "kind": "count"}]}',
        422,
        "variants",
    ),
    "weights overflow": (
        (
            b'{"id": "e", "variants": [{"id": "a", "weight": 1e308}, {"id": "b", "weight": 1e308}],'
            b' "metrics": [{"id": "m", "kind": "count"}]}'
        ),
        422,
        "variants",
    ),
    "bad utf-8": (b'{"id": "\xff"}', 400, None),
    "nested deep": (b'{"targeting": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", 400, None),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in WRONG.items()])
async def test_a_wrong_shape_is_refused_by_field_before_anything_is_sent(
    memory: World, case: tuple[bytes, int, str | None]
) -> None:
    body, status, field = case

    answer = await memory.client.post(
        "/v1/experiments", content=body, headers={"content-type": "application/json"}
    )

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if field is not None:
        assert field in [error["field"] for error in answer.json()["errors"]]
    assert not commands(memory)


async def test_every_field_of_a_wrong_type_is_named_at_once(memory: World) -> None:
    body = {"id": 1, "variants": [{"id": "a", "weight": "x"}, {}], "metrics": [{}], "colour": "red"}
    answer = await memory.client.post("/v1/experiments", json=body)

    assert answer.status_code == 422
    assert {error["field"] for error in answer.json()["errors"]} == {
        "id",
        "variants[0].weight",
        "variants[1].id",
        "metrics[0].id",
        "metrics[0].kind",
        "colour",
    }


async def test_a_command_without_an_outcome_is_503_and_says_it_may_take_effect(
    memory: World,
) -> None:
    memory.parts.commands._timeout_ms = 50  # type: ignore[attr-defined]
    memory.parts.view.step = lambda: None  # type: ignore[attr-defined]

    answer = await memory.client.post("/v1/experiments", json=definition())

    assert (answer.status_code, answer.json()["code"]) == (503, "command_timeout")
    assert answer.headers["retry-after"] == "1"
    assert "may still take effect" in answer.json()["detail"]


async def test_the_documentation_describes_every_route_and_every_body(memory: World) -> None:
    paths = (await memory.client.get("/openapi.json")).json()["paths"]

    assert {"/v1/events", "/v1/experiments", "/v1/decisions", "/ready"} <= paths.keys()
    taking = [
        one
        for path in paths.values()
        for verb, one in path.items()
        if verb in ("post", "put", "patch")
    ]
    assert len(taking) > 10
    assert all(one["requestBody"]["content"] for one in taking)
    assert "$ref" not in json.dumps([one["requestBody"] for one in taking])
    body = paths["/v1/experiments"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["required"] == ["id", "variants", "metrics"]
    created = await memory.client.post("/v1/experiments", json=body["example"])
    assert created.status_code == 201, created.text
    await require_offline(memory.client)
