"""Control goes on ticking however large the definitions are, on a real broker; it starts again."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.control import SNAPSHOT_EVERY, ControlRecord, ControlState, Settings, Times
from schemas.control import decode_record as decoded
from schemas.topics import CONTROL
from stream_processors.control.writing import SNAPSHOT_BYTES_MAX, SNAPSHOT_JSON_BYTES_MAX
from tests.stack import Broker, wait_until
from tests.stream_processors.control.operating import BODY
from tests.stream_processors.control.operating import Operator as Folding
from tests.stream_processors.control.test_worker import PARTITIONS, ControlProcess
from tests.tools.test_topic_settings import SIZE, set_topic, setting

pytestmark = [pytest.mark.timeout(500), pytest.mark.long]

MARGIN = 3_000
"""Bytes by which records of the same state may differ: times, offsets, who wrote it."""

TEXT_BYTES = 9_000
PLAIN = ("the new form makes more visitors buy, because it is shorter; " * 200)[:TEXT_BYTES]

Start = Callable[[], ControlProcess]


@pytest.fixture
def start(broker: Broker, topics: Callable[[int], None], tmp_path: Path) -> Iterator[Start]:
    topics(PARTITIONS)
    with ExitStack() as ends:

        def start_one() -> ControlProcess:
            process = ControlProcess(broker, tmp_path)
            ends.callback(process.end)
            return process

        yield start_one


def log_with(text: Callable[[], str], json_bytes: int) -> bytes:
    """Return the record before a snapshot is due, with archived definitions of about that size."""
    operator = Folding()
    operator.send("create", **BODY)
    one, definitions, size = operator.x, {}, 0
    while size < json_bytes - 2 * TEXT_BYTES:
        named = msgspec.structs.replace(
            one, id=f"x{len(definitions)}", ordinal=len(definitions), status="archived", name=text()
        )
        definitions[named.id] = named
        size += len(msgspec.json.encode(named)) + len(named.id) + 4
    state = ControlState(definitions, Settings())
    record = ControlRecord(
        "log", SNAPSHOT_EVERY - 1, Times(0, 0, 0), None, 0, 0, [], [], -1, state, "seed"
    )
    short = json_bytes - len(msgspec.json.encode(record))
    last = msgspec.structs.replace(named, name=named.name + "x" * short)
    record = msgspec.structs.replace(
        record, snapshot=ControlState(definitions | {named.id: last}, Settings())
    )
    value = msgspec.json.encode(record)
    assert len(value) == json_bytes
    return value


def seed(broker: Broker, value: bytes) -> None:
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "message.max.bytes": 32_000_000,
            "compression.type": "zstd",
        }
    )
    failures = []
    producer.produce(
        CONTROL.name, value, b"999", on_delivery=lambda error, _: failures.append(error)
    )
    assert producer.flush(60) == 0
    assert failures == [None]


def record_at(broker: Broker, offset: int) -> ControlRecord:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "tests"})
    try:
        consumer.assign([TopicPartition(CONTROL.name, 0, offset)])
        (message,) = consumer.consume(1, 30)
        return decoded(message.value())
    finally:
        consumer.close()


def assert_ticks_on_and_starts_again(process: ControlProcess, start: Start) -> None:
    process.wait_ready()
    wait_until(lambda: process.readiness().get("tick", 0) > SNAPSHOT_EVERY + 5, "it ticks on", 120)
    process.end()
    other = start()
    other.wait_ready()
    before = other.readiness().get("tick", 0)
    wait_until(lambda: other.readiness().get("tick", 0) > before + 5, "the next one ticks", 120)


def random_text() -> Callable[[], str]:
    """Return texts that compress to three quarters: as many random bytes in base 64."""
    rng = random.Random(1)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return lambda: "".join(rng.choices(letters, k=TEXT_BYTES))


@pytest.mark.parametrize(
    ("json_bytes", "carried"),
    [(SNAPSHOT_JSON_BYTES_MAX - MARGIN, True), (SNAPSHOT_JSON_BYTES_MAX + MARGIN, False)],
    ids=["just-below", "just-above"],
)
def test_control_ticks_on_past_the_largest_snapshot_and_the_next_writer_starts(
    broker: Broker, start: Start, json_bytes: int, *, carried: bool
) -> None:
    seed(broker, log_with(lambda: PLAIN, json_bytes))

    process = start()

    assert_ticks_on_and_starts_again(process, start)
    due = record_at(broker, 1)
    assert due.number == SNAPSHOT_EVERY
    assert (due.snapshot is not None) == carried
    assert ("carries no snapshot" in process.log.read_text()) != carried


def test_the_topic_takes_the_largest_snapshot_that_hardly_compresses(
    broker: Broker, start: Start
) -> None:
    value = log_with(random_text(), round(SNAPSHOT_BYTES_MAX / 0.697))
    assert len(value) > 1.25 * SNAPSHOT_BYTES_MAX
    seed(broker, value)

    assert_ticks_on_and_starts_again(start(), start)

    assert record_at(broker, 1).snapshot is not None


def test_a_topic_of_an_earlier_version_gets_the_tick_without_its_snapshot(
    broker: Broker, start: Start
) -> None:
    seed(broker, log_with(random_text(), 3_000_000))
    set_topic(broker.bootstrap, CONTROL.name, SIZE, "1048576")
    wait_until(lambda: setting(broker.bootstrap, CONTROL.name, SIZE) == "1048576", "it takes less")

    process = start()

    assert_ticks_on_and_starts_again(process, start)
    assert record_at(broker, 1).snapshot is None
    assert "litmus topics create raises what litmus.control takes" in process.log.read_text()
