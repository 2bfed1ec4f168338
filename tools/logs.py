"""Log files of a stack: each process writes to a file of its own, others read along.

A file rather than a pipe, so that no process ever waits for a terminal, and what it said last is
still there when everything was killed.
"""

import shutil
from collections import deque
from pathlib import Path

FILE_BYTES_MAX = 32 * 1024 * 1024
_READ_BYTES_MAX = 1024 * 1024
_TAIL_BYTES = 64 * 1024


class LogFile:
    """A process's log, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def new_lines(self) -> list[str]:
        """Return the whole lines written since the last call."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self._position:  # it was emptied
                    self._position, self._rest = 0, b""
                file.seek(self._position)
                read = file.read(_READ_BYTES_MAX)
        except FileNotFoundError:
            return []
        self._position += len(read)
        *lines, self._rest = (self._rest + read).split(b"\n")
        return [line.decode(errors="replace").rstrip() for line in lines if line.strip()]

    def trim(self, bytes_max: int = FILE_BYTES_MAX) -> None:
        """Move a file that grew too large aside; its writer, who appends, goes on in it emptied."""
        if self.path.exists() and self.path.stat().st_size > bytes_max:
            shutil.copyfile(self.path, self.path.with_suffix(".log.1"))
            with self.path.open("r+b") as file:
                file.truncate(0)


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a log that hold something."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return list(deque((line.rstrip() for line in lines if line.strip()), maxlen=count))
