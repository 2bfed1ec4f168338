"""A consumer that reads sources and leaves changelogs to those who keep state in them."""

import asyncio
import time

import faust
import pytest
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from schemas.topics import CHANGELOGS, EVENTS
from stream_processors.accumulate.worker import create_app
from stream_processors.seeking import SeekingConsumer
from stream_processors.settings import WorkerSettings

CHANGELOG = TP(CHANGELOGS[0].name, 0)
SOURCE = TP(EVENTS.name, 0)


@pytest.fixture
async def app() -> faust.App:
    settings = WorkerSettings(kafka="127.0.0.1:1", instance="accumulate-0", probe_port=0)
    made, _ = create_app(settings)
    return made


async def test_only_sources_are_watched_for_being_read(app: faust.App) -> None:
    """Faust reports a partition of which nothing is fetched as an error, every few seconds."""
    consumer = app.consumer
    assert isinstance(consumer, SeekingConsumer)

    consumer.verify_event_path(time.monotonic(), CHANGELOG)
    with pytest.raises(ConsumerNotStarted):  # it asks the consumer about this one
        consumer.verify_event_path(time.monotonic(), SOURCE)


async def test_waiting_ends_as_soon_as_there_is_something_to_read(app: faust.App) -> None:
    """Faust sleeps a second, whatever comes meanwhile."""
    waiting = asyncio.create_task(app.consumer._wait_next_records(3_600.0))
    await asyncio.sleep(0)
    assert not waiting.done()

    app.consumer.resume_partitions({SOURCE})

    assert await asyncio.wait_for(waiting, 60) == ({}, set())


async def test_a_worker_that_has_not_joined_can_be_told_to_leave(app: faust.App) -> None:
    app.consumer.leave_for_good()
