"""What the history answers: the look of a moment, time series, and what the log holds."""

import asyncio
from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from query_api.history import queries
from query_api.history.queries import (
    PENDING_MAX,
    READERS,
    Comparison,
    History,
    HistoryTooSlowError,
    HistoryUnavailableError,
    Span,
)
from query_api.history.writer import HistoryWriter, Position
from query_api.kafka_log import Source
from schemas.topics import EVENTS, LATE, LOOKS
from tests.query_api.builders import (
    Event,
    FakeRecord,
    as_of_ms,
    batch_record,
    look_value,
    tick_record,
)

ID = "checkout-color"


@pytest.fixture
def history(dsn: str, database: str, client: Client) -> Iterator[History]:
    found = History(dsn, database)
    yield found
    found.close()


def store(client: Client, records: list[FakeRecord]) -> HistoryWriter:
    sources = {Source(record.topic_, record.partition_) for record in records}
    writer = HistoryWriter(client, dict.fromkeys(sources, Position(0, 0)))
    for record in records:
        writer.take(record)
    writer.flush(record_progress=True)
    return writer


def looks(ticks: list[int]) -> list[FakeRecord]:
    return [
        FakeRecord(LOOKS.name, 0, offset, look_value(tick)) for offset, tick in enumerate(ticks)
    ]


@pytest.mark.parametrize(
    ("tick", "found", "has_later"), [(4, None, True), (5, 5, True), (8, 5, True), (9, 9, False)]
)
async def test_a_tick_gives_the_look_published_then(
    history: History, client: Client, tick: int, found: int | None, *, has_later: bool
) -> None:
    store(client, looks([5, 9]))

    by_tick = await history.look_at(ID, tick=tick)
    by_time = await history.look_at(ID, at_ms=as_of_ms(tick) + 199)

    expected = None if found is None else look_value(found)
    assert by_tick == by_time == (expected, has_later)
    assert (await history.look_at("another", tick=9)).text is None


async def test_a_time_series_has_the_last_look_of_each_step(
    history: History, client: Client
) -> None:
    store(client, looks(list(range(20))))

    every, _ = await history.timeseries(ID, Span(variant="treatment", basis="matured"))
    steps, _ = await history.timeseries(
        ID, Span(step_ms=1_000, metric_id="conversion", variant="treatment", basis="matured")
    )

    assert [row["tick"] for row in every] == list(range(20))
    assert [(row["tick"], row["ts"]) for row in steps] == [
        (tick, as_of_ms(tick)) for tick in (4, 9, 14, 19)
    ]
    assert steps[0]["effect"] == 0.004


async def test_a_time_series_is_bounded_by_times(history: History, client: Client) -> None:
    store(client, looks(list(range(20))))

    rows, is_truncated = await history.timeseries(ID, Span(as_of_ms(3), as_of_ms(5)))

    assert not is_truncated
    assert {row["tick"] for row in rows} == {3, 4, 5}
    assert len(rows) == 3 * 2 * 2, "three looks, two bases, two variants"
    assert [row["ts"] for row in rows] == sorted(row["ts"] for row in rows)


async def test_rows_below_an_offset_are_those_of_the_log(history: History, client: Client) -> None:
    """Partition 0: 2 rows at offset 0, a tick, 3 rows at offset 2."""
    store(
        client,
        [
            batch_record(0, [Event()] * 2),
            tick_record(1),
            batch_record(2, [Event()] * 3),
            batch_record(0, [Event()], partition=1),
        ],
    )

    for offset, rows in enumerate([0, 2, 2, 5, 5]):
        assert await history.rows_below({0: offset, 1: 1, 7: 9}) == {0: rows, 1: 1, 7: 0}
    assert await history.rows_below({}) == {}


async def test_rows_are_counted_on_over_inserts(history: History, client: Client) -> None:
    writer = store(client, [batch_record(0, [Event()] * 2)])
    writer.take(batch_record(1, [Event()] * 3))
    writer.flush(record_progress=True)

    assert await history.rows_below({0: 2}) == {0: 5}


async def compared(history: History, offsets: dict[int, int]) -> Comparison:
    stored = {Source(EVENTS.name, partition): Position(at, 0) for partition, at in offsets.items()}
    return (await history.check(stored, is_thorough=True)).events


async def test_a_comparison_finds_what_is_missing_and_what_is_too_much(
    history: History, client: Client
) -> None:
    store(client, [batch_record(0, [Event()] * 3), batch_record(1, [Event()] * 2)])
    assert await compared(history, {0: 2}) == Comparison(rows=5, missing=0, extra=0)

    client.command("DELETE FROM events WHERE kafka_offset = 0 AND row = 1")
    client.command("ALTER TABLE batches DELETE WHERE kafka_offset = 1 SETTINGS mutations_sync = 1")

    assert await compared(history, {0: 2}) == Comparison(rows=4, missing=1, extra=2)


async def test_what_was_inserted_twice_is_there_once(history: History, client: Client) -> None:
    records = [batch_record(0, [Event()] * 3)]
    store(client, records)
    store(client, records)

    assert await compared(history, {0: 1}) == Comparison(rows=3, missing=0, extra=0)


async def test_rows_above_the_position_are_not_compared(history: History, client: Client) -> None:
    store(client, [batch_record(0, [Event()] * 3), batch_record(1, [Event()] * 2)])

    assert await compared(history, {0: 1}) == Comparison(rows=3, missing=0, extra=0)
    assert await compared(history, {}) == Comparison(rows=0, missing=0, extra=0)


async def test_what_was_stored_before_the_process_is_believed_and_what_came_since_is_compared(
    history: History, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each of four batches, and of each of four late ones, a row is lost."""
    monkeypatch.setattr(queries, "MESSAGES_AT_ONCE", 1)  # several queries
    batches = [
        batch_record(offset, [Event()] * (offset + 2), topic=topic)
        for topic in (EVENTS.name, LATE.name)
        for offset in range(4)
    ]
    stored = store(client, batches).stored
    begun = {Source(EVENTS.name, 0): Position(2, 5), Source(LATE.name, 0): Position(2, 5)}
    for table in ("events", "late"):
        client.command(f"DELETE FROM {table} WHERE row = 0")

    found = await history.check(stored, begun=begun)
    everything = await history.check(stored, is_thorough=True)

    assert found.events == found.late == Comparison(rows=5 + 3 + 4, missing=2, extra=0)
    assert found.log_rows == everything.log_rows == sum(found.offsets_rows.values()) == 14
    assert everything.events == everything.late == Comparison(rows=10, missing=4, extra=0)


async def test_a_history_that_begins_anew_is_compared_from_its_beginning(
    history: History, client: Client
) -> None:
    batches = [batch_record(offset, [Event()] * 2) for offset in range(3)]
    long = store(client, batches).stored
    await history.check(long)
    client.command("TRUNCATE TABLE events")
    client.command("TRUNCATE TABLE batches")

    found = await history.check(store(client, batches[:1]).stored, begun=long)

    assert found.events == Comparison(rows=2, missing=0, extra=0)


@pytest.mark.parametrize("is_thorough", [False, True])
async def test_a_look_published_again_with_other_numbers_is_found_however_old_its_tick_is(
    history: History, client: Client, *, is_thorough: bool
) -> None:
    writer = store(client, looks(list(range(1, 40))))
    again = [look_value(3), look_value(7).replace(b"%064x" % 7, b"%064x" % 8)]
    for offset, value in enumerate(again, 39):
        writer.take(FakeRecord(LOOKS.name, 0, offset, value))
    writer.flush(record_progress=True)

    begun = {Source(LOOKS.name, 0): Position(41, 41)}
    found = await history.check(writer.stored, begun=begun, is_thorough=is_thorough)

    assert found.looks_conflicting == 1


async def test_tables_that_are_not_there_are_an_unavailable_history(
    dsn: str, fresh_database: str
) -> None:
    history = History(dsn, fresh_database)
    try:
        with pytest.raises(HistoryUnavailableError):
            await history.look_at(ID, tick=1)
    finally:
        history.close()


async def test_more_questions_than_may_wait_are_refused_at_once_and_the_others_answered(
    history: History, client: Client
) -> None:
    store(client, looks([5]))
    asked = [asyncio.create_task(history.look_at(ID, tick=5)) for _ in range(PENDING_MAX)]
    await asyncio.sleep(0)

    with pytest.raises(HistoryUnavailableError, match="questions wait"):
        await history.look_at(ID, tick=5)
    found = await asyncio.gather(*asked)

    assert {one.text for one in found} == {look_value(5)}
    assert (await history.look_at(ID, tick=5)).text == look_value(5)


async def test_a_question_without_an_answer_ends(
    history: History, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "ANSWER_TIMEOUT_S", 0.0)
    monkeypatch.setitem(
        queries._LAST_LOOK,
        "tick",
        "SELECT toString(sleep(0.5)), {experiment:String}, {bound:Int64}",
    )
    with pytest.raises(HistoryTooSlowError, match="no answer within"):
        await history.look_at(ID, tick=5)


async def test_a_later_query_of_a_question_has_only_what_is_left_of_its_time(
    history: History, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "ANSWER_TIMEOUT_S", 200.0)
    asked = "SELECT {what}, {{experiment:String}}, {{bound:Int64}}"
    monkeypatch.setitem(queries._LATER_LOOKS, "tick", asked.format(what="sleep(2)"))
    limit = asked.format(what="toString(getSetting('max_execution_time'))")
    monkeypatch.setitem(queries._LAST_LOOK, "tick", limit)

    text = (await history.look_at(ID, tick=5)).text

    assert text is not None
    assert 0 < float(text) <= 198


async def test_a_query_without_an_end_is_ended_with_its_question_and_frees_its_reader(
    history: History, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(queries, "ANSWER_TIMEOUT_S", 0.5)
        endless = "SELECT count(), {experiment:String}, {bound:Int64} FROM system.numbers"
        patched.setitem(queries._LATER_LOOKS, "tick", endless)
        asked = [history.look_at(ID, tick=5) for _ in range(READERS)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [HistoryTooSlowError] * READERS

    async with asyncio.timeout(120):
        while history._pending:
            await asyncio.sleep(0.05)
    monkeypatch.setattr(queries, "ANSWER_TIMEOUT_S", 120.0)
    assert (await history.look_at(ID, tick=5)).text is None
