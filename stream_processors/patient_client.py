"""aiokafka's client, but it lives through brokers that go away.

aiokafka asks at once who leads whenever a leader is not known or an answer failed. While a broker
is away both happen thousands of times a second: every client keeps a core busy and fills the disk
with its log, just when the broker needs both to come back.

And a connection that was closed by the other side a moment ago makes uvloop raise an error that is
none of Kafka's, where asyncio's own loop raises none: the producer takes it for a bug, and gives up
for good instead of sending again.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.cluster import ClusterMetadata
from aiokafka.consumer import consumer
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer import producer


class PatientClient(AIOKafkaClient):
    """Client that waits ``retry_backoff_ms`` after an answer that leaves it to ask again."""

    async def send(
        self, node_id: Any, request: Any, *, group: Any = ConnectionGroup.DEFAULT
    ) -> Any:
        """Send a request, as aiokafka's does.

        Raises:
            KafkaConnectionError: Also if the connection was closed; nothing was sent.
        """
        try:
            return await super().send(node_id, request, group=group)
        except RuntimeError as error:
            if "the handler is closed" not in str(error):
                raise
            raise KafkaConnectionError(f"connection to node {node_id} was closed") from error

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


def use_patient_clients() -> None:
    """Make every consumer and producer made from here on use a ``PatientClient``."""
    consumer.AIOKafkaClient = PatientClient
    producer.AIOKafkaClient = PatientClient
