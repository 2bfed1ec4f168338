"""``litmus bench``: the engine against plain Python, on the same bytes, in turn."""

import json
import statistics
import time
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.progress import track

from schemas.control import DefinitionChange, Settings, Tick, Times
from schemas.partials import Sums, decode_partial, sums_from_bytes
from schemas.topics import KIND_BATCH, KIND_TICK
from stream_processors.accumulate.partition import Partition
from tools.bench.peer import PlainPython
from tools.bench.workload import DEFINITION, START_MS, Workload, make_workload


class Pair(NamedTuple):
    """Events per CPU-second of the two, in one turn."""

    engine: float
    peer: float


def bench(
    *,
    messages: Annotated[int, typer.Option(min=1, help="Packed messages.")] = 400,
    rows: Annotated[int, typer.Option(min=1, max=10_000, help="Rows in each.")] = 1_000,
    units: Annotated[int, typer.Option(min=1, help="Units they are drawn from.")] = 100_000,
    pairs: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the workload.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine to read.")] = False,
) -> None:
    """Count the same events with the engine and with plain Python; compare answers, then speed."""
    console = Console(stderr=as_json)
    workload = make_workload(messages=messages, rows_per_message=rows, units=units, seed=seed)
    _engine(make_workload(messages=2, rows_per_message=10, units=5, seed=seed))  # compiled now
    measured = []
    for _ in track(range(pairs), "engine, peer, engine, peer …", console=console):
        engine_s, engine_sums = _engine(workload)
        peer_s, peer_sums = _peer(workload)
        if engine_sums != peer_sums:
            console.print("[red]The answers differ; no speed is worth that.")
            raise typer.Exit(1)
        measured.append(Pair(workload.rows / engine_s, workload.rows / peer_s))
    _report(measured, workload, as_json=as_json, console=console)


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


def _report(measured: list[Pair], workload: Workload, *, as_json: bool, console: Console) -> None:
    ratios = [pair.engine / pair.peer for pair in measured]
    figures = {
        "rows": workload.rows,
        "pairs": len(measured),
        "engine_events_per_cpu_second": round(statistics.median(one.engine for one in measured)),
        "peer_events_per_cpu_second": round(statistics.median(one.peer for one in measured)),
        "ratio_median": round(statistics.median(ratios), 2),
        "ratio_min": round(min(ratios), 2),
        "ratio_max": round(max(ratios), 2),
    }
    if as_json:
        typer.echo(json.dumps(figures))
        return
    console.print(
        f"{figures['rows']:,} events, answers equal in all {figures['pairs']} turns\n"
        f"  engine        {figures['engine_events_per_cpu_second']:>12,} events per CPU-second\n"
        f"  plain Python  {figures['peer_events_per_cpu_second']:>12,} events per CPU-second\n"
        f"  ratio         {figures['ratio_median']:>12} "
        f"({figures['ratio_min']} to {figures['ratio_max']})"
    )
