"""What a Kafka door starts from: topic ids, committed offsets, the marks that stand already."""

import logging

import msgspec
from confluent_kafka import Consumer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from ingest_gateway.control_follower import connection_config
from ingest_gateway.mark_rounds import Source, source_name
from ingest_gateway.telemetry import report_lost_records
from schemas.control import Mark
from schemas.topics import MARKS, SOURCES

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0


def committed_positions(
    consumer: Consumer, partitions: list[TopicPartition], *, accepts_gaps: bool
) -> tuple[dict[Source, int], str | None]:
    """Return where to start in each partition, its commit or its beginning, and what is missing.

    Args:
        consumer: Of the door.
        partitions: What it was given.
        accepts_gaps: Whether to go on where records are gone, as an operator has decided.

    Raises:
        KafkaException: If no broker answers.
    """
    positions: dict[Source, int] = {}
    gaps = []
    for one in consumer.committed(partitions, timeout=TIMEOUT_S):
        low, end = consumer.get_watermark_offsets(one, timeout=TIMEOUT_S)
        source = (one.topic, one.partition)
        positions[source] = one.offset if low <= one.offset <= end else low
        if one.offset < 0 or low <= one.offset <= end:
            continue
        if one.offset > end:
            gaps.append(f"{source_name(source)} ends at {end}, {one.offset} was taken already")
        else:
            gaps.append(f"{source_name(source)} lost the records {one.offset} to {low - 1}")
        if accepts_gaps:
            logger.error("source_gap_accepted %s", gaps[-1])
            report_lost_records(source_name(source), max(0, low - one.offset))
    if not gaps or accepts_gaps:
        return positions, None
    return positions, (
        f"{'; '.join(gaps)}: the topic's retention was shorter than the door was away, or the "
        "topic was made anew. What is gone is missing in every result from then on. Bring the "
        "records back, or decide to go on without them: stop the experiments concerned, or start "
        "the door with LITMUS_SOURCE_GAPS=accept once. Until then no window closes"
    )


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
