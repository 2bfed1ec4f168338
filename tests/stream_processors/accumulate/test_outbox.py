"""What is remembered was reported before; what is deleted was replaced before.

The broker here acknowledges when it is told to, in any order, and may lose what it was sent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from stream_processors.accumulate.outbox import WAITING_TICKS_MAX, Outbox
from stream_processors.accumulate.partition import Ticked
from stream_processors.accumulate.writing import Write
from tests.seeds import seeds

PARTITION = 3


class DeliveryError(Exception):
    """The broker did not take it."""


class SlowBroker:
    """Takes partials and records; acknowledges one at a time, when ``acknowledge`` says so.

    Attributes:
        sent: Everything that was handed over, in order.
        acknowledged: What the broker has, in the order of its acknowledgements.
    """

    def __init__(self, *, fails: object = None) -> None:
        self.sent: list[bytes] = []
        self.acknowledged: list[bytes] = []
        self._fails = fails
        self._waiting: dict[bytes, asyncio.Future[None]] = {}

    async def publish(self, partition: int, message: bytes) -> None:
        await self._send(partition, message)

    def write(self, partition: int, write: Write) -> Awaitable[object]:
        return self._send(partition, write.key if write.value is not None else b"-" + write.key)

    def _send(self, partition: int, what: bytes) -> asyncio.Future[None]:
        assert partition == PARTITION
        self.sent.append(what)
        self._waiting[what] = asyncio.get_running_loop().create_future()
        return self._waiting[what]

    @property
    def waiting(self) -> list[bytes]:
        return list(self._waiting)

    def acknowledge(self, what: bytes) -> None:
        future = self._waiting.pop(what)
        if future.cancelled():
            return
        if what == self._fails:
            future.set_exception(DeliveryError(what))
        else:
            self.acknowledged.append(what)
            future.set_result(None)


def ticked(number: int, *, parts: int = 1) -> Ticked:
    """Return a tick that reports, writes two records, and deletes the two they replace."""
    name = str(number).encode()
    return Ticked(
        number,
        [b"partial %s.%d" % (name, part) for part in range(parts)],
        [
            Write(b"record " + name, b"new"),
            Write(b"old " + name, None),
            Write(b"other " + name, b"new"),
            Write(b"older " + name, None),
        ],
    )


@asynccontextmanager
async def outbox(broker: SlowBroker):  # noqa: ANN201
    box = Outbox(PARTITION, publish=broker.publish, changelog=broker)
    try:
        yield box
    finally:
        box.close()
        await until(box._task.done)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


async def settle() -> None:
    """Let everything happen that can without the broker."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_record_is_written_before_all_partials_of_its_tick_are_there() -> None:
    broker = SlowBroker()
    async with outbox(broker) as box:
        await box.put(ticked(1, parts=2))

        await until(lambda: b"partial 1.0" in broker.waiting)
        await settle()
        assert broker.sent == [b"partial 1.0"]

        broker.acknowledge(b"partial 1.0")
        await settle()
        assert broker.sent == [b"partial 1.0", b"partial 1.1"]

        broker.acknowledge(b"partial 1.1")
        await settle()
        assert broker.sent[2:] == [b"record 1", b"other 1"]


async def test_nothing_is_deleted_before_every_record_that_replaces_it_is_there() -> None:
    broker = SlowBroker()
    async with outbox(broker) as box:
        await box.put(ticked(1))
        await until(lambda: b"partial 1.0" in broker.waiting)
        broker.acknowledge(b"partial 1.0")
        await settle()

        broker.acknowledge(b"other 1")
        await settle()
        assert broker.waiting == [b"record 1"]

        broker.acknowledge(b"record 1")
        await settle()
        assert broker.waiting == [b"-old 1", b"-older 1"]


@pytest.mark.parametrize("seed", seeds(20))
async def test_whatever_the_order_of_acknowledgements_ticks_go_out_one_after_the_other(
    seed: int,
) -> None:
    random, broker = Random(seed), SlowBroker()
    async with outbox(broker) as box:
        putting = asyncio.create_task(put_all(box, [ticked(number) for number in range(1, 6)]))
        while len(broker.acknowledged) < 5 * 5:
            await settle()
            broker.acknowledge(random.choice(broker.waiting))
        await putting

    for number in range(5):
        partial, *records = broker.sent[5 * number : 5 * number + 5]
        name = str(number + 1).encode()
        assert partial == b"partial %s.0" % name
        kept = [b"record " + name, b"other " + name]
        assert records == [*kept, b"-old " + name, b"-older " + name]
        done = broker.acknowledged[5 * number : 5 * number + 5]
        assert done[0] == partial
        assert set(done[1:3]) == set(kept)


async def put_all(box: Outbox, ticks: list[Ticked]) -> None:
    for one in ticks:
        await box.put(one)


async def test_a_lost_partial_stops_the_next_tick_and_nothing_of_its_own_is_written() -> None:
    broker = SlowBroker(fails=b"partial 1.1")
    async with outbox(broker) as box:
        await box.put(ticked(1, parts=2))
        await until(lambda: b"partial 1.0" in broker.waiting)
        broker.acknowledge(b"partial 1.0")
        await settle()
        broker.acknowledge(b"partial 1.1")
        await until(box._task.done)

        with pytest.raises(DeliveryError, match=r"partial 1\.1"):
            await box.put(ticked(2))

        assert broker.sent == [b"partial 1.0", b"partial 1.1"]


async def test_a_lost_record_stops_the_next_tick_and_nothing_is_deleted() -> None:
    broker = SlowBroker(fails=b"other 1")
    async with outbox(broker) as box:
        await box.put(ticked(1))
        await until(lambda: b"partial 1.0" in broker.waiting)
        for what in (b"partial 1.0", b"record 1", b"other 1"):
            await settle()
            broker.acknowledge(what)
        await until(box._task.done)

        with pytest.raises(DeliveryError, match="other 1"):
            await box.put(ticked(2))

        assert broker.sent == [b"partial 1.0", b"record 1", b"other 1"]


async def test_whoever_waits_for_room_hears_of_a_lost_partial_at_once() -> None:
    broker = SlowBroker(fails=b"partial 1.0")
    async with outbox(broker) as box:
        waiting = asyncio.create_task(put_all(box, [ticked(number) for number in range(1, 9)]))
        await settle()
        assert not waiting.done()

        broker.acknowledge(b"partial 1.0")

        with pytest.raises(DeliveryError, match=r"partial 1\.0"):
            await waiting


async def test_reading_waits_while_more_than_two_ticks_do() -> None:
    broker = SlowBroker()
    async with outbox(broker) as box:
        await box.put(ticked(1))
        await until(lambda: b"partial 1.0" in broker.waiting)  # on its way, waits no longer
        await put_all(box, [ticked(number) for number in range(2, 2 + WAITING_TICKS_MAX)])
        one_more = asyncio.create_task(box.put(ticked(9)))
        await settle()
        assert not one_more.done()

        for what in (b"partial 1.0", b"record 1", b"other 1", b"-old 1", b"-older 1"):
            assert not one_more.done()
            broker.acknowledge(what)
            await settle()

        assert one_more.done()
        await one_more


async def test_a_tick_that_writes_nothing_still_reports() -> None:
    broker = SlowBroker()
    async with outbox(broker) as box:
        await put_all(box, [Ticked(1, [b"first"], []), Ticked(2, [b"second"], [])])
        await until(lambda: b"first" in broker.waiting)
        broker.acknowledge(b"first")
        await until(lambda: b"second" in broker.waiting)


async def test_after_closing_nothing_more_goes_out() -> None:
    broker = SlowBroker()
    async with outbox(broker) as box:
        await put_all(box, [ticked(1), ticked(2)])
        await until(lambda: b"partial 1.0" in broker.waiting)

        box.close()
        broker.acknowledge(b"partial 1.0")
        await settle()

    assert broker.sent == [b"partial 1.0"]


async def test_whoever_waits_for_room_goes_on_when_the_partition_is_given_away() -> None:
    """Cancelled instead, the agent would end, and with it the process."""
    broker = SlowBroker()
    async with outbox(broker) as box:
        waiting = asyncio.create_task(put_all(box, [ticked(number) for number in range(1, 9)]))
        await settle()
        assert not waiting.done()

        box.close()
        await until(waiting.done)

        assert not waiting.cancelled()
        waiting.result()
