"""The process on a real broker: killed at any moment it ends with the rows of the log; it serves
what it knows while Kafka is away, and goes when asked to.
"""

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client
from confluent_kafka import Producer

from schemas.topics import DEAD_LETTERS, EVENTS, LATE, LEDGER, LOOKS, SNAPSHOTS
from tests.query_api.builders import (
    BATCH_HEADERS,
    TICK_HEADERS,
    Event,
    as_of_ms,
    batch_value,
    ledger,
    look_value,
    snapshot_value,
    tick_value,
)
from tests.query_api.process import QueryApi, wait_until
from tools.broker import EmbeddedBroker
from tools.topics import create_topics

pytestmark = pytest.mark.machine

PARTITIONS = 2
KILLS = 3
ID = "checkout-color"


class Doors:
    """Writes what the doors and the engine would, and remembers every row."""

    def __init__(self, kafka: str, seed: int = 7) -> None:
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 0, "acks": "all"})
        self._rng = random.Random(seed)
        self._next_offset = dict.fromkeys(range(PARTITIONS), 0)
        self._received = dict.fromkeys(range(PARTITIONS), 0)
        self.events: list[list[Any]] = []
        self.late_count = 0
        self.rejected_count = 0
        self.tick = 0

    def write(self) -> None:
        """Write a tick everywhere, some batches, a late one, a dead letter, and a look."""
        self.tick += 1
        for partition in range(PARTITIONS):
            self._send(EVENTS.name, tick_value(self.tick), partition, TICK_HEADERS)
            self._next_offset[partition] += 1
            for _ in range(self._rng.randrange(4)):
                self._write_batch(partition, self._rng.randrange(1, 400))
        late = self._rng.randrange(1, 5)
        self._send(LATE.name, batch_value([Event()] * late), 0, BATCH_HEADERS)
        self.late_count += late
        self._send(DEAD_LETTERS.name, b"7", 0, (("litmus.dlq.code", b"malformed"),))
        self.rejected_count += 1
        self._send(LOOKS.name, look_value(self.tick), 0, ())
        self._send(SNAPSHOTS.name, snapshot_value(self.tick), 0, (), key=ID)
        cuts = {p: (self._next_offset[p], self._received[p]) for p in range(PARTITIONS)}
        self._send(LEDGER.name, json.dumps(ledger(self.tick, cuts)).encode(), 0, (), key="ledger")
        assert self._producer.flush(60) == 0

    def _write_batch(self, partition: int, count: int) -> None:
        offset = self._next_offset[partition]
        events = [Event(event_id=f"event-{self._rng.getrandbits(64):x}") for _ in range(count)]
        self._send(EVENTS.name, batch_value(events), partition, BATCH_HEADERS)
        self.events += [[partition, offset, row, e.event_id] for row, e in enumerate(events)]
        self._next_offset[partition] += 1
        self._received[partition] += count

    def _send(
        self, topic: str, value: bytes, partition: int, headers: Any, key: str | None = None
    ) -> None:
        self._producer.produce(topic, value, key, partition, headers=list(headers))


def test_a_process_killed_at_any_moment_ends_with_the_rows_of_the_log(
    broker: Any, topics: Callable[[int], None], tmp_path: Path
) -> None:
    topics(PARTITIONS)
    doors, rng = Doors(broker.bootstrap), random.Random(7)
    with QueryApi(tmp_path, broker.bootstrap) as api:
        for _ in range(KILLS):
            api.start()
            wait_until(lambda: is_ready_after_more(api, doors), "ready under load", api.explain)
            killed_at = time.monotonic() + rng.uniform(0.1, 2.0)
            while time.monotonic() < killed_at:
                doors.write()
            assert api.stop(signal.SIGKILL) == -signal.SIGKILL
        api.start()
        api.wait_until_ready()

        found = api.get("/v1/ledger?thorough=true")
        assert found["balanced"]
        assert api.get("/v1/ledger")["clickhouse"] == found["clickhouse"]
        count = len(doors.events)
        assert found["clickhouse"] == {"rows": count, "missing": 0, "extra": 0}
        assert found["doors"] == {
            "posted": count + doors.late_count + doors.rejected_count,
            "received": count,
            "late": doors.late_count,
            "rejected": doors.rejected_count,
        }
        assert api.get(f"/v1/experiments/{ID}/results?tick=5")["look"]["tick"] == 5
        assert api.stop() == 0

        columns = "kafka_partition, kafka_offset, row, event_id"
        rows = api.stored(f"SELECT {columns} FROM events FINAL ORDER BY 1, 2, 3")
        assert rows == sorted(doors.events)
        assert api.stored("SELECT tick FROM looks FINAL ORDER BY tick") == [
            [tick] for tick in range(1, doors.tick + 1)
        ]
        assert api.stored("SELECT count() FROM late FINAL") == [[doors.late_count]]
        assert api.stored("SELECT count() FROM dead_letters FINAL") == [[doors.rejected_count]]


def test_it_serves_what_it_knows_while_kafka_is_away_and_goes_when_asked(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "broker") as broker, QueryApi(tmp_path, broker.bootstrap) as api:
        create_topics(broker.bootstrap, PARTITIONS)
        doors = Doors(broker.bootstrap)
        doors.write()
        api.start()
        api.wait_until_ready()
        address = f"ws://{api.address}/v1/experiments/{ID}/live"
        with websockets.sync.client.connect(
            address, open_timeout=60, ping_interval=None
        ) as follower:
            assert look_of(follower) == 1
            broker.stop(signal.SIGKILL)

            assert api.get(f"/v1/experiments/{ID}/results")["look"]["tick"] == 1
            assert api.get(f"/v1/experiments/{ID}/timeseries")["rows"][0]["ts"] == as_of_ms(1)
            assert api.get("/v1/ledger")["balanced"]

            broker.start()
            doors.write()
            wait_until(lambda: look_of(follower) == 2, "the newer look, heartbeats apart")
            count = len(doors.events)
            wait_until(lambda: api.get("/v1/ledger")["clickhouse"]["rows"] == count, "stored")
            assert api.stop() == 0
            with pytest.raises(websockets.ConnectionClosed):
                follow_to_the_end(follower)


def is_ready_after_more(api: QueryApi, doors: Doors) -> bool:
    doors.write()
    return api.ready() is not None


def follow_to_the_end(follower: Any) -> None:
    while True:
        follower.recv(timeout=60)


def look_of(follower: Any) -> int:
    tick: int = json.loads(follower.recv(timeout=60))["look"]["tick"]
    return tick
