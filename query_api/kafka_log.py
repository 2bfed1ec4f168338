"""Reads whole partitions of topics, without a consumer group: where to resume is the caller's."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

_log = logging.getLogger(__name__)

METADATA_TIMEOUT_S = 5.0
TOPICS_MISSING_WAIT_S = 0.5


class Source(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class LogTruncatedError(RuntimeError):
    """The log ends before what was read of it: it was truncated or made anew."""


Start = Callable[[list[Source]], Mapping[Source, int]]
"""Given all partitions: the offset to resume at, for those read before."""


class LogReader:
    """One consumer, assigned to every partition of some topics.

    Attributes:
        ends: End offsets as they were when the reader opened.
        positions: Per partition, the first offset that was not read.
        trimmed_count: Records that left the log before they were read.
    """

    def __init__(self, kafka: str, topics: Iterable[str], *, start: Start) -> None:
        self._topics = list(topics)
        self._start = start
        self.ends: dict[Source, int] = {}
        self.positions: dict[Source, int] = {}
        self.trimmed_count = 0
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": "litmus-query",  # never joined: partitions are assigned by hand
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,  # a compacted log may end in records that are gone
                "queued.max.messages.kbytes": 32_768,
                "fetch.queue.backoff.ms": 50,
                # Otherwise the broker answers for every single record, hundreds of times a second.
                "fetch.min.bytes": 65_536,
                "fetch.wait.max.ms": 50,
            },
            logger=_log,
        )

    def open(self, stop: threading.Event) -> None:
        """Wait until all topics exist and assign their partitions; none if ``stop`` is set.

        Raises:
            KafkaException: If the broker does not answer.
            LogTruncatedError: If a partition ends before its offset to resume at.
        """
        sources = self._sources(stop)
        resume = self._start(sources)
        for source in sources:
            low, end = self._consumer.get_watermark_offsets(
                TopicPartition(*source), timeout=METADATA_TIMEOUT_S
            )
            next_offset = resume.get(source, low)
            if next_offset > end:
                message = f"{source} ends at {end}, must reach {next_offset}, which was read"
                raise LogTruncatedError(message)
            self.trimmed_count += max(0, low - next_offset)
            self.positions[source] = max(low, next_offset)
            self.ends[source] = end
        self._consumer.assign([TopicPartition(*s, at) for s, at in self.positions.items()])

    def read(self, records_max: int, timeout_s: float) -> list[Message]:
        """Return the next records, none if there are none within ``timeout_s``.

        Raises:
            KafkaException: If reading cannot go on. A broker that is away is no such case.
        """
        records = []
        for message in self._consumer.consume(records_max, timeout_s):
            error = message.error()
            source = Source(message.topic(), message.partition())
            if error is None:
                self.positions[source] = message.offset() + 1
                records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                self.positions[source] = max(self.positions[source], message.offset())
            elif not error.retriable() and error.code() not in _AWAY:
                raise KafkaException(error)
        return records

    def known_ends(self) -> dict[Source, int]:
        """Return where every partition ended when a fetch last told; asks nobody.

        Only the thread that reads may call this.
        """
        ends = {}
        for source, position in self.positions.items():
            _, end = self._consumer.get_watermark_offsets(TopicPartition(*source), cached=True)
            ends[source] = max(end, position)  # below 0 before the first fetch
        return ends

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def _sources(self, stop: threading.Event) -> list[Source]:
        while not stop.is_set():
            known = self._consumer.list_topics(timeout=METADATA_TIMEOUT_S).topics
            missing = [t for t in self._topics if t not in known or known[t].error]
            if not missing:
                return [Source(t, p) for t in self._topics for p in sorted(known[t].partitions)]
            _log.info("waiting for topics %s", ", ".join(missing))
            stop.wait(TOPICS_MISSING_WAIT_S)
        return []


_AWAY = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001  # names of librdkafka's own errors
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001
    }
)
