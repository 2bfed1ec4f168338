"""What a Kafka door starts from: topic ids, committed offsets, the marks that stand already."""

import logging

import msgspec
from confluent_kafka import Consumer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from ingest_gateway.control_follower import connection_config
from ingest_gateway.mark_rounds import Source
from schemas.control import Mark
from schemas.topics import MARKS, SOURCES

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0


def committed_positions(consumer: Consumer, partitions: list[TopicPartition]) -> dict[Source, int]:
    """Return where to start in each partition: its commit, or its beginning.

    Raises:
        KafkaException: If no broker answers.
    """
    positions = {}
    for one in consumer.committed(partitions, timeout=TIMEOUT_S):
        low, _ = consumer.get_watermark_offsets(one, timeout=TIMEOUT_S)
        if 0 <= one.offset < low:
            # Retention was shorter than the door was away. To go on is all that is left to do.
            logger.error(
                "records_lost topic=%s partition=%d from=%d to=%d",
                *(one.topic, one.partition, one.offset, low),
            )
        positions[one.topic, one.partition] = max(one.offset, low)
    return positions


def last_marks(bootstrap: str) -> dict[Source, int]:
    """Return the highest mark of every source.

    Raises:
        KafkaException: If no broker answers.
    """
    consumer = Consumer(
        connection_config(bootstrap)
        | {
            "group.id": "litmus-marks-reader",  # the client wants one; it is never joined
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        },
        logger=logger,
    )
    marks: dict[Source, int] = {}
    try:
        partition = TopicPartition(MARKS.name, 0)
        low, end = consumer.get_watermark_offsets(partition, timeout=TIMEOUT_S)
        consumer.assign([TopicPartition(MARKS.name, 0, low)])
        position = low
        while position < end:
            for message in consumer.consume(10_000, 0.05):
                position = max(position, message.offset())
                if message.error() is None:
                    position = message.offset() + 1
                    mark = msgspec.json.decode(message.value(), type=Mark)
                    topic, _, number = mark.source.rpartition("/")
                    source = (topic, int(number))
                    marks[source] = max(marks.get(source, 0), mark.low_water_ms)
    finally:
        consumer.close()
    return marks


def topic_ids_of(admin: AdminClient) -> dict[str, str]:
    """Return the id of each source topic, in hexadecimal.

    Raises:
        KafkaException: If no broker answers, or one does not exist.
    """
    names = [topic.name for topic in SOURCES]
    described = admin.describe_topics(TopicCollection(names), request_timeout=5)
    ids = {name: future.result().topic_id for name, future in described.items()}
    mask = (1 << 64) - 1
    return {
        name: f"{one.get_most_significant_bits() & mask:016x}"
        f"{one.get_least_significant_bits() & mask:016x}"
        for name, one in ids.items()
    }
