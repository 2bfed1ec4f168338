"""What the terminal shows during a run: live where it can, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from tools.torture import run
from tools.torture.report import figures_table
from tools.torture.run import Course

REFRESHES_PER_SECOND = 4
LINE_EVERY_S = 10.0


class Display:
    """Shows a run on a console; ``refresh`` is called a few times a second."""

    def __init__(self, console: Console, course: Course, progress: run.Progress) -> None:
        self._console = console
        self._course = course
        self._progress = progress
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("faults"),
            TimeElapsedColumn(),
            console=console,
            expand=True,
        )
        self._task = self._bar.add_task("starting", total=len(course.faults))
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, auto_refresh=False) if self._is_live else None
        self._line_at_s = 0.0
        self._shown = 0
        self._phase = ""

    def refresh(self) -> None:
        """Show how things stand."""
        done = len(self._progress.endured)
        self._bar.update(self._task, completed=done, description=self._progress.phase)
        if self._live:
            self._live.update(self._render(), refresh=True)
            return
        is_due = time.monotonic() - self._line_at_s >= LINE_EVERY_S
        if is_due or self._phase != self._progress.phase or self._shown != done:
            self._line_at_s, self._phase = time.monotonic(), self._progress.phase
            for one in self._progress.endured[self._shown :]:
                text = f"{one.recovery_s} s" if one.survived else "not recovered"
                self._console.print(f"  {one.fault.number:>4} {one.fault.label}: {text}")
            self._shown = done
            count = len(self._course.faults)
            self._console.print(
                f"{self._phase}: {done}/{count} faults, {self._line()}", soft_wrap=True
            )

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = [self._bar, Text(self._line())]
        if self._progress.endured:
            parts.append(figures_table(self._progress.endured))
        return Group(*parts)

    def _line(self) -> str:
        progress = self._progress
        parts = []
        if progress.load is not None:
            parts.append(f"{progress.load.rows_accepted:,} events accepted")
            parts.append(f"{progress.load.retries:,} sent again")
        if progress.samples:
            last = progress.samples[-1]
            parts.append(f"look {last.age_ms / 1_000:.1f} s old, {last.behind:,} events behind")
        if progress.siege is not None and progress.siege.current:
            parts.append("now: " + ", ".join(one.label for one in progress.siege.current))
        return " · ".join(parts)

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Show the end."""
        self.refresh()
        if self._live:
            self._live.stop()
