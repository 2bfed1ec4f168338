"""Worlds as logs: in which order things arrive, and what arrives beside them.

What is added counts nowhere, whatever the engine has seen so far: events sent again, events that
contradict what is known, stale ones, unknown ones, parts of imports that are not due.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from schemas.control import DefinitionChange
from tests.stream_processors.accumulate.builders import (
    Event,
    Message,
    batch,
    import_part,
    partition_of,
)
from tests.stream_processors.accumulate.worlds import BatchPlan, World

Place = tuple[int, float]
"""After which tick something arrives, and how it is ordered there."""


class Log(NamedTuple):
    """How a world's log is made.

    Attributes:
        partition_count: How many partitions.
        shuffle: Whether events arrive whenever the horizon allows, or as soon as they may.
        repeats: How many events are sent again, later or in the same batch.
        hostile: How many rows of every other sort are added.
        recycled: How many ids of forgotten events are used again; these do count, again.
    """

    partition_count: int = 1
    shuffle: bool = False
    repeats: int = 0
    hostile: int = 0
    recycled: int = 0


def logs(world: World, random: Random, log: Log) -> list[list[Message]]:
    """Return the messages of every partition."""
    arriving = [(_place(random, ticks, log.shuffle), event) for ticks, event in world.events]
    added = list(_added(world, random, arriving, log)) if arriving else []
    arriving = sorted([*arriving, *added], key=lambda one: one[0])
    partitions: list[list[Message]] = [[] for _ in range(log.partition_count)]
    parts = [list(_parts(world, random, log, number)) for number in range(log.partition_count)]
    for number, tick in enumerate(world.messages, 1):
        here: list[list[Event]] = [[] for _ in range(log.partition_count)]
        for (at, _), event in arriving:
            if at == number:
                here[partition_of(event, log.partition_count)].append(event)
        for messages, events, its_parts in zip(partitions, here, parts, strict=True):
            between = list(_batches(random, events))
            added = [part for at, part in its_parts if at == number]
            if log.hostile and random.random() < 0.3:
                # A new writer of control copies the last winner again.
                added.append(tick)
            for message in added:
                between.insert(random.randint(0, len(between)), message)
            messages.extend([tick, *between])
    return partitions


def _place(random: Random, ticks: range, shuffle: bool) -> Place:
    return random.choice(ticks if shuffle else ticks[:2]), random.random()


def _batches(random: Random, events: list[Event]) -> Iterator[Message]:
    while events:
        size = random.randint(1, 5)
        yield batch(events[:size])
        del events[:size]


def _added(
    world: World, random: Random, arriving: list[tuple[Place, Event]], log: Log
) -> Iterator[tuple[Place, Event]]:
    last = len(world.ticks) - 1
    for place, event in random.choices(arriving, k=log.repeats):
        later = _later(random, place, last)
        if not event.timestamp_given and not _is_known(world, event, later):
            # Without a time of its own it is protected for the lateness only.
            continue
        yield later, event
    for place, event in random.choices(arriving, k=log.hostile):
        later = _later(random, place, last)
        if _is_known(world, event, later):
            yield later, _contradicting(random, event)
    if log.hostile:
        yield from _too_early(world, random, [event for _, event in arriving])
    for at in range(log.hostile):
        number = random.randint(1, last)
        horizon = world.ticks[number - 1].times.horizon_ms
        _, event = random.choice(arriving)
        stale = event._replace(event_id=f"s{at}", timestamp=horizon - random.randint(1, 10**7))
        yield (number, random.random()), random.choice([stale, _unknown(random, event, at)])
    for place, event in random.choices(arriving, k=log.recycled):
        later = _later(random, place, last)
        horizon = world.ticks[later[0] - 1].times.horizon_ms
        if event.timestamp < horizon:
            yield later, event._replace(timestamp=horizon + random.choice([0, 1, 7_200_000]))


def _too_early(world: World, random: Random, events: list[Event]) -> Iterator[tuple[Place, Event]]:
    """Yield events before the tick that brings the experiment they name."""
    created: dict[str, int] = {}
    for tick in world.ticks:
        for change in tick.changes:
            if isinstance(change, DefinitionChange):
                created.setdefault(change.definition.id, tick.number)
    for event in events:
        first = created.get(event.experiment or "", 0)
        if first > 1 and random.random() < 0.2:
            yield (random.randint(1, first - 1), random.random()), event


def _later(random: Random, place: Place, last: int) -> Place:
    number = random.choice([place[0], random.randint(place[0], last)])
    return number, random.uniform(place[1], 1) if number == place[0] else random.random()


def _is_known(world: World, event: Event, place: Place) -> bool:
    """Return whether the engine still remembers the id of an event that it has seen before."""
    return world.ticks[place[0] - 1].times.horizon_ms <= event.timestamp


def _contradicting(random: Random, event: Event) -> Event:
    """Return an event of the same id that says something else."""
    changed = []
    if event.metric:
        changed.append(event._replace(value=event.value + 1.0, timestamp=event.timestamp + 1))
        changed.append(event._replace(metric="view" if event.metric == "buy" else "buy"))
        changed.append(event._replace(experiment="x" if event.experiment is None else None))
        changed.append(Event(*event[:3], "x", "c", unit_type=event.unit_type))
    else:
        changed.append(event._replace(variant="t" if event.variant == "c" else "c"))
        changed.append(Event(*event[:3], metric="buy", value=1.0, unit_type=event.unit_type))
    if event.timestamp_given:
        changed.append(event._replace(timestamp=event.timestamp + 3_600_000))
        changed.append(event._replace(timestamp_given=False))
    return random.choice(changed)


def _unknown(random: Random, event: Event, at: int) -> Event:
    """Return an event whose names no definition has."""
    event_id = random.choice([event.event_id, f"n{at}"])
    return random.choice([
        event._replace(event_id=event_id, experiment="nobody's"),
        event._replace(event_id=event_id, experiment="x", unit_type="nobody's"),
        Event(event.unit, event_id, event.timestamp, "x", "nobody's", unit_type=event.unit_type),
        Event(event.unit, event_id, event.timestamp, None, "c", unit_type=event.unit_type),
    ])  # fmt: skip


def _parts(world: World, random: Random, log: Log, partition: int) -> Iterator[tuple[int, Message]]:
    """Yield the import parts of one partition: each taken once, and some that must be ignored."""
    last = len(world.ticks) - 1
    for one in world.batches:
        yield random.randint(one.reserved, one.done - 1), _part_of(one, log, partition)
        if not log.hostile:
            continue
        if one.reserved > 1:
            yield random.randint(1, one.reserved - 1), _part_of(one, log, partition)
        yield random.randint(one.done, last), _part_of(one, log, partition)
        other = one._replace(sha256="another")
        yield random.randint(one.reserved, one.done - 1), _part_of(other, log, partition)
        other = one._replace(number=random.choice([one.number - 1, one.number + 1]))
        yield random.randint(1, last), _part_of(other, log, partition)


def _part_of(one: BatchPlan, log: Log, partition: int) -> Message:
    rows = [row for row in one.rows if partition_of(row, log.partition_count) == partition]
    return import_part(rows, import_id=one.import_id, number=one.number, sha256=one.sha256)
