"""Holds topics that exist to the settings that counting depends on; raises what only must be more.

How long records stay is the operator's to decide; see docs/reliability.md.
"""

from collections.abc import Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from schemas.topics import Topic
from tools.broker import client_settings
from tools.errors import LitmusError, TopicMismatchError

SIZE = "max.message.bytes"
MUST_EQUAL = {
    "cleanup.policy": "records that are counted would be thrown away, or never be",
    "message.timestamp.type": "log time would not be the broker's, or a writer's would be lost",
}
"""Settings that are wrong if they are others, and what would come of it."""

TIMEOUT_SECONDS = 30.0


def keep_topic_settings(bootstrap: str, topics: list[Topic]) -> list[str]:
    """Raise the sizes of topics that an earlier version, or somebody else, made smaller.

    Args:
        bootstrap: Address of the broker.
        topics: Those that exist.

    Returns:
        Names of those that were raised.

    Raises:
        TopicMismatchError: If a topic has a setting with which counts would be wrong.
        LitmusError: If the broker refuses, or does not answer.
    """
    admin = AdminClient(client_settings(bootstrap))
    found = _settings_of(admin, topics)
    for topic in topics:
        _require_equal(topic, found[topic.name])
    small = [one for one in topics if int(found[one.name][SIZE]) < _size(one)]
    _raise_sizes(admin, small)
    return [one.name for one in small]


def _settings_of(admin: AdminClient, topics: list[Topic]) -> dict[str, Mapping[str, str]]:
    asked = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics]
    found: dict[str, Mapping[str, str]] = {}
    for resource, future in admin.describe_configs(asked).items() if asked else ():
        try:
            entries = future.result(TIMEOUT_SECONDS)
        except KafkaException as error:
            raise LitmusError(
                f"The broker does not say how {resource.name} is set: {error.args[0].str()}. Allow "
                "this client DescribeConfigs on it: counts depend on its settings."
            ) from error
        found[resource.name] = {name: str(entry.value) for name, entry in entries.items()}
    return found


def _require_equal(topic: Topic, found: Mapping[str, str]) -> None:
    for name, consequence in MUST_EQUAL.items():
        wanted = topic.broker_config()[name]
        if found[name] != wanted:
            raise TopicMismatchError(
                f"{topic.name} has {name}={found[name]}, must have {wanted}: {consequence}. Set it "
                f"(kafka-configs.sh --alter --entity-type topics --entity-name {topic.name} "
                f"--add-config {name}={wanted}) before anything is written, or delete the topic "
                "and let `litmus topics create` make it."
            )


def _raise_sizes(admin: AdminClient, topics: list[Topic]) -> None:
    changes = [
        ConfigResource(
            ResourceType.TOPIC,
            topic.name,
            incremental_configs=[
                ConfigEntry(SIZE, str(_size(topic)), incremental_operation=AlterConfigOpType.SET)
            ],
        )
        for topic in topics
    ]
    for resource, future in admin.incremental_alter_configs(changes).items() if changes else ():
        try:
            future.result(TIMEOUT_SECONDS)
        except KafkaException as error:
            raise LitmusError(
                f"{resource.name} takes too small messages, and the broker does not raise {SIZE}: "
                f"{error.args[0].str()}. Raise it to what `litmus topics create` would give it."
            ) from error


def _size(topic: Topic) -> int:
    return int(topic.broker_config()[SIZE])
