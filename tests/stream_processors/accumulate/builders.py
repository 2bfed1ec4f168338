"""Messages of litmus.events with defaults: a test names only what it is about."""

from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from schemas.batch import KIND_ASSIGNMENT, KIND_METRIC, SCHEMA, write_batch
from schemas.control import Change, Settings, Tick, Times
from schemas.definitions import Definition, Interval, Metric, Variant
from schemas.hashing import hash128, partitions_of, unit_hashes, unit_key
from schemas.imports import write_import
from schemas.topics import KIND_BATCH, KIND_IMPORT, KIND_TICK

T0 = 1_700_000_000_000
"""The tests' beginning of time, in epoch milliseconds."""

LOG_ID = "log"


class Message(NamedTuple):
    """A message of one partition."""

    kind: bytes
    value: bytes


class Event(NamedTuple):
    """An event as the engine sees it; assignments have a variant, metric events a metric."""

    unit: str
    event_id: str
    timestamp: int
    experiment: str | None = None
    variant: str | None = None
    metric: str | None = None
    value: float = 0.0
    unit_type: str = "user"
    timestamp_given: bool = True
    attributes: str | None = None


def assignment(
    unit: str, event_id: str, timestamp: int, *, experiment: str = "x", variant: str = "c"
) -> Event:
    """Return an assignment event."""
    return Event(unit, event_id, timestamp, experiment, variant)


def measured(
    unit: str,
    event_id: str,
    timestamp: int,
    *,
    metric: str = "buy",
    value: float = 1.0,
    experiment: str | None = None,
) -> Event:
    """Return a metric event."""
    return Event(unit, event_id, timestamp, experiment, None, metric, value)


class ImportRow(NamedTuple):
    """A row of an import batch."""

    unit: str
    metric: str
    day: int
    value: float = 1.0
    unit_type: str = "user"


def import_part(rows: list[ImportRow], *, import_id: str, number: int, sha256: str) -> Message:
    """Return a partition's part of an import batch."""
    keys = pa.array([unit_key(one.unit_type, one.unit) for one in rows], pa.string())
    high, low = unit_hashes(keys)
    unit_types = sorted({one.unit_type for one in rows})
    metrics = sorted({one.metric for one in rows})
    columns = {
        "unit_high": high,
        "unit_low": low,
        "unit_type": np.array([unit_types.index(one.unit_type) for one in rows]),
        "metric": np.array([metrics.index(one.metric) for one in rows]),
        "day": np.array([one.day for one in rows]),
        "value": np.array([one.value for one in rows]),
    }
    value = write_import(
        columns,
        import_id=import_id,
        number=number,
        sha256=sha256,
        unit_types=unit_types,
        metrics=metrics,
    )
    return Message(KIND_IMPORT, value)


def partition_of(event: Event | ImportRow, partition_count: int) -> int:
    """Return the partition of the unit of an event or a row."""
    keys = pa.array([unit_key(event.unit_type, event.unit)], pa.string())
    return int(partitions_of(keys, partition_count)[0])


def batch(events: list[Event]) -> Message:
    """Return the packed batch of events."""
    count = len(events)
    keys = pa.array([unit_key(one.unit_type, one.unit) for one in events], pa.string())
    high, low = unit_hashes(keys)
    ids = pa.array([one.event_id for one in events], pa.string())
    event_high, event_low = hash128(ids, high, low)

    def names(values: list[Any]) -> pa.Array:
        return pa.array(values, pa.string()).dictionary_encode()

    kinds = [KIND_METRIC if one.metric else KIND_ASSIGNMENT for one in events]
    timestamps = pa.array([one.timestamp for one in events], pa.int64())
    columns = [
        pa.array(kinds, pa.uint8()),
        names([one.unit_type for one in events]),
        pa.array([one.unit for one in events], pa.string()),
        pa.array(high),
        pa.array(low),
        ids,
        pa.array(event_high),
        pa.array(event_low),
        names([one.experiment for one in events]),
        names([one.variant for one in events]),
        names([one.metric for one in events]),
        names([one.attributes for one in events]),
        pa.array(np.array([one.value for one in events], np.float64)),
        timestamps,
        pa.array([one.timestamp_given for one in events], pa.bool_()),
        timestamps,
        pa.array([None] * count, pa.int64()),
    ]
    return Message(KIND_BATCH, write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA)))


def tick(
    number: int,
    settled: int,
    *changes: Change,
    settings: Settings | None = None,
    horizon: int = 0,
) -> Message:
    """Return a tick; log time equals the settled time."""
    times = Times(settled, settled, horizon)
    body = Tick(LOG_ID, number, times, settings or Settings(), list(changes))
    return Message(KIND_TICK, msgspec.json.encode(body))


def definition(id: str = "x", ordinal: int = 0, **fields: Any) -> Definition:  # noqa: A002
    """Return an experiment that has run since T0, with one conversion on ``buy`` within 10 s."""
    defaults: dict[str, Any] = {
        "version": 0,
        "seed": id,
        "variants": [Variant("c", 0.5, is_control=True), Variant("t", 0.5)],
        "metrics": [Metric("bought", "conversion", "buy", window_ms=10_000)],
        "status": "running",
        "started_at_ms": T0,
        "intervals": [Interval(T0)],
    }
    return Definition(id=id, ordinal=ordinal, **(defaults | fields))
