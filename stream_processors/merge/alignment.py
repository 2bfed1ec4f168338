"""Reports of all partitions side by side: a tick is whole once every one of them has reported it.

While a partition is away the others go on reporting. Of one that has as much waiting as it may
nothing more is kept: where it stopped is remembered, and reading goes back there once all that it
had waiting is merged. Messages of every partition are taken once each, in their order, so the ticks
are those that they would be without a limit.
"""

from typing import NamedTuple

from schemas.partials import Partial
from stream_processors.merge.assembly import PartitionReports, Report

WAITING_BYTES_MAX = 64_000_000
"""Bytes of messages; what is kept of them takes little more memory, see ``assembly``."""

REPORT_BYTES_MIN = 2_000
"""What a report counts for at least."""

BEHIND_TICKS = 10


class Waiting(NamedTuple):
    """What waits for partitions that have not reported.

    Attributes:
        ticks: Per partition, how many ticks it is behind the newest of any.
        bytes: Of messages whose reports are held.
    """

    ticks: tuple[int, ...]
    bytes: int


class _Place:
    """One partition: what was taken of it, and where its messages go on.

    Attributes:
        reports: What was taken and is not merged.
        offset: All its messages before were taken, and if it does not follow none from here on.
        follows: Whether its messages are taken as they are read, those before ``offset`` not again.
        tick: Last tick that it has reported, taken or not.
    """

    def __init__(self, tick: int, offset: int) -> None:
        self.reports = PartitionReports(tick)
        self.offset = offset
        self.follows = True
        self.tick = tick

    def goes_on_at(self, read: int) -> int:
        """Return its first offset that was not taken, if all before ``read`` were read."""
        return max(self.offset, read) if self.follows else self.offset

    def is_starved(self) -> bool:
        return not self.reports.complete


class Alignment:
    """Reports that wait for those of other partitions, within a limit.

    Args:
        partition_count: Partitions of ``litmus.events``.
        tick: Last tick that was merged.
        offset: First offset of ``litmus.partials`` to be read.
        bytes_max: What may wait, all partitions together; beside it one report of each.

    Attributes:
        next_offset: Where to read on. It goes back when what was left to the topic is needed.
    """

    def __init__(self, partition_count: int, *, tick: int, offset: int, bytes_max: int) -> None:
        self.next_offset = offset
        self._end = offset
        self._places = [_Place(tick, offset) for _ in range(partition_count)]
        self._fetched: _Place | None = None
        self._bytes_max = bytes_max // partition_count

    def take(self, offset: int, partial: Partial, size: int) -> list[Report] | None:
        """Take the message at ``next_offset``; return all reports of the tick that it completes.

        Args:
            offset: Of the message.
            partial: What it says.
            size: Its bytes.

        Raises:
            PartialGapError: If a tick of its partition is missing.
        """
        self.next_offset = offset + 1
        self._end = max(self._end, self.next_offset)
        self._take(self._places[partial.partition], offset, partial, size)
        tick = None
        if all(place.reports.complete for place in self._places):
            tick = [place.reports.pop() for place in self._places]
        if tick is not None or self._fetched is not None:
            self._choose()
        return tick

    def waiting(self) -> Waiting:
        """Return what waits for partitions that have not reported."""
        newest = max(place.tick for place in self._places)
        return Waiting(
            tuple(newest - place.tick for place in self._places),
            sum(place.reports.waiting_bytes for place in self._places),
        )

    def is_full(self) -> bool:
        """Return whether reports are left to the topic, because as many as may be are held."""
        return not all(place.follows for place in self._places)

    def behind(self) -> list[int]:
        """Return the partitions that hold looks back: far behind the newest tick of any."""
        ticks = self.waiting().ticks
        return [partition for partition, count in enumerate(ticks) if count > BEHIND_TICKS]

    def resume_offset(self) -> int:
        """Return where to go on after a restart: the smallest offset that is not merged."""
        offsets = (
            place.goes_on_at(self.next_offset) if held is None else held
            for place in self._places
            for held in [place.reports.first_offset()]
        )
        return min(offsets)

    def _take(self, place: _Place, offset: int, partial: Partial, size: int) -> None:
        reports = place.reports
        if place.follows and offset >= place.offset:
            if reports.complete and reports.waiting_bytes + size > self._bytes_max:
                place.follows, place.offset = False, offset
            else:
                reports.take(offset, partial, max(size, REPORT_BYTES_MIN))
                place.tick = max(place.tick, reports.last_tick)
        if not place.follows:
            is_last = partial.part == partial.parts - 1
            place.tick = max(place.tick, partial.tick if is_last else partial.tick - 1)

    def _choose(self) -> None:
        """Choose where to read on: once begun, until the one that is read for has enough."""
        one = self._fetched
        if one is not None and one.follows and self.next_offset < self._end:
            return
        read = self.next_offset
        starved = [place for place in self._places if place.is_starved()]
        one = min(starved, key=lambda place: place.goes_on_at(read))
        self._go_to(one.goes_on_at(read))
        self._fetched = one if self.next_offset < self._end else None

    def _go_to(self, offset: int) -> None:
        if offset == self.next_offset:
            return
        for place in self._places:
            place.offset = place.goes_on_at(self.next_offset)
            place.follows = place.offset >= offset
        self.next_offset = offset
