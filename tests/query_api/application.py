"""The application without Kafka: snapshots are put in by hand, the history is a real one."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx
import uvicorn

from query_api.app import create_app
from query_api.history.queries import History
from query_api.history.writer import Position
from query_api.kafka_log import Source
from query_api.live import Live
from query_api.parts import Parts
from query_api.snapshots import Snapshots
from tests.query_api.builders import NOW_MS, snapshot_value


class StillSink:
    """A sink that has stored what it is told it has."""

    def __init__(self, stored: Mapping[Source, Position] | None = None) -> None:
        self.stored: Mapping[Source, Position] = stored or {}
        self.begun: Mapping[Source, Position] = {}
        self.log_ends: Mapping[Source, int] = {}
        self.caught_up = True
        self.failure: str | None = None


class Clock:
    """A wall clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


class Application(NamedTuple):
    """A running application and the ends to move it by."""

    parts: Parts
    sink: StillSink
    clock: Clock
    http: httpx.AsyncClient

    def publish(self, tick: int | None, experiment_id: str = "checkout-color") -> None:
        """Publish a snapshot, as the follower does."""
        if self.parts.snapshots.take(experiment_id, snapshot_value(tick, experiment_id)):
            self.parts.live.publish([experiment_id])

    @property
    def address(self) -> str:
        """Return where it listens, without a scheme."""
        return self.http.base_url.netloc.decode()


@asynccontextmanager
async def serving(
    dsn: str, database: str, *, clients_max: int = 1_000
) -> AsyncIterator[Application]:
    """Serve the application on a free port, in this event loop."""
    snapshots, clock, sink = Snapshots(), Clock(), StillSink()
    snapshots.caught_up = True
    live = Live(snapshots, clock, clients_max=clients_max)
    parts = Parts(snapshots, live, History(dsn, database), sink, clock)
    config = uvicorn.Config(
        create_app(parts),
        port=0,
        log_config=None,
        ws="websockets-sansio",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving_task = asyncio.create_task(server._serve())  # without its handlers of signals
    while not server.started:  # uvicorn has no event for it
        assert not serving_task.done()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            yield Application(parts, sink, clock, http)
    finally:
        server.should_exit = True
        await serving_task
