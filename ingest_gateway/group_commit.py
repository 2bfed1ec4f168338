"""Requests that arrive together share batches: one acknowledgement answers many of them.

A reader of ``litmus.events`` pays per message, not per row, so a gateway sends few and full ones:
a group leaves two milliseconds after its first request when all is quiet, later when messages
would come too fast or acknowledgements are outstanding, and never later than fifty.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ingest_gateway.errors import GatewayError, QueueFullError
from ingest_gateway.events import Admitted
from ingest_gateway.packer import Packed, pack, pack_late
from ingest_gateway.sink import EventSink, Message
from ingest_gateway.telemetry import (
    Door,
    report_batch,
    report_queued_bytes,
    report_queued_rows,
)
from schemas.topics import EVENTS, KIND_BATCH, KIND_HEADER, LATE

logger = logging.getLogger(__name__)

WINDOW_S_MIN = 0.002
WINDOW_S_MAX = 0.05
MESSAGES_PER_SECOND = 500
"""Half of what a Faust worker takes; there is another door, and there are ticks."""

ROWS_PER_GROUP = 16_000
"""A group this large leaves at once."""

ROWS_MAX = 200_000
BYTES_MAX = 64 << 20
"""Rows, and bytes of the requests that brought them, waiting or under way; more are refused. A
single request always fits when all is quiet."""

BATCH_HEADERS = ((KIND_HEADER, KIND_BATCH),)


class Contribution(NamedTuple):
    """What one request brings.

    Attributes:
        accepted: Rows of ``litmus.events``.
        late: Rows of ``litmus.late``.
        set_aside: Dead letters.
        byte_count: What the request took in memory: its body, no longer compressed.
    """

    accepted: Sequence[Admitted]
    late: Sequence[Admitted]
    set_aside: Sequence[Message]
    byte_count: int = 0

    @property
    def row_count(self) -> int:
        """Return how many rows and dead letters there are."""
        return len(self.accepted) + len(self.late) + len(self.set_aside)


class _Waiting(NamedTuple):
    contribution: Contribution
    placed: "asyncio.Future[dict[int, int]]"


class Pace:
    """When a group leaves. Pure: time is an argument.

    Every message sent puts the next group off by its share of a second; what is outstanding
    beyond the last group counts as a message would at the idle window.
    """

    def __init__(self) -> None:
        self._free_at_s = 0.0

    def window_s(self, now_s: float, *, groups_under_way: int) -> float:
        """Return how long a group that begins now waits for company."""
        until_free_s = self._free_at_s - now_s
        window_s = max(WINDOW_S_MIN * (1 + groups_under_way), until_free_s)
        return min(window_s, WINDOW_S_MAX)

    def left(self, now_s: float, *, messages: int) -> None:
        """Note that a group left."""
        self._free_at_s = max(self._free_at_s, now_s) + messages / MESSAGES_PER_SECOND
        self._free_at_s = min(self._free_at_s, now_s + WINDOW_S_MAX)


class GroupCommit:
    """Gathers what requests bring, sends it, and tells each where its rows are.

    Args:
        sink: Where messages go.
        partition_count: Partitions of ``litmus.events``.
        clock_s: Monotonic seconds.
        rows_max: Rows waiting or under way.
        bytes_max: Bytes of the requests that brought them.
    """

    def __init__(
        self,
        sink: EventSink,
        *,
        partition_count: int,
        clock_s: Callable[[], float],
        rows_max: int = ROWS_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self._sink = sink
        self._partition_count = partition_count
        self._clock_s = clock_s
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._pace = Pace()
        self._waiting: list[_Waiting] = []
        self._rows_waiting = 0
        self._rows = 0
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def commit(self, contribution: Contribution) -> dict[int, int]:
        """Return once all of it is durable: partition of ``litmus.events`` -> highest offset.

        Raises:
            UnavailableError: If it is not, or not known to be; or there is no room.
        """
        rows = contribution.row_count
        self._check_room(contribution)
        placed = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(contribution, placed))
        self._rows_waiting += rows
        self._count(rows, contribution.byte_count)
        if self._rows_waiting >= ROWS_PER_GROUP:
            self._send()
        elif self._timer is None:
            window_s = self._pace.window_s(self._clock_s(), groups_under_way=len(self._under_way))
            self._timer = asyncio.get_running_loop().call_later(window_s, self._send)
        return await placed

    async def drain(self) -> None:
        """Send what waits, and return when nothing is under way."""
        self._send()
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        group, self._waiting, self._rows_waiting = self._waiting, [], 0
        if group:
            task = asyncio.create_task(self._carry(group))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _carry(self, group: list[_Waiting]) -> None:
        """Send one group; whatever happens concerns its requests and no others."""
        try:
            places = await self._place([waiting.contribution for waiting in group])
        except GatewayError as error:
            for waiting in group:
                _fail(waiting, type(error)(str(error)))
        except Exception as error:
            logger.exception("group_failed requests=%d", len(group))
            for waiting in group:
                _fail(waiting, error)
        else:
            for waiting, place in zip(group, places, strict=True):
                if not waiting.placed.done():
                    waiting.placed.set_result(place)
        finally:
            self._count(
                -sum(waiting.contribution.row_count for waiting in group),
                -sum(waiting.contribution.byte_count for waiting in group),
            )

    async def _place(self, contributions: Sequence[Contribution]) -> list[dict[int, int]]:
        accepted = [event for one in contributions for event in one.accepted]
        late = [event for one in contributions for event in one.late]
        batches = pack(accepted, partition_count=self._partition_count, door=Door.HTTP)
        messages = [
            *messages_of(batches, EVENTS.name),
            *messages_of(pack_late(late, door=Door.HTTP), LATE.name),
            *(letter for one in contributions for letter in one.set_aside),
        ]
        for batch in batches:
            report_batch(Door.HTTP, len(batch.rows))
        self._pace.left(self._clock_s(), messages=len(batches))
        deliveries = await self._sink.publish(messages)
        places: list[dict[int, int]] = [{} for _ in contributions]
        ends = np.array(list(accumulate(len(one.accepted) for one in contributions)))
        for batch, delivery in zip(batches, deliveries, strict=False):
            for owner in np.unique(np.searchsorted(ends, batch.rows, side="right")).tolist():
                known = places[owner].get(batch.partition, -1)
                places[owner][batch.partition] = max(known, delivery.offset)
        return places

    def _check_room(self, contribution: Contribution) -> None:
        rows, size = contribution.row_count, contribution.byte_count
        if self._rows and self._rows + rows > self._rows_max:
            raise QueueFullError(f"{self._rows} rows are on their way, {rows} more do not fit")
        if self._rows and self._bytes + size > self._bytes_max:
            raise QueueFullError(f"{self._bytes} bytes are on their way, {size} more do not fit")

    def _count(self, rows: int, size: int) -> None:
        self._rows += rows
        self._bytes += size
        report_queued_rows(Door.HTTP, self._rows)
        report_queued_bytes(self._bytes)


def messages_of(batches: Sequence[Packed], topic: str) -> list[Message]:
    """Return packed batches as messages."""
    return [
        Message(topic, batch.value, batch.partition, headers=BATCH_HEADERS) for batch in batches
    ]


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.placed.done():
        waiting.placed.set_exception(error)
