"""However many workers share a log, and however they come and go, looks are the same.

One broker, one log, written once and copied for every number of workers; then a stack whose workers
join, are drained, and are frozen for longer than their group waits for them.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from schemas.control import DefinitionChange
from schemas.definitions import Interval
from schemas.partials import decode_partial
from schemas.topics import CONTROL, EVENTS, KIND_HEADER, LOOKS, PARTIALS
from stream_processors.log_reading import read_to_end
from tests.stack import Broker, Stack, wait_until
from tests.stream_processors.accumulate.builders import (
    assignment,
    batch,
    definition,
    measured,
    partition_of,
)
from tests.stream_processors.accumulate.real_logs import RealLogs
from tools.ports import free_ports
from tools.processes import probe_state
from tools.settings import CHECKOUT, Settings
from tools.workers import owners

pytestmark = pytest.mark.machine

PARTITIONS = 4
TICKS = 40
UNITS_PER_TICK = 25
SEED = 20_261_123
SESSION_TIMEOUT_S = 10.0
STALL_S_MAX = 10.0
FROZEN_S = SESSION_TIMEOUT_S + 3.0

Look = dict[str, Any]
Key = tuple[str, int]


def write_log(bootstrap: str) -> RealLogs:
    """Write ticks, and people who come with them and do things."""
    random, logs = Random(SEED), RealLogs(bootstrap, PARTITIONS)
    logs.tick(DefinitionChange(definition("x", intervals=[])))
    logs.tick(DefinitionChange(definition("x", started_at_ms=0, intervals=[Interval(0)])))
    for number in range(TICKS):
        at = logs.tick().times.log_ms
        events = defaultdict(list)
        for unit in (f"u{number}.{one}" for one in range(UNITS_PER_TICK)):
            came = assignment(unit, f"a{unit}", at, variant=random.choice("ct"))
            bought = measured(unit, f"m{unit}", at + 1, value=random.randint(0, 3))
            events[partition_of(came, PARTITIONS)] += [came, bought]
        for partition, those in events.items():
            logs.post(partition, batch(those))
    logs.tick()
    return logs


def copy_log(bootstrap: str, control: list[bytes], logs: RealLogs) -> None:
    """Write the same messages at the same offsets of topics that are empty."""
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for value in control:
        producer.produce(CONTROL.name, value=value, partition=0)
    for partition, messages in logs.messages.items():
        for kind, value in messages:
            headers = [(KIND_HEADER, kind)]
            producer.produce(EVENTS.name, value=value, partition=partition, headers=headers)
    assert producer.flush(120) == 0


@contextmanager
def processes(bootstrap: str, home: Path, workers: int) -> Iterator[list[int]]:
    """Run merge and so many accumulate workers; their ports, merge's first."""
    names = ["merge", *(f"accumulate-{number}" for number in range(workers))]
    ports = free_ports(len(names))
    running = []
    for name, port in zip(names, ports, strict=True):
        own = {
            "LITMUS_KAFKA": bootstrap,
            "LITMUS_INSTANCE": f"{name}-of-{workers}",
            "LITMUS_PROBE_PORT": str(port),
            "LITMUS_PARTITIONS": str(PARTITIONS),
        }
        with (home / f"{name}-of-{workers}.log").open("ab") as log:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", f"stream_processors.{name.split('-')[0]}"],
                    cwd=CHECKOUT,
                    env=Settings(home=home).environment() | own,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    try:
        yield ports
    finally:
        for process in running:
            process.send_signal(signal.SIGUSR2)  # for good: the next ones need not wait for them
        for process in running:
            assert process.wait(120) == 0


def looks_of(bootstrap: str) -> dict[Key, Look]:
    """Return every look that was published; two of one experiment and tick must be equal."""
    looks: dict[Key, Look] = {}
    for message in (m for some in read_to_end(bootstrap, LOOKS.name, {0: None}) for m in some):
        body = json.loads(message.value() or b"")
        key = (body["experiment_id"], body["look"]["tick"])
        assert looks.setdefault(key, body)["look"]["sha256"] == body["look"]["sha256"]
    return looks


def test_one_two_and_three_workers_publish_the_same_looks(
    broker: Broker, topics: Callable[[int], None], tmp_path: Path
) -> None:
    topics(PARTITIONS)
    logs = write_log(broker.bootstrap)
    assert logs.fold.last is not None
    last = logs.fold.last.record.number
    control = [
        message.value() or b""
        for some in read_to_end(broker.bootstrap, CONTROL.name, {0: None})
        for message in some
    ]
    hashes = {}
    for workers in (1, 2, 3):
        topics(PARTITIONS)
        copy_log(broker.bootstrap, control, logs)
        with processes(broker.bootstrap, tmp_path, workers) as ports:
            wait_until(
                lambda: probe_state("127.0.0.1", ports[0]).get("tick") == last,
                f"{workers} workers have published the last look",
                180,
                lambda: "\n".join(log.read_text()[-2_000:] for log in tmp_path.glob("*.log")),
            )
            shares = [len(probe_state("127.0.0.1", port)["partitions"]) for port in ports[1:]]
        looks = looks_of(broker.bootstrap)
        hashes[workers] = {key: look["look"]["sha256"] for key, look in looks.items()}
        assert sum(shares) == PARTITIONS
        assert min(shares) > 0
    assert hashes[1] == hashes[2] == hashes[3]
    assert len(hashes[1]) > TICKS // 2
    units = [one["units"] for one in looks["x", last]["variants"]]
    assert sum(units) == TICKS * UNITS_PER_TICK


class Crowd(threading.Thread):
    """Sends one unit after the other, each with an event, until it is accepted.

    Attributes:
        count: Units that were accepted.
    """

    def __init__(self, gateway_url: str) -> None:
        super().__init__(daemon=True)
        self._client = httpx.Client(base_url=gateway_url, timeout=5.0)
        self._is_over = threading.Event()
        self.count = 0

    def run(self) -> None:
        while not self._is_over.wait(0.02):
            unit, at = f"unit-{self.count}", round(time.time() * 1_000)
            arrival = {"type": "assignment", "event_id": "a", "unit_id": unit, "timestamp": at}
            arrival |= {"experiment_id": "x", "variant": "ct"[self.count % 2]}
            deed = {"type": "metric", "event_id": "m", "unit_id": unit, "timestamp": at}
            while self._post([arrival, deed | {"metric": "buy", "value": 1}]) != 202:
                time.sleep(0.1)
            self.count += 1

    def end(self) -> int:
        self._is_over.set()
        self.join()
        return self.count

    def _post(self, events: list[Look]) -> int:
        try:
            return self._client.post("/v1/events", json=events).status_code
        except httpx.TransportError:
            return 0


class Reports:
    """Reads litmus.partials: how long was each partition without a report?"""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    def longest_gap_s(self, since_s: float) -> float:
        """Return the longest time, in any partition, without news of a further tick."""
        began_ms = since_s * 1_000
        at: dict[int, tuple[int, float]] = {}
        longest_ms = 0.0
        for some in read_to_end(self._bootstrap, PARTIALS.name, {0: None}):
            for message in some:
                partial, now_ms = decode_partial(message.value() or b""), message.timestamp()[1]
                tick, before_ms = at.get(partial.partition, (0, began_ms))
                if partial.tick > tick:  # a repeated one is no news
                    if now_ms > began_ms:
                        longest_ms = max(longest_ms, now_ms - max(before_ms, began_ms))
                    at[partial.partition] = partial.tick, now_ms
        return longest_ms / 1_000


def begin(stack: Stack) -> None:
    """Create and start an experiment."""
    with httpx.Client(base_url=stack.gateway_url, timeout=60.0) as client:
        metric = {"id": "bought", "kind": "conversion", "event": "buy", "window": "1h"}
        variants = [{"id": "c", "weight": 1}, {"id": "t", "weight": 1}]
        body = {"id": "x", "variants": variants, "metrics": [metric]}
        assert client.post("/v1/experiments", json=body).status_code == 201
        assert client.post("/v1/experiments/x/start", json={}).is_success


def owned_once(stack: Stack) -> dict[str, int]:
    """Return how many partitions each worker owns; empty unless each has one owner."""
    found = owners(stack.home)
    if sorted(found) != list(range(8)) or any(len(names) != 1 for names in found.values()):
        return {}
    shares: dict[str, int] = defaultdict(int)
    for [name] in found.values():
        shares[name] += 1
    return dict(shares)


@pytest.fixture
def moving(tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path / "stack") as running:
        begin(running)
        yield running


@pytest.mark.alone
def test_workers_join_freeze_and_are_drained_and_no_partition_waits_long(moving: Stack) -> None:
    crowd, reports = Crowd(moving.gateway_url), Reports(moving.kafka)
    crowd.start()
    gaps = {}

    began = time.time()
    assert moving.litmus("worker", "add").returncode == 0, moving.explain()
    assert owned_once(moving) == {"accumulate-0": 4, "accumulate-1": 4}
    gaps["join"] = reports.longest_gap_s(began)

    # Frozen for longer than the group waits: the other takes over; then it wakes, a zombie.
    began, zombie = time.time(), moving.kill("accumulate-1", signal.SIGSTOP)
    try:
        time.sleep(FROZEN_S)
        wait_until(
            lambda: probe_live(moving, "accumulate-0") == 8,
            "the other took over",
            120,
            moving.explain,
        )
        gaps["lost worker"] = reports.longest_gap_s(began)
    finally:
        os.kill(zombie, signal.SIGCONT)
    wait_until(lambda: len(owned_once(moving)) == 2, "both share again", 120, moving.explain)

    began = time.time()
    drained = moving.litmus("worker", "drain", "accumulate-1")
    assert drained.returncode == 0, drained.stdout + moving.explain()
    assert owned_once(moving) == {"accumulate-0": 8}
    gaps["drain"] = reports.longest_gap_s(began)
    assert "only accumulate worker" in moving.litmus("worker", "drain", "accumulate-0").stdout

    count = crowd.end()
    wait_until(lambda: units_shown(moving) == count, f"{count} units", 120, moving.explain)
    assert_looks_move_on(moving.kafka)
    assert gaps["join"] < STALL_S_MAX, gaps
    assert gaps["drain"] < STALL_S_MAX, gaps
    assert gaps["lost worker"] < SESSION_TIMEOUT_S + 5, gaps


def probe_live(stack: Stack, name: str) -> int:
    """Return how many partitions are live in a worker."""
    [port] = [one["port"] for one in stack.describe()["processes"] if one["name"] == name]
    return len(probe_state("127.0.0.1", port).get("live", []))


def units_shown(stack: Stack) -> int:
    """Return the units of the latest results."""
    answer = httpx.get(f"{stack.query_url}/v1/experiments/x/results", timeout=60.0).json()
    return sum(one["units"] for one in answer["variants"])


def assert_looks_move_on(bootstrap: str) -> None:
    """Hold looks to: one for each tick, later ones of later ticks, no unit lost on the way."""
    seen_tick, seen_units = 0, 0
    for (_, tick), look in looks_of(bootstrap).items():
        units = sum(one["units"] for one in look["variants"])
        assert tick > seen_tick
        assert units >= seen_units
        seen_tick, seen_units = tick, units
