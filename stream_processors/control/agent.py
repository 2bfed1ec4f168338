"""litmus.commands, litmus.marks and litmus.control itself -> ticks: five a second.

The writer decides what is sent (``writing``); here it is fed, its sends are delivered, and time
passes. The clock only paces: it never enters a record.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import faust
from aiokafka.errors import MessageSizeTooLargeError
from faust.types import TP, AgentT, ChannelT, StreamT

from schemas.control import SNAPSHOT_EVERY, TICK_INTERVAL_MS, ControlRecord
from schemas.topics import COMMANDS, CONTROL, MARKS
from stream_processors.control import telemetry
from stream_processors.control.writing import Send, Writer, without_snapshot

SOURCES = (CONTROL.name, COMMANDS.name, MARKS.name)

TICK_INTERVAL_S = TICK_INTERVAL_MS / 1_000
RETRY_INTERVAL_S = 0.005
"""How often a writer is asked again that may not append yet."""

BACKLOG_S_MAX = 1.0
"""Beats missed for longer than this are not made up for: log time jumps by itself."""

LOG_TIME_LAG_MS_MAX = 1_000
STALLED_AFTER_S = 45.0
READY_WITHIN_S = 2.0

_log = logging.getLogger(__name__)

Resume = Callable[[], Awaitable[Writer]]


class StalledError(Exception):
    """This process holds the partitions, but no tick comes: a restart joins the group anew."""


class LiveWriter:
    """The writer of this process while it holds the partitions; otherwise it stands by."""

    def __init__(self, app: faust.App, resume: Resume) -> None:
        self._app = app
        self._resume = resume
        self._writer: Writer | None = None
        self._loaded = False
        self._first_sends: list[Send] = []
        self._ticked_at = time.monotonic()

    async def load(self, assigned: frozenset[TP]) -> None:
        """Start a new writer, or stand by when another process holds the partitions."""
        self._writer = None
        if {tp.topic for tp in assigned} == set(SOURCES):
            writer = await self._resume()
            self._first_sends = writer.begin()
            self._writer = writer
            self._ticked_at = time.monotonic()
            last = writer.control.last
            _log.info("writes from tick %d on", last.record.number + 1 if last else 1)
        else:
            _log.info("stands by: another process writes")
        self._loaded = True

    def cursor(self, tp: TP) -> int | None:
        """Return the next offset to read."""
        writer = self._writer
        if writer is None:
            return None
        if tp.topic == CONTROL.name:
            return writer.control.next_offset
        return writer.next_command_offset if tp.topic == COMMANDS.name else writer.next_mark_offset

    async def read(self, topic: str, offset: int, appended_ms: int, value: bytes) -> None:
        """Take in a record and deliver what it asks for."""
        writer = self._writer
        if writer is None:
            return
        if topic == COMMANDS.name:
            writer.read_command(offset, appended_ms, value)
        elif topic == MARKS.name:
            self._read_mark(writer, value)
        else:
            await self._read_control(writer, offset, appended_ms, value)

    async def keep_ticking(self) -> None:
        """Append the next record at every beat, or as soon after it as the writer may."""
        due = time.monotonic()
        while True:
            await asyncio.sleep(max(due - time.monotonic(), RETRY_INTERVAL_S))
            if not await self._tick():
                continue
            behind = self._writer is not None and self._writer.lag_ms > LOG_TIME_LAG_MS_MAX
            now = time.monotonic()
            due = now if behind else max(due + TICK_INTERVAL_S, now - BACKLOG_S_MAX)

    def readiness(self) -> dict[str, Any]:
        """Return whether this process does its part, and which."""
        age_s = time.monotonic() - self._ticked_at
        writing = self._writer is not None
        settled = self._loaded and not self._app.rebalancing
        return {
            "ready": settled and (not writing or age_s < READY_WITHIN_S),
            "role": "writer" if writing else "standby",
            "tick": self._last_number(),
            "tick_age_ms": round(age_s * 1_000) if writing else None,
            "settled_lag_ms": self._settled_lag_ms(),
        }

    async def _tick(self) -> bool:
        writer = self._writer
        if writer is None:
            return False
        if time.monotonic() - self._ticked_at > STALLED_AFTER_S:
            raise StalledError(f"no tick for {STALLED_AFTER_S} s after {self._last_number()}")
        first_sends, self._first_sends = self._first_sends, []
        await self._deliver(writer, first_sends)
        send = writer.append_next()
        if send is None:
            return False
        await self._append(writer, send)
        return True

    async def _append(self, writer: Writer, send: Send) -> None:
        """Deliver a control record: without its snapshot, if the topic takes none so large."""
        try:
            await self._deliver(writer, [send])
        except MessageSizeTooLargeError:
            lean = without_snapshot(send)
            if lean is None:
                raise
            await self._deliver(writer, [lean])

    async def _read_control(
        self, writer: Writer, offset: int, appended_ms: int, value: bytes
    ) -> None:
        ignored_before, number_before = writer.control.ignored_count, self._last_number()
        sends = writer.read_control(offset, appended_ms, value)
        telemetry.IGNORED.inc(writer.control.ignored_count - ignored_before)
        last = writer.control.last
        if last is not None and last.record.number > number_before:
            now = time.monotonic()
            telemetry.TICKS.inc()
            telemetry.TICK_INTERVAL.observe(now - self._ticked_at)
            telemetry.SETTLED_LAG.set((last.times.log_ms - last.times.settled_ms) / 1_000)
            telemetry.count_commands(last.record.outcomes)
            _tell_missing_snapshot(last.record)
            telemetry.show_low_waters(writer.low_waters_ms())
            self._ticked_at = now
        await self._deliver(writer, sends)

    def _read_mark(self, writer: Writer, value: bytes) -> None:
        unreadable_before = writer.unreadable_mark_count
        writer.read_mark(value)
        telemetry.UNREADABLE_MARKS.inc(writer.unreadable_mark_count - unreadable_before)

    async def _deliver(self, writer: Writer, sends: Iterable[Send]) -> None:
        """Return when the broker has all of ``sends``; raise if it did not take one."""
        deliveries = [(send, await self._app.producer.send(*_arguments(send))) for send in sends]
        for send, delivery in deliveries:
            await delivery
            writer.acknowledge(send)

    def _settled_lag_ms(self) -> int | None:
        """Return how far settled time is behind log time: so long windows close late."""
        last = self._writer.control.last if self._writer is not None else None
        return None if last is None else last.times.log_ms - last.times.settled_ms

    def _last_number(self) -> int:
        last = self._writer.control.last if self._writer is not None else None
        return last.record.number if last is not None else 0


def register_control_agent(
    app: faust.App, *, records: ChannelT[bytes], live_writer: LiveWriter
) -> AgentT[bytes]:
    """Register the agent, and the task that makes time pass, on ``app``.

    Any error stops the process: the next start resumes from the log.
    """

    @app.agent(records, name="control")  # type: ignore[untyped-decorator]
    async def control(stream: StreamT[bytes]) -> None:
        unacknowledged = stream.noack()
        async for event in unacknowledged.events():
            message = event.message
            appended_ms = round(message.timestamp * 1_000)
            await live_writer.read(message.topic, message.offset, appended_ms, event.value or b"")
            # The group's offset only measures lag. Where to resume, the log says.
            await unacknowledged.ack(event)

    @app.task  # type: ignore[untyped-decorator]
    async def keep_ticking() -> None:
        await live_writer.keep_ticking()

    return control


def _tell_missing_snapshot(record: ControlRecord) -> None:
    if record.number % SNAPSHOT_EVERY or record.snapshot is not None:
        return
    telemetry.MISSING_SNAPSHOTS.inc()
    _log.warning(
        "tick %d carries no snapshot of all definitions, it would be too large: a start of any"
        " process reads the control log from offset %d on, and takes longer every day. Fewer"
        " metrics and segments in new experiments keep it from growing. If this began with an"
        " upgrade: litmus topics create raises what litmus.control takes",
        record.number, record.snapshot_offset,
    )  # fmt: skip


def _arguments(send: Send) -> tuple[Any, ...]:
    return send.topic, send.key, send.value, send.partition, None, list(send.headers)
