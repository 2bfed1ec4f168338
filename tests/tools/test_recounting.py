"""What the engine remembers is emptied, and nothing else; never while a stack runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer

from schemas.topics import CONTROL, EVENTS, LOOKS
from stream_processors.log_reading import read_to_end
from tests.stack import Broker
from tools.errors import AlreadyRunningError
from tools.home import Home
from tools.recounting import FORGOTTEN, recount
from tools.settings import Settings
from tools.topics import partition_counts

KEPT = (CONTROL.name, EVENTS.name, LOOKS.name)


def read(bootstrap: str, topic: str) -> list[Message]:
    return [message for some in read_to_end(bootstrap, topic, {0: None}) for message in some]


def test_what_the_engine_remembers_is_emptied_and_the_log_stays(
    broker: Broker, topics: Callable[[int], None], tmp_path: Path
) -> None:
    topics(3)
    before = partition_counts(broker.bootstrap)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for topic in (*FORGOTTEN, *KEPT):
        producer.produce(topic, b"value", b"key", 0)
    assert producer.flush(60) == 0
    settings = Settings(home=tmp_path, kafka=broker.bootstrap, partitions=3)

    assert recount(settings) == list(FORGOTTEN)

    assert partition_counts(broker.bootstrap).items() >= before.items()
    assert {topic: read(broker.bootstrap, topic) for topic in FORGOTTEN} == {
        topic: [] for topic in FORGOTTEN
    }
    assert [len(read(broker.bootstrap, topic)) for topic in KEPT] == [1, 1, 1]


def test_nothing_is_emptied_while_a_stack_runs_from_the_home(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked(), pytest.raises(AlreadyRunningError, match="litmus down"):
        recount(Settings(home=tmp_path))
