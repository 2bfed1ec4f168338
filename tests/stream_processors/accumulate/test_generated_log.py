"""A log of eight thousand lines from a generator that others wrote, and its published answer.

The published sums of the covariate are over a rolling window of 14 days before the exposure. Ours
are over the 14 whole UTC days before its day, so they are computed anew here, by the same plain
replay that reproduces the published ones.
"""

from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import pytest

from schemas.control import CatalogueChange, CatalogueEntry, DefinitionChange
from schemas.definitions import Interval, Metric, Variant
from stream_processors.accumulate.partition import Partition
from stream_processors.stats.sums import JointSums
from tests.stream_processors.accumulate.builders import (
    Event,
    Message,
    batch,
    definition,
    partition_of,
    tick,
)
from tests.stream_processors.accumulate.holding import added, integers_of

DAY = 86_400
WINDOW, BEFORE = 7 * DAY, 14 * DAY
END = 200 * DAY

EXPERIMENT = definition(
    variants=[Variant("A", 0.5, is_control=True), Variant("B", 0.5)],
    started_at_ms=0,
    intervals=[Interval(0)],
    metrics=[
        Metric("total", "sum", "m", window_ms=WINDOW * 1_000, precision=2, covariate_days=14),
        Metric("events", "count", "m", window_ms=WINDOW * 1_000, precision=2, covariate_days=14),
    ],
)
CATALOGUE = CatalogueEntry("m", precision=2, keep_days=14, live_from_day=0)


class Line(NamedTuple):
    """A line of the log; exposures have a variant. Times in seconds."""

    event_id: str
    unit: str
    time: int
    variant: str | None = None
    value: float = 0.0

    def event(self) -> Event:
        """Return it as an event of ours."""
        if self.variant:
            return Event(self.unit, self.event_id, self.time * 1_000, "x", self.variant)
        return Event(self.unit, self.event_id, self.time * 1_000, metric="m", value=self.value)


def generate(seed: int, unit_count: int) -> list[Line]:
    """Return the log. The order of the calls of the random generator is part of it."""
    random, lines, metrics = Random(seed), [], 0
    for number in range(unit_count):
        unit = f"u{number}"
        entry = 100 * DAY + random.randrange(5 * DAY)
        variant, other = ("A", "B") if random.random() < 0.5 else ("B", "A")
        if random.random() < 0.97:
            lines.append(Line(f"x{number}", unit, entry, variant))
        if random.random() < 0.1:
            again = entry + random.randrange(-2 * DAY, 3 * DAY)
            lines.append(Line(f"x{number}r", unit, again, variant))
        if random.random() < 0.01:
            lines.append(Line(f"x{number}c", unit, entry + 100, other))
        for _ in range(random.randrange(6)):
            time = entry + random.randrange(-16 * DAY, 9 * DAY)
            value = random.randrange(-200, 2_000) / 100
            lines.append(Line(f"m{metrics}", unit, time, value=value))
            metrics += 1
    lines += random.sample(lines, len(lines) // 10)
    random.shuffle(lines)
    return lines


def replay(lines: list[Line], precedes: Callable[[int, int], bool]) -> dict[str, Any]:
    """Return the sums by hand; ``precedes(time, entry)``: is it in the covariate's window."""
    by_unit: dict[str, dict[str, Line]] = defaultdict(dict)
    for line in lines:
        by_unit[line.unit].setdefault(line.event_id, line)
    crossovers, data = 0, {"A": [], "B": []}
    for its_lines in by_unit.values():
        exposures = sorted((one.time, one.variant) for one in its_lines.values() if one.variant)
        if not exposures:
            continue
        if len({variant for _, variant in exposures}) > 1:
            crossovers += 1
            continue
        entry, variant = exposures[0]
        cents = [
            (one.time, round(one.value * 100)) for one in its_lines.values() if not one.variant
        ]
        after = [q for time, q in cents if entry <= time < entry + WINDOW]
        before = [q for time, q in cents if precedes(time, entry)]
        data[variant].append((after, before))
    return {"crossovers": crossovers, "data": data}


def rolling(time: int, entry: int) -> bool:
    return entry - BEFORE <= time < entry


def whole_days(time: int, entry: int) -> bool:
    return entry // DAY - 14 <= time // DAY < entry // DAY


def moments(pairs: list[tuple[int, int]]) -> tuple[int, ...]:
    """Return n, Σq, Σq², Σx, Σx², Σqx."""
    return (
        len(pairs),
        sum(q for q, _ in pairs),
        sum(q * q for q, _ in pairs),
        sum(x for _, x in pairs),
        sum(x * x for _, x in pairs),
        sum(q * x for q, x in pairs),
    )


LINES = generate(501, 2_000)


def test_the_plain_replay_gives_the_published_answer() -> None:
    answer = replay(LINES, rolling)

    assert len(LINES) == 7_866
    assert answer["crossovers"] == 20
    assert {
        variant: moments([(sum(after), sum(before)) for after, before in data])
        for variant, data in answer["data"].items()
    } == {
        "A": (978, 645000, 1290325666, 1297671, 3588470991, 922752506),
        "B": (948, 521789, 982664693, 1123996, 3020394526, 676743972),
    }
    events = {v: sum(len(after) for after, _ in data) for v, data in answer["data"].items()}
    assert events == {"A": 726, "B": 622}


def log_of(lines: list[Line], random: Random) -> list[Message]:
    messages = [tick(1, 0, CatalogueChange(CATALOGUE), DefinitionChange(EXPERIMENT))]
    rest, number = [line.event() for line in lines], 2
    while rest:
        size = random.randint(1, 400)
        messages.append(batch(rest[:size]))
        messages.append(tick(number, min(END, 90 + number) * DAY * 1_000))
        number += 1
        del rest[:size]
    return [*messages, tick(number, END * 1_000)]


@pytest.mark.parametrize("partition_count", [1, 3, 7])
def test_the_engine_gives_the_published_answer_in_any_order(partition_count: int) -> None:
    random = Random(partition_count)
    lines = [*LINES, *random.sample(LINES, 500)]
    random.shuffle(lines)

    parts = []
    for number in range(partition_count):
        partition = Partition(number, writer="w")
        its_lines = [one for one in lines if partition_of(one.event(), partition_count) == number]
        for offset, message in enumerate(log_of(its_lines, random)):
            partition.apply(offset, *message)
        parts.append(integers_of(partition.experiment_sums(EXPERIMENT, final=False), EXPERIMENT))
    counted = added(parts)

    answer = replay(LINES, whole_days)
    units = [answer["data"][variant] for variant in ("A", "B")]
    totals = [moments([(sum(after), 0) for after, _ in data]) for data in units]
    assert counted["units"] == [978, 948]
    assert counted["crossovers"] == 20
    assert counted["open"] == counted["matured"]
    amounts, events = counted["matured"]
    assert [one.total for one in amounts] == [JointSums(n, (q,), (qq,)) for n, q, qq, *_ in totals]
    assert [one.total.sums for one in events] == [(726,), (622,)]
    with_history = [[(after, before) for after, before in data if before] for data in units]
    assert [one.covariates for one in amounts] == [
        joint([(sum(after), sum(before)) for after, before in data]) for data in with_history
    ]
    assert [one.covariates for one in events] == [
        joint([(len(after), len(before)) for after, before in data]) for data in with_history
    ]


def joint(pairs: list[tuple[int, int]]) -> JointSums:
    """Return the same moments as sums of pairs."""
    n, q, qq, x, xx, qx = moments(pairs)
    return JointSums(n, (q, x), (qq, qx, xx))
