"""Creates and describes the topics of ``schemas.topics``, the only place that names them."""

from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from schemas.json_schema import schema_of
from schemas.results import Record, Snapshot
from schemas.times import format_duration_ms
from schemas.topics import CHANGELOGS, FOR_EVER, LOOKS, SNAPSHOTS, TOPICS, Topic
from tools.broker import client_settings
from tools.errors import LitmusError, TopicMismatchError
from tools.topic_settings import keep_topic_settings

EVERY_TOPIC: tuple[Topic, ...] = (*TOPICS, *CHANGELOGS)
VALUES = {LOOKS.name: Record, SNAPSHOTS.name: Snapshot}
"""Types of the values that others read: topics of results."""

ANSWER_SECONDS = 10.0
TIMEOUT_SECONDS = 30.0

_BROKER_DEFAULT = -1
"""Replication factor: 1 on the embedded broker, what the operator chose on a cluster."""


def create_topics(bootstrap: str, partitions: int) -> list[str]:
    """Create the topics that are missing and return their names; see ``keep_topic_settings``.

    Args:
        bootstrap: Address of the broker.
        partitions: ``LITMUS_PARTITIONS``.

    Raises:
        TopicMismatchError: If one exists with another number of partitions, or settings with which
            counts would be wrong.
        LitmusError: If the broker refuses, or does not answer.
    """
    counts = require_topics(bootstrap, partitions)
    missing = [topic for topic in EVERY_TOPIC if topic.name not in counts]
    if not missing:
        return []
    admin, created = AdminClient(client_settings(bootstrap)), []
    for name, future in admin.create_topics([_new(topic, partitions) for topic in missing]).items():
        try:
            future.result(TIMEOUT_SECONDS)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue  # made by someone else in this moment, who read the same page
            raise LitmusError(
                f"The broker does not create {name}: {error.args[0].str()}"
            ) from error
        created.append(name)
    return created


def require_topics(bootstrap: str, partitions: int) -> dict[str, int]:
    """Return the number of partitions of every topic that exists, if ours are as they must be.

    Args:
        bootstrap: Address of the broker.
        partitions: ``LITMUS_PARTITIONS``.

    Raises:
        TopicMismatchError: If one exists with another number of partitions, or settings with which
            counts would be wrong.
        LitmusError: If the broker refuses, or does not answer.
    """
    counts = partition_counts(bootstrap)
    for topic in EVERY_TOPIC:
        if topic.name in counts:
            _require_count(topic, counts[topic.name], partitions)
    keep_topic_settings(bootstrap, [topic for topic in EVERY_TOPIC if topic.name in counts])
    return counts


def await_group_coordinator(bootstrap: str) -> None:
    """Wait until the broker can say where groups stand: on its first start it makes a topic for it.

    Raises:
        LitmusError: If it cannot in time.
    """
    consumer = Consumer(client_settings(bootstrap) | {"group.id": "litmus-start"})
    try:
        for attempt in Retrying(
            # While it makes and loads that topic it answers that it is no coordinator.
            retry=retry_if_exception_type(KafkaException),
            stop=stop_after_delay(TIMEOUT_SECONDS),
            wait=wait_fixed(0.1),
            reraise=True,
        ):
            with attempt:
                consumer.committed([TopicPartition(EVERY_TOPIC[0].name, 0)], timeout=ANSWER_SECONDS)
    except KafkaException as error:
        reason = error.args[0].str()
        raise LitmusError(f"{bootstrap} has no coordinator of groups: {reason}") from error
    finally:
        consumer.close()


def partition_counts(bootstrap: str) -> dict[str, int]:
    """Return the number of partitions of every topic that exists.

    Raises:
        LitmusError: If the broker does not answer.
    """
    try:
        listed = AdminClient(client_settings(bootstrap)).list_topics(timeout=ANSWER_SECONDS)
    except KafkaException as error:
        raise LitmusError(
            f"No Kafka broker answers at {bootstrap}: {error.args[0].str()}. Start the stack with "
            "`litmus up`, or set LITMUS_KAFKA to a broker that runs."
        ) from error
    return {name: len(topic.partitions) for name, topic in listed.topics.items()}


def describe_topics(partitions: int) -> list[dict[str, Any]]:
    """Return what is promised of every topic; no ``value_schema`` where no type is published."""
    return [
        {
            "name": topic.name,
            "key": topic.key,
            "value": topic.value,
            "partitions": topic.partitions(partitions),
            "retention": "compacted" if topic.cleanup_policy == "compact" else _retention(topic),
            "cleanup_policy": topic.cleanup_policy,
            "timestamps": "append time" if topic.append_time else "create time",
            "value_schema": schema_of(VALUES[topic.name]) if topic.name in VALUES else None,
        }
        for topic in EVERY_TOPIC
    ]


def _retention(topic: Topic) -> str:
    return "for ever" if topic.retention_ms == FOR_EVER else format_duration_ms(topic.retention_ms)


def _new(topic: Topic, partitions: int) -> NewTopic:
    return NewTopic(
        topic.name,
        num_partitions=topic.partitions(partitions),
        replication_factor=_BROKER_DEFAULT,
        config=topic.broker_config(),
    )


def _require_count(topic: Topic, found: int, setting: int) -> None:
    wanted = topic.partitions(setting)
    if found == wanted:
        return
    if topic.partition_count:
        advice = "Delete the topic, or use another broker or home: it is not one of this version."
    else:
        advice = (
            f"Set LITMUS_PARTITIONS={found}, or start from empty data in another LITMUS_HOME "
            "(or after `make clean`): where a unit's events go depends on this number."
        )
    raise TopicMismatchError(f"{topic.name} has {found} partitions, must have {wanted}. {advice}")
