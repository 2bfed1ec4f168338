"""What is read is what the broker holds: all of it, in order, to the end that there is."""

from collections.abc import Callable

import msgspec
import pytest
from confluent_kafka import Producer

from schemas.topics import CHANGELOGS, EVENTS, LEDGER
from stream_processors.log_reading import TopicMissingError, read_newest, read_to_end
from stream_processors.merge.agent import LedgerTick
from stream_processors.merge.worker import read_ledger_tick
from tests.stack import Broker

PARTITIONS = 3
CHANGELOG = CHANGELOGS[0].name


@pytest.fixture
def write(broker: Broker, topics: Callable[[int], None]) -> Callable[..., None]:
    topics(PARTITIONS)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})

    def write_one(topic: str, partition: int, key: bytes, value: bytes | None) -> None:
        producer.produce(topic, value, key, partition)
        assert producer.flush(30) == 0

    return write_one


def test_the_newest_value_of_every_key_is_read_and_what_was_deleted_is_not(
    broker: Broker, write: Callable[..., None]
) -> None:
    write(CHANGELOG, 0, b"a", b"old")
    write(CHANGELOG, 2, b"a", b"of another partition")
    write(CHANGELOG, 0, b"b", b"goes")
    write(CHANGELOG, 0, b"a", b"new")
    write(CHANGELOG, 0, b"b", None)

    assert read_newest(broker.bootstrap, CHANGELOG, [0, 1, 2]) == {
        0: {b"a": b"new"},
        1: {},
        2: {b"a": b"of another partition"},
    }
    assert read_newest(broker.bootstrap, CHANGELOG, [2]).keys() == {2}
    assert read_newest(broker.bootstrap, CHANGELOG, []) == {}


def test_reading_begins_where_it_is_told_to_and_keeps_the_order(
    broker: Broker, write: Callable[..., None]
) -> None:
    for number in range(7):
        write(EVENTS.name, number % 2, b"", b"%d" % number)

    found = [
        (one.partition(), one.offset(), one.value())
        for some in read_to_end(broker.bootstrap, EVENTS.name, {0: 1, 1: None, 2: 0})
        for one in some
    ]

    assert [one for one in found if one[0] == 0] == [(0, 1, b"2"), (0, 2, b"4"), (0, 3, b"6")]
    assert [one for one in found if one[0] == 1] == [(1, 0, b"1"), (1, 1, b"3"), (1, 2, b"5")]
    assert len(found) == 6


def test_a_topic_that_is_not_there_is_an_error_and_no_empty_log(
    broker: Broker, write: Callable[..., None]
) -> None:
    with pytest.raises(TopicMissingError, match=r"litmus\.nonsense"):
        read_newest(broker.bootstrap, "litmus.nonsense", [0])


def test_merge_reads_up_to_which_tick_the_ledger_says_that_all_is_published(
    broker: Broker, write: Callable[..., None]
) -> None:
    assert read_ledger_tick(broker.bootstrap) is None

    for tick in (7, 8):
        value = msgspec.json.encode({"tick": tick, "log_id": "log-1", "rows": {"received": 3}})
        write(LEDGER.name, 0, b"ledger", value)

    assert read_ledger_tick(broker.bootstrap) == LedgerTick("log-1", 8)
