"""The Kafka door as a process on a real broker: every record arrives, and marks tell the truth."""

import json
import os
import random
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
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.batch import read_batch
from schemas.control import Mark
from schemas.topics import ASSIGNMENTS, DEAD_LETTERS, EVENTS, KIND_BATCH, LATE, MARKS, METRICS
from tests.ingest_gateway.worlds import PARTITIONS, read_topic
from tests.stack import wait_until
from tools.ports import free_ports
from tools.settings import CHECKOUT

HOUR_MS = 3_600_000
VIEW_TICK = "litmus_gateway_view_tick"


class Door:
    """A door process."""

    def __init__(self, bootstrap: str, **settings: str) -> None:
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
        self.process = subprocess.Popen(command, env=environment | settings, cwd=CHECKOUT)

    def wait_ready(self) -> None:
        wait_until(lambda: self.state().get("ready", False), "the door is ready")

    def wait_halted(self) -> str:
        """Wait until it stands still, and return why it says that it does."""
        wait_until(lambda: self.state().get("halted") is not None, "the door stands still")
        return str(self.state()["halted"])

    def state(self) -> dict[str, Any]:
        """Return what /ready answers; nothing before it answers."""
        assert self.process.poll() is None, "the door died"
        try:
            found: dict[str, Any] = httpx.get(f"{self.probe_url}/ready", timeout=60).json()
        except httpx.TransportError:
            return {}
        return found

    def metric(self, line: str) -> float:
        """Return the value of a metric, given as Prometheus writes it."""
        text = httpx.get(f"{self.probe_url}/metrics", timeout=60).text
        found = [one for one in text.splitlines() if one.startswith(line + " ")]
        return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


@contextmanager
def running_door(bootstrap: str, **settings: str) -> Iterator[Door]:
    with started_door(bootstrap, **settings) as door:
        door.wait_ready()
        yield door


@contextmanager
def started_door(bootstrap: str, **settings: str) -> Iterator[Door]:
    door = Door(bootstrap, **settings)
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
        assert producer.flush(120) == 0
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
        assert door.process.wait(120) == 0

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


def test_poison_is_set_aside_once_and_costs_no_neighbour(gateway_broker: str) -> None:
    prefix = uuid.uuid4().hex
    arrow = read_topic(gateway_broker, EVENTS.name)[0][0].value
    poison: list[bytes | None] = [
        b"",
        None,
        random.Random(7).randbytes(300),
        arrow[: len(arrow) // 2],
        b'{"value": "' + b"x" * 1_000_000 + b'"}',
        b'{"schema": "orders.v2", "order": {"id": 7, "total": "12.50"}}',
        b"[" * 15_000,
    ]
    producer = Producer({"bootstrap.servers": gateway_broker, "message.max.bytes": 1_048_576})

    with running_door(gateway_broker) as door:
        for number, value in enumerate(poison):
            for topic in (ASSIGNMENTS.name, METRICS.name):
                headers = {"litmus.kind": "batch"}  # of another topic
                producer.produce(topic, value, f"{prefix}-{number}", 0, headers=headers)
            (good,) = metric_events(f"{prefix}-{number}", 1)
            producer.produce(METRICS.name, good, f"{prefix}-good", 0)
        assert producer.flush(120) == 0
        wait_until(lambda: len(ids_with(gateway_broker, prefix)) == len(poison), "neighbours")
        letters = dead_letters_with_keys(gateway_broker, f"{prefix}-")
        assert door.state()["ready"]
        assert door.metric('litmus_gateway_door_halted{reason="dead_letters"}') == 0
        door.process.send_signal(signal.SIGTERM)
        assert door.process.wait(120) == 0

    assert set(ids_with(gateway_broker, prefix).values()) == {1}
    expected = [
        (f"{prefix}-{number}", topic)
        for number in range(len(poison))
        for topic in (ASSIGNMENTS.name, METRICS.name)
    ]
    assert sorted((key, headers["litmus.dlq.topic"]) for key, headers, _ in letters) == expected
    assert {headers["litmus.dlq.code"] for _, headers, _ in letters} == {"malformed", "too_large"}
    for key, headers, value in letters:
        original = poison[int(key.rsplit("-", 1)[1])] or b""
        assert value == original[: len(value)]
        assert len(value) == len(original) or headers["litmus.dlq.bytes"] == str(len(original))
        assert int(headers["litmus.dlq.offset"]) >= 0


def dead_letters_with_keys(bootstrap: str, prefix: str) -> list[tuple[str, dict[str, str], bytes]]:
    return [
        (message.key.decode(), {n: value.decode() for n, value in message.headers}, message.value)
        for log in read_topic(bootstrap, DEAD_LETTERS.name)
        for message in log
        if message.key is not None and message.key.decode().startswith(prefix)
    ]


def test_too_many_dead_letters_stop_the_door_loudly_and_lose_nothing(
    gateway_broker: str, produce: Callable[[str, list[bytes]], dict[int, int]]
) -> None:
    prefix = uuid.uuid4().hex
    bad = [prefix.encode() + b"%d" % number + b"x" * 1_000 for number in range(8)]

    with running_door(gateway_broker, LITMUS_DEAD_LETTER_BYTES_PER_HOUR="5000") as door:
        for one in bad:
            (stamp_ms,) = produce(METRICS.name, [one]).values()
            wait_until(
                partial(has_passed, gateway_broker, door, stamp_ms),
                "it is taken, or the door halts",
            )
        why = door.wait_halted()
        stamps = produce(METRICS.name, metric_events(prefix, 50))
        wait_until(
            lambda: max(highest_marks(gateway_broker).values()) > max(stamps.values()),
            "sources without records are reported on: the door goes round, and reads nothing",
        )
        assert not ids_with(gateway_broker, prefix)
        assert door.metric('litmus_gateway_door_halted{reason="dead_letters"}') == 1
        assert not door.state()["ready"]
        assert min(highest_marks(gateway_broker).values()) < min(stamps.values())
        door.process.send_signal(signal.SIGTERM)
        assert door.process.wait(120) == 0

    assert "LITMUS_DEAD_LETTER_BYTES_PER_HOUR" in why
    assert "malformed" in why
    with running_door(gateway_broker):
        wait_until(lambda: len(ids_with(gateway_broker, prefix)) == 50, "good records are there")
    assert set(set_aside(gateway_broker, prefix)) == set(bad)


def has_passed(bootstrap: str, door: Door, stamp_ms: int) -> bool:
    """Return whether the door has taken all records up to a time, or stands still."""
    is_halted = door.state()["halted"] is not None
    return is_halted or min(highest_marks(bootstrap).values()) > stamp_ms


def test_records_that_left_their_topic_stop_the_door_until_someone_accepts_it(
    gateway_broker: str, produce: Callable[[str, list[bytes]], dict[int, int]]
) -> None:
    prefix = uuid.uuid4().hex
    one, *others = metric_events(prefix, 11)
    with running_door(gateway_broker) as door:
        produce(METRICS.name, [one])
        wait_until(lambda: len(ids_with(gateway_broker, prefix)) == 1, "it is taken")
        door.process.send_signal(signal.SIGTERM)
        assert door.process.wait(120) == 0
    producer = Producer({"bootstrap.servers": gateway_broker})
    for value in others:
        producer.produce(METRICS.name, value, partition=0)
    assert producer.flush(120) == 0
    cut(gateway_broker, METRICS.name, keep=2)

    with started_door(gateway_broker) as door:
        why = door.wait_halted()
        marks, seen = highest_marks(gateway_broker), door.metric(VIEW_TICK)
        wait_until(
            lambda: door.metric(VIEW_TICK) >= seen + 100,
            "it follows the log for a hundred ticks: a door that went on would write marks",
        )
        assert door.state()["halted"] == why
        assert highest_marks(gateway_broker) == marks
        door.process.send_signal(signal.SIGTERM)
        assert door.process.wait(120) == 0
    assert "litmus.metrics/0 lost the records" in why
    assert "LITMUS_SOURCE_GAPS=accept" in why

    with running_door(gateway_broker, LITMUS_SOURCE_GAPS="accept") as door:
        wait_until(lambda: len(ids_with(gateway_broker, prefix)) == 3, "what is left is taken")
        source = 'litmus_gateway_lost_source_records_total{source="litmus.metrics/0"}'
        assert door.metric(source) == 8


def cut(bootstrap: str, topic: str, *, keep: int) -> None:
    """Delete the records of partition 0 as retention does, but for the last ones."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    partition = TopicPartition(topic, 0)
    (found,) = admin.list_offsets({partition: OffsetSpec.latest()}).values()
    end = TopicPartition(topic, 0, found.result(60).offset - keep)
    (deleted,) = admin.delete_records([end]).values()
    deleted.result(60)
