"""litmus.control and litmus.events on a real broker, written as control and a door write them."""

from typing import Any

import msgspec
from confluent_kafka import Message, Producer

from schemas.control import (
    Change,
    ControlFold,
    ControlRecord,
    ControlState,
    Tick,
    Times,
    Winner,
)
from schemas.topics import CONTROL, EVENTS, KIND_HEADER, KIND_TICK
from tests.stream_processors.accumulate.builders import LOG_ID
from tests.stream_processors.accumulate.builders import Message as EngineMessage

NEVER = Times(0, 0, 0)


class RealLogs:
    """Both logs, and what everybody must make of them.

    Attributes:
        fold: Has read every record as the broker holds it.
        states: Tick to the state as of it.
        ticks: Tick to the bytes that stand in every partition.
        ends: Partition to the next offset.
        messages: Partition to what it holds.
    """

    def __init__(self, bootstrap: str, partition_count: int) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "log_level": 0})
        self._partition_count = partition_count
        self.fold = ControlFold()
        self.states: dict[int, ControlState] = {}
        self.ticks: dict[int, bytes] = {}
        self.ends = dict.fromkeys(range(partition_count), 0)
        self.messages: dict[int, list[EngineMessage]] = {
            partition: [] for partition in range(partition_count)
        }

    def next_record(self, *changes: Change, snapshot: bool = False, **fields: Any) -> ControlRecord:
        """Return the valid next record, but for ``fields``."""
        last = self.fold.last
        number = last.record.number + 1 if last else 1
        commands = last.record.commands_to if last else 0
        record = ControlRecord(
            log_id=LOG_ID,
            number=number,
            before=last.times if last else NEVER,
            low_water_ms=None,
            commands_from=commands,
            commands_to=commands + len(changes),
            changes=list(changes),
            outcomes=[],
            snapshot_offset=self.fold.snapshot_offset,
            snapshot=self.fold.state.after(changes) if snapshot or number == 1 else None,
        )
        return msgspec.structs.replace(record, **fields)

    def append(self, record: ControlRecord) -> Winner | None:
        """Append a record to litmus.control; return what became of it."""
        value = msgspec.json.encode(record)
        sent = self._send(CONTROL.name, 0, value)
        winner = self.fold.take(sent.offset(), sent.timestamp()[1], value)
        if winner is not None:
            self.states[winner.record.number] = self.fold.state
            self.ticks[winner.record.number] = msgspec.json.encode(self.fold.tick())
        return winner

    def tick(self, *changes: Change, snapshot: bool = False) -> Tick:
        """Append the next record and copy its tick to every partition."""
        winner = self.append(self.next_record(*changes, snapshot=snapshot))
        assert winner is not None
        for partition in range(self._partition_count):
            self.post(partition, EngineMessage(KIND_TICK, self.ticks[winner.record.number]))
        return self.fold.tick()

    def post(self, partition: int, message: EngineMessage) -> int:
        """Append a message to a partition of litmus.events and return its offset."""
        offset = self._send(EVENTS.name, partition, message.value, message.kind).offset()
        assert offset == self.ends[partition]
        self.ends[partition] = offset + 1
        self.messages[partition].append(message)
        return offset

    def _send(self, topic: str, partition: int, value: bytes, kind: bytes | None = None) -> Message:
        delivered: list[Message] = []

        def take(error: object, message: Message) -> None:
            assert error is None, error
            delivered.append(message)

        headers = [(KIND_HEADER, kind)] if kind else None
        self._producer.produce(
            topic, value=value, partition=partition, headers=headers, on_delivery=take
        )
        assert self._producer.flush(30) == 0
        return delivered[0]
