"""One unit's rows of litmus.events, each with what the engine knew when it came. Pure.

Messages are taken in the order of their partition, and only a few columns of each are looked at:
most messages hold no row of the unit.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.batch import KIND_ASSIGNMENT, read_batch
from schemas.control import ControlState, Times, decode_tick
from schemas.hashing import hash128, partitions_of, unit_hashes, unit_key
from schemas.topics import KIND_BATCH, KIND_IMPORT, KIND_TICK

NEVER = Times(0, 0, 0)


class UnreadableLogError(ValueError):
    """A message of the log is none that this version knows."""


class Unit(NamedTuple):
    """A unit, and how the log knows it."""

    unit_type: str
    unit_id: str
    hash_high: int
    hash_low: int

    @classmethod
    def of(cls, unit_type: str, unit_id: str) -> "Unit":
        """Return a unit with its hash."""
        high, low = unit_hashes(pa.array([unit_key(unit_type, unit_id)], pa.string()))
        return cls(unit_type, unit_id, int(high[0]), int(low[0]))

    def partition(self, partition_count: int) -> int:
        """Return where its events are."""
        keys = pa.array([unit_key(self.unit_type, self.unit_id)], pa.string())
        return int(partitions_of(keys, partition_count)[0])

    def event_hash(self, event_id: str) -> tuple[int, int]:
        """Return the hash of one of its events: two with the same hash are the same event."""
        seeds = [np.array([half], np.uint64) for half in (self.hash_high, self.hash_low)]
        high, low = hash128(pa.array([event_id], pa.string()), *seeds)
        return int(high[0]), int(low[0])


class Event(NamedTuple):
    """What a row says."""

    kind: str
    event_id: str
    event_hash: tuple[int, int]
    experiment_id: str | None
    variant: str | None
    metric: str | None
    value: float
    timestamp_ms: int
    timestamp_given: bool
    received_ms: int
    attributes: str | None


class Row(msgspec.Struct):
    """A row of the log.

    Attributes:
        offset: Of its message.
        row: Its place in the message.
        door: Who packed it.
        event: What it says.
        unit_type: Type of its unit.
        times: Of the last tick before it.
        control: Definitions as of that tick.
        tick_after: Number of the first tick after it: the first whose look can hold it.
        tick_after_ms: Log time of that tick.
    """

    offset: int
    row: int
    door: str
    event: Event
    unit_type: str
    times: Times
    control: ControlState
    tick_after: int | None = None
    tick_after_ms: int | None = None


class UnitLog:
    """Reads a partition and keeps the rows of one unit.

    Attributes:
        rows: What it found, in order.
        control: Definitions as of the last tick.
        tick: Number of the last tick.
        times: Its times.
        row_count: Rows of all units that went by.
        import_count: Parts of imports that went by: they hold day totals, no events.
        other_types: Types of other units of the same id, as far as they share its partition.
    """

    def __init__(self, unit: Unit, control: ControlState | None = None) -> None:
        self._unit = unit
        self.rows: list[Row] = []
        self.control = control or ControlState()
        self.tick = 0
        self.times = NEVER
        self.row_count = 0
        self.import_count = 0
        self.other_types: set[str] = set()
        self._before_tick: list[Row] = []

    def take(self, offset: int, kind: bytes | None, value: bytes) -> None:
        """Take the next message.

        Raises:
            UnreadableLogError: If it is of no kind that this version knows.
            schemas.batch.UnreadableBatchError: If it is a damaged batch.
        """
        if kind == KIND_BATCH:
            self._take_batch(offset, value)
        elif kind == KIND_TICK:
            self._take_tick(value)
        elif kind == KIND_IMPORT:
            self.import_count += 1
        else:
            raise UnreadableLogError(f"offset {offset}: kind == {kind!r}, is no message of ours")

    def _take_tick(self, value: bytes) -> None:
        tick = decode_tick(value)
        if tick.number <= self.tick:
            return
        for row in self._before_tick:
            row.tick_after, row.tick_after_ms = tick.number, tick.times.log_ms
        self._before_tick.clear()
        self.tick, self.times = tick.number, tick.times
        if tick.changes or tick.settings != self.control.settings:
            changed = self.control.after(tick.changes)
            self.control = msgspec.structs.replace(changed, settings=tick.settings)

    def _take_batch(self, offset: int, value: bytes) -> None:
        batch = read_batch(value)
        self.row_count += len(batch)
        if not self.rows:
            self._note_other_types(batch)
        for place, event, unit_type in rows_of(batch, self._unit):
            row = Row(offset, place, door_of(batch), event, unit_type, self.times, self.control)
            self.rows.append(row)
            self._before_tick.append(row)

    def _note_other_types(self, batch: pa.RecordBatch) -> None:
        """Note units of another type with this id: a frequent reason to find nothing."""
        same_id = pc.equal(batch.column("unit_id"), self._unit.unit_id)
        if pc.any(same_id).as_py():
            types = batch.column("unit_type").filter(same_id).to_pylist()
            self.other_types |= set(types) - {self._unit.unit_type}


def rows_of(batch: pa.RecordBatch, unit: Unit) -> list[tuple[int, Event, str]]:
    """Return the rows of a unit: place, event, unit type."""
    low = batch.column("unit_hash_low").to_numpy() == np.uint64(unit.hash_low)
    if not low.any():
        return []
    high = batch.column("unit_hash_high").to_numpy() == np.uint64(unit.hash_high)
    places = np.flatnonzero(low & high)
    found = batch.take(pa.array(places)).to_pylist()
    return [
        (int(place), _event_of(row), row["unit_type"])
        for place, row in zip(places, found, strict=True)
    ]


def door_of(batch: pa.RecordBatch) -> str:
    """Return who packed a batch."""
    return ((batch.schema.metadata or {}).get(b"door") or b"").decode()


def _event_of(row: dict[str, Any]) -> Event:
    return Event(
        kind="assignment" if row["kind"] == KIND_ASSIGNMENT else "metric",
        event_id=row["event_id"],
        event_hash=(row["event_hash_high"], row["event_hash_low"]),
        experiment_id=row["experiment_id"],
        variant=row["variant"],
        metric=row["metric"],
        value=row["value"],
        timestamp_ms=row["timestamp"],
        timestamp_given=row["timestamp_given"],
        received_ms=row["received_at"],
        attributes=row["attributes"],
    )
