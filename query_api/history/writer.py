"""Turns records of the log into rows of ClickHouse, exactly once however often it is interrupted.

Rows are keyed by their position in the log, and the progress is recorded after the rows that it
covers. A crash in between makes the next writer insert some rows again, under the same keys.
"""

from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import NamedTuple, Protocol

import msgspec
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from query_api.history import imports, rows
from query_api.history.database import INSERT_SETTINGS
from query_api.kafka_log import Source
from query_api.metrics import SINK_POSITION, SINK_ROWS
from schemas.batch import UnreadableBatchError, read_batch
from schemas.topics import (
    DEAD_LETTERS,
    EVENTS,
    KIND_BATCH,
    KIND_HEADER,
    KIND_IMPORT,
    KIND_TICK,
    LATE,
    LOOKS,
)

FLUSH_ROWS = 50_000
FLUSH_BYTES = 64 << 20

TOPICS = (EVENTS.name, LATE.name, DEAD_LETTERS.name, LOOKS.name)

LOOKS_AT_ONCE = 1_000
"""Looks of which one query asks whether they are in conflict."""

_CONFLICTS_AMONG = """
SELECT experiment_id, tick, log_id FROM looks
WHERE experiment_id IN {experiment_id:Array(String)} AND tick IN {tick:Array(UInt64)}
GROUP BY experiment_id, tick, log_id HAVING min(sha256) != max(sha256)"""

TICKS_OF = 0
"""Every partition has all ticks: those of one say what control agreed on."""


class Position(NamedTuple):
    """How far a partition has been read.

    Attributes:
        next_offset: First offset that has not been.
        row_count: Rows below it; for dead letters and looks, records.
    """

    next_offset: int
    row_count: int


class Record(Protocol):
    """A record of the log, as confluent_kafka hands it out."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...


class OffsetGapError(RuntimeError):
    """A record is not the next of its partition: one is missing, or came twice."""


class UnreadableRecordError(ValueError):
    """A record is not what its topic promises. It is never skipped: history has no holes."""


class HistoryWriter:
    """Collects records and stores them together.

    Attributes:
        stored: Position of every partition up to which everything is stored.
    """

    def __init__(self, client: Client, stored: Mapping[Source, Position]) -> None:
        self._client = client
        self.stored = dict(stored)
        self._read = dict(stored)
        self._recorded = dict(stored)
        self._take_of: dict[str, Callable[[Record, dict[str, bytes]], int]] = {
            EVENTS.name: self._take_events,
            LATE.name: self._take_late,
            DEAD_LETTERS.name: self._take_dead_letter,
            LOOKS.name: self._take_look,
        }
        self._clear()

    def _clear(self) -> None:
        self._events: list[rows.PackedBatch] = []
        self._late: list[rows.PackedBatch] = []
        self._dead_letters: list[rows.DeadLetter] = []
        self._looks: list[rows.Look] = []
        self._import_states: list[imports.ImportState] = []
        self._import_parts: list[imports.ImportPart] = []
        self._row_count = 0
        self._byte_count = 0

    @property
    def is_full(self) -> bool:
        """Return whether what was collected should be stored now."""
        return self._row_count >= FLUSH_ROWS or self._byte_count >= FLUSH_BYTES

    def start_at(self, source: Source, offset: int) -> None:
        """Say where a partition starts that was never read, or that lost its beginning."""
        position = self._read.get(source, Position(0, 0))
        self._read[source] = self.stored[source] = position._replace(next_offset=offset)

    def take(self, record: Record) -> None:
        """Collect one record.

        Raises:
            OffsetGapError: If it is not the next of its partition.
            UnreadableRecordError: If it is not what its topic promises.
        """
        source = Source(record.topic(), record.partition())
        next_offset, row_count = self._read[source]
        if record.offset() != next_offset:
            raise OffsetGapError(f"{source}: offset == {record.offset()}, must be {next_offset}")
        headers = {name: value or b"" for name, value in record.headers() or ()}
        try:
            new_rows = self._take_of[source.topic](record, headers)
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
            raise UnreadableRecordError(f"{source} offset {record.offset()}: {error}") from error
        self._read[source] = Position(next_offset + 1, row_count + new_rows)
        self._row_count += new_rows
        self._byte_count += len(record.value() or b"")

    def flush(self, *, record_progress: bool) -> None:
        """Store what was collected.

        Args:
            record_progress: Record the progress also when there were no rows, only ticks.
        """
        collected = (self._events, self._late, self._dead_letters, self._looks)
        had_rows = any((*collected, self._import_states, self._import_parts))
        self._insert_rows()
        if had_rows or record_progress:
            self._record_progress()
        self.stored = dict(self._read)
        for source, position in self.stored.items():
            SINK_POSITION.labels(*source).set(position.next_offset)
        self._clear()

    def _insert_rows(self) -> None:
        if self._events:
            self._insert("events", rows.event_rows(self._events))
            self._insert("batches", rows.batch_rows(self._events, self._rows_through()))
        if self._late:
            self._insert("late", rows.event_rows(self._late))
        if self._dead_letters:
            self._insert("dead_letters", rows.dead_letter_rows(self._dead_letters))
        if self._looks:
            effects = rows.effect_rows(self._looks)
            if effects is not None:
                self._insert("look_rows", effects)
            looks = rows.look_rows(self._looks)
            self._insert("looks", looks)
            self._note_conflicts(looks)
        if self._import_states:
            self._insert("import_states", imports.as_columns(self._import_states))
        if self._import_parts:
            self._insert("import_parts", imports.as_columns(self._import_parts))

    def _note_conflicts(self, looks: pa.Table) -> None:
        """Store which ticks of the looks just stored have looks of several identities.

        By then all are there: a crash before the progress is recorded asks again.
        """
        for begin in range(0, len(looks), LOOKS_AT_ONCE):
            some = looks.slice(begin, LOOKS_AT_ONCE)
            parameters = {
                name: some[name].unique().to_pylist() for name in ("experiment_id", "tick")
            }
            found = self._client.query(_CONFLICTS_AMONG, parameters=parameters).result_rows
            if found:
                columns = zip(
                    ("experiment_id", "tick", "log_id"), zip(*found, strict=True), strict=True
                )
                self._insert("conflicting_looks", pa.table(dict(columns)))

    def _record_progress(self) -> None:
        changed = [(s, p) for s, p in self._read.items() if p != self._recorded.get(s)]
        if not changed:
            return
        table = {
            "topic": pa.array([source.topic for source, _ in changed], pa.string()),
            "partition": pa.array([source.partition for source, _ in changed], pa.uint32()),
            "next_offset": pa.array([position.next_offset for _, position in changed], pa.uint64()),
            "row_count": pa.array([position.row_count for _, position in changed], pa.uint64()),
        }
        self._insert("progress", pa.table(table))
        self._recorded = dict(self._read)

    def _insert(self, table: str, columns: pa.Table) -> None:
        if len(columns):
            self._client.insert_arrow(table, columns, settings=INSERT_SETTINGS)
            SINK_ROWS.labels(table).inc(len(columns))

    def _rows_through(self) -> list[int]:
        """Return, per collected batch, the rows of its partition up to and including it."""
        result = [0] * len(self._events)
        of_partition: dict[int, list[int]] = {}
        for index, one in enumerate(self._events):
            of_partition.setdefault(one.partition, []).append(index)
        for partition, indices in of_partition.items():
            before = self.stored[Source(EVENTS.name, partition)].row_count
            counts = (len(self._events[index].batch) for index in indices)
            for index, total in zip(indices, accumulate(counts, initial=before), strict=False):
                result[index] = total + len(self._events[index].batch)
        return result

    def _take_events(self, record: Record, headers: dict[str, bytes]) -> int:
        """Collect a batch; of ticks and parts of imports, which hold no events, what they count."""
        kind, value = headers.get(KIND_HEADER), record.value() or b""
        if kind == KIND_TICK:
            if record.partition() == TICKS_OF:
                self._import_states += imports.states_of(value)
            return 0
        if kind == KIND_IMPORT:
            part = imports.part_of(record.partition(), record.offset(), value)
            self._import_parts.append(part)
            return 0
        return _take_packed(record, headers, self._events)

    def _take_late(self, record: Record, headers: dict[str, bytes]) -> int:
        return _take_packed(record, headers, self._late)

    def _take_dead_letter(self, record: Record, headers: dict[str, bytes]) -> int:
        def text(name: str) -> str:
            return headers.get(f"litmus.dlq.{name}", b"").decode("utf-8", "replace")

        letter = rows.DeadLetter(
            kafka_partition=record.partition(),
            kafka_offset=record.offset(),
            appended_at=max(0, record.timestamp()[1]),
            topic=text("topic"),
            partition=text("partition"),
            offset=text("offset"),
            code=text("code"),
            error_class=text("error.class"),
            error_message=text("error.message"),
            field=text("field"),
            key=record.key() or b"",
            value=record.value() or b"",
        )
        self._dead_letters.append(letter)
        return 1

    def _take_look(self, record: Record, _headers: dict[str, bytes]) -> int:
        look = rows.read_look(record.value() or b"")
        rows.look_rows([look])  # refused here, by its position, rather than later
        self._looks.append(look)
        return 1


def _take_packed(record: Record, headers: dict[str, bytes], batches: list[rows.PackedBatch]) -> int:
    kind = headers.get(KIND_HEADER)
    if kind != KIND_BATCH:
        raise UnreadableBatchError(f"{KIND_HEADER} == {kind!r}, must be batch, tick or import")
    batch = read_batch(record.value() or b"")
    batches.append(rows.PackedBatch(record.partition(), record.offset(), batch))
    return len(batch)


def stored_positions(client: Client) -> dict[Source, Position]:
    """Return how far every partition is stored."""
    query = "SELECT topic, partition, next_offset, row_count FROM progress FINAL"
    return {
        Source(topic, partition): Position(next_offset, row_count)
        for topic, partition, next_offset, row_count in client.query(query).result_rows
    }
