"""Every question has the contract's answer, every wrong one a problem that says what is wrong."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from query_api import routes
from query_api.history import queries
from query_api.history.writer import HistoryWriter, Position
from query_api.kafka_log import Source
from schemas.control import Import, ImportBatch
from schemas.times import format_time_ms
from schemas.topics import DEAD_LETTERS, EVENTS, LATE, LOOKS
from tests.documentation import require_offline
from tests.query_api.application import Application, serving
from tests.query_api.builders import (
    IMPORT_HEADERS,
    Event,
    FakeRecord,
    as_of_ms,
    batch_record,
    definition,
    import_record,
    ledger,
    look_value,
    results,
    segments,
    tick_record,
    tick_value,
)

ID = "checkout-color"
RESULTS = f"/v1/experiments/{ID}/results"
SERIES = f"/v1/experiments/{ID}/timeseries"


@pytest.fixture
async def app(dsn: str, database: str, client: Client) -> AsyncIterator[Application]:
    async with serving(dsn, database) as application:
        yield application


async def get(app: Application, path: str, **query: Any) -> Any:
    answer = await app.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def store(client: Client, records: list[FakeRecord]) -> dict[Source, Position]:
    sources = {Source(record.topic_, record.partition_) for record in records}
    writer = HistoryWriter(client, dict.fromkeys(sources, Position(0, 0)))
    for record in records:
        writer.take(record)
    writer.flush(record_progress=True)
    return writer.stored


def look_records(*ticks: int) -> list[FakeRecord]:
    return [FakeRecord(LOOKS.name, 0, i, look_value(tick)) for i, tick in enumerate(ticks)]


async def test_experiments_are_listed_as_they_are_defined(app: Application) -> None:
    app.publish(None, "second")
    app.publish(None, "first")

    assert await get(app, "/v1/experiments") == {
        "experiments": [definition("first"), definition("second")]
    }
    assert await get(app, "/v1/experiments/first") == definition("first")


async def test_results_are_the_published_ones_with_their_age(app: Application) -> None:
    app.publish(7)
    app.clock.now_ms = as_of_ms(7) + 84

    shown = await get(app, RESULTS)

    assert shown["look"].pop("age_ms") == 84
    assert shown["look"].pop("current_at") == shown["look"]["as_of"]
    expected = results(7)
    del expected["look"]["age_ms"]
    assert shown == expected


async def test_an_experiment_without_a_look_has_results_without_numbers(app: Application) -> None:
    app.publish(None)

    shown = await get(app, RESULTS)
    assert (shown["look"], shown["metrics"]) == (None, [])
    assert_problem(await app.http.get(RESULTS, params={"at": "1"}), 404, "look_not_found")
    assert_problem(await app.http.get(RESULTS, params={"tick": "3"}), 404, "look_not_yet")


async def test_a_past_look_comes_as_it_was_published(app: Application, client: Client) -> None:
    store(client, look_records(3, 5, 7))
    app.publish(7)
    app.clock.now_ms = as_of_ms(20)

    by_tick = await get(app, RESULTS, tick=6)
    by_time = await get(app, RESULTS, at=str(as_of_ms(6)))
    now = await get(app, RESULTS, tick=7)

    assert by_tick == by_time
    assert by_tick["metrics"] == results(5)["metrics"]
    assert by_tick["look"]["tick"] == 5
    assert "integers" not in by_tick
    assert now["look"]["tick"] == 7
    assert_problem(await app.http.get(RESULTS, params={"tick": 2}), 404, "look_not_found")


async def test_a_look_is_current_up_to_the_newest_tick_and_not_beyond(app: Application) -> None:
    """Nothing changed between the look's tick 7 and tick 12, the newest that is known of."""
    app.publish(7)
    app.parts.snapshots.ledger = ledger(12, {})
    app.clock.now_ms = as_of_ms(13)

    assert (await get(app, RESULTS, tick=12))["look"]["tick"] == 7
    assert (await get(app, RESULTS, at=as_of_ms(13)))["look"]["tick"] == 7
    for query in ({"tick": 13}, {"at": as_of_ms(13) + 1}):
        assert_problem(await app.http.get(RESULTS, params=query), 404, "look_not_yet")


async def test_a_past_that_the_history_has_not_read_is_not_guessed_at(
    app: Application, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "HISTORY_WAIT_S", 0.2)
    store(client, look_records(3))
    app.publish(7)

    answer = await app.http.get(RESULTS, params={"tick": 6})

    assert_problem(answer, 503, "history_behind")


async def test_a_look_that_is_not_stored_yet_is_waited_for(
    app: Application, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "HISTORY_WAIT_S", 60.0)
    store(client, look_records(3))
    app.publish(7)

    history, questions = app.parts.history, []
    look_at = history.look_at

    async def counting(*asked: Any, **of: Any) -> Any:
        questions.append(asked)
        return await look_at(*asked, **of)

    monkeypatch.setattr(history, "look_at", counting)

    asking = asyncio.create_task(get(app, RESULTS, tick=6))
    async with asyncio.timeout(60):
        while len(questions) < 3:
            assert not asking.done()
            await asyncio.sleep(0.01)
    assert not asking.done()
    await asyncio.to_thread(store, client, look_records(3, 5, 7))

    assert (await asking)["look"]["tick"] == 5


async def test_results_by_segment_are_of_the_look_that_is_asked_for(
    app: Application, client: Client
) -> None:
    store(client, look_records(3, 5, 7))
    app.publish(7)

    now = await get(app, RESULTS, segment="country")
    before = await get(app, RESULTS, segment="country", tick=6)

    assert (now["experiment_id"], now["attribute"], now["look"]["tick"]) == (ID, "country", 7)
    assert now["segments"] == segments(7)["country"]
    assert [one["value"] for one in now["segments"]] == ["CA", "US", "other"]
    assert (before["look"]["tick"], before["segments"]) == (5, segments(5)["country"])
    for shown in (await get(app, RESULTS), await get(app, RESULTS, tick=6)):
        assert "segments" not in shown


async def test_before_the_first_look_no_segment_has_results(app: Application) -> None:
    app.publish(None)

    shown = await get(app, RESULTS, segment="country")

    assert (shown["look"], shown["segments"]) == (None, [])


async def test_an_attribute_that_is_not_declared_says_which_are(app: Application) -> None:
    app.publish(7)

    answer = await app.http.get(RESULTS, params={"segment": "colour"})

    assert_problem(answer, 404, "unknown_segment")
    assert "declared are country" in answer.json()["detail"]


async def test_looks_are_listed_from_a_tick_on(app: Application, client: Client) -> None:
    store(client, look_records(3, 5, 7))
    app.publish(7)

    listed = (await get(app, f"/v1/experiments/{ID}/looks", from_tick=4, limit=1))["looks"]

    [look] = listed
    assert (look["tick"], look["as_of"], look["sha256"]) == (
        5,
        format_time_ms(as_of_ms(5)),
        f"{5:064x}",
    )
    assert (await get(app, f"/v1/experiments/{ID}/looks", from_tick=8))["looks"] == []


async def test_the_rows_of_an_event_are_found_by_its_ids(app: Application, client: Client) -> None:
    records = [
        batch_record(0, [Event(), Event(event_id="event-2"), Event(unit_id="unit-2")]),
        batch_record(1, [Event()]),
        batch_record(0, [Event()], topic=LATE.name),
    ]
    store(client, records)
    store(client, records)  # again, as after a crash

    found = await get(app, "/v1/history/rows", unit_id="unit-1", event_id="event-1")

    assert [(row["offset"], row["row"], row["variant"]) for row in found["events"]] == [
        (0, 0, "control"),
        (1, 0, "control"),
    ]
    assert len(found["late"]) == 1
    other = await get(app, "/v1/history/rows", unit_id="unit-1", event_id="event-1", unit_type="x")
    assert other == {"events": [], "late": []}


async def test_a_time_series_is_flat_rows(app: Application, client: Client) -> None:
    store(client, look_records(*range(10)))
    app.publish(9)

    found = await get(
        app, SERIES, metric="conversion", variant="treatment", basis="matured", step="1s"
    )

    assert [(row["ts"], row["tick"], row["effect"]) for row in found["rows"]] == [
        (as_of_ms(4), 4, 0.004),
        (as_of_ms(9), 9, 0.009),
    ]
    row = found["rows"][0]
    assert (row["low"], row["high"], row["p_value"]) == (-0.002392, 0.003192, 1.0)
    assert (found["method"], row["interval"]) == ("always_valid", "always_valid")
    assert not found["truncated"]


async def test_the_ledger_is_doors_engine_and_history(app: Application, client: Client) -> None:
    """Partition 0: 2 rows below the engine's offset 2, 3 above; partition 1: 1 row."""
    app.sink.stored = store(
        client,
        [
            batch_record(0, [Event()] * 2),
            tick_record(1),
            batch_record(2, [Event()] * 3),
            batch_record(0, [Event()], partition=1),
            batch_record(0, [Event()] * 4, topic=LATE.name),
            FakeRecord(DEAD_LETTERS.name, 0, 0, b"7"),
        ],
    )
    app.parts.snapshots.ledger = ledger(9, {0: (2, 2), 1: (1, 1)})

    found = await get(app, "/v1/ledger")

    assert found["balanced"]
    assert found["doors"] == {"posted": 11, "received": 6, "late": 4, "rejected": 1}
    assert found["rows"]["received"] == 3
    assert [one["offset"] for one in found["partitions"]] == [2, 1]
    assert found["experiments"] == ledger(9, {})["experiments"]
    assert found["clickhouse"] == {"rows": 6, "missing": 0, "extra": 0}


@pytest.mark.parametrize("partition", [(1, 3), (2, 4), (3, 4)])
async def test_a_row_that_the_engine_lost_or_counted_twice_unbalances(
    app: Application, client: Client, partition: tuple[int, int]
) -> None:
    """The log holds 3 rows at offset 0 and 2 at offset 1."""
    app.sink.stored = store(
        client, [batch_record(0, [Event()] * 3), batch_record(1, [Event()] * 2), tick_record(2)]
    )
    app.parts.snapshots.ledger = ledger(9, {0: partition})

    balanced = (await get(app, "/v1/ledger"))["balanced"]

    assert balanced == (partition == (1, 3))


async def test_fates_that_do_not_add_up_unbalance(app: Application, client: Client) -> None:
    app.sink.stored = store(client, [batch_record(0, [Event()] * 3)])
    record = ledger(9, {0: (1, 3)})
    record["partitions"][0]["duplicate"] = 1
    app.parts.snapshots.ledger = record

    assert not (await get(app, "/v1/ledger"))["balanced"]


async def test_the_ledger_says_when_the_history_is_behind_the_engine(
    app: Application, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "HISTORY_WAIT_S", 0.1)
    app.sink.stored = store(client, [batch_record(0, [Event()] * 3)])
    app.parts.snapshots.ledger = ledger(9, {0: (2, 5)})

    found = await get(app, "/v1/ledger")

    assert (found["balanced"], found["behind"]) == (False, [0])
    assert (found["status"], found["reasons"][0]["code"]) == ("catching_up", "history_behind")
    assert found["partitions"][0]["history_rows_behind"] == 2


def reasons_of(found: Any) -> list[tuple[str, str, int | None]]:
    assert found["balanced"] == (not found["reasons"])
    return [(one["code"], one["stage"], one["partition"]) for one in found["reasons"]]


async def test_the_ledger_says_what_differs_and_where(app: Application, client: Client) -> None:
    """Partition 0 lost one of 3 rows, partition 1 counted one twice; one late row is gone."""
    app.sink.stored = store(
        client,
        [
            batch_record(0, [Event()] * 3),
            batch_record(0, [Event()], partition=1),
            batch_record(0, [Event()] * 4, topic=LATE.name),
        ],
    )
    app.parts.snapshots.ledger = ledger(9, {0: (1, 2), 1: (1, 2)})
    client.command("DELETE FROM late WHERE row = 3")

    found = await get(app, "/v1/ledger")

    assert found["status"] == "unbalanced"
    assert reasons_of(found) == [
        ("engine_lost_rows", "engine", 0),
        ("engine_extra_rows", "engine", 1),
        ("history_missing", "clickhouse", None),
    ]
    assert [one["difference"] for one in found["partitions"]] == [-1, 1]
    assert found["set_aside"]["late"] == {"rows": 3, "missing": 1, "extra": 0}
    chain = {one["stage"]: (one["count"], one["difference"]) for one in found["stages"]}
    assert chain == {
        "doors": (8, 0),
        "log": (4, 0),
        "engine": (4, 2),
        "looks": (0, 0),
        "clickhouse": (4, 1),
        "imports": (0, 0),
    }


def an_import(sha256_of: dict[int, str], *, lost: int | None = None) -> list[FakeRecord]:
    """Return two batches of 2 + 2 rows, the first sent twice, and a third that is under way.

    Args:
        sha256_of: Batch to the content that stands in the log, if it is not the one agreed on.
        lost: Number of a batch of which partition 1 has no part.
    """
    steps = [Import("spend", 0, ["spend"], 1, 2)]
    for number, content in ((1, "a"), (2, "b"), (3, "c")):
        done, rows = number - 1, 4 * (number - 1)
        reserved = ImportBatch(number, content, 4)
        before = msgspec.structs.replace(steps[0], done=done, row_count=rows)
        steps.append(msgspec.structs.replace(before, reserved=reserved))
        steps.append(msgspec.structs.replace(before, done=number, row_count=rows + 4))
    records: list[FakeRecord] = []
    ends = {0: 0, 1: 0}

    def send(record: FakeRecord) -> None:
        partition = record.partition_
        records.append(record._replace(offset_=ends[partition]))
        ends[partition] += 1

    for tick, step in enumerate(steps[:-1], 1):
        for partition in ends:
            value = tick_value(tick, step)
            send(tick_record(0, partition=partition)._replace(value_=value))
        if step.reserved is None:
            continue
        for partition in ends:
            number = step.reserved.number
            if (partition, number) == (1, lost):
                continue
            content = sha256_of.get(number, step.reserved.sha256)
            part = import_record(0, partition=partition, number=number, sha256=content)
            for _ in range(2 if number == 1 else 1):
                send(part)
    return records


ALL_TAKEN = {"spend": {"parts": 6, "rows": 12}}
"""What the engine takes of ``an_import``: of the batch that is under way, too."""


async def imports_of(
    app: Application, client: Client, records: list[FakeRecord], taken: Any = ALL_TAKEN
) -> Any:
    """Return the ledger when the engine has accounted for all of it, at the last tick, 6."""
    app.sink.stored = store(client, records)
    ends = {partition: sum(one.partition_ == partition for one in records) for partition in (0, 1)}
    app.parts.snapshots.ledger = ledger(6, {one: (end, 0) for one, end in ends.items()}, taken)
    return await get(app, "/v1/ledger")


async def test_rows_of_imports_are_a_stage_of_their_own(app: Application, client: Client) -> None:
    found = await imports_of(app, client, an_import({}))

    assert found["balanced"], found["reasons"]
    assert found["imports"] == [
        {
            "import_id": "spend",
            "batches": 2,
            "rows": 8,
            "rows_in_flight": 4,
            "log_rows": 8,
            "difference": 0,
            "parts_missing": 0,
            "engine_rows": 12,
            "engine_difference": 0,
            "engine_parts_difference": 0,
            "balanced": True,
        }
    ]
    stage = found["stages"][-1]
    assert (stage["stage"], stage["count"], stage["in_flight"]) == ("imports", 8, 4)


@pytest.mark.parametrize(
    ("records", "parts_taken"), [(an_import({}, lost=2), 4), (an_import({2: "z"}), 2)]
)
async def test_rows_of_an_import_that_the_log_lacks_unbalance(
    app: Application, client: Client, records: list[FakeRecord], parts_taken: int
) -> None:
    """One part is gone, or a batch has another content than was agreed on, which is void.

    Where a number is missing, the engine takes none after it.
    """
    taken = {"spend": {"parts": parts_taken, "rows": 2 * parts_taken}}

    found = await imports_of(app, client, records, taken)

    assert found["status"] == "unbalanced"
    assert reasons_of(found) == [
        ("import_missing", "imports", None),
        ("engine_lost_imports", "imports", None),
    ]
    assert "import spend: 8 rows of 2 batches are done" in found["reasons"][0]["message"]
    one = found["imports"][0]
    assert one["difference"] < 0 > one["engine_difference"]
    assert found["stages"][-1]["difference"] == -one["difference"] - one["engine_difference"]


@pytest.mark.parametrize(
    ("taken", "reason", "difference"),
    [
        ({"parts": 6, "rows": 11}, "engine_lost_imports", 1),
        ({"parts": 5, "rows": 12}, "engine_lost_imports", 1),
        ({"parts": 5, "rows": 10}, "engine_lost_imports", 2),
        ({"parts": 6, "rows": 14}, "engine_extra_imports", 2),
        ({"parts": 7, "rows": 12}, "engine_extra_imports", 1),
    ],
)
async def test_imports_that_the_engine_took_otherwise_than_the_log_holds_them_unbalance(
    app: Application, client: Client, taken: Any, reason: str, difference: int
) -> None:
    found = await imports_of(app, client, an_import({}), {"spend": taken})

    assert reasons_of(found) == [(reason, "imports", None)]
    assert not found["imports"][0]["balanced"]
    assert found["stages"][-1]["difference"] == difference


async def test_an_import_that_the_engine_took_nothing_of_unbalances(
    app: Application, client: Client
) -> None:
    found = await imports_of(app, client, an_import({}), {})

    assert reasons_of(found) == [("engine_lost_imports", "imports", None)]
    assert found["imports"][0]["engine_difference"] == -12


async def test_parts_that_the_engine_has_not_come_to_are_no_difference(
    app: Application, client: Client
) -> None:
    """Its account ends before the last part of either partition: the batch that is under way."""
    records = an_import({})
    app.sink.stored = store(client, records)
    last = {
        partition: max(one.offset_ for one in records if one.partition_ == partition)
        for partition in (0, 1)
    }
    taken = {"spend": {"parts": 4, "rows": 8}}
    app.parts.snapshots.ledger = ledger(6, {one: (end, 0) for one, end in last.items()}, taken)

    found = await get(app, "/v1/ledger")

    assert found["balanced"], found["reasons"]
    assert found["imports"][0]["engine_rows"] == 8


async def test_an_import_that_not_every_partition_has_accounted_for_is_waited_for(
    app: Application, client: Client
) -> None:
    app.sink.stored = store(client, an_import({}))
    await imports_of(app, client, an_import({}))
    app.parts.snapshots.ledger = app.parts.snapshots.ledger | {"imports": None}

    found = await get(app, "/v1/ledger")

    assert found["status"] == "catching_up"
    assert reasons_of(found) == [("engine_silent", "imports", None)]
    assert found["imports"][0]["engine_rows"] is None


async def test_rows_of_an_import_beyond_those_that_are_done_unbalance(
    app: Application, client: Client
) -> None:
    records = an_import({})
    at = next(at for at, one in enumerate(records) if one.headers_ == IMPORT_HEADERS)
    more = import_record(records[at].offset_, partition=records[at].partition_, rows=3)
    for again in (at, at + 1):  # it is sent twice
        records[again] = more._replace(offset_=records[again].offset_)
    taken = {"spend": {"parts": 6, "rows": 13}}

    found = await imports_of(app, client, records, taken)

    assert reasons_of(found) == [("import_extra", "imports", None)]


async def test_rows_that_the_history_lost_or_made_up_unbalance(
    app: Application, client: Client
) -> None:
    app.sink.stored = store(client, [batch_record(0, [Event()] * 3), tick_record(1)])
    app.parts.snapshots.ledger = ledger(9, {0: (2, 3)})
    assert (await get(app, "/v1/ledger"))["balanced"]

    client.command("DELETE FROM events WHERE row = 1")

    found = await get(app, "/v1/ledger", thorough=True)
    assert found["clickhouse"] == {"rows": 2, "missing": 1, "extra": 0}
    assert reasons_of(found) == [("history_missing", "clickhouse", None)]


async def test_a_tick_with_two_sets_of_numbers_unbalances(app: Application, client: Client) -> None:
    twin = FakeRecord(LOOKS.name, 0, 2, look_value(5).replace(b"%064x" % 5, b"%064x" % 6))
    app.sink.stored = store(client, [*look_records(3, 5), twin])

    found = await get(app, "/v1/ledger")

    assert reasons_of(found) == [("looks_conflict", "looks", None)]
    assert (found["looks"]["published"], found["looks"]["conflicting"]) == (3, 1)


async def test_what_is_not_read_yet_is_in_flight_and_no_difference(
    app: Application, client: Client
) -> None:
    """5 rows are in the history, 3 of them below the engine's offset; 4 messages are unread."""
    app.sink.stored = store(
        client, [batch_record(0, [Event()] * 3), batch_record(1, [Event()] * 2)]
    )
    app.sink.log_ends = {Source(EVENTS.name, 0): 6}
    app.parts.snapshots.ledger = ledger(9, {0: (1, 3)})

    found = await get(app, "/v1/ledger")

    assert found["balanced"]
    stages = {one["stage"]: one for one in found["stages"]}
    assert (stages["engine"]["in_flight"], stages["engine"]["difference"]) == (2, 0)
    assert stages["clickhouse"]["messages_unread"] == 4
    assert found["partitions"][0]["log_end"] == 6


async def test_a_look_at_the_ledger_compares_what_came_since_the_last_one(
    app: Application, client: Client
) -> None:
    """One row of the first batch is lost after it was compared, two of the second before."""
    records = [batch_record(0, [Event()] * 3), batch_record(1, [Event()] * 2)]
    app.sink.stored = store(client, records[:1])
    app.parts.snapshots.ledger = ledger(9, {0: (1, 3)})
    assert (await get(app, "/v1/ledger"))["clickhouse"] == {"rows": 3, "missing": 0, "extra": 0}
    app.sink.stored = store(client, records)
    client.command("DELETE FROM events WHERE kafka_offset = 1 OR row = 2")

    for _ in range(2):
        found = await get(app, "/v1/ledger")
        assert found["clickhouse"] == {"rows": 3, "missing": 2, "extra": 0}
        assert reasons_of(found) == [("history_missing", "clickhouse", None)]

    for thorough in (True, False):
        found = await get(app, "/v1/ledger", thorough=thorough)
        assert found["clickhouse"] == {"rows": 2, "missing": 3, "extra": 0}


async def test_the_ledger_says_how_old_looks_are_and_how_far_settled_is_behind(
    app: Application,
) -> None:
    app.sink.stored = {Source(EVENTS.name, 0): Position(0, 0)}
    app.parts.snapshots.ledger = ledger(9, {}) | {"settled": format_time_ms(as_of_ms(9) - 700)}
    app.clock.now_ms = as_of_ms(9) + 30

    looks = (await get(app, "/v1/ledger"))["looks"]

    assert (looks["age_ms"], looks["settled_lag_ms"]) == (30, 700)


async def test_a_stack_without_events_is_balanced(app: Application) -> None:
    app.sink.stored = {Source(EVENTS.name, 0): Position(0, 0)}

    found = await get(app, "/v1/ledger")

    assert found["balanced"]
    assert not any(found["doors"].values())
    assert not any(found["rows"].values())


BAD = [
    ("/v1/experiments/nobody", 404, "unknown_experiment"),
    ("/v1/experiments/nobody/results", 404, "unknown_experiment"),
    ("/v1/experiments/nobody/timeseries", 404, "unknown_experiment"),
    ("/v1/experiments/nobody/events", 404, "unknown_experiment"),
    (RESULTS + "?segment=colour", 404, "unknown_segment"),
    (RESULTS + "?segment=country&tick=99", 404, "look_not_yet"),
    (RESULTS + "?tick=soon", 422, "invalid_parameter"),
    (RESULTS + "?tick=-1", 422, "invalid_parameter"),
    (RESULTS + "?tick=99999999999999999999", 422, "invalid_parameter"),
    (RESULTS + "?at=yesterday", 422, "invalid_parameter"),
    (RESULTS + "?at=2026-11-21T18:00:00", 422, "invalid_parameter"),
    (RESULTS + "?tick=99", 404, "look_not_yet"),
    (RESULTS + "?tick=1&at=1", 422, "invalid_parameter"),
    (SERIES + "?metric=revenue", 422, "invalid_parameter"),
    (SERIES + "?variant=blue", 422, "invalid_parameter"),
    (SERIES + "?basis=closed", 422, "invalid_parameter"),
    (SERIES + "?step=0s", 422, "invalid_parameter"),
    (SERIES + "?from=never", 422, "invalid_parameter"),
    ("/v1/nothing", 404, "not_found"),
]


@pytest.mark.parametrize(("path", "status", "code"), BAD)
async def test_a_wrong_question_gets_a_problem(
    app: Application, path: str, status: int, code: str
) -> None:
    app.publish(7)

    answer = await app.http.get(path)

    assert_problem(answer, status, code)
    if status == 422:
        assert {"field", "message", "code"} == answer.json()["errors"][0].keys()


async def test_a_wrong_method_gets_a_problem(app: Application) -> None:
    answer = await app.http.post("/v1/experiments")

    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


async def test_before_the_snapshots_are_read_nothing_is_unknown(app: Application) -> None:
    app.parts.snapshots.caught_up = False

    answer = await app.http.get(RESULTS)

    assert_problem(answer, 503, "not_ready")
    assert answer.headers["retry-after"] == "1"


async def test_a_history_that_fails_costs_the_past_and_not_the_present(
    dsn: str, fresh_database: str
) -> None:
    async with serving(dsn, fresh_database) as app:  # without tables
        app.publish(7)
        app.sink.stored = {Source(EVENTS.name, 0): Position(0, 0)}

        for path in (RESULTS + "?tick=3", SERIES, "/v1/ledger"):
            assert_problem(await app.http.get(path), 503, "history_unavailable")
        assert (await get(app, RESULTS))["look"]["tick"] == 7


async def test_a_history_that_takes_too_long_says_so_and_how_to_ask(
    dsn: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(dsn, database) as app:
        app.publish(7)
        monkeypatch.setattr(queries, "ANSWER_TIMEOUT_S", 0.0)

        answer = await app.http.get(SERIES)

        assert_problem(answer, 503, "history_timeout")
        assert "a shorter span of time" in answer.json()["detail"]


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert {"type", "title", "detail"} <= body.keys()


async def test_ready_means_that_snapshots_are_read_and_says_how_the_history_is(
    app: Application,
) -> None:
    assert (await app.http.get("/ready")).status_code == 200
    app.sink.caught_up, app.sink.failure = False, "no room"
    behind = await app.http.get("/ready")
    assert (behind.status_code, behind.json()["ready"]) == (200, True)
    assert behind.json()["history"] == {"caught_up": False, "failure": "no room"}
    app.sink.caught_up, app.parts.snapshots.caught_up = True, False
    assert (await app.http.get("/ready")).status_code == 503
    assert (await app.http.get("/health")).json() == {"status": "ok"}


async def test_metrics_docs_and_the_page_are_there(app: Application) -> None:
    assert "litmus_query_live_clients" in (await app.http.get("/metrics")).text
    await require_offline(app.http)
    assert "/v1/ledger" in (await app.http.get("/openapi.json")).json()["paths"]
    assert (await app.http.get("/")).headers["content-type"].startswith("text/html")
    assert (await app.http.get("/static/app.js")).status_code == 200
