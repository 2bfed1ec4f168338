"""Doors share the partitions out alike, or a unit's events meet in two places and count twice."""

from confluent_kafka import Consumer, KafkaException

from schemas.topics import EVENTS


class PartitionCountError(Exception):
    """``LITMUS_PARTITIONS`` is not what the topic has: the process must end."""


def require_partition_count(consumer: Consumer, wanted: int, *, timeout_s: float) -> None:
    """Return if ``litmus.events`` has as many partitions as the setting says.

    Args:
        consumer: Asks; it creates no topic by asking.
        wanted: ``LITMUS_PARTITIONS``.
        timeout_s: How long an answer may take.

    Raises:
        PartitionCountError: If it has another number of them.
        KafkaException: If no broker answers, or there is no such topic yet.
    """
    topic = consumer.list_topics(EVENTS.name, timeout=timeout_s).topics[EVENTS.name]
    if topic.error is not None:
        raise KafkaException(topic.error)
    found = len(topic.partitions)
    if found != wanted:
        raise PartitionCountError(
            f"{EVENTS.name} has {found} partitions, LITMUS_PARTITIONS of this process is {wanted}. "
            f"Set LITMUS_PARTITIONS={found} for every process: by this number doors choose where "
            "a unit's events go, and with two numbers they would be counted twice"
        )
