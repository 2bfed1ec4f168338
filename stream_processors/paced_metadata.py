"""aiokafka's client, but it waits before it asks again who leads.

aiokafka asks at once whenever a leader is not known or an answer failed. While a broker is away
both happen thousands of times a second: every client keeps a core busy and fills the disk with its
log, just when the broker needs both to come back.
"""

import asyncio
from collections.abc import Iterable

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.consumer import consumer
from aiokafka.producer import producer


class PacedClient(AIOKafkaClient):
    """Client that waits ``retry_backoff_ms`` after an answer that leaves it to ask again."""

    async def _metadata_update(self, cluster_metadata: ClusterMetadata, topics: set[str]) -> bool:
        is_updated: bool = await super()._metadata_update(cluster_metadata, topics)
        if not is_updated or lacks_leaders(cluster_metadata, topics):
            await asyncio.sleep(self._retry_backoff)
        return is_updated


def lacks_leaders(cluster: ClusterMetadata, topics: Iterable[str]) -> bool:
    """Say whether one of ``topics`` is missing, or has a partition that nobody leads."""
    return any(
        not cluster.partitions_for_topic(topic)
        or cluster.partitions_for_topic(topic) != cluster.available_partitions_for_topic(topic)
        for topic in topics
    )


def pace_metadata() -> None:
    """Make every consumer and producer made from here on use a ``PacedClient``."""
    consumer.AIOKafkaClient = PacedClient
    producer.AIOKafkaClient = PacedClient
