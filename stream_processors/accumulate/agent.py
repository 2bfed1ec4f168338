"""litmus.events -> partials and checkpoints: every message applied to its partition, once.

The rules are in ``kernels``, the state in ``partition``; here messages come in and records go out.
"""

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import faust
from confluent_kafka import Message
from faust.types import TP, AgentT, ChannelT, StreamT

from schemas.topics import EVENTS, KIND_HEADER, KIND_IMPORT
from stream_processors.accumulate.ceilings import IdCeiling
from stream_processors.accumulate.control_history import control_history
from stream_processors.accumulate.imported import Imported
from stream_processors.accumulate.outbox import Changelog, Outbox, Publish, Written
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.recovery import Found, Recovered
from stream_processors.accumulate.state import CELLS
from stream_processors.accumulate.writing import Write
from stream_processors.settings import IDS_MAX

TICK_AGE_S_MAX = 5.0
FINISH_S_MAX = 2.0

CAUGHT_UP_S = 1.0
"""What came while that was read, Faust may read."""

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

Records = Callable[[Sequence[int]], Mapping[int, Mapping[bytes, bytes]]]
"""Given partitions: what the changelog holds of each. Blocks; called from a thread."""

ReadLog = Callable[[Mapping[int, int | None]], Generator[list[Message], None, None]]
"""Given partitions and cursors: what litmus.events holds from there on. Blocks, likewise."""


class LivePartitions:
    """The partitions that this process owns, with their state and their way out.

    Attributes:
        partitions: By number.
        ids: How many ids they keep, and how many they may.
        imported: Rows of imports that were applied since the start.
    """

    def __init__(
        self,
        *,
        servers: str,
        writer: str,
        records: Records,
        changelog: Changelog,
        publish: Publish,
        ids_max: int = IDS_MAX,
        clock: Callable[[], float] = time.monotonic,
        keeps_pace: bool = True,
    ) -> None:
        self._servers = servers
        self._writer = writer
        self._records = records
        self._changelog = changelog
        self._publish = publish
        self._clock = clock
        self._keeps_pace = keeps_pace
        self._outboxes: dict[int, Outbox] = {}
        self._ticked_at = time.monotonic()
        self._loaded = False
        self._stayed: set[int] = set()
        self.partitions: dict[int, Partition] = {}
        self.ids = IdCeiling(ids_max)
        self.imported: dict[int, Imported] = {}

    async def load(self, assigned: frozenset[TP]) -> None:
        """Recover partitions that are new here; keep those that stayed; forget the others.

        What stayed is right where it stands: live state is a function of the log up to its
        cursor, whoever else may have owned the partition in between. Of records it knows its own
        alone, so once caught up it writes all segments anew.
        """
        wanted = {tp.partition for tp in assigned}
        self._stayed = wanted & set(self.partitions)
        for number in set(self.partitions) - wanted:
            del self.partitions[number]
            self.imported.pop(number, None)
            self.ids.forget(number)
            self._outboxes.pop(number).close()
        missing = sorted(wanted - set(self.partitions))
        if missing:
            await self._recover(missing)
        self._loaded = True

    def cursor(self, tp: TP) -> int | None:
        """Return the next offset to read."""
        partition = self.partitions.get(tp.partition)
        return None if partition is None else partition.cursor

    async def apply(self, number: int, offset: int, kind: bytes | None, value: bytes) -> None:
        """Apply a message of a partition; a gap, or anything that is not ours, raises."""
        partition = self.partitions.get(number)
        if partition is None or offset < partition.cursor:
            return  # not ours yet, or delivered again
        ignored_before = partition.ignored_imports
        try:
            ticked = partition.apply(offset, kind, value)
        except Exception as error:
            error.add_note(_what_to_do(number, offset))
            raise
        if kind == KIND_IMPORT and partition.ignored_imports == ignored_before:
            self.imported.setdefault(number, Imported()).count(partition, value)
        # After batches too, for no tick may come; first: of what is too much nothing is reported.
        self.ids.check(number, partition)
        if ticked is not None:
            self._ticked_at = time.monotonic()
            if ticked.partials or ticked.writes:
                await self._outboxes[number].put(ticked)

    async def close(self) -> None:
        """Own nothing any more; what ticks yielded is delivered first, if that is soon."""
        outboxes, self._outboxes, self.partitions = self._outboxes, {}, {}
        self.imported.clear()
        self.ids.clear()
        await asyncio.gather(*(one.finish(FINISH_S_MAX) for one in outboxes.values()))

    def written(self, number: int) -> Written | None:
        """Return what the broker has of a partition's checkpoints; None: it is not ours."""
        outbox = self._outboxes.get(number)
        return None if outbox is None else outbox.written

    def readiness(self) -> dict[str, Any]:
        """Return whether every partition owned here is live and moves on."""
        live = [number for number, one in self.partitions.items() if one.is_live]
        age_s = time.monotonic() - self._ticked_at
        moving = not self.partitions or age_s < TICK_AGE_S_MAX
        return {
            "ready": self._loaded and moving and len(live) == len(self.partitions),
            "partitions": sorted(self.partitions),
            "live": sorted(live),
            "tick": min((one.tick for one in self.partitions.values()), default=0),
            "tick_age_ms": round(age_s * 1_000),
            "ids": self.ids.total,
            "ids_max": self.ids.maximum,
        }

    async def catch_up(self, read_log: ReadLog) -> None:
        """Apply what the log holds by now, in bulk: by way of Faust it takes many times as long.

        What came meanwhile is read likewise, until that is little, or no longer becomes less.
        """
        took_s = math.inf
        while self.partitions:
            before_s, took_s = took_s, await self._read_on(read_log)
            if took_s < CAUGHT_UP_S or took_s >= before_s:
                break
        for number, partition in self.partitions.items():
            if number in self._stayed:
                partition.write_anew()
            partition.checkpoints.begin_soon()

    async def _read_on(self, read_log: ReadLog) -> float:
        """Apply what the log holds when it is asked; return the seconds that took."""
        cursors = {number: one.cursor for number, one in self.partitions.items()}
        began, applied = self._clock(), 0
        async with aclosing(_in_threads(read_log(cursors))) as batches:
            async for messages in batches:
                for one in messages:
                    kind = _kind(one.headers())
                    await self.apply(one.partition(), one.offset(), kind, one.value() or b"")
                applied += len(messages)
        took_s = self._clock() - began
        _log.info("caught up with %d messages in %.2f s", applied, took_s)
        return took_s

    async def _recover(self, numbers: list[int]) -> None:
        began = time.monotonic()
        async with control_history(self._servers) as history:
            log_id, records = await asyncio.gather(
                history.log_id(), asyncio.to_thread(self._records, numbers)
            )
            read_s = time.monotonic() - began
            size = sum(len(value) for one in records.values() for value in one.values())
            found = await _side_by_side(
                lambda number: Found(number, records[number].items(), log_id=log_id), numbers
            )
            records = {}  # what was read is not kept longer than needed
            found_s = time.monotonic() - began
            await history.check({number: one.proofs for number, one in found.items()})
            states = await history.states_at(
                {one.start.tick for one in found.values() if one.start}
            )
        controlled_s = time.monotonic() - began

        def build(number: int) -> Recovered:
            one = found.pop(number)  # nor is what it held
            control = states[one.start.tick] if one.start else None
            return one.build(control, writer=self._writer)

        built = await _side_by_side(build, numbers)
        for number, (partition, superseded) in built.items():
            if self._keeps_pace:
                cells = int(partition.state.counts[CELLS])
                partition.checkpoints.keep_pace(self._clock, cells=cells)
            self.partitions[number] = partition
            self.imported[number] = Imported()
            self._outboxes[number] = Outbox(
                number, publish=self._publish, changelog=self._changelog
            )
            for key in superseded:
                self._changelog.write(number, Write(key, None))
            _log.info("litmus.events/%d resumes at offset %d", number, partition.cursor)
        _log.info(
            "recovered %d partitions in %.2f s: %.1f MB of changelog read by %.2f, decoded by %.2f,"
            " definitions and log checked by %.2f",
            len(numbers), time.monotonic() - began, size / 1e6, read_s, found_s, controlled_s,
        )  # fmt: skip


async def _side_by_side(
    call: Callable[[int], _Result], numbers: Sequence[int]
) -> dict[int, _Result]:
    """Return what a blocking call returns for each; as many run at a time as there are cores.

    Most of what they do is done in kernels, which let others run.
    """
    free = asyncio.Semaphore(os.cpu_count() or 1)

    async def result(number: int) -> _Result:
        async with free:
            return await asyncio.to_thread(call, number)

    results = await asyncio.gather(*(result(number) for number in numbers))
    return dict(zip(numbers, results, strict=True))


async def _in_threads(
    batches: Generator[list[Message], None, None],
) -> AsyncGenerator[list[Message], None]:
    """Yield what a blocking generator yields; close it even when cancelled, once it pauses."""
    reading: asyncio.Task[list[Message] | None] | None = None
    try:
        while True:
            reading = asyncio.create_task(asyncio.to_thread(next, batches, None))
            messages = await asyncio.shield(reading)
            if messages is None:
                return
            yield messages
    finally:
        if reading is not None:
            await asyncio.wait({reading})
        await asyncio.to_thread(batches.close)


def register_accumulate_agent(
    app: faust.App, *, events: ChannelT[bytes], live: LivePartitions
) -> AgentT[bytes]:
    """Register the agent on ``app``.

    Any error stops the worker: a gap or an unreadable message must not be stepped over, and the
    next start resumes at the state's own offsets.
    """

    @app.agent(events, name="accumulate")  # type: ignore[untyped-decorator]
    async def accumulate(stream: StreamT[bytes]) -> None:
        records = stream.noack()
        async for event in records.events():
            message = event.message
            await live.apply(
                message.partition, message.offset, _kind(message.headers), event.value or b""
            )
            # At once: the group's offset only measures lag. Where to resume, the state knows.
            await records.ack(event)

    return accumulate


def _what_to_do(partition: int, offset: int) -> str:
    return (
        f"{EVENTS.name}/{partition} cannot be read on at offset {offset}; nothing from there on is "
        "counted, nothing is skipped, and looks wait. Only doors and control may write to this "
        "topic. If something else did, keep it off; the message is to be seen with kcat -C -t "
        f"{EVENTS.name} -p {partition} -o {offset} -c 1. If it is a door's, this worker may be of "
        "an older version than the door. Restarting alone will not help"
    )


def _kind(headers: Any) -> bytes | None:
    found = dict(headers or ()).get(KIND_HEADER)
    return None if found is None else bytes(found)
