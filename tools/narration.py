"""What the terminal shows of a running stack: one tidy line per event, the name in front."""

import re
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

_COLOURS = ("cyan", "magenta", "green", "blue", "bright_cyan", "bright_magenta", "bright_blue")
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL)\b")
_LEVEL_STYLES = {
    "DEBUG": "dim",
    "INFO": "",
    "WARN": "yellow",
    "WARNING": "yellow",
    "ERROR": "red",
    "CRITICAL": "bold red",
    "FATAL": "bold red",
}
_LEVEL_WITHIN = 60
_NAME_WIDTH = 13

Say = Callable[[str], None]


class Narrator:
    """Writes lines of the stack and of its processes to a console.

    Attributes:
        console: Where to.
        echoes: Whether lines of the processes are shown, not only the stack's own.
    """

    def __init__(self, console: Console, *, echoes: bool = True) -> None:
        self.console = console
        self.echoes = echoes
        self._colours: dict[str, str] = {}

    def say(self, message: str, style: str = "bold") -> None:
        """Show something that the stack itself says."""
        self._write("litmus", "bold white", message, style)

    def warn(self, message: str) -> None:
        """Show something that went wrong."""
        self.say(message, "bold yellow")

    def line(self, name: str, line: str) -> None:
        """Show a line that a process wrote."""
        found = _LEVEL.search(line[:_LEVEL_WITHIN])
        style = _LEVEL_STYLES[found[1]] if found else ""
        self._write(name, self._colour_of(name), line, style)

    def _colour_of(self, name: str) -> str:
        return self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])

    def _write(self, name: str, colour: str, message: str, style: str) -> None:
        label = Text(f"{name:<{_NAME_WIDTH}}│ ", style=colour)
        self.console.print(label + Text(message, style=style), soft_wrap=True, highlight=False)
