"""A process that warms up, does all that a stack does with kernels, and says what was new to them.

``python -m tests.tools.after_warm_up``; exit code 1 if anything was.
"""

import ast
import gc
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

from numba.core.dispatcher import Dispatcher

import ingest_gateway
import query_api
import schemas
import stream_processors
import tools
from ingest_gateway.packer import pack
from ingest_gateway.validator import BodyForm, admit
from schemas.control import (
    CatalogueChange,
    CatalogueEntry,
    ControlState,
    DefinitionChange,
    decode_tick,
)
from schemas.definitions import CapQuantile, Interval, Metric
from schemas.hashing import stable_hash64
from schemas.imports import DAY_MS
from schemas.topics import KIND_TICK
from stream_processors.accumulate.partition import NAMES_MAX, Partition
from stream_processors.accumulate.recovery import recover
from stream_processors.accumulate.state import CELL, NODES
from tests.stream_processors.accumulate.arrivals import Log, logs
from tests.stream_processors.accumulate.builders import (
    LOG_ID,
    T0,
    Event,
    Message,
    assignment,
    batch,
    definition,
    measured,
    tick,
)
from tests.stream_processors.accumulate.log_oracle import LogOracle
from tests.stream_processors.accumulate.worlds import make_world
from tools.warm_up import warm_up

OURS = (ingest_gateway, query_api, schemas, stream_processors, tools)
WORLDS = 12
UNITS, STAYING = 30_000, 9_000
"""More than half of the cells leave, so that the partition compacts."""

KEPT: dict[str, Any] = {"window_ms": 10_000, "covariate_days": 2}
EVERY = [
    Metric("conversion", "conversion", "buy", **KEPT),
    Metric("count", "count", "buy", cap=3.0, **KEPT),
    Metric("sum", "sum", "buy", cap=2.0, **KEPT),
    Metric("grid", "sum", "buy", window_ms=10_000, cap=CapQuantile(0.9)),
    Metric("ratio", "ratio", "buy", denominator="view", **KEPT),
    Metric("mean", "mean", "buy", **KEPT),
    Metric("units", "quantile", "buy", window_ms=10_000, quantile=0.9, of="units"),
    Metric("events", "quantile", "buy", window_ms=10_000, quantile=0.9, of="events"),
    Metric("open", "quantile", "view", "secondary", quantile=0.5, of="events"),
]
SEGMENTS = {"country": ["CA", "US"]}

BODIES = [
    (b'{"type":"assignment","event_id":"e","unit_id":"u","experiment_id":"x","variant":"c"}', 0),
    (b'[{"type":"metric","event_id":"e","unit_id":"u","metric":"m","value":1e3}, 7, "x", {}]', 3),
    (b'{"type":"metric","event_id":"\\u00fc","unit_id":"\xc3\xbc","metric":"m"}\r\n\n{"a":[1]}', 1),
    (b'{"type":"metric","unit_id":"u","metric":"m","timestamp":"2023-11-14T23:13:20.5+01:00"}', 1),
    (b'{"type":"metric","event_id":"e","unit_id":"u","metric":"m","timestamp":1.5e12}', 1),
]


def import_all() -> None:
    """Import every module of ours, so that every kernel is there."""
    for package in OURS:
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)


def kernels() -> dict[str, Dispatcher]:
    """Return every kernel that there is, by its name."""
    names = tuple(package.__name__ + "." for package in OURS)
    return {
        f"{one.py_func.__module__}.{one.py_func.__qualname__}": one
        for one in gc.get_objects()
        if isinstance(one, Dispatcher) and one.py_func.__module__.startswith(names)
    }


def called_from_python() -> Iterator[Dispatcher]:
    """Yield every kernel that code of ours calls which is none itself."""
    for module in list(sys.modules.values()):
        if not module.__name__.startswith(tuple(f"{one.__name__}." for one in OURS)):
            continue
        tree = ast.parse(Path(module.__file__ or "").read_text())
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            if isinstance(vars(module).get(function.name), Dispatcher):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call):
                    called = _named(module, node.func)
                    if isinstance(called, Dispatcher):
                        yield called


def _named(module: ModuleType, node: ast.expr) -> object:
    """Return what a name, or a name of another module, stands for in a module."""
    if isinstance(node, ast.Name):
        return vars(module).get(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return getattr(vars(module).get(node.value.id), node.attr, None)
    return None


def known() -> dict[str, set[str]]:
    """Return the types of arguments that every kernel was compiled for."""
    return {name: set(map(str, one.signatures)) for name, one in kernels().items()}


def go_through_doors() -> None:
    """Take bodies of every form through validation and packing."""
    control = ControlState({"x": definition()})
    for body, rejected in BODIES:
        form = BodyForm.JSON if body.startswith(b"[") else BodyForm.NDJSON
        admission = admit(body, form=form, received_at_ms=T0 + 1, control=control)
        assert len(admission.rejected) == rejected, admission.rejected
        pack(admission.accepted, partition_count=5, door="test")
    stable_hash64("a name that is new")


def read(
    partition: Partition, messages: list[Message], changelog: dict[bytes, bytes] | None = None
) -> None:
    """Apply the messages from the partition's cursor on, and write what it wants written."""
    for message in messages[partition.cursor :]:
        ticked = partition.apply(partition.cursor, *message)
        for key, value in ticked.writes if ticked and changelog is not None else ():
            if value is None:
                changelog.pop(key, None)
            else:
                changelog[key] = value


def go_through_worlds() -> None:
    """Read worlds of every kind of metric; recover in the middle, and in the end."""
    for seed in range(WORLDS):
        random = Random(seed)
        world = make_world(random)
        [messages] = logs(world, random, Log(shuffle=True, repeats=10, hostile=10))
        oracle, states = LogOracle(), {}
        for message in messages:
            oracle.apply(*message)
            states[oracle.tick] = oracle.control
        changelog: dict[bytes, bytes] = {}
        partition = Partition(0, writer="w")
        for end in (len(messages) // 2, len(messages)):
            read(partition, messages[:end], changelog)
            assert partition.cursor == end
            partition = recover(
                0, changelog.items(), state_at=states.__getitem__, log_id=LOG_ID, writer="w"
            ).partition
        read(partition, messages)
        partition.refold()


def states_of(log: list[Message]) -> dict[int, ControlState]:
    """Return definitions and catalogue as of every tick."""
    states = {0: ControlState()}
    for message in log:
        if message.kind == KIND_TICK:
            one = decode_tick(message.value)
            states[one.number] = states[one.number - 1].after(one.changes)
    return states


def go_through_a_large_one() -> None:
    """Fill a partition beyond what its arrays reserve, with everything that there is to count.

    Most of it leaves when an experiment is final; names are made up; a worker starts in the middle.
    """
    stopped = {"stopped_at_ms": T0 + 15, "intervals": [Interval(T0, T0 + 15)], "status": "stopped"}
    entries = [CatalogueEntry(name, 6, 3, T0 // DAY_MS) for name in ("buy", "view")]
    running = [
        definition(name, at, metrics=EVERY, segments=SEGMENTS) for at, name in enumerate("xy")
    ]
    units = [
        batch([event for unit in range(first, first + 1_000) for event in events_of(unit)])
        for first in range(0, UNITS, 1_000)
    ]
    made_up = [measured("u", f"n{i}", T0 + 2, metric=f"n{i}") for i in range(2 * NAMES_MAX)]
    log = [tick(1, T0, *map(CatalogueChange, entries), *map(DefinitionChange, running)), *units]
    log += [
        tick(2, T0 + 20, DefinitionChange(definition(metrics=EVERY, segments=SEGMENTS, **stopped)))
    ]
    log += [batch(made_up), *(tick(number, T0 + 30, horizon=T0) for number in range(3, 40))]
    log += [tick(number, T0 + 30, horizon=T0 + 16) for number in range(40, 101)]
    states, changelog = states_of(log), dict[bytes, bytes]()
    partition = Partition(0, writer="w")
    for end in (len(log) - 40, len(log)):
        read(partition, log[:end], changelog)
        partition = recover(
            0, changelog.items(), state_at=states.__getitem__, log_id=LOG_ID, writer="w"
        ).partition
        read(partition, log[:end], changelog)
        partition.refold()
    assert partition.memory()["cells"] == STAYING * CELL.itemsize, "it was compacted"
    assert 0 < int(partition.state.counts[NODES]) <= 2 * STAYING, (
        "those that stay have their events"
    )
    assert len(partition.metrics.values) < NAMES_MAX, "names were forgotten"


def events_of(unit: int) -> list[Event]:
    """Return what a unit of the large partition does; few are in the experiment that stays."""
    name, attributes = f"u{unit}", '{"country":"CA"}' if unit % 2 else None
    events = [assignment(name, "a", T0 + 5, experiment="x")._replace(attributes=attributes)]
    if unit < STAYING:
        events.append(assignment(name, "b", T0 + 5, experiment="y"))
    return [*events, measured(name, "m", T0 + 6), measured(name, "v", T0 + 6, metric="view")]


def news(before: dict[str, set[str]]) -> Iterator[str]:
    """Yield what kernels have met that they had not met before."""
    for name, signatures in known().items():
        for one in sorted(signatures - before.get(name, set())):
            yield f"{name}{one}"


def main() -> int:
    """Return the exit code."""
    import_all()
    warm_up()
    before = known()
    cold = {one.py_func.__qualname__ for one in called_from_python() if not one.signatures}
    if cold:
        print(f"never called: {sorted(cold)}")
        return 1
    go_through_doors()
    go_through_worlds()
    go_through_a_large_one()
    found = list(news(before))
    print("\n".join(found) or f"nothing new to {len(before)} kernels")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
