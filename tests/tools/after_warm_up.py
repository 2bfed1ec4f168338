"""A process that warms up, does all that a stack does with kernels, and says what was new to them.

``python -m tests.tools.after_warm_up``; exit code 1 if anything was.
"""

import gc
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from itertools import chain
from random import Random

from numba.core.dispatcher import Dispatcher

import ingest_gateway
import query_api
import schemas
import stream_processors
import tools
from ingest_gateway.packer import pack
from ingest_gateway.validator import BodyForm, admit
from schemas.control import ControlState, DefinitionChange
from schemas.definitions import Interval
from schemas.hashing import stable_hash64
from stream_processors.accumulate.partition import NAMES_MAX, Partition
from stream_processors.accumulate.recovery import recover
from tests.stream_processors.accumulate.arrivals import Log, logs
from tests.stream_processors.accumulate.builders import (
    LOG_ID,
    T0,
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
UNITS = 12_000
"""More than half of them leave, so that the partition compacts."""

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


def go_through_a_large_one() -> None:
    """Fill a partition beyond what its arrays reserve, let most of it leave, make names up."""
    partition = Partition(0, writer="w")
    stopped = {"stopped_at_ms": T0 + 15, "intervals": [Interval(T0, T0 + 15)], "status": "stopped"}
    units = [
        batch(
            list(
                chain.from_iterable(
                    (assignment(f"u{unit}", "a", T0), measured(f"u{unit}", "m", T0 + 1))
                    for unit in range(first, first + 1_000)
                )
            )
        )
        for first in range(0, 3 * UNITS, 1_000)
    ]
    made_up = [measured("u", f"n{i}", T0 + 2, metric=f"n{i}") for i in range(2 * NAMES_MAX)]
    log = [tick(1, T0, DefinitionChange(definition())), *units, batch(made_up)]
    log += [tick(2, T0 + 20, DefinitionChange(definition(**stopped)))]
    log += [tick(number, T0 + 30, horizon=T0 + 16) for number in range(3, 51)]
    read(partition, log)
    assert partition.memory()["cells"] == 0, "it was compacted"
    assert len(partition.metrics.values) < NAMES_MAX, "names were forgotten"


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
    go_through_doors()
    go_through_worlds()
    go_through_a_large_one()
    found = list(news(before))
    print("\n".join(found) or f"nothing new to {len(before)} kernels")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
