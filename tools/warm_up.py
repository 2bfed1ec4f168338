"""Compiles every kernel by taking a tiny world through the doors and the engine.

numba keeps what it compiled in its cache; a process that starts later loads it in a moment, where
it would compile for half a minute with events waiting.
"""

import json
from typing import Any

import msgspec

from ingest_gateway.import_rows import parts_of, read_rows, sha256_of
from ingest_gateway.packer import pack
from ingest_gateway.validator import BodyForm, admit
from ingest_gateway.warm_up import compile_kernels
from schemas.control import (
    CatalogueChange,
    CatalogueEntry,
    Change,
    ControlState,
    DefinitionChange,
    Import,
    ImportBatch,
    ImportChange,
    Settings,
    Tick,
    Times,
)
from schemas.definitions import CapQuantile, Definition, Interval, Metric, Variant
from schemas.imports import DAY_MS
from schemas.topics import KIND_BATCH, KIND_IMPORT, KIND_TICK
from stream_processors.accumulate.checkpoints import compact, forget_names
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.recovery import recover

_T0 = 1_700_000_000_000
_DAY = _T0 // DAY_MS
_LOG_ID = "warm-up"
_WINDOW_MS = 1_000
_TICKS = 60
_TICK_MS = 200
_HORIZON_MS = 4_000
_UNITS = 90
"""More than fit into the arrays and tables that a partition begins with."""

_KEPT = {"keep_days": 3, "live_from_day": _DAY}
_ENTRIES = [CatalogueEntry("buy", 6, **_KEPT), CatalogueEntry("view", 6, **_KEPT)]
_COVARIATE: dict[str, Any] = {"window_ms": _WINDOW_MS, "covariate_days": 2}
_METRICS = [
    Metric("bought", "conversion", "buy", **_COVARIATE),
    Metric("times", "count", "buy", cap=3.0, **_COVARIATE),
    Metric("spent", "sum", "buy", cap=2.0, **_COVARIATE),
    Metric("capped", "sum", "buy", window_ms=_WINDOW_MS, cap=CapQuantile(0.9)),
    Metric("basket", "ratio", "buy", denominator="view", **_COVARIATE),
    Metric("size", "mean", "buy", **_COVARIATE),
    Metric("large", "quantile", "buy", window_ms=_WINDOW_MS, quantile=0.9, of="units"),
    Metric("slow", "quantile", "buy", "secondary", quantile=0.9, of="events"),
]
_X = Definition(
    id="x",
    version=1,
    ordinal=0,
    seed="x",
    variants=[Variant("c", 0.5, is_control=True), Variant("t", 0.5)],
    metrics=_METRICS[:-1],
    segments={"country": ["CA", "US"]},
    status="running",
    created_at_ms=_T0,
    started_at_ms=_T0,
    intervals=[Interval(_T0)],
)
_ADDED = msgspec.structs.replace(_X, version=2, metrics=_METRICS)
_EARLIER = msgspec.structs.replace(_ADDED, version=3, intervals=[Interval(_T0 - 500)])
_STOPPED = msgspec.structs.replace(
    _EARLIER, version=4, status="stopped", stopped_at_ms=_T0 + 20 * _TICK_MS
)
_FROM_TICK = {1: _X, 4: _ADDED, 6: _EARLIER, 21: _STOPPED}
_IMPORT = Import("history", 0, ["buy", "view"], _DAY - 2, _DAY - 1)


def warm_up() -> None:
    """Compile the kernels of the doors and of the engine, or load them from the cache."""
    compile_kernels()
    declared, part = _import()
    log = [_tick(1, declared), part, _tick(2, declared), _batch()]
    log += [_tick(number, declared) for number in range(3, _TICKS + 1)]
    changelog: dict[bytes, bytes] = {}
    partition = Partition(0, writer="warm-up", log_id=_LOG_ID)
    for kind, value in log:
        ticked = partition.apply(partition.cursor, kind, value)
        for key, record in ticked.writes if ticked else ():
            if record is None:
                changelog.pop(key, None)
            else:
                changelog[key] = record
    _tidy(partition)
    recovered = recover(
        0,
        changelog.items(),
        state_at=lambda number: _state_at(number, declared),
        log_id=_LOG_ID,
        writer="warm-up",
    ).partition
    for kind, value in log[recovered.cursor :]:
        recovered.apply(recovered.cursor, kind, value)


def _tidy(partition: Partition) -> None:
    """Do what a partition does by itself when it is large."""
    names = forget_names(partition.state, partition.metrics, partition.unit_types)
    partition.metrics, partition.unit_types = names
    partition.plan_anew()
    partition.state = compact(partition.state, partition.plan)
    partition.refold()


def _tick(number: int, declared: Import) -> tuple[bytes, bytes]:
    now_ms = _T0 + number * _TICK_MS
    changes: list[Change] = []
    if number == 1:
        changes = [*map(CatalogueChange, _ENTRIES), ImportChange(declared)]
    if number in _FROM_TICK:
        changes.append(DefinitionChange(_FROM_TICK[number]))
    times = Times(now_ms, now_ms, now_ms - _HORIZON_MS)
    return KIND_TICK, msgspec.json.encode(Tick(_LOG_ID, number, times, Settings(), changes))


def _state_at(number: int, declared: Import) -> ControlState:
    definition = _FROM_TICK[max(first for first in _FROM_TICK if first <= number)]
    catalogue = {entry.name: entry for entry in _ENTRIES}
    return ControlState({"x": definition}, Settings(), catalogue, {declared.id: declared})


def _import() -> tuple[Import, tuple[bytes, bytes]]:
    """Return an import of a batch, and the one part that there is of it."""
    lines = [
        {"type": "metric", "unit_id": unit, "metric": name, "timestamp": _T0 - days * DAY_MS}
        for unit in ("u1", "u2")
        for name in _IMPORT.metrics
        for days in (1, 2)
    ]
    rows, errors = read_rows(b"\n".join(map(_encoded, lines)), BodyForm.NDJSON, _IMPORT)
    assert not errors, errors
    sha256 = sha256_of(rows)
    [part] = parts_of(rows, import_id=_IMPORT.id, number=1, sha256=sha256, partition_count=1)
    reserved = ImportBatch(1, sha256, len(rows))
    return msgspec.structs.replace(_IMPORT, reserved=reserved), (KIND_IMPORT, part)


def _batch() -> tuple[bytes, bytes]:
    """Return units of both variants, one of them in both, one assigned twice, with events."""
    assignments = [(f"u{unit}", "ct"[unit % 2], unit) for unit in range(1, _UNITS)]
    assignments += [("u3", "c", 30), ("u1", "t", -5)]
    events = [
        {"type": "assignment", "experiment_id": "x", "variant": variant, "unit_id": unit}
        | {"event_id": f"a{number}", "timestamp": _T0 + 100 + moved_ms}
        | {"attributes": {"country": "CA"}}
        for number, (unit, variant, moved_ms) in enumerate(assignments)
    ] + [
        {"type": "metric", "metric": name, "value": 2.5, "unit_id": f"u{number}"}
        | {"event_id": f"{name}{number}", "timestamp": _T0 + 250}
        for number in range(1, 9)
        for name in _IMPORT.metrics
    ]
    admission = admit(
        _encoded(events),
        form=BodyForm.JSON,
        received_at_ms=_T0 + 300,
        control=ControlState({"x": _X}),
    )
    assert not admission.rejected, admission.rejected
    [packed] = pack(admission.accepted, partition_count=1, door="warm-up")
    return KIND_BATCH, packed.value


def _encoded(events: Any) -> bytes:
    return json.dumps(events).encode()
