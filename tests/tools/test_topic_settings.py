"""Topics that exist: too small ones are raised, those that would spoil counts are refused."""

from collections.abc import Callable

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from schemas.topics import EVENTS, LOOKS, SNAPSHOTS
from tests.stack import Broker, wait_until
from tools.errors import TopicMismatchError
from tools.topic_settings import SIZE
from tools.topics import EVERY_TOPIC, create_topics

PARTITIONS = 2


def set_topic(bootstrap: str, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})  # it answers while it is held
    [future] = admin.incremental_alter_configs([change]).values()
    future.result(30)
    wait_until(lambda: setting(bootstrap, topic, name) == value, f"{topic} has {name}={value}")


def setting(bootstrap: str, topic: str, name: str) -> str:
    asked = ConfigResource(ResourceType.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    [future] = admin.describe_configs([asked]).values()
    return str(future.result(30)[name].value)


def test_topics_that_were_made_smaller_are_raised_and_larger_ones_are_left(
    broker: Broker, topics: Callable[[int], None]
) -> None:
    topics(PARTITIONS)
    set_topic(broker.bootstrap, LOOKS.name, SIZE, "1048576")
    set_topic(broker.bootstrap, SNAPSHOTS.name, SIZE, "9000000")

    assert create_topics(broker.bootstrap, PARTITIONS) == []

    raised = LOOKS.broker_config()[SIZE]
    wait_until(lambda: setting(broker.bootstrap, LOOKS.name, SIZE) == raised, "looks may be large")
    assert setting(broker.bootstrap, SNAPSHOTS.name, SIZE) == "9000000"


@pytest.mark.parametrize("name", ["cleanup.policy", "message.timestamp.type"])
def test_a_topic_with_which_counts_would_be_wrong_is_refused_with_what_to_set(
    broker: Broker, topics: Callable[[int], None], name: str
) -> None:
    topics(PARTITIONS)
    wanted = EVENTS.broker_config()[name]
    other = {"delete": "compact", "CreateTime": "LogAppendTime"}[wanted]
    set_topic(broker.bootstrap, EVENTS.name, name, other)

    with pytest.raises(TopicMismatchError, match=rf"{EVENTS.name} has {name}=.*{name}={wanted}"):
        create_topics(broker.bootstrap, PARTITIONS)


def test_every_topic_that_is_made_is_as_it_must_be(
    broker: Broker, topics: Callable[[int], None]
) -> None:
    topics(PARTITIONS)

    assert create_topics(broker.bootstrap, PARTITIONS) == []
    for topic in EVERY_TOPIC:
        assert setting(broker.bootstrap, topic.name, SIZE) == topic.broker_config()[SIZE]
