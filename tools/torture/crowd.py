"""Who comes, and what they do: a seeded stream of events as real producers send them.

Duplicates, events out of order, late ones, crossovers, the same id with another content, events
of one experiment only, and bytes that break a rule. Values are multiples of 2⁻¹⁰, so that sums are
the same in every order. What is sent follows from the seed; its timestamps from the clock of who
asks, and which experiments there are from the commands of the run.
"""

import heapq
import itertools
import json
from collections import deque
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from schemas.times import format_time_ms
from tools.torture.experiments import Running
from tools.torture.journal import ACCEPTED, ANY, LATE, Event, Hostile

REMEMBERED_MAX = 50_000
"""Units that may come back; others have been seen for the last time."""

_AHEAD_MS = 24 * 3_600_000
_SOON_S = 1.0


class Item(NamedTuple):
    """An event, or hostile bytes, and what must become of it."""

    content: Event | Hostile
    wanted: str = ACCEPTED


class Sending(NamedTuple):
    """An item and when it is sent, in seconds from the start; ``number`` breaks ties."""

    at_s: float
    number: int
    item: Item


class Habits(NamedTuple):
    """How the crowd behaves; shares are of events."""

    repeated: float = 0.05
    changed: float = 0.004
    hostile: float = 0.004
    late: float = 0.004
    without_time: float = 0.02
    without_id: float = 0.01
    returning: float = 0.5


USUAL = Habits()


class Crowd:
    """Draws what units do.

    Args:
        random: The source of all chance.
        experiments: That run now, kept up to date by who gives commands.
        lateness_ms: After which events count as late.
    """

    def __init__(
        self, random: Random, experiments: Running, *, lateness_ms: int, habits: Habits = USUAL
    ) -> None:
        self._random = random
        self._experiments = experiments
        self._lateness_ms = lateness_ms
        self._habits = habits
        self._numbers = itertools.count()
        self._order = itertools.count()
        self._known: deque[str] = deque(maxlen=REMEMBERED_MAX)
        self._waiting: list[Sending] = []

    @property
    def waiting_count(self) -> int:
        """Return how many items are drawn and not due yet."""
        return len(self._waiting)

    @property
    def unit_count(self) -> int:
        """Return how many units have come: ``u-0``, ``u-1`` and so on."""
        return len(self._known) and int(self._known[-1].removeprefix("u-")) + 1

    def settle_in(self, count: int, now_ms: int) -> Iterator[Item]:
        """Yield the assignments of units that were there before the run."""
        for _ in range(count):
            unit = f"u-{next(self._numbers)}"
            self._known.append(unit)
            entry = now_ms - self._random.randrange(1, max(2, self._lateness_ms // 4))
            experiment = self._random.choice(self._experiments.steady)
            yield Item(Event(unit, f"{unit}-first", entry, experiment, self._variant()))

    def come(self, count: int, now_s: float, now_ms: int) -> None:
        """Let about ``count`` items be drawn, to be sent from now on."""
        drawn = 0
        while drawn < count:
            before = len(self._waiting)
            if self._known and self._random.random() < self._habits.returning:
                events = [self._metric(self._random.choice(self._known), now_ms)]
            else:
                events = list(self._arrival(now_ms))
            for event in events:
                self._plan(event, now_s, now_ms)
            drawn += len(self._waiting) - before

    def due(self, now_s: float) -> list[Item]:
        """Return what is to be sent by now."""
        due = []
        while self._waiting and self._waiting[0].at_s <= now_s:
            due.append(heapq.heappop(self._waiting).item)
        return due

    def _arrival(self, now_ms: int) -> Iterator[Item]:
        """Yield what a new unit does, in no order: some of it earlier than it happened."""
        random, unit = self._random, f"u-{next(self._numbers)}"
        self._known.append(unit)
        entry = now_ms - random.randrange(2_000)
        several = random.choice([1, 1, 2])
        names = self._experiments.names()
        for experiment in random.sample(names, min(several, len(names))):
            yield from self._assignments(unit, entry, experiment)
        for _ in range(random.choice([0, 1, 2, 2, 4])):
            yield self._metric(unit, entry)

    def _assignments(self, unit: str, entry: int, experiment: str) -> Iterator[Item]:
        random = self._random
        wanted = ACCEPTED if experiment in self._experiments.steady else ANY
        variant = self._variant()
        country = {"country": random.choice(["CA", "US", "FR"])} if random.random() < 0.3 else None
        first = Event(unit, f"{unit}-{experiment}", entry, experiment, variant, attributes=country)
        yield Item(first, wanted)
        if random.random() < 0.15:  # an earlier one, that may arrive later
            earlier = entry - random.randrange(1_500)
            yield Item(_changed(first, f"{first.event_id}-earlier", timestamp=earlier), wanted)
        if random.random() < 0.1:
            when, other = entry + random.randint(-1_500, 1_500), "c" if variant == "t" else "t"
            crossed = _changed(first, f"{first.event_id}-cross", timestamp=when, variant=other)
            yield Item(crossed, wanted)

    def _metric(self, unit: str, around_ms: int) -> Item:
        random = self._random
        when: int | None = around_ms + random.randint(-1_000, 7_000)
        if random.random() < self._habits.without_time:
            when = None
        return Item(
            Event(
                unit,
                f"{unit}-m{next(self._order)}",
                when,
                random.choice([None, None, None, *self._experiments.steady]),
                None,
                random.choice(["buy", "view"]),
                None if random.random() < 0.05 else random.randint(-3_000, 9_000) / 1_024,
            )
        )

    def _plan(self, item: Item, now_s: float, now_ms: int) -> None:
        """Let an item be sent, with what may follow from it."""
        random, habits = self._random, self._habits
        event = item.content
        assert isinstance(event, Event)
        if event.metric and random.random() < habits.without_id:
            # Known by its place on a topic: sent twice, it is two events.
            self._push(now_s, Item(_changed(event, None), item.wanted))
            return
        if event.metric and random.random() < habits.late:
            when = now_ms - 2 * self._lateness_ms - random.randrange(60_000)
            event = _changed(event, f"{event.event_id}-late", timestamp=when)
            item = Item(event, LATE)
        self._push(now_s, item)
        while random.random() < habits.repeated:
            self._push(now_s, item)
        if event.metric and random.random() < habits.changed:
            other = _changed(event, event.event_id, value=(event.value or 1.0) + 1.0)
            self._push(now_s, Item(other, item.wanted))
        if random.random() < habits.hostile:
            hostile = self._hostile(event, now_ms)
            self._push(now_s, Item(hostile, hostile.code))

    def _push(self, now_s: float, item: Item) -> None:
        at_s = now_s + self._random.expovariate(1 / _SOON_S)
        heapq.heappush(self._waiting, Sending(at_s, next(self._order), item))

    def _variant(self) -> str:
        return self._random.choice("ct")

    def _hostile(self, event: Event, now_ms: int) -> Hostile:
        """Return bytes that break one rule, with the code of it; no two are the same."""
        good: dict[str, Any] = {
            "type": "metric",
            "event_id": f"x-{next(self._order)}",
            "unit_id": event.unit,
            "metric": "buy",
            "timestamp": now_ms,
        }
        of_experiment = {name: value for name, value in good.items() if name != "metric"}
        of_experiment |= {"type": "assignment", "experiment_id": self._experiments.steady[0]}
        text = json.dumps(good)
        forms = [
            (json.dumps(of_experiment | {"variant": "none"}), "unknown_variant"),
            (
                json.dumps(of_experiment | {"experiment_id": "nowhere", "variant": "c"}),
                "unknown_experiment",
            ),
            (text[:-1] + ', "value": NaN}', "value_not_finite"),
            (text[:-1] + ', "value": 1e999}', "value_not_finite"),
            (json.dumps(good | {"value": 1e13}), "value_out_of_range"),
            (json.dumps(good | {"timestamp": now_ms + _AHEAD_MS}), "timestamp_ahead"),
            (json.dumps(good | {"unit_id": "a\u0000b"}), "id_invalid"),
            (json.dumps(good | {"surprise": 1}), "malformed"),
            (json.dumps(good | {"value": "1.5"}), "malformed"),
            (text[:-1] + ', "metric": "view"}', "malformed"),
            # White space around a line is no part of what is refused.
            (text[: len(text) // 2].rstrip(), "malformed"),
            (json.dumps(good | {"type": "wish"}), "unknown_type"),
        ]
        raw, code = self._random.choice(forms)
        return Hostile(raw.encode(), code)


def _changed(event: Event, event_id: str | None, **fields: Any) -> Event:
    kept = {name: getattr(event, name) for name in event.__struct_fields__}
    return Event(**(kept | fields | {"event_id": event_id}))


def as_json(event: Event, *, is_type_given: bool = True) -> dict[str, Any]:
    """Return an event as producers write it; the time in one of its two forms."""
    fields: dict[str, Any] = {"unit_id": event.unit}
    if is_type_given:
        fields["type"] = "metric" if event.metric else "assignment"
    if event.event_id is not None:
        fields["event_id"] = event.event_id
    if event.timestamp is not None:
        odd = event.timestamp % 2
        fields["timestamp"] = event.timestamp if odd else format_time_ms(event.timestamp)
    if event.experiment is not None:
        fields["experiment_id"] = event.experiment
    if event.unit_type != "user":
        fields["unit_type"] = event.unit_type
    if event.attributes:
        fields["attributes"] = event.attributes
    if event.metric:
        fields["metric"] = event.metric
        return fields if event.value is None else fields | {"value": event.value}
    return fields | {"variant": event.variant}
