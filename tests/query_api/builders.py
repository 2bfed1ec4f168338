"""Records as the processors and doors publish them; a test names only what it is about."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from schemas.batch import SCHEMA, write_batch
from schemas.control import Import, ImportChange, Settings, Tick, Times
from schemas.hashing import hash128, unit_hashes, unit_key
from schemas.imports import IMPORT_COLUMNS, write_import
from schemas.times import format_time_ms
from schemas.topics import EVENTS, KIND_BATCH, KIND_HEADER, KIND_IMPORT, KIND_TICK

Json = dict[str, Any]

NOW_MS = 1_795_284_000_000
LOG_ID = "log-1"


class FakeRecord(NamedTuple):
    """A record, with the accessors of confluent_kafka's."""

    topic_: str
    partition_: int
    offset_: int
    value_: bytes | None
    headers_: tuple[tuple[str, bytes], ...] = ()
    key_: bytes | None = None

    def topic(self) -> str:
        return self.topic_

    def partition(self) -> int:
        return self.partition_

    def offset(self) -> int:
        return self.offset_

    def key(self) -> bytes | None:
        return self.key_

    def value(self) -> bytes | None:
        return self.value_

    def timestamp(self) -> tuple[int, int]:
        return 1, NOW_MS

    def headers(self) -> list[tuple[str, bytes]]:
        return list(self.headers_)


class Event(NamedTuple):
    """A row of a batch."""

    unit_id: str = "unit-1"
    event_id: str = "event-1"
    experiment_id: str | None = "checkout-color"
    variant: str | None = "control"
    metric: str | None = None
    attributes: str | None = None
    value: float = 0.0
    timestamp: int = NOW_MS
    received_at: int = NOW_MS + 5
    allocation_version: int | None = None


def batch_value(events: Sequence[Event], door: str = "http") -> bytes:
    """Return the message of a batch."""
    return write_batch(record_batch(events, door))


def record_batch(events: Sequence[Event], door: str = "http") -> pa.RecordBatch:
    """Return the record batch of some events, assignments where there is no metric."""
    keys = pa.array([unit_key("user", e.unit_id) for e in events], pa.string())
    unit_high, unit_low = unit_hashes(keys)
    ids = pa.array([e.event_id for e in events], pa.string())
    event_high, event_low = hash128(ids, unit_high, unit_low)

    def names(values: list[str | None]) -> pa.DictionaryArray:
        return pa.array(values, pa.string()).dictionary_encode()

    columns = {
        "kind": pa.array([int(e.metric is not None) for e in events], pa.uint8()),
        "unit_type": names(["user"] * len(events)),
        "unit_id": pa.array([e.unit_id for e in events], pa.string()),
        "unit_hash_high": pa.array(unit_high),
        "unit_hash_low": pa.array(unit_low),
        "event_id": ids,
        "event_hash_high": pa.array(event_high),
        "event_hash_low": pa.array(event_low),
        "experiment_id": names([e.experiment_id for e in events]),
        "variant": names([e.variant for e in events]),
        "metric": names([e.metric for e in events]),
        "attributes": names([e.attributes for e in events]),
        "value": pa.array([e.value for e in events], pa.float64()),
        "timestamp": pa.array([e.timestamp for e in events], pa.int64()),
        "timestamp_given": pa.array(np.ones(len(events), bool)),
        "received_at": pa.array([e.received_at for e in events], pa.int64()),
        "allocation_version": pa.array([e.allocation_version for e in events], pa.int64()),
    }
    schema = SCHEMA.with_metadata({"door": door})
    return pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=schema)


BATCH_HEADERS = ((KIND_HEADER, KIND_BATCH),)
TICK_HEADERS = ((KIND_HEADER, KIND_TICK),)
IMPORT_HEADERS = ((KIND_HEADER, KIND_IMPORT),)


def batch_record(
    offset: int, events: Sequence[Event], *, partition: int = 0, topic: str = EVENTS.name
) -> FakeRecord:
    return FakeRecord(topic, partition, offset, batch_value(events), BATCH_HEADERS)


def tick_record(offset: int, *, partition: int = 0) -> FakeRecord:
    value = tick_value(offset + 1)
    return FakeRecord(EVENTS.name, partition, offset, value, TICK_HEADERS)


def tick_value(number: int, *declared: Import) -> bytes:
    """Return the message of a tick; from it on imports stand as is declared."""
    times = Times(as_of_ms(number), as_of_ms(number), 0)
    changes = [ImportChange(one) for one in declared]
    return msgspec.json.encode(Tick(LOG_ID, number, times, Settings(), changes))


def import_record(
    offset: int, *, partition: int = 0, number: int = 1, rows: int = 2, sha256: str = "a"
) -> FakeRecord:
    """Return a partition's part of a batch of import ``spend``."""
    columns = {name: np.zeros(rows, kind) for name, kind in IMPORT_COLUMNS.items()}
    value = write_import(
        columns,
        import_id="spend",
        number=number,
        sha256=sha256,
        unit_types=["user"],
        metrics=["spend"],
    )
    return FakeRecord(EVENTS.name, partition, offset, value, IMPORT_HEADERS)


def definition(experiment_id: str = "checkout-color", **changes: Any) -> Json:
    """Return a public definition."""
    metric = {"id": "conversion", "kind": "conversion", "event": "purchase", "role": "decision"}
    return {
        "id": experiment_id,
        "name": experiment_id,
        "variants": [
            {"id": "control", "weight": 0.5, "is_control": True},
            {"id": "treatment", "weight": 0.5, "is_control": False},
        ],
        "metrics": [metric | {"window": "72h", "direction": "increase"}],
        "segments": {"country": ["CA", "US"]},
        "status": "running",
        "version": 3,
        "created_at": format_time_ms(NOW_MS - 60_000),
        "started_at": format_time_ms(NOW_MS - 50_000),
        "stopped_at": None,
    } | changes


def results(tick: int, experiment_id: str = "checkout-color", *, units: int = 10_000) -> Json:
    """Return the results object of the contract at a tick; the numbers are the contract's."""
    arms = [("control", 38, 0.0038), ("treatment", 42, 0.0042)]
    metric: Json = {
        "metric_id": "conversion",
        "kind": "conversion",
        "role": "decision",
        "basis": "matured",
        "window": "72h",
        "variants": [
            {"variant": variant, "units": units, "total": total, "mean": mean}
            | {"variance": 0.003786, "std_error": 0.000615}
            for variant, total, mean in arms
        ],
        "effects": [_effect(tick)],
    }
    sha256 = f"{tick:064x}"
    return {
        "experiment_id": experiment_id,
        "version": 3,
        "status": "running",
        "final": False,
        "look": {
            "tick": tick,
            "log_id": LOG_ID,
            "as_of": format_time_ms(as_of_ms(tick)),
            "settled_lag_ms": 400,
            "age_ms": None,
            "offsets": {"0": 10 * tick},
            "behind": [],
            "sha256": sha256,
        },
        "variants": [{"variant": variant, "units": units} for variant, *_ in arms],
        "crossovers": 0,
        "sample_ratio": {"chi_square": 0.0, "p_value": 1.0, "mismatch": False},
        "metrics": [metric, metric | {"basis": "open", "effects": [_open_effect()]}],
    }


def segments(tick: int) -> Json:
    """Return the results by segment of a look: half of the units are in each country."""
    half = results(tick, units=5_000)
    shown = {name: half[name] for name in ("variants", "metrics", "sample_ratio")}
    return {"country": [{"value": value, **shown} for value in ("CA", "US", "other")]}


def as_of_ms(tick: int) -> int:
    """Return the time of a tick: five a second."""
    return NOW_MS + 200 * tick


def _effect(tick: int) -> Json:
    always_valid = {"p_value": 1.0, "low": -0.002392, "high": 0.003192, "running_p_value": 1.0}
    return {
        "variant": "treatment",
        "control": "control",
        "status": "ok",
        "absolute": {
            "estimate": tick / 1_000,
            "std_error": 0.000893,
            "fixed_horizon": _FIXED_HORIZON,
            "always_valid": always_valid | {"running_low": -0.002392, "running_high": 0.003192},
        },
        "relative": {
            "estimate": 0.105,
            "fixed_horizon": {"low": -0.29, "high": 0.71},
            "always_valid": {"low": None, "high": None, "status": "undefined"},
        },
        "cuped": None,
    }


_FIXED_HORIZON = {"test": "z", "p_value": 0.654, "low": -0.0014, "high": 0.0022}


def _open_effect() -> Json:
    absolute = {"estimate": 0.0004, "std_error": 0.000893, "fixed_horizon": _FIXED_HORIZON}
    return {"variant": "treatment", "control": "control", "status": "ok", "absolute": absolute}


def snapshot_value(
    tick: int | None, experiment_id: str = "checkout-color", **changes: Any
) -> bytes:
    """Return a record of litmus.snapshots."""
    found = None if tick is None else results(tick, experiment_id)
    record = {"definition": definition(experiment_id, **changes), "results": found}
    if tick is not None:
        record["segments"] = segments(tick)
    return msgspec.json.encode(record)


def look_value(tick: int, experiment_id: str = "checkout-color") -> bytes:
    """Return a record of litmus.looks: the results and what they were computed from."""
    inputs = {"integers": {"units": ["10000", "10000"]}, "inputs": {"tick": tick}}
    inputs["segments"] = segments(tick)
    return msgspec.json.encode(results(tick, experiment_id) | inputs)


def ledger(tick: int, partitions: dict[int, tuple[int, int]], imports: Json | None = None) -> Json:
    """Return a record of litmus.ledger.

    Args:
        tick: As of which tick.
        partitions: Per partition, offset and rows received, all fresh.
        imports: Parts and rows that were taken of each import.
    """
    received = sum(count for _, count in partitions.values())
    return {
        "tick": tick,
        "log_id": LOG_ID,
        "as_of": format_time_ms(as_of_ms(tick)),
        "rows": _fates(received),
        "partitions": [
            {"partition": partition, "offset": offset, **_fates(count)}
            for partition, (offset, count) in partitions.items()
        ],
        "experiments": {
            "checkout-color": {"counted": 1, "outside_window": 0}
            | {"excluded": 0, "no_assignment": 0}
        },
        "imports": imports or {},
    }


def _fates(received: int) -> dict[str, int]:
    zeros = dict.fromkeys(("duplicate", "conflict", "stale", "refused"), 0)
    return {"received": received, "fresh": received, **zeros}
