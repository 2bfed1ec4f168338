"""Random streams of partials as crashing, restarting and frozen writers leave them.

The world is written apart from the code under test: a table of cumulative sums by tick, and the
rule which looks there must be.
"""

import random
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from schemas.control import DefinitionChange
from schemas.definitions import Definition
from schemas.partials import ExperimentSums, Partial, integers_from_bytes
from stream_processors.stats.sums import Sums
from tests.stream_processors.merge.builders import (
    CONVERSION,
    COUNT,
    NEXT_VERSION,
    make_definition,
    make_partial,
    make_sums,
    rate,
)

Key = tuple[str, int]


class World(NamedTuple):
    """What is true.

    Attributes:
        partition_count: Partitions of ``litmus.events``.
        tick_count: Ticks, from 1.
        stride: An experiment is due at every so many ticks.
        definitions: Changes by tick.
        sums: By (tick, partition, experiment id): cumulative, after that tick.
    """

    partition_count: int
    tick_count: int
    stride: int
    definitions: dict[int, list[Definition]]
    sums: dict[tuple[int, int, str], ExperimentSums]

    def is_due(self, experiment_id: str, tick: int) -> bool:
        return (tick + len(experiment_id)) % self.stride == 0


def make_world(rng: random.Random) -> World:
    partition_count = rng.randint(1, 3)
    tick_count = rng.randint(4, 9)
    ids = ["one", "three"][: rng.randint(1, 2)]
    definitions: dict[int, list[Definition]] = {}
    for experiment_id in ids:
        starts_at = rng.randint(1, 3)
        draft = make_definition(experiment_id, started=False, version=1, n_star=500)
        definitions.setdefault(rng.randint(1, starts_at), []).append(draft)
        started = make_definition(experiment_id, version=2, n_star=500)
        definitions.setdefault(starts_at, []).append(started)
        if rng.random() < 0.5:
            grown = msgspec.structs.replace(started, metrics=[CONVERSION, COUNT], version=3)
            definitions.setdefault(rng.randint(starts_at + 1, tick_count), []).append(grown)
    sums = dict(_sums(rng, partition_count, tick_count, definitions))
    return World(partition_count, tick_count, rng.choice([1, 1, 2]), definitions, sums)


def _sums(
    rng: random.Random, partitions: int, ticks: int, definitions: dict[int, list[Definition]]
) -> Iterator[tuple[tuple[int, int, str], ExperimentSums]]:
    held: dict[tuple[int, str], list[Sums]] = {}
    current: dict[str, Definition] = {}
    for tick in range(1, ticks + 1):
        current |= {one.id: one for one in definitions.get(tick, [])}
        for experiment_id, definition in current.items():
            if definition.started_at_ms is None:
                continue
            for partition in range(partitions):
                key = (partition, experiment_id)
                before = held.setdefault(key, [Sums(), Sums()])
                if rng.random() < 0.6:
                    held[key] = before = [_grown(rng, one) for one in before]
                if before != [Sums(), Sums()]:
                    metrics = [before] * len(definition.metrics)
                    yield (tick, partition, experiment_id), make_sums(experiment_id, *metrics)


def _grown(rng: random.Random, sums: Sums) -> Sums:
    """Return sums after a tick; now and then units leave because they crossed over."""
    if sums.unit_count and rng.random() < 0.15:
        return rate(sums.unit_count * 3 // 4, sums.sum_q // 2)
    count = rng.randint(50, 300)
    return rate(sums.unit_count + count, sums.sum_q + rng.randint(10, count - 10))


def expected_looks(world: World) -> set[Key]:
    """Return the (experiment, tick) that must have exactly one look each."""
    looks: set[Key] = set()
    current: dict[str, Definition] = {}
    seen: dict[str, object] = {}
    visible: dict[tuple[int, str], ExperimentSums] = {}
    for tick in range(1, world.tick_count + 1):
        redefined = {one.id for one in world.definitions.get(tick, [])}
        current |= {one.id: one for one in world.definitions.get(tick, [])}
        for experiment_id, definition in current.items():
            if definition.started_at_ms is None:
                continue
            if world.is_due(experiment_id, tick):
                for partition in range(world.partition_count):
                    sums = world.sums.get((tick, partition, experiment_id))
                    if sums is not None:
                        visible[partition, experiment_id] = sums
            integers = _added(world, visible, experiment_id)
            if experiment_id in redefined or integers != seen.get(experiment_id):
                looks.add((experiment_id, tick))
                seen[experiment_id] = integers
    return looks


def _added(
    world: World, visible: dict[tuple[int, str], ExperimentSums], experiment_id: str
) -> Counter[tuple[int, int]]:
    """Return all integers over all partitions; what is zero is not there."""
    totals: Counter[tuple[int, int]] = Counter()
    for partition in range(world.partition_count):
        sums = visible.get((partition, experiment_id))
        if sums is None:
            continue
        totals.update({(-1, variant): count for variant, count in enumerate(sums.units)})
        for index, metric in enumerate(sums.matured):
            integers = enumerate(integers_from_bytes(metric))
            totals.update({(index, place): integer for place, integer in integers})
    return +totals


def clean_stream(world: World) -> list[Partial]:
    """Return what writers send that never fail."""
    return [
        part
        for tick in range(1, world.tick_count + 1)
        for partition in range(world.partition_count)
        for part in _report(world, partition, tick, "w", since=None, rng=None)
    ]


def rough_stream(world: World, rng: random.Random, *, upgrade: bool = False) -> list[Partial]:
    """Return the same ticks from writers that die half-way, are replaced, and come back.

    With ``upgrade``, those that replace them count by newer rules.
    """
    streams = [
        _rough_partition(world, partition, rng) for partition in range(world.partition_count)
    ]
    if upgrade:
        streams = [[_upgraded(part) for part in stream] for stream in streams]
    mixed = []
    while any(streams):
        chosen = rng.choice([stream for stream in streams if stream])
        mixed.append(chosen.pop(0))
    return mixed


def _upgraded(part: Partial) -> Partial:
    return msgspec.structs.replace(part, state_version=NEXT_VERSION) if part.writer == "b" else part


def _rough_partition(world: World, partition: int, rng: random.Random) -> list[Partial]:
    def parts_of(writer: str, first: int, last: int) -> list[Partial]:
        return [
            part
            for tick in range(first, last + 1)
            for part in _report(world, partition, tick, writer, since=first, rng=rng)
        ]

    died_at = rng.randint(0, world.tick_count)
    before = parts_of("a", 1, died_at)
    if before and rng.random() < 0.5:  # dies between two parts
        dying = before[-1].tick
        before = before[: -rng.randint(0, before[-1].parts)] or before
        died_at = dying - (before[-1].tick != dying or before[-1].part + 1 < before[-1].parts)
    after = parts_of("b", rng.randint(1, died_at + 1), world.tick_count)
    # The frozen writer comes back and sends what it had in hand, between the other's messages.
    zombie = parts_of("a", died_at + 1, min(died_at + 2, world.tick_count))
    stream = before + _interleaved(after, zombie, died_at, rng)
    repeated = []
    for part in stream:
        repeated += [part] * (2 if rng.random() < 0.1 else 1)
    return repeated


def _interleaved(
    after: list[Partial], zombie: list[Partial], died_at: int, rng: random.Random
) -> list[Partial]:
    mixed = []
    while after or zombie:
        use_zombie = bool(zombie) and (not after or rng.random() < 0.4)
        mixed.append(zombie.pop(0) if use_zombie else after.pop(0))
    return mixed


def _report(
    world: World,
    partition: int,
    tick: int,
    writer: str,
    *,
    since: int | None,
    rng: random.Random | None,
) -> list[Partial]:
    """Return the parts of a report; a writer's first one after a recovery holds everything."""
    chosen = []
    for experiment_id in sorted({key[2] for key in world.sums if key[:2] == (tick, partition)}):
        if not world.is_due(experiment_id, tick):
            continue
        now = world.sums[tick, partition, experiment_id]
        earlier = tick - world.stride
        recovered = since is not None and earlier < since
        if recovered or now != world.sums.get((earlier, partition, experiment_id)):
            chosen.append(now)
    changes = []
    if partition == 0:
        changes = [DefinitionChange(one) for one in world.definitions.get(tick, [])]
    count = 1 if rng is None else rng.randint(1, 3)
    pieces: list[list[ExperimentSums]] = [[] for _ in range(count)]
    for sums in chosen:
        pieces[0 if rng is None else rng.randrange(count)].append(sums)
    return [
        make_partial(
            partition,
            tick,
            *piece,
            changes=changes if part == 0 else (),
            writer=writer,
            part=part,
            parts=count,
        )
        for part, piece in enumerate(pieces)
    ]
