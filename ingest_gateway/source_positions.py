"""What a Kafka door starts from: topic ids, committed offsets, the marks that stand already."""

import logging
from collections.abc import Container
from typing import NamedTuple

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


class Positions(NamedTuple):
    """Where a door starts.

    Attributes:
        starts: First offset to read of each partition.
        gap: What is missing, for an operator to decide on; None where nothing is.
        committed: What the broker holds as committed; no entry where it holds nothing.
    """

    starts: dict[Source, int]
    gap: str | None
    committed: dict[Source, int]


def committed_positions(
    consumer: Consumer,
    partitions: list[TopicPartition],
    *,
    marked: Container[Source],
    accepts_gaps: bool,
) -> Positions:
    """Return where to start in each partition, its commit or its beginning, and what is missing.

    Args:
        consumer: Of the door.
        partitions: What it was given.
        marked: Sources with a low-water mark: a door has held them before.
        accepts_gaps: Whether to go on where records are gone, as an operator has decided.

    Raises:
        KafkaException: If no broker answers.
    """
    found = Positions({}, None, {})
    gaps = []
    for one in consumer.committed(partitions, timeout=TIMEOUT_S):
        low, end = consumer.get_watermark_offsets(one, timeout=TIMEOUT_S)
        source = (one.topic, one.partition)
        found.starts[source] = one.offset if low <= one.offset <= end else low
        if one.offset >= 0:
            found.committed[source] = one.offset
        gap = _gap(source_name(source), one.offset, low=low, end=end, is_marked=source in marked)
        if gap is None:
            continue
        gaps.append(gap)
        if accepts_gaps:
            logger.error("source_gap_accepted %s", gap)
            # How many are gone is not known where there is no commit.
            known = max(0, low - one.offset) if one.offset >= 0 else 0
            report_lost_records(source_name(source), known)
    if not gaps or accepts_gaps:
        return found
    return found._replace(
        gap=f"{'; '.join(gaps)}: the topic's retention was shorter than the door was away, or the "
        "topic was made anew. What is gone is missing in every result from then on. Bring the "
        "records back, or decide to go on without them: stop the experiments concerned, or start "
        "the door with LITMUS_SOURCE_GAPS=accept once. Until then no window closes"
    )


def _gap(name: str, committed: int, *, low: int, end: int, is_marked: bool) -> str | None:
    """Say what is missing of a source partition; ``committed`` is negative without a commit."""
    if committed < 0:
        if not is_marked or not low:
            return None  # it is new to the doors, or all of it is there
        return (
            f"{name} begins at {low}, and may have lost records before that: a door has taken it "
            "in, and the broker has forgotten how far (offsets.retention.minutes)"
        )
    if committed > end:
        return f"{name} ends at {end}, {committed} was taken already"
    return f"{name} lost the records {committed} to {low - 1}" if committed < low else None


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
