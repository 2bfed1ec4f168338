"""The Kafka producer of the gateway: everything acknowledged by the broker, or refused.

librdkafka sends from threads of its own; one thread here polls it for acknowledgements and hands
them to the event loop, many at a time. There is no queue beside librdkafka's bounded one: what
does not fit is refused with 503, and so is everything while no broker answers.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from ingest_gateway.errors import NotSentError, QueueFullError, SinkUnavailableError
from ingest_gateway.sink import Delivery, Message
from ingest_gateway.telemetry import report_producer_queue

logger = logging.getLogger(__name__)

UNREACHABLE_S_MAX = 1.0
"""A connection that is back within this was no outage; clients wait, and get their 202."""

STALLED_S_MAX = 1.5
"""A connected broker that acknowledges nothing for longer than this is frozen, or worse: until it
does, nothing more is sent after what waits already."""

QUEUE_BYTES_MAX = 64 << 20
POLL_INTERVAL_S = 0.1
LOG_LEVEL_CRITICAL = 2
"""Of librdkafka: below it, every attempt to connect to a broker that is away is a line."""


def producer_config(
    bootstrap: str,
    *,
    client_id: str,
    message_timeout_ms: int,
    queue_bytes_max: int = QUEUE_BYTES_MAX,
) -> dict[str, Any]:
    """Return librdkafka's settings for a producer whose acknowledgement means durable.

    Args:
        bootstrap: Addresses of brokers.
        client_id: Name in the broker's logs.
        message_timeout_ms: After this a message that is not acknowledged has failed.
        queue_bytes_max: Bytes that wait for their acknowledgement; more are refused.
    """
    return {
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "lz4",
        "linger.ms": 1,
        "partitioner": "murmur2_random",
        "message.max.bytes": 1_048_576,
        "message.timeout.ms": message_timeout_ms,
        "queue.buffering.max.messages": 100_000,
        "queue.buffering.max.kbytes": max(1, queue_bytes_max // 1_024),
        # A broker that froze is given up, and found again, by a new connection.
        "socket.timeout.ms": 10_000,
        "socket.connection.setup.timeout.ms": 5_000,
        # Else librdkafka waits up to ten seconds before it looks for a broker that is back.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
        "statistics.interval.ms": 250,
        "log_level": LOG_LEVEL_CRITICAL,
    }


class KafkaSink:
    """Publishes to Kafka. Made and used on the event loop.

    Args:
        bootstrap: Addresses of brokers.
        on_fatal: Called on the loop when the producer cannot go on: the process must end.
        message_timeout_ms: After this a message that is not acknowledged has failed.
        queue_bytes_max: Bytes that wait for their acknowledgement; more are refused.
        clock_s: Monotonic seconds.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        on_fatal: Callable[[str], None],
        message_timeout_ms: int = 10_000,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_fatal = on_fatal
        self._clock_s = clock_s
        self._connection = Connection(clock_s)
        self._outstanding: dict[_Publication, float] = {}
        self._acknowledged_at_s = 0.0
        self._settled: deque[_Publication] = deque()
        self._is_handover_due = False
        self._is_closing = threading.Event()
        config = producer_config(
            bootstrap,
            client_id="litmus-gateway",
            message_timeout_ms=message_timeout_ms,
            queue_bytes_max=queue_bytes_max,
        )
        self._producer = Producer(
            config | {"error_cb": self._on_error, "stats_cb": self._connection.take_statistics},
            logger=logger,
        )
        self._thread = threading.Thread(target=self._poll, name="producer-poll", daemon=True)
        self._thread.start()

    async def publish(self, messages: Sequence[Message]) -> list[Delivery]:
        """Return once every message is acknowledged by all replicas in sync."""
        if not messages:
            return []
        if self._connection.is_lost():
            raise NotSentError("no broker answers")
        if self.is_stalled:
            raise NotSentError(f"the broker acknowledged nothing for {STALLED_S_MAX} s")
        publication = _Publication(len(messages), self._loop.create_future())
        self._outstanding[publication] = self._clock_s()
        try:
            for index, message in enumerate(messages):
                self._produce(
                    message, partial(self._on_delivery, publication, index), is_first=not index
                )
            return await publication.future
        finally:
            self._outstanding.pop(publication, None)

    @property
    def reachable(self) -> bool:
        """Return whether a broker is connected, and acknowledges what it is sent."""
        return self._connection.is_up and not self.is_stalled

    @property
    def is_stalled(self) -> bool:
        """Return whether messages wait, and none has been acknowledged for too long.

        Once all of them have failed this is false again: the next request finds out.
        """
        oldest_s = next(iter(self._outstanding.values()), None)
        if oldest_s is None:
            return False
        waits_since_s = max(oldest_s, self._acknowledged_at_s)
        return self._clock_s() - waits_since_s > STALLED_S_MAX

    @property
    def queue_depth(self) -> int:
        """Return how many messages are not acknowledged yet."""
        return len(self._producer)

    async def close(self, timeout_s: float = 10.0) -> None:
        """Wait for what is under way, then stop."""
        await asyncio.to_thread(self._producer.flush, timeout_s)
        self._is_closing.set()
        await asyncio.to_thread(self._thread.join)

    def _produce(
        self, message: Message, on_delivery: Callable[..., None], *, is_first: bool
    ) -> None:
        try:
            self._producer.produce(
                message.topic,
                message.value,
                message.key,
                message.partition,
                on_delivery,
                headers=list(message.headers),
            )
        except BufferError as error:
            kind = QueueFullError if is_first else SinkUnavailableError  # some may land
            raise kind("the producer's queue is full") from error
        except KafkaException as error:
            raise SinkUnavailableError(error.args[0].str()) from error

    def _poll(self) -> None:
        while not self._is_closing.is_set():
            self._producer.poll(POLL_INTERVAL_S)
            if self._outstanding and self._connection.is_lost():
                self._loop.call_soon_threadsafe(self._refuse_outstanding)

    def _on_delivery(
        self,
        publication: "_Publication",
        index: int,
        error: KafkaError | None,
        message: KafkaMessage,
    ) -> None:
        """Take one acknowledgement, on the polling thread."""
        if error is not None:
            publication.failure = error.str()
        else:
            self._connection.take_delivery()
            self._acknowledged_at_s = self._clock_s()
            publication.deliveries[index] = Delivery(
                message.topic(), message.partition(), message.offset()
            )
        publication.pending -= 1
        if publication.pending:
            return
        self._settled.append(publication)
        if not self._is_handover_due:
            self._is_handover_due = True
            self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        self._is_handover_due = False
        while self._settled:
            self._settled.popleft().settle()

    def _refuse_outstanding(self) -> None:
        for publication in self._outstanding:
            publication.refuse("no broker answers")

    def _on_error(self, error: KafkaError) -> None:
        """Take an error that belongs to no message, on the polling thread."""
        if error.fatal():
            self._loop.call_soon_threadsafe(self._on_fatal, error.str())
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  # its public name
            self._connection.take_outage()


class _Publication:
    """Messages that succeed or fail together, for whoever awaits them."""

    def __init__(self, count: int, future: asyncio.Future[list[Delivery]]) -> None:
        self.pending = count
        self.deliveries: list[Delivery | None] = [None] * count
        self.failure: str | None = None
        self.future = future

    def settle(self) -> None:
        """Tell the outcome; a request that has gone meanwhile is not told."""
        if self.future.done():
            return
        if self.failure is not None:
            self.refuse(self.failure)
        else:
            self.future.set_result(self.deliveries)  # type: ignore[arg-type]  # none is missing

    def refuse(self, reason: str) -> None:
        """Tell that the messages are not known to be durable."""
        if not self.future.done():
            self.future.set_exception(SinkUnavailableError(reason))


class _BrokerStatistics(msgspec.Struct):
    state: str
    nodeid: int


class _Statistics(msgspec.Struct):
    brokers: dict[str, _BrokerStatistics] = {}
    msg_cnt: int = 0
    msg_size: int = 0


_statistics_decoder = msgspec.json.Decoder(_Statistics)


class Connection:
    """Whether a broker is there, as librdkafka reports it. Pure but for the clock it is given.

    Args:
        clock_s: Monotonic seconds.
    """

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._down_since_s: float | None = clock_s()

    @property
    def is_up(self) -> bool:
        """Return whether a broker is connected now."""
        return self._down_since_s is None

    def is_lost(self) -> bool:
        """Return whether none has been connected for longer than a blip."""
        down_since_s = self._down_since_s
        return down_since_s is not None and self._clock_s() - down_since_s > UNREACHABLE_S_MAX

    def take_statistics(self, text: str) -> None:
        """Read librdkafka's periodic statistics."""
        statistics = _statistics_decoder.decode(text)
        brokers = statistics.brokers.values()
        report_producer_queue(statistics.msg_cnt, statistics.msg_size)
        if any(broker.state in ("UP", "UPDATE") for broker in brokers):
            self.take_delivery()
        else:
            self.take_outage()

    def take_outage(self) -> None:
        """Note that the connections to all brokers broke."""
        if self._down_since_s is None:
            self._down_since_s = self._clock_s()
            logger.warning("brokers_lost")

    def take_delivery(self) -> None:
        """Note that a broker answers."""
        if self._down_since_s is not None:
            self._down_since_s = None
            logger.info("broker_connected")
