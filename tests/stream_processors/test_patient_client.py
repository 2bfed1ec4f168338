"""While a broker is away a client asks ten times a second, and no broken connection is its end."""

import asyncio
import socket
from itertools import pairwise

import pytest
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.cluster import ClusterMetadata
from aiokafka.consumer import consumer
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer import producer
from aiokafka.protocol.metadata import MetadataRequest, MetadataResponse_v1

from stream_processors.patient_client import PatientClient, lacks_leaders, use_patient_clients

ASKED = 20
PAUSE_S = 0.1
NOBODY = -1


def _metadata(port: int, leader: int) -> MetadataResponse_v1:
    partition = (0, 0, leader, [1], [1])
    return MetadataResponse_v1(
        brokers=[(1, "127.0.0.1", port, None)],
        controller_id=1,
        topics=[(0, "litmus.events", False, [partition])],
    )


async def _shortest_pause_s(client_type: type[AIOKafkaClient]) -> float:
    """Ask a broker that refuses connections, as a fetcher without leader does.

    The shortest of many pauses is what the client does; longer ones may be the machine's.
    """
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        port = unused.getsockname()[1]
        client = client_type(bootstrap_servers=f"127.0.0.1:{port}")
        client.cluster.update_metadata(_metadata(port, NOBODY))
        # What ``bootstrap`` begins once it knows a broker.
        asking = asyncio.ensure_future(client._md_synchronizer())
        times_s = []
        for _ in range(ASKED):
            assert not await client.force_metadata_update()
            times_s.append(asyncio.get_running_loop().time())
        asking.cancel()
        await client.close()
        return min(later - earlier for earlier, later in pairwise(times_s))


def test_a_patient_client_does_not_ask_a_broker_that_is_away_all_the_time() -> None:
    assert asyncio.run(_shortest_pause_s(PatientClient)) > 0.8 * PAUSE_S


def test_aiokafka_alone_would_ask_all_the_time() -> None:
    # When this fails aiokafka waits by itself: PatientClient can go.
    assert asyncio.run(_shortest_pause_s(AIOKafkaClient)) < 0.5 * PAUSE_S


@pytest.mark.parametrize(
    ("leader", "topic", "lacks"),
    [(1, "litmus.events", False), (NOBODY, "litmus.events", True), (1, "litmus.other", True)],
)
def test_a_leader_is_lacking_where_there_is_none_or_no_such_topic(
    leader: int, topic: str, *, lacks: bool
) -> None:
    cluster = ClusterMetadata()
    cluster.update_metadata(_metadata(1, leader))
    assert lacks_leaders(cluster, [topic]) is lacks


def test_consumers_and_producers_made_by_a_worker_are_patient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer, "AIOKafkaClient", AIOKafkaClient)
    monkeypatch.setattr(producer, "AIOKafkaClient", AIOKafkaClient)
    use_patient_clients()

    async def client_types() -> set[type]:
        reader = consumer.AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
        writer = producer.AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")
        types = {type(reader._client), type(writer.client)}
        await reader.stop()
        await writer.stop()
        return types

    assert asyncio.run(client_types()) == {PatientClient}


class _Closed:
    """A connection whose transport uvloop has closed, and aiokafka has not noticed."""

    def connected(self) -> bool:
        return True

    def send(self, _request: object, *, expect_response: bool) -> None:
        assert expect_response
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")


def test_a_connection_that_was_closed_a_moment_ago_is_an_error_to_try_again_after() -> None:
    async def send() -> None:
        client = PatientClient(bootstrap_servers="127.0.0.1:1")
        client._conns[1, ConnectionGroup.DEFAULT] = _Closed()
        await client.send(1, MetadataRequest([]))

    with pytest.raises(KafkaConnectionError, match="node 1 was closed") as raised:
        asyncio.run(send())
    assert raised.value.retriable
