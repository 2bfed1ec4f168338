"""Reads partitions to their present end, as fast as the broker gives them.

Outside Faust, which takes one record at a time. librdkafka fetches in threads of its own.
"""

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any
from uuid import uuid4

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

_POLL_S = 0.2
_RECORDS_MAX = 512
_SILENCE_S_MAX = 60.0
_FATAL = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)  # noqa: SLF001

_SETTINGS: dict[str, Any] = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 20,
    "fetch.max.bytes": 64 * 1024 * 1024,
    "max.partition.fetch.bytes": 8 * 1024 * 1024,
    "queued.max.messages.kbytes": 64 * 1024,
    # How long fetching pauses when that much waits; a second by default.
    "fetch.queue.backoff.ms": 5,
    "log_level": 0,
}


class LogUnreadableError(Exception):
    """The broker does not give a partition's records."""


class TopicMissingError(LogUnreadableError):
    """There is no such topic."""


def read_to_end(
    servers: str, topic: str, starts: Mapping[int, int | None]
) -> Generator[list[Message], None, None]:
    """Yield records of some partitions, in order within each, to where each ended when reached.

    Blocks; for a thread.

    Args:
        servers: Brokers, ``host:port`` separated by commas.
        topic: Which topic.
        starts: Per partition the first offset; None: where its log begins.

    Raises:
        TopicMissingError: If there is no such topic.
        LogUnreadableError: If there is no such partition, or nothing comes for long.
        KafkaException: If no broker answers.
    """
    consumer = Consumer(_SETTINGS | {"bootstrap.servers": servers, "group.id": f"r-{uuid4().hex}"})
    try:
        # Without it the first fetch waits half a second for leaders to become known.
        known = consumer.list_topics(topic, _SILENCE_S_MAX).topics[topic]
        if known.error is not None and known.error.code() in _FATAL:
            raise TopicMissingError(f"{topic}: {known.error}")
        if known.error is not None or not set(starts) <= set(known.partitions):
            raise LogUnreadableError(f"{topic}: {known.error or 'no such partition'}")
        consumer.assign(
            [
                TopicPartition(topic, number, OFFSET_BEGINNING if start is None else start)
                for number, start in starts.items()
            ]
        )
        yield from _until_ends(consumer, topic, set(starts))
    finally:
        consumer.close()


def read_newest(
    servers: str, topic: str, partitions: Iterable[int]
) -> dict[int, dict[bytes, bytes]]:
    """Return what a compacted topic holds: per partition, every key's newest value."""
    newest: dict[int, dict[bytes, bytes]] = {number: {} for number in partitions}
    if not newest:
        return newest
    for messages in read_to_end(servers, topic, dict.fromkeys(newest)):
        for message in messages:
            records, key, value = newest[message.partition()], message.key(), message.value()
            if value is None:
                records.pop(key, None)
            else:
                records[key] = value
    return newest


def _until_ends(consumer: Consumer, topic: str, reading: set[int]) -> Iterator[list[Message]]:
    heard_at = time.monotonic()
    while reading:
        messages = []
        # What is asked for by number is waited for: first one, then what is there. A message
        # without a value is false.
        first = consumer.poll(_POLL_S)
        for message in [] if first is None else [first, *consumer.consume(_RECORDS_MAX, 0)]:
            error = message.error()
            if error is None:
                messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
                reading.discard(message.partition())
            elif error.code() in _FATAL or error.fatal():
                raise LogUnreadableError(f"{topic}: {error}") from KafkaException(error)
        if messages:
            heard_at = time.monotonic()
            yield messages
        elif time.monotonic() - heard_at > _SILENCE_S_MAX:
            raise LogUnreadableError(f"{topic}: nothing came for {_SILENCE_S_MAX:.0f} s")
