"""Half of the cells are dropped: those that stay keep their events' values, and go on counting."""

from schemas.control import DefinitionChange
from schemas.definitions import Interval, Metric
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.state import CELLS, FREE_NODE, NODES
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
from tests.stream_processors.accumulate.holding import Integers, equals_its_fold, integers_of

UNIT_COUNT, STAYING = 9_000, 2_000
SLOW = Metric("slow", "quantile", "buy", window_ms=10_000, quantile=0.9, of="events")
X = definition("x", 0, metrics=[SLOW])
Y = definition("y", 1, metrics=[Metric("count", "count", "buy"), SLOW])


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
