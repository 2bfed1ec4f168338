"""Clocks of single processes that are set forward and back; see ``stepped/sitecustomize.py``.

Only the time of day is moved: the monotonic clock never is, on a real machine neither.
"""

import os
from pathlib import Path

_STEPPED = Path(__file__).with_name("stepped")


class Clocks:
    """Clocks of the processes of a stack.

    Args:
        folder: Where it is kept how far each of them is off.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def environment(self, name: str, python_path: str) -> dict[str, str]:
        """Return what a process must be started with to have a clock of its own.

        Args:
            name: Of the process.
            python_path: The ``PYTHONPATH`` that it would have.
        """
        if not self._file(name).exists():
            self.step(name, 0)
        return {
            "PYTHONPATH": os.pathsep.join([str(_STEPPED), python_path]),
            "LITMUS_TORTURE_CLOCK": str(self._file(name)),
        }

    def step(self, name: str, offset_ms: int) -> None:
        """Set a process's clock so far from the right time; 0: to the right time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = self._file(name).with_suffix(".new")
        scratch.write_text(str(offset_ms))
        scratch.replace(self._file(name))

    def _file(self, name: str) -> Path:
        return self._folder / name
