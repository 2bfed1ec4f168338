"""Random logs, held to an oracle that was written apart from the engine.

Both ledgers after every message, every report at its tick, every integer at the end: in any order
that the horizon allows, with whatever arrives beside it, split and partitioned at random.
"""

from random import Random

import pytest

from tests.stream_processors.accumulate.arrivals import Log, logs
from tests.stream_processors.accumulate.holding import Held, added, equals_its_fold
from tests.stream_processors.accumulate.worlds import make_world

LOGS = (
    Log(),
    Log(partition_count=3, shuffle=True, repeats=10),
    Log(partition_count=1, shuffle=True, hostile=15),
    Log(partition_count=7, shuffle=True, repeats=15, hostile=10),
)


def read_all(world_logs: list[list], random: Random) -> list[Held]:
    """Read a log per partition, held to the oracle; audit the sums at random points."""
    every = []
    for number, messages in enumerate(world_logs):
        held = Held(number)
        for message in messages:
            held.read(message)
            if random.random() < 0.03:
                held.check_integers()
                assert equals_its_fold(held.partition)
        held.check_integers()
        assert equals_its_fold(held.partition)
        every.append(held)
    return every


@pytest.mark.parametrize("seed", range(200))
def test_any_order_repetition_split_and_partitioning_ends_in_the_same_integers(seed: int) -> None:
    random = Random(seed)
    world = make_world(random)

    ends = []
    for log in LOGS:
        every = read_all(logs(world, random, log), random)
        ends.append({
            one.id: added([
                held.oracle.counted(one) for held in every
            ])
            for one in every[0].oracle.running
            if one.id not in every[0].oracle.newly_final
        })  # fmt: skip

    assert ends[1:] == ends[:1] * 3


@pytest.mark.parametrize("seed", range(50))
def test_an_id_that_was_forgotten_counts_again_and_only_then(seed: int) -> None:
    random = Random(seed)
    world = make_world(random, event_count=40)

    log = Log(shuffle=True, repeats=10, hostile=5, recycled=30)

    read_all(logs(world, random, log), random)
