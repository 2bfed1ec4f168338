"""What all tests share: the stack and its parts, hypothesis without clocks and files.

Two cores do ``make test`` in three rounds: what computes; then what mostly waits for processes of
its own (``machine``); at last, one after another, what measures time (``alone``). Of many worlds
that are drawn alike it takes a third, ``make test-all`` takes them all (``long``).
"""

import os
import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.seeds import Draw
from tests.stack import broker, stack, topics
from tools.settings import CHECKOUT, SHARED

__all__ = ["broker", "stack", "topics"]

# Where `make` points numba too; an import of numba reads it.
os.environ.setdefault("NUMBA_CACHE_DIR", str(SHARED / "numba"))

# The same examples on every run: a failure is a failure for everyone.
settings.register_profile(
    "litmus",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # so is a machine that is busy
)
settings.load_profile("litmus")

GATEWAY = "tests/ingest_gateway"

LONGEST = (
    "tests/torture/test_torture.py",
    "stack",
    GATEWAY,
    "broker",
    "tests/stream_processors/accumulate/test_rules_of_counting.py",
    "tests/stream_processors/accumulate/test_recovery.py",
    "tests/tools/trust/test_protocols.py",
    "tests/page/test_page.py",
)
"""Groups that begin before the others: begun last, they would keep one core idle."""

_WORDS = {"alone": r"mark\.alone", "machine and not alone": r"mark\.machine|\bstack: "}


def pytest_configure(config: pytest.Config) -> None:
    """Draw few worlds where the long ones are left out."""
    Draw.are_few = "not long" in config.getoption("markexpr")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Spare a round the import of files that cannot have its mark: most of them, and seconds."""
    words = _WORDS.get(config.getoption("markexpr"))
    if words is None or not collection_path.match("test_*.py"):
        return None
    return None if re.search(words, collection_path.read_text()) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what waits on a running stack; put first what takes long."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker("machine")
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(group_of(item.nodeid), len(places)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Let one process do what shares something."""
    return Together(config, log)


class Together(LoadScopeScheduling):
    """Gives a group of tests to one process, in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Return what a test shares with others: the stack, a broker, or its file's fixtures."""
    return _group_of_file(nodeid.partition("::")[0])


@cache
def _group_of_file(name: str) -> str:
    if name.startswith(GATEWAY):
        return GATEWAY  # with a control process of its own
    text = (CHECKOUT / name).read_text()
    return next((one for one in ("stack", "broker") if re.search(rf"\b{one}: ", text)), name)
