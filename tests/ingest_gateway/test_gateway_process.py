"""202 means durable, and what is started here may be used from every gateway at once."""

import asyncio
import signal
import uuid
from typing import Any

import httpx
import pytest

from schemas.batch import read_batch
from schemas.topics import EVENTS, KIND_BATCH
from tests.ingest_gateway.gateway_process import running_gateway
from tests.ingest_gateway.worlds import broker_world, read_topic


def metrics(prefix: str, request: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "type": "metric",
            "event_id": f"{prefix}-{request}-{number}",
            "unit_id": f"u-{number}",
            "metric": "buy",
        }
        for number in range(count)
    ]


def event_ids(bootstrap: str, prefix: str) -> set[str]:
    return {
        event_id
        for log in read_topic(bootstrap, EVENTS.name)
        for message in log
        if dict(message.headers).get("litmus.kind") == KIND_BATCH
        for event_id in read_batch(message.value).column("event_id").to_pylist()
        if event_id.startswith(prefix)
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_what_was_answered_with_202_is_in_the_log_however_the_gateway_ends(
    gateway_broker: str, number: signal.Signals
) -> None:
    prefix, answered = uuid.uuid4().hex, asyncio.Event()
    durable: set[str] = set()

    async def post(client: httpx.AsyncClient, lane: int) -> None:
        for turn in range(10_000):
            events = metrics(prefix, lane * 10_000 + turn, 20)
            try:
                answer = await client.post("/v1/events", json=events)
            except httpx.TransportError:
                return
            if answer.status_code == 503:  # a machine that is busy: nothing was promised
                await asyncio.sleep(0.05)
                continue
            assert answer.status_code == 202
            durable.update(event["event_id"] for event in events)
            if len(durable) > 1_000:
                answered.set()

    with running_gateway(gateway_broker) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            lanes = [asyncio.create_task(post(client, lane)) for lane in range(4)]
            await asyncio.wait_for(answered.wait(), 120)
            gateway.process.send_signal(number)
            await asyncio.gather(*lanes)
        code = await asyncio.to_thread(gateway.process.wait, 120)

    assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    assert len(durable) > 400
    assert durable <= event_ids(gateway_broker, prefix)


async def test_what_one_gateway_starts_another_one_takes_at_once(gateway_broker: str) -> None:
    async with (
        broker_world(gateway_broker) as here,
        broker_world(gateway_broker) as there,
    ):
        for turn in range(15):
            experiment_id = f"{uuid.uuid4().hex}-{turn}"
            definition = {
                "id": experiment_id,
                "variants": [{"id": "a"}, {"id": "b"}],
                "metrics": [{"id": "buy", "kind": "count"}],
            }
            await here.client.post("/v1/experiments", json=definition)
            started = await here.client.post(f"/v1/experiments/{experiment_id}/start")
            event = {
                "type": "assignment",
                "event_id": "a-1",
                "unit_id": f"u-{turn}",
                "experiment_id": experiment_id,
                "variant": "a",
            }
            answer = await there.client.post("/v1/events", json=event)

            assert started.status_code == 200
            assert answer.status_code == 202, answer.text
