"""A door asks how many partitions there are before it takes anything."""

from confluent_kafka import Consumer, KafkaException

from schemas.partition_count import require_partition_count
from schemas.topics import EVENTS


def ask_partition_count(consumer: Consumer, wanted: int, *, timeout_s: float) -> None:
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
    require_partition_count(len(topic.partitions), wanted)
