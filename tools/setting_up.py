"""What ``make setup`` does after the packages are there: Kafka's jars, compiled kernels."""

import importlib

from tools.jars import ensure_jars
from tools.narration import Say

KERNELS = (
    ("ingest_gateway.warm_up", "compile_kernels"),
    ("stream_processors.accumulate.warm_up", "compile_kernels"),
)
"""Functions that compile, or load from numba's cache, what a process would compile later."""


def set_up(say: Say) -> None:
    """Fetch Kafka and compile kernels; quick where that has been done."""
    jars = ensure_jars()
    say(f"Kafka's {len(jars)} jars are there, every checksum right")
    warm(say)


def warm(say: Say) -> None:
    """Compile kernels into numba's cache."""
    for module, function in KERNELS:
        getattr(importlib.import_module(module), function)()
        say(f"compiled the kernels of {module.rpartition('.')[0]}")
