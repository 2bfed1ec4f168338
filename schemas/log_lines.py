"""How every process of ours writes its log: one line per event, to standard output."""

import logging
import re
import sys
import time
from collections.abc import Callable

REPEATS_MAX = 3
REPEAT_WINDOW_S = 10.0
_KINDS_MAX = 1_000


def log_to_stdout() -> None:
    """Log from INFO up, with the time of day; warnings that repeat are counted, not repeated."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        logging.Formatter(
            "%(asctime)s.%(msecs)03d %(levelname)s %(name)s %(message)s", datefmt="%H:%M:%S"
        )
    )
    handler.addFilter(RepeatedWarnings())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class RepeatedWarnings(logging.Filter):
    """Lets a warning or an error through three times in ten seconds; then says how often it came.

    While a broker is away, clients of Kafka say so many times a second. Lines that differ in their
    digits only are the same. A traceback is never left out.

    Args:
        now_s: The time, in seconds.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now_s = now_s
        self._windows: dict[tuple[str, str], _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether ``record`` is written; add to it how many before it were not."""
        if record.levelno < logging.WARNING or record.exc_info:
            return True
        text = record.getMessage()
        kind = (record.name, re.sub(r"\d+", "0", text))
        now_s = self._now_s()
        window = self._windows.get(kind)
        if window is not None and now_s - window.began_s < REPEAT_WINDOW_S:
            window.count += 1
            return window.count <= REPEATS_MAX
        if window is not None and window.count > REPEATS_MAX:
            left_out = window.count - REPEATS_MAX
            record.msg = f"{text} (left out since {now_s - window.began_s:.0f} s ago: {left_out})"
            record.args = ()
        self._begin(kind, now_s)
        return True

    def _begin(self, kind: tuple[str, str], now_s: float) -> None:
        if len(self._windows) >= _KINDS_MAX:
            self._windows.clear()
        self._windows[kind] = _Window(now_s)


class _Window:
    """Ten seconds of one kind of line."""

    __slots__ = ("began_s", "count")

    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self.count = 1
