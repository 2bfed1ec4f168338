"""What ticks yield, on its way out: partials first, then checkpoints, then deletions.

A record is written only after the partial of its tick is acknowledged, so a segment never knows
more than was reported and no look can be lost. A few ticks may wait; then reading pauses.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from stream_processors.accumulate.partition import Ticked
from stream_processors.accumulate.writing import Write

WAITING_TICKS_MAX = 2

Publish = Callable[[int, bytes], Awaitable[None]]
"""Given partition and message: returns once the broker has it, raises if it was not delivered."""


class Changelog(Protocol):
    """Keeps the records of every partition."""

    def write(self, partition: int, write: Write) -> Awaitable[object]:
        """Hand a record over; the result is done once the broker has it. Does not block.

        Raises when awaited, if the record was not delivered.
        """


class Written(NamedTuple):
    """What the broker has acknowledged of a partition's checkpoints.

    Attributes:
        age_s: Seconds since the last one, or since the partition came to this process.
        byte_count: Bytes of all of them.
    """

    age_s: float
    byte_count: int


class Outbox:
    """One partition's way out, in order."""

    def __init__(self, partition: int, *, publish: Publish, changelog: Changelog) -> None:
        self._partition = partition
        self._publish = publish
        self._changelog = changelog
        self._waiting: asyncio.Queue[Ticked] = asyncio.Queue(WAITING_TICKS_MAX)
        self._written_at_s = time.monotonic()
        self._written_bytes = 0
        self._task = asyncio.create_task(self._deliver(), name=f"outbox-{partition}")

    @property
    def written(self) -> Written:
        """Return what the broker has of this partition's checkpoints."""
        return Written(time.monotonic() - self._written_at_s, self._written_bytes)

    async def put(self, ticked: Ticked) -> None:
        """Hand over what a tick yielded; waits while too much waits. Raises if delivery failed.

        Returns at once when the outbox is closed: the partition is another process's now.
        """
        putting = asyncio.ensure_future(self._waiting.put(ticked))
        await asyncio.wait({putting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            putting.cancel()
            if not self._task.cancelled():
                self._task.result()
            return
        await putting

    def close(self) -> None:
        """Stop; what waits is not delivered, and nothing depends on it."""
        self._task.cancel()

    async def finish(self, seconds_max: float) -> None:
        """Deliver what waits, then stop; what takes longer than that is not delivered."""
        delivered = asyncio.ensure_future(self._waiting.join())
        await asyncio.wait(
            {delivered, self._task}, timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED
        )
        delivered.cancel()
        self.close()

    async def _deliver(self) -> None:
        while True:
            ticked = await self._waiting.get()
            for message in ticked.partials:
                await self._publish(self._partition, message)
            kept = [write for write in ticked.writes if write.value is not None]
            deleted = [write for write in ticked.writes if write.value is None]
            for writes in (kept, deleted):
                # Handed over in order: within the partition a suffix may be lost, nothing else.
                sent = [self._changelog.write(self._partition, write) for write in writes]
                for delivery in sent:
                    await delivery
            if kept:
                self._written_at_s = time.monotonic()
                self._written_bytes += sum(len(one.value or b"") for one in kept)
            self._waiting.task_done()
