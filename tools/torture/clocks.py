"""Clocks of single processes that are set forward and back, with libfaketime where it is.

Every process reads its offset from a file of its own, at most a second late. Only the clock of the
day is moved: the monotonic one never is, on a real machine neither.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.settings import Settings

LIBRARY = "libfaketime.so.1"
_FOLDERS = ("usr/lib/*/faketime", "usr/lib/faketime", "usr/local/lib/faketime")
_IN_PACKAGE = Path("vendor", "libfaketime", "src")
_NOT_INSTALLED = "libfaketime is not installed (pip install libfaketime, or the system's package)"
_TRIAL = "import time; time.sleep(0.01); print(time.time() > 4_000_000_000)"
_TRIAL_SECONDS_MAX = 20


def find_library(folder: Path, named: Path | None = None) -> tuple[Path | None, str | None]:
    """Return libfaketime as Python can use it, or why there is none.

    Args:
        folder: Where it is tried out.
        named: The library to take; None: wherever it is found.
    """
    reason = f"{named} is no file" if named else _NOT_INSTALLED
    for path in _places(named):
        if path.is_file():
            if _moves_clocks(path, folder):
                return path, None
            reason = f"{path} is there, but Python does not work with it (older than 0.9.11?)"
    return None, reason


def _places(named: Path | None) -> Iterator[Path]:
    if named is not None:
        yield named
        return
    package = importlib.util.find_spec("libfaketime")
    for place in (package.submodule_search_locations if package else None) or ():
        yield Path(place, _IN_PACKAGE, LIBRARY)
    for pattern in _FOLDERS:
        yield from sorted(Path("/").glob(f"{pattern}/{LIBRARY}"))


def _moves_clocks(library: Path, folder: Path) -> bool:
    """Return whether Python under the library sleeps, and sees another time."""
    clocks = Clocks(folder, library)
    clocks.step("trial", 100 * 366 * 86_400_000)
    result = subprocess.run(
        [sys.executable, "-I", "-c", _TRIAL],
        env=Settings().environment() | clocks.environment("trial"),
        capture_output=True,
        text=True,
        timeout=_TRIAL_SECONDS_MAX,
        check=False,
    )
    return result.stdout.strip() == "True"


class Clocks:
    """Clocks of the processes of a stack.

    Args:
        folder: Where their offsets are kept.
        library: libfaketime.
    """

    def __init__(self, folder: Path, library: Path) -> None:
        self._folder = folder
        self._library = library

    def environment(self, name: str) -> dict[str, str]:
        """Return what a process must be started with to have a clock of its own."""
        if not self._file(name).exists():
            self.step(name, 0)
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file(name)),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",  # a killed process would leave it behind
        }

    def step(self, name: str, offset_ms: int) -> None:
        """Set a process's clock so far from the right time; 0: to the right time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = self._file(name).with_suffix(".new")
        scratch.write_text(f"{offset_ms / 1_000:+.3f}\n")
        scratch.replace(self._file(name))

    def _file(self, name: str) -> Path:
        return self._folder / name
