"""The work that both peers do: packed batches of one partition, and what the answer must be.

Units are drawn with repetition, so that most metric events meet a unit that is known; one event
in a hundred is sent twice. Values are multiples of 1/4, so plain floats are exact too.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from schemas.batch import KIND_ASSIGNMENT, KIND_METRIC, SCHEMA, write_batch
from schemas.definitions import Definition, Interval, Metric, Variant
from schemas.hashing import hash128, unit_hashes, unit_key

START_MS = 1_700_000_000_000
VARIANTS = ("control", "treatment")
EVENT_NAMES = ("purchase", "view")

DEFINITION = Definition(
    id="bench",
    ordinal=0,
    version=0,
    seed="bench",
    variants=[Variant("control", 0.5, is_control=True), Variant("treatment", 0.5)],
    metrics=[
        Metric("conversion", "conversion", "purchase", window_ms=86_400_000),
        Metric("revenue", "sum", "purchase", window_ms=86_400_000),
        Metric("views", "count", "view", window_ms=3_600_000),
    ],
    status="running",
    started_at_ms=START_MS,
    intervals=[Interval(START_MS)],
)


class Workload(NamedTuple):
    """Messages of one partition.

    Attributes:
        messages: Packed batches.
        rows: Rows in all of them.
    """

    messages: list[bytes]
    rows: int


def make_workload(*, messages: int, rows_per_message: int, units: int, seed: int) -> Workload:
    """Return a workload: every unit is assigned once, on its first event."""
    rng = np.random.default_rng(seed)
    known = np.zeros(units, np.bool_)
    packed = []
    for number in range(messages):
        unit = rng.integers(0, units, rows_per_message)
        first = ~known[unit]
        _, leading = np.unique(unit, return_index=True)
        is_leading = np.zeros(rows_per_message, np.bool_)
        is_leading[leading] = True
        assigning = first & is_leading
        known[unit] = True
        ids = number * rows_per_message + np.arange(rows_per_message)
        again = (rng.random(rows_per_message) < 0.01) & ~assigning
        again[0] = False  # what is sent again takes the place of another metric event
        source = np.where(again, np.arange(rows_per_message) - 1, np.arange(rows_per_message))
        value = rng.integers(1, 400, rows_per_message) / 4
        name = rng.integers(0, 2, rows_per_message)
        timestamp = START_MS + 1_000 + number * 10 + np.arange(rows_per_message) % 10
        columns = (unit, assigning, ids, value, name, timestamp)
        packed.append(_pack(*(column[source] for column in columns)))
    return Workload(packed, messages * rows_per_message)


def _pack(
    unit: np.ndarray,
    assigning: np.ndarray,
    ids: np.ndarray,
    value: np.ndarray,
    name: np.ndarray,
    timestamp: np.ndarray,
) -> bytes:
    count = len(unit)
    unit_ids = [f"u{one}" for one in unit.tolist()]
    event_ids = pa.array([f"e{one}" for one in ids.tolist()], pa.string())
    high, low = unit_hashes(pa.array([unit_key("user", one) for one in unit_ids], pa.string()))
    event_high, event_low = hash128(event_ids, high, low)
    variant = [
        VARIANTS[one % 2] if is_first else None
        for one, is_first in zip(unit, assigning, strict=True)
    ]
    metric = [
        None if is_first else EVENT_NAMES[one]
        for one, is_first in zip(name, assigning, strict=True)
    ]
    columns = [
        pa.array(np.where(assigning, KIND_ASSIGNMENT, KIND_METRIC).astype(np.uint8)),
        _names(["user"] * count),
        pa.array(unit_ids, pa.string()),
        pa.array(high),
        pa.array(low),
        event_ids,
        pa.array(event_high),
        pa.array(event_low),
        _names(["bench" if is_first else None for is_first in assigning]),
        _names(variant),
        _names(metric),
        _names([None] * count),
        pa.array(np.where(assigning, 0.0, value)),
        pa.array(timestamp, pa.int64()),
        pa.array([True] * count),
        pa.array(timestamp, pa.int64()),
        pa.array([None] * count, pa.int64()),
    ]
    return write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))


def _names(values: list[str | None]) -> pa.Array:
    return pa.array(values, pa.string()).dictionary_encode()
