"""The Kafka door as a process on a real broker: every record arrives, and marks tell the truth."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
from confluent_kafka import Producer

from schemas.batch import read_batch
from schemas.control import Mark
from schemas.topics import ASSIGNMENTS, DEAD_LETTERS, EVENTS, KIND_BATCH, LATE, MARKS, METRICS
from tests.ingest_gateway.worlds import PARTITIONS, read_topic
from tests.stack import wait_until
from tools.ports import free_ports
from tools.settings import CHECKOUT

HOUR_MS = 3_600_000


class Door:
    """A door process."""

    def __init__(self, bootstrap: str) -> None:
        (port,) = free_ports(1)
        self.probe_url = f"http://127.0.0.1:{port}"
        environment = os.environ | {
            "LITMUS_KAFKA": bootstrap,
            "LITMUS_PARTITIONS": str(PARTITIONS),
            "LITMUS_PROBE_PORT": str(port),
            "LITMUS_INSTANCE": "door-of-tests",
            "PYTHONPATH": str(CHECKOUT),
        }
        command = [sys.executable, "-m", "ingest_gateway.kafka_door"]
        self.process = subprocess.Popen(command, env=environment, cwd=CHECKOUT)
        wait_until(self._is_ready, "the door is ready", 60)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, "the door died"
        try:
            return httpx.get(f"{self.probe_url}/ready").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def running_door(bootstrap: str) -> Iterator[Door]:
    door = Door(bootstrap)
    try:
        yield door
    finally:
        door.process.kill()
        door.process.wait()


@pytest.fixture
def produce(gateway_broker: str) -> Iterator[Callable[[str, list[bytes]], dict[int, int]]]:
    """Call it with a topic and values; returns when they stand there, value index -> stamp."""
    producer = Producer({"bootstrap.servers": gateway_broker, "acks": "all"})

    def send(topic: str, values: list[bytes]) -> dict[int, int]:
        stamps: dict[int, int] = {}
        for index, value in enumerate(values):

            def on_delivery(error: Any, message: Any, index: int = index) -> None:
                assert error is None
                stamps[index] = message.timestamp()[1]

            producer.produce(topic, value, key=str(index % 50), on_delivery=on_delivery)
            producer.poll(0)
        assert producer.flush(30) == 0
        return stamps

    yield send
    producer.flush(5)


def metric_events(prefix: str, count: int) -> list[bytes]:
    return [
        json.dumps(
            {"event_id": f"{prefix}-{number}", "unit_id": f"u-{number}", "metric": "buy"}
        ).encode()
        for number in range(count)
    ]


def rows(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    return [
        row
        for log in read_topic(bootstrap, topic)
        for message in log
        if dict(message.headers).get("litmus.kind") == KIND_BATCH
        for row in read_batch(message.value).to_pylist()
    ]


def ids_with(bootstrap: str, prefix: str) -> Counter[str]:
    found = (row["event_id"] for row in rows(bootstrap, EVENTS.name))
    return Counter(one for one in found if one.startswith(prefix))


def has_more_than(bootstrap: str, prefix: str, count: int) -> bool:
    return len(ids_with(bootstrap, prefix)) > count


def highest_marks(bootstrap: str) -> dict[str, int]:
    (log,) = read_topic(bootstrap, MARKS.name)
    marks: dict[str, int] = {}
    for message in log:
        mark = msgspec.json.decode(message.value, type=Mark)
        marks[mark.source] = max(marks.get(mark.source, 0), mark.low_water_ms)
    return marks


def test_records_become_rows_late_rows_and_dead_letters(
    gateway_broker: str, produce: Callable[[str, list[bytes]], dict[int, int]]
) -> None:
    prefix = uuid.uuid4().hex
    bad = f'{{"event_id": "{prefix}", "unit_id": 7, "metric": "buy"}}'.encode()
    late_ms = time.time_ns() // 1_000_000 - 2 * HOUR_MS
    late = {"event_id": f"{prefix}-late", "unit_id": "u", "metric": "buy", "timestamp": late_ms}
    stranger = {
        "event_id": f"{prefix}-stranger",
        "unit_id": "u",
        "experiment_id": prefix,
        "variant": "control",
    }

    with running_door(gateway_broker) as door:
        stamps = produce(
            METRICS.name, [*metric_events(prefix, 100), bad, json.dumps(late).encode()]
        )
        produce(ASSIGNMENTS.name, [json.dumps(stranger).encode()])
        wait_until(lambda: len(ids_with(gateway_broker, prefix)) == 100, "all rows are there")
        wait_until(lambda: len(set_aside(gateway_broker, prefix)) == 2, "dead letters are there")
        door.process.send_signal(signal.SIGTERM)
        assert door.process.wait(20) == 0

    assert set(ids_with(gateway_broker, prefix).values()) == {1}
    received = {
        row["event_id"]: row["received_at"]
        for row in rows(gateway_broker, EVENTS.name)
        if row["event_id"].startswith(prefix)
    }
    assert received == {f"{prefix}-{index}": stamps[index] for index in range(100)}
    assert [
        row["event_id"]
        for row in rows(gateway_broker, LATE.name)
        if row["event_id"].startswith(prefix)
    ] == [f"{prefix}-late"]
    assert set_aside(gateway_broker, prefix) == {
        bad: (METRICS.name, "malformed", "unit_id"),
        json.dumps(stranger).encode(): (ASSIGNMENTS.name, "unknown_experiment", "experiment_id"),
    }


def set_aside(bootstrap: str, prefix: str) -> dict[bytes, tuple[str, str, str]]:
    found = {}
    for log in read_topic(bootstrap, DEAD_LETTERS.name):
        for message in log:
            if prefix.encode() in message.value:
                headers = {name: value.decode() for name, value in message.headers}
                found[message.value] = (
                    headers["litmus.dlq.topic"],
                    headers["litmus.dlq.code"],
                    headers["litmus.dlq.field"],
                )
    return found


def test_a_record_without_an_id_is_known_by_where_it_stands(
    gateway_broker: str, produce: Callable[[str, list[bytes]], dict[int, int]]
) -> None:
    unit_id = uuid.uuid4().hex
    value = json.dumps({"unit_id": unit_id, "metric": "buy"}).encode()

    def ids() -> list[str]:
        return [
            row["event_id"]
            for row in rows(gateway_broker, EVENTS.name)
            if row["unit_id"] == unit_id
        ]

    with running_door(gateway_broker):
        produce(METRICS.name, [value, value])
        wait_until(lambda: len(ids()) == 2, "both rows are there")

    topic_id, partition, _ = ids()[0].split("/")
    assert (len(topic_id), int(topic_id, 16) > 0, partition.isdecimal()) == (32, True, True)
    assert len(set(ids())) == 2


def test_killed_doors_lose_nothing_and_marks_follow(
    gateway_broker: str, produce: Callable[[str, list[bytes]], dict[int, int]]
) -> None:
    prefix = uuid.uuid4().hex
    events = metric_events(prefix, 20_000)
    stamps: dict[int, int] = {}

    for kill in range(3):
        with running_door(gateway_broker) as door:
            part = events[kill * 5_000 : (kill + 1) * 5_000]
            stamps |= produce(METRICS.name, part)
            wait_until(partial(has_more_than, gateway_broker, prefix, kill * 5_000), "it works")
            door.process.kill()
    with running_door(gateway_broker):
        stamps |= produce(METRICS.name, events[15_000:])
        wait_until(lambda: len(ids_with(gateway_broker, prefix)) == 20_000, "all are there")
        sources = {f"{METRICS.name}/{number}" for number in range(4)}
        last_ms = max(stamps.values())
        wait_until(
            lambda: all(highest_marks(gateway_broker).get(one, 0) > last_ms for one in sources),
            "the marks pass the last record",
        )
