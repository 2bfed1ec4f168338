"""Two gateways over one log in memory, served over HTTP by a thread."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from ingest_gateway.app import create_app
from ingest_gateway.routes_request import Parts
from ingest_gateway.sink import MemorySink
from schemas.control import ImportChange, decode_record
from schemas.imports import read_import
from schemas.topics import CONTROL, EVENTS, KIND_HEADER, KIND_IMPORT
from tests.ingest_gateway.worlds import PARTITIONS, memory_world
from tests.stack import wait_until
from tools.ports import free_ports


class Served:
    """What the two gateways write, and their addresses."""

    def __init__(self, sink: MemorySink, urls: list[str]) -> None:
        self.sink = sink
        self.urls = urls

    def counted(self, import_id: str) -> list[tuple[int, float]]:
        """Return day and value of every row that an engine counts, in any order."""
        agreed = {
            (change.declared.reserved.number, change.declared.reserved.sha256)
            for message in self.sink.logs[CONTROL.name, 0]
            for change in decode_record(message.value).changes
            if isinstance(change, ImportChange)
            and change.declared.id == import_id
            and change.declared.reserved
        }
        counted: list[tuple[int, float]] = []
        for partition in range(PARTITIONS):
            last = 0
            for message in self.sink.logs[EVENTS.name, partition]:
                if dict(message.headers).get(KIND_HEADER) != KIND_IMPORT:
                    continue
                part, rows = read_import(message.value)
                if part.import_id != import_id or part.number != last + 1:
                    continue
                assert (part.number, part.sha256) in agreed
                last = part.number
                counted += zip(rows["day"].tolist(), rows["value"].tolist(), strict=True)
        return sorted(counted)

    def parts(self, import_id: str) -> int:
        """Return how many parts were written, repeats included."""
        return sum(
            read_import(message.value)[0].import_id == import_id
            for message in self.sink.of(EVENTS.name)
            if dict(message.headers).get(KIND_HEADER) == KIND_IMPORT
        )


@contextmanager
def two_gateways() -> Iterator[Served]:
    """Serve until the context ends."""
    ports = free_ports(2)
    started: list[MemorySink] = []
    servers: list[uvicorn.Server] = []
    thread = threading.Thread(target=lambda: asyncio.run(_serve(ports, started, servers)))
    thread.start()
    try:
        wait_until(lambda: len(servers) == 2 and all(one.started for one in servers), "they serve")
        yield Served(started[0], [f"http://127.0.0.1:{port}" for port in ports])
    finally:
        for server in servers:
            server.should_exit = True
        thread.join(30)


async def _serve(
    ports: list[int], started: list[MemorySink], servers: list[uvicorn.Server]
) -> None:
    async with memory_world() as world:
        sink = world.parts.sink
        assert isinstance(sink, MemorySink)
        started.append(sink)

        @asynccontextmanager
        async def open_parts() -> AsyncIterator[Parts]:
            yield world.parts

        servers += [
            uvicorn.Server(
                uvicorn.Config(create_app(open_parts), port=port, log_config=None, ws="none")
            )
            for port in ports
        ]
        await asyncio.gather(*(server.serve() for server in servers))
