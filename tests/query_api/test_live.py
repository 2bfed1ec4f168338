"""Who follows an experiment gets the present look first, then newer ones, never an older."""

import asyncio
import contextlib
import json
import random
import socket
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec
import pytest
import websockets
from clickhouse_connect.driver.client import Client
from prometheus_client import REGISTRY

from query_api import live as live_module
from query_api.live import DROPS_MAX, EvictedError, Live, TooManyClientsError
from query_api.parts import wait_until
from query_api.snapshots import Snapshots
from schemas.times import format_time_ms
from tests.query_api.application import Application, serving
from tests.query_api.builders import NOW_MS, as_of_ms, snapshot_value

ID = "checkout-color"
PATIENCE_S = 60.0

connect: Any = partial(websockets.connect, open_timeout=PATIENCE_S, ping_interval=None)


@pytest.fixture(autouse=True)
def _no_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that takes long gets each look once all the same."""
    monkeypatch.setattr(live_module, "HEARTBEAT_S", 3_600.0)


@pytest.fixture
async def app(dsn: str, database: str, client: Client) -> AsyncIterator[Application]:
    async with serving(dsn, database) as application:
        yield application


def address(app: Application, experiment_id: str = ID) -> str:
    return f"ws://{app.address}/v1/experiments/{experiment_id}/live"


async def tick_from(client: Any) -> int | None:
    look = json.loads(await asyncio.wait_for(client.recv(), PATIENCE_S))["look"]
    return None if look is None else int(look["tick"])


async def test_a_websocket_gets_the_present_look_and_then_each_newer(app: Application) -> None:
    app.publish(3)
    app.clock.now_ms = as_of_ms(3) + 84
    async with connect(address(app)) as client:
        first = json.loads(await client.recv())
        assert first == (await app.http.get(f"/v1/experiments/{ID}/results")).json()
        assert first["look"]["age_ms"] == 84

        for tick in (5, 4, 5, 8):
            app.publish(tick)
            if tick in (5, 8):
                await asyncio.sleep(0)
        ticks = [await tick_from(client)]
        while ticks[-1] != 8:
            ticks.append(await tick_from(client))

    assert ticks in ([5, 8], [8])


async def test_a_look_that_stays_current_comes_again_with_its_age(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look is of tick 3; the ledger says that nothing had changed up to tick 7."""
    monkeypatch.setattr(live_module, "HEARTBEAT_S", 0.1)
    app.publish(3)
    async with connect(address(app)) as client:
        first = json.loads(await client.recv())
        as_of = format_time_ms(as_of_ms(7))
        ledger = {"log_id": first["look"]["log_id"], "tick": 7, "as_of": as_of}
        app.parts.snapshots.take_ledger(msgspec.json.encode(ledger))
        app.clock.now_ms = as_of_ms(7) + 120

        again = first
        while again["look"]["current_at"] != as_of:  # heartbeats that were on their way
            again = json.loads(await asyncio.wait_for(client.recv(), PATIENCE_S))

    assert again["look"]["tick"] == 3
    assert again["look"]["sha256"] == first["look"]["sha256"]
    assert again["look"]["current_at"] == as_of
    assert again["look"]["age_ms"] == 120


async def test_a_follower_of_a_draft_sees_it_start(app: Application) -> None:
    app.publish(None)
    async with connect(address(app)) as client:
        assert await tick_from(client) is None
        app.publish(1)
        assert await tick_from(client) == 1


async def test_a_websocket_for_an_unknown_experiment_is_a_problem(app: Application) -> None:
    with pytest.raises(websockets.InvalidStatus) as refusal:
        await connect(address(app, "nobody"))

    assert refusal.value.response.status_code == 404
    assert json.loads(refusal.value.response.body)["code"] == "unknown_experiment"


async def test_what_a_follower_says_is_ignored(app: Application) -> None:
    app.publish(3)
    async with connect(address(app)) as client:
        await tick_from(client)
        await client.send("hello")
        await client.send(b"hello")
        app.publish(4)
        assert await tick_from(client) == 4


async def test_a_page_of_another_site_may_not_follow(app: Application) -> None:
    app.publish(3)
    async with connect(address(app), origin=f"http://{app.address}") as client:
        assert await tick_from(client) == 3

    with pytest.raises(websockets.InvalidStatus) as refusal:
        await connect(address(app), origin="https://example.org")
    assert json.loads(refusal.value.response.body)["code"] == "forbidden_origin"


async def test_events_get_the_present_look_and_then_each_newer(app: Application) -> None:
    app.publish(3)
    path = f"/v1/experiments/{ID}/events"
    async with app.http.stream("GET", path) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        ticks = []
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                ticks.append(json.loads(line.removeprefix("data:"))["look"]["tick"])
                if len(ticks) == 3:
                    break
                app.publish(3 + len(ticks))

    assert ticks == [3, 4, 5]


async def test_a_client_that_leaves_is_forgotten(app: Application) -> None:
    app.publish(3)
    async with connect(address(app)) as client:
        await client.recv()
        assert clients("websocket") == 1
    await until_clients_are(0)


async def until_clients_are(count: int) -> None:
    assert await wait_until(lambda: clients("websocket") == count, timeout_s=PATIENCE_S)


def clients(transport: str) -> float:
    found = REGISTRY.get_sample_value("litmus_query_live_clients", {"transport": transport})
    return found or 0.0


async def test_a_client_that_takes_nothing_is_disconnected_and_costs_the_others_nothing(
    app: Application,
) -> None:
    """Its socket is full after some hundreds of kilobytes; of the news then only one stays."""
    incompressible = random.Random(7).randbytes(100_000).hex()
    evicted_before = REGISTRY.get_sample_value("litmus_query_live_evicted_total") or 0.0
    publish_large(app, 1, incompressible)
    with contextlib.closing(await stuck_client(app)):
        async with connect(address(app), max_size=None) as healthy:
            assert await tick_from(healthy) == 1
            for tick in range(2, 2_000):
                publish_large(app, tick, incompressible)
                assert await tick_from(healthy) == tick
                if REGISTRY.get_sample_value("litmus_query_live_evicted_total") != evicted_before:
                    break
            else:
                pytest.fail("the stuck client was never disconnected")
            await until_clients_are(1)
            publish_large(app, 3_000, incompressible)
            assert await tick_from(healthy) == 3_000


def publish_large(app: Application, tick: int, filling: str) -> None:
    app.parts.snapshots.take(ID, snapshot_value(tick, name=filling, version=tick))
    snapshot = app.parts.snapshots.get(ID)
    assert snapshot is not None
    assert snapshot.results is not None
    snapshot.results["filling"] = filling
    app.parts.live.publish([ID])


async def stuck_client(app: Application) -> socket.socket:
    """Return the socket of a client that shakes hands and never reads again."""
    host, port = app.address.split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (host, int(port)))
    request = (
        f"GET /v1/experiments/{ID}/live HTTP/1.1\r\nHost: {app.address}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    )
    await loop.sock_sendall(client, request.encode())
    assert b"101" in await loop.sock_recv(client, 100)
    return client


def followed() -> tuple[Snapshots, Live]:
    snapshots = Snapshots()
    snapshots.take(ID, snapshot_value(1))
    live = Live(snapshots, lambda: NOW_MS)
    live.open(asyncio.get_running_loop())
    return snapshots, live


async def test_a_slow_client_gets_only_the_newest() -> None:
    snapshots, live = followed()
    with live.follow(ID, "websocket") as subscription:
        await subscription.next()
        for tick in range(2, 9):
            snapshots.take(ID, snapshot_value(tick))
            live.publish([ID])
        await asyncio.sleep(0)

        assert json.loads(await subscription.next())["look"]["tick"] == 8
        assert subscription.dropped_count == 0


async def test_after_too_many_drops_a_client_is_told_to_go() -> None:
    _, live = followed()
    with live.follow(ID, "websocket") as subscription:
        for _ in range(DROPS_MAX + 1):
            live.publish([ID])
        await asyncio.sleep(0)

        with pytest.raises(EvictedError, match="too slow"):
            await subscription.next()


async def test_a_client_that_takes_its_news_in_time_stays() -> None:
    _, live = followed()
    with live.follow(ID, "websocket") as subscription:
        for _ in range(3):
            for _ in range(DROPS_MAX):
                live.publish([ID])
            await asyncio.sleep(0)
            await subscription.next()


async def test_one_client_too_many_is_refused_over_either_transport_until_another_leaves(
    dsn: str, database: str, client: Client
) -> None:
    refused_before = REGISTRY.get_sample_value("litmus_query_live_refused_total") or 0.0
    async with serving(dsn, database, clients_max=2) as app:
        app.publish(3)
        events = f"/v1/experiments/{ID}/events"
        async with app.http.stream("GET", events) as followed_over_http:
            lines = followed_over_http.aiter_lines()
            await anext(lines)
            async with connect(address(app)):
                with pytest.raises(websockets.InvalidStatus) as refusal:
                    await connect(address(app))
                over_http = await app.http.get(events)
            await until_clients_are(0)
            async with connect(address(app)) as later:
                assert await tick_from(later) == 3

    denial = refusal.value.response
    assert (denial.status_code, denial.headers["Retry-After"]) == (503, "1")
    assert json.loads(denial.body)["code"] == "too_many_clients"
    assert (over_http.status_code, over_http.json()["code"]) == (503, "too_many_clients")
    assert REGISTRY.get_sample_value("litmus_query_live_refused_total") == refused_before + 2


async def test_a_thousand_clients_that_take_nothing_hold_one_look_each() -> None:
    """News are a flag, not a queue: what piles up is a number."""
    snapshots, live = followed()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(live.follow(ID, "websocket")) for _ in range(1_000)]
        for tick in range(2, 2 + DROPS_MAX):
            snapshots.take(ID, snapshot_value(tick))
            live.publish([ID])
            await asyncio.sleep(0)
        tracemalloc.start()
        for tick in range(100, 130):
            snapshots.take(ID, snapshot_value(tick))
            live.publish([ID])
            await asyncio.sleep(0)
        held_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert all(one.evicted.is_set() for one in slow)
    assert held_bytes < 500_000
    with contextlib.ExitStack() as stack:
        for _ in range(live.clients_max):
            stack.enter_context(live.follow(ID, "websocket"))
        with pytest.raises(TooManyClientsError), live.follow(ID, "websocket"):
            pass
