"""litmus.partials -> looks, snapshots, rows, ledger: each merged tick published, then remembered.

What is merged is decided in ``merging``; here messages come in, records go out, and state is
written only after the looks that it knows of are acknowledged.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, NamedTuple, Protocol

import faust
import msgspec
from faust.types import TP, AgentT, ChannelT, StreamT

from schemas.control import TICKS_PER_SECOND
from schemas.partials import decode_partial
from schemas.topics import LEDGER, LOOKS, SNAPSHOT_ROWS, SNAPSHOTS, Topic
from stream_processors.merge import telemetry
from stream_processors.merge.merging import LIMITS, Limits, MergedTick, Merger
from stream_processors.merge.repeating import SnapshotRepeats

TICK_AGE_S_MAX = 5.0

_log = logging.getLogger(__name__)


class Send(NamedTuple):
    """A record to be published."""

    topic: Topic
    key: str
    value: Any
    timestamp_ms: int


Publish = Callable[[list[Send]], Awaitable[None]]
"""Returns once the broker has all of them; raises if one was not delivered."""


Message = tuple[int, bytes]
"""Offset and value."""

ReadFrom = Callable[[int], Generator[list[Message], None, None]]
"""Yields what is in ``litmus.partials`` from an offset on, in order, to its end. Blocks."""


class LedgerTick(msgspec.Struct, frozen=True):
    """Up to where ``litmus.ledger`` says that ticks were published: all before it are, whole."""

    log_id: str
    tick: int


ReadLedgerTick = Callable[[], LedgerTick | None]
"""Reads what is published by now; None: nothing. Blocks."""


class MergedRecords(Protocol):
    """What merge remembers: a table and its changelog."""

    def read(self) -> Mapping[str, bytes]:
        """Return all records, once recovery is complete."""

    async def write(self, records: Mapping[str, bytes | None]) -> None:
        """Write records, the last one after the others; return once the broker has them.

        None deletes a key.
        """


class OffsetGapError(Exception):
    """A partial is missing; going on would leave a tick without a look."""


class LiveMerger:
    """The merger of this process while it holds the partition; otherwise it stands by.

    Args:
        partition_count: Partitions of ``litmus.events``.
        records: What merge remembers.
        publish: Sends records.
        read_from: Reads again what was left to the topic while a partition was away.
        read_ledger_tick: Reads up to where ticks were published, by whomever.
        limits: What fits.
    """

    def __init__(
        self,
        *,
        partition_count: int,
        records: MergedRecords,
        publish: Publish,
        read_from: ReadFrom,
        read_ledger_tick: ReadLedgerTick,
        limits: Limits = LIMITS,
    ) -> None:
        self._partition_count = partition_count
        self._records = records
        self._publish = publish
        self._read_from = read_from
        self._read_ledger_tick = read_ledger_tick
        self._published: LedgerTick | None = None
        self._limits = limits
        self._waits_for: list[int] = []
        self._loaded = False
        self._merged_at = time.monotonic()
        self._rows_before: dict[str, int] | None = None
        self._repeats = SnapshotRepeats()
        self._offset = 0
        self.merger: Merger | None = None

    async def load(self, assigned: frozenset[TP]) -> None:
        """Load what was remembered, or stand by when another process holds the partition."""
        self.merger = None
        if assigned:
            self._published = await asyncio.to_thread(self._read_ledger_tick)
            merger = Merger.load(self._records.read(), self._partition_count, self._limits)
            self._offset = merger.next_offset
            self._repeats.keep_current(merger.experiments)
            self.merger = merger
            self._merged_at = time.monotonic()
            _log.info("resumes after tick %d at offset %d", merger.tick, merger.next_offset)
            if self._published is not None and merger.tick + 1 < self._published.tick:
                _log.info("publishes only looks before tick %d", self._published.tick)
        self._loaded = True

    def cursor(self, _tp: TP) -> int | None:
        """Return the next offset to read."""
        return None if self.merger is None else self._offset

    async def take(self, offset: int, value: bytes) -> None:
        """Take one partial in; publish and remember the ticks that it completes."""
        merger = self.merger
        if merger is None or offset < self._offset:
            return  # not ours, or delivered again
        _require_next(offset, self._offset)
        self._offset = offset + 1
        await self._take(merger, offset, value)
        while merger is self.merger and merger.next_offset != self._offset:
            await self._read_again(merger)
        self._say_who_is_waited_for(merger)

    async def _take(self, merger: Merger, offset: int, value: bytes) -> None:
        merged = merger.take(offset, decode_partial(value), size=len(value))
        if not merged:
            return
        for tick in merged:
            await self._publish(self._sends(merger, tick))
            telemetry.count(tick)
        if merger is not self.merger:
            return  # handed over meanwhile: the next owner publishes these ticks again
        await self._records.write(merger.records())
        self._merged_at = time.monotonic()

    async def _read_again(self, merger: Merger) -> None:
        """Take what was left to the topic, as far as the merger goes on with one offset."""
        stretch = _Stretch(self._read_from(merger.next_offset))
        try:
            while some := await asyncio.to_thread(stretch.read):
                for offset, value in some:
                    if merger is not self.merger or merger.next_offset == self._offset:
                        return
                    _require_next(offset, merger.next_offset)
                    await self._take(merger, offset, value)
                    if merger.next_offset != offset + 1:
                        return
        finally:
            await asyncio.to_thread(stretch.close)
        if merger is self.merger and merger.next_offset < self._offset:
            _require_next(self._offset, merger.next_offset)

    def _say_who_is_waited_for(self, merger: Merger) -> None:
        waits_for = merger.behind() if merger.is_full else []
        if waits_for and not self._waits_for:
            _log.warning(
                "waits for partitions %s since tick %d: no more reports of the others are held in "
                "memory, they are read again from litmus.partials, which keeps them for a day",
                waits_for,
                merger.tick,
            )
        elif self._waits_for and not merger.is_full:
            _log.info("caught up at tick %d: waits for no partition", merger.tick)
        if waits_for or not merger.is_full:
            self._waits_for = waits_for

    def readiness(self) -> dict[str, Any]:
        """Return whether ticks are merged as they come."""
        age_s = time.monotonic() - self._merged_at
        merger = self.merger
        moving = merger is None or (merger.tick > 0 and age_s < TICK_AGE_S_MAX)
        return {
            "ready": self._loaded and moving,
            "role": "standby" if merger is None else "merger",
            "tick": 0 if merger is None else merger.tick,
            "tick_age_ms": round(age_s * 1_000),
            "behind": [] if merger is None else merger.behind(),
        }

    def _sends(self, merger: Merger, merged: MergedTick) -> list[Send]:
        as_of = merged.times.log_ms
        sends = [Send(LOOKS, one, record, as_of) for one, record in merged.looks]
        snapshots = self._repeats.due(merged.tick)
        for one, snapshot in merged.snapshots:
            snapshots[one] = msgspec.Raw(encode(snapshot))
            self._repeats.publish(merger.experiments[one], snapshots[one])
        if self._has_newer(merged):
            return sends  # looks tell repeats by their identity; of the others the last one stays
        sends += [Send(SNAPSHOTS, one, snapshot, as_of) for one, snapshot in snapshots.items()]
        sends += [Send(SNAPSHOT_ROWS, row.key, row.value, row.timestamp_ms) for row in merged.rows]
        rows = merged.ledger["rows"]
        # Every tick moves the offsets; once a second is often enough where no row came. With a
        # snapshot comes a ledger, because it says up to which tick snapshots are there.
        is_new = rows != self._rows_before or merged.snapshots
        if is_new or merged.tick % TICKS_PER_SECOND == 0:
            self._rows_before = rows
            sends.append(Send(LEDGER, "ledger", merged.ledger, as_of))
        return sends

    def _has_newer(self, merged: MergedTick) -> bool:
        """Return whether all of a tick is published, and newer: who counts anew is behind.

        Of the tick of the ledger's newest record only a part may be there: sends of one tick are
        awaited together, before those of the next.
        """
        published = self._published
        if published is None or published.log_id != merged.ledger["log_id"]:
            return False
        return merged.tick < published.tick


class _Stretch:
    """Messages that threads read. Who is stopped while one reads closes after it, not amid it."""

    def __init__(self, messages: Generator[list[Message], None, None]) -> None:
        self._messages = messages
        self._turn = threading.Lock()

    def read(self) -> list[Message] | None:
        with self._turn:
            return next(self._messages, None)

    def close(self) -> None:
        with self._turn:
            self._messages.close()


def register_merge_agent(
    app: faust.App, *, partials: ChannelT[bytes], live: LiveMerger
) -> AgentT[bytes]:
    """Register the agent on ``app``; any error stops the worker, which resumes from its state."""

    @app.agent(partials, name="merge")  # type: ignore[untyped-decorator]
    async def merge(stream: StreamT[bytes]) -> None:
        records = stream.noack()
        async for event in records.events():
            await live.take(event.message.offset, event.value or b"")
            await records.ack(event)

    return merge


def _require_next(offset: int, expected: int) -> None:
    if offset != expected:
        raise OffsetGapError(
            f"litmus.partials: offset == {offset}, must be {expected}. What lies between "
            "left the topic before it was merged: a partition reported nothing for as long "
            "as the topic keeps partials, or merge did not run. Stop the stack and all workers "
            "(`litmus down`), run `litmus recount`, which empties litmus.partials and what "
            "accumulate and merge remember, and start again (`litmus up`): they count "
            "litmus.events anew, and publish the same looks"
        )


def encode(value: Any) -> bytes:
    """Return the JSON of a record."""
    return msgspec.json.encode(value)
