"""Partitions come, stay and go; whatever is delivered, each message is applied once and in order.

The logs are a real broker's; the changelog is what Faust's table holds after recovery.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack

import pytest
from faust.types import TP

from schemas.control import DefinitionChange
from schemas.definitions import Interval
from schemas.partials import Partial, decode_partial
from schemas.topics import EVENTS
from stream_processors.accumulate.agent import LivePartitions
from stream_processors.accumulate.control_history import LogMismatchError
from stream_processors.accumulate.partition import OffsetGapError, Partition
from stream_processors.accumulate.records import SEGMENT, decode_key
from stream_processors.accumulate.writing import Write
from stream_processors.settings import IDS_MAX
from tests.stack import Broker
from tests.stream_processors.accumulate.builders import (
    assignment,
    batch,
    definition,
    measured,
)
from tests.stream_processors.accumulate.real_logs import RealLogs

PARTITIONS = 3


class Outside:
    """litmus.partials and the changelog; ``refuses`` makes the broker refuse every partial."""

    def __init__(self) -> None:
        self.partials: list[Partial] = []
        self.changelog: dict[int, dict[bytes, bytes]] = {one: {} for one in range(PARTITIONS)}
        self.refuses = False

    async def publish(self, partition: int, message: bytes) -> None:
        if self.refuses:
            raise ConnectionError("not delivered")
        partial = decode_partial(message)
        assert partial.partition == partition
        self.partials.append(partial)

    def records(self, partitions: Sequence[int]) -> Mapping[int, Mapping[bytes, bytes]]:
        return {one: dict(self.changelog[one]) for one in partitions}

    def write(self, partition: int, write: Write) -> Awaitable[object]:
        if write.value is None:
            self.changelog[partition].pop(write.key, None)
        else:
            self.changelog[partition][write.key] = write.value
        delivery: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        delivery.set_result(None)
        return delivery

    def last(self, partition: int) -> Partial:
        """Return the last report of a partition that holds an experiment."""
        return [one for one in self.partials if one.partition == partition and one.experiments][-1]


def assigned(*partitions: int) -> frozenset[TP]:
    return frozenset(TP(EVENTS.name, partition) for partition in partitions)


@pytest.fixture
def logs(broker: Broker, topics: Callable[[int], None]) -> RealLogs:
    topics(PARTITIONS)
    return RealLogs(broker.bootstrap, PARTITIONS)


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
async def start(broker: Broker, outside: Outside):  # noqa: ANN201
    """Call it to get a process that owns nothing yet."""
    with ExitStack() as ends:

        def start_one(writer: str = "w") -> LivePartitions:
            live = LivePartitions(
                servers=broker.bootstrap,
                writer=writer,
                records=outside.records,
                changelog=outside,
                publish=outside.publish,
                keeps_pace=False,  # ticks come as fast as they are read
            )
            ends.callback(lambda: [one.close() for one in live._outboxes.values()])
            return live

        yield start_one


Start = Callable[..., LivePartitions]


def write_log(logs: RealLogs, *, ticks: int, units: int = 1) -> None:
    """Write ticks with one assignment and one metric event per tick, unit and partition."""
    first = (logs.fold.last.record.number if logs.fold.last else 0) + 1
    for number in range(first, first + ticks):
        changes = [] if number > 1 else [DefinitionChange(definition("x", intervals=[]))]
        tick = logs.tick(*changes)
        at = tick.times.log_ms
        if number == 1:
            continue
        if number == 2:
            started = definition("x", started_at_ms=0, intervals=[Interval(0)])
            logs.tick(DefinitionChange(started))
        for partition in range(PARTITIONS):
            for unit in range(units):
                name = f"u{partition}.{number}.{unit}"
                events = [assignment(name, f"a{name}", at), measured(name, f"m{name}", at + 1)]
                logs.post(partition, batch(events))


async def drive(live: LivePartitions, logs: RealLogs, partition: int) -> None:
    """Deliver a partition's messages from where the process wants to read."""
    cursor = live.cursor(TP(EVENTS.name, partition))
    assert cursor is not None
    for offset in range(cursor, logs.ends[partition]):
        await live.apply(partition, offset, *logs.messages[partition][offset])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


async def all_is_out(outside: Outside, logs: RealLogs, *partitions: int) -> None:
    """Wait until the last tick of each partition is reported."""
    assert logs.fold.last is not None
    last = logs.fold.last.record.number
    for partition in partitions:
        await until(lambda at=partition: any(  # type: ignore[misc]
            one.tick == last for one in outside.partials if one.partition == at
        ))  # fmt: skip


async def test_a_process_that_owns_nothing_is_ready_and_reads_nothing(start: Start) -> None:
    live = start()
    assert not live.readiness()["ready"]

    await live.load(frozenset())
    await live.apply(0, 5, b"nonsense", b"of a partition that is not ours")

    assert live.readiness() | {"tick_age_ms": 0} == {
        "ready": True, "partitions": [], "live": [], "tick": 0, "tick_age_ms": 0, "ids": 0,
        "ids_max": IDS_MAX,
    }  # fmt: skip
    assert live.cursor(TP(EVENTS.name, 0)) is None


async def test_without_records_reading_begins_at_the_beginning(
    start: Start, logs: RealLogs, outside: Outside
) -> None:
    write_log(logs, ticks=4)
    live = start()

    await live.load(assigned(0, 2))

    assert [live.cursor(TP(EVENTS.name, one)) for one in range(3)] == [0, None, 0]
    assert not live.readiness()["ready"]
    await drive(live, logs, 0)
    assert live.readiness()["live"] == [0]
    await drive(live, logs, 2)
    assert live.readiness()["ready"]
    await all_is_out(outside, logs, 0, 2)
    assert {one.partition for one in outside.partials} == {0, 2}


async def test_what_is_delivered_again_changes_nothing(start: Start, logs: RealLogs) -> None:
    write_log(logs, ticks=5)
    live = start()
    await live.load(assigned(0))
    await drive(live, logs, 0)
    before = [part.copy() for part in live.partitions[0].state.counts], live.partitions[0].header

    for offset, message in enumerate(logs.messages[0]):
        await live.apply(0, offset, *message)

    assert live.partitions[0].header == before[1]
    assert [part.copy() for part in live.partitions[0].state.counts] == before[0]


async def test_a_missing_message_stops_the_worker(start: Start, logs: RealLogs) -> None:
    write_log(logs, ticks=3)
    live = start()
    await live.load(assigned(0))

    with pytest.raises(OffsetGapError, match="offset == 1, must be 0"):
        await live.apply(0, 1, *logs.messages[0][1])


async def test_what_stays_is_kept_and_what_goes_is_forgotten(
    start: Start, logs: RealLogs, outside: Outside
) -> None:
    write_log(logs, ticks=4)
    live = start()
    await live.load(assigned(0, 1))
    await drive(live, logs, 0)
    await drive(live, logs, 1)
    await all_is_out(outside, logs, 0, 1)
    kept, reported = live.partitions[0], len(outside.partials)

    await live.load(assigned(0, 2))
    write_log(logs, ticks=1)
    for offset in range(len(logs.messages[1])):
        await live.apply(1, offset, *logs.messages[1][offset])

    assert live.partitions[0] is kept
    assert live.cursor(TP(EVENTS.name, 1)) is None
    await drive(live, logs, 0)
    await all_is_out(outside, logs, 0)
    assert {one.partition for one in outside.partials[reported:]} == {0}


async def test_another_process_goes_on_from_the_records_and_reports_the_same(
    start: Start, logs: RealLogs, outside: Outside
) -> None:
    """60 ticks are four cycles of segments and two chunks: reading resumes after a chunk."""
    write_log(logs, ticks=60)
    first = start("first")
    await first.load(assigned(0, 1))
    await drive(first, logs, 0)
    await drive(first, logs, 1)
    await all_is_out(outside, logs, 0, 1)
    held = {partition: dict(records) for partition, records in outside.changelog.items()}
    logs.tick()  # a partition is live again at the first tick beyond its records
    await drive(first, logs, 0)
    await drive(first, logs, 1)
    await all_is_out(outside, logs, 0, 1)
    before = [outside.last(one).experiments for one in (0, 1)]
    await first.load(frozenset())
    outside.partials.clear()
    outside.changelog = held

    second = start("second")
    await second.load(assigned(0, 1))
    resumed = [second.cursor(TP(EVENTS.name, one)) for one in (0, 1)]
    await drive(second, logs, 0)
    await drive(second, logs, 1)
    await all_is_out(outside, logs, 0, 1)

    assert all(cursor is not None and cursor > 0 for cursor in resumed)
    assert [outside.last(one).experiments for one in (0, 1)] == before
    assert {one.writer for one in outside.partials} == {"second"}


async def test_a_record_that_was_replaced_is_deleted_on_the_next_start(
    start: Start, logs: RealLogs, outside: Outside
) -> None:
    """A crash between a record and the deletion of the one that it replaces leaves both."""
    write_log(logs, ticks=20, units=12)
    first = start()
    await first.load(assigned(0))
    await drive(first, logs, 0)
    await all_is_out(outside, logs, 0)
    earlier = dict(outside.changelog[0])
    write_log(logs, ticks=20, units=12)
    await drive(first, logs, 0)
    await all_is_out(outside, logs, 0)
    await first.load(frozenset())
    newer = dict(outside.changelog[0])
    outside.changelog[0] = earlier | newer

    await start().load(assigned(0))

    old = {key for key in earlier.keys() - newer.keys() if decode_key(key).kind == SEGMENT}
    assert old
    assert not old & outside.changelog[0].keys()
    assert newer.keys() <= outside.changelog[0].keys()


async def test_state_of_another_log_is_not_loaded(
    start: Start, logs: RealLogs, topics: Callable[[int], None], broker: Broker, outside: Outside
) -> None:
    write_log(logs, ticks=60)
    first = start()
    await first.load(assigned(0))
    await drive(first, logs, 0)
    await all_is_out(outside, logs, 0)
    await first.load(frozenset())
    topics(PARTITIONS)
    write_log(RealLogs(broker.bootstrap, PARTITIONS), ticks=5)

    second = start()
    with pytest.raises(LogMismatchError, match="the log was cut or made anew"):
        await second.load(assigned(0))

    assert not second.partitions


async def test_a_partial_that_is_not_delivered_stops_the_worker_and_nothing_is_written(
    start: Start, logs: RealLogs, outside: Outside
) -> None:
    outside.refuses = True
    write_log(logs, ticks=40)
    live = start()
    await live.load(assigned(0))

    with pytest.raises(ConnectionError, match="not delivered"):
        await drive(live, logs, 0)

    assert not outside.changelog[0]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (None, b'{"schema": "of something else"}'),
        (b"batch", b""),
        (b"batch", b"\x00" * 1_000),
        (b"tick", b"{}"),
        (b"tick", b""),
    ],
)
async def test_poison_stops_the_worker_and_says_where_it_stands_and_what_to_do(
    outside: Outside, kind: bytes | None, value: bytes
) -> None:
    live = LivePartitions(
        servers="", writer="w", records=outside.records, changelog=outside, publish=outside.publish
    )
    live.partitions[2] = Partition(2, writer="w")

    with pytest.raises(Exception) as stopped:  # noqa: PT011  # of several kinds
        await live.apply(2, 0, kind, value)

    said = "".join(traceback.format_exception(stopped.value))
    assert "litmus.events/2 cannot be read on at offset 0" in said
    assert "Only doors and control may write to this topic" in said
    assert live.partitions[2].cursor == 0
