"""What a run left behind, read record by record: a source of each topic, from Kafka or from memory.

Nothing here knows what records mean.
"""

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from confluent_kafka import Consumer, Message, TopicPartition

from schemas.topics import (
    ACCUMULATE_APP,
    CONTROL,
    DEAD_LETTERS,
    EVENTS,
    KIND_HEADER,
    LATE,
    LEDGER,
    LOOKS,
    SEGMENTS_TABLE,
)
from tools.broker import client_settings
from tools.torture.audit.control_log import ControlMessage

SILENCE_SECONDS_MAX = 60.0
"""A log whose end is known and that stays silent for so long is not read on."""

CHANGELOG = f"{ACCUMULATE_APP}-{SEGMENTS_TABLE}-changelog"
_CHUNK = 5_000


class LogMessage(NamedTuple):
    """A message of ``litmus.events`` or ``litmus.late``."""

    offset: int
    kind: bytes | None
    value: bytes


class DeadLetter(NamedTuple):
    """A record of ``litmus.dlq``: the code of the refusal and the bytes that were refused."""

    code: str
    raw: bytes


class Evidence(Protocol):
    """What an audit reads. Each method reads from the beginning, whenever it is called."""

    def partitions(self) -> list[int]:
        """Return the partitions of ``litmus.events``."""
        ...

    def events(self, partition: int) -> Iterable[LogMessage]:
        """Return a partition of ``litmus.events``."""
        ...

    def control(self) -> Iterable[ControlMessage]:
        """Return ``litmus.control``."""
        ...

    def late(self) -> Iterable[LogMessage]:
        """Return ``litmus.late``."""
        ...

    def dead_letters(self) -> Iterable[DeadLetter]:
        """Return ``litmus.dlq``."""
        ...

    def looks(self) -> Iterable[bytes]:
        """Return ``litmus.looks``."""
        ...

    def ledgers(self) -> Iterable[dict[str, Any]]:
        """Return what is left of ``litmus.ledger``."""
        ...

    def changelog(self, partition: int) -> Iterable[tuple[bytes, bytes | None]]:
        """Return keys and values of a partition of the accumulate changelog, deletions too."""
        ...


class KafkaEvidence:
    """What a run left in Kafka. May be sent to another process: it holds an address only."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def partitions(self) -> list[int]:
        """Return the partitions of ``litmus.events``."""
        return partitions_of(self.bootstrap, EVENTS.name)

    def events(self, partition: int) -> Iterator[LogMessage]:
        """Return a partition of ``litmus.events``."""
        return _log_messages(read(self.bootstrap, EVENTS.name, partition))

    def control(self) -> Iterator[ControlMessage]:
        """Return ``litmus.control``."""
        for message in read(self.bootstrap, CONTROL.name, 0):
            yield ControlMessage(message.offset(), message.timestamp()[1], message.value())

    def late(self) -> Iterator[LogMessage]:
        """Return ``litmus.late``."""
        return _log_messages(read(self.bootstrap, LATE.name, 0))

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Return ``litmus.dlq``."""
        for message in read(self.bootstrap, DEAD_LETTERS.name, 0):
            headers = dict(message.headers() or [])
            yield DeadLetter(headers.get("litmus.dlq.code", b"").decode(), message.value() or b"")

    def looks(self) -> Iterator[bytes]:
        """Return ``litmus.looks``."""
        for message in read(self.bootstrap, LOOKS.name, 0):
            yield message.value()

    def ledgers(self) -> Iterator[dict[str, Any]]:
        """Return what is left of ``litmus.ledger``."""
        for message in read(self.bootstrap, LEDGER.name, 0):
            if message.value() is not None:
                yield json.loads(message.value())

    def changelog(self, partition: int) -> Iterator[tuple[bytes, bytes | None]]:
        """Return keys and values of a partition of the accumulate changelog, deletions too."""
        for message in read(self.bootstrap, CHANGELOG, partition):
            yield message.key(), message.value()


def partitions_of(bootstrap: str, topic: str) -> list[int]:
    """Return the partitions of a topic."""
    consumer = _consumer(bootstrap)
    try:
        return sorted(consumer.list_topics(topic, SILENCE_SECONDS_MAX).topics[topic].partitions)
    finally:
        consumer.close()


def read(bootstrap: str, topic: str, partition: int) -> Iterator[Message]:
    """Yield the records of a partition, from its first to the end that it has now.

    Raises:
        TimeoutError: If the end is not reached and nothing more comes.
    """
    consumer = _consumer(bootstrap)
    try:
        here = TopicPartition(topic, partition)
        low, high = consumer.get_watermark_offsets(here, SILENCE_SECONDS_MAX)
        consumer.assign([TopicPartition(topic, partition, low)])
        heard = time.monotonic()
        at = low
        while at < high:
            messages = consumer.consume(_CHUNK, 0.2)
            for message in messages:
                if message.error() is not None:
                    raise TimeoutError(f"{topic}/{partition}: {message.error()}")
                if message.offset() < high:
                    at = message.offset() + 1
                    yield message
            if messages:
                heard = time.monotonic()
                continue
            # A compacted topic, or one with aborted records, may end in offsets without any.
            at = max(at, consumer.position([here])[0].offset)
            if time.monotonic() - heard > SILENCE_SECONDS_MAX:
                raise TimeoutError(f"{topic}/{partition}: nothing after {at}, expected {high}")
    finally:
        consumer.close()


def _consumer(bootstrap: str) -> Consumer:
    return Consumer(
        client_settings(bootstrap)
        | {
            "group.id": f"litmus-audit-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 10,
        }
    )


def _log_messages(messages: Iterable[Message]) -> Iterator[LogMessage]:
    for message in messages:
        headers = dict(message.headers() or [])
        yield LogMessage(message.offset(), headers.get(KIND_HEADER), message.value() or b"")
