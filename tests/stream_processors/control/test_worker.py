"""The control process on a real broker: killed, frozen, twice at once, it stays one sequence."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.control import (
    TICKS_PER_SECOND,
    Command,
    ControlFold,
    ControlRecord,
    Mark,
    Outcome,
    decode_record,
    decode_tick,
)
from schemas.topics import (
    COMMANDS,
    CONTROL,
    CONTROL_APP,
    EVENTS,
    KIND_HEADER,
    KIND_TICK,
    MARKS,
    OUTCOMES,
    SOURCES,
)
from tests.stack import Broker, wait_until
from tools.ports import free_ports

PARTITIONS = 3
BODY = {"variants": [{"id": "a"}, {"id": "b"}], "metrics": [{"id": "m", "kind": "count"}]}


class ControlProcess:
    """``python -m stream_processors.control``, to be stopped and killed."""

    def __init__(self, broker: Broker, home: Path, instance: str = "control-0") -> None:
        (self._port,) = free_ports(1)
        environment = {
            "LITMUS_KAFKA": broker.bootstrap,
            "LITMUS_HOME": str(home),
            "LITMUS_INSTANCE": instance,
            "LITMUS_PARTITIONS": str(PARTITIONS),
            "LITMUS_PROBE_PORT": str(self._port),
        }
        self.log = home / f"{instance}-{self._port}.log"
        self._output = self.log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stream_processors.control"],
            env=os.environ | environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def probe(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=2) as answer:
            return bytes(answer.read())

    def readiness(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.probe("/ready")))
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return {"ready": False, "role": None}

    def wait_ready(self, role: str = "writer") -> None:
        wait_until(
            lambda: self.readiness()["ready"] and self.readiness()["role"] == role,
            f"control is a ready {role}",
            120,
            explain=self.log.read_text,
        )

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        return self._process.wait(120)

    def end(self) -> None:
        self._process.kill()
        self._process.wait(30)
        self._output.close()


Start = Callable[..., ControlProcess]


@pytest.fixture
def start(broker: Broker, topics: Callable[[int], None], tmp_path: Path) -> Iterator[Start]:
    topics(PARTITIONS)
    with ExitStack() as ends:

        def start_one(instance: str = "control-0") -> ControlProcess:
            process = ControlProcess(broker, tmp_path, instance)
            ends.callback(process.end)
            return process

        yield start_one


class Operator:
    """Sends commands and waits for their outcomes."""

    def __init__(self, broker: Broker) -> None:
        self._bootstrap = broker.bootstrap
        self._producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0})
        self.sent: list[str] = []

    def send(self, action: str, experiment_id: str, **body: Any) -> str:
        command = Command(f"c{len(self.sent)}", action, experiment_id, body=body)
        self.sent.append(command.id)
        self._producer.produce(COMMANDS.name, msgspec.json.encode(command), command.id)
        assert self._producer.flush(30) == 0
        return command.id

    def outcome(self, command_id: str) -> Outcome:
        found: list[Outcome] = []

        def look() -> bool:
            found[:] = [outcome for outcome in self.outcomes() if outcome.command_id == command_id]
            return bool(found)

        wait_until(look, f"{command_id} is answered")
        return found[0]

    def outcomes(self) -> list[Outcome]:
        records = records_of(self._bootstrap, OUTCOMES.name, 0)
        return [msgspec.json.decode(record.value(), type=Outcome) for record in records]


def records_of(bootstrap: str, topic: str, partition: int) -> list[Any]:
    """Return all that a partition holds now."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "tests"})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), 60)
        consumer.assign([TopicPartition(topic, partition, 0)])
        records: list[Any] = []
        while len(records) < end:
            records += consumer.consume(end - len(records), 10)
        return records
    finally:
        consumer.close()


def valid_records(bootstrap: str) -> tuple[list[ControlRecord], list[bytes], int]:
    """Return the records that count, their ticks, and how many records were ignored."""
    fold, records, ticks = ControlFold(), [], []
    for record in records_of(bootstrap, CONTROL.name, 0):
        winner = fold.take(record.offset(), record.timestamp()[1], record.value())
        if winner is not None:
            records.append(winner.record)
            ticks.append(msgspec.json.encode(fold.tick()))
    return records, ticks, fold.ignored_count


def assert_one_sequence(bootstrap: str, operator: Operator) -> int:
    """Check all that the protocol promises; return how many records had lost."""
    partitions = [records_of(bootstrap, EVENTS.name, one) for one in range(PARTITIONS)]
    records, ticks, ignored_count = valid_records(bootstrap)
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    for copies in partitions:
        last = 0
        for copy in copies:
            assert dict(copy.headers()) == {KIND_HEADER: KIND_TICK}
            number = decode_tick(copy.value()).number
            assert number <= last + 1
            assert copy.value() == ticks[number - 1]
            last = max(last, number)
        assert last > len(records) - 25

    told = [outcome for record in records for outcome in record.outcomes]
    assert [outcome.command_id for outcome in told] == operator.sent
    assert {one.command_id: one for one in operator.outcomes()} == {
        one.command_id: one for one in told
    }
    return ignored_count


def ticks_until_done(bootstrap: str) -> int:
    """Return after how many ticks the newest command was done, by the broker's clock."""
    asked_ms = records_of(bootstrap, COMMANDS.name, 0)[-1].timestamp()[1]
    told = [
        bool(decode_record(one.value()).outcomes)
        for one in records_of(bootstrap, CONTROL.name, 0)
        if one.timestamp()[1] >= asked_ms
    ]
    return told.index(True) + 1


def test_a_command_is_answered_within_few_ticks_and_these_reach_every_partition(
    broker: Broker, start: Start
) -> None:
    control, operator = start(), Operator(broker)
    control.wait_ready()
    operator.outcome(operator.send("create", "x", **BODY, id="x"))
    started = operator.outcome(operator.send("start", "x"))
    assert ticks_until_done(broker.bootstrap) <= 2 * TICKS_PER_SECOND  # mostly two ticks

    assert started.status == 200
    assert started.definition is not None
    assert started.definition.status == "running"
    assert started.definition.version == 1
    assert b'litmus_control_commands_total{outcome="done"} 2.0' in control.probe("/metrics")
    control.send_signal(signal.SIGTERM)
    assert control.wait() == 0, control.log.read_text()[-4_000:]
    assert assert_one_sequence(broker.bootstrap, operator) == 0


def test_ticks_stay_one_sequence_through_kills_freezes_and_two_of_the_same_name(
    broker: Broker, start: Start
) -> None:
    control, operator = start(), Operator(broker)
    control.wait_ready()
    operator.outcome(operator.send("create", "x", **BODY, id="x"))
    for action in ("start", "pause"):
        operator.send(action, "x")
        control.send_signal(signal.SIGKILL)
        control.wait()
        control = start()
        control.wait_ready()

    control.send_signal(signal.SIGSTOP)
    rival = start()
    rival.wait_ready()
    resumed = operator.send("resume", "x")
    operator.outcome(resumed)
    control.send_signal(signal.SIGCONT)
    for number in range(10):
        operator.outcome(operator.send("patch", "x", name=f"name {number}"))
    control.end()
    rival.wait_ready()
    operator.outcome(operator.send("stop", "x"))
    rival.send_signal(signal.SIGTERM)
    rival.wait()
    assert_one_sequence(broker.bootstrap, operator)


def test_windows_close_at_once_though_there_are_many_old_marks(
    broker: Broker, start: Start
) -> None:
    """The topic is compacted now and then; until then a door leaves many a minute."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 5})
    now_ms = int(time.time() * 1_000)
    sources = [f"{topic.name}/{number}" for topic in SOURCES for number in range(4)]
    for step in range(5_000):
        for source in sources:
            mark = Mark(source, now_ms - 5_000_000 + 1_000 * step)
            producer.produce(MARKS.name, msgspec.json.encode(mark), source.encode())
        producer.poll(0)
    for source in sources:
        mark = Mark(source, now_ms + 3_600_000)
        producer.produce(MARKS.name, msgspec.json.encode(mark), source.encode())
    assert producer.flush(120) == 0

    process = start()
    process.wait_ready()
    wait_until(lambda: process.readiness().get("tick", 0) > 2 * TICKS_PER_SECOND, "it ticks on")

    fold, lags_ms = ControlFold(), []
    for record in records_of(broker.bootstrap, CONTROL.name, 0):
        fold.take(record.offset(), record.timestamp()[1], record.value())
        assert fold.last is not None
        lags_ms.append(fold.last.times.log_ms - fold.last.times.settled_ms)
    assert lags_ms == [0] * len(lags_ms), "nothing holds windows open, at no tick"


def test_another_process_stands_by_and_takes_over(broker: Broker, start: Start) -> None:
    control, operator = start("control-0"), Operator(broker)
    control.wait_ready()
    standby = start("control-1")
    standby.wait_ready("standby")
    control.wait_ready()
    operator.outcome(operator.send("create", "x", **BODY, id="x"))
    control.send_signal(signal.SIGKILL)
    standby.wait_ready("writer")
    assert operator.outcome(operator.send("start", "x")).status == 200
    assert_one_sequence(broker.bootstrap, operator)


def test_a_process_that_its_group_refuses_ends_instead_of_waiting_for_ever(
    broker: Broker, start: Start
) -> None:
    stranger = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": CONTROL_APP,
            "partition.assignment.strategy": "range",
            "session.timeout.ms": 120_000,
        }
    )
    try:
        stranger.subscribe([CONTROL.name])

        def joined() -> bool:
            stranger.poll(0.1)
            return bool(stranger.assignment())

        wait_until(joined, "a member of another protocol is in the group")
        control = start()
        assert control.wait() == 1
        assert "GroupFailedError" in control.log.read_text()
    finally:
        stranger.close()
