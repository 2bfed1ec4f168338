"""``litmus demo``: a week of real impressions in a minute, live, and checked at the end."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tools.demo.campaigns import WINDOW_MS, Arm, definition_of, experiment_id, truth_of
from tools.demo.dataset import CAMPAIGNS, CITATION, load_dataset
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
from tools.meanwhile import meanwhile
from tools.settings import CHECKOUT, SHARED

REPORT = SHARED / "reports" / "demo.json"
DATASETS = SHARED / "datasets"

LEAD_MS = 500
STALL_TIMEOUT_S = 90
"""The run fails when nothing has moved for so long, not when it is merely slow."""

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
        first_result_s: When the first look with a unit in it was read, on the monotonic clock.
        problems: In what the numbers are not those of the data; empty: the demo passed.
    """

    results: dict[str, dict[str, Any]]
    ledger: dict[str, Any] | None
    paths: dict[str, Path]
    latency: Latency
    first_result_s: float | None
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
            if run.first_result_s is not None:
                first_s = run.first_result_s - started_s
                console.print(f"The first result was there {first_s:.1f} s after the start.")
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
        end = End(query_api, truth=truth, schedule=schedule, sent=sent)
        display = Display(console, sent=sent, watch=watch, event_count=schedule.event_count)
        await _start_experiments(gateway)
        async with meanwhile(watch_all(watch, addresses.query_api, query_api)):
            with display:
                async with meanwhile(_refresh(display)):
                    await _send(schedule, gateway, addresses.kafka, sent, watch)
                    found = await _settle(display, gateway, end)
    return Run(
        end.results,
        end.ledger,
        watch.paths,
        watch.meter.latency,
        watch.first_result_s,
        sent.problems + found,
    )


async def _start_experiments(gateway: httpx.AsyncClient) -> None:
    for campaign in CAMPAIGNS:
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


class End:
    """Reads results and ledger until they are final."""

    def __init__(
        self, query_api: httpx.AsyncClient, *, truth: Truth, schedule: Schedule, sent: Sent
    ) -> None:
        self._query_api = query_api
        self._truth = truth
        self._schedule = schedule
        self._sent = sent
        self.results: dict[str, dict[str, Any]] = {}
        self.ledger: dict[str, Any] | None = None

    def differences(self) -> list[str]:
        """Return in what the numbers are not those of the data, at present."""
        return differences(
            self.results,
            self.ledger,
            truth=self._truth,
            schedule=self._schedule,
            resent_events=self._sent.resent_events,
        )

    def are_stopped(self) -> bool:
        """Return whether the results say that all experiments have stopped."""
        return are_stopped(self.results, self._truth)

    async def wait(self, condition: Callable[[], bool]) -> bool:
        """Read on until the condition holds; return False if nothing moves any more."""
        moved: object = None
        moved_s = time.monotonic()
        while True:
            self.results = await read_results(self._query_api, self._truth)
            self.ledger = await read_ledger(self._query_api)
            if condition():
                return True
            now_s = time.monotonic()
            if moved != (moved := self._progress()):
                moved_s = now_s
            elif now_s - moved_s > STALL_TIMEOUT_S:
                return False
            await asyncio.sleep(ASK_EVERY_S)

    def _progress(self) -> object:
        ticks = [(results.get("look") or {}).get("tick") for results in self.results.values()]
        return ticks, self.ledger and (self.ledger["rows"], self.ledger["clickhouse"])


async def _settle(display: Display, gateway: httpx.AsyncClient, end: End) -> list[str]:
    """Wait until all is counted and matured, then stop the experiments; return what is wrong."""
    display.phase(f"the last windows of {WINDOW_MS // 1000} s close")
    await end.wait(lambda: not end.differences())
    display.phase("stopping the experiments")
    for campaign in CAMPAIGNS:
        await _command(gateway, f"/v1/experiments/{experiment_id(campaign)}/stop")
    await end.wait(lambda: end.are_stopped() and not end.differences())
    display.phase("done")
    found = end.differences()
    if not end.are_stopped():
        found.append("the results do not say that the experiments were stopped")
    return found


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
