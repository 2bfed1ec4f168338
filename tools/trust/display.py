"""What the terminal shows during a run: a bar where it can, a line for each part elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tools.trust.checks import Part, Protocol
from tools.trust.running import Ran


class Display:
    """Shows which protocols have been tried, and how it went."""

    def __init__(self, console: Console, protocols: list[Protocol]) -> None:
        self._console = console
        self._left = {one.id: len(one.parts) for one in protocols}
        self._failed: set[str] = set()
        self._checks = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        total = sum(part.seconds for one in protocols for part in one.parts)
        self._task = self._bar.add_task("trust", total=total)

    def starts(self, protocol: Protocol, part: Part) -> None:
        """Say that something begins that takes the machine for itself."""
        self._console.print(f"    {protocol.id:>2} {protocol.name}, {part.name}: begins")

    def take(self, ran: Ran) -> None:
        """Show a part that ended."""
        self._checks += len(ran.judged)
        protocol = ran.protocol
        self._left[protocol.id] -= 1
        if not ran.passed:
            self._failed.add(protocol.id)
        self._bar.update(
            self._task,
            advance=ran.part.seconds,
            description=f"{self._checks} checks, {sum(1 for n in self._left.values() if not n)} of "
            f"{len(self._left)} protocols",
        )
        mark = "[green]ok [/]" if ran.passed else "[red]bad[/]"
        held = sum(one.passed for one in ran.judged)
        self._console.print(
            f"{mark} {protocol.id:>2} {protocol.name}, {ran.part.name}: "
            f"{held} of {len(ran.judged)} checks hold ({ran.seconds:.0f} s)"
            + (f" {ran.error}" if ran.error else ""),
            soft_wrap=True,
        )

    def __enter__(self) -> Self:
        """Begin to show."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Show the end."""
        self._bar.stop()
