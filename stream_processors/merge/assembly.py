"""Numbered parts, from several writers and with repeats, become whole reports of a partition."""

from collections import deque
from typing import NamedTuple

import msgspec

from schemas.control import Change, Settings, Times
from schemas.partials import ExperimentSums, ImportCount, Ledger, Partial, experiments_of

_Waiting = tuple[list[ExperimentSums], list[ImportCount] | None]

_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(_Waiting)


class PartialGapError(Exception):
    """A tick of a partition was never reported. Going on would lose it, so the worker stops."""


class Report(NamedTuple):
    """All parts of one partition's report at one tick.

    Attributes:
        first_offset: Of its first part, in ``litmus.partials``.
        state_version: Rules under which it was counted.
        tick: Number of the tick.
        times: Its times.
        next_offset: First offset of ``litmus.events`` that is not in the sums.
        ledger: The rows of the partition so far.
        changes: What took effect with the tick; of partition 0 only.
        settings: The logged settings at the tick.
        experiments: What is due and changed.
        imports: What was taken of imports; None: as in the report before.
        size: Bytes of its messages.
    """

    first_offset: int
    state_version: int
    tick: int
    times: Times
    next_offset: int
    ledger: Ledger
    changes: list[Change]
    settings: Settings
    experiments: list[ExperimentSums]
    imports: list[ImportCount] | None
    size: int


class _Part(NamedTuple):
    offset: int
    partial: Partial
    size: int


class PartitionReports:
    """Reports of one partition, in the order of ticks. The first complete one of a tick wins.

    Attributes:
        last_tick: Last tick that was completely reported.
        complete: Whole reports that wait for those of other partitions. Only the first has its
            experiments and imports; those of the others are packed, because they take many times
            as much memory as their message: sums of many segments fifteen, counts of imports six.
        waiting_bytes: Of their messages.
    """

    def __init__(self, last_tick: int) -> None:
        self.last_tick = last_tick
        self.complete: deque[Report] = deque()
        self.waiting_bytes = 0
        self._packed: deque[bytes] = deque()
        self._parts: dict[str, list[_Part]] = {}

    def take(self, offset: int, partial: Partial, size: int) -> None:
        """Put one part in, a message of ``size`` bytes. Ticks that are complete are ignored.

        Raises:
            PartialGapError: If the tick before was never complete.
        """
        if partial.tick <= self.last_tick:
            return
        if partial.tick != self.last_tick + 1:
            raise PartialGapError(
                f"partition {partial.partition} reports tick {partial.tick},"
                f" must be {self.last_tick + 1}. Stop the stack and all workers (`litmus down`),"
                " run `litmus recount`, start again (`litmus up`): litmus.events is counted anew"
            )
        # A writer that begins again begins at part 0; whatever it left before is void.
        if partial.part == 0:
            self._parts[partial.writer] = []
        parts = self._parts.get(partial.writer)
        if parts is None or partial.part != len(parts):
            return
        if parts and parts[0].partial.parts != partial.parts:
            return
        parts.append(_Part(offset, partial, size))
        if len(parts) == partial.parts:
            self._append(_joined(parts))
            self.last_tick = partial.tick
            self._parts.clear()

    def pop(self) -> Report:
        """Hand over the oldest whole report."""
        report = self.complete.popleft()
        self.waiting_bytes -= report.size
        if self.complete:
            experiments, imports = _unpacker.decode(self._packed.popleft())
            self.complete[0] = self.complete[0]._replace(experiments=experiments, imports=imports)
        return report

    def first_offset(self) -> int | None:
        """Return the smallest offset of a part that is not merged yet; None without any."""
        if self.complete:
            return self.complete[0].first_offset  # parts are taken tick by tick
        return min((parts[0].offset for parts in self._parts.values() if parts), default=None)

    def _append(self, report: Report) -> None:
        self.waiting_bytes += report.size
        if self.complete:
            self._packed.append(_packer.encode((report.experiments, report.imports)))
            report = report._replace(experiments=[], imports=None)
        self.complete.append(report)


def _joined(parts: list[_Part]) -> Report:
    first_offset, first, _ = parts[0]
    return Report(
        first_offset=first_offset,
        state_version=first.state_version,
        tick=first.tick,
        times=first.times,
        next_offset=first.next_offset,
        ledger=first.ledger,
        changes=first.changes,
        settings=first.settings,
        experiments=experiments_of(part.partial for part in parts),
        imports=first.imports,
        size=sum(part.size for part in parts),
    )
