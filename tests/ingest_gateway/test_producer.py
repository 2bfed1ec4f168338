"""The producer answers for every message: where it stands, or that it is not known to be safe."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from confluent_kafka import Producer

from ingest_gateway.errors import SinkUnavailableError
from ingest_gateway.producer import UNREACHABLE_S_MAX, Connection, KafkaSink
from ingest_gateway.sink import Message
from tools.ports import free_ports


@pytest.fixture
async def mock_broker() -> AsyncIterator[str]:
    """librdkafka's own broker, in this process."""
    owner = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1})
    metadata = owner.list_topics("things", timeout=10)
    (found,) = metadata.brokers.values()
    yield f"{found.host}:{found.port}"
    del owner


def refuse_to_die(reason: str) -> None:
    raise AssertionError(reason)


async def test_every_message_is_answered_with_its_place(mock_broker: str) -> None:
    sink = KafkaSink(mock_broker, on_fatal=refuse_to_die)

    first, second = await asyncio.gather(
        sink.publish([Message("things", b"%d" % n, n % 2) for n in range(10)]),
        sink.publish([Message("things", b"x", 0)]),
    )

    assert [delivery.partition for delivery in first] == [0, 1] * 5
    places = [(one.partition, one.offset) for one in [*first, *second]]
    assert sorted(places) == [(0, offset) for offset in range(6)] + [(1, n) for n in range(5)]
    assert sink.reachable
    await sink.close()


async def test_without_a_broker_a_request_is_refused_within_two_seconds() -> None:
    (port,) = free_ports(1)
    sink = KafkaSink(f"127.0.0.1:{port}", on_fatal=refuse_to_die)

    for _ in range(2):
        started_s = time.monotonic()
        with pytest.raises(SinkUnavailableError):
            await sink.publish([Message("things", b"x", 0)])
        assert time.monotonic() - started_s < 2

    assert not sink.reachable
    await sink.close(timeout_s=0.1)


async def test_a_message_that_cannot_be_taken_fails_its_request_only(mock_broker: str) -> None:
    sink = KafkaSink(mock_broker, on_fatal=refuse_to_die, message_timeout_ms=1_000)

    lost, kept = await asyncio.gather(
        sink.publish([Message("things", b"x", 0), Message("things", b"x", 99)]),
        sink.publish([Message("things", b"x", 0)]),
        return_exceptions=True,
    )

    assert isinstance(lost, SinkUnavailableError)
    assert isinstance(kept, list)
    await sink.close()


def test_a_short_outage_is_none() -> None:
    now_s = 100.0
    connection = Connection(lambda: now_s)
    up = '{"brokers": {"a:1/1": {"state": "UP", "nodeid": 1, "other": 7}}}'
    down = '{"brokers": {"a:1/1": {"state": "CONNECT", "nodeid": 1}}}'

    connection.take_statistics(up)
    now_s = 200.0
    connection.take_outage()
    assert (connection.is_up, connection.is_lost()) == (False, False)
    now_s += UNREACHABLE_S_MAX + 0.1
    connection.take_statistics(down)
    assert connection.is_lost()
    connection.take_delivery()
    assert (connection.is_up, connection.is_lost()) == (True, False)
