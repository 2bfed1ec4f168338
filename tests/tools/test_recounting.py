"""What the engine remembers is emptied, and nothing else; never while a stack runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.topics import CONTROL, EVENTS, LOOKS, PARTIALS
from stream_processors.log_reading import read_to_end
from tests.stack import Broker
from tools.errors import AlreadyRunningError, LitmusError, TopicMismatchError
from tools.home import Home
from tools.recounting import FORGOTTEN, recount, require_whole, saying_to_go_on
from tools.settings import Settings
from tools.topics import partition_counts

KEPT = (CONTROL.name, EVENTS.name, LOOKS.name)


def read(bootstrap: str, topic: str) -> list[Message]:
    return [message for some in read_to_end(bootstrap, topic, {0: None}) for message in some]


def write_everywhere(broker: Broker) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for topic in (*FORGOTTEN, *KEPT):
        producer.produce(topic, b"value", b"key", 0)
    assert producer.flush(60) == 0


def lengths(broker: Broker, *names: str) -> list[int]:
    return [len(read(broker.bootstrap, name)) for name in names]


def test_what_the_engine_remembers_is_emptied_and_the_log_stays(
    broker: Broker, topics: Callable[[int], None], tmp_path: Path
) -> None:
    topics(3)
    before = partition_counts(broker.bootstrap)
    write_everywhere(broker)
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


@pytest.mark.parametrize("name", [EVENTS.name, CONTROL.name])
def test_nothing_is_emptied_when_the_log_was_trimmed(
    name: str, broker: Broker, topics: Callable[[int], None], tmp_path: Path
) -> None:
    topics(3)
    write_everywhere(broker)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for deleted in admin.delete_records([TopicPartition(name, 0, 1)]).values():
        assert deleted.result(60).low_watermark == 1

    with pytest.raises(LitmusError, match=rf"{name}/0 begins at offset 1, .*from a copy"):
        recount(Settings(home=tmp_path, kafka=broker.bootstrap, partitions=3))

    assert lengths(broker, *FORGOTTEN) == [1, 1, 1]


def test_nothing_is_emptied_under_another_number_of_partitions(
    broker: Broker, topics: Callable[[int], None], tmp_path: Path
) -> None:
    topics(3)
    write_everywhere(broker)

    with pytest.raises(TopicMismatchError, match="Set LITMUS_PARTITIONS=3"):
        recount(Settings(home=tmp_path, kafka=broker.bootstrap, partitions=4))

    assert lengths(broker, *FORGOTTEN) == [1, 1, 1]


def test_one_that_stopped_half_way_is_finished_by_another(
    broker: Broker, topics: Callable[[int], None], tmp_path: Path
) -> None:
    topics(3)
    write_everywhere(broker)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for deleted in admin.delete_topics(list(FORGOTTEN[:1])).values():
        deleted.result(60)

    recount(Settings(home=tmp_path, kafka=broker.bootstrap, partitions=3))

    assert partition_counts(broker.bootstrap).keys() >= set(FORGOTTEN)
    assert lengths(broker, *FORGOTTEN, *KEPT) == [0, 0, 0, 1, 1, 1]


def test_accumulate_forgets_first_and_reports_go_last() -> None:
    assert [name.split("-")[1] for name in FORGOTTEN[:2]] == ["accumulate", "merge"]
    assert FORGOTTEN[2:] == (PARTIALS.name,)


def test_a_log_is_whole_when_every_partition_begins_at_its_first_record() -> None:
    whole = {(CONTROL.name, 0): 0, (EVENTS.name, 0): 0, (EVENTS.name, 1): 0}
    require_whole(whole)

    for place in whole:
        with pytest.raises(LitmusError, match=f"{place[0]}/{place[1]} begins at offset 7, "):
            require_whole({**whole, place: 7})
    for name in (CONTROL.name, EVENTS.name):
        left = {place: first for place, first in whole.items() if place[0] != name}
        with pytest.raises(LitmusError, match=f"{name} is not there"):
            require_whole(left)


def test_an_error_amid_deleting_says_how_to_go_on() -> None:
    with (
        pytest.raises(LitmusError, match=r"^it broke\. .*run `litmus recount` again"),
        saying_to_go_on(),
    ):
        raise LitmusError("it broke")
