"""Reads ``litmus.control`` into a view, on a thread, from the last snapshot on.

Before it reads anything, ``litmus.events`` must have as many partitions as the setting says: no
door takes or answers anything until the log was read once, so none does with another number.

The view works without Kafka once it is caught up; it only cannot be freshened then.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import ListOffsetsResultInfo

from ingest_gateway.clock_watch import ClockWatch
from ingest_gateway.control_view import View
from ingest_gateway.errors import ViewUnavailableError
from ingest_gateway.log_ends import LogEnds
from ingest_gateway.partition_count import ask_partition_count
from ingest_gateway.producer import LOG_LEVEL_CRITICAL
from ingest_gateway.settled_watch import SettledWatch
from ingest_gateway.telemetry import report_view
from schemas.control import ControlState, Outcome, decode_record
from schemas.topics import CONTROL

logger = logging.getLogger(__name__)

POLL_TIMEOUT_S = 0.1
FRESH_TIMEOUT_S = 1.5
FRESH_SHARE = 5 / 6
"""Of what a request may take in all, `answer_timeout_ms` of the settings: 1.5 s of its 1.8."""


class ControlFollower:
    """Follows the control log. ``start`` it once; any thread may ask.

    Args:
        bootstrap: Addresses of brokers.
        partition_count: ``LITMUS_PARTITIONS``.
        on_failure: Called on the thread when following cannot go on: the process must end.
        settled: Is told how far settled time is behind.
        fresh_timeout_s: How long reading the log to its end may take.

    Attributes:
        settled: The same.
        clock: Knows how far the own clock is from that of the log.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        partition_count: int,
        on_failure: Callable[[Exception], None],
        settled: SettledWatch,
        fresh_timeout_s: float = FRESH_TIMEOUT_S,
    ) -> None:
        self.settled = settled
        self._fresh_timeout_s = fresh_timeout_s
        self.clock = ClockWatch()
        self._partition_count = partition_count
        self._consumer = Consumer(_consumer_config(bootstrap), logger=logger)
        self._ends = LogEnds(connection_config(bootstrap), timeout_s=fresh_timeout_s)
        self._on_failure = on_failure
        self._view = View()
        self._caught_up = threading.Event()
        self._is_stopping = threading.Event()
        self._question: asyncio.Future[ListOffsetsResultInfo] | None = None
        self._thread = threading.Thread(target=self._run, name="control-follower", daemon=True)

    def start(self) -> None:
        """Begin to read; ``is_caught_up`` says when the view is worth using."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._is_stopping.set()
        self._thread.join()

    @property
    def usable(self) -> ControlState:
        """Return the newest state that may be used."""
        return self._view.usable

    @property
    def usable_tick(self) -> int:
        """Return the number of the record that ``usable`` is the state after."""
        return self._view.usable_tick

    @property
    def is_caught_up(self) -> bool:
        """Return whether the log was once read to its end."""
        return self._caught_up.is_set()

    def outcome_of(self, command_id: str) -> "Future[Outcome]":
        """Return the outcome of a command, to come once its changes are usable."""
        return self._view.outcome_of(command_id)

    async def fresh(self) -> ControlState:
        """Return a state that holds every change answered before this call."""
        try:
            async with asyncio.timeout(self._fresh_timeout_s):
                end_offset = await self._ask_for_end()
                await asyncio.wrap_future(self._view.read_to(end_offset))
        except (TimeoutError, KafkaException) as error:
            self._ends.failed(error)
            raise _unavailable() from error
        return self._view.usable

    def fresh_blocking(self) -> ControlState:
        """Do the same on a thread without an event loop."""
        reached: Future[None] | None = None
        try:
            end_offset = int(self._query_end().result(self._fresh_timeout_s).offset)
            reached = self._view.read_to(end_offset)
            reached.result(self._fresh_timeout_s)
        except (TimeoutError, KafkaException) as error:
            if reached is not None:
                reached.cancel()
            self._ends.failed(error)
            raise _unavailable() from error
        return self._view.usable

    async def wait_for_tick(self, number: int) -> None:
        """Return once record ``number`` was read."""
        await asyncio.wrap_future(self._view.tick_read(number))

    async def _ask_for_end(self) -> int:
        """Ask for the log's end. Callers share a question only if it is asked after they came."""
        earlier = self._question
        if earlier is not None and not earlier.done():
            await asyncio.wait([earlier])
        if self._question is earlier or self._question is None:
            self._question = asyncio.ensure_future(asyncio.wrap_future(self._query_end()))
            # Who asked may have gone by the time it fails: asyncio would complain in the log.
            self._question.add_done_callback(_take_failure)
        return int((await asyncio.shield(self._question)).offset)

    def _query_end(self) -> "Future[ListOffsetsResultInfo]":
        partition = TopicPartition(CONTROL.name, 0)
        return self._ends.ask([partition])[partition]

    def _run(self) -> None:
        try:
            end_offset = self._seek_to_snapshot()
            while not self._is_stopping.is_set():
                message = self._poll()
                now_s = time.monotonic()
                if message is not None:
                    self._take(message, now_s)
                if self._caught_up.is_set():
                    self.settled.pass_time(now_s)
                    self.clock.look(_wall_clock_ms(), now_s)
                elif self._view.next_offset >= end_offset and self._view.last_number:
                    self._begin(now_s)
        except Exception as error:
            if not self._is_stopping.is_set():
                logger.exception("control_follower_failed")
                self._on_failure(error)
        finally:
            self._consumer.close()

    def _take(self, message: KafkaMessage, now_s: float) -> None:
        """Take a record in. Only the last one of the log says what the time is there."""
        _, appended_ms = message.timestamp()
        is_valid = self._view.take(message.offset(), appended_ms, message.value())
        report_view(self._view.usable_tick)
        if not is_valid:
            return
        if message.offset() + 1 >= self._known_end():
            self.clock.read(self._view.log_now_ms, _wall_clock_ms(), now_s)
        if self._caught_up.is_set():
            self.settled.look(self._view.settled_lag_ms, now_s)

    def _known_end(self) -> int:
        """Return the end of the log as the last answer of the broker to this consumer gave it."""
        partition = TopicPartition(CONTROL.name, 0)
        _, end = self._consumer.get_watermark_offsets(partition, cached=True)
        return int(end)

    def _begin(self, now_s: float) -> None:
        """Be of use, unless it shows in a moment whether the own clock is right."""
        if self.clock.is_in_doubt(now_s):
            return
        # Nobody writes to a log whose last record stays old: control has been silent for so long.
        silent_ms = 0 if self.clock.is_known else _wall_clock_ms() - self._view.log_now_ms
        self.settled.look(self._view.settled_lag_ms, now_s, silent_s=max(0, silent_ms) / 1_000)
        self._caught_up.set()

    def _seek_to_snapshot(self) -> int:
        """Stand where the last snapshot is; return the end of the log as it was then."""
        low, end = self._await_ends()
        start = OFFSET_BEGINNING
        if end > low:
            # What the last record points to, never the record itself: a writer that had lost may
            # have appended it, but the snapshot that it knew was valid when it read the log.
            snapshot_offset = decode_record(self._read_one(end - 1)).snapshot_offset
            start = snapshot_offset if snapshot_offset >= 0 else OFFSET_BEGINNING
        self._consumer.assign([TopicPartition(CONTROL.name, 0, start)])
        return end

    def _await_ends(self) -> tuple[int, int]:
        """Ask for the ends of the log until a broker answers: it may start after this process.

        Raises:
            PartitionCountError: If it answers that this process may not be a door.
        """
        partition = TopicPartition(CONTROL.name, 0)
        while not self._is_stopping.is_set():
            try:
                ask_partition_count(self._consumer, self._partition_count, timeout_s=1.0)
                low, end = self._consumer.get_watermark_offsets(partition, timeout=1.0)
            except KafkaException as error:
                logger.info("control_log_awaited reason=%r", error.args[0].str())
                self._is_stopping.wait(0.2)
            else:
                return low, end
        return 0, 0

    def _read_one(self, offset: int) -> bytes:
        self._consumer.assign([TopicPartition(CONTROL.name, 0, offset)])
        while not self._is_stopping.is_set():
            message = self._poll()
            if message is not None:
                return bytes(message.value())
        raise InterruptedError("stopped while starting")

    def _poll(self) -> KafkaMessage | None:
        """Return the next record, None while there is none or no broker answers.

        Raises:
            KafkaException: If reading cannot go on.
        """
        message = self._consumer.poll(POLL_TIMEOUT_S)
        error = message.error() if message is not None else None
        if error is None:
            return message
        if error.fatal() or error.code() in _LASTING:
            raise KafkaException(error)
        return None


_LASTING = (KafkaError._FATAL, KafkaError._AUTO_OFFSET_RESET)  # noqa: SLF001  # public names


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _unavailable() -> ViewUnavailableError:
    return ViewUnavailableError("the control log cannot be read to its end now")


def _take_failure(question: "asyncio.Future[ListOffsetsResultInfo]") -> None:
    if not question.cancelled():
        question.exception()


def connection_config(bootstrap: str) -> dict[str, Any]:
    """Return librdkafka's settings for finding a broker, and finding it again soon."""
    return {
        "bootstrap.servers": bootstrap,
        "client.id": "litmus-control-follower",
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
        "log_level": LOG_LEVEL_CRITICAL,
    }


def _consumer_config(bootstrap: str) -> dict[str, Any]:
    return connection_config(bootstrap) | {
        "group.id": "litmus-control-follower",  # the client wants one; it is never joined
        "enable.auto.commit": False,
        # A log that is shorter than what was read of it is another log.
        "auto.offset.reset": "error",
        "isolation.level": "read_uncommitted",
    }
