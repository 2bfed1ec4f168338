"""What an audit reads from Kafka: checkpoints, control, the log, looks."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import msgspec
from confluent_kafka import Message, TopicPartition
from rich.console import Console

from schemas.control import ControlState, decode_record
from schemas.times import parse_time_ms
from schemas.topics import (
    ACCUMULATE_APP,
    CONTROL,
    EVENTS,
    LOOKS,
    SEGMENTS_TABLE,
    SNAPSHOTS,
    changelog,
)
from stream_processors.accumulate.control_history import control_history
from stream_processors.accumulate.recovery import Found
from tools.auditing.replaying import ReplayedPartition
from tools.errors import LitmusError
from tools.topics import partition_counts
from tools.tracing.reading import ANSWER_S, POLL_S, RECORDS_AT_ONCE, kind_of, opened, read_to

Json = dict[str, Any]

TICK_WAIT_S = 10.0


class LogToAudit:
    """The broker of a log that is audited.

    Args:
        bootstrap: Its address.
        console: Shows what is being read; None: silent.
    """

    def __init__(self, bootstrap: str, console: Console | None) -> None:
        self._bootstrap = bootstrap
        self._console = console
        counts = partition_counts(bootstrap)
        if EVENTS.name not in counts:
            raise LitmusError(f"{EVENTS.name} does not exist on {bootstrap}: nothing to audit")
        self.partitions = range(counts[EVENTS.name])

    def find_partitions(self) -> tuple[dict[int, Found], dict[int, ControlState]]:
        """Return what the changelog holds of every partition, and definitions as of its ticks."""
        stored = {number: self._records(number) for number in self.partitions}

        async def states() -> tuple[dict[int, Found], dict[int, ControlState]]:
            async with control_history(self._bootstrap) as history:
                log_id = await history.log_id()
                found = {
                    number: Found(number, records.items(), log_id=log_id)
                    for number, records in stored.items()
                }
                await history.check({number: one.proofs for number, one in found.items()})
                ticks = {one.start.tick for one in found.values() if one.start}
                return found, await history.states_at(ticks)

        return asyncio.run(states())

    def last_tick(self) -> int:
        """Return a tick that every partition holds, or will in a moment."""
        with opened(self._bootstrap) as consumer:
            place = TopicPartition(CONTROL.name, 0)
            begin, end = consumer.get_watermark_offsets(place, timeout=ANSWER_S)
            if begin == end:
                raise LitmusError(f"{CONTROL.name} is empty: no tick yet, nothing to audit")
            consumer.assign([TopicPartition(CONTROL.name, 0, end - 1)])
            numbers: list[int] = []
            read_to(
                consumer, place, end, lambda one: numbers.append(decode_record(one.value()).number)
            )
        # A record is followed by another only when every partition has its tick.
        return max(1, numbers[-1] - 1)

    def replay(
        self, found: Found, control: ControlState | None, number: int, last_tick: int
    ) -> ReplayedPartition:
        """Return a partition, built from its checkpoints and read on up to a tick."""
        replayed = ReplayedPartition(found.build(control, writer="audit").partition)
        partition = replayed.partition
        with opened(self._bootstrap) as consumer, self._says(f"partition {number}"):
            consumer.assign([TopicPartition(EVENTS.name, number, partition.cursor)])
            deadline_s = time.monotonic() + TICK_WAIT_S
            while partition.tick < last_tick:
                messages = consumer.consume(RECORDS_AT_ONCE, POLL_S)
                if messages:
                    deadline_s = time.monotonic() + TICK_WAIT_S
                elif time.monotonic() > deadline_s:
                    raise LitmusError(
                        f"{EVENTS.name}/{number} stops at tick {partition.tick}, must reach "
                        f"{last_tick}: is the control process alive? `litmus status` says"
                    )
                self._apply(replayed, messages, last_tick)
        if partition.is_live:
            replayed.check()
        return replayed

    def looks_since(self, log_ms: int) -> list[Json]:
        """Return all looks since a time, and of every other experiment the last one before."""
        looks = [
            msgspec.json.decode(one.value() or b"{}") for one in self._read_looks(log_ms, None)
        ]
        seen = {look["experiment_id"] for look in looks}
        older = [one for one in self._latest() if one["experiment_id"] not in seen]
        for one in older:
            looks += self._same_look(one)
        return looks

    def _apply(
        self, replayed: ReplayedPartition, messages: Iterable[Message], last_tick: int
    ) -> None:
        for message in messages:
            if message.error() is not None or replayed.partition.tick >= last_tick:
                continue
            replayed.apply(message.offset(), kind_of(message), message.value() or b"")

    def _records(self, number: int) -> dict[bytes, bytes]:
        topic = changelog(ACCUMULATE_APP, SEGMENTS_TABLE, len(self.partitions)).name
        records: dict[bytes, bytes] = {}

        def take(message: Message) -> None:
            if message.value() is None:
                records.pop(message.key(), None)
            else:
                records[message.key()] = message.value()

        self._read(topic, number, take)
        return records

    def _latest(self) -> list[Json]:
        """Return the results of the snapshots: the latest look of every experiment."""
        latest: dict[bytes, Json] = {}

        def take(message: Message) -> None:
            record = msgspec.json.decode(message.value() or b"{}")
            if record.get("results"):
                latest[message.key()] = record["results"]

        self._read(SNAPSHOTS.name, 0, take)
        return list(latest.values())

    def _same_look(self, results: Json) -> list[Json]:
        """Return the record of a look, with its integers, given its results."""
        as_of_ms = parse_time_ms(results["look"]["as_of"])
        for one in self._read_looks(as_of_ms, as_of_ms):
            look = msgspec.json.decode(one.value() or b"{}")
            if (
                look["experiment_id"] == results["experiment_id"]
                and look["look"]["sha256"] == results["look"]["sha256"]
            ):
                return [look]
        return []

    def _read_looks(self, from_ms: int, to_ms: int | None) -> list[Message]:
        """Return records of litmus.looks between two times; their timestamps are log times."""
        messages: list[Message] = []
        with opened(self._bootstrap) as consumer:
            place = TopicPartition(LOOKS.name, 0)
            _, end = consumer.get_watermark_offsets(place, timeout=ANSWER_S)
            begin = self._offset_at(consumer, from_ms, end)
            if to_ms is not None:
                end = self._offset_at(consumer, to_ms + 1, end)
            if begin < end:
                consumer.assign([TopicPartition(LOOKS.name, 0, begin)])
                read_to(consumer, place, end, messages.append)
        return messages

    def _offset_at(self, consumer: Any, at_ms: int, end: int) -> int:
        [found] = consumer.offsets_for_times(
            [TopicPartition(LOOKS.name, 0, at_ms)], timeout=ANSWER_S
        )
        return int(found.offset) if found.offset >= 0 else end

    def _read(self, topic: str, partition: int, take: Callable[[Message], None]) -> None:
        with opened(self._bootstrap) as consumer, self._says(f"{topic}/{partition}"):
            place = TopicPartition(topic, partition)
            begin, end = consumer.get_watermark_offsets(place, timeout=ANSWER_S)
            if begin < end:
                consumer.assign([TopicPartition(topic, partition, begin)])
                read_to(consumer, place, end, take)

    def _says(self, what: str) -> Any:
        return nullcontext() if self._console is None else self._console.status(f"reading {what}")
