"""``litmus bench``: the engine against plain Python; its memory; its checkpoint traffic.

What measures is imported by the command that needs it: with scipy and compiled kernels it takes a
second, which every other ``litmus`` command would wait for.
"""

import json
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from tools.errors import WrongAnswerError
from tools.home import write_json
from tools.settings import SHARED

REPORTS = SHARED / "reports"

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
    from tools.bench.speed import measure_speed  # noqa: PLC0415  # see above

    console = Console(stderr=as_json)
    try:
        figures = measure_speed(
            messages=messages, rows=rows, units=units, pairs=pairs, seed=seed, console=console
        )
    except WrongAnswerError as error:
        _refuse(console, error)
    if as_json:
        typer.echo(json.dumps(figures))
        return
    _show_speed(console, figures)


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
    from tools.bench.looks import measure_looks, show_looks  # noqa: PLC0415  # see above

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
    from tools.bench.growth import Load  # noqa: PLC0415  # see above
    from tools.bench.memory import measure_memory  # noqa: PLC0415  # see above
    from tools.bench.showing import show_memory  # noqa: PLC0415  # see above

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
    from tools.bench.checkpoints import measure_checkpoints  # noqa: PLC0415  # see above
    from tools.bench.growth import PARTITIONS  # noqa: PLC0415  # see above
    from tools.bench.memory import EVENTS_PER_SECOND  # noqa: PLC0415  # see above
    from tools.bench.showing import show_checkpoints  # noqa: PLC0415  # see above

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
    from tools.bench.growth import PARTITIONS  # noqa: PLC0415  # see above
    from tools.bench.recovery import (  # noqa: PLC0415  # see above
        measure_recovery,
        show_recovery,
        slope,
    )

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


def _show_speed(console: Console, figures: dict[str, Any]) -> None:
    console.print(
        f"{figures['rows']:,} events, answers equal in all {figures['pairs']} turns\n"
        f"  engine        {figures['engine_events_per_cpu_second']:>12,} events per CPU-second\n"
        f"  plain Python  {figures['peer_events_per_cpu_second']:>12,} events per CPU-second\n"
        f"  ratio         {figures['ratio_median']:>12} "
        f"({figures['ratio_min']} to {figures['ratio_max']})"
    )
