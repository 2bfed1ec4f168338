"""``litmus logs``: what the processes of a home wrote, and go on writing."""

import time
from pathlib import Path

from tools.errors import LitmusError
from tools.home import Home
from tools.logs import LogFile, last_lines
from tools.narration import Narrator

_FOLLOW_SECONDS = 0.2


def show_logs(home: Home, name: str | None, narrator: Narrator, *, line_count: int) -> None:
    """Show the last lines of one process, or of all.

    Raises:
        LitmusError: If there is no such process.
    """
    for path in _log_paths(home, name):
        for line in last_lines(path, line_count):
            narrator.line(path.stem, line)


def follow_logs(home: Home, name: str | None, narrator: Narrator) -> None:
    """Show lines as they are written, until Ctrl-C."""
    files = [LogFile(path) for path in _log_paths(home, name)]
    try:
        while True:
            for file in files:
                for line in file.new_lines():
                    narrator.line(file.path.stem, line)
            time.sleep(_FOLLOW_SECONDS)
    except KeyboardInterrupt:
        return


def _log_paths(home: Home, name: str | None) -> list[Path]:
    paths = sorted(home.logs.glob("*.log"))
    if name is None:
        return paths
    chosen = [path for path in paths if path.stem == name]
    if not chosen:
        known = ", ".join(path.stem for path in paths) or "none"
        raise LitmusError(f"{name} has no log in {home.logs}; there are: {known}")
    return chosen
