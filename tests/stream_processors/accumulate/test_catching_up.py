"""Catching up applies what a log holds, in its order; being interrupted leaves nothing open."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any

import pytest
from faust.types import TP

from schemas.control import DefinitionChange
from schemas.topics import EVENTS, KIND_HEADER
from stream_processors.accumulate.agent import LivePartitions
from stream_processors.accumulate.outbox import Outbox
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.writing import Write
from tests.stream_processors.accumulate.builders import T0, Message, definition, tick


class Record:
    """A record as a consumer hands it over."""

    def __init__(self, offset: int, message: Message) -> None:
        self._offset, self._message = offset, message

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def headers(self) -> list[tuple[str, bytes]]:
        return [(KIND_HEADER, self._message.kind)]

    def value(self) -> bytes:
        return self._message.value


class Log:
    """Ticks of one partition, two at a time; ``gate`` holds each reading up until it is set."""

    def __init__(self, ticks: int) -> None:
        messages = [tick(1, T0, DefinitionChange(definition("x")))]
        messages += [tick(number, T0 + number) for number in range(2, ticks + 1)]
        self._records = [Record(offset, one) for offset, one in enumerate(messages)]
        self.gate = threading.Event()
        self.is_reading = threading.Event()
        self.is_closed = False

    def read(self, cursors: Mapping[int, int | None]) -> Generator[list[Any], None, None]:
        try:
            for start in range(cursors[0] or 0, len(self._records), 2):
                self.is_reading.set()
                assert self.gate.wait(60)
                yield self._records[start : start + 2]
        finally:
            self.is_closed = True


class GrowingLog(Log):
    """Each reading takes ``seconds`` of it; as many ticks as those come meanwhile."""

    def __init__(self, *, seconds_per_tick: float, ticks_per_second: int) -> None:
        super().__init__(1_000)
        self.gate.set()
        self.now_s = 0.0
        self.read_through: list[int] = []
        self._end = 100
        self._seconds_per_tick, self._ticks_per_second = seconds_per_tick, ticks_per_second

    def read(self, cursors: Mapping[int, int | None]) -> Generator[list[Any], None, None]:
        end, cursor = self._end, cursors[0] or 0
        took_s = (end - cursor) * self._seconds_per_tick
        yield self._records[cursor:end]
        self.now_s += took_s
        self._end = end + int(took_s * self._ticks_per_second)
        self.read_through.append(end)


class Nowhere:
    """A changelog and a topic that take everything at once."""

    async def publish(self, _partition: int, _message: bytes) -> None:
        return

    def write(self, _partition: int, _write: Write) -> Awaitable[object]:
        delivery: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        delivery.set_result(None)
        return delivery


@pytest.fixture
async def live() -> LivePartitions:
    return owner()


def owner(clock: Callable[[], float] = time.monotonic) -> LivePartitions:
    """Return a process that owns a partition it has not read yet."""
    out = Nowhere()
    one = LivePartitions(
        servers="",
        writer="w",
        records=lambda _: {},
        changelog=out,
        publish=out.publish,
        clock=clock,
    )
    one.partitions[0] = Partition(0, writer="w")
    one._outboxes[0] = Outbox(0, publish=out.publish, changelog=out)
    return one


async def test_all_that_the_log_holds_is_applied(live: LivePartitions) -> None:
    log = Log(7)
    log.gate.set()

    await live.catch_up(log.read)

    assert live.partitions[0].tick == 7
    assert log.is_closed
    await live.close()


@pytest.mark.parametrize(
    ("seconds_per_tick", "read_through"),
    [(0.1, [100, 150, 175, 187, 193]), (0.25, [100, 225])],
    ids=["until little comes meanwhile", "until it becomes no less"],
)
async def test_what_comes_meanwhile_is_applied_in_bulk_too(
    seconds_per_tick: float, read_through: list[int]
) -> None:
    log = GrowingLog(seconds_per_tick=seconds_per_tick, ticks_per_second=5)
    one = owner(clock=lambda: log.now_s)

    await one.catch_up(log.read)

    assert log.read_through == read_through
    assert one.partitions[0].tick == read_through[-1]
    await one.close()


async def test_an_interrupted_reader_is_closed_and_what_it_applied_stays(
    live: LivePartitions,
) -> None:
    log = Log(7)
    catching_up = asyncio.create_task(live.catch_up(log.read))
    assert await asyncio.to_thread(log.is_reading.wait, 60)

    catching_up.cancel()  # as by a rebalance, while a thread waits for the broker
    log.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await catching_up

    assert log.is_closed
    assert live.partitions[0].tick == 0
    await live.catch_up(log.read)
    assert live.partitions[0].tick == 7
    await live.close()


async def test_what_stayed_through_a_rebalance_is_written_anew_once_caught_up(
    live: LivePartitions,
) -> None:
    """Another owner may have written in between; its records are not known here."""
    log = Log(7)
    log.gate.set()
    await live.catch_up(log.read)
    assert not live.partitions[0].state.segments["dirty"].any()

    await live.load(frozenset({TP(EVENTS.name, 0)}))
    assert not live.partitions[0].state.segments["dirty"].any()
    await live.catch_up(log.read)

    assert live.partitions[0].state.segments["dirty"].all()
    await live.close()


async def test_closing_gives_everything_up(live: LivePartitions) -> None:
    log = Log(3)
    log.gate.set()
    await live.catch_up(log.read)

    await live.close()

    assert live.partitions == {}
    await live.apply(0, 99, b"nonsense", b"after it was closed")
