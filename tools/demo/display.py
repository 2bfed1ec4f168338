"""What the terminal shows while the demo runs: live where it can, plain lines elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from tools.demo.campaigns import TITLES
from tools.demo.dataset import CAMPAIGNS
from tools.demo.producer import Sent
from tools.demo.results import arms_on, matured_effect, metric_on, reading_in
from tools.demo.summary import points
from tools.demo.watching import Watch

REFRESHES_PER_SECOND = 5
LINE_EVERY_S = 5.0


class Display:
    """Shows a run on a console; ``refresh`` is called a few times a second."""

    def __init__(self, console: Console, *, sent: Sent, watch: Watch, event_count: int) -> None:
        self._console = console
        self._sent = sent
        self._watch = watch
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("events"),
            TimeElapsedColumn(),
            console=console,
            expand=True,
        )
        self._task = self._progress.add_task("streaming", total=event_count)
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, auto_refresh=False) if self._is_live else None
        self._line_at_s = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.update(self._render(), refresh=True)
            self._live.stop()

    def phase(self, description: str) -> None:
        """Say what the run is doing now."""
        self._progress.update(self._task, description=description)
        if not self._live:
            self._console.print(description)

    def refresh(self, now_s: float) -> None:
        """Show how things stand."""
        self._progress.update(self._task, completed=self._sent.event_count)
        if self._live:
            self._live.update(self._render(), refresh=True)
        elif now_s - self._line_at_s >= LINE_EVERY_S:
            self._line_at_s = now_s
            self._console.print(self._line(), soft_wrap=True)

    def _render(self) -> RenderableType:
        return Group(self._progress, results_table(self._watch), Text(status_line(self._watch)))

    def _line(self) -> str:
        total = int(self._progress.tasks[0].total or 0)
        readings = [f"{campaign} {_short(self._watch, campaign)}" for campaign in CAMPAIGNS]
        return (
            f"{self._sent.event_count:,}/{total:,} events | {' | '.join(readings)} | "
            f"{status_line(self._watch)}"
        )


def results_table(watch: Watch) -> Table:
    """Return the latest look of every campaign."""
    table = Table(expand=True, caption="units and clicks so far · always-valid on matured units")
    table.add_column("experiment")
    for name in ("random", "bts"):
        table.add_column(f"units\n{name}", justify="right")
        table.add_column(f"clicks\n{name}", justify="right")
    table.add_column("difference", justify="right")
    table.add_column("always-valid 95 % interval", justify="right")
    table.add_column("fixed-horizon p", justify="right", style="dim")
    for campaign in CAMPAIGNS:
        table.add_row(*_row(watch, campaign))
    return table


def _row(watch: Watch, campaign: str) -> list[str]:
    results = watch.results.get(campaign)
    if results is None or metric_on(results, "open") is None:
        return [TITLES[campaign], *["…"] * 7]
    arms = arms_on(results, "open")
    counts = [f"{number:,}" for variant in ("control", "treatment") for number in arms[variant]]
    return [TITLES[campaign], *counts, *_effect_cells(results)]


def _effect_cells(results: dict) -> list[str]:  # type: ignore[type-arg]
    effect, reading = matured_effect(results), reading_in(results)
    if effect is None or reading is None:
        status = effect["status"] if effect else "no matured units yet"
        return ["", status.replace("_", " "), ""]
    low_high = f"{points(reading.low)} … {points(reading.high)}"
    interval = f"[bold green]{low_high}[/]" if reading.excludes_zero else low_high
    return [points(effect["absolute"]["estimate"]), interval, f"{reading.p_value:.3f}"]


def _short(watch: Watch, campaign: str) -> str:
    results = watch.results.get(campaign)
    arms = arms_on(results, "open") if results else {}
    if not results or not arms:
        return "…"
    reading = reading_in(results)
    clicks = "/".join(str(arms[variant].conversions) for variant in ("control", "treatment"))
    interval = f" [{points(reading.low)}, {points(reading.high)}]" if reading else ""
    return f"{clicks} clicks{interval}"


def status_line(watch: Watch) -> str:
    """Return the ledger and the latency so far, in one line."""
    parts = []
    if watch.ledger is not None:
        rows = watch.ledger["rows"]
        parts.append(
            f"ledger: {rows['received']:,} received = {rows['fresh']:,} fresh + "
            f"{rows['duplicate']:,} duplicate"
        )
    latency = watch.meter.latency
    if latency.requests:
        parts.append(f"202 → look: p50 {latency.p50:.0f} ms, p99 {latency.p99:.0f} ms")
    return " · ".join(parts)
