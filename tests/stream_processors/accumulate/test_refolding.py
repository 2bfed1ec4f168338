"""A definition that changes costs a fold of its own experiment; nobody else's sums are touched."""

from random import Random
from typing import Any

import numpy as np
import pytest

from schemas.control import DefinitionChange
from schemas.topics import KIND_TICK
from stream_processors.accumulate.kernels import contributing
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.state import HEAP
from tests.seeds import seeds
from tests.stream_processors.accumulate.arrivals import Log, logs
from tests.stream_processors.accumulate.builders import (
    T0,
    assignment,
    batch,
    definition,
    measured,
    tick,
)
from tests.stream_processors.accumulate.worlds import make_world


def awaited(partition: Partition) -> set[tuple[int, int]]:
    """Return which cells wait until when, without those that were taken back."""
    state = partition.state
    entries = state.heap[: int(state.counts[HEAP])]
    lives = state.cells["variant"][entries["cell"]] >= 0
    return set(zip(entries["due"][lives].tolist(), entries["cell"][lives].tolist(), strict=True))


@pytest.mark.parametrize("seed", seeds(60))
def test_whatever_changes_sums_and_what_is_awaited_are_those_of_a_whole_fold(seed: int) -> None:
    random = Random(seed)
    [messages] = logs(make_world(random), random, Log(shuffle=True, repeats=5, hostile=5))
    partition, compared = Partition(0, writer="w"), 0
    for offset, message in enumerate(messages):
        definitions = partition.control.definitions
        partition.apply(offset, *message)
        if message.kind != KIND_TICK or partition.control.definitions == definitions:
            continue
        sums, waiting = partition.sums(), awaited(partition)
        if random.random() < 0.5:  # else the next change comes upon sums that were not made anew
            partition.refold()
            for now, then in zip(partition.sums(), sums, strict=True):
                np.testing.assert_array_equal(now, then)
            assert waiting >= awaited(partition)
            compared += 1
    assert compared


def test_a_new_experiment_folds_no_cell_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = Partition(0, writer="w")
    started: Any = definition("x", started_at_ms=T0)
    partition.apply(0, *tick(1, T0, DefinitionChange(started)))
    events = [assignment(f"u{one}", f"a{one}", T0) for one in range(50)]
    partition.apply(1, *batch([*events, measured("u1", "m1", T0 + 1)]))
    folded: list[int] = []
    fold_some = contributing.fold_some

    def counted(state: Any, plan: Any, settled: int, chosen: Any) -> None:
        folded.append(int(chosen[state.cells["experiment"][:50]].sum()))
        fold_some(state, plan, settled, chosen)

    monkeypatch.setattr(contributing, "fold_some", counted)
    monkeypatch.setattr(contributing, "fold", None)  # nobody may call it now
    units = partition.state.units_of.copy()

    partition.apply(2, *tick(2, T0 + 1, DefinitionChange(definition("y", ordinal=1))))

    assert folded == [0]
    np.testing.assert_array_equal(partition.state.units_of[: len(units)], units)
