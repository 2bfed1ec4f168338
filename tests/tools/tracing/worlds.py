"""One partition's log of a few units: experiments live, ids repeat, contradict and grow old."""

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
    tick,
)

SPAN = 80
TICKS = 14
UNITS = ["u0", "u1", "u2", "u3"]


class Log(NamedTuple):
    """Messages in order; every batch holds one row, so that each row's fate can be told."""

    messages: list[Message]
    events: list[Event | None]
    settled: int


def make_log(random: Random, *, horizon_lag: int | None, event_count: int = 60) -> Log:
    """Return a random log; ``horizon_lag`` None: ids are never forgotten."""
    settled = {n: T0 + n * SPAN // TICKS for n in range(1, TICKS + 1)}
    changes: dict[int, list[Definition]] = {n: [] for n in settled}
    for ordinal, name in enumerate(["x", "y"][: random.randint(1, 2)]):
        for number, one in _life(random, name, ordinal, settled):
            changes[number].append(one)
    posted = [_event(random, at) for at in range(event_count)]
    posted += [_resend(random, one) for one in random.choices(posted, k=event_count // 2)]
    arrivals: dict[int, list[Event]] = {n: [] for n in settled}
    for one in posted:
        arrivals[random.randint(1, TICKS)].append(one)
    messages: list[Message] = []
    events: list[Event | None] = []
    for number, settled_ms in settled.items():
        horizon = 0 if horizon_lag is None else max(0, settled_ms - horizon_lag)
        made = [DefinitionChange(one) for one in changes[number]]
        messages.append(tick(number, settled_ms, *made, horizon=horizon))
        events.append(None)
        for one in arrivals[number]:
            messages.append(batch([one]))
            events.append(one)
    horizon = 0 if horizon_lag is None else settled[TICKS] + 5 - horizon_lag
    messages.append(tick(TICKS + 1, settled[TICKS] + 5, horizon=horizon))
    return Log(messages, [*events, None], settled[TICKS] + 5)


def _life(
    random: Random, name: str, ordinal: int, settled: dict[int, int]
) -> list[tuple[int, Definition]]:
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
    for number in sorted(random.sample(range(2, TICKS), random.randint(1, 5))):
        one = _next(random, one, settled[number] - random.randint(0, 4))
        history.append((number, one))
    return history


def _next(random: Random, one: Definition, at: int) -> Definition:
    change = msgspec.structs.replace
    if one.intervals:
        at = max(at, one.intervals[-1].start_ms, one.intervals[-1].end_ms or 0)
    if one.status == "draft":
        return change(one, status="running", started_at_ms=at, intervals=[Interval(at)])
    closed = [*one.intervals[:-1], Interval(one.intervals[-1].start_ms, at)]
    if one.status == "paused":
        return change(one, status="running", intervals=[*one.intervals, Interval(at)])
    if one.status != "running":
        return one
    what = random.choice(["pause", "stop", "metric"])
    if what == "pause":
        return change(one, status="paused", intervals=closed)
    if what == "stop":
        return change(one, status="stopped", intervals=closed, stopped_at_ms=at)
    added = change(_metric(random, len(one.metrics)), added_at_ms=at)
    return change(one, metrics=[*one.metrics, added])


def _metric(random: Random, number: int) -> Metric:
    return Metric(
        f"m{number}",
        random.choice(["conversion", "count", "sum"]),
        random.choice(["buy", "view"]),
        window_ms=random.choice([None, 5, 20]),
        precision=random.choice([0, 2]),
    )


def _event(random: Random, at: int) -> Event:
    unit, when = random.choice(UNITS), T0 + random.randint(-5, SPAN + 5)
    unit_type = random.choice(["user"] * 9 + ["device"])
    given = random.random() < 0.8
    if random.random() < 0.4:
        experiment = random.choice(["x", "x", "x", "y", "unknown"])
        variant = random.choice(["c", "c", "t", "blue"])
        return Event(unit, f"e{at}", when, experiment, variant, None, 0.0, unit_type, given)
    experiment = random.choice([None, None, None, "x", "y"])
    value = random.choice([-1.0, 0.0, 1.0, 2.5, 0.005, 4e18])
    metric = random.choice(["buy", "view"])
    return Event(unit, f"e{at}", when, experiment, None, metric, value, unit_type, given)


def _resend(random: Random, event: Event) -> Event:
    """Return the event again: as it was, at another time of receipt, or saying something else."""
    if random.random() < 0.6:
        return event
    if random.random() < 0.5:
        return event._replace(timestamp=event.timestamp + random.randint(-2, 2))
    if event.metric:
        return event._replace(value=7.0)
    return event._replace(variant="t" if event.variant == "c" else "c")
