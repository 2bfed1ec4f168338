"""Which offsets of a Kafka door the broker holds. Pure.

A commit is believed when the broker has answered it, never because it was sent: until then the
next commit holds it too, above all the last one before the process ends.
"""

import logging
from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaError, TopicPartition

from ingest_gateway.mark_rounds import Source

logger = logging.getLogger(__name__)


class OffsetCommits:
    """The commits of the partitions that a door holds."""

    def __init__(self) -> None:
        self._held: dict[Source, int | None] = {}

    def begin(self, source: Source, committed: int | None) -> None:
        """Note a partition that the door was given, and its commit; None where there is none."""
        self._held[source] = committed

    def forget(self, source: Source) -> None:
        """Note that a partition was taken away; a commit that is answered later is no matter."""
        self._held.pop(source, None)

    def due(self, offsets: Mapping[Source, int]) -> list[TopicPartition]:
        """Return what to commit: every offset that the broker is not known to hold."""
        return [
            TopicPartition(*source, offset)
            for source, offset in offsets.items()
            if offset != self._held.get(source)
        ]

    def answered(self, error: KafkaError | None, partitions: Iterable[TopicPartition]) -> None:
        """Take the broker's answer, as the client calls back with it.

        Args:
            error: Of the commit as a whole.
            partitions: With the offsets that it held, and an error of each.
        """
        for one in partitions:
            reason = error or one.error
            if reason is not None:
                logger.warning(
                    "commit_failed source=%s/%d reason=%r", one.topic, one.partition, reason.str()
                )
            elif (one.topic, one.partition) in self._held:
                self._held[one.topic, one.partition] = one.offset
