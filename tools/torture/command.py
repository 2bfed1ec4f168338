"""``litmus torture``: break everything on a seeded schedule, and prove that no number changed."""

import asyncio
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from schemas.times import parse_duration_ms
from tools.errors import LitmusError, NotRunningError
from tools.home import write_json
from tools.ports import free_ports
from tools.report_page import write_page
from tools.settings import SHARED, Settings
from tools.stack import stop_stack
from tools.torture.disks import Disk, mount_disks
from tools.torture.display import REFRESHES_PER_SECOND, Display
from tools.torture.report import Result, figures_table, report_of
from tools.torture.run import BROKER_LINKS, JOURNAL, Course, Progress, besiege
from tools.torture.schedule import DISKS, Kind, make_schedule
from tools.torture.stack import TortureStack

HOME = SHARED / "torture"
REPORTS = SHARED / "reports"
PAGE = Path(__file__).with_name("page.html")
PROBLEMS_SHOWN_MAX = 20
PLAIN_WIDTH = 120
_INTERRUPTED = 130
_KEPT = "what is kept must not lie on a disk that ends with the run"


def torture(
    *,
    faults: Annotated[int, typer.Option(envvar="FAULTS", min=0, help="How many.")] = 50,
    seed: Annotated[
        int, typer.Option(envvar="SEED", help="The same one gives the same schedule.")
    ] = 1,
    units: Annotated[
        int, typer.Option(min=0, help="That are there before the first fault.")
    ] = 200_000,
    rate: Annotated[float, typer.Option(min=10, help="Events a second.")] = 1_000.0,
    seconds_between: Annotated[
        float, typer.Option(min=0, help="From one fault's recovery to the next fault, on average.")
    ] = 1.0,
    recovery_max: Annotated[
        float, typer.Option(min=5, help="Seconds in which each must be recovered from.")
    ] = 60.0,
    minutes_max: Annotated[
        float, typer.Option(min=0.1, help="No fault begins after so many; the rest is left out.")
    ] = 24 * 60.0,
    lateness: Annotated[str, typer.Option(help="LITMUS_LATENESS of the stack.")] = "5m",
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="A kind of fault, or one fault: kill, 'kill accumulate'. May be repeated."
        ),
    ] = None,
    home: Annotated[Path, typer.Option(help="Wiped at the start.")] = HOME,
    reports: Annotated[Path, typer.Option(help="Folder of torture.json and .html.")] = REPORTS,
    keep: Annotated[bool, typer.Option("--keep", help="Leave data and logs there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine to read.")] = False,
) -> None:
    """Break the whole stack on a seeded schedule under load, then audit every number."""
    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    try:
        settings = _settings(home.absolute(), lateness)
        _wipe(settings)
        disks, no_disks = ({}, _KEPT) if keep else mount_disks(settings.home, DISKS)
        impossible = {str(Kind.FULL_DISK): no_disks} if no_disks else {}
        course = Course(
            seed=seed,
            faults=make_schedule(
                seed,
                faults,
                seconds_between=seconds_between,
                impossible=[] if disks else [Kind.FULL_DISK],
                disks=list(disks),
                only=only or (),
            ),
            units=units,
            rate=rate,
            lateness_ms=parse_duration_ms(lateness),
            recovery_seconds_max=recovery_max,
            seconds_max=60 * minutes_max,
        )
        _introduce(console, course, impossible)
        stack = TortureStack(settings, links=BROKER_LINKS)
        result = _carry_out(console, course, stack, disks, impossible)
    except LitmusError as error:
        console.print(f"[red]{escape(str(error))}[/]")
        sys.exit(1)
    except (KeyboardInterrupt, asyncio.CancelledError):  # the latter: SIGTERM
        console.print("stopped")
        sys.exit(_INTERRUPTED)
    _conclude(console, result, reports.absolute())
    if as_json:
        print(json.dumps(report_of(result), indent=2))
    if result.passed and not keep:
        shutil.rmtree(settings.home, ignore_errors=True)
    else:
        console.print(f"data and logs stay in {settings.home}")
    sys.exit(0 if result.passed else 1)


def _carry_out(
    console: Console,
    course: Course,
    stack: TortureStack,
    disks: dict[str, Disk],
    impossible: dict[str, str],
) -> Result:
    """Run it, stop everything, and audit what is left."""
    progress = Progress()
    with Display(console, course, progress) as display:
        asyncio.run(_watched(display, course, stack, disks, progress))
    audit = None
    settings = stack.settings
    if progress.ledger:
        from tools.torture.examining import examine_run  # noqa: PLC0415  # ClickHouse, Arrow

        began_s = time.monotonic()
        audit = examine_run(settings, settings.home / JOURNAL, progress.ledger, console)
        progress.seconds["auditing"] = round(time.monotonic() - began_s, 1)
    return Result(course, progress, audit, impossible)


async def _watched(
    display: Display,
    course: Course,
    stack: TortureStack,
    disks: dict[str, Disk],
    progress: Progress,
) -> None:
    """Run it, showing how it goes; SIGTERM and SIGINT stop everything in order."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)

    async def refresh() -> None:
        while True:
            display.refresh()
            await asyncio.sleep(1 / REFRESHES_PER_SECOND)

    shown = asyncio.create_task(refresh())
    try:
        await besiege(course, stack, disks, progress, now_ms=_now_ms)
    except* LitmusError as errors:
        progress.problems += [str(error) for error in _leaves(errors)]
    finally:
        shown.cancel()


def _leaves(group: BaseExceptionGroup[LitmusError]) -> Iterator[LitmusError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _settings(home: Path, lateness: str) -> Settings:
    gateway_port, query_port = free_ports(2)
    return Settings(
        home=home,
        kafka=None,
        clickhouse=None,
        gateway_port=gateway_port,
        query_port=query_port,
        bind="127.0.0.1",
        lateness=lateness,
    )


def _wipe(settings: Settings) -> None:
    """Begin with nothing: an earlier run may have been killed, or kept."""
    with suppress(NotRunningError):
        stop_stack(settings)
    shutil.rmtree(settings.home, ignore_errors=True)
    settings.home.mkdir(parents=True)
    write_json(settings.home / "format.json", {"format": 1})


def _introduce(console: Console, course: Course, impossible: dict[str, str]) -> None:
    console.print(
        f"[bold]Litmus torture[/]: {len(course.faults)} faults, seed {course.seed}, "
        f"{course.units:,} units, {course.rate:,.0f} events a second."
    )
    for kind, reason in impossible.items():
        console.print(f"[yellow]not possible here: {kind}[/]: {escape(reason)}", soft_wrap=True)


def _conclude(console: Console, result: Result, reports: Path) -> None:
    reports.mkdir(parents=True, exist_ok=True)
    report = report_of(result)
    write_json(reports / "torture.json", report)
    write_page(reports / "torture.html", PAGE, report)
    console.print()
    console.print(figures_table(result.progress.endured))
    console.print()
    for line in [*result.problems, *report["difference_lines"]][:PROBLEMS_SHOWN_MAX]:
        console.print(f"  {escape(line)}", style="red", soft_wrap=True)
    console.print(
        f"{report['survived']} of {report['fault_count']} faults survived · "
        f"{report['events_compared']:,} events and {report['looks_compared']:,} looks compared · "
        f"{report['differences']} differences",
        style="bold green" if result.passed else "bold red",
        soft_wrap=True,
    )
    console.print(f"report: {reports}/torture.json and torture.html", soft_wrap=True)
