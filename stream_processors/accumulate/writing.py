"""Which records of a partition are written at which tick. Pure.

Segments take turns over a cycle of ticks, then the manifest says which record of each is the
newest and where the cycle began. Chunks are written when they end. What a record replaces, and
chunks that no recovery needs any more, are deleted after it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from schemas.control import TICKS_PER_SECOND
from stream_processors.accumulate.checkpoints import (
    chunk_record,
    forget_recent,
    segment_record,
)
from stream_processors.accumulate.plan import Names, Plan
from stream_processors.accumulate.records import (
    CHUNK,
    MANIFEST,
    SEGMENT,
    Header,
    Key,
    Manifest,
    SegmentRecord,
    write_record,
)
from stream_processors.accumulate.state import (
    CELLS,
    RECENT_END,
    RECENT_START,
    SEGMENTS,
    State,
)

CHUNK_TICKS = 25
CYCLE_TICKS = 15
CELLS_PER_SHORT_CYCLE = 100_000
"""A cycle lengthens with the state, so that checkpoint traffic does not. A start reads the log from
the cycle before on: at half as many, a partition of 250,000 cells would read 24 s of it, not 12."""

NO_RECORD = -1

PACE_MIN = 0.8
"""A cycle takes at least this share of the time that its ticks were made in."""


class Write(NamedTuple):
    """A record for the changelog; ``value`` None deletes it."""

    key: bytes
    value: bytes | None


class StoredChunk(NamedTuple):
    """A chunk in the changelog.

    Attributes:
        number: Its number.
        header: Of the tick that ends it.
        last: First recent row after it.
        timestamp_through_max: Latest timestamp in it and all before.
        keys: Of its parts.
    """

    number: int
    header: Header
    last: int
    timestamp_through_max: int
    keys: list[bytes]


class CheckpointWriter:
    """Decides what is written, and remembers what was."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._clock: Callable[[], float] | None = None
        self._began_s = -math.inf
        self._cycle = CYCLE_TICKS
        self._base: Header | None = None
        self._safe: Header | None = None
        self._keys: list[list[bytes]] = [[] for _ in range(SEGMENTS)]
        self._manifest_keys: list[bytes] = []
        self.recorded = [NO_RECORD] * SEGMENTS
        self.chunks: list[StoredChunk] = []
        self._chunk_start = 0
        self._chunk_first = 0

    def resume(
        self,
        *,
        recorded: list[int],
        keys: list[list[bytes]],
        manifest_keys: list[bytes],
        chunks: list[StoredChunk],
        start: int,
        first: int,
    ) -> None:
        """Go on from what recovery found.

        Args:
            recorded: Per segment, the offset of its record.
            keys: Per segment, the keys of its record.
            manifest_keys: Of the newest manifest.
            chunks: Those that were loaded, oldest first.
            start: Source offset at which the chunk in progress begins.
            first: Number of its first recent row.
        """
        self.recorded, self._keys, self.chunks = recorded, keys, chunks
        self._manifest_keys = manifest_keys
        self._chunk_start, self._chunk_first = start, first

    def keep_pace(self, clock: Callable[[], float], *, cells: int) -> None:
        """Begin cycles by ``clock`` too, which gives seconds, the first one a cycle from now.

        Ticks are read faster than they came when one catches up: the same segments would be
        written many times over, and what is recovered would be late for it.
        """
        self._clock, self._began_s = clock, clock()
        self._cycle = self._cycle_for(cells)

    def begin_soon(self) -> None:
        """Begin the next cycle at its tick, whenever the last one began."""
        self._began_s = -math.inf

    def at_tick(
        self,
        state: State,
        plan: Plan,
        *,
        header: Header,
        is_live: bool,
        metrics: Names,
        unit_types: Names,
    ) -> list[Write]:
        """Return what is to be written at a tick; old rows are forgotten."""
        writes: list[Write] = []
        if header.tick % CHUNK_TICKS == 0:
            writes += self._end_chunk(state, header, metrics, unit_types)
            self._forget(state, header)
        if is_live:
            writes += self._turn(state, plan, header, metrics, unit_types)
        return writes

    # --- chunks ---

    def _end_chunk(
        self, state: State, header: Header, metrics: Names, unit_types: Names
    ) -> list[Write]:
        through = self.chunks[-1].timestamp_through_max if self.chunks else 0
        record = chunk_record(
            state,
            header=header,
            start=self._chunk_start,
            first=self._chunk_first,
            timestamp_through_max=through,
            metrics=metrics,
            unit_types=unit_types,
        )
        number = header.tick // CHUNK_TICKS - 1
        written = write_record(Key(self._partition, CHUNK, number, header.offset, 0, 0), record)
        self._chunk_start = header.offset
        self._chunk_first = int(state.counts[RECENT_END])
        self.chunks.append(
            StoredChunk(
                number,
                header,
                self._chunk_first,
                record.timestamp_through_max,
                [key for key, _ in written],
            )
        )
        return [Write(key, value) for key, value in written]

    def _forget(self, state: State, header: Header) -> None:
        """Forget recent rows of chunks that are, with all before them, older than the horizon."""
        horizon = header.times.horizon_ms
        before = max(
            (one.last for one in self.chunks if one.timestamp_through_max < horizon), default=0
        )
        if before > int(state.counts[RECENT_START]):
            forget_recent(state, before)

    def _delete_chunks(self) -> list[Write]:
        """Delete chunks that a recovery from the manifest before this one does not need.

        It begins at the end of the newest chunk up to that manifest's base, and goes back to a
        chunk that is, with all before it, older than the horizon there.
        """
        if self._safe is None:
            return []
        offset = self._safe.offset
        ends = [one.header for one in self.chunks if one.header.offset <= offset]
        horizon = ends[-1].times.horizon_ms if ends else 0
        deleted: list[Write] = []
        while (
            len(self.chunks) > 1
            and self.chunks[1].header.offset <= offset
            and self.chunks[1].timestamp_through_max < horizon
        ):
            deleted += [Write(key, None) for key in self.chunks.pop(0).keys]
        return deleted

    # --- segments ---

    def _turn(
        self, state: State, plan: Plan, header: Header, metrics: Names, unit_types: Names
    ) -> list[Write]:
        """Write the dirty segments whose turn it is, and at the end of a cycle the manifest."""
        if header.tick % self._cycle == 0 and self._is_time():
            self._base = header
            self._cycle = self._cycle_for(int(state.counts[CELLS]))
        if self._base is None:
            return []
        step = header.tick - self._base.tick
        writes: list[Write] = []
        for segment in range(SEGMENTS):
            if segment * self._cycle // SEGMENTS == step and state.segments["dirty"][segment]:
                record = segment_record(
                    state,
                    segment,
                    plan=plan,
                    header=header,
                    metrics=metrics,
                    unit_types=unit_types,
                )
                writes += self._write_segment(state, segment, record)
        if step == self._cycle - 1:
            writes += self._write_manifest()
        return writes

    def _is_time(self) -> bool:
        """Return whether a cycle may begin, and take note that it does."""
        if self._clock is None:
            return True
        now_s = self._clock()
        if now_s - self._began_s < PACE_MIN * self._cycle / TICKS_PER_SECOND:
            return False
        self._began_s = now_s
        return True

    def _cycle_for(self, cells: int) -> int:
        cycle = CYCLE_TICKS
        while cells > CELLS_PER_SHORT_CYCLE * (cycle // CYCLE_TICKS) and cycle < 64 * CYCLE_TICKS:
            cycle *= 2
        return cycle

    def _write_segment(self, state: State, segment: int, record: SegmentRecord) -> list[Write]:
        header = record.header
        key = Key(self._partition, SEGMENT, segment, header.offset, 0, 0)
        written = write_record(key, record)
        replaced = [Write(old, None) for old in self._keys[segment]]
        self._keys[segment] = [key for key, _ in written]
        self.recorded[segment] = header.offset
        # A segment is complete up to the cursor now: it is live, so the cursor has passed it.
        state.segments["offset"][segment] = header.offset
        state.segments["dirty"][segment] = False
        return [Write(key, value) for key, value in written] + replaced

    def _write_manifest(self) -> list[Write]:
        assert self._base is not None
        manifest = Manifest(self._base, list(self.recorded))
        key = Key(self._partition, MANIFEST, 0, self._base.offset, 0, 0)
        written = write_record(key, manifest)
        writes = [Write(key, value) for key, value in written]
        writes += [Write(key, None) for key in self._manifest_keys]
        self._manifest_keys = [key for key, _ in written]
        writes += self._delete_chunks()
        self._safe, self._base = self._base, None
        return writes
