"""Slow and greedy clients are let go, each with a reason that is counted; the others notice none.

On real sockets: what is tested is what reaches them.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest_gateway.app import create_app
from ingest_gateway.routes_request import Parts
from schemas import connections
from schemas.connections import BoundedConnection, ConnectionGuard, ConnectionLimits
from tests.ingest_gateway.worlds import memory_world

pytestmark = [pytest.mark.machine, pytest.mark.alone]

LIMITS = ConnectionLimits(
    connections_max=60, header_s=0.6, header_bytes_max=4_000, body_s=0.9, answer_s=1.0
)
EVENT = b'{"type":"metric","event_id":"e-%d","unit_id":"u","metric":"buy"}'
PATIENT = LIMITS._replace(header_s=600.0, body_s=600.0, answer_s=600.0)
SLACK_S = 10.0
"""The sweep, and a machine that is busy."""


class Served:
    """A gateway on a port.

    Attributes:
        port: Where it listens.
        closed: How often it closed a connection, by reason.
        open_counts: How many connections there were, at every change.
        clients: Whoever has connected.
        guard: Of its connections.
    """

    guard: ConnectionGuard

    def __init__(self) -> None:
        self.port = 0
        self.closed: Counter[str] = Counter()
        self.open_counts = [0]
        self.clients: list[Client] = []


@asynccontextmanager
async def serving(limits: ConnectionLimits) -> AsyncIterator[Served]:
    served = Served()

    class Protocol(BoundedConnection, HttpToolsProtocol):
        guard = ConnectionGuard(
            limits,
            report_closing=lambda reason: served.closed.update([reason.value]),
            report_open=served.open_counts.append,
        )

    served.guard = Protocol.guard
    async with memory_world() as world:

        @asynccontextmanager
        async def open_parts() -> AsyncIterator[Parts]:
            yield world.parts

        config = uvicorn.Config(
            create_app(open_parts),
            port=0,
            log_config=None,
            http=Protocol,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server._serve())  # without its handlers of signals
        while not server.started:
            await asyncio.sleep(0.01)
        served.port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield served
        finally:
            for client in served.clients:
                client.close()
            server.should_exit = True
            await running


class Client:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def send_until_closed(self, pieces: Iterable[bytes], pause_s: float) -> float:
        """Send piece by piece until the server has enough of it; return how long that took."""
        began_s = time.monotonic()
        closing = asyncio.create_task(self.closed_after_s())
        with suppress(ConnectionError):
            for piece in pieces:
                await self.send(piece)
                await asyncio.sleep(pause_s)
                if closing.done():
                    break
        await closing
        return time.monotonic() - began_s

    async def answer(self) -> tuple[int, bytes]:
        """Return status and head of an answer, its body being read too."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 60)
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        await self._reader.readexactly(length)
        return int(head.split()[1]), head.lower()

    async def read_exactly(self, count: int) -> bytes:
        return await asyncio.wait_for(self._reader.readexactly(count), 60)

    async def closed_after_s(self) -> float:
        """Return how long it took the server to close the connection."""
        began_s = time.monotonic()
        try:
            while await asyncio.wait_for(self._reader.read(65_536), 60):
                pass
        except ConnectionError:
            pass
        return time.monotonic() - began_s

    def close(self) -> None:
        self._writer.close()


async def connect(served: Served) -> Client:
    client = Client(*await asyncio.open_connection("127.0.0.1", served.port))
    served.clients.append(client)
    return client


def post(body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = b"POST /v1/events HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % size + body


async def test_who_sends_headers_drop_by_drop_is_let_go() -> None:
    async with serving(LIMITS) as served:
        client = await connect(served)
        drops = [b"%c" % octet for octet in b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 100]
        assert await client.send_until_closed(drops, 0.05) < LIMITS.header_s + SLACK_S
        assert served.closed == {"slow_headers": 1}


async def test_who_connects_and_says_nothing_is_let_go() -> None:
    async with serving(LIMITS) as served:
        client = await connect(served)
        assert await client.closed_after_s() < LIMITS.header_s + SLACK_S
        assert served.closed == {"slow_headers": 1}


async def test_who_sends_a_body_drop_by_drop_is_let_go() -> None:
    async with serving(LIMITS) as served:
        client = await connect(served)
        drops = [post(b"", length=1_000), *[b" "] * 900]
        assert await client.send_until_closed(drops, 0.05) < LIMITS.body_s + SLACK_S
        assert served.closed == {"slow_body": 1}


async def test_chunks_without_an_end_are_cut_off() -> None:
    async with serving(LIMITS) as served:
        client = await connect(served)
        head = b"POST /v1/events HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n"
        await client.send(head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n")
        assert await client.closed_after_s() < LIMITS.body_s + SLACK_S
        assert served.closed == {"slow_body": 1}


async def test_headers_without_an_end_are_refused_soon() -> None:
    async with serving(PATIENT) as served:
        client = await connect(served)
        await client.send(b"GET /health HTTP/1.1\r\nx: ")
        for _ in range(5):
            await asyncio.sleep(0.02)
            await client.send(b"y" * 1_000)
        status, _ = await client.answer()
        assert status == 431
        assert served.closed == {"large_headers": 1}


async def test_who_does_not_read_the_answer_is_let_go() -> None:
    async with serving(LIMITS) as served:
        client, began_s = await connect(served), time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() < began_s + 60:
                await client.send(b"GET /metrics HTTP/1.1\r\nHost: g\r\n\r\n" * 20)
                await asyncio.sleep(0.01)
        assert time.monotonic() < began_s + 60
        assert served.closed == {"slow_reader": 1}


async def test_one_connection_too_many_gets_503_and_room_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "REFUSED_S", 60.0)
    async with serving(PATIENT) as served:
        busy = [await connect(served) for _ in range(LIMITS.connections_max)]
        for client in busy:
            await client.send(b"GET /health HTTP/1.1\r\n")
        while len(served.guard._open) < LIMITS.connections_max or served.guard._idle:
            await asyncio.sleep(0.01)

        refused = await connect(served)
        await refused.send(b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n")
        status, head = await refused.answer()
        assert status == 503
        assert b"retry-after: 1" in head
        assert max(served.open_counts) == LIMITS.connections_max
        busy[0].close()
        while served.open_counts[-1] == LIMITS.connections_max:
            await asyncio.sleep(0.01)
        taken = await connect(served)
        await taken.send(b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n")
        assert (await taken.answer())[0] == 200
        assert served.closed == {"full": 1}


async def test_when_all_is_full_the_connection_idle_for_longest_makes_room() -> None:
    async with serving(PATIENT) as served:
        clients = [await connect(served) for _ in range(LIMITS.connections_max)]
        for client in clients:
            await client.send(b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n")
            assert (await client.answer())[0] == 200

        newest = await connect(served)
        await newest.send(b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n")
        assert (await newest.answer())[0] == 200
        await clients[0].closed_after_s()
        await clients[1].send(b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n")
        assert (await clients[1].answer())[0] == 200
        assert served.closed == {"idle_when_full": 1}


async def test_requests_one_after_another_outlive_every_deadline_of_a_single_one() -> None:
    async with serving(LIMITS) as served:
        client, until_s = await connect(served), time.monotonic() + 2 * LIMITS.body_s
        number = 0
        while time.monotonic() < until_s:
            number += 1
            await client.send(post(EVENT % number) + post(EVENT % -number))  # pipelined
            assert [(await client.answer())[0] for _ in range(2)] == [202, 202]
            await asyncio.sleep(0.2)
        assert not served.closed


async def test_a_slow_crowd_does_not_slow_the_others_down() -> None:
    """Half of it trickles headers, half bodies."""
    rng = random.Random(7)
    async with serving(LIMITS._replace(connections_max=1_000)) as served:
        quiet_s = await latencies_s(served)
        crowd = [asyncio.create_task(trickle(served, rng.random() < 0.5)) for _ in range(400)]
        await asyncio.sleep(0.3)
        crowded_s = await latencies_s(served)
        lived_s = await asyncio.gather(*crowd)

    assert max(lived_s) < LIMITS.body_s + SLACK_S
    assert served.closed["slow_headers"] + served.closed["slow_body"] == 400
    assert crowded_s[len(crowded_s) // 2] < 2 * quiet_s[len(quiet_s) // 2] + 0.02


async def latencies_s(served: Served) -> list[float]:
    found, client = [], await connect(served)
    for number in range(60):
        began_s = time.monotonic()
        await client.send(post(EVENT % number))
        assert (await client.answer())[0] == 202
        found.append(time.monotonic() - began_s)
    client.close()
    return sorted(found)


async def trickle(served: Served, is_body: bool) -> float:
    """Send a byte now and then until the server has enough of it; return how long that took."""
    client = await connect(served)
    begin = post(b"", length=1_000) if is_body else b"GET /health HTTP/1.1\r\n"
    drops = [b" " if is_body else b"x"] * 900
    return await client.send_until_closed([begin, *drops], 0.2)
