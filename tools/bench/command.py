"""``litmus bench``: the engine against plain Python; its memory; its checkpoint traffic."""

import json
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import track

from schemas.control import DefinitionChange, Settings, Tick, Times
from schemas.partials import Sums, decode_partial, sums_from_bytes
from schemas.topics import KIND_BATCH, KIND_TICK
from stream_processors.accumulate.partition import Partition
from tools.bench.checkpoints import measure_checkpoints
from tools.bench.growth import PARTITIONS, Load
from tools.bench.looks import measure_looks, show_looks
from tools.bench.memory import EVENTS_PER_SECOND, WrongAnswerError, measure_memory
from tools.bench.peer import PlainPython
from tools.bench.recovery import measure_recovery, show_recovery, slope
from tools.bench.showing import show_checkpoints, show_memory
from tools.bench.workload import DEFINITION, START_MS, Workload, make_workload
from tools.home import write_json
from tools.settings import SHARED

REPORTS = SHARED / "reports"


class Pair(NamedTuple):
    """Events per CPU-second of the two, in one turn."""

    engine: float
    peer: float


app = typer.Typer(invoke_without_command=True)


@app.callback()
def bench(
    context: typer.Context,
    *,
    messages: Annotated[int, typer.Option(min=1, help="Packed messages.")] = 400,
    rows: Annotated[int, typer.Option(min=1, max=10_000, help="Rows in each.")] = 1_000,
    units: Annotated[int, typer.Option(min=1, help="Units they are drawn from.")] = 100_000,
    pairs: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the workload.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine to read.")] = False,
) -> None:
    """Count the same events with the engine and with plain Python; compare answers, then speed."""
    if context.invoked_subcommand is not None:
        return
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


@app.command("looks")
def bench_looks(
    *,
    experiments: Annotated[
        int, typer.Option(min=1, help="Of five metrics, two effects each.")
    ] = 100,
    turns: Annotated[int, typer.Option(min=1, help="Of each way; the fastest counts.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the sums.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine to read.")] = False,
) -> None:
    """Compute the effects of a look together, one by one and by scipy; compare answers first."""
    console = Console(stderr=as_json)
    try:
        timing = measure_looks(experiments, turns=turns, seed=seed)
    except WrongAnswerError as error:
        _refuse(console, error)
    if as_json:
        typer.echo(json.dumps(timing._asdict()))
        return
    show_looks(console, timing)


@app.command("memory")
def bench_memory(
    *,
    units: Annotated[
        str, typer.Option(help="Millions of units to grow to, one size after the other.")
    ] = "1,2,4",
    horizon_events: Annotated[
        int, typer.Option(min=200_000, help="Events within the horizon while it grows.")
    ] = 2_000_000,
    keeps_records: Annotated[
        bool,
        typer.Option("--keeps-records", help="Hold a copy of the records, as Faust tables do."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the load.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine to read.")] = False,
) -> None:
    """Measure bytes per unit and per event, and how long a batch takes while tables grow."""
    console = Console(stderr=as_json)
    load = Load(seed=seed)
    try:
        figures = measure_memory(
            _sizes(units, load.units_per_block),
            load=load,
            horizon_events=horizon_events,
            keeps_records=keeps_records,
        )
    except WrongAnswerError as error:
        _refuse(console, error)
    _conclude(console, "bench-memory", figures, show_memory, as_json=as_json)


@app.command("checkpoints")
def bench_checkpoints(
    *,
    units: Annotated[str, typer.Option(help="Millions of units, each size by itself.")] = "1,2,4",
    seconds: Annotated[int, typer.Option(min=5, help="Log time measured at each.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the load.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine to read.")] = False,
) -> None:
    """Measure what is written to the changelog at 10,000 events a second, lateness 1 h."""
    console = Console(stderr=as_json)
    try:
        sizes = measure_checkpoints(_sizes(units, PARTITIONS), seconds=seconds, seed=seed)
    except WrongAnswerError as error:
        _refuse(console, error)
    figures = {"events_per_second": EVENTS_PER_SECOND, "sizes": [one._asdict() for one in sizes]}
    _conclude(console, "bench-checkpoints", figures, show_checkpoints, as_json=as_json)


@app.command("recovery")
def bench_recovery(
    *,
    units: Annotated[str, typer.Option(help="Millions of units.")] = "0.01,0.1,1",
    cycles: Annotated[int, typer.Option(min=1, help="Cycles of checkpoints at each.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the load.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine to read.")] = False,
) -> None:
    """Measure how long state takes to come back from its changelog on a real broker."""
    console = Console(stderr=as_json)
    try:
        sizes = measure_recovery(_sizes(units, PARTITIONS), cycles=cycles, seed=seed)
    except WrongAnswerError as error:
        _refuse(console, error)
    figures = {
        "sizes": [one._asdict() for one in sizes],
        "seconds_per_million_units": slope(sizes),
    }
    _conclude(console, "bench-recovery", figures, show_recovery, as_json=as_json)


def _sizes(millions: str, multiple: int) -> list[int]:
    """Return numbers of units, each a multiple of ``multiple``."""
    try:
        asked = [round(float(one) * 1_000_000) for one in millions.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"units == {millions!r}, must be like 1,2,4") from error
    sizes = [one // multiple * multiple for one in asked]
    if sizes != sorted(set(sizes)) or sizes[0] <= 0:
        raise typer.BadParameter(f"units == {millions!r}, must grow from one size to the next")
    return sizes


def _refuse(console: Console, error: WrongAnswerError) -> NoReturn:
    console.print("[red]The answer is wrong; no figure is worth that.")
    console.print(str(error), markup=False)
    raise typer.Exit(1)


def _conclude(
    console: Console,
    name: str,
    figures: dict[str, Any],
    show: Callable[[Console, dict[str, Any]], None],
    *,
    as_json: bool,
) -> None:
    """Write the report, show it; exit 1 if a bound is exceeded."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    write_json(REPORTS / f"{name}.json", figures)
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        show(console, figures)
    if figures.get("exceeded"):
        raise typer.Exit(1)


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
