"""``litmus soak``: half of what the machine takes, for an hour; does anything grow?"""

import asyncio
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from schemas.times import parse_duration_ms, parse_time_ms
from tools.errors import LitmusError, NotRunningError
from tools.home import Home, write_json
from tools.meanwhile import meanwhile
from tools.ports import free_ports
from tools.settings import CHECKOUT, SHARED, Settings
from tools.soak.doors import REQUEST_TIMEOUT_S, HttpDoor, KafkaDoor, Sent
from tools.soak.driving import REQUESTS_IN_FLIGHT_MAX, Driver, assign_all, send_at_once
from tools.soak.judging import MB, Latency, Outcome, judge
from tools.soak.page import make_page
from tools.soak.probing import Prober
from tools.soak.sampling import DRIVER, Sample, Sampler
from tools.soak.traffic import COUNT_METRIC, EXPERIMENTS, VARIANTS, Traffic, definition_of
from tools.stack import start_detached, stop_stack

HOME = SHARED / "soak"
REPORTS = SHARED / "reports"

CAPACITY_EVENTS = 200_000
SHARE_OF_CAPACITY = 0.5
RATE_MAX = 40_000.0
BYTES_PER_EVENT_ON_DISK = 600
"""The record that was produced, the packed row, the copy in ClickHouse, and some to spare."""

SETTLE_TIMEOUT_S = 600.0
USS_EVERY = 6
_ASK_EVERY_S = 0.5
_EPOCH = "1970-01-01T00:00:00Z"


class Plan(NamedTuple):
    """What a soak is to do.

    Attributes:
        seconds: How long the load lasts.
        rate: Events a second; None: half of what the machine takes.
        unit_count: The population.
        seed: Of the events.
        sample_every_s: Between two samples, and between two probes.
        lateness_ms: Of the stack: how soon ids expire.
        settle_s: How long it may take until all that was sent is counted and copied.
    """

    seconds: float
    rate: float | None
    unit_count: int
    seed: int
    sample_every_s: float
    lateness_ms: int
    settle_s: float = SETTLE_TIMEOUT_S


class Soaked(NamedTuple):
    """What a soak saw."""

    verdict: dict[str, Any]
    samples: list[Sample]
    latencies: list[Latency]


def soak(
    *,
    minutes: Annotated[
        float, typer.Option(envvar="MINUTES", min=0.1, help="How long the load lasts.")
    ] = 60.0,
    rate: Annotated[
        float | None,
        typer.Option(
            envvar="RATE",
            min=1,
            max=RATE_MAX,
            help="Events a second; half of what is possible if not.",
        ),
    ] = None,
    units: Annotated[int, typer.Option(min=100, help="The population.")] = 20_000,
    lateness: Annotated[str, typer.Option(help="How soon ids expire: this and 10 min.")] = "5m",
    seed: Annotated[int, typer.Option(help="Of the events.")] = 1,
) -> None:
    """Load a stack of its own for a long time and fail if anything in it grows."""
    console = Console()
    seconds = minutes * 60
    plan = Plan(
        seconds, rate, units, seed, min(5.0, max(0.5, seconds / 120)), parse_duration_ms(lateness)
    )
    try:
        with _own_stack(console, lateness) as home:
            soaked = asyncio.run(run_soak(console, home, plan))
    except LitmusError as error:
        console.print(f"[red]{escape(str(error))}[/]")
        sys.exit(1)
    page = write_reports(soaked)
    _conclude(console, soaked.verdict, page)
    sys.exit(0 if soaked.verdict["passed"] else 1)


async def run_soak(console: Console, home: Home, plan: Plan) -> Soaked:
    """Load the stack that runs from ``home`` and return what was seen."""
    described = home.description()
    if described is None:
        raise NotRunningError(f"No stack runs from {home.root}.")
    limits = httpx.Limits(max_connections=REQUESTS_IN_FLIGHT_MAX + 4)
    options: dict[str, Any] = {"timeout": REQUEST_TIMEOUT_S, "trust_env": False}
    async with (
        httpx.AsyncClient(base_url=described["gateway"], limits=limits, **options) as gateway,
        httpx.AsyncClient(base_url=described["query"], **options) as query,
    ):
        run = _Run(console, home, plan, gateway=gateway, query=query, kafka=described["kafka"])
        return await run.soak(described["query"])


class _Run:
    """One soak on a running stack."""

    def __init__(
        self,
        console: Console,
        home: Home,
        plan: Plan,
        *,
        gateway: httpx.AsyncClient,
        query: httpx.AsyncClient,
        kafka: str,
    ) -> None:
        self._console, self._home, self._plan = console, home, plan
        self._gateway, self._query = gateway, query
        self._sent = Sent()
        self._http, self._kafka = HttpDoor(gateway, self._sent), KafkaDoor(kafka, self._sent)
        self._traffic = Traffic(unit_count=plan.unit_count, seed=plan.seed)
        self._samples: list[Sample] = []
        self._fresh_before = 0

    async def soak(self, query_url: str) -> Soaked:
        self._fresh_before = await self._counted_before()
        for experiment in EXPERIMENTS:
            await self._command("/v1/experiments", definition_of(experiment))
            await self._command(f"/v1/experiments/{experiment}/start")
        await assign_all(self._traffic, self._http, self._kafka, _now_ms)
        await self._counted()
        rate = self._plan.rate or await self._half_of_capacity()
        self._console.print(
            f"{rate:,.0f} events a second for {self._plan.seconds / 60:g} minutes, half through "
            f"each door, of {self._plan.unit_count:,} units in {len(EXPERIMENTS)} experiments"
        )
        prober = Prober(query_url, EXPERIMENTS[0])
        driver = Driver(self._traffic, self._http, self._kafka, rate=rate, now_ms=_now_ms)
        began_s = time.monotonic()
        sent_before = self._sent.events
        async with meanwhile(prober.watch()), meanwhile(self._sample(driver, prober, began_s)):
            probing = prober.probe(
                self._traffic,
                self._http,
                every_s=self._plan.sample_every_s,
                began_s=began_s,
                now_ms=_now_ms,
            )
            async with meanwhile(probing):
                await driver.run(self._plan.seconds)
            loaded_s = time.monotonic() - began_s
        achieved = (self._sent.events - sent_before) / loaded_s
        verdict = judge(
            self._samples,
            prober.latencies,
            await self._outcome(),
            seconds=loaded_s,
            lateness_ms=self._plan.lateness_ms,
        )
        verdict |= {"events_per_second": round(achieved, 1), "asked_per_second": round(rate, 1)}
        return Soaked(verdict, self._samples, prober.latencies)

    async def _half_of_capacity(self) -> float:
        """Send a fixed number of events as fast as they are taken; time until all are counted."""
        count = CAPACITY_EVENTS
        began_s = time.monotonic()
        await send_at_once(self._traffic, self._http, self._kafka, count=count, now_ms=_now_ms)
        await self._counted()
        capacity = count / (time.monotonic() - began_s)
        free = shutil.disk_usage(self._home.root).free
        by_disk = free / 2 / BYTES_PER_EVENT_ON_DISK / self._plan.seconds
        self._console.print(f"the machine takes {capacity:,.0f} events a second")
        if by_disk < capacity * SHARE_OF_CAPACITY:
            self._console.print(f"[yellow]the disk has room for {by_disk:,.0f} a second only[/]")
        return min(capacity * SHARE_OF_CAPACITY, by_disk, RATE_MAX)

    async def _sample(self, driver: Driver, prober: Prober, began_s: float) -> None:
        """Sample and show until cancelled."""
        sampler, number = Sampler(self._home.root), 0
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        with progress:
            task = progress.add_task("", total=self._plan.seconds)
            while True:
                at_s = time.monotonic() - began_s
                processes = (self._home.description() or {}).get("processes", [])
                now = await asyncio.to_thread(
                    sampler.sample, at_s, processes, uss=number % USS_EVERY == 0
                )
                self._samples += now
                rss = sum(one.rss_bytes for one in now if one.name != DRIVER)
                last = f"{prober.latencies[-1].ms:.0f} ms" if prober.latencies else "-"
                progress.update(
                    task,
                    completed=at_s,
                    description=f"{self._sent.events:,} events, {rss / MB:,.0f} MB, look {last}, "
                    f"{driver.behind_s:.1f} s behind",
                )
                number += 1
                await asyncio.sleep(self._plan.sample_every_s)

    async def _counted_before(self) -> int:
        """Return the fresh rows of the ledger once everything that came before now is in it."""
        now_ms = _now_ms()
        deadline_s = time.monotonic() + self._plan.settle_s
        told = "the ledger does not answer"
        while time.monotonic() < deadline_s:
            with suppress(httpx.HTTPError):  # the history may still be opening: asked again
                ledger = await self._ledger()
                if ledger["balanced"] and parse_time_ms(ledger["settled"] or _EPOCH) > now_ms:
                    return int(ledger["rows"]["fresh"])
                told = f"{ledger['status']}, {ledger['reasons']}"
            await asyncio.sleep(_ASK_EVERY_S)
        raise LitmusError(
            f"What was sent before is not settled after {self._plan.settle_s:.0f} s: "
            f"{told}; `litmus status` says what stands still"
        )

    async def _counted(self) -> None:
        """Wait until the ledger has counted all that was sent."""
        deadline_s = time.monotonic() + self._plan.settle_s
        while time.monotonic() < deadline_s:
            with suppress(httpx.HTTPError):  # asked again
                ledger = await self._ledger()
                if ledger["rows"]["fresh"] - self._fresh_before >= self._sent.events:
                    return
            await asyncio.sleep(_ASK_EVERY_S)
        raise LitmusError(
            f"{self._sent.events:,} events were sent and are not counted after "
            f"{self._plan.settle_s:.0f} s; `litmus status` and `litmus logs` say what stands still"
        )

    async def _outcome(self) -> Outcome:
        """Wait until everything is counted and copied, then read what came of it."""
        deadline_s = time.monotonic() + self._plan.settle_s
        while True:
            outcome = await self._read_outcome()
            if not outcome.problems or time.monotonic() > deadline_s:
                return outcome
            await asyncio.sleep(2 * _ASK_EVERY_S)

    async def _read_outcome(self) -> Outcome:
        """Return what the query API says; that it says nothing is an outcome too."""
        unread = Outcome(
            sent=self._sent.events,
            repeated=self._sent.repeated,
            resent=self._sent.resent,
            refused=self._sent.refused,
            fresh=0,
            balanced=False,
            status="not read",
            views_sent=list(self._sent.views),
            views_counted={},
        )
        try:
            ledger = await self._ledger(thorough=True)
            views = {one: await self._views(one) for one in EXPERIMENTS}
        except httpx.HTTPError as error:
            return unread._replace(status=f"not read: {error!r}")
        return unread._replace(
            fresh=ledger["rows"]["fresh"] - self._fresh_before,
            balanced=ledger["balanced"],
            status=ledger["status"],
            views_counted=views,
        )

    async def _views(self, experiment: str) -> list[int]:
        response = await self._query.get(f"/v1/experiments/{experiment}/results")
        response.raise_for_status()
        for metric in response.json()["metrics"]:
            if metric["metric_id"] == COUNT_METRIC and metric["basis"] == "open":
                totals = {one["variant"]: one["total"] for one in metric["variants"]}
                return [totals[variant] for variant in VARIANTS]
        return []

    async def _ledger(self, *, thorough: bool = False) -> dict[str, Any]:
        response = await self._query.get("/v1/ledger", params={"thorough": thorough})
        response.raise_for_status()
        ledger: dict[str, Any] = response.json()
        return ledger

    async def _command(self, path: str, body: dict[str, object] | None = None) -> None:
        response = await self._gateway.post(path, json=body or {})
        if response.is_error:
            raise LitmusError(f"POST {path} was answered {response.status_code}: {response.text}")


def write_reports(soaked: Soaked, folder: Path = REPORTS) -> Path:
    """Write the figures for programs and the page for people; return where the page is."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = [one._asdict() for one in soaked.samples]
    latencies = [one._asdict() for one in soaked.latencies]
    write_json(folder / "soak.json", soaked.verdict | {"samples": samples, "latencies": latencies})
    page = folder / "soak.html"
    page.write_text(make_page(soaked.verdict, soaked.samples, soaked.latencies))
    return page


@contextmanager
def _own_stack(console: Console, lateness: str) -> Iterator[Home]:
    """Run a fresh stack in a home of its own, on free ports."""
    ports = free_ports(2)
    settings = Settings(
        home=HOME,
        kafka=None,
        clickhouse=None,
        gateway_port=ports[0],
        query_port=ports[1],
        bind="127.0.0.1",
        lateness=lateness,
    )
    with suppress(NotRunningError):
        stop_stack(settings)  # what an earlier soak that was killed left behind
    shutil.rmtree(settings.home, ignore_errors=True)
    try:
        start_detached(settings, [], console)
        yield Home(settings.home)
    finally:
        with suppress(NotRunningError):
            stop_stack(settings)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _conclude(console: Console, verdict: dict[str, Any], page: Path) -> None:
    for name, one in verdict["processes"].items():
        slope = one["slope_mb_per_minute"]
        shown = "      -" if slope is None else f"{slope:+7.3f}"
        console.print(
            f"{name:<14} {shown} MB/min   RSS {one['rss_mb_last']:>7.1f} MB   "
            f"fds {one['fds_first']} → {one['fds_last']}   CPU {one['cpu_percent']} %",
            highlight=False,
        )
    if not verdict["memory_judged"]:
        console.print(
            f"[yellow]Too short to judge memory: ids expire after {verdict['judged_from_s']:.0f} s."
        )
    for problem in verdict["problems"]:
        console.print(f"[red]{escape(problem)}[/]")
    with suppress(ValueError):
        page = page.relative_to(CHECKOUT)
    console.print("[bold green]passed" if verdict["passed"] else "[bold red]failed")
    console.print(f"report: {page}", highlight=False)
