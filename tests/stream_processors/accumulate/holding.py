"""A partition held to the oracle: ledgers after every message, all integers at every tick."""

from typing import Any

import numpy as np

from schemas.definitions import Definition
from schemas.partials import (
    ExperimentSums,
    ImportCount,
    Ledger,
    decode_partial,
    experiments_of,
)
from stream_processors.accumulate.kernels.nodes import nodes_of_cells
from stream_processors.accumulate.partition import Partition, Ticked
from stream_processors.accumulate.state import CELLS, FREE_NODE, FREE_NODES, NODES
from stream_processors.merge.totals import Totals, totals_of
from stream_processors.stats.sums import CapSums, JointSums, MetricSums
from tests.stream_processors.accumulate.builders import Message
from tests.stream_processors.accumulate.log_oracle import LogOracle

Integers = dict[str, Any]


def integers_of(sums: ExperimentSums, definition: Definition) -> Integers:
    """Return what the oracle returns, from the engine's own report."""
    totals = totals_of([sums], definition)
    return {
        "attribution": sums.attribution,
        **_integers(totals),
        "segments": {
            attribute: {value: _integers(one) for value, one in values.items()}
            for attribute, values in totals.segments.items()
        },
    }


def _integers(totals: Totals) -> Integers:
    return {
        "units": list(totals.units),
        "crossovers": totals.crossovers,
        "overflowed": list(totals.overflowed),
        "matured": [list(metric) for metric in totals.matured],
        "open": [list(metric) for metric in totals.open],
    }


def added(parts: list[Integers]) -> Integers:
    """Return the sum over partitions."""
    return {name: _plus([part[name] for part in parts]) for name in parts[0]}


def _plus(values: list[Any]) -> Any:
    first = values[0]
    if first is None:
        return None
    if isinstance(first, int):
        return sum(values)
    if isinstance(first, JointSums | CapSums | MetricSums):
        return type(first)(*(_plus(list(group)) for group in zip(*values, strict=True)))
    if isinstance(first, list | tuple):
        return type(first)(_plus(list(group)) for group in zip(*values, strict=True))
    every = {key for value in values for key in value}
    return {key: _plus([value[key] for value in values if key in value]) for key in every}


def ledger_of(partition: Partition) -> Ledger:
    """Return the rows' ledger of a partition."""
    return Ledger(*partition.state.ledger.sum(axis=0).tolist())


def equals_its_fold(partition: Partition) -> bool:
    """Return whether the sums are what a fold of the cells makes; they are that from then on."""
    before = partition.sums()
    partition.refold()
    return all(np.array_equal(a, b) for a, b in zip(before, partition.sums(), strict=True))


def check_nodes(partition: Partition) -> None:
    """Hold the nodes of events: each is in the chain of one cell, or free for the next."""
    state = partition.state
    counts = state.counts.tolist()
    live = np.flatnonzero(state.cells["variant"][: counts[CELLS]] >= 0)
    in_use = nodes_of_cells(state, partition.plan, live, np.zeros(len(live), np.int64))
    free, node = 0, counts[FREE_NODE]
    while node:
        free, node = free + 1, int(state.nodes[node - 1]["next"])
    assert (free, in_use) == (counts[FREE_NODES], counts[NODES] - free)


class Held:
    """A partition and the oracle, reading the same log.

    Attributes:
        partition: The engine.
        oracle: The oracle.
        reported: Experiment to what its last report said.
        imports: What was last reported of imports.
    """

    def __init__(self, number: int = 0) -> None:
        self.partition = Partition(number, writer="w")
        self.oracle = LogOracle()
        self.reported: dict[str, Integers] = {}
        self.imports: list[ImportCount] | None = None

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
        assert self.partition.import_counts() == self.oracle.imports
        for one in self.oracle.running:
            if one.id not in self.oracle.newly_final:
                assert self.partition.attribution(one.ordinal) == self.oracle.attribution(one)

    def check_integers(self) -> None:
        """Hold all sums of the experiments that are not final to the oracle."""
        check_nodes(self.partition)
        for one in self.oracle.running:
            if one.id not in self.oracle.newly_final:
                sums = self.partition.experiment_sums(one, final=False)
                assert integers_of(sums, one) == self.oracle.counted(one)

    def check_report(self, ticked: Ticked) -> None:
        """Hold a tick's partials to the oracle: what is due and changed is in it, nothing else."""
        partials = [decode_partial(value) for value in ticked.partials]
        for partial in partials:
            assert partial.tick == ticked.tick == self.oracle.tick
            assert partial.times == self.oracle.times
            assert partial.ledger == self.oracle.ledger
            assert partial.next_offset == self.partition.cursor
        if partials[0].imports is not None:
            self.imports = partials[0].imports
        assert self.imports == self.oracle.imports
        sums_of = {one.experiment_id: one for one in experiments_of(partials)}
        for one in self.oracle.control.definitions.values():
            if not self.oracle.is_due(one):
                assert one.id not in sums_of
                continue
            truth = self.oracle.counted(one)
            if one.id in sums_of:
                sums = sums_of[one.id]
                self.reported[one.id] = integers_of(sums, one)
                assert sums.final == (one.id in self.oracle.newly_final)
            assert self.reported.get(one.id) == truth
