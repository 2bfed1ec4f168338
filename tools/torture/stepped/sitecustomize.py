"""Python imports this at its start, in processes whose clock `litmus torture` sets wrong.

What reads the time of day from Python sees a clock that is off by what stands in a file, at most
a fifth of a second later. Libraries in C see the right one, and so do waits: a tool below Python
that moves the clock also moves the deadlines of librdkafka, which no real step of a clock does.
"""

import os
import time
from pathlib import Path

READ_EVERY_S = 0.2


def _set_wrong(file: Path) -> None:
    """Put clocks that are off in the place of Python's own, before anyone has imported them."""
    right = time.time  # noqa: TID251  # it is what is put right or wrong here
    right_ns, monotonic = time.time_ns, time.monotonic
    read_s, offset_ns = float("-inf"), 0

    def offset() -> int:
        nonlocal read_s, offset_ns
        if (now_s := monotonic()) - read_s > READ_EVERY_S:
            read_s, offset_ns = now_s, int(file.read_text()) * 1_000_000
        return offset_ns

    time.time = lambda: right() + offset() / 1e9  # noqa: TID251
    time.time_ns = lambda: right_ns() + offset()


if found := os.environ.get("LITMUS_TORTURE_CLOCK"):  # noqa: TID251  # no setting of a service
    _set_wrong(Path(found))
