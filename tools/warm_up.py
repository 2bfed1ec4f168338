"""Compiles every kernel by taking a tiny world through the doors and the engine.

numba keeps what it compiled in its cache; a process that starts later loads it in a moment, where
it would compile for half a minute with events waiting.
"""

import json

import msgspec

from ingest_gateway.packer import pack
from ingest_gateway.validator import BodyForm, admit
from ingest_gateway.warm_up import compile_kernels
from schemas.control import ControlState, DefinitionChange, Settings, Tick, Times
from schemas.definitions import Definition, Interval, Metric, Variant
from schemas.topics import KIND_BATCH, KIND_TICK
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.recovery import recover

_T0 = 1_700_000_000_000
_LOG_ID = "warm-up"
_WINDOW_MS = 1_000
_TICKS = 60
_TICK_MS = 200
_HORIZON_MS = 4_000

_EXPERIMENT = Definition(
    id="x",
    version=1,
    ordinal=0,
    seed="x",
    variants=[Variant("c", 0.5, is_control=True), Variant("t", 0.5)],
    metrics=[
        Metric("bought", "conversion", "buy", window_ms=_WINDOW_MS),
        Metric("spent", "sum", "buy", role="secondary"),
    ],
    status="running",
    created_at_ms=_T0,
    started_at_ms=_T0,
    intervals=[Interval(_T0)],
)
_ADDED = msgspec.structs.replace(
    _EXPERIMENT,
    version=2,
    metrics=[*_EXPERIMENT.metrics, Metric("times", "count", "buy", window_ms=_WINDOW_MS)],
)
_EARLIER = msgspec.structs.replace(_ADDED, version=3, intervals=[Interval(_T0 - 500)])
_STOPPED = msgspec.structs.replace(
    _EARLIER, version=4, status="stopped", stopped_at_ms=_T0 + 20 * _TICK_MS
)
_FROM_TICK = {1: _EXPERIMENT, 4: _ADDED, 6: _EARLIER, 21: _STOPPED}


def warm_up() -> None:
    """Compile the kernels of the doors and of the engine, or load them from the cache."""
    compile_kernels()
    log = [_tick(1), _tick(2), (KIND_BATCH, _batch())]
    log += [_tick(number) for number in range(3, _TICKS + 1)]
    changelog: dict[bytes, bytes] = {}
    partition = Partition(0, writer="warm-up", log_id=_LOG_ID)
    for kind, value in log:
        ticked = partition.apply(partition.cursor, kind, value)
        for key, record in ticked.writes if ticked else ():
            if record is None:
                changelog.pop(key, None)
            else:
                changelog[key] = record
    partition.refold()
    recovered = recover(
        0,
        changelog.items(),
        state_at=lambda number: ControlState({"x": _definition_at(number)}),
        log_id=_LOG_ID,
        writer="warm-up",
    ).partition
    for kind, value in log[recovered.cursor :]:
        recovered.apply(recovered.cursor, kind, value)


def _tick(number: int) -> tuple[bytes, bytes]:
    now_ms = _T0 + number * _TICK_MS
    tick = Tick(
        _LOG_ID,
        number,
        Times(now_ms, now_ms, max(0, now_ms - _HORIZON_MS)),
        Settings(),
        [DefinitionChange(_FROM_TICK[number])] if number in _FROM_TICK else [],
    )
    return KIND_TICK, msgspec.json.encode(tick)


def _definition_at(number: int) -> Definition:
    return _FROM_TICK[max(first for first in _FROM_TICK if first <= number)]


def _batch() -> bytes:
    """Return units of both variants, one of them in both, one assigned twice, with purchases."""
    assignments = [
        ("u1", "c", 0),
        ("u2", "t", 10),
        ("u3", "c", 20),
        ("u3", "t", 30),
        ("u1", "c", -5),
    ]
    events = [
        {"type": "assignment", "experiment_id": "x", "variant": variant, "unit_id": unit}
        | {"event_id": f"a{number}", "timestamp": _T0 + 100 + moved_ms}
        for number, (unit, variant, moved_ms) in enumerate(assignments)
    ] + [
        {"type": "metric", "metric": "buy", "value": 2.5, "unit_id": f"u{number}"}
        | {"event_id": f"m{number}", "timestamp": _T0 + 150}
        for number in range(1, 5)
    ]
    admission = admit(
        json.dumps(events).encode(),
        form=BodyForm.JSON,
        received_at_ms=_T0 + 200,
        control=ControlState({"x": _EXPERIMENT}),
    )
    assert not admission.rejected, admission.rejected
    [packed] = pack(admission.accepted, partition_count=1, door="warm-up")
    return packed.value
