"""A link carries bytes unchanged, and is slow, stalled or cut when it is told so."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tools.ports import free_ports
from tools.torture.proxying import Proxy

SIZE = 1_000_000


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[Proxy, int]]:
    """Run an echo server and a proxy before it; yield the proxy and its port."""
    port, target = free_ports(2)
    server = await asyncio.start_server(echo, "127.0.0.1", target)
    async with server, Proxy({"echo": (port, target)}) as proxy:
        yield proxy, port


async def answer(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.readexactly(len(sent)), 60)
    finally:
        writer.close()


async def answer_s(port: int) -> float:
    """Return how many seconds an answer takes."""
    began_s = time.monotonic()
    assert await answer(port, b"x") == b"x"
    return time.monotonic() - began_s


async def test_bytes_pass_unchanged() -> None:
    sent = bytes(range(256)) * (SIZE // 256)
    async with proxied() as (_, port):
        assert await answer(port, sent) == sent


async def test_a_slow_link_holds_up_both_ways_until_it_is_mended() -> None:
    async with proxied() as (proxy, port):
        await proxy.change("echo", delay_ms=100)
        assert await answer_s(port) >= 0.2

        await proxy.change("echo")
        # A busy machine may answer late now and then, a slow link answers late always.
        async with asyncio.timeout(60):
            while await answer_s(port) >= 0.2:
                pass


async def test_a_stalled_link_keeps_its_connections_and_their_bytes() -> None:
    async with proxied() as (proxy, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await proxy.change("echo", is_stalled=True)
        writer.write(b"waiting")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(7), 0.3)

        await proxy.change("echo")
        assert await asyncio.wait_for(reader.readexactly(7), 60) == b"waiting"
        writer.close()


async def test_a_cut_link_resets_connections_old_and_new() -> None:
    async with proxied() as (proxy, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), 60) == b"x"
        await proxy.change("echo", is_cut=True)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.readexactly(1), 60)
        writer.close()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await answer(port, b"y")

        await proxy.change("echo")
        assert await answer(port, b"z") == b"z"


async def test_where_a_link_leads_nowhere_a_connection_ends_at_once() -> None:
    port, target = free_ports(2)
    async with Proxy({"echo": (port, target)}):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await answer(port, b"x")
