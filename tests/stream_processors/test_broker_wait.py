"""A worker that starts before its broker waits for it, says so, and does not end."""

import asyncio
import logging
import time

import pytest

from stream_processors.broker_wait import SAY_AGAIN_S, wait_for_broker
from tests.stack import Broker
from tools.ports import free_ports


def test_without_a_broker_it_waits_and_says_for_whom(caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)

    def said() -> list[str]:
        return [one for one in caplog.messages if "waits for one" in one]

    async def wait_until_it_is_said() -> bool:
        waiting = asyncio.ensure_future(wait_for_broker(f"127.0.0.1:{port}", pause_s=0.02))
        async with asyncio.timeout(60):
            while not said():
                await asyncio.sleep(0.02)
        await asyncio.wait([waiting], timeout=0.5)
        is_waiting = not waiting.done()
        waiting.cancel()
        return is_waiting

    began_s = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert asyncio.run(wait_until_it_is_said())
    assert len(said()) <= 1 + (time.monotonic() - began_s) / SAY_AGAIN_S
    assert set(said()) == {f"no broker answers at 127.0.0.1:{port} (LITMUS_KAFKA); waits for one"}


def test_it_goes_on_when_one_answers_that_was_away(broker: Broker) -> None:
    (port,) = free_ports(1)
    target_host, target_port = broker.bootstrap.split(":")

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(target_host, int(target_port))
        await asyncio.gather(pipe(reader, there_writer), pipe(there_reader, writer))

    async def come_back() -> bool:
        waiting = asyncio.ensure_future(wait_for_broker(f"127.0.0.1:{port}", pause_s=0.02))
        await asyncio.wait([waiting], timeout=0.2)
        was_waiting = not waiting.done()
        async with await asyncio.start_server(forward, "127.0.0.1", port):
            await asyncio.wait_for(waiting, timeout=60)
        return was_waiting

    assert asyncio.run(come_back())
