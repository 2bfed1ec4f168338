"""What ``make setup`` does after the packages are there: Kafka's jars, compiled kernels."""

import importlib
from collections.abc import Iterator

from tools.jars import ensure_jars
from tools.narration import Say

KERNEL_MODULES = ("schemas.hashing", "stream_processors.accumulate.kernels")
"""Modules with a function ``warm`` that compiles, or loads, what they would compile later."""


def set_up(say: Say) -> None:
    """Fetch Kafka and compile kernels; quick where that has been done."""
    jars = ensure_jars()
    say(f"Kafka's {len(jars)} jars are there and unchanged")
    for name in compile_kernels():
        say(f"compiled the kernels of {name}")


def compile_kernels() -> Iterator[str]:
    """Compile kernels into numba's cache and yield the modules they are in."""
    for name in KERNEL_MODULES:
        warm = getattr(importlib.import_module(name), "warm", None)
        if warm is not None:
            warm()
            yield name
