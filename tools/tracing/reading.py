"""Where an event may be in Kafka: its unit's partition, the late events, the dead letters."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from schemas.batch import read_batch
from schemas.control import ControlFold, ControlState, decode_tick
from schemas.times import format_time_ms
from schemas.topics import (
    CONTROL,
    DEAD_LETTERS,
    DOOR_GROUP,
    EVENTS,
    KIND_HEADER,
    KIND_TICK,
    LATE,
    SOURCES,
)
from tools.broker import client_settings
from tools.errors import LitmusError
from tools.topics import partition_counts
from tools.tracing.explaining import event_json
from tools.tracing.rows import Unit, UnitLog, door_of, rows_of

Json = dict[str, Any]


ANSWER_S = 10.0
SILENCE_S = 30.0
POLL_S = 0.05
RECORDS_AT_ONCE = 5_000

Advance = Callable[[int], None]
"""Given an offset that was read: moves the progress bar."""


class Searched(NamedTuple):
    """A partition that was read.

    Attributes:
        topic: Its topic.
        partition: Its number.
        begin: First offset that the broker still holds.
        end: Where it ended.
    """

    topic: str
    partition: int
    begin: int
    end: int


class LogScanner:
    """Reads partitions of a broker from their beginning to their present end.

    Args:
        bootstrap: Address of the broker.
        console: Shows how far it is; None: silent.
    """

    def __init__(self, bootstrap: str, console: Console | None) -> None:
        self._bootstrap = bootstrap
        self._console = console
        self.searched: list[Searched] = []

    def read_unit(self, unit: Unit) -> tuple[int, UnitLog]:
        """Return the unit's partition and its rows there."""
        count = partition_counts(self._bootstrap).get(EVENTS.name)
        if count is None:
            raise LitmusError(f"{EVENTS.name} does not exist on {self._bootstrap}: no log to read")
        partition = unit.partition(count)
        log: UnitLog | None = None

        def take(message: Message) -> None:
            nonlocal log
            if log is None:
                log = UnitLog(unit, self._control_before(message))
            log.take(message.offset(), kind_of(message), message.value() or b"")

        self._scan(EVENTS.name, partition, take)
        return partition, log or UnitLog(unit)

    def read_late(self, unit: Unit, event_hash: tuple[int, int]) -> list[Json]:
        """Return where the event is among the late ones."""
        found: list[Json] = []

        def take(message: Message) -> None:
            batch = read_batch(message.value() or b"")
            found.extend(
                {
                    "offset": message.offset(),
                    "row": place,
                    "door": door_of(batch),
                    "received_at": format_time_ms(event.received_ms),
                    "late_by_ms": event.received_ms - event.timestamp_ms,
                    **event_json(event),
                }
                for place, event, _ in rows_of(batch, unit)
                if event.event_hash == event_hash
            )

        self._scan(LATE.name, 0, take)
        return found

    def read_dead_letters(self, unit: Unit, event_id: str) -> list[Json]:
        """Return the dead letters that are, or at least mention, the event."""
        found: list[Json] = []

        def take(message: Message) -> None:
            value = message.value() or b""
            match = letter_matches(value, unit, event_id)
            if match:
                found.append(_letter(message, match))

        self._scan(DEAD_LETTERS.name, 0, take)
        return found

    def door_backlog(self) -> dict[str, int]:
        """Return, per source partition, the records that the Kafka door has not taken in yet."""
        counts = partition_counts(self._bootstrap)
        sources = [
            TopicPartition(topic.name, partition)
            for topic in SOURCES
            for partition in range(counts.get(topic.name, 0))
        ]
        settings = client_settings(self._bootstrap) | {"group.id": DOOR_GROUP}
        consumer = Consumer(settings)
        try:
            backlog = {}
            for one in consumer.committed(sources, timeout=ANSWER_S):
                begin, end = consumer.get_watermark_offsets(one, timeout=ANSWER_S)
                waiting = end - max(begin, one.offset)
                if waiting > 0:
                    backlog[f"{one.topic}/{one.partition}"] = waiting
            return backlog
        except KafkaException as error:
            raise LitmusError(f"The broker does not answer: {error.args[0].str()}") from error
        finally:
            consumer.close()

    def _control_before(self, message: Message) -> ControlState | None:
        """Return the definitions from before a log whose beginning was trimmed."""
        if message.offset() == 0:
            return None
        first = decode_tick(message.value()).number if kind_of(message) == KIND_TICK else None
        fold = ControlFold()
        state: ControlState | None = None

        def take(record: Message) -> None:
            nonlocal state
            winner = fold.take(record.offset(), record.timestamp()[1], record.value() or b"")
            if winner is not None and (first is None or winner.record.number < first):
                state = fold.state

        self._scan(CONTROL.name, 0, take)
        return state

    def _scan(self, topic: str, partition: int, take: Callable[[Message], None]) -> None:
        with opened(self._bootstrap) as consumer:
            place = TopicPartition(topic, partition)
            begin, end = consumer.get_watermark_offsets(place, timeout=ANSWER_S)
            self.searched.append(Searched(topic, partition, begin, end))
            if begin == end:
                return
            consumer.assign([TopicPartition(topic, partition, begin)])
            with self._progress(f"{topic}/{partition}", end - begin) as advance:

                def take_and_show(message: Message) -> None:
                    take(message)
                    advance(message.offset() - begin)

                read_to(consumer, place, end, take_and_show)

    @contextmanager
    def _progress(self, label: str, total: int) -> Iterator[Advance]:
        if self._console is None:
            yield lambda _offset: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(label, total=total)
            yield lambda done: progress.update(task, completed=done + 1)


@contextmanager
def opened(bootstrap: str) -> Iterator[Consumer]:
    """Open a consumer that belongs to no group; a broker that fails is explained."""
    consumer = Consumer(
        client_settings(bootstrap)
        | {
            "group.id": "litmus-trace",  # never joined: partitions are assigned by hand
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
        }
    )
    try:
        yield consumer
    except KafkaException as error:
        raise LitmusError(f"The log cannot be read: {error.args[0].str()}") from error
    finally:
        consumer.close()


def read_to(
    consumer: Consumer, place: TopicPartition, end: int, take: Callable[[Message], Any]
) -> None:
    """Give every message of an assigned partition below ``end`` to ``take``."""
    deadline_s = time.monotonic() + SILENCE_S
    while True:
        # Returns when it has so many, or when that time is over: not at the end of the partition.
        messages = consumer.consume(RECORDS_AT_ONCE, POLL_S)
        if messages:
            deadline_s = time.monotonic() + SILENCE_S
        elif time.monotonic() > deadline_s:
            where = f"{place.topic}/{place.partition}"
            raise LitmusError(f"{where}: nothing came for {SILENCE_S:.0f} s; is the broker alive?")
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() == -191:  # the end of the partition, also where it was compacted
                    return
                raise KafkaException(error)
            if message.offset() >= end:
                return
            take(message)
            if message.offset() == end - 1:
                return


def kind_of(message: Message) -> bytes | None:
    """Return what a message of the log is."""
    return dict(message.headers() or ()).get(KIND_HEADER)


def letter_matches(value: bytes, unit: Unit, event_id: str) -> str:
    """Return ``is`` for a dead letter that is the event, ``mentions`` for one that names it."""
    try:
        event = msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        event = None
    if isinstance(event, dict):
        same_type = event.get("unit_type", "user") == unit.unit_type
        same = event.get("unit_id") == unit.unit_id and event.get("event_id") == event_id
        return "is" if same and same_type else ""
    names = (unit.unit_id.encode(), event_id.encode())
    return "mentions" if all(name in value for name in names) else ""


def _letter(message: Message, match: str) -> Json:
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in message.headers()}

    def header(name: str) -> str:
        return headers.get(f"litmus.dlq.{name}", "")

    return {
        "offset": message.offset(),
        "match": match,
        "set_aside_at": format_time_ms(max(0, message.timestamp()[1])),
        "door": "http" if header("topic") == "http" else "kafka",
        "from": {name: header(name) for name in ("topic", "partition", "offset")},
        "code": header("code"),
        "field": header("field") or None,
        "message": header("error.message"),
    }
