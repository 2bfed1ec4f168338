"""Small random worlds: a week in which experiments start, pause, stop and grow while events come.

Few units, few ids, times on a grid of hours and at the edges of everything, so that ties, repeats,
crossovers and off-by-ones are common. Whatever is in a world may arrive in any order that the
horizon allows, and must end in the same integers; ``logs`` adds what must not count at all.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import msgspec

from schemas.control import (
    HORIZON_SLACK_MS,
    CatalogueChange,
    CatalogueEntry,
    Change,
    DefinitionChange,
    Import,
    ImportBatch,
    ImportChange,
    Settings,
    SettingsChange,
    Tick,
    Times,
)
from schemas.definitions import CapQuantile, Definition, Interval, Metric, Variant
from schemas.topics import KIND_TICK
from tests.stream_processors.accumulate.builders import LOG_ID, Event, ImportRow, Message

HOUR = 3_600_000
DAY = 24 * HOUR
DAY0 = 19_700
"""The day on which a world begins, in days since 1970-01-01."""

START = DAY0 * DAY + 12 * HOUR
DAYS = 7
AHEAD = 6 * HOUR
"""How far an event may be ahead of log time: further than any door allows."""

EVENT_NAMES = ("buy", "view", "pay")
CHOSEN_NAMES = ("buy", "buy", "buy", "buy", "view", "view", "pay")
WINDOWS = (None, 2 * HOUR, 12 * HOUR, 30 * HOUR)
LATENESSES = (2 * HOUR, 12 * HOUR, 36 * HOUR)
KEEP_DAYS = (0, 3, 5, 5, 5, 5)
SIMPLE_KINDS = ("conversion", "count", "sum", "sum")
KINDS = ("conversion", "count", "sum", "sum", "ratio", "ratio", "mean", "quantile", "quantile")
SEGMENTS = ({}, {"country": ["CA", "US"]}, {"country": ["CA"], "paying": ["true", "3"]})
ATTRIBUTES = (
    *(None, '{"country":"CA"}', '{"country":"US","paying":true}', '{"country":"FR","paying":3}'),
    *('{"country":null,"paying":"3"}', '{"paying":3.0}', '{"country":["CA"],"paying":false}'),
)
# The last two lie on either side of the limit of a magnitude, at precision 0.
VALUES = (
    *(-1.0, 0.0, -0.0, 1.0, 1.0, 2.0, 2.5, 2.5, 0.005, 3e-9, 7.25, 12.0, -3.5),
    *(4e18, float(2**62 - 2**21), -(2.0**62)),
)


class BatchPlan(NamedTuple):
    """A batch of an import.

    Attributes:
        reserved: Tick that reserves it.
        done: Tick that says that every partition has it.
    """

    import_id: str
    number: int
    sha256: str
    rows: list[ImportRow]
    reserved: int
    done: int


class World(NamedTuple):
    """A world.

    Attributes:
        ticks: In order; tick n at place n - 1.
        events: Once each, each with the ticks after which it may arrive.
        batches: Of all imports.
    """

    ticks: list[Tick]
    events: list[tuple[range, Event]]
    batches: list[BatchPlan]

    @property
    def messages(self) -> list[Message]:
        """Return the ticks as every partition holds them."""
        return [Message(KIND_TICK, msgspec.json.encode(one)) for one in self.ticks]


class Draft:
    """A world in the making: what control has decided so far, tick by tick."""

    def __init__(self, random: Random, *, tick_count: int, is_simple: bool) -> None:
        self.random, self.tick_count, self.is_simple = random, tick_count, is_simple
        self.changes: dict[int, list[Change]] = {n: [] for n in range(1, tick_count + 1)}
        self.times = self._clock()
        self.catalogue: dict[str, tuple[int, CatalogueEntry]] = {}
        self.definitions: dict[str, tuple[int, Definition]] = {}
        self.batches: list[BatchPlan] = []
        self.precisions = {name: random.choice([0, 2]) for name in EVENT_NAMES}
        if not is_simple:
            # A ratio is of two names of one precision.
            self.precisions["view"] = self.precisions["buy"]

    def _clock(self) -> dict[int, Times]:
        """Return the ticks' times; lateness is raised and lowered, doors fall behind."""
        random, times = self.random, {}
        lateness = random.choice(LATENESSES)
        self.latenesses = {}
        log = settled = horizon = 0
        for number in range(1, self.tick_count + 1):
            log = max(log, START + number * DAYS * DAY // self.tick_count)
            if number > 1 and random.random() < 3 / self.tick_count:
                lateness = random.choice(LATENESSES)
            if number == 1 or lateness != self.latenesses[number - 1]:
                settings = Settings(lateness, random.choice([None, 1, 1, 2]))
                self.changes[number].append(SettingsChange(settings))
            self.latenesses[number] = lateness
            behind = random.choice([0, 0, 0, 1, HOUR, 20 * HOUR])
            settled = max(settled, log - behind)
            horizon = max(horizon, settled - lateness - HORIZON_SLACK_MS)
            times[number] = Times(log, settled, horizon)
        return times

    def ticks(self) -> list[Tick]:
        """Return the ticks; settings last until they change."""
        settings, ticks = Settings(), []
        for number in range(1, self.tick_count + 1):
            for change in self.changes[number]:
                if isinstance(change, SettingsChange):
                    settings = change.settings
            ticks.append(Tick(LOG_ID, number, self.times[number], settings, self.changes[number]))
        return ticks

    # --- catalogue and imports ---

    def make_catalogue(self) -> None:
        """Make entries, most of them at once, of names that are kept and of names that are not."""
        for name in EVENT_NAMES:
            if self.random.random() < 0.2:
                continue
            number = self.random.choice([1, 1, 1, self.random.randint(1, self.tick_count // 2)])
            made = self.times[number].log_ms
            entry = CatalogueEntry(
                name, self.precisions[name], self.random.choice(KEEP_DAYS), made // DAY + 1
            )
            self.catalogue[name] = number, entry
            self.changes[number].append(CatalogueChange(entry))

    def make_imports(self) -> None:
        """Declare imports of kept names; reserve their batches, one after the other."""
        kept = [name for name, (_, entry) in self.catalogue.items() if entry.keep_days]
        for ordinal in range(self.random.choice([0, 1, 1, 2]) if kept else 0):
            names = self.random.sample(kept, self.random.randint(1, len(kept)))
            live = min(self.catalogue[name][1].live_from_day for name in names)
            since = max(self.catalogue[name][0] for name in names)
            declared = Import(f"i{ordinal}", ordinal, names, live - 5, live - 1)
            self._reserve_batches(declared, self.random.randint(since, since + 2))

    def _reserve_batches(self, declared: Import, number: int) -> None:
        random = self.random
        self.changes[min(number, self.tick_count)].append(ImportChange(declared))
        for batch in range(1, random.randint(1, 4)):
            reserved = number + random.randint(0, 2)
            done = reserved + random.randint(1, 4)
            if done >= self.tick_count:
                return
            rows = [self._import_row(declared) for _ in range(random.randint(1, 12))]
            plan = BatchPlan(declared.id, batch, f"{declared.id}-{batch}", rows, reserved, done)
            self.batches.append(plan)
            reservation = ImportBatch(batch, plan.sha256, len(rows))
            declared = msgspec.structs.replace(declared, reserved=reservation)
            self.changes[reserved].append(ImportChange(declared))
            declared = msgspec.structs.replace(
                declared, reserved=None, done=batch, row_count=declared.row_count + len(rows)
            )
            self.changes[done].append(ImportChange(declared))
            number = done

    def _import_row(self, declared: Import) -> ImportRow:
        random = self.random
        return ImportRow(
            _unit(random),
            random.choice(declared.metrics),
            random.randint(declared.from_day, declared.to_day),
            random.choice(VALUES),
            random.choice(["user", "user", "session"]),
        )

    # --- experiments ---

    def make_experiments(self) -> None:
        """Make the lives of one to three experiments."""
        for ordinal, name in enumerate("xyz"[: self.random.randint(1, 3)]):
            created = 1 if ordinal == 0 else self.random.randint(1, max(1, self.tick_count // 4))
            # Ordinals are given in the order of creation.
            created = max([created, *(number for number, _ in self.definitions.values())])
            self._live(name, ordinal, created)

    def _live(self, name: str, ordinal: int, created: int) -> None:
        random = self.random
        one = Definition(
            id=name,
            ordinal=ordinal,
            version=0,
            seed=name,
            unit_type=random.choice(["user", "user", "user", "session"]),
            variants=[Variant("c", 0.4, is_control=True), Variant("t", 0.3), Variant("s", 0.3)][
                : random.randint(2, 3)
            ],
            metrics=[self._metric(at, created) for at in range(random.randint(1, 4))],
            crossover=random.choice(["exclude", "exclude", "first"]),
            segments={} if self.is_simple else random.choice(SEGMENTS),
        )
        self.changes[created].append(DefinitionChange(one))
        # Most start soon, so that there is something to count.
        first = created + random.choice([1, 1, 2, self.tick_count // 3])
        later = range(first + 1, self.tick_count + 1)
        for number in [first, *sorted(random.sample(later, random.randint(0, 5)))]:
            one = self._next(one, number)
            self.changes[number].append(DefinitionChange(one))
        self.definitions[name] = created, one

    def _next(self, one: Definition, number: int) -> Definition:
        """Return an experiment as a command makes it that takes effect with a tick."""
        random, change = self.random, msgspec.structs.replace
        log, horizon = self.times[number].log_ms, self.times[number].horizon_ms
        at = max(horizon, log - random.choice([0, 1, HOUR]))
        if one.intervals:
            at = max(at, one.intervals[-1].start_ms, one.intervals[-1].end_ms or 0)
        if one.status == "draft":
            # A start may name an earlier time, within the lateness.
            at = random.choice([at, max(horizon, log - self.latenesses[number]), (at // DAY) * DAY])
            at = max(at, horizon)
            return change(one, status="running", started_at_ms=at, intervals=[Interval(at)])
        if one.status == "paused" and random.random() < 0.7:
            return change(one, status="running", intervals=[*one.intervals, Interval(at)])
        if one.status in ("running", "paused"):
            closed = one.intervals
            if one.status == "running":
                closed = [*one.intervals[:-1], Interval(one.intervals[-1].start_ms, at)]
            what = random.choice(["pause", "pause", "stop", "metric", "metric", "metric"])
            if what == "stop":
                return change(one, status="stopped", intervals=closed, stopped_at_ms=at)
            if what == "pause":
                return change(one, status="paused", intervals=closed)
            added = change(self._metric(len(one.metrics), number), added_at_ms=at)
            return change(one, metrics=[*one.metrics, added])
        return change(one, name=f"{one.name}.")

    def _metric(self, place: int, number: int) -> Metric:
        random = self.random
        kind = random.choice(SIMPLE_KINDS if self.is_simple else KINDS)
        event, denominator = random.choice(CHOSEN_NAMES), None
        if kind == "ratio":
            event, denominator = random.choice([("buy", "view"), ("view", "buy")])
        kept = min(self._kept_days(name, number) for name in (event, denominator) if name)
        days = random.choice([0, min(1, kept), kept, kept])
        cap = None
        if not self.is_simple and kind in ("count", "sum"):
            cap = random.choice([None, 1.0, 2.0, 40.0, CapQuantile(0.9)])
        of_events = kind == "quantile" and random.random() < 0.5
        return Metric(
            f"m{place}",
            kind,
            event,
            window_ms=random.choice(WINDOWS),
            precision=self.precisions[event],
            covariate_days=0 if kind == "quantile" or isinstance(cap, CapQuantile) else days,
            cap=cap,
            denominator=denominator,
            quantile=0.5 if kind == "quantile" else None,
            of=("events" if of_events else "units") if kind == "quantile" else None,
        )

    def _kept_days(self, name: str, number: int) -> int:
        made, entry = self.catalogue.get(name, (number + 1, None))
        return entry.keep_days if entry and made <= number else 0

    # --- events ---

    def make_events(self, count: int) -> Iterator[tuple[range, Event]]:
        """Yield events, each with the ticks after which it may arrive."""
        edges = list(self._edges())
        assignments: list[Event] = []
        for at in range(count):
            if self.random.random() < 0.3 or not assignments:
                event = self._assignment(f"e{at}", edges)
                assignments.append(event)
            else:
                event = self._measured(f"e{at}", edges, assignments)
            arrivals = self._arrivals(event)
            if arrivals:
                yield arrivals, event

    def _edges(self) -> Iterator[int]:
        """Yield the times at which something changes."""
        for times in self.times.values():
            yield times.horizon_ms
        for _, one in self.definitions.values():
            for interval in one.intervals:
                yield interval.start_ms
                yield interval.end_ms or interval.start_ms
            for metric in one.metrics:
                yield metric.added_at_ms
                yield (one.started_at_ms or 0) + (metric.window_ms or 0)
        for day in range(DAY0, DAY0 + DAYS + 1):
            yield day * DAY

    def _assignment(self, event_id: str, edges: list[int]) -> Event:
        random = self.random
        _, one = random.choice(list(self.definitions.values()))
        unit = _unit(random)
        usual = one.variant_ids[int(unit[1:]) % len(one.variants)]
        on_grid = START + random.randint(0, 24 * DAYS) * HOUR
        windows = [metric.window_ms or 0 for metric in one.metrics]
        ends = [one.stopped_at_ms or on_grid, random.choice(list(self.times.values())).settled_ms]
        its_edge = random.choice(ends) - random.choice(windows)
        return Event(
            unit,
            event_id,
            random.choice([on_grid, on_grid, random.choice(edges), its_edge])
            + random.choice([-1, 0, 0, 1]),
            one.id,
            random.choice([usual] * 5 + one.variant_ids),
            unit_type=one.unit_type,
            timestamp_given=random.random() < 0.9,
            attributes=None if self.is_simple else random.choice(ATTRIBUTES),
        )

    def _measured(self, event_id: str, edges: list[int], assignments: list[Event]) -> Event:
        """Return a metric event, most often one near an assignment of its unit."""
        random = self.random
        near = random.choice(assignments)
        since = random.choice([
            random.choice([-1, 0, 1]),
            random.choice([2, 12, 30]) * HOUR + random.choice([-1, 0]),
            random.randint(-80, 35) * HOUR,
            random.randint(0, 12) * HOUR,
        ])  # fmt: skip
        day_edge = (near.timestamp // DAY - random.randint(0, 4)) * DAY + random.choice([-1, 0, 1])
        return Event(
            near.unit,
            event_id,
            random.choice(
                [near.timestamp + since] * 3 + [day_edge, day_edge, random.choice(edges)]
            ),
            random.choice([None, None, None, None, "x", "y"]),
            metric=random.choice(CHOSEN_NAMES),
            value=random.choice(VALUES),
            unit_type=near.unit_type if random.random() < 0.95 else "session",
            timestamp_given=random.random() < 0.9,
        )

    def _arrivals(self, event: Event) -> range:
        """Return the ticks after which an event may arrive and is fresh and known."""
        first = 1
        if event.experiment is not None:
            first, definition = self.definitions.get(event.experiment, (self.tick_count, None))
            if definition is None or definition.unit_type != event.unit_type:
                return range(0)
            if event.variant and event.variant not in definition.variant_ids:
                return range(0)
        eligible = [
            number
            for number in range(first, self.tick_count)
            if self.times[number].horizon_ms <= event.timestamp <= self.times[number].log_ms + AHEAD
        ]
        return range(eligible[0], eligible[-1] + 1) if eligible else range(0)


def make_world(
    random: Random, *, tick_count: int = 15, event_count: int = 50, is_simple: bool = False
) -> World:
    """Return a random world; a simple one has rates and totals only, and no segments."""
    draft = Draft(random, tick_count=tick_count, is_simple=is_simple)
    draft.make_catalogue()
    draft.make_imports()
    draft.make_experiments()
    events = list(draft.make_events(event_count))
    return World(draft.ticks(), events, draft.batches)


def _unit(random: Random) -> str:
    return f"u{random.randint(0, 3)}"
