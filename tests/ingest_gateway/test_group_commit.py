"""Requests share batches, and nothing else: places, failures and room are each request's own."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from ingest_gateway.errors import NotSentError, QueueFullError
from ingest_gateway.events import KIND_METRIC, Admitted
from ingest_gateway.group_commit import (
    ROWS_PER_GROUP,
    WINDOW_S_MAX,
    WINDOW_S_MIN,
    Contribution,
    GroupCommit,
    Pace,
)
from ingest_gateway.sink import Delivery, MemorySink, Message
from schemas.batch import read_batch
from schemas.topics import EVENTS

PARTITIONS = 3


def metric(unit_id: str) -> Admitted:
    return Admitted(
        kind=KIND_METRIC,
        unit_type="user",
        unit_id=unit_id,
        event_id=f"event-of-{unit_id}",
        experiment_id=None,
        variant=None,
        metric="buy",
        attributes=None,
        value=1.0,
        timestamp_ms=1_000,
        timestamp_given=True,
        received_at_ms=1_000,
        allocation_version=None,
    )


def contribution(*unit_ids: str) -> Contribution:
    return Contribution([metric(unit_id) for unit_id in unit_ids], [], [])


class HeldSink(MemorySink):
    """Takes messages, and acknowledges when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()
        self.publications = 0

    async def publish(self, messages: Sequence[Message]) -> list[Delivery]:
        self.publications += 1
        deliveries = await super().publish(messages)
        await self.released.wait()
        return deliveries


def clock_s() -> float:
    return asyncio.get_running_loop().time()


def group_commit(sink: MemorySink, rows_max: int = 1_000_000) -> GroupCommit:
    return GroupCommit(sink, partition_count=PARTITIONS, clock_s=clock_s, rows_max=rows_max)


async def test_each_request_is_told_where_its_own_rows_are() -> None:
    sink, rng = MemorySink(), random.Random(7)
    commits = group_commit(sink)
    requests = [
        [f"{request}-{row}" for row in range(rng.randrange(0, 4))] for request in range(200)
    ]

    places = await asyncio.gather(
        *(commits.commit(contribution(*unit_ids)) for unit_ids in requests)
    )

    where = {
        unit_id: (partition, offset)
        for (topic, partition), log in sink.logs.items()
        if topic == EVENTS.name
        for offset, message in enumerate(log)
        for unit_id in read_batch(message.value).column("unit_id").to_pylist()
    }
    for unit_ids, place in zip(requests, places, strict=True):
        expected: dict[int, int] = {}
        for partition, offset in (where[unit_id] for unit_id in unit_ids):
            expected[partition] = max(expected.get(partition, -1), offset)
        assert place == expected
    assert len(sink.of(EVENTS.name)) == PARTITIONS  # one batch for each, for all requests


async def test_a_failure_fails_the_requests_of_its_group_and_no_others() -> None:
    sink = MemorySink()
    commits = group_commit(sink)

    sink.away = True
    failed = await asyncio.gather(
        *(commits.commit(contribution(f"a-{n}")) for n in range(3)), return_exceptions=True
    )
    sink.away = False
    placed = await commits.commit(contribution("b"))

    assert [type(error) for error in failed] == [NotSentError] * 3
    assert len({id(error) for error in failed}) == 3
    assert len(placed) == 1


async def test_what_does_not_fit_is_refused_and_fits_again_later() -> None:
    sink = HeldSink()
    commits = group_commit(sink, rows_max=2)
    first = asyncio.create_task(commits.commit(contribution("a", "b")))
    await asyncio.sleep(0)

    with pytest.raises(QueueFullError):
        await commits.commit(contribution("c"))
    sink.released.set()
    await first

    assert await commits.commit(contribution("c"))


async def test_a_large_group_leaves_at_once() -> None:
    sink = HeldSink()
    commits = group_commit(sink)
    unit_ids = [f"u-{number}" for number in range(ROWS_PER_GROUP)]

    waiting = asyncio.create_task(commits.commit(contribution(*unit_ids)))
    for _ in range(5):
        await asyncio.sleep(0)

    assert sink.publications == 1
    sink.released.set()
    await waiting


async def test_draining_waits_for_what_is_under_way() -> None:
    sink = HeldSink()
    commits = group_commit(sink)
    waiting = asyncio.create_task(commits.commit(contribution("a")))
    await asyncio.sleep(0)

    draining = asyncio.create_task(commits.drain())
    await asyncio.sleep(0.01)
    assert not draining.done()
    sink.released.set()
    await draining

    assert waiting.done()


async def test_a_request_that_is_gone_does_not_disturb_the_others() -> None:
    sink = HeldSink()
    commits = group_commit(sink)
    gone = asyncio.create_task(commits.commit(contribution("a")))
    there = asyncio.create_task(commits.commit(contribution("b")))
    await asyncio.sleep(0.01)

    gone.cancel()
    sink.released.set()

    assert await there


def test_the_window_is_short_when_idle_and_grows_with_messages_and_groups_under_way() -> None:
    pace = Pace()
    assert pace.window_s(100.0, groups_under_way=0) == WINDOW_S_MIN
    assert pace.window_s(100.0, groups_under_way=3) == 4 * WINDOW_S_MIN

    pace.left(100.0, messages=8)  # at 500 a second
    assert pace.window_s(100.0, groups_under_way=0) == pytest.approx(8 / 500)
    assert pace.window_s(100.1, groups_under_way=0) == WINDOW_S_MIN

    for _ in range(100):
        pace.left(100.0, messages=1_000)
    assert pace.window_s(100.0, groups_under_way=1_000) == WINDOW_S_MAX


async def test_bytes_that_do_not_fit_are_refused_and_fit_again_later() -> None:
    sink = HeldSink()
    commits = GroupCommit(sink, partition_count=PARTITIONS, clock_s=clock_s, bytes_max=1_000)
    large = contribution("a")._replace(byte_count=5_000)
    first = asyncio.create_task(commits.commit(large))  # alone it always fits
    await asyncio.sleep(0)

    with pytest.raises(QueueFullError, match="5000 bytes are on their way"):
        await commits.commit(contribution("b")._replace(byte_count=1))
    sink.released.set()
    await first

    assert await commits.commit(contribution("b")._replace(byte_count=1_000))
