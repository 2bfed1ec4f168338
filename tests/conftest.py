"""What all tests share: the stack and its parts, hypothesis without clocks and files."""

import os

import pytest
from hypothesis import settings

from tests.stack import broker, stack, topics
from tools.settings import SHARED

__all__ = ["broker", "stack", "topics"]

# Where `make` points numba too; an import of numba reads it.
os.environ.setdefault("NUMBA_CACHE_DIR", str(SHARED / "numba"))

# The same examples on every run: a failure is a failure for everyone.
settings.register_profile("litmus", deadline=None, derandomize=True, database=None)
settings.load_profile("litmus")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what waits on a running stack: it gets the machine for itself."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker("machine")
