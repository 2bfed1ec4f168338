"""A door with another number of partitions than the topic has: it ends before it takes anything."""

import asyncio
import threading

import httpx
import pytest

from ingest_gateway.__main__ import kafka_parts
from ingest_gateway.app import create_app
from ingest_gateway.control_follower import ControlFollower
from ingest_gateway.door_loop import DoorFailedError
from ingest_gateway.kafka_door import DoorState, run_door
from ingest_gateway.settings import GatewaySettings, KafkaDoorSettings
from ingest_gateway.settled_watch import SettledWatch
from schemas.topics import EVENTS
from tests.ingest_gateway.test_events_route import metric
from tests.ingest_gateway.worlds import PARTITIONS
from tools.ports import free_ports
from tools.torture.proxying import Proxy

OTHER = PARTITIONS + 5
ADVICE = f"Set LITMUS_PARTITIONS={PARTITIONS}"


async def test_a_gateway_with_another_number_answers_nothing_and_ends_with_what_to_set(
    gateway_broker: str,
) -> None:
    failures: list[str] = []
    settings = GatewaySettings(kafka=gateway_broker, partitions=OTHER)
    app = create_app(kafka_parts(settings, failures.append))
    async with app.router.lifespan_context(app), asyncio.timeout(60):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            while not failures:
                answer = await client.post("/v1/events", json=metric())
                assert (answer.status_code, answer.json()["code"]) == (503, "view_unavailable")
            answer = await client.post("/v1/decisions", json={"unit_id": "u"})
            assert answer.status_code == 503
    assert ADVICE in failures[0]
    assert f"{EVENTS.name} has {PARTITIONS} partitions" in failures[0]
    assert str(OTHER) in failures[0]


def test_a_kafka_door_with_another_number_ends_before_it_joins_its_group(
    gateway_broker: str,
) -> None:
    state = DoorState()
    settings = KafkaDoorSettings(kafka=gateway_broker, partitions=OTHER)
    with pytest.raises(DoorFailedError, match=ADVICE):
        run_door(settings, state, threading.Event())
    assert not any(state.conditions.values())


async def test_a_door_that_starts_before_its_broker_waits_and_then_comes_up(
    gateway_broker: str,
) -> None:
    (port,) = free_ports(1)  # nobody listens yet
    failures: list[Exception] = []
    follower = ControlFollower(
        f"127.0.0.1:{port}",
        partition_count=PARTITIONS,
        on_failure=failures.append,
        settled=SettledWatch(alert_s=900, stop_s=3_600),
    )
    follower.start()
    try:
        await asyncio.sleep(1.5)  # longer than it waits for one answer
        assert (follower.is_caught_up, failures) == (False, [])
        async with Proxy({"broker": (port, int(gateway_broker.rpartition(":")[2]))}):
            async with asyncio.timeout(60):
                while not follower.is_caught_up:
                    await asyncio.sleep(0.02)
    finally:
        await asyncio.to_thread(follower.stop)
    assert not failures
