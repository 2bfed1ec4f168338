"""An experiment that is started is known everywhere at once: no door refuses its first event."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from schemas.topics import ASSIGNMENTS
from tests.stack import Stack, wait_until
from tools.broker import client_settings
from tools.ports import free_ports
from tools.settings import CHECKOUT
from tools.torture.audit.evidence import KafkaEvidence

pytestmark = pytest.mark.machine

RACES = 40
AT_ONCE = 4
IDS = [f"race-{number}" for number in range(RACES)]


@contextmanager
def second_gateway(stack: Stack) -> Iterator[str]:
    """Run another gateway on the stack's broker; yield its address."""
    (port,) = free_ports(1)
    own = {"LITMUS_KAFKA": stack.kafka, "LITMUS_GATEWAY_PORT": str(port)}
    with (stack.home.logs / "second-gateway.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ingest_gateway"],
            cwd=CHECKOUT,
            env=stack.settings.environment() | own | {"LITMUS_INSTANCE": "second-gateway"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_ready(address), "a second gateway is ready", 180, stack.explain)
        yield address
    finally:
        process.terminate()
        assert process.wait(30) == 0


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.timeout(500)
def test_an_experiment_started_at_one_door_takes_events_at_every_other_at_once(
    stack: Stack,
) -> None:
    stack.wait_ready()
    with second_gateway(stack) as other_url:
        asyncio.run(race_all(stack, other_url))

        wait_until(
            lambda: all(map(has_both, results(stack))), "all are counted", 180, stack.explain
        )
    letters = KafkaEvidence(stack.kafka).dead_letters()
    assert [letter for letter in letters if b"race-" in letter.raw] == []


async def race_all(stack: Stack, other_url: str) -> None:
    """Create, start and post to all experiments, some at once."""
    limits = asyncio.Semaphore(AT_ONCE)
    producer = Producer(client_settings(stack.kafka) | {"acks": "all", "linger.ms": 0})
    async with (
        httpx.AsyncClient(base_url=stack.gateway_url, timeout=30) as starting,
        httpx.AsyncClient(base_url=other_url, timeout=30) as posting,
    ):

        async def race(experiment_id: str) -> None:
            async with limits:
                created = await starting.post("/v1/experiments", json=body(experiment_id))
                assert created.status_code == 201, created.text
                started = await starting.post(f"/v1/experiments/{experiment_id}/start")
                assert started.status_code == 200, started.text
                record = json.dumps(assignment(experiment_id, "c", "by-kafka"))
                producer.produce(ASSIGNMENTS.name, record)
                event = assignment(experiment_id, "t", "by-http")
                taken = await posting.post("/v1/events", json=event)
                assert taken.status_code == 202, taken.text
                assert taken.json()["accepted"] == 1, taken.text

        await asyncio.gather(*map(race, IDS))
    assert producer.flush(30) == 0


def body(experiment_id: str) -> dict[str, Any]:
    return {
        "id": experiment_id,
        "variants": [{"id": "c"}, {"id": "t"}],
        "metrics": [{"id": "bought", "kind": "conversion", "event": "buy", "window": "2s"}],
    }


def assignment(experiment_id: str, variant: str, unit: str) -> dict[str, Any]:
    return {
        "type": "assignment",
        "event_id": f"{experiment_id}-{unit}",
        "experiment_id": experiment_id,
        "unit_id": f"{experiment_id}-{unit}",
        "variant": variant,
        "timestamp": round(time.time() * 1_000),
    }


def results(stack: Stack) -> Iterator[dict[str, Any]]:
    with httpx.Client(base_url=stack.query_url, timeout=30) as client:
        for experiment_id in IDS:
            yield client.get(f"/v1/experiments/{experiment_id}/results").json()


def has_both(result: dict[str, Any]) -> bool:
    """Return whether both units are counted, each in its variant."""
    return [(one["variant"], one["units"]) for one in result.get("variants", [])] == [
        ("c", 1),
        ("t", 1),
    ]
