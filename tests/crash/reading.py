"""What a run left in Kafka, read wholly and afresh: every topic from first record to its end."""

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa
from confluent_kafka import Consumer, Message, TopicPartition

from schemas.topics import ACCUMULATE_APP, DEAD_LETTERS, EVENTS, LOOKS, SEGMENTS_TABLE
from stream_processors.accumulate.plan import OPEN_END
from stream_processors.accumulate.records import (
    MANIFEST,
    SEGMENT,
    SEGMENT_COLUMNS,
    Key,
    Manifest,
    SegmentRecord,
    decode_columns,
    decode_key,
    read_record,
)
from tests.stream_processors.accumulate.builders import Event

CHANGELOG = f"{ACCUMULATE_APP}-{SEGMENTS_TABLE}-changelog"
SECONDS_MAX = 60.0
_POLL_S = 0.1


class Row(NamedTuple):
    """A row of litmus.events."""

    partition: int
    offset: int
    event: Event
    unit_hash: tuple[int, int]


class Log(NamedTuple):
    """litmus.events: its rows in order, and each partition's ticks as (number, bytes)."""

    rows: list[Row]
    ticks: dict[int, list[tuple[int, bytes]]]


class Cell(NamedTuple):
    """A unit in an experiment, as a checkpoint says."""

    variant: int
    entry: int
    has_two_variants: bool
    attributed: int
    totals: tuple[int, ...]


Cells = dict[tuple[int, int, int], Cell]
"""By ordinal of the experiment and the two halves of the unit's hash."""


def read_topic(bootstrap: str, topic: str) -> list[Message]:
    """Return every record of a topic, each partition in order."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"audit-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        partitions = consumer.list_topics(topic, SECONDS_MAX).topics[topic].partitions
        starts, ends = {}, {}
        for number in partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), SECONDS_MAX)
            if low < high:
                starts[number], ends[number] = low, high
        consumer.assign([TopicPartition(topic, number, low) for number, low in starts.items()])
        found: list[Message] = []
        deadline = time.monotonic() + SECONDS_MAX
        while ends:
            assert time.monotonic() < deadline, (
                f"{topic}: nothing more comes, expected up to {ends}"
            )
            for message in consumer.consume(2_000, _POLL_S):
                assert message.error() is None, message.error()
                found.append(message)
                if message.offset() + 1 >= ends.get(message.partition(), 0):
                    ends.pop(message.partition(), None)
            # A compacted topic may end in offsets without records; a position knows them.
            for one in consumer.position([TopicPartition(topic, number) for number in ends]):
                if one.offset >= ends[one.partition]:
                    del ends[one.partition]
        return found
    finally:
        consumer.close()


def read_log(bootstrap: str) -> Log:
    """Return litmus.events."""
    return log_of(
        (message.partition(), message.offset(), dict(message.headers()), message.value())
        for message in read_topic(bootstrap, EVENTS.name)
    )


def log_of(messages: Iterable[tuple[int, int, dict[str, bytes], bytes]]) -> Log:
    """Return the log that (partition, offset, headers, value) of all messages make."""
    log = Log([], defaultdict(list))
    for partition, offset, headers, value in messages:
        if headers["litmus.kind"] == b"tick":
            log.ticks[partition].append((json.loads(value)["number"], value))
            continue
        assert headers["litmus.kind"] == b"batch", headers
        with pa.ipc.open_stream(value) as reader:
            columns = reader.read_all().to_pydict()
        for values in zip(*columns.values(), strict=True):
            row = dict(zip(columns, values, strict=True))
            unit_hash = (row["unit_hash_high"], row["unit_hash_low"])
            log.rows.append(Row(partition, offset, _event(row), unit_hash))
    return log


def _event(row: dict[str, Any]) -> Event:
    return Event(
        row["unit_id"],
        row["event_id"],
        row["timestamp"],
        row["experiment_id"],
        row["variant"],
        row["metric"],
        row["value"],
        row["unit_type"],
        row["timestamp_given"],
    )


def read_looks(bootstrap: str) -> list[dict[str, Any]]:
    """Return every record of litmus.looks."""
    return [json.loads(message.value()) for message in read_topic(bootstrap, LOOKS.name)]


def read_dead_letters(bootstrap: str) -> list[bytes]:
    """Return what was refused, in the bytes in which it came."""
    return [message.value() for message in read_topic(bootstrap, DEAD_LETTERS.name)]


def read_checkpoints(bootstrap: str) -> dict[bytes, bytes]:
    """Return the records of the accumulate changelog that are not deleted."""
    kept: dict[bytes, bytes] = {}
    for message in read_topic(bootstrap, CHANGELOG):
        if message.value() is None:
            kept.pop(message.key(), None)
        else:
            kept[message.key()] = message.value()
    return kept


def manifest_ticks(checkpoints: dict[bytes, bytes]) -> dict[int, int]:
    """Return, per partition, the tick with which the last whole cycle of checkpoints began."""
    return {
        key.partition: read_record(values, Manifest).base.tick
        for key, values in _whole(checkpoints, MANIFEST).items()
    }


def cells_of(checkpoints: dict[bytes, bytes]) -> Cells:
    """Return the cells in the newest record of every segment."""
    newest: dict[tuple[int, int], tuple[int, list[bytes]]] = {}
    for key, values in _whole(checkpoints, SEGMENT).items():
        segment = (key.partition, key.number)
        newest[segment] = max(newest.get(segment, (-1, [])), (key.offset, values))
    cells: Cells = {}
    for _, values in newest.values():
        record = read_record(values, SegmentRecord)
        columns = {
            name: column.tolist()
            for name, column in decode_columns(record.columns, SEGMENT_COLUMNS).items()
        }
        at = 0
        for place, slots in enumerate(columns["slots"]):
            row = {name: columns[name][place] for name in columns if name not in _OF_SLOTS}
            key = (row["experiment"], row["unit_high"], row["unit_low"])
            assert key not in cells, "a unit stands in two segments"
            cells[key] = Cell(
                row["variant"],
                row["entry"],
                row["other"] != OPEN_END,
                row["counted"] + row["outside"],
                tuple(columns["total"][at : at + slots]),
            )
            at += slots
    return cells


_OF_SLOTS = ("total", "magnitude")


def _whole(checkpoints: dict[bytes, bytes], kind: int) -> dict[Key, list[bytes]]:
    """Return the records of a kind of which every part is there, by the key of their part 0."""
    parts: dict[Key, dict[int, bytes]] = defaultdict(dict)
    for encoded, value in checkpoints.items():
        key = decode_key(encoded)
        if key.kind == kind:
            parts[key._replace(part=0)][key.part] = value
    return {
        key: [values[part] for part in range(key.parts)]
        for key, values in parts.items()
        if len(values) == key.parts
    }
