"""``litmus demo``: a week of real impressions in a minute, live, and checked at the end."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, NamedTuple

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tools.demo.campaigns import WINDOW_MS, Arm, definition_of, experiment_id, truth_of
from tools.demo.dataset import CITATION, load_dataset
from tools.demo.display import REFRESHES_PER_SECOND, Display
from tools.demo.latency import Latency
from tools.demo.producer import (
    REQUEST_TIMEOUT_S,
    REQUESTS_IN_FLIGHT_MAX,
    Clock,
    Sent,
    send_records,
    send_requests,
)
from tools.demo.report import report_of
from tools.demo.results import are_stopped, differences, reading_in
from tools.demo.schedule import Request, Schedule, make_schedule
from tools.demo.stack import HOME, Addresses, demo_stack
from tools.demo.summary import campaign_summary, latency_summary, ledger_summary
from tools.demo.watching import Path, Watch, read_ledger, read_results, watch_all
from tools.errors import LitmusError
from tools.home import write_json
from tools.settings import CHECKOUT, SHARED

REPORT = SHARED / "reports" / "demo.json"
DATASETS = SHARED / "datasets"

LEAD_MS = 500
SETTLE_TIMEOUT_S = 90
STOP_TIMEOUT_S = 30
ASK_EVERY_S = 0.3
PROBLEMS_SHOWN_MAX = 20

Truth = dict[str, dict[str, Arm]]


class Run(NamedTuple):
    """What a run ended with.

    Attributes:
        results: Final results by campaign, as the query API shows them.
        ledger: The final ledger.
        paths: What could be seen of each campaign on the way.
        latency: From a 202 to the look.
        problems: In what the numbers are not those of the data; empty: the demo passed.
    """

    results: dict[str, dict[str, Any]]
    ledger: dict[str, Any] | None
    paths: dict[str, Path]
    latency: Latency
    problems: list[str]


def demo(
    seconds: Annotated[
        int, typer.Option(envvar="SECONDS", min=5, help="How long the week lasts.")
    ] = 60,
    keep: Annotated[  # noqa: FBT002  # typer makes it --keep
        bool, typer.Option("--keep", envvar="KEEP", help="Leave the stack running at the end.")
    ] = False,
) -> None:
    """Stream the Open Bandit Dataset through the whole stack and check every result."""
    console = Console()
    started_s = time.monotonic()
    try:
        dataset = load_dataset(DATASETS)
        schedule, truth = make_schedule(dataset, seconds=seconds), truth_of(dataset)
        _introduce(console, schedule, seconds)
        with demo_stack(console, keep=keep) as addresses:
            console.print(f"stack ready after {time.monotonic() - started_s:.1f} s")
            console.print(f"live page: [bold]{addresses.query_api}/[/]\n")
            run = asyncio.run(stream(console, addresses, schedule, truth))
            _conclude(console, run, schedule, truth)
            _say_how_to_stop(console, addresses, keep=keep)
    except LitmusError as error:
        console.print(f"[red]{escape(str(error))}[/]")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("stopped")
        sys.exit(130)
    sys.exit(1 if run.problems else 0)


async def stream(console: Console, addresses: Addresses, schedule: Schedule, truth: Truth) -> Run:
    """Create the experiments, send everything, wait until all is counted, stop, compare."""
    limits = httpx.Limits(max_connections=REQUESTS_IN_FLIGHT_MAX)
    options: dict[str, Any] = {"timeout": REQUEST_TIMEOUT_S, "trust_env": False}
    watch, sent = Watch(), Sent()
    async with (
        httpx.AsyncClient(base_url=addresses.gateway, limits=limits, **options) as gateway,
        httpx.AsyncClient(base_url=addresses.query_api, **options) as query_api,
    ):
        await _start_experiments(gateway, truth)
        display = Display(console, sent=sent, watch=watch, event_count=schedule.event_count)
        async with _meanwhile(watch_all(watch, addresses.query_api, query_api)):
            with display:
                async with _meanwhile(_refresh(display)):
                    await _send(schedule, gateway, addresses.kafka, sent, watch)
                    results, ledger = await _settle(
                        display, gateway, query_api, truth, schedule, sent
                    )
    found = differences(
        results, ledger, truth=truth, schedule=schedule, resent_events=sent.resent_events
    )
    return Run(results, ledger, watch.paths, watch.meter.latency, sent.problems + found)


@asynccontextmanager
async def _meanwhile(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine as long as the block; what it failed with is raised."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _start_experiments(gateway: httpx.AsyncClient, truth: Truth) -> None:
    for campaign in truth:
        await _command(gateway, "/v1/experiments", definition_of(campaign))
        await _command(gateway, f"/v1/experiments/{experiment_id(campaign)}/start")


async def _command(
    gateway: httpx.AsyncClient, path: str, body: dict[str, Any] | None = None
) -> None:
    response = await gateway.post(path, json=body or {})
    if response.is_error:
        raise LitmusError(f"POST {path} was answered {response.status_code}: {response.text}")


async def _send(
    schedule: Schedule,
    gateway: httpx.AsyncClient,
    bootstrap: str,
    sent: Sent,
    watch: Watch,
) -> None:
    """Send everything through both doors, each event at its time."""
    clock = Clock(LEAD_MS)

    def accepted(request: Request, log: Mapping[str, int]) -> None:
        if not request.is_repeat:  # a repeat changes nothing that a look could show
            experiments = {experiment_id(event.campaign) for event in request.events}
            watch.meter.answered(log, experiments, time.monotonic())

    async with asyncio.TaskGroup() as group:
        group.create_task(
            send_requests(
                schedule.requests, client=gateway, clock=clock, sent=sent, on_accepted=accepted
            )
        )
        group.create_task(
            send_records(schedule.records, bootstrap=bootstrap, clock=clock, sent=sent)
        )


async def _settle(
    display: Display,
    gateway: httpx.AsyncClient,
    query_api: httpx.AsyncClient,
    truth: Truth,
    schedule: Schedule,
    sent: Sent,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
    """Wait until everything is counted and matured, stop the experiments, return the end."""
    results: dict[str, dict[str, Any]] = {}
    ledger: dict[str, Any] | None = None

    async def is_settled() -> bool:
        nonlocal results, ledger
        results, ledger = await read_results(query_api, truth), await read_ledger(query_api)
        return not differences(
            results, ledger, truth=truth, schedule=schedule, resent_events=sent.resent_events
        )

    async def is_stopped() -> bool:
        return await is_settled() and are_stopped(results, truth)

    display.phase(f"the last windows of {WINDOW_MS // 1000} s close")
    await _wait_until(is_settled, SETTLE_TIMEOUT_S)
    display.phase("stopping the experiments")
    for campaign in truth:
        await _command(gateway, f"/v1/experiments/{experiment_id(campaign)}/stop")
    if not await _wait_until(is_stopped, STOP_TIMEOUT_S) and not are_stopped(results, truth):
        sent.problems.append("the results do not say that the experiments were stopped")
    display.phase("done")
    return results, ledger


async def _wait_until(condition: Callable[[], Awaitable[bool]], timeout_s: float) -> bool:
    """Ask until the condition holds; return whether it did in time."""
    deadline_s = time.monotonic() + timeout_s
    while not await condition():
        if time.monotonic() >= deadline_s:
            return False
        await asyncio.sleep(ASK_EVERY_S)
    return True


async def _refresh(display: Display) -> None:
    while True:
        display.refresh(time.monotonic())
        await asyncio.sleep(1 / REFRESHES_PER_SECOND)


def _introduce(console: Console, schedule: Schedule, seconds: int) -> None:
    console.print(
        f"[bold]Litmus demo[/]: {schedule.fresh_count:,} events of a fashion shop's week in "
        f"{seconds} s, half through HTTP, half through Kafka, "
        f"{schedule.repeated_count:,} of them sent twice."
    )
    console.print(f"[dim]{CITATION}[/]\n", highlight=False)


def _conclude(console: Console, run: Run, schedule: Schedule, truth: Truth) -> None:
    """Say what came out, write the report, name every number that is not the data's."""
    write_report(run)
    console.print()
    for campaign, arms in truth.items():
        reading = reading_in(run.results.get(campaign, {}))
        if reading is not None:
            path = run.paths.get(campaign, Path())
            _print_pairs(console, list(campaign_summary(campaign, arms, reading, path)))
    pairs = []
    if run.ledger is not None:
        pairs.append(("ledger", ledger_summary(run.ledger, schedule)))
    pairs.append(("latency", latency_summary(run.latency)))
    pairs.append(("report", str(REPORT.relative_to(CHECKOUT))))
    _print_pairs(console, pairs)
    if run.problems:
        console.print("[bold red]The results are not those of the data:[/]")
        for problem in run.problems[:PROBLEMS_SHOWN_MAX]:
            console.print(f"  {escape(problem)}", highlight=False, soft_wrap=True)
    else:
        console.print("[bold green]Every result equals the data.[/]")


def _print_pairs(console: Console, pairs: list[tuple[str, str]]) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=14, no_wrap=True, style="bold")
    grid.add_column()
    for label, text in pairs:
        grid.add_row(label, Text(text))
    console.print(grid)
    console.print()


def write_report(run: Run) -> None:
    """Write what the run ended with, for programs."""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    write_json(REPORT, report_of(run.results, run.ledger, run.latency))


def _say_how_to_stop(console: Console, addresses: Addresses, *, keep: bool) -> None:
    if keep:
        home = HOME.relative_to(CHECKOUT)
        console.print(
            f"\nThe stack goes on running: {addresses.query_api}/\n"
            f"Stop it with: LITMUS_HOME={home} .venv/bin/litmus down",
            highlight=False,
        )
