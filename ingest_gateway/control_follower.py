"""Reads the control log into memory: definitions and settings, for doors and gateways.

What record n changes may be used only after record n + 1 was read: then every partition of
``litmus.events`` holds tick n, so no row that needs a change can stand before it. The view works
without Kafka once it is caught up; it is only not fresh then.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from ingest_gateway.errors import ViewUnavailableError
from schemas.control import ControlFold, ControlState, Outcome, decode_record
from schemas.topics import CONTROL

logger = logging.getLogger(__name__)

POLL_TIMEOUT_S = 0.1
QUERY_TIMEOUT_S = 5.0
START_TIMEOUT_S = 30.0


class ControlView(Protocol):
    """What a gateway knows of the control log."""

    @property
    def usable(self) -> ControlState:
        """Return the newest state that may be used."""
        ...

    @property
    def is_caught_up(self) -> bool:
        """Return whether the state is worth using."""
        ...

    async def fresh(self) -> ControlState:
        """Return a state that holds every change answered before this call.

        Raises:
            ViewUnavailableError: If Kafka does not say what that is.
        """
        ...

    def outcome_of(self, command_id: str) -> "Future[Outcome]":
        """Return the outcome of a command, to come once its changes are usable.

        To be called before the command is sent; cancel it to stop waiting.
        """
        ...


class View:
    """The fold, and what of it may be used. Pure: records in, state out.

    Attributes:
        usable: The state up to and including the record before the last.
        usable_tick: Number of the record that it is the state after; 0 before there is one.
    """

    def __init__(self) -> None:
        self.usable = ControlState()
        self.usable_tick = 0
        self._fold = ControlFold()
        self._pending_outcomes: list[Outcome] = []

    @property
    def next_offset(self) -> int:
        """Return the first offset that was not read."""
        return self._fold.next_offset

    @property
    def last_number(self) -> int:
        """Return the number of the last valid record; 0 before the first."""
        return self._fold.last.record.number if self._fold.last else 0

    def take(self, offset: int, appended_ms: int, value: bytes) -> list[Outcome]:
        """Read one record; return the outcomes that may be told now."""
        state_before, number_before = self._fold.state, self.last_number
        winner = self._fold.take(offset, appended_ms, value)
        if winner is None:
            return []
        self.usable, self.usable_tick = state_before, number_before
        told, self._pending_outcomes = self._pending_outcomes, winner.record.outcomes
        return told


class _Wait(NamedTuple):
    is_over: Callable[[], bool]
    future: "Future[None]"


class ControlFollower:
    """Follows ``litmus.control`` on a thread of its own.

    Args:
        bootstrap: Addresses of brokers.
        on_failure: Called on the thread when following cannot go on: the process must end.
    """

    def __init__(self, bootstrap: str, *, on_failure: Callable[[Exception], None]) -> None:
        self._consumer = Consumer(_consumer_config(bootstrap))
        self._on_failure = on_failure
        self._view = View()
        self._lock = threading.Lock()
        self._waits: list[_Wait] = []
        self._outcomes: dict[str, Future[Outcome]] = {}
        self._caught_up = threading.Event()
        self._is_stopping = threading.Event()
        self._freshening: asyncio.Task[int] | None = None
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

    async def fresh(self) -> ControlState:
        """Return a state that holds every change answered before this call."""
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                end_offset = await self._end_offset_from_now()
                await asyncio.wrap_future(self._read_to(end_offset))
        except (TimeoutError, KafkaException) as error:
            raise ViewUnavailableError("the control log cannot be read now") from error
        return self._view.usable

    def fresh_blocking(self) -> ControlState:
        """Do the same from a thread without an event loop."""
        try:
            self._read_to(self._query_end_offset()).result(QUERY_TIMEOUT_S)
        except (TimeoutError, KafkaException) as error:
            raise ViewUnavailableError("the control log cannot be read now") from error
        return self._view.usable

    async def wait_for_tick(self, number: int) -> None:
        """Return once record ``number`` was read."""
        wait = self._wait_until(lambda: self._view.last_number >= number)
        await asyncio.wrap_future(wait)

    def outcome_of(self, command_id: str) -> "Future[Outcome]":
        """Return the outcome of a command, to come once its changes are usable."""
        future: Future[Outcome] = Future()
        with self._lock:
            self._outcomes[command_id] = future
        future.add_done_callback(lambda _: self._forget(command_id))
        return future

    async def _end_offset_from_now(self) -> int:
        """Ask for the log's end. Callers share a question only if it is asked after they came."""
        running = self._freshening
        if running is not None and not running.done():
            await asyncio.wait([running])
        if self._freshening is running or self._freshening is None:
            question = asyncio.to_thread(self._query_end_offset)
            self._freshening = asyncio.create_task(question)
        return await asyncio.shield(self._freshening)

    def _query_end_offset(self) -> int:
        partition = TopicPartition(CONTROL.name, 0)
        _, end = self._consumer.get_watermark_offsets(partition, timeout=QUERY_TIMEOUT_S)
        return int(end)

    def _read_to(self, end_offset: int) -> "Future[None]":
        return self._wait_until(lambda: self._view.next_offset >= end_offset)

    def _wait_until(self, is_over: Callable[[], bool]) -> "Future[None]":
        wait = _Wait(is_over, Future())
        with self._lock:
            self._waits.append(wait)
        self._end_waits()
        return wait.future

    def _end_waits(self) -> None:
        with self._lock:
            waits, self._waits = self._waits, []
            over = []
            for wait in waits:
                ended = wait.future.cancelled() or wait.is_over()
                (over if ended else self._waits).append(wait)
        for wait in over:
            if wait.future.set_running_or_notify_cancel():
                wait.future.set_result(None)

    def _forget(self, command_id: str) -> None:
        with self._lock:
            self._outcomes.pop(command_id, None)

    def _run(self) -> None:
        try:
            end_offset = self._seek_to_snapshot()
            while not self._is_stopping.is_set():
                if self._view.next_offset >= end_offset and self._view.last_number:
                    self._caught_up.set()
                message = self._consumer.poll(POLL_TIMEOUT_S)
                if message is not None and _has_value(message):
                    self._take(message)
        except Exception as error:
            if not self._is_stopping.is_set():
                logger.exception("control_follower_failed")
                self._on_failure(error)
        finally:
            self._consumer.close()

    def _take(self, message: KafkaMessage) -> None:
        _, appended_ms = message.timestamp()
        for outcome in self._view.take(message.offset(), appended_ms, message.value()):
            with self._lock:
                future = self._outcomes.pop(outcome.command_id, None)
            if future is not None and future.set_running_or_notify_cancel():
                future.set_result(outcome)
        self._end_waits()

    def _seek_to_snapshot(self) -> int:
        """Stand where the last snapshot is; return the end of the log as it was then."""
        low, end = self._watermarks()
        start = OFFSET_BEGINNING
        if end > low:
            # The last record's pointer, never the record itself: a writer that had lost may have
            # appended it, but what it points to was valid when that writer read it.
            record = decode_record(self._read_one(end - 1).value())
            start = record.snapshot_offset if record.snapshot_offset >= 0 else OFFSET_BEGINNING
        self._consumer.assign([TopicPartition(CONTROL.name, 0, start)])
        return end

    def _watermarks(self) -> tuple[int, int]:
        """Ask for the ends of the log until a broker answers: it may start after this process."""
        partition = TopicPartition(CONTROL.name, 0)
        while not self._is_stopping.is_set():
            try:
                return self._consumer.get_watermark_offsets(partition, timeout=1.0)  # type: ignore[no-any-return]
            except KafkaException as error:
                logger.info("control_log_awaited reason=%r", error.args[0].str())
                self._is_stopping.wait(0.2)
        return 0, 0

    def _read_one(self, offset: int) -> KafkaMessage:
        self._consumer.assign([TopicPartition(CONTROL.name, 0, offset)])
        while not self._is_stopping.is_set():
            message = self._consumer.poll(POLL_TIMEOUT_S)
            if message is not None and _has_value(message):
                return message
        raise InterruptedError("stopped while starting")


def _has_value(message: KafkaMessage) -> bool:
    """Return whether this is a record; errors that librdkafka mends by itself are none.

    Raises:
        KafkaException: If it is an error that lasts.
    """
    error = message.error()
    if error is None:
        return True
    if error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
        raise KafkaException(error)
    return False


def _consumer_config(bootstrap: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        "client.id": "litmus-control-follower",
        "group.id": "litmus-control-follower",  # required by the client, never joined
        "enable.auto.commit": False,
        # A log that is shorter than what was read of it is another log.
        "auto.offset.reset": "error",
        "isolation.level": "read_uncommitted",
        "fetch.wait.max.ms": 500,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
    }
