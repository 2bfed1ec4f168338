"""A start of control may read for as long as it takes, if only it goes on."""

import asyncio
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from schemas.topics import CONTROL
from stream_processors.control import resuming
from stream_processors.control.resuming import resume
from stream_processors.control.writing import Send, Writer
from tests.stack import Broker

pytestmark = pytest.mark.machine

RECORDS = 11
READ_S = 2.0
SILENT_S_MAX = 20.0
"""Less than all records take together, far more than one does."""


class SlowWriter(Writer):
    """Takes as long for a record as if there were very many."""

    def read_control(self, offset: int, appended_ms: int, value: bytes) -> list[Send]:
        time.sleep(READ_S)
        return super().read_control(offset, appended_ms, value)


def new_writer(kind: type[Writer]) -> Writer:
    return kind(name="test", log_id="log", partition_count=1, lateness_ms=3_600_000, sources=())


def test_a_long_log_is_read_to_its_end_for_longer_than_it_may_be_silent(
    broker: Broker, topics: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    topics(1)
    producer, first = Producer({"bootstrap.servers": broker.bootstrap}), new_writer(Writer)
    first.begin()
    for offset in range(RECORDS):
        sent = first.append_next()
        assert sent is not None
        for duty in first.read_control(offset, 1_000 * (offset + 1), sent.value):
            first.acknowledge(duty)
        producer.produce(CONTROL.name, sent.value, partition=0)
    assert producer.flush(60) == 0
    monkeypatch.setattr(resuming, "_SECONDS_MAX", SILENT_S_MAX)
    assert RECORDS * READ_S > SILENT_S_MAX

    writer = asyncio.run(resume(broker.bootstrap, lambda _: new_writer(SlowWriter)))

    assert writer.control.next_offset == RECORDS
