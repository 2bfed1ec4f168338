"""Random logs, held to an oracle that was written apart from the engine.

Both ledgers after every message, every report at its tick, every integer at the end: in any order
that the horizon allows, with whatever arrives beside it, split and partitioned at random.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from random import Random

import pytest

from schemas.topics import KIND_TICK
from stream_processors.stats.sums import MetricSums
from tests.seeds import seeds
from tests.stream_processors.accumulate.arrivals import Log, logs
from tests.stream_processors.accumulate.holding import Held, added, equals_its_fold
from tests.stream_processors.accumulate.log_oracle import LogOracle
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


@pytest.mark.parametrize("seed", seeds(200))
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


@pytest.mark.parametrize("seed", seeds(50))
def test_an_id_that_was_forgotten_counts_again_and_only_then(seed: int) -> None:
    random = Random(seed)
    world = make_world(random, event_count=40)

    log = Log(shuffle=True, repeats=10, hostile=5, recycled=30)

    read_all(logs(world, random, log), random)


def holds(sums: MetricSums) -> Iterator[str]:
    """Yield what a metric's sums hold that is not zero."""
    joint, covariates = sums.total, sums.covariates
    if any(joint.products):
        yield f"{len(joint.sums)} totals"
    if covariates is not None and covariates.products[1]:
        yield f"{len(joint.sums)} totals with covariates"
    if sums.caps is not None and sums.caps[0].capped_units:
        yield "fixed cap" if len(sums.caps) == 1 else "grid of caps"
    if sums.histogram:
        yield "histogram"
    if sums.shards is not None and any(sums.shards):
        yield "shards"


def test_the_worlds_hold_what_they_are_for() -> None:
    """Every rule is exercised many times, or equality with the oracle would say nothing."""
    seen: Counter = Counter()
    for seed in range(200):
        random = Random(seed)
        [messages] = logs(make_world(random), random, Log(shuffle=True, repeats=10, hostile=10))
        oracle = LogOracle()
        for message in messages:
            oracle.apply(*message)
            for one in oracle.running if message.kind == KIND_TICK else ():
                counted = oracle.counted(one)
                segments = [
                    its for by_value in counted["segments"].values() for its in by_value.values()
                ]
                for where, sums in [("all", counted), *(("segment", its) for its in segments)]:
                    seen[f"{where}: crossovers"] += sums["crossovers"]
                    seen[f"{where}: overflowed"] += sum(sums["overflowed"])
                    for basis in ("open", "matured"):
                        for variant in chain.from_iterable(sums[basis]):
                            seen += Counter(f"{where}, {basis}: {what}" for what in holds(variant))
            seen["final"] += len(oracle.newly_final) if message.kind == KIND_TICK else 0
        seen += oracle.rows + oracle.parts
        for one in oracle.control.definitions.values():
            seen["pauses"] += sum(interval.end_ms is not None for interval in one.intervals)
            seen["metrics added"] += sum(metric.added_at_ms > 0 for metric in one.metrics)
            outcomes = ("counted", "outside_window", "excluded", "no_assignment")
            seen += Counter(dict(zip(outcomes, oracle.attribution(one), strict=True)))

    rare = {name: count for name, count in seen.items() if count < 20}
    assert rare == {}
    assert len(seen) == 51
