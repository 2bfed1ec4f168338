"""Requests that are no good, as bytes on a socket: each is answered soon, none is a 500."""

import asyncio
import gzip
import os
from contextlib import suppress

import psutil
import pytest

from ingest_gateway.telemetry import REGISTRY
from schemas.connections import ConnectionLimits
from tests.ingest_gateway.test_connections import EVENT, Client, connect, post, serving
from tests.ingest_gateway.worlds import World

LIMITS = ConnectionLimits(header_s=600.0, body_s=600.0)
"""Who is answered was not waited for: no deadline comes before the test gives up."""
HEAD = b"POST /v1/events HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n"
GOOD = EVENT % 1
BOMB = gzip.compress(bytes(100_000_000), 9)

ANSWERED: dict[str, tuple[bytes, int]] = {
    "two lengths": (
        HEAD + b"Content-Length: 5\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD,
        400,
    ),
    "a negative length": (HEAD + b"Content-Length: -5\r\n\r\n" + GOOD, 400),
    "a length that is no number": (HEAD + b"Content-Length: many\r\n\r\n" + GOOD, 400),
    "a length beyond 64 bits": (HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
    "a length and chunks": (
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a chunk of no size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n", 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), 400),
    "an unknown method": (b"BREW /v1/events HTTP/1.1\r\nHost: g\r\n\r\n", 400),
    "a space in a header's name": (HEAD + b"Content Length: 5\r\n\r\n", 400),
    "no body at all": (post(b""), 400),
    "a body that is cut": (post(GOOD[:-9]), 400),
    "a gzip that is none": (
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        400,
    ),
    "a gzip bomb": (
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB,
        413,
    ),
    "two encodings": (
        HEAD + b"Content-Encoding: gzip, gzip\r\nContent-Length: 4\r\n\r\nnope",
        415,
    ),
    "ten thousand headers": (
        HEAD + b"x: y\r\n" * 10_000 + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD,
        431,
    ),
    "a length too large": (HEAD + b"Content-Length: 5000000\r\n\r\n" + bytes(4_100_000), 413),
    "another way to Mars": (b"GET /%00/../../etc/passwd HTTP/1.1\r\nHost: g\r\n\r\n", 404),
    "a long path": (b"GET /" + b"x" * 30_000 + b" HTTP/1.1\r\nHost: g\r\n\r\n", 404),
    "a path too long": (b"GET /" + b"x" * 50_000 + b" HTTP/1.1\r\nHost: g\r\n\r\n", 431),
    "a header too long": (HEAD + b"x: " + b"y" * 200_000 + b"\r\n\r\n", 431),
}


@pytest.mark.parametrize("name", ANSWERED)
async def test_is_answered_soon_and_the_next_client_is_served(name: str) -> None:
    raw, expected = ANSWERED[name]
    async with serving(LIMITS) as served:
        await check_good(await connect(served))
        rss_before = psutil.Process(os.getpid()).memory_info().rss
        client = await connect(served)
        with suppress(ConnectionError):  # of what it sends after the answer
            await client.send(raw)
        status, _ = await client.answer()
        grown = psutil.Process(os.getpid()).memory_info().rss - rss_before
        await check_good(await connect(served))

    assert status == expected
    assert grown < 40_000_000


async def check_good(client: Client) -> None:
    await client.send(post(GOOD))
    assert (await client.answer())[0] == 202


async def test_a_client_that_asks_whether_to_go_on_is_told_so() -> None:
    async with serving(LIMITS) as served:
        client = await connect(served)
        await client.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(GOOD))
        assert await client.read_exactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(GOOD)
        assert (await client.answer())[0] == 202


async def test_no_label_of_a_metric_comes_from_a_client(memory: World) -> None:
    """Whatever clients make up, the number of series stays that of our own names."""

    async def ask(number: int) -> None:
        path = f"/v1/experiments/made-up-{number}/start"
        await memory.client.post(path, json={"version": number})
        await memory.client.get(f"/made/up/{number}")
        await memory.client.request(f"METHOD{number}", "/v1/events")
        await memory.client.post("/v1/events", json={"type": f"t{number}", f"field{number}": 1})
        event = {"type": "metric", "event_id": f"e{number}", "unit_id": f"u{number}"}
        await memory.client.post("/v1/events", json=event | {"metric": f"metric-{number}"})
        question = {"unit_id": f"u{number}", "experiment_ids": [f"made-up-{number}"]}
        await memory.client.post("/v1/decisions", json=question)

    for number in range(3):
        await ask(number)
    before = series()
    await asyncio.gather(*(ask(number) for number in range(3, 60)))

    assert series() == before


def series() -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for metric in REGISTRY.collect()
        for sample in metric.samples
    }
