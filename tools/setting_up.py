"""What ``make setup`` does after the packages are there: Kafka's jars, compiled kernels."""

import time

from tools.jars import ensure_jars
from tools.narration import Say


def set_up(say: Say) -> None:
    """Fetch Kafka and compile kernels; quick where that has been done."""
    jars = ensure_jars()
    say(f"Kafka's {len(jars)} jars are there, every checksum right")
    warm(say)


def warm(say: Say) -> None:
    """Compile kernels into numba's cache."""
    from tools.warm_up import warm_up  # noqa: PLC0415  # a second of CPU, and no other needs it

    before = time.monotonic()
    warm_up()
    say(f"kernels are compiled ({time.monotonic() - before:.1f} s)")
