"""A partition held to the oracle: ledgers after every message, all integers at every tick."""

from typing import Any

import numpy as np

from schemas.partials import (
    ExperimentSums,
    Ledger,
    covariate_sums_from_bytes,
    decode_partial,
    sums_from_bytes,
)
from stream_processors.accumulate.partition import Partition, Ticked
from tests.stream_processors.accumulate.builders import Message
from tests.stream_processors.accumulate.log_oracle import LogOracle

Integers = dict[str, Any]


def integers_of(sums: ExperimentSums) -> Integers:
    """Return what the oracle returns, from the engine's own report."""
    return {
        "units": sums.units,
        "crossovers": sums.crossovers,
        "matured": [sums_from_bytes(value) for value in sums.matured],
        "open": [sums_from_bytes(value) for value in sums.open],
        "overflowed": sums.overflowed,
        "attribution": sums.attribution,
        "matured_covariates": [
            covariate_sums_from_bytes(value) for value in sums.matured_covariates
        ],
        "open_covariates": [covariate_sums_from_bytes(value) for value in sums.open_covariates],
    }


def added(parts: list[Integers]) -> Integers:
    """Return the sum over partitions."""
    return {name: _plus([part[name] for part in parts]) for name in parts[0]}


def _plus(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, int):
        return sum(values)
    if isinstance(first, list):
        return [_plus(list(group)) for group in zip(*values, strict=True)]
    for other in values[1:]:
        first = first.plus(other)
    return first


def ledger_of(partition: Partition) -> Ledger:
    """Return the rows' ledger of a partition."""
    return Ledger(*partition.state.ledger.sum(axis=0).tolist())


def equals_its_fold(partition: Partition) -> bool:
    """Return whether the sums are what a fold of the cells makes; they are that from then on."""
    before = partition.sums()
    partition.refold()
    return all(np.array_equal(a, b) for a, b in zip(before, partition.sums(), strict=True))


class Held:
    """A partition and the oracle, reading the same log.

    Attributes:
        partition: The engine.
        oracle: The oracle.
        reported: Experiment to what its last report said.
    """

    def __init__(self, number: int = 0) -> None:
        self.partition = Partition(number, writer="w")
        self.oracle = LogOracle()
        self.reported: dict[str, Integers] = {}

    def read(self, message: Message) -> Ticked | None:
        """Read a message; hold what must hold after it."""
        self.oracle.apply(*message)
        ticked = self.partition.apply(self.partition.cursor, *message)
        # While a restarted one catches up with its newest segment, it says nothing.
        if self.partition.is_live:
            self.check_ledgers()
            if ticked:
                self.check_report(ticked)
        return ticked

    def check_ledgers(self) -> None:
        """Hold both ledgers to the oracle."""
        assert ledger_of(self.partition) == self.oracle.ledger
        for one in self.oracle.running:
            if one.id not in self.oracle.newly_final:
                assert self.partition.attribution(one.ordinal) == self.oracle.attribution(one)

    def check_integers(self) -> None:
        """Hold all sums of the experiments that are not final to the oracle."""
        for one in self.oracle.running:
            if one.id not in self.oracle.newly_final:
                sums = self.partition.experiment_sums(one, final=False)
                assert integers_of(sums) == self.oracle.counted(one)

    def check_report(self, ticked: Ticked) -> None:
        """Hold a tick's partials to the oracle: what is due and changed is in it, nothing else."""
        partials = [decode_partial(value) for value in ticked.partials]
        for partial in partials:
            assert partial.tick == ticked.tick == self.oracle.tick
            assert partial.times == self.oracle.times
            assert partial.ledger == self.oracle.ledger
            assert partial.next_offset == self.partition.cursor
        sums_of = {one.experiment_id: one for partial in partials for one in partial.experiments}
        for one in self.oracle.control.definitions.values():
            if not self.oracle.is_due(one):
                assert one.id not in sums_of
                continue
            truth = self.oracle.counted(one)
            if one.id in sums_of:
                sums = sums_of[one.id]
                self.reported[one.id] = integers_of(sums)
                assert sums.final == (one.id in self.oracle.newly_final)
            assert self.reported.get(one.id) == truth
