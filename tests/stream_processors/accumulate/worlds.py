"""Small random worlds: experiments that start, pause, stop and grow while events arrive.

Few units, few ids, few milliseconds, so that ties, repeats, crossovers and edges are common.
"""

from random import Random
from typing import NamedTuple

import msgspec

from schemas.control import DefinitionChange
from schemas.definitions import Definition, Interval, Metric
from tests.stream_processors.accumulate.builders import (
    T0,
    Event,
    Message,
    batch,
    definition,
    partition_of,
    tick,
)

WINDOWS = [None, 3, 10, 25]
EVENT_NAMES = ["buy", "view"]
SPAN = 60


class World(NamedTuple):
    """A world.

    Attributes:
        changes: Tick number to the definitions that take effect with it.
        ticks: How many there are.
        settled: Tick number to its settled time.
        events: In order of arrival, each with the number of the tick before it; once each.
        definitions: As they end.
    """

    changes: dict[int, list[Definition]]
    ticks: int
    settled: dict[int, int]
    events: list[tuple[int, Event]]
    definitions: list[Definition]


def make_world(random: Random, *, tick_count: int = 12, event_count: int = 40) -> World:
    """Return a random world."""
    settled = {number: T0 + number * SPAN // tick_count for number in range(1, tick_count + 1)}
    changes: dict[int, list[Definition]] = {number: [] for number in range(1, tick_count + 1)}
    definitions = []
    for ordinal, name in enumerate(["x", "y"][: random.randint(1, 2)]):
        history = _life(random, name, ordinal, settled)
        for number, one in history:
            changes[number].append(one)
        definitions.append(history[-1][1])
    events = sorted(
        ((random.randint(0, tick_count), _event(random, at)) for at in range(event_count)),
        key=lambda one: one[0],
    )
    events = [(number, one) for number, one in events if number >= 1]
    return World(changes, tick_count, settled, events, definitions)


def _life(
    random: Random, name: str, ordinal: int, settled: dict[int, int]
) -> list[tuple[int, Definition]]:
    """Return one experiment's definitions by the tick that brings them; both begin at tick 1."""
    one = definition(
        name,
        ordinal,
        status="draft",
        started_at_ms=None,
        intervals=[],
        crossover=random.choice(["exclude", "first"]),
        metrics=[_metric(random, number) for number in range(random.randint(1, 3))],
    )
    history = [(1, one)]
    for number in sorted(random.sample(range(2, len(settled) + 1), random.randint(1, 5))):
        # A command is appended some time before the tick that brings it.
        at = settled[number] - random.randint(0, 6)
        one = _next(random, one, at)
        history.append((number, one))
    return history


def _next(random: Random, one: Definition, at: int) -> Definition:
    change = msgspec.structs.replace
    if one.intervals:
        at = max(at, one.intervals[-1].start_ms, one.intervals[-1].end_ms or 0)
    if one.status == "draft":
        return change(one, status="running", started_at_ms=at, intervals=[Interval(at)])
    if one.status == "running":
        closed = [*one.intervals[:-1], Interval(one.intervals[-1].start_ms, at)]
        what = random.choice(["pause", "stop", "metric"])
        if what == "pause":
            return change(one, status="paused", intervals=closed)
        if what == "stop":
            return change(one, status="stopped", intervals=closed, stopped_at_ms=at)
        added = change(_metric(random, len(one.metrics)), added_at_ms=at)
        return change(one, metrics=[*one.metrics, added])
    if one.status == "paused":
        return change(one, status="running", intervals=[*one.intervals, Interval(at)])
    return one


def _metric(random: Random, number: int) -> Metric:
    return Metric(
        f"m{number}",
        random.choice(["conversion", "count", "sum"]),
        random.choice(EVENT_NAMES),
        window_ms=random.choice(WINDOWS),
        precision=random.choice([0, 2]),
    )


def _event(random: Random, at: int) -> Event:
    unit, when = f"u{random.randint(0, 4)}", T0 + random.randint(-5, SPAN + 5)
    if random.random() < 0.45:
        return Event(unit, f"e{at}", when, random.choice("xy"), random.choice(["c", "c", "t"]))
    experiment = random.choice([None, None, "x", "y"])
    value = random.choice([-1.0, 0.0, 1.0, 2.5, 0.005, 4e18])
    return Event(unit, f"e{at}", when, experiment, None, random.choice(EVENT_NAMES), value)


def known(world: World, event: Event) -> bool:
    """Return whether the engine can know what the event names."""
    return event.experiment is None or event.experiment in {one.id for one in world.definitions}


def logs(
    world: World,
    random: Random,
    *,
    partition_count: int,
    repeats: int,
    shuffle: bool,
    horizon_lag: int | None = None,
) -> list[list[Message]]:
    """Return the partitions' messages: events in batches of random size between aligned ticks.

    Args:
        world: Where they come from.
        random: Decides on order, repeats and batches.
        partition_count: How many partitions.
        repeats: How many events are sent again, later or in the same batch.
        shuffle: Whether events arrive in another order, at other ticks, than in the world.
        horizon_lag: How far the horizon is behind the settled time; None: it stays at 0.
    """
    arriving = list(world.events)
    if shuffle:
        arriving = [(random.randint(1, world.ticks - 1), one) for _, one in arriving]
    if arriving:
        again = random.choices(arriving, k=repeats)
        arriving += [(random.randint(number, world.ticks), one) for number, one in again]
    arriving.sort(key=lambda one: one[0])
    partitions: list[list[Message]] = [[] for _ in range(partition_count)]
    for number in range(1, world.ticks + 1):
        changes = [DefinitionChange(one) for one in world.changes[number]]
        for messages in partitions:
            settled = world.settled[number]
            horizon = 0 if horizon_lag is None else max(0, settled - horizon_lag)
            messages.append(tick(number, settled, *changes, horizon=horizon))
        here: list[list[Event]] = [[] for _ in range(partition_count)]
        for at, event in arriving:
            if at == number:
                here[partition_of(event, partition_count)].append(event)
        for messages, events in zip(partitions, here, strict=True):
            while events:
                size = random.randint(1, 5)
                messages.append(batch(events[:size]))
                del events[:size]
    # The last tick sees everything; nothing changes any more.
    for messages in partitions:
        horizon = 0 if horizon_lag is None else world.settled[world.ticks] + 7 - horizon_lag
        messages.append(tick(world.ticks + 1, world.settled[world.ticks] + 7, horizon=horizon))
    return partitions
