"""Keeps the load at its rate, half of it through each door, in a few large steps a second."""

import asyncio
import time
from collections.abc import Callable

from tools.soak.doors import HttpDoor, KafkaDoor
from tools.soak.traffic import Traffic

STEPS_PER_SECOND = 5
ASSIGNED_PER_BATCH = 500
REPEAT_EVERY = 100
REQUESTS_IN_FLIGHT_MAX = 16

Now = Callable[[], int]


async def assign_all(traffic: Traffic, http: HttpDoor, kafka: KafkaDoor, now_ms: Now) -> None:
    """Assign the whole population, the two doors taking turns."""
    for turn, first in enumerate(range(0, traffic.unit_count, ASSIGNED_PER_BATCH)):
        batch = traffic.assignments(first, ASSIGNED_PER_BATCH, now_ms())
        if turn % 2:
            await kafka.send(batch)
        else:
            await http.send(batch)
    await kafka.flush()


async def send_at_once(
    traffic: Traffic, http: HttpDoor, kafka: KafkaDoor, *, count: int, now_ms: Now
) -> None:
    """Send events as fast as they are taken, half through each door."""
    per_batch = 1_000

    async def through_http() -> None:
        for _ in range(count // 2 // (4 * per_batch)):
            batches = [traffic.events(per_batch, now_ms()) for _ in range(4)]
            await asyncio.gather(*(http.send(batch) for batch in batches))

    async def through_kafka() -> None:
        for _ in range(count // 2 // per_batch):
            await kafka.send(traffic.events(per_batch, now_ms()))
            await asyncio.sleep(0)
        await kafka.flush()

    await asyncio.gather(through_http(), through_kafka())


class Driver:
    """Sends at a rate until told to stop.

    Attributes:
        rate: Events a second.
        behind_s: How far it was behind at the last step.
    """

    def __init__(
        self, traffic: Traffic, http: HttpDoor, kafka: KafkaDoor, *, rate: float, now_ms: Now
    ) -> None:
        self._traffic, self._http, self._kafka, self._now_ms = traffic, http, kafka, now_ms
        self.rate = rate
        self.behind_s = 0.0
        self._steps = 0

    async def run(self, seconds: float) -> None:
        """Return when the time is over and everything sent was answered."""
        free = asyncio.Semaphore(REQUESTS_IN_FLIGHT_MAX)
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while (due_s := self._steps / STEPS_PER_SECOND) < seconds:
                left_s = due_s - (time.monotonic() - began_s)
                self.behind_s = max(0.0, -left_s)
                if left_s > 0:
                    await asyncio.sleep(left_s)
                await free.acquire()
                step = group.create_task(self._step(self._steps))
                step.add_done_callback(lambda _: free.release())
                self._steps += 1
        await self._kafka.flush()

    async def _step(self, number: int) -> None:
        due = self._due(number + 1) - self._due(number)
        through_http = due // 2
        again = number % REPEAT_EVERY == 0
        if due - through_http:
            records = self._traffic.events(due - through_http, self._now_ms())
            await self._kafka.send(records)
            if again:
                await self._kafka.send(records, again=True)
        if through_http:
            batch = self._traffic.events(through_http, self._now_ms())
            await self._http.send(batch)
            if again:
                await self._http.send(batch, again=True)

    def _due(self, steps: int) -> int:
        return int(steps * self.rate / STEPS_PER_SECOND)
