"""Cells are dropped: those that stay keep their events' values, and go on counting.

What the others held is free for the next at once; when most of it is free, its memory returns.
"""

from itertools import chain

import numpy as np

from schemas.control import DefinitionChange
from schemas.definitions import Interval, Metric
from stream_processors.accumulate.checkpoints import segment_record
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.state import CELLS, FREE_NODE, FREE_NODES, NODES
from stream_processors.accumulate.writing import CHUNK_TICKS
from tests.stream_processors.accumulate.builders import (
    T0,
    Message,
    assignment,
    batch,
    definition,
    measured,
    tick,
)
from tests.stream_processors.accumulate.holding import (
    Integers,
    check_nodes,
    equals_its_fold,
    integers_of,
)

UNIT_COUNT, STAYING = 9_000, 2_000
SLOW = Metric("slow", "quantile", "buy", window_ms=10_000, quantile=0.9, of="events")
X = definition("x", 0, metrics=[SLOW])
Y = definition("y", 1, metrics=[Metric("count", "count", "buy"), SLOW])


FAST = Metric("fast", "quantile", "look", "secondary", quantile=0.5, of="events")
VALUES = [1.5**power for power in range(-6, 34)]
"""Each in a bucket of its own."""


def apply(partition: Partition, *messages: Message) -> None:
    for message in messages:
        partition.apply(partition.cursor, *message)


def counted(partition: Partition) -> Integers:
    return integers_of(partition.experiment_sums(Y, final=False), Y)


def test_nodes_of_cells_that_stay_survive_a_compaction() -> None:
    partition = Partition(0, writer="w")
    apply(partition, tick(1, T0, DefinitionChange(X), DefinitionChange(Y)))
    for first in range(0, UNIT_COUNT, 500):
        units = range(first, first + 500)
        apply(
            partition,
            batch([assignment(f"u{unit}", "a", T0 + 5, experiment="x") for unit in units]),
            batch([
                assignment(f"u{unit}", "b", T0 + 5, experiment="y")
                for unit in units if unit < STAYING
            ]),
            batch([
                measured(f"u{unit}", f"m{number}", T0 + 9, value=float(unit % 7 + 10 * number))
                for unit in units for number in range(2)
            ]),
        )  # fmt: skip
    stop = {"stopped_at_ms": T0 + 15, "intervals": [Interval(T0, T0 + 15)], "status": "stopped"}
    stopped = definition("x", 0, metrics=[SLOW], **stop)
    apply(partition, tick(2, T0 + 20, DefinitionChange(stopped)))
    before = counted(partition)
    apply(partition, tick(3, T0 + 30, horizon=T0 + 16))
    assert partition.state.counts[CELLS] == UNIT_COUNT + STAYING

    for number in range(4, CHUNK_TICKS + 1):
        apply(partition, tick(number, T0 + 30, horizon=T0 + 16))

    assert partition.state.counts[[CELLS, NODES, FREE_NODE]].tolist() == [STAYING, 2 * STAYING, 0]
    assert counted(partition) == before
    assert equals_its_fold(partition)
    [shards] = [sums[0].shards for sums in before["open"] if sums[0].shards is not None]
    assert sum(sum(shard.values()) for shard in shards) == 2 * STAYING
    # The chains are whole: another event finds its place in one, and a new node at its end.
    more = [measured("u3", "n1", T0 + 99, value=3.0), measured("u3", "n2", T0 + 99, value=1e6)]
    apply(partition, batch(more), tick(CHUNK_TICKS + 1, T0 + 100, horizon=T0 + 16))
    assert partition.state.counts[NODES] == 2 * STAYING + 1
    assert equals_its_fold(partition)
    [shards] = [sums[0].shards for sums in counted(partition)["open"] if sums[0].shards is not None]
    assert sum(sum(shard.values()) for shard in shards) == 2 * STAYING + 2


def nodes(partition: Partition) -> tuple[int, int]:
    """Return how many nodes there are, and how many of them are free."""
    check_nodes(partition)
    return int(partition.state.counts[NODES]), int(partition.state.counts[FREE_NODES])


def valued(unit_count: int, experiment: str, at: int) -> list[Message]:
    """Return as many units of an experiment, each with a view and a purchase of every value."""
    return [
        batch(
            [
                assignment(f"u{unit}", f"a{experiment}", at, experiment=experiment),
                *chain.from_iterable(
                    (
                        measured(f"u{unit}", f"m{experiment}{value}", at + 1, value=value),
                        measured(
                            f"u{unit}", f"l{experiment}{value}", at + 1, metric="look", value=value
                        ),
                    )
                    for value in VALUES
                ),
            ]
        )
        for unit in range(unit_count)
    ]


def stopped_after(unit_count: int) -> Partition:
    """Return a partition of an experiment that has just become final."""
    partition = Partition(0, writer="w")
    running = definition("x", 0, metrics=[SLOW, FAST])
    stop = {"stopped_at_ms": T0 + 15, "intervals": [Interval(T0, T0 + 15)], "status": "stopped"}
    stopped = definition("x", 0, metrics=[SLOW, FAST], **stop)
    apply(partition, tick(1, T0, DefinitionChange(running)), *valued(unit_count, "x", T0 + 5))
    apply(partition, tick(2, T0 + 20, DefinitionChange(stopped)))
    assert nodes(partition) == (2 * unit_count * len(VALUES), 0)
    apply(partition, tick(3, T0 + 30, horizon=T0 + 16))
    return partition


def test_nodes_of_a_final_experiment_are_free_for_the_next_one() -> None:
    partition = stopped_after(10)
    every = 2 * 10 * len(VALUES)
    assert nodes(partition) == (every, every)

    z = definition("z", 1, metrics=[SLOW, FAST], intervals=[Interval(T0 + 30)])
    apply(partition, tick(4, T0 + 40, DefinitionChange(z), horizon=T0 + 16))
    apply(partition, *valued(10, "z", T0 + 50), tick(5, T0 + 60, horizon=T0 + 16))

    assert nodes(partition) == (every, 0)
    assert equals_its_fold(partition)


def test_memory_of_nodes_returns_when_most_are_free_though_few_cells_are() -> None:
    partition = stopped_after(150)
    assert partition.memory()["nodes"] == 2 * 150 * len(VALUES) * 12

    for number in range(4, CHUNK_TICKS + 1):
        apply(partition, tick(number, T0 + 30, horizon=T0 + 16))

    assert (partition.memory()["nodes"], partition.memory()["cells"]) == (0, 0)
    assert nodes(partition) == (0, 0)


def test_events_that_are_taken_back_and_counted_again_take_no_more_nodes() -> None:
    partition = Partition(0, writer="w")
    apply(partition, tick(1, T0, DefinitionChange(definition("x", 0, metrics=[SLOW, FAST]))))
    events = [measured("u", f"m{value}", T0 + 90, value=value) for value in VALUES]
    apply(partition, batch([assignment("u", "a", T0 + 80), *events]))

    for earlier in range(70, 20, -5):
        apply(partition, batch([assignment("u", f"a{earlier}", T0 + earlier)]))

    assert nodes(partition) == (len(VALUES), 0)
    assert equals_its_fold(partition)
    one = partition.control.definitions["x"]
    slow, _ = integers_of(partition.experiment_sums(one, final=False), one)["open"]
    assert slow[0].total.sums == (len(VALUES),)


def test_events_in_any_order_are_the_same_record() -> None:
    records = []
    for values in (VALUES, VALUES[::-1], VALUES[::2] + VALUES[1::2]):
        partition = Partition(0, writer="w")
        apply(partition, tick(1, T0, DefinitionChange(definition("x", 0, metrics=[SLOW]))))
        apply(partition, batch([assignment("u", "a", T0 + 1)]))
        for value in values:
            apply(partition, batch([measured("u", f"m{value}", T0 + 9, value=value)]))
        [segment] = np.flatnonzero(partition.state.segments["dirty"]).tolist()
        records.append(
            segment_record(
                partition.state,
                segment,
                plan=partition.plan,
                header=partition.header,
                metrics=partition.metrics,
                unit_types=partition.unit_types,
            )
        )

    assert records[1:] == records[:1] * 2
    assert len(records[0].nodes["bucket"]) == 2 * len(VALUES)
