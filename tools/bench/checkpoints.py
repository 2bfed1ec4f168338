"""``litmus bench checkpoints``: what the engine writes to its changelog, by state size.

One of eight partitions is driven with its share of the load and with ticks at the log times they
would have; nobody waits. What is written is summed up, and what the chunks hold is held against
the rows that were sent: every id is written once.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import track

from schemas.control import HORIZON_SLACK_MS, TICK_INTERVAL_MS, TICKS_PER_SECOND
from schemas.topics import KIND_BATCH, KIND_TICK
from stream_processors.accumulate.partition import Partition, Ticked
from stream_processors.accumulate.records import (
    CHUNK,
    CHUNK_COLUMNS,
    MANIFEST,
    SEGMENT,
    ChunkRecord,
    Key,
    decode_key,
    read_record,
)
from stream_processors.accumulate.writing import CHUNK_TICKS
from tools.bench.growth import PARTITIONS, START_MS, Load, Packed, pack, tick
from tools.bench.memory import EVENTS_PER_SECOND, EXPIRY_TICKS
from tools.errors import WrongAnswerError

LATENESS_MS = 3_600_000
KIND_NAMES = {MANIFEST: "manifest", SEGMENT: "segments", CHUNK: "chunks"}

CHUNK_OVERHEAD_BYTES_MAX = 1_000
"""What a chunk may take beyond its columns: header, names of columns and metrics, keys."""

_STAMP_BYTES = np.dtype(CHUNK_COLUMNS["stamp"]).itemsize


class Traffic:
    """What was written: bytes by kind of record, and the rows of the chunks."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.compressed: Counter[str] = Counter()
        self.records: Counter[str] = Counter()
        self.deletions = 0
        self.chunk_rows = 0
        self.chunks: set[int] = set()
        self._segment_ticks: dict[int, list[int]] = {}
        self._parts: list[bytes] = []

    def take(self, ticked: Ticked) -> None:
        """Take in what one tick wrote."""
        for key, value in ticked.writes:
            if value is None:
                self.deletions += 1
                self.bytes["deletions"] += len(key)
                continue
            place = decode_key(key)
            name = KIND_NAMES[place.kind]
            self.records[name] += 1
            self.bytes[name] += len(key) + len(value)
            self.compressed[name] += len(key) + len(pa.compress(value, "lz4", asbytes=True))
            if place.kind == SEGMENT and place.part == 0:
                self._segment_ticks.setdefault(place.number, []).append(ticked.tick)
            if place.kind == CHUNK:
                self._take_part(place, value)

    def cycle_s(self) -> float | None:
        """Return the log time between two records of a segment, the longest of all."""
        spans = [
            span
            for ticks in self._segment_ticks.values()
            for span in np.diff(np.array(ticks)).tolist()
        ]
        return max(spans) / TICKS_PER_SECOND if spans else None

    def _take_part(self, place: Key, value: bytes) -> None:
        self._parts.append(value)
        if place.part + 1 < place.parts:
            return
        chunk = read_record(self._parts, ChunkRecord)
        self._parts.clear()
        if place.number in self.chunks:
            raise WrongAnswerError(f"chunk {place.number} was written twice")
        self.chunks.add(place.number)
        self.chunk_rows += len(chunk.columns["stamp"]) // _STAMP_BYTES


class Size(NamedTuple):
    """What was measured at one size of state; bytes a second are of all partitions together.

    Attributes:
        units: Exposed units over all partitions.
        seconds: Log time that was measured.
        rows: Rows of the partition in that time.
        bytes_per_second: By kind of record.
        lz4_bytes_per_second: The same as the producer sends them.
        bytes_per_row: Of chunks.
        cycle_s: Log time between two records of the same segment; None: fewer than two.
    """

    units: int
    seconds: float
    rows: int
    bytes_per_second: dict[str, int]
    lz4_bytes_per_second: dict[str, int]
    bytes_per_row: float
    cycle_s: float | None


class Driven:
    """One partition, with a clock of its own."""

    def __init__(self) -> None:
        self.partition = Partition(0, writer="bench")
        self.number, self.now_ms = 0, START_MS
        self.tick()

    def tick(self) -> Ticked:
        """Apply the next tick, a fifth of a second after the last."""
        self.number += 1
        self.now_ms += TICK_INTERVAL_MS
        value = tick(self.number, self.now_ms, span_ms=LATENESS_MS + HORIZON_SLACK_MS)
        ticked = self.partition.apply(self.partition.cursor, KIND_TICK, value)
        assert ticked is not None
        return ticked

    def take(self, packed: Packed) -> None:
        """Apply a batch."""
        self.partition.apply(self.partition.cursor, KIND_BATCH, packed.value)

    def settle(self) -> None:
        """Let ticks pass until every segment is written, up to the end of a chunk."""
        for _ in range(EXPIRY_TICKS):
            self.tick()
        while self.number % CHUNK_TICKS:
            self.tick()


def measure_checkpoints(sizes: list[int], *, seconds: int, seed: int) -> list[Size]:
    """Return the traffic at each number of units, at 10,000 events a second over all partitions.

    Raises:
        WrongAnswerError: If an id was not written exactly once.
    """
    return [_measure(units, seconds=seconds, seed=seed) for units in sizes]


def _measure(units: int, *, seconds: int, seed: int) -> Size:
    load = Load(
        seed=seed,
        units_max=units,
        units_per_block=min(units, 20_000),
        rows_per_message=EVENTS_PER_SECOND // PARTITIONS // TICKS_PER_SECOND,
    )
    driven, blocks = Driven(), -(-units // load.units_per_block)
    console = Console(stderr=True)
    for block in track(range(blocks), f"{units:>10,} units arrive", console=console):
        for packed in _share(load, block, driven.now_ms):
            driven.take(packed)
        driven.tick()
    driven.settle()
    traffic, rows, began_ms = Traffic(), 0, driven.now_ms
    due = iter(_steady(driven, load, blocks))
    chunks = max(1, seconds * TICKS_PER_SECOND // CHUNK_TICKS)
    for _ in track(range(chunks * CHUNK_TICKS), f"{seconds:>10,} s of load", console=console):
        packed = next(due)
        driven.take(packed)
        rows += packed.rows
        traffic.take(driven.tick())
    _require_ids_once(traffic, rows)
    return _size(units, traffic, rows, (driven.now_ms - began_ms) / 1_000)


def _share(load: Load, block: int, timestamp_ms: int) -> list[Packed]:
    return [packed for packed in pack(load, block, timestamp_ms) if packed.partition == 0]


def _steady(driven: Driven, load: Load, block: int) -> Iterator[Packed]:
    """Yield one message for every tick: metric events of units that are all known."""
    while True:
        yield from _share(load, block, driven.now_ms)
        block += 1


def _require_ids_once(traffic: Traffic, rows: int) -> None:
    if traffic.chunk_rows != rows:
        raise WrongAnswerError(
            f"chunks hold {traffic.chunk_rows:,} rows, must hold the {rows:,} that were sent"
        )
    columns = sum(np.dtype(kind).itemsize for kind in CHUNK_COLUMNS.values())
    limit = columns * rows + CHUNK_OVERHEAD_BYTES_MAX * len(traffic.chunks)
    if traffic.bytes["chunks"] > limit:
        raise WrongAnswerError(
            f"chunks take {traffic.bytes['chunks']:,} bytes, must be <= {limit:,}: "
            f"{columns} bytes a row"
        )


def _size(units: int, traffic: Traffic, rows: int, seconds: float) -> Size:
    def a_second(sizes: Counter[str]) -> dict[str, int]:
        return {name: round(size * PARTITIONS / seconds) for name, size in sorted(sizes.items())}

    return Size(
        units=units,
        seconds=seconds,
        rows=rows,
        bytes_per_second=a_second(traffic.bytes),
        lz4_bytes_per_second=a_second(traffic.compressed),
        bytes_per_row=round(traffic.bytes["chunks"] / rows, 1),
        cycle_s=traffic.cycle_s(),
    )
