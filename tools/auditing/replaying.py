"""One partition, built from its checkpoints as a restarted worker builds it, and read on. Pure.

At every checked tick the sums that were kept incrementally are held to a fold of the cells; what
the partition reports is kept, to be held to the looks.
"""

from typing import Any, NamedTuple

from schemas.definitions import Definition
from schemas.partials import ExperimentSums, decode_partial, experiments_of
from stream_processors.accumulate.auditing import fold_differences
from stream_processors.accumulate.partition import Partition

CHECK_EVERY = 50
"""Ticks between two folds; the last tick is always checked."""


class Difference(NamedTuple):
    """Sums that are not the fold of their cells, or not those of a look.

    Attributes:
        where: Partition, or experiment.
        tick: As of which tick.
        what: Which of the sums.
        expected: What the fold, or the log, amounts to.
        found: What was kept, or published.
    """

    where: str
    tick: int
    what: str
    expected: Any
    found: Any


class Reported(NamedTuple):
    """What a partition said of an experiment at a tick."""

    definition: Definition
    sums: ExperimentSums


class ReplayedPartition:
    """Drives a partition and checks it.

    Attributes:
        partition: What it drives.
        live_tick: First tick with sums; None before.
        folds: How often sums were held to a fold.
        differences: What was found.
        reports: Tick to experiment id to what was reported.
    """

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.live_tick: int | None = None
        self.folds = 0
        self.differences: list[Difference] = []
        self.reports: dict[int, dict[str, Reported]] = {}

    def apply(self, offset: int, kind: bytes | None, value: bytes) -> int:
        """Apply a message; return the last tick."""
        ticked = self.partition.apply(offset, kind, value)
        if ticked is not None and self.partition.is_live:
            if self.live_tick is None:
                self.live_tick = ticked.tick
            self._keep(ticked.tick, ticked.partials)
            if ticked.tick % CHECK_EVERY == 0:
                self.check()
        return self.partition.tick

    def check(self) -> None:
        """Hold the sums to a fold of the cells."""
        self.folds += 1
        self.differences += [Difference(**one) for one in fold_differences(self.partition)]

    def release(self) -> None:
        """Let go of the state; what was reported stays."""
        del self.partition

    def _keep(self, tick: int, partials: list[bytes]) -> None:
        definitions = self.partition.control.definitions
        self.reports[tick] = {
            sums.experiment_id: Reported(definitions[sums.experiment_id], sums)
            for sums in experiments_of(map(decode_partial, partials))
        }
