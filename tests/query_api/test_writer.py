"""The tables hold exactly what was produced, whatever the batching and wherever a writer dies."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from query_api.history.writer import (
    HistoryWriter,
    OffsetGapError,
    Position,
    UnreadableRecordError,
    stored_positions,
)
from query_api.kafka_log import Source
from schemas.control import Import
from schemas.topics import DEAD_LETTERS, EVENTS, LATE, LOOKS
from tests.query_api.builders import (
    BATCH_HEADERS,
    IMPORT_HEADERS,
    LOG_ID,
    NOW_MS,
    TICK_HEADERS,
    Event,
    FakeRecord,
    batch_record,
    import_record,
    look_value,
    tick_record,
    tick_value,
)

PARTITIONS = 2
TABLES = (
    "events",
    "late",
    "batches",
    "dead_letters",
    "looks",
    "look_rows",
    "progress",
    "import_states",
    "import_parts",
)
SOURCES = [
    *(Source(EVENTS.name, partition) for partition in range(PARTITIONS)),
    *(Source(topic.name, 0) for topic in (LATE, DEAD_LETTERS, LOOKS)),
]

events = st.builds(
    Event,
    unit_id=st.sampled_from(["unit-1", "unit-2", "Einheit-ü"]),
    event_id=st.sampled_from(["event-1", "event-2", "event-3"]),
    experiment_id=st.sampled_from(["checkout-color", None]),
    variant=st.sampled_from(["control", "treatment", None]),
    metric=st.sampled_from(["purchase", None]),
    attributes=st.sampled_from(['{"country":"CA"}', None]),
    value=st.floats(allow_nan=False, allow_infinity=False),
    timestamp=st.integers(0, NOW_MS),
    received_at=st.integers(NOW_MS, NOW_MS + 10**10),
    allocation_version=st.sampled_from([None, -1, 2**62]),
)
messages = st.one_of(
    st.sampled_from(["tick", "import"]),
    st.lists(events, max_size=4),
    st.lists(events, min_size=1, max_size=4),
)
logs = st.lists(
    st.tuples(st.integers(0, PARTITIONS - 1), messages, st.booleans()), min_size=1, max_size=12
)


class KilledError(Exception):
    """The process died here."""


class DyingClient:
    """Dies before or after its n-th insert, as a killed process does."""

    def __init__(self, client: Client, inserts: int, *, after: bool) -> None:
        self._client = client
        self._left = inserts
        self._after = after

    def query(self, *args: Any, **kwargs: Any) -> Any:
        return self._client.query(*args, **kwargs)

    def insert_arrow(self, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left < 0 and not self._after:
            raise KilledError
        summary = self._client.insert_arrow(*args, **kwargs)
        if self._left < 0:
            raise KilledError
        return summary


def records_of(log: list[tuple[int, Any, bool]]) -> list[FakeRecord]:
    """Return the log as records: events and ticks by partition; late ones, letters and looks."""
    next_offset = dict.fromkeys(range(PARTITIONS), 0)
    late_count, records = 0, []
    for partition, message, is_late in log:
        if message == "tick":
            offset = next_offset[partition]
            declared = Import("spend", 0, ["spend"], 1, 2, offset)
            tick = tick_record(offset, partition=partition)
            records.append(tick._replace(value_=tick_value(offset + 1, declared)))
        elif message == "import":
            records.append(import_record(next_offset[partition], partition=partition))
        elif is_late:
            records.append(batch_record(late_count, message, topic=LATE.name))
            late_count += 1
            continue
        else:
            records.append(batch_record(next_offset[partition], message, partition=partition))
        next_offset[partition] += 1
    for offset in range(2):
        records.append(FakeRecord(LOOKS.name, 0, offset, look_value(offset + 1)))
        headers = (("litmus.dlq.code", b"malformed"), ("litmus.dlq.topic", b"http"))
        records.append(FakeRecord(DEAD_LETTERS.name, 0, offset, b"\xff\x00", headers))
    return records


def contents(client: Client) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: sorted(client.query(f"SELECT * FROM {table} FINAL").result_rows, key=repr)
        for table in TABLES
    }


def expected_events(records: list[FakeRecord], log: list[tuple[int, Any, bool]]) -> list[Any]:
    """Return the rows as plain Python has them: partition, offset, row and the event."""
    batches = [(message, late) for _, message, late in log if isinstance(message, list)]
    found = iter(batches)
    rows = []
    for record in records:
        if record.headers_ != BATCH_HEADERS:
            continue
        batch, is_late = next(found)
        if not is_late:
            position = (record.partition_, record.offset_)
            rows += [(*position, row, event) for row, event in enumerate(batch)]
    return rows


def empty(client: Client) -> None:
    for table in TABLES:
        client.command(f"TRUNCATE TABLE {table}")


def writer_on(client: Any, reads: Client) -> HistoryWriter:
    stored = stored_positions(reads)
    return HistoryWriter(client, dict.fromkeys(SOURCES, Position(0, 0)) | stored)


def unread(records: list[FakeRecord], writer: HistoryWriter) -> Iterator[FakeRecord]:
    for record in records:
        if record.offset_ >= writer.stored[Source(record.topic_, record.partition_)].next_offset:
            yield record


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(log=logs, flush_at=st.sets(st.integers(0, 15)))
def test_every_row_is_stored_once_whatever_the_batching(
    client: Client, log: list[tuple[int, Any, bool]], flush_at: set[int]
) -> None:
    empty(client)
    records = records_of(log)
    writer = writer_on(client, client)

    for index, record in enumerate(records):
        writer.take(record)
        if index in flush_at:
            writer.flush(record_progress=False)
    writer.flush(record_progress=True)

    columns = (
        "kafka_partition, kafka_offset, row, unit_id, event_id, experiment_id, variant, metric,"
        " attributes, value, toUnixTimestamp64Milli(timestamp),"
        " toUnixTimestamp64Milli(received_at), allocation_version, toInt8(kind), unit_type, door"
    )
    stored = client.query(f"SELECT {columns} FROM events FINAL ORDER BY 1, 2, 3").result_rows
    expected = [
        (partition, offset, row, *event, int(event.metric is not None), "user", "http")
        for partition, offset, row, event in sorted(
            expected_events(records, log), key=lambda r: r[:3]
        )
    ]
    assert stored == expected
    assert stored_positions(client) == {
        source: position for source, position in writer.stored.items() if position.next_offset
    }


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(log=logs, data=st.data())
def test_a_writer_killed_at_any_insert_leaves_the_same_tables(
    client: Client, log: list[tuple[int, Any, bool]], data: st.DataObject
) -> None:
    records = records_of(log)
    empty(client)
    undisturbed = writer_on(client, client)
    for record in records:
        undisturbed.take(record)
    undisturbed.flush(record_progress=True)
    wanted = contents(client)
    empty(client)

    for _ in range(data.draw(st.integers(1, 3))):
        dying = DyingClient(client, data.draw(st.integers(0, 12)), after=data.draw(st.booleans()))
        writer = writer_on(dying, client)
        flush_every = data.draw(st.integers(1, 6))
        try:
            for index, record in enumerate(unread(records, writer)):
                writer.take(record)
                if index % flush_every == 0:
                    writer.flush(record_progress=data.draw(st.booleans()))
        except KilledError:
            continue
    last = writer_on(client, client)
    for record in unread(records, last):
        last.take(record)
    last.flush(record_progress=True)

    assert contents(client) == wanted


def test_progress_never_runs_ahead_of_the_rows(client: Client) -> None:
    writer = writer_on(DyingClient(client, 1, after=False), client)
    writer.take(batch_record(0, [Event()]))

    with pytest.raises(KilledError):
        writer.flush(record_progress=True)

    assert stored_positions(client) == {}
    assert writer.stored[SOURCES[0]] == Position(0, 0)


def test_a_partition_that_lost_its_beginning_is_read_from_where_it_starts(client: Client) -> None:
    writer = writer_on(client, client)
    writer.start_at(SOURCES[0], 5)

    writer.take(batch_record(5, [Event()] * 2))
    writer.flush(record_progress=True)

    assert stored_positions(client) == {SOURCES[0]: Position(6, 2)}


def test_ticks_advance_the_position_without_an_insert(client: Client) -> None:
    writer = writer_on(client, client)
    writer.take(tick_record(0))

    writer.flush(record_progress=False)

    assert writer.stored[SOURCES[0]] == Position(1, 0)
    assert stored_positions(client) == {}


@pytest.mark.parametrize("offset", [0, 2])
def test_a_missing_or_repeated_record_stops_the_writer(client: Client, offset: int) -> None:
    writer = writer_on(client, client)
    writer.take(batch_record(0, [Event()]))

    with pytest.raises(OffsetGapError, match=f"offset == {offset}, must be 1"):
        writer.take(batch_record(offset, [Event()]))


@pytest.mark.parametrize(
    ("topic", "value", "headers"),
    [
        (EVENTS.name, b"no arrow", BATCH_HEADERS),
        (EVENTS.name, None, BATCH_HEADERS),
        (EVENTS.name, b"{}", ()),
        (EVENTS.name, b"{}", TICK_HEADERS),
        (EVENTS.name, b"day totals", IMPORT_HEADERS),
        (LATE.name, b"7", BATCH_HEADERS),
        (LOOKS.name, b"{}", ()),
        (LOOKS.name, b'{"look": null, "experiment_id": "x"}', ()),
        (LOOKS.name, None, ()),
    ],
)
def test_an_unreadable_record_is_never_skipped(
    client: Client, topic: str, value: bytes | None, headers: Any
) -> None:
    writer = writer_on(client, client)

    with pytest.raises(UnreadableRecordError, match="offset 0"):
        writer.take(FakeRecord(topic, 0, 0, value, headers))


def test_looks_are_stored_flat_with_the_interval_that_decides(client: Client) -> None:
    writer = writer_on(client, client)
    writer.take(FakeRecord(LOOKS.name, 0, 0, look_value(7)))
    writer.flush(record_progress=True)

    query = (
        "SELECT basis, variant, units, total, effect, interval, low, high, p_value,"
        " fixed_horizon_low, log_id FROM look_rows ORDER BY basis, variant"
    )
    control = (10_000, 38, None, "", None, None, None, None, LOG_ID)
    decides = ("always_valid", -0.002392, 0.003192, 1.0)
    describes = ("fixed_horizon", -0.0014, 0.0022, None)
    assert client.query(query).result_rows == [
        ("matured", "control", *control),
        ("matured", "treatment", 10_000, 42, 0.007, *decides, None, LOG_ID),
        ("open", "control", *control),
        ("open", "treatment", 10_000, 42, 0.0004, *describes, -0.0014, LOG_ID),
    ]


def test_the_original_bytes_of_a_dead_letter_are_kept(client: Client) -> None:
    value = random.Random(7).randbytes(300)
    headers = (("litmus.dlq.code", b"malformed"), ("litmus.dlq.error.class", b"DecodeError"))
    writer = writer_on(client, client)
    writer.take(FakeRecord(DEAD_LETTERS.name, 0, 0, value, headers, b"key"))
    writer.flush(record_progress=True)

    query = "SELECT code, error_class, hex(value), key FROM dead_letters"
    assert client.query(query).result_rows == [
        ("malformed", "DecodeError", value.hex().upper(), "key")
    ]


def test_counted_events_keeps_the_first_of_a_unit_and_event_id(client: Client) -> None:
    writer = writer_on(client, client)
    first = [Event(value=1.0), Event(event_id="event-2", value=2.0)]
    again = [Event(value=3.0), Event(unit_id="unit-2", value=4.0)]
    writer.take(batch_record(0, first))
    writer.take(batch_record(1, again))
    writer.flush(record_progress=True)

    rows = client.query("SELECT value FROM counted_events ORDER BY value").result_rows
    assert rows == [(1.0,), (2.0,), (4.0,)]
