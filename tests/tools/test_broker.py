"""The embedded broker: a real Kafka that keeps what it was given, also through a kill."""

import signal
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from tests.stack import create_fresh_topics
from tools.broker import EmbeddedBroker
from tools.errors import TopicMismatchError
from tools.topics import create_topics, partition_counts

TOPIC = "litmus.looks"


def produce(bootstrap: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in values:
        producer.produce(TOPIC, value)
    assert producer.flush(30) == 0


def consume(bootstrap: str, count: int) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([TOPIC])
    try:
        messages = []
        while len(messages) < count:
            got = consumer.consume(count - len(messages), timeout=60)
            assert got, f"{len(messages)} of {count} arrived"
            messages += got
        return [message.value() for message in messages]
    finally:
        consumer.close()


def test_it_keeps_records_through_a_kill(tmp_path: Path) -> None:
    values = [f"look {number}".encode() for number in range(100)]
    broker = EmbeddedBroker(tmp_path / "kafka")
    try:
        broker.start()
        create_topics(broker.bootstrap, 4)
        produce(broker.bootstrap, values[:50])

        broker.stop(signal.SIGKILL)
        broker.start()
        produce(broker.bootstrap, values[50:])

        assert consume(broker.bootstrap, 100) == values
        assert partition_counts(broker.bootstrap)["litmus.events"] == 4
        assert create_topics(broker.bootstrap, 4) == []
        with pytest.raises(TopicMismatchError, match=r"has 4 partitions, must have 8.*=4"):
            create_topics(broker.bootstrap, 8)

        create_fresh_topics(broker.bootstrap, 8)
        assert partition_counts(broker.bootstrap)["litmus.events"] == 8
    finally:
        broker.stop()
