"""Runs without a broker: a seeded crowd, the real engine and the real merge, all in memory.

What the engine reads may be another log than the one that the auditor is shown: that is how a run
is sabotaged.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import msgspec

from schemas.control import (
    CatalogueChange,
    CatalogueEntry,
    Change,
    ControlFold,
    ControlRecord,
    ControlState,
    DefinitionChange,
    Import,
    ImportBatch,
    ImportChange,
    Settings,
    SettingsChange,
    Times,
)
from schemas.definitions import Definition, Interval, Metric
from schemas.partials import decode_partial
from schemas.topics import KIND_BATCH, KIND_TICK
from stream_processors.accumulate.partition import Partition
from stream_processors.merge.merging import Merger
from tests.stream_processors.accumulate.builders import (
    Event,
    ImportRow,
    batch,
    definition,
    import_part,
    partition_of,
)
from tools.torture import journal as journals
from tools.torture.audit import Run
from tools.torture.audit.control_log import ControlMessage
from tools.torture.audit.evidence import DeadLetter, LogMessage

LOG_ID = "log"
LATENESS_MS = 60_000
WINDOWS_MS = [None, 400, 3_000, 90_000]
STEPS_MS = [200, 200, 200, 45_000]
EVENT_NAMES = ["buy", "view"]
DAY_MS = 86_400_000
DAY = 19_675
T0 = (DAY + 1) * DAY_MS - 300_000
"""Five minutes before midnight: days end while events come."""

IMPORTED = {
    "import_id": "i",
    "batches": 2,
    "rows": 16,
    "log_rows": 16,
    "difference": 0,
    "parts_missing": 0,
}
"""What the ledger says of the import of a world."""

Json = dict[str, Any]
Log = dict[int, list[tuple[bytes, bytes]]]
"""Per partition, kind and value of its messages."""


@dataclass
class World:
    """What was done and sent.

    Attributes:
        control: Records of the control log, with those of writers that had lost.
        batches: Per tick, batches of events that came after it; events in their order.
        imports: Per tick, rows, number and hash of batches of an import that came after it.
        witness: An assignment that counts, and a metric event of the unit that counts.
        late: Events that were too late.
        hostile: Bytes that were refused.
    """

    control: list[ControlMessage]
    batches: list[list[list[Event]]]
    imports: dict[int, list[tuple[list[ImportRow], int, str]]]
    witness: list[Event]
    late: list[Event] = field(default_factory=list)
    hostile: list[bytes] = field(default_factory=list)

    @property
    def events(self) -> list[Event]:
        """Return every event, repeats too."""
        return [one for batches in self.batches for events in batches for one in events]


@dataclass
class MemoryEvidence:
    """What a run left, in memory."""

    log: Log
    control_log: list[ControlMessage]
    late_log: list[LogMessage] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    look_records: list[bytes] = field(default_factory=list)
    ledger_records: list[Json] = field(default_factory=list)
    changelogs: dict[int, list[tuple[bytes, bytes | None]]] = field(default_factory=dict)

    def partitions(self) -> list[int]:
        return sorted(self.log)

    def events(self, partition: int) -> Iterator[LogMessage]:
        for offset, (kind, value) in enumerate(self.log[partition]):
            yield LogMessage(offset, kind, value)

    def control(self) -> list[ControlMessage]:
        return self.control_log

    def late(self) -> list[LogMessage]:
        return self.late_log

    def dead_letters(self) -> list[DeadLetter]:
        return self.letters

    def looks(self) -> list[bytes]:
        return self.look_records

    def ledgers(self) -> list[Json]:
        return self.ledger_records

    def changelog(self, partition: int) -> list[tuple[bytes, bytes | None]]:
        return self.changelogs[partition]


def make_world(seed: int, *, ticks: int = 60, units: int = 8, rate: int = 6) -> World:
    """Return a small world: experiments start, pause, grow and stop while events come."""
    random = Random(seed)
    lives = [_Life(random, name, ordinal) for ordinal, name in enumerate("xy")]
    imported = _Imported(random, units)
    now_ms, control, batches, sent = T0, _ControlWriter(random), [], []
    numbers = iter(range(10**9))
    for tick in range(1, ticks + 1):
        now_ms += random.choice(STEPS_MS)
        settings = Settings(lateness_ms=LATENESS_MS)
        changes: list[Change] = [SettingsChange(settings), *_catalogue()] if tick == 1 else []
        changes += [ImportChange(imported.at(tick))] if tick in imported.ticks else []
        changes += [
            DefinitionChange(one)
            for life in lives
            for one in life.changes(tick, now_ms, is_last=tick > ticks - 12)
        ]
        control.write(changes, settings, now_ms)
        count = rate if tick < ticks - 8 else 0
        here = [_event(random, units, now_ms, next(numbers)) for _ in range(count)]
        again = [one for one in sent if one.unit != "witness"]
        here += random.choices(again, k=2) if again and tick < ticks - 8 else []
        if again and random.random() < 0.2:
            one = random.choice(again)
            here.append(one._replace(value=one.value + 1) if one.metric else one)
        if tick >= ticks - 8:
            here = []
        sent += here
        if tick == 2:
            witness = _witness(lives[0].event_name, now_ms)
            here += witness
        groups = []
        while here:
            size = random.randint(1, 4)
            groups.append(here[:size])
            here = here[size:]
        batches.append(groups)
    late = [Event("old", f"l{n}", T0 - 10**6, None, None, "buy", 1.0) for n in range(2)]
    hostile = [b"{", b'{"type": "nothing"}']
    return World(control.records, batches, imported.batches, witness, late, hostile)


def _witness(metric: str, now_ms: int) -> list[Event]:
    return [
        Event("witness", "w-a", now_ms, "x", "c"),
        Event("witness", "w-m", now_ms + 1, None, None, metric, 1.0),
    ]


def _catalogue() -> list[Change]:
    return [CatalogueChange(CatalogueEntry(name, 2, 3, DAY)) for name in EVENT_NAMES]


class _Imported:
    """An import in two batches, sent twice each, once with other content.

    Attributes:
        ticks: At which control says something of it.
        batches: By the tick after which they are sent.
    """

    ticks = (3, 6, 9)

    def __init__(self, random: Random, units: int) -> None:
        first, second = (
            [
                ImportRow(
                    f"u{random.randrange(units + 3)}",
                    random.choice(EVENT_NAMES),
                    DAY - random.randint(1, 3),
                    random.choice([-1.0, 0.25, 3.0]),
                )
                for _ in range(8)
            ]
            for _ in range(2)
        )
        first[0] = first[0]._replace(day=DAY - 1)  # kept to the end, whatever the horizon
        self.batches = {
            3: [(second, 1, "other"), (first, 1, "one"), (first, 1, "one")],
            6: [(first, 1, "one"), (second, 2, "two")],
            8: [(second, 2, "two")],
        }

    def at(self, tick: int) -> Import:
        """Return what control says of it from a tick on."""
        place = self.ticks.index(tick)
        reserved = [ImportBatch(1, "one", 8), ImportBatch(2, "two", 8), None][place]
        return Import("i", 0, EVENT_NAMES, DAY - 3, DAY - 1, place, reserved)


class _Life:
    """An experiment from its draft to its stop."""

    def __init__(self, random: Random, name: str, ordinal: int) -> None:
        self._random = random
        self._one = definition(
            name,
            ordinal,
            status="draft",
            started_at_ms=None,
            intervals=[],
            crossover=random.choice(["exclude", "first"]),
            metrics=[_metric(random, number, 0) for number in range(random.randint(1, 3))],
        )

    @property
    def event_name(self) -> str:
        """Return the name of events of its first metric."""
        return self._one.metrics[0].event

    def changes(self, tick: int, now_ms: int, *, is_last: bool) -> Iterator[Definition]:
        """Yield what becomes of it at a tick."""
        if tick == 1:
            yield self._one
        elif tick == 2:
            at = now_ms - self._random.randint(0, 5_000)
            yield self._change(status="running", started_at_ms=at, intervals=[Interval(at)])
        elif self._random.random() < (0.0 if is_last else 0.15):
            yield from self._next(now_ms - self._random.randint(0, 150))

    def _next(self, at: int) -> Iterator[Definition]:
        intervals = self._one.intervals
        at = max(at, intervals[-1].end_ms or intervals[-1].start_ms)
        closed = [*intervals[:-1], Interval(intervals[-1].start_ms, at)]
        if self._one.status == "paused":
            yield self._change(status="running", intervals=[*intervals, Interval(at)])
        elif self._one.status == "running":
            what = self._random.choices(["pause", "metric", "stop"], [4, 3, 1])[0]
            if what == "pause":
                yield self._change(status="paused", intervals=closed)
            elif what == "stop":
                yield self._change(status="stopped", intervals=closed, stopped_at_ms=at)
            elif len(self._one.metrics) < 5:
                added = _metric(self._random, len(self._one.metrics), at)
                yield self._change(metrics=[*self._one.metrics, added])

    def _change(self, **fields: Any) -> Definition:
        version = self._one.version + 1
        self._one = msgspec.structs.replace(self._one, version=version, **fields)
        return self._one


def _metric(random: Random, number: int, added_at_ms: int) -> Metric:
    return Metric(
        f"m{number}",
        random.choice(["conversion", "count", "sum"]),
        random.choice(EVENT_NAMES),
        role="secondary",
        window_ms=random.choice(WINDOWS_MS),
        precision=2,
        covariate_days=random.choice([0, 0, 1, 3]),
        added_at_ms=added_at_ms,
    )


def _event(random: Random, units: int, now_ms: int, number: int) -> Event:
    unit, when = f"u{random.randrange(units)}", now_ms - random.choice([-400, 0, 3, 900, 40_000])
    if random.random() < 0.4:
        return Event(unit, f"e{number}", when, random.choice("xy"), random.choice("ccct"))
    experiment = random.choice([None, None, "x", "y"])
    value = random.choice([-1.0, 0.0, 1.0, 2.5, 0.005, 4e18])
    return Event(unit, f"e{number}", when, experiment, None, random.choice(EVENT_NAMES), value)


class _ControlWriter:
    """Writes the control log, and now and then what a writer adds that has lost."""

    def __init__(self, random: Random) -> None:
        self.records: list[ControlMessage] = []
        self._random = random
        self._fold = ControlFold()

    def write(self, changes: list[Change], settings: Settings, now_ms: int) -> None:
        last = self._fold.last
        number = last.record.number + 1 if last else 1
        record = ControlRecord(
            log_id=LOG_ID,
            number=number,
            before=last.times if last else Times(0, 0, 0),
            low_water_ms=self._random.choice([None, now_ms - 100]),
            commands_from=number - 1,
            commands_to=number,
            changes=changes,
            outcomes=[],
            snapshot_offset=-1 if number == 1 else 0,
            snapshot=ControlState({}, settings).after(changes) if number == 1 else None,
        )
        self._append(record, now_ms)
        if self._random.random() < 0.1:
            self._append(record, now_ms + 50)

    def _append(self, record: ControlRecord, now_ms: int) -> None:
        message = ControlMessage(len(self.records), now_ms, msgspec.json.encode(record))
        self.records.append(message)
        self._fold.take(*message)


def log_of(world: World, partition_count: int) -> Log:
    """Return litmus.events as the doors and the control process write it."""
    fold, log = ControlFold(), {number: [] for number in range(partition_count)}
    for message in world.control:
        if fold.take(*message) is None:
            continue
        tick = fold.tick()
        copies = 2 if tick.number % 9 == 0 else 1
        for messages in log.values():
            messages.extend([(KIND_TICK, msgspec.json.encode(tick))] * copies)
        for rows, number, sha256 in world.imports.get(tick.number, ()):
            for partition, messages in log.items():
                mine = [one for one in rows if partition_of(one, partition_count) == partition]
                messages.append(import_part(mine, import_id="i", number=number, sha256=sha256))
        for events in world.batches[tick.number - 1]:
            for number, messages in log.items():
                mine = [one for one in events if partition_of(one, partition_count) == number]
                if mine:
                    messages.append((KIND_BATCH, batch(mine).value))
    return log


def journal_of(world: World) -> list[journals.Entry]:
    """Return what producers sent and were told: over HTTP, with a retry, a loss and a refusal."""
    entries: list[journals.Entry] = []
    items: list[journals.Event | journals.Hostile] = [
        *map(_sent, world.events),
        *map(_sent, world.late),
        *(journals.Hostile(raw, "malformed") for raw in world.hostile),
    ]
    good, late = len(world.events), len(world.late)
    wanted = dict.fromkeys(range(good, good + late), journals.LATE)
    wanted |= dict.fromkeys(range(good + late, len(items)), "malformed")
    for number, start in enumerate(range(0, len(items), 10), 1):
        group = items[start : start + 10]
        theirs = {at - start: wanted[at] for at in range(start, start + len(group)) if at in wanted}
        entries.append(journals.Posting(number, 0, "http", "", group, theirs))
        if number % 3 == 0:
            entries.append(journals.Attempt(number, 0, 503))
        rejected = {at: code for at, code in theirs.items() if code != journals.LATE}
        late_count = len(theirs) - len(rejected)
        accepted = len(group) - late_count - len(rejected)
        status = 202 if accepted or late_count else 422
        entries.append(
            journals.Attempt(
                number, 0, status, accepted=accepted, late=late_count, rejected=rejected
            )
        )
    return entries


def import_entries(world: World) -> list[journals.Entry]:
    """Return what senders of imports were told: a 503, an answer, and again the same."""
    entries: list[journals.Entry] = []
    rows_of = {
        number: rows
        for sent in world.imports.values()
        for rows, number, sha256 in sent
        if sha256 in ("one", "two")
    }
    for place, (batch_number, rows) in enumerate(sorted(rows_of.items())):
        path, body = f"/v1/imports/i/{batch_number}", body_of(rows)
        for again, statuses in enumerate([[503, 202], [200]]):
            number = 2 * place + again
            entries.append(journals.Command(number, 0, "POST", path, body))
            entries += [journals.CommandAttempt(number, 0, status) for status in statuses]
    return entries


def body_of(rows: list[ImportRow]) -> bytes:
    """Return the body of an import batch."""
    return b"\n".join(
        msgspec.json.encode(
            {
                "type": "metric",
                "unit_id": one.unit,
                "metric": one.metric,
                "timestamp": one.day * DAY_MS + 3_600_000,
                "value": one.value,
            }
        )
        for one in rows
    )


def _sent(event: Event) -> journals.Event:
    return journals.Event(
        event.unit,
        event.event_id,
        event.timestamp,
        event.experiment,
        event.variant,
        event.metric,
        event.value if event.metric else None,
        event.unit_type,
    )


@dataclass
class Outcome:
    """A run that is to be audited."""

    evidence: MemoryEvidence
    run: Run

    def with_evidence(self, **fields: Any) -> "Outcome":
        """Return it with other evidence."""
        return Outcome(replace(self.evidence, **fields), self.run)

    def with_ledger(self, ledger: Json) -> "Outcome":
        """Return it with another final ledger."""
        return Outcome(self.evidence, self.run._replace(ledger=ledger))


def run_world(world: World, *, partition_count: int = 2, read: Log | None = None) -> Outcome:
    """Run the engine over a world; ``read`` is the log that it reads, if not the true one."""
    log = log_of(world, partition_count)
    partials, changelogs = _partials_of(read or log)
    looks, ledgers = _looks_of(partials, partition_count)
    received = len(world.events)
    doors = {
        "posted": received + len(world.late) + len(world.hostile),
        "received": received,
        "late": len(world.late),
        "rejected": len(world.hostile),
    }
    ledger = ledgers[-1] | {
        "balanced": True,
        "doors": doors,
        "clickhouse": {"rows": received, "missing": 0, "extra": 0},
        "imports": [IMPORTED],
    }
    late = [LogMessage(0, KIND_BATCH, _late_batch(world.late))]
    evidence = MemoryEvidence(
        log,
        world.control,
        late,
        [DeadLetter("malformed", raw) for raw in world.hostile],
        looks,
        ledgers[-20:],
        changelogs,
    )
    return Outcome(evidence, Run(journal_of(world) + import_entries(world), ledger))


def _late_batch(events: list[Event]) -> bytes:
    """Return the packed batch of late events, received long after their timestamps."""
    import pyarrow as pa

    from schemas.batch import read_batch, write_batch

    rows = read_batch(batch(events).value)
    received = pa.array([one.timestamp + 10 * LATENESS_MS for one in events], pa.int64())
    at = rows.schema.get_field_index("received_at")
    return write_batch(rows.set_column(at, rows.schema.field(at), received))


def _partials_of(
    log: Log,
) -> tuple[list[tuple[int, bytes]], dict[int, list[tuple[bytes, bytes | None]]]]:
    """Return what all partitions report, by tick, and their changelogs."""
    reports: list[tuple[int, bytes]] = []
    changelogs: dict[int, list[tuple[bytes, bytes | None]]] = {}
    for number, messages in log.items():
        partition = Partition(number, writer="w")
        changelogs[number] = []
        for offset, (kind, value) in enumerate(messages):
            ticked = partition.apply(offset, kind, value)
            if ticked is not None:
                reports += [(ticked.tick, one) for one in ticked.partials]
                changelogs[number] += [(one.key, one.value) for one in ticked.writes]
    return sorted(reports, key=lambda one: one[0]), changelogs


def _looks_of(
    partials: Iterable[tuple[int, bytes]], partition_count: int
) -> tuple[list[bytes], list[Json]]:
    merger = Merger(partition_count)
    looks, ledgers = [], []
    for offset, (_, value) in enumerate(partials):
        for merged in merger.take(offset, decode_partial(value)):
            looks += [msgspec.json.encode(record) for _, record in merged.looks]
            ledgers.append(merged.ledger)
    return looks, ledgers
