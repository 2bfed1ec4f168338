"""What the query API is made of: put together once, at start, and handed to every route."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from query_api.history.queries import History
from query_api.history.writer import Position
from query_api.kafka_log import Source
from query_api.live import Live
from query_api.snapshots import Snapshots

POLL_S = 0.02


class Progress(Protocol):
    """What the routes need of the sink."""

    @property
    def stored(self) -> Mapping[Source, Position]:
        """Return how far every partition is stored."""

    @property
    def begun(self) -> Mapping[Source, Position]:
        """Return how far every partition was stored when this process began."""

    @property
    def log_ends(self) -> Mapping[Source, int]:
        """Return where every partition ended when last heard of."""

    caught_up: bool
    failure: str | None


class Background(Protocol):
    """Something that runs beside the server."""

    def start(self) -> None:
        """Start it."""

    def stop(self) -> None:
        """Stop it and wait for its end."""


class Parts(NamedTuple):
    """What ``create_app`` is given.

    Attributes:
        clock_ms: Wall clock, for ages.
        background: Started with the server and stopped after it, last first.
    """

    snapshots: Snapshots
    live: Live
    history: History
    sink: Progress
    clock_ms: Callable[[], int]
    background: Sequence[Background] = ()


async def wait_until(is_true: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for a condition that another thread brings about; return whether it came."""
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline_s:
            return False
        await asyncio.sleep(POLL_S)
    return True
