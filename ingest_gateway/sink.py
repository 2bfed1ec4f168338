"""Where the gateway's messages go: a Kafka broker, or memory with the same manners.

Both doors of HTTP and the commands write through ``EventSink``; ``producer.KafkaSink`` is the
real one.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ingest_gateway.errors import NotSentError, SinkUnavailableError

PARTITION_BY_KEY = -1


class Message(NamedTuple):
    """A message on its way.

    Attributes:
        topic: Where it goes.
        value: Its bytes.
        partition: Which partition; ``PARTITION_BY_KEY`` leaves it to the key.
        key: Its key.
        headers: Its headers, in order.
    """

    topic: str
    value: bytes
    partition: int = PARTITION_BY_KEY
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class Delivery(NamedTuple):
    """Where the broker put a message, as it acknowledged."""

    topic: str
    partition: int
    offset: int


class EventSink(Protocol):
    """Takes messages and says when they are durable."""

    async def publish(self, messages: Sequence[Message]) -> list[Delivery]:
        """Return once every message is durable, with their places in the order of ``messages``.

        Raises:
            SinkUnavailableError: If one is not, or not known to be. Some of the messages may
                be in the log all the same, now or later: sending all again is what ids are for.
            NotSentError: If none was sent, and none will be.
            QueueFullError: Likewise.
        """
        ...

    @property
    def reachable(self) -> bool:
        """Return whether a message sent now can be expected to arrive."""
        ...


class MemorySink:
    """Logs in memory. May be made to misbehave as a broker does.

    Attributes:
        logs: Every partition's messages; the offset is the index.
        away: Refuse everything, as when no broker answers.
        answers_lost: Write everything and refuse all the same, as when the answer gets lost.
    """

    def __init__(self) -> None:
        self.logs: defaultdict[tuple[str, int], list[Message]] = defaultdict(list)
        self.away = False
        self.answers_lost = False

    async def publish(self, messages: Sequence[Message]) -> list[Delivery]:
        """Append the messages to their partitions."""
        if self.away:
            raise NotSentError("no broker answers")
        deliveries = [self._append(message) for message in messages]
        if self.answers_lost:
            raise SinkUnavailableError("the broker did not acknowledge in time")
        return deliveries

    @property
    def reachable(self) -> bool:
        """Return whether a message sent now would be taken."""
        return not self.away

    def of(self, topic: str) -> list[Message]:
        """Return all messages of a topic, partition after partition."""
        return [
            message
            for (name, _), log in sorted(self.logs.items())
            if name == topic
            for message in log
        ]

    def _append(self, message: Message) -> Delivery:
        partition = 0 if message.partition == PARTITION_BY_KEY else message.partition
        log = self.logs[message.topic, partition]
        log.append(message)
        return Delivery(message.topic, partition, len(log) - 1)
