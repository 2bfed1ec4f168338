"""``litmus bench memory``: what a unit, an event and a growing table cost the engine.

Eight partitions in one process take units that arrive and stay, and metric events of all of them;
ids expire as they do in a running worker. After each size the ids expire altogether, and what is
left is the units. Sums must equal numpy's before any figure is given.
"""

import gc
import resource
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial, reduce
from itertools import islice
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import psutil
from rich.console import Console
from rich.progress import track

from schemas.partials import Sums, decode_partial, sums_from_bytes
from schemas.topics import KIND_BATCH, KIND_TICK
from stream_processors.accumulate.partition import Partition, Ticked
from tools.bench.growth import (
    DEFINITION,
    PARTITIONS,
    START_MS,
    Load,
    Packed,
    Truth,
    pack,
    rows_of,
    tick,
)
from tools.errors import WrongAnswerError

STATE_BYTES_PER_UNIT_MAX = 160
BYTES_PER_EVENT_MAX = 48
ALL_IN_BYTES_PER_UNIT_MAX = 300
BATCH_P99_MS_MAX = 50.0

EVENTS_PER_SECOND = 10_000
EXPIRY_TICKS = 1_000
"""More than the longest cycle of checkpoints: what was grown is also written."""

EVENT_ARRAYS = frozenset({"recent", "id_table"})
"""Arrays that hold ids and recent events; the others hold units and what they did."""

_BLOCKS_AHEAD = 2


class Records:
    """What a process keeps of the records that it wrote.

    Nothing, as the accumulate worker does, or the newest of every key, as a Faust table would.
    """

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self._held: dict[bytes, bytes] = {}

    def take(self, ticked: Ticked | None) -> None:
        """Take in what a tick wrote."""
        for key, value in ticked.writes if ticked and self._keeps else ():
            if value is None:
                self._held.pop(key, None)
            else:
                self._held[key] = value

    @property
    def size(self) -> int:
        """Return the bytes held."""
        return sum(len(key) + len(value) for key, value in self._held.items())


class Spans:
    """How long something took, every time, in wall-clock and in CPU time."""

    def __init__(self) -> None:
        self._wall_ms: list[float] = []
        self._cpu_ms: list[float] = []

    def measure(self, work: Callable[[], Any]) -> Any:
        """Do the work and note how long it took."""
        began_s, cpu_s = time.perf_counter(), time.thread_time()
        result = work()
        self._wall_ms.append((time.perf_counter() - began_s) * 1_000)
        self._cpu_ms.append((time.thread_time() - cpu_s) * 1_000)
        return result

    def figures(self) -> dict[str, float]:
        """Return percentiles in milliseconds."""
        wall, cpu = np.array(self._wall_ms), np.array(self._cpu_ms)
        return {
            "count": len(wall),
            "p50_ms": round(float(np.percentile(wall, 50)), 3),
            "p99_ms": round(float(np.percentile(wall, 99)), 3),
            "max_ms": round(float(wall.max()), 3),
            "cpu_p99_ms": round(float(np.percentile(cpu, 99)), 3),
            "cpu_max_ms": round(float(cpu.max()), 3),
        }


class Point(NamedTuple):
    """What was measured at one size.

    Attributes:
        units: Exposed units.
        events_within: Rows within the horizon before the ids expired.
        event_bytes: Bytes in use by ids and recent events then.
        unit_bytes: Bytes in use by everything else, once the ids had expired.
        arrays: All bytes in use by then, by array.
        record_bytes: Bytes of checkpoint records that the process held.
        rss_bytes: Resident memory of the process, once the ids had expired.
    """

    units: int
    events_within: int
    event_bytes: int
    unit_bytes: int
    arrays: dict[str, int]
    record_bytes: int
    rss_bytes: int


class Worker:
    """One process with all partitions, driven as an accumulate worker is."""

    def __init__(self, load: Load, *, span_ms: int, keeps_records: bool) -> None:
        self._load, self._span_ms = load, span_ms
        self.partitions = [Partition(number, writer="bench") for number in range(PARTITIONS)]
        self.records = Records(keeps=keeps_records)
        self.batches, self.ticks = Spans(), Spans()
        self._number, self.now_ms = 0, START_MS
        self._rows_since_tick = 0
        self._recent: list[tuple[int, int]] = []
        self._partials: dict[int, bytes] = {}
        self.tick()

    def take(self, packed: Packed) -> None:
        """Apply a batch; a tick follows where the log would have one."""
        partition = self.partitions[packed.partition]
        is_full = packed.rows == self._load.rows_per_message
        apply = self.batches.measure if is_full else _call
        apply(partial(partition.apply, partition.cursor, KIND_BATCH, packed.value))
        self._rows_since_tick += packed.rows
        self._recent.append((packed.timestamp_ms, packed.rows))
        if self._rows_since_tick >= self._load.rows_per_tick:
            self.now_ms += self._rows_since_tick * 1_000 // EVENTS_PER_SECOND
            self._rows_since_tick = 0
            self.tick()

    def tick(self) -> None:
        """Apply the next tick to every partition."""
        self._number += 1
        value = tick(self._number, self.now_ms, span_ms=self._span_ms)
        for partition in self.partitions:
            ticked = self.ticks.measure(
                partial(partition.apply, partition.cursor, KIND_TICK, value)
            )
            self.records.take(ticked)
            self._partials[partition.number] = ticked.partials[0]

    def expire(self) -> None:
        """Let time pass until every id is forgotten and every segment is written."""
        step_ms = 2 * self._span_ms // EXPIRY_TICKS + 1
        for _ in range(EXPIRY_TICKS):
            self.now_ms += step_ms
            self.tick()
        self._recent.clear()

    def events_within(self) -> int:
        """Return the rows that are not beyond the horizon of the last tick."""
        horizon_ms = self.now_ms - self._span_ms
        self._recent = [(at, rows) for at, rows in self._recent if at >= horizon_ms]
        return sum(rows for _, rows in self._recent)

    def arrays(self) -> Counter[str]:
        """Return the bytes in use by array, over all partitions."""
        return sum((Counter(one.memory()) for one in self.partitions), Counter())

    def sums(self) -> list[list[Sums]]:
        """Return the sums per metric and variant, over all partitions."""
        parts = [
            [sums_from_bytes(value) for value in one.experiment_sums(DEFINITION, final=False).open]
            for one in self.partitions
        ]
        return [
            [_total(sums) for sums in zip(*of_metric, strict=True)]
            for of_metric in zip(*parts, strict=True)
        ]

    def fresh_rows(self) -> int:
        """Return the rows that the last partials call fresh."""
        return sum(decode_partial(one).ledger.fresh for one in self._partials.values())


def measure_memory(
    units: list[int], *, load: Load, horizon_events: int, keeps_records: bool = False
) -> dict[str, Any]:
    """Grow to each number of units in turn, let ids expire, and return the figures.

    Raises:
        WrongAnswerError: If the sums are not numpy's.
    """
    span_ms = horizon_events * 1_000 // EVENTS_PER_SECOND
    _compile(load)
    worker = Worker(load, span_ms=span_ms, keeps_records=keeps_records)
    points, known = [], 0
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as packer:
        for target in units:
            _grow(worker, load, range(known, target // load.units_per_block), packer)
            known = target // load.units_per_block
            points.append(_measure(worker, known * load.units_per_block))
    require_truth(worker, load, known)
    return _figures(points, worker, keeps_records=keeps_records)


def _compile(load: Load) -> None:
    """Load every kernel before anything is timed, those that grow tables too."""
    small = load._replace(units_per_block=8_000)
    worker = Worker(small, span_ms=60_000, keeps_records=False)
    for block in range(2):
        for packed in pack(small, block, worker.now_ms):
            worker.take(packed)
    worker.expire()


def _grow(worker: Worker, load: Load, blocks: range, packer: ProcessPoolExecutor) -> None:
    start_ms, block_ms = worker.now_ms, load.rows_per_block * 1_000 // EVENTS_PER_SECOND
    times = {block: start_ms + (block - blocks.start) * block_ms for block in blocks}
    shown = f"{blocks.stop * load.units_per_block:>10,} units"
    ahead: deque[Future[list[Packed]]] = deque()
    coming = iter(blocks)
    for _ in track(blocks, shown, console=Console(stderr=True)):
        for block in islice(coming, 1 + _BLOCKS_AHEAD - len(ahead)):
            ahead.append(packer.submit(pack, load, block, times[block]))
        for packed in ahead.popleft().result():
            worker.take(packed)


def _measure(worker: Worker, units: int) -> Point:
    events, grown = worker.events_within(), worker.arrays()
    worker.expire()
    gc.collect()
    arrays = worker.arrays()
    return Point(
        units=units,
        events_within=events,
        event_bytes=sum(grown[name] for name in EVENT_ARRAYS),
        unit_bytes=sum(size for name, size in arrays.items() if name not in EVENT_ARRAYS),
        arrays=dict(arrays),
        record_bytes=worker.records.size,
        rss_bytes=psutil.Process().memory_info().rss,
    )


def require_truth(worker: Worker, load: Load, blocks: int) -> None:
    """Check that the worker has counted the first blocks of a load, and counted them right.

    Raises:
        WrongAnswerError: If it has not.
    """
    truth = Truth(blocks * load.units_per_block)
    for block in range(blocks):
        truth.add(rows_of(load, block))
    rows = blocks * load.rows_per_block
    if worker.fresh_rows() != rows:
        raise WrongAnswerError(f"fresh rows == {worker.fresh_rows():,}, must be {rows:,}")
    if worker.sums() != truth.sums():
        raise WrongAnswerError(f"sums == {worker.sums()}, must be {truth.sums()}")


def _figures(points: list[Point], worker: Worker, *, keeps_records: bool) -> dict[str, Any]:
    last = points[-1]
    slope = _slope([one.units for one in points], [one.rss_bytes for one in points])
    figures: dict[str, Any] = {
        "points": [one._asdict() for one in points],
        "keeps_records": keeps_records,
        "state_bytes_per_unit": round(last.unit_bytes / last.units, 1),
        "state_bytes_per_unit_max": round(max(one.unit_bytes / one.units for one in points), 1),
        "bytes_per_event_max": round(max(one.event_bytes / one.events_within for one in points), 1),
        "rss_bytes_per_unit": None if slope is None else round(slope, 1),
        "rss_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024,
        "batch": worker.batches.figures(),
        "tick": worker.ticks.figures(),
    }
    bounds = {
        "state_bytes_per_unit": STATE_BYTES_PER_UNIT_MAX,
        "bytes_per_event_max": BYTES_PER_EVENT_MAX,
        "rss_bytes_per_unit": ALL_IN_BYTES_PER_UNIT_MAX,
    }
    exceeded = [
        f"{name} == {figures[name]}, must be <= {bound}"
        for name, bound in bounds.items()
        if figures[name] is not None and figures[name] > bound
    ]
    p99_ms = figures["batch"]["p99_ms"]
    if p99_ms > BATCH_P99_MS_MAX:
        exceeded.append(f"batch p99_ms == {p99_ms}, must be <= {BATCH_P99_MS_MAX}")
    return figures | {"exceeded": exceeded}


def _slope(units: list[int], sizes: list[int]) -> float | None:
    """Return bytes per unit, by least squares over the sizes; None with one size only."""
    if len(units) < 2:
        return None
    return float(np.polyfit(units, sizes, 1)[0])


def _total(sums: Iterable[Sums]) -> Sums:
    return reduce(Sums.plus, sums)


def _call(work: Callable[[], Any]) -> Any:
    return work()
