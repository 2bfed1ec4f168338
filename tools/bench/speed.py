"""How many events a CPU-second counts: the engine and plain Python in turns, answers compared."""

import statistics
import time
from typing import Any, NamedTuple

import msgspec
from rich.console import Console
from rich.progress import track

from schemas.control import DefinitionChange, Settings, Tick, Times
from schemas.partials import Sums, decode_partial, sums_from_bytes
from schemas.topics import KIND_BATCH, KIND_TICK
from stream_processors.accumulate.partition import Partition
from tools.bench.peer import PlainPython
from tools.bench.workload import DEFINITION, START_MS, Workload, make_workload
from tools.errors import WrongAnswerError


class Pair(NamedTuple):
    """Events per CPU-second of the two, in one turn."""

    engine: float
    peer: float


def measure_speed(
    *, messages: int, rows: int, units: int, pairs: int, seed: int, console: Console
) -> dict[str, Any]:
    """Return events per CPU-second of both, and their ratio.

    Args:
        messages: Packed messages.
        rows: Events in each.
        units: Units they are drawn from.
        pairs: Turns of each.
        seed: Of the events.
        console: For the progress bar.

    Raises:
        WrongAnswerError: If the two count differently; there is no speed then.
    """
    workload = make_workload(messages=messages, rows_per_message=rows, units=units, seed=seed)
    _engine(make_workload(messages=2, rows_per_message=10, units=5, seed=seed))  # compiled now
    measured = []
    for _ in track(range(pairs), "engine, peer, engine, peer …", console=console):
        engine_s, engine_sums = _engine(workload)
        peer_s, peer_sums = _peer(workload)
        if engine_sums != peer_sums:
            raise WrongAnswerError(
                "The answers differ: the engine and plain Python count otherwise"
            )
        measured.append(Pair(workload.rows / engine_s, workload.rows / peer_s))
    ratios = [pair.engine / pair.peer for pair in measured]
    return {
        "rows": workload.rows,
        "pairs": len(measured),
        "engine_events_per_cpu_second": round(statistics.median(one.engine for one in measured)),
        "peer_events_per_cpu_second": round(statistics.median(one.peer for one in measured)),
        "ratio_median": round(statistics.median(ratios), 2),
        "ratio_min": round(min(ratios), 2),
        "ratio_max": round(max(ratios), 2),
    }


def _engine(workload: Workload) -> tuple[float, list[list[Sums]]]:
    partition = Partition(0, writer="bench")
    partition.apply(0, KIND_TICK, _tick(1, START_MS, DefinitionChange(DEFINITION)))
    began = time.process_time()
    for offset, message in enumerate(workload.messages, start=1):
        partition.apply(offset, KIND_BATCH, message)
    spent_s = time.process_time() - began
    ticked = partition.apply(partition.cursor, KIND_TICK, _tick(2, START_MS + 1))
    assert ticked is not None
    [sums] = decode_partial(ticked.partials[0]).experiments
    return spent_s, [sums_from_bytes(value) for value in sums.open]


def _peer(workload: Workload) -> tuple[float, list[list[Sums]]]:
    peer = PlainPython(DEFINITION)
    began = time.process_time()
    for message in workload.messages:
        peer.apply(message)
    return time.process_time() - began, peer.sums()


def _tick(number: int, time_ms: int, *changes: Any) -> bytes:
    times = Times(time_ms, time_ms, 0)
    return msgspec.json.encode(Tick("bench", number, times, Settings(), list(changes)))
