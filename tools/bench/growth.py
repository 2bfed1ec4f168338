"""A load that grows: units arrive and stay, events of known units go on, ids expire. Pure.

Every block is a function of the seed and its number, so one process can pack blocks while another
counts them, and what the answer must be is computed from the same columns without the engine.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.batch import KIND_ASSIGNMENT, KIND_METRIC, SCHEMA, write_batch
from schemas.control import DefinitionChange, Settings, Tick, Times
from schemas.definitions import Definition, Interval, Metric, Variant
from schemas.hashing import hash128, partitions_of, unit_hashes
from schemas.partials import Sums

START_MS = 1_700_000_000_000
WINDOW_MS = 90 * 86_400_000
PARTITIONS = 8
PRECISION = 6
STEP_Q = 250_000
"""Values are multiples of 1/4, quantised at six digits."""

VARIANTS = ("control", "treatment")
EVENT_NAMES = ("purchase", "view")
PURCHASE, VIEW = range(2)

DEFINITION = Definition(
    id="bench",
    ordinal=0,
    version=0,
    seed="bench",
    variants=[Variant("control", 0.5, is_control=True), Variant("treatment", 0.5)],
    metrics=[
        Metric("conversion", "conversion", "purchase", window_ms=WINDOW_MS, precision=PRECISION),
        Metric("views", "count", "view", window_ms=WINDOW_MS, precision=PRECISION),
        Metric("revenue", "sum", "purchase", window_ms=WINDOW_MS, precision=PRECISION),
    ],
    status="running",
    started_at_ms=START_MS,
    intervals=[Interval(START_MS)],
)


class Load(NamedTuple):
    """What arrives.

    Attributes:
        seed: Of everything drawn.
        units_max: No more units come once there are so many; then all rows are metric events.
        units_per_block: New units of a block; each is assigned once.
        events_per_unit: Metric events of a block per new unit, of units known by then.
        rows_per_message: Rows of a packed batch; the last one of a block and partition has fewer.
    """

    seed: int = 1
    units_max: int = 1 << 40
    units_per_block: int = 20_000
    events_per_unit: int = 2
    rows_per_message: int = 1_000

    @property
    def rows_per_tick(self) -> int:
        """Return the rows between two ticks: of usual messages, what 10,000 a second amount to."""
        return 2 * self.rows_per_message

    @property
    def rows_per_block(self) -> int:
        """Return the rows of a block over all partitions."""
        return self.units_per_block * (1 + self.events_per_unit)


class Rows(NamedTuple):
    """The rows of a block, in order of arrival; every array has shape (rows,).

    Attributes:
        unit: Number of the unit.
        kind: As in a batch.
        name: PURCHASE or VIEW; of a metric event.
        steps: Value in steps of 1/4; of a metric event.
        event: Number of the event, over all blocks.
    """

    unit: NDArray[np.int64]
    kind: NDArray[np.uint8]
    name: NDArray[np.int64]
    steps: NDArray[np.int64]
    event: NDArray[np.int64]


def rows_of(load: Load, block: int) -> Rows:
    """Return the rows of a block: its new units are assigned, then metric events of any unit."""
    rng = np.random.default_rng((load.seed, block))
    new = min(load.units_per_block, max(0, load.units_max - block * load.units_per_block))
    known = min(load.units_max, (block + 1) * load.units_per_block)
    unit = np.concatenate(
        [np.arange(known - new, known), rng.integers(0, known, load.rows_per_block - new)]
    )
    kind = np.full(len(unit), KIND_METRIC, np.uint8)
    kind[:new] = KIND_ASSIGNMENT
    return Rows(
        unit=unit,
        kind=kind,
        name=rng.integers(0, len(EVENT_NAMES), len(unit)),
        steps=rng.integers(1, 400, len(unit)),
        event=block * load.rows_per_block + np.arange(len(unit)),
    )


class Packed(NamedTuple):
    """A message, where it goes, and when all of its rows say that they happened."""

    partition: int
    value: bytes
    rows: int
    timestamp_ms: int


def pack(load: Load, block: int, timestamp_ms: int) -> list[Packed]:
    """Return the packed messages of a block; partitions take turns."""
    rows = rows_of(load, block)
    texts = pa.array(rows.unit).cast(pa.string())
    unit_ids = pc.binary_join_element_wise("u", texts, "")
    keys = pc.binary_join_element_wise("user/u", texts, "")
    partition = partitions_of(keys, PARTITIONS)
    high, low = unit_hashes(keys)
    event_ids = pc.binary_join_element_wise("e", pa.array(rows.event).cast(pa.string()), "")
    event_high, event_low = hash128(event_ids, high, low)
    assigns = rows.kind == KIND_ASSIGNMENT
    when = pa.array(np.full(len(rows.unit), timestamp_ms))
    table = pa.RecordBatch.from_arrays(
        [
            pa.array(rows.kind),
            _names(np.zeros(len(rows.unit), np.int32), ("user",)),
            unit_ids,
            pa.array(high),
            pa.array(low),
            event_ids,
            pa.array(event_high),
            pa.array(event_low),
            _names(np.where(assigns, 0, -1), ("bench",)),
            _names(np.where(assigns, rows.unit % 2, -1), VARIANTS),
            _names(np.where(assigns, -1, rows.name), EVENT_NAMES),
            _names(np.full(len(rows.unit), -1), ()),
            pa.array(np.where(assigns, 0.0, rows.steps / 4)),
            when,
            pa.array(np.ones(len(rows.unit), np.bool_)),
            when,
            pa.nulls(len(rows.unit), pa.int64()),
        ],
        schema=SCHEMA,
    )
    queues = [
        [
            Packed(one, write_batch(part), len(part), timestamp_ms)
            for part in _slices(table.take(pa.array(np.flatnonzero(partition == one))), load)
        ]
        for one in range(PARTITIONS)
    ]
    longest = max(len(queue) for queue in queues)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _slices(table: pa.RecordBatch, load: Load) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(table), load.rows_per_message):
        yield table.slice(start, load.rows_per_message)


def _names(codes: NDArray[Any], values: tuple[str, ...]) -> pa.DictionaryArray:
    indices = pa.array(codes.astype(np.int32), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string()))


def tick(number: int, time_ms: int, *, span_ms: int) -> bytes:
    """Return a tick at which what is older than ``span_ms`` is beyond the horizon.

    The first one brings the experiment.
    """
    times = Times(time_ms, time_ms, time_ms - span_ms)
    changes = [DefinitionChange(DEFINITION)] if number == 1 else []
    return msgspec.json.encode(Tick("bench", number, times, Settings(), list(changes)))


class Truth:
    """Totals of every unit, and their sums; of columns, by numpy alone."""

    def __init__(self, unit_count: int) -> None:
        self._purchases = np.zeros(unit_count, np.int64)
        self._views = np.zeros(unit_count, np.int64)
        self._steps = np.zeros(unit_count, np.int64)
        self._units = 0

    def add(self, rows: Rows) -> None:
        """Take in a block; every event of it counts."""
        self._units += int((rows.kind == KIND_ASSIGNMENT).sum())
        is_metric = rows.kind == KIND_METRIC
        bought = is_metric & (rows.name == PURCHASE)
        count = len(self._purchases)
        self._purchases += np.bincount(rows.unit[bought], minlength=count)
        self._views += np.bincount(rows.unit[is_metric & ~bought], minlength=count)
        np.add.at(self._steps, rows.unit[bought], rows.steps[bought])

    def sums(self) -> list[list[Sums]]:
        """Return the sums per metric and variant."""
        totals = ((self._purchases > 0).astype(np.int64), self._views, self._steps)
        scales = (1, 1, STEP_Q)
        return [
            [
                _sums(total[variant : self._units : len(VARIANTS)], scale)
                for variant in range(len(VARIANTS))
            ]
            for total, scale in zip(totals, scales, strict=True)
        ]


def _sums(totals: NDArray[np.int64], scale: int) -> Sums:
    return Sums(len(totals), int(totals.sum()) * scale, int((totals**2).sum()) * scale**2)
