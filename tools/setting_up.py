"""What ``make setup`` does after the packages are there: Kafka's jars, compiled kernels."""

import importlib
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

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
    cache = os.environ.get("NUMBA_CACHE_DIR")  # noqa: TID251
    assert cache
    Path(cache).mkdir(parents=True, exist_ok=True)
    for name in KERNEL_MODULES:
        if find_spec(name) is not None:
            importlib.import_module(name).warm()
            yield name
