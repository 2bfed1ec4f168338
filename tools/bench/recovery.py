"""``litmus bench recovery``: from a changelog on a real broker back to live state, by state size.

Eight partitions are driven to a size, then on through cycles of checkpoints, on a topic made as
Litmus makes it. What a start does is timed: read the changelog, decode it, build the arrays. The
same records are kept by RocksDB too where rocksdict is installed: what a local store would save.
"""

import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from rich.console import Console
from rich.table import Table

from schemas.control import TICK_INTERVAL_MS, ControlState
from schemas.topics import ACCUMULATE_APP, KIND_BATCH, KIND_TICK, SEGMENTS_TABLE, changelog
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.recovery import Found
from stream_processors.accumulate.state import CELLS
from stream_processors.accumulate.writing import Write
from stream_processors.log_reading import read_newest, read_to_end
from tools.bench.growth import DEFINITION, PARTITIONS, START_MS, Load, pack, tick
from tools.broker import EmbeddedBroker
from tools.errors import WrongAnswerError

TOPIC = changelog(ACCUMULATE_APP, SEGMENTS_TABLE, PARTITIONS)
SPAN_MS = 10_000
TICKS_PER_BLOCK = 5
COMPACTION_S = 15.0


class Restored(NamedTuple):
    """What a start costs at one size.

    Attributes:
        units: Units in the state.
        live_bytes: Newest values of all keys.
        written_bytes: All that was written.
        read_bytes: What a start reads, keys and deletions included.
        read_s: Seconds until it has read that.
        decode_s: Until it has decoded that, further.
        build_s: Until the state stands, further.
        rocksdb_write_s: Seconds that RocksDB took to keep all of it; None: not installed.
        rocksdb_read_s: Seconds to open it and read what it holds.
    """

    units: int
    live_bytes: int
    written_bytes: int
    read_bytes: int
    read_s: float
    decode_s: float
    build_s: float
    rocksdb_write_s: float | None
    rocksdb_read_s: float | None


def measure_recovery(
    sizes: list[int], *, cycles: int, seed: int, compaction_s: float = COMPACTION_S
) -> list[Restored]:
    """Return what a start costs at each size; the broker has ``compaction_s`` to clean its log.

    Raises:
        WrongAnswerError: If what is restored is not what was written.
    """
    with tempfile.TemporaryDirectory() as folder:
        return [
            _measure(
                Path(folder) / str(units),
                units,
                cycles=cycles,
                seed=seed,
                compaction_s=compaction_s,
            )
            for units in sizes
        ]


def _measure(folder: Path, units: int, *, cycles: int, seed: int, compaction_s: float) -> Restored:
    folder.mkdir()
    with EmbeddedBroker(folder / "broker") as broker:
        _create_topic(broker.bootstrap)
        store = _Rocks(folder / "rocksdb")
        sink = _Sink(broker.bootstrap, store)
        partitions = _drive(units, sink, cycles=cycles, seed=seed)
        sink.flush()
        time.sleep(compaction_s)  # a broker cleans its logs in the background
        read_bytes = sum(
            len(one.key() or b"") + len(one.value() or b"")
            for some in read_to_end(broker.bootstrap, TOPIC.name, dict.fromkeys(range(PARTITIONS)))
            for one in some
        )
        began = time.perf_counter()
        records = read_newest(broker.bootstrap, TOPIC.name, range(PARTITIONS))
        read_s = time.perf_counter() - began
    live_bytes = sum(len(value) for one in records.values() for value in one.values())
    decode_s, build_s = _rebuild(partitions, records)
    return Restored(
        units,
        live_bytes,
        sink.written_bytes,
        read_bytes,
        read_s,
        decode_s,
        build_s,
        store.write_s,
        store.read_s(records),
    )


def _rebuild(
    partitions: list[Partition], records: dict[int, dict[bytes, bytes]]
) -> tuple[float, float]:
    decode_s = build_s = 0.0
    for partition in partitions:
        began = time.perf_counter()
        found = Found(partition.number, records[partition.number].items(), log_id="bench")
        decode_s += time.perf_counter() - began
        began = time.perf_counter()
        control = ControlState({DEFINITION.id: DEFINITION}, partition.control.settings)
        restored = found.build(control, writer="restored").partition
        build_s += time.perf_counter() - began
        cells = [int(one.state.counts[CELLS]) for one in (restored, partition)]
        if cells[0] != cells[1]:
            raise WrongAnswerError(f"{cells[0]} cells were restored, must be {cells[1]}")
    return decode_s, build_s


class _Sink:
    """Writes records to the changelog as workers do, and to RocksDB."""

    def __init__(self, bootstrap: str, store: "_Rocks") -> None:
        self._store = store
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "compression.type": "lz4",
                "batch.size": 524_288,
                "message.max.bytes": 4_194_304,
                "queue.buffering.max.kbytes": 262_144,
            }
        )
        self.written_bytes = 0

    def take(self, partition: int, writes: list[Write]) -> None:
        for key, value in writes:
            self.written_bytes += len(key) + len(value or b"")
            self._store.write(partition, key, value)
            while True:
                try:
                    self._producer.produce(TOPIC.name, value, key, partition)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        self._producer.poll(0)

    def flush(self) -> None:
        if self._producer.flush(60):
            raise WrongAnswerError("the broker did not take all records")


class _Rocks:
    """The same records in RocksDB, one database per partition as Faust has it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.write_s: float | None = None
        self._open: Any = None
        if find_spec("rocksdict") is None:
            return
        rocksdict = import_module("rocksdict")
        folder.mkdir()
        self._open = lambda number: rocksdict.Rdict(
            str(folder / str(number)), rocksdict.Options(raw_mode=True)
        )
        self._stores = [self._open(number) for number in range(PARTITIONS)]
        self.write_s = 0.0

    def write(self, partition: int, key: bytes, value: bytes | None) -> None:
        if self.write_s is None:
            return
        began = time.perf_counter()
        if value is None:
            del self._stores[partition][key]
        else:
            self._stores[partition][key] = value
        self.write_s += time.perf_counter() - began

    def read_s(self, expected: dict[int, dict[bytes, bytes]]) -> float | None:
        """Close, open and read all of it; it must be what the changelog holds."""
        if self.write_s is None:
            return None
        for store in self._stores:
            store.close()
        began = time.perf_counter()
        held = {number: dict(self._open(number).items()) for number in range(PARTITIONS)}
        seconds = time.perf_counter() - began
        if held != expected:
            raise WrongAnswerError("RocksDB and the changelog hold different records")
        return seconds


def _drive(units: int, sink: _Sink, *, cycles: int, seed: int) -> list[Partition]:
    """Grow partitions to so many units, then keep all segments changing for some cycles."""
    per_block = min(20_000, units)
    load = Load(seed=seed, units_max=units, units_per_block=per_block, events_per_unit=1)
    partitions = [Partition(number, writer="bench") for number in range(PARTITIONS)]
    at_ms = START_MS
    for block in range(units // per_block + cycles):
        for message in pack(load, block, at_ms):
            partition = partitions[message.partition]
            partition.apply(partition.cursor, KIND_BATCH, message.value)
        for _ in range(TICKS_PER_BLOCK if block < units // per_block else 15):
            at_ms += TICK_INTERVAL_MS
            for partition in partitions:
                value = tick(partition.tick + 1, at_ms, span_ms=SPAN_MS)
                ticked = partition.apply(partition.cursor, KIND_TICK, value)
                if ticked is not None:
                    sink.take(partition.number, ticked.writes)
    return partitions


def _create_topic(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topic = NewTopic(TOPIC.name, PARTITIONS, 1, config=TOPIC.broker_config())
    admin.create_topics([topic])[TOPIC.name].result(30)


def slope(restored: list[Restored]) -> float | None:
    """Return the seconds that a million units more take; None with one size only."""
    if len(restored) < 2:
        return None
    first, last = restored[0], restored[-1]
    return (total_s(last) - total_s(first)) / (last.units - first.units) * 1e6


def total_s(one: Restored) -> float:
    """Return the seconds from nothing to state."""
    return one.read_s + one.decode_s + one.build_s


def show_recovery(console: Console, figures: dict[str, Any]) -> None:
    """Show what a start costs, size by size."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in _columns():
        table.add_column(column, justify="right")
    for size in figures["sizes"]:
        one = Restored(**size)
        table.add_row(
            f"{one.units:,}",
            f"{one.live_bytes / 1e6:,.1f} MB",
            f"{one.written_bytes / 1e6:,.1f} MB",
            f"{one.read_bytes / 1e6:,.1f} MB",
            f"{one.read_bytes / max(one.live_bytes, 1):.2f}",
            f"{one.read_s:.2f} s",
            f"{one.decode_s:.2f} s",
            f"{one.build_s:.2f} s",
            "-" if one.rocksdb_write_s is None else f"{one.rocksdb_write_s:.2f} s",
            "-" if one.rocksdb_read_s is None else f"{one.rocksdb_read_s:.2f} s",
        )
    console.print(table)
    if figures["seconds_per_million_units"] is not None:
        console.print(f"\n{figures['seconds_per_million_units']:.2f} s per million units")


def _columns() -> Iterator[str]:
    yield from ("units", "live", "written", "read", "read/live", "read in", "decoded in")
    yield from ("built in", "RocksDB writes", "RocksDB reads")
