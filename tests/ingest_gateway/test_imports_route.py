"""Imports over HTTP: a batch is in every partition once, whole, or not at all."""

import gzip
import json
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx
import msgspec

from schemas.control import Command, ImportChange, decode_command, decode_tick
from schemas.imports import DAY_MS, IMPORT_ROWS_MAX, read_import
from schemas.times import format_day
from schemas.topics import EVENTS, KIND_HEADER, KIND_IMPORT, KIND_TICK
from stream_processors.control.commands import COMMAND_BYTES_MAX
from tests.ingest_gateway.worlds import PARTITIONS, World, broker_world

Posted = Sequence[dict[str, Any]]


class Import(NamedTuple):
    """A declared import."""

    world: World
    id: str
    metric: str
    today: int

    def row(self, number: int = 0, **changed: Any) -> dict[str, Any]:
        fields = {
            "unit_id": f"u-{number}",
            "metric": self.metric,
            "value": 1.5 + number,
            "timestamp": (self.today - number % 20) * DAY_MS + 1_000 * number,
        }
        return {name: value for name, value in (fields | changed).items() if value is not ...}

    async def post(self, number: int, rows: Posted) -> httpx.Response:
        return await self.world.client.post(f"/v1/imports/{self.id}/{number}", json=list(rows))

    async def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.world.client.get(f"/v1/imports/{self.id}")).json()
        return found


async def declared(world: World) -> Import:
    suffix = uuid.uuid4().hex[:12]
    metric, today = f"buy-{suffix}", world.parts.clock_ms() // DAY_MS
    made = await world.client.put(f"/v1/metrics/{metric}", json={"keep_days": 30})
    assert made.status_code == 201, made.text
    body = {"metrics": [metric], "from": format_day(today - 20), "to": format_day(today)}
    put = await world.client.put(f"/v1/imports/history-{suffix}", json=body)
    assert put.status_code == 201, put.text
    return Import(world, f"history-{suffix}", metric, today)


def parts(one: Import) -> list[list[tuple[int, int]]]:
    """Return number and rows of every part of an import, for each partition, in its order."""
    found = []
    for log in one.world.read(EVENTS.name):
        headers = [dict(message.headers).get(KIND_HEADER) for message in log]
        read = [
            read_import(message.value)
            for message, kind in zip(log, headers, strict=True)
            if kind == KIND_IMPORT
        ]
        found.append(
            [(part.number, len(rows["day"])) for part, rows in read if part.import_id == one.id]
        )
    return found


async def test_an_import_is_declared_once_and_shown(world: World) -> None:
    one = await declared(world)
    days = {"from": format_day(one.today - 20), "to": format_day(one.today)}
    path = f"/v1/imports/{one.id}"
    again = await world.client.put(path, json={"metrics": [one.metric]} | days)
    other = await world.client.put(path, json={"metrics": [one.metric], **days, "to": days["from"]})
    listed = await world.client.get("/v1/imports")

    shown = {"id": one.id, "metrics": [one.metric], **days, "done": 0, "next": 1, "rows": 0}
    assert (again.status_code, again.json()) == (200, shown)
    assert (other.status_code, other.json()["code"]) == (409, "import_differs")
    assert other.json()["import"] == shown
    assert await one.shown() == shown
    assert shown in listed.json()["imports"]


async def test_a_batch_is_in_every_partition_when_it_is_answered(world: World) -> None:
    one = await declared(world)
    first = await one.post(1, [one.row(number) for number in range(50)])
    second = await one.post(2, [one.row(7)])

    assert (first.status_code, second.status_code) == (202, 202), first.text
    assert first.json() == {
        "import_id": one.id, "number": 1, "rows": 50, "already": False, "next": 2,
    }  # fmt: skip
    found = parts(one)
    assert [[number for number, _ in log] for log in found] == [[1, 2]] * PARTITIONS
    assert [sum(log[turn][1] for log in found) for turn in range(2)] == [50, 1]
    assert min(log[0][1] for log in found) > 0
    shown = await one.shown()
    assert (shown["done"], shown["next"], shown["rows"]) == (2, 3, 51)


async def test_the_tick_that_reserves_a_batch_stands_before_its_part(
    gateway_broker: str,
) -> None:
    async with broker_world(gateway_broker) as world:
        one = await declared(world)
        for number in (1, 2, 3):
            assert (await one.post(number, [one.row(number)])).status_code == 202
        for log in world.read(EVENTS.name):
            agreed: set[tuple[str, int, str]] = set()
            for message in log:
                kind = dict(message.headers)[KIND_HEADER]
                if kind == KIND_TICK:
                    for change in decode_tick(message.value).changes:
                        if isinstance(change, ImportChange) and change.declared.reserved:
                            batch = change.declared.reserved
                            agreed.add((change.declared.id, batch.number, batch.sha256))
                if kind == KIND_IMPORT:
                    part, _ = read_import(message.value)
                    assert (part.import_id, part.number, part.sha256) in agreed


async def test_a_resend_writes_nothing_and_says_so(world: World) -> None:
    one = await declared(world)
    rows = [one.row(number) for number in range(5)]
    await one.post(1, rows)
    await one.post(2, [one.row(9)])
    again, other = await one.post(1, rows), await one.post(1, rows[::-1])

    assert (again.status_code, again.json()["already"], again.json()["next"]) == (200, True, 3)
    assert (other.status_code, other.json()["code"]) == (409, "import_batch_differs")
    assert [[number for number, _ in log] for log in parts(one)] == [[1, 2]] * PARTITIONS


async def test_what_is_not_next_is_told_what_is(world: World) -> None:
    one = await declared(world)
    answer = await one.post(2, [one.row()])

    assert (answer.status_code, answer.json()["code"]) == (409, "import_out_of_order")
    assert answer.json()["next"] == 1
    assert parts(one) == [[]] * PARTITIONS


async def test_a_bad_row_costs_the_whole_batch_and_every_bad_row_is_named(memory: World) -> None:
    one = await declared(memory)
    good = one.row(1)
    cases = {
        "timestamp_missing": one.row(timestamp=...),
        "day_not_imported": one.row(timestamp=(one.today - 21) * DAY_MS),
        "metric_not_imported": one.row(metric="other"),
        "experiment_not_allowed": one.row(experiment_id="x"),
        "value_not_finite": None,
        "value_out_of_range": one.row(value=1e13),
        "id_invalid": one.row(unit_id=""),
        "unknown_type": one.row(type="assignment"),
        "malformed": one.row(colour="red"),
    }
    for code, row in cases.items():
        bad = json.dumps(row) if row else '{"unit_id": "u", "metric": "m", "value": NaN}'
        body = "\n".join([json.dumps(good), bad, "", json.dumps(good)])
        answer = await memory.client.post(
            f"/v1/imports/{one.id}/1",
            content=body,
            headers={"content-type": "application/x-ndjson"},
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "rows_rejected"), answer.text
        (error,) = answer.json()["errors"]
        assert (error["index"], error["code"]) == (1, code)
        assert error["message"]
    both = await one.post(1, [one.row(timestamp=...), good, one.row(metric="other")])
    assert [error["index"] for error in both.json()["errors"]] == [0, 2]

    assert parts(one) == [[]] * PARTITIONS
    assert (await one.shown())["next"] == 1
    assert (await one.post(1, [good])).status_code == 202


async def test_limits_of_a_batch(memory: World) -> None:
    one = await declared(memory)
    rows = [one.row(number % 50) for number in range(IMPORT_ROWS_MAX)]
    many = await one.post(1, [*rows, one.row()])
    none = await one.post(1, [])
    types = await one.post(1, [one.row(unit_type=f"t-{number}") for number in range(101)])
    wrong = await one.world.client.post(f"/v1/imports/{one.id}/first", json=[one.row()])
    fit = await one.post(1, rows)

    assert (many.status_code, many.json()["code"]) == (413, "too_many_rows")
    assert none.status_code == 422
    assert types.json()["errors"][0]["code"] == "too_many_unit_types"
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "number")
    assert fit.status_code == 202


async def test_bodies_come_compressed_and_as_one_object(memory: World) -> None:
    one = await declared(memory)
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    body = gzip.compress(json.dumps(one.row(3, unit_type="household")).encode())
    answer = await memory.client.post(f"/v1/imports/{one.id}/1", content=body, headers=headers)

    assert (answer.status_code, answer.json()["rows"]) == (202, 1)


async def test_an_unknown_import_is_404(memory: World) -> None:
    got = await memory.client.get("/v1/imports/none")
    posted = await memory.client.post("/v1/imports/none/1", json=[{}])
    assert (got.status_code, got.json()["code"]) == (404, "unknown_import")
    assert (posted.status_code, posted.json()["code"]) == (404, "unknown_import")


async def test_what_may_not_be_declared_is_refused_in_the_words_of_the_body(memory: World) -> None:
    one = await declared(memory)
    days = {"from": format_day(one.today - 1), "to": format_day(one.today + 1)}
    for body, field in (
        ({"metrics": [one.metric], **days}, "to"),
        ({"metrics": [one.metric], **days, "from": "2026-11-31"}, "from"),
        ({"metrics": [one.metric], "from": days["to"], "to": days["from"]}, "from"),
        ({"metrics": ["nothing"], **days}, "metrics[0]"),
        ({"metrics": [one.metric]}, "from"),
    ):
        answer = await memory.client.put("/v1/imports/other", json=body)
        assert answer.status_code == 422, answer.text
        assert field in [error["field"] for error in answer.json()["errors"]]


async def test_while_the_log_is_away_nothing_is_done_and_the_same_batch_completes_it(
    memory: World,
) -> None:
    one = await declared(memory)
    sink = memory.parts.sink
    rows = [one.row(number) for number in range(10)]
    sink.answers_lost = True  # type: ignore[attr-defined]
    lost = await one.post(1, rows)
    sink.answers_lost = False  # type: ignore[attr-defined]
    resent = await one.post(1, rows)

    assert (lost.status_code, lost.headers["retry-after"]) == (503, "1")
    assert (resent.status_code, resent.json()["next"]) == (202, 2)
    assert sum(log[0][1] for log in parts(one)) == 10
    assert len({json.dumps(await one.shown()) for _ in range(2)}) == 1


def test_commands_of_imports_fit_into_the_log() -> None:
    metrics = [f"{number:03}" + "m" * 125 for number in range(100)]
    body = {"metrics": metrics, "from_day": 1, "to_day": 2}
    value = msgspec.json.encode(Command("c", "import", "i" * 128, body=body))

    assert len(value) < COMMAND_BYTES_MAX
    assert decode_command(value).body == body
