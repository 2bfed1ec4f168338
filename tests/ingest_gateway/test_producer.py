"""The producer answers for every message: where it stands, or that it is not known to be safe."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from confluent_kafka import Producer

from ingest_gateway.errors import NotSentError, SinkUnavailableError
from ingest_gateway.producer import POLL_INTERVAL_S, UNREACHABLE_S_MAX, Connection, KafkaSink
from ingest_gateway.sink import Message
from tools.ports import free_ports

PATIENCE_S = 60.0
PATIENCE_MS = 600_000
"""Longer than any test: what fails before it fails for another reason."""


@pytest.fixture
async def mock_broker() -> AsyncIterator[str]:
    """librdkafka's own broker, in this process."""
    owner = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1})
    metadata = owner.list_topics("things", timeout=PATIENCE_S)
    (found,) = metadata.brokers.values()
    yield f"{found.host}:{found.port}"
    del owner


def refuse_to_die(reason: str) -> None:
    raise AssertionError(reason)


def patient_sink(bootstrap: str) -> KafkaSink:
    """Return a sink whose clock stands still: however slow the machine, nothing is given up."""
    return KafkaSink(
        bootstrap,
        on_fatal=refuse_to_die,
        message_timeout_ms=PATIENCE_MS,
        clock_s=lambda: 0.0,
    )


async def test_every_message_is_answered_with_its_place(mock_broker: str) -> None:
    sink = patient_sink(mock_broker)

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
    now_s = 100.0
    sink = KafkaSink(
        f"127.0.0.1:{port}",
        on_fatal=refuse_to_die,
        message_timeout_ms=PATIENCE_MS,
        clock_s=lambda: now_s,
    )

    waiting = asyncio.create_task(sink.publish([Message("things", b"x", 0)]))
    await asyncio.wait([waiting], timeout=3 * POLL_INTERVAL_S)
    assert not waiting.done()
    now_s += UNREACHABLE_S_MAX + 0.1
    with pytest.raises(SinkUnavailableError, match="no broker answers"):
        await asyncio.wait_for(waiting, PATIENCE_S)
    with pytest.raises(NotSentError, match="no broker answers"):
        await sink.publish([Message("things", b"x", 0)])

    assert UNREACHABLE_S_MAX + POLL_INTERVAL_S < 2
    assert not sink.reachable
    await sink.close(timeout_s=0.1)


async def test_a_message_that_cannot_be_taken_fails_its_request_only(mock_broker: str) -> None:
    sink = patient_sink(mock_broker)
    good, no_such_partition = Message("things", b"x", 0), Message("things", b"x", 99)

    for _ in range(2):  # before the partitions of the topic are known, and afterwards
        lost, kept = await asyncio.wait_for(
            asyncio.gather(
                sink.publish([good, no_such_partition]),
                sink.publish([good]),
                return_exceptions=True,
            ),
            PATIENCE_S,
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
