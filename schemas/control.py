"""The control log: ``litmus.control``, one partition, record n is tick n.

Every reader folds it by the same rule, so writers that froze or never learnt of each other cannot
fork it: the first valid ``last + 1`` wins, anything else is ignored.

Log time is the broker's time of appending a record, held so that it never goes back and never
leaps more than a minute: a reader computes it, no writer can claim it.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from schemas.definitions import Definition, FieldError

MINUTE_MS = 60_000
LOG_TIME_STEP_MS_MAX = MINUTE_MS
HORIZON_SLACK_MS = 10 * MINUTE_MS
TICKS_PER_SECOND = 5
TICK_INTERVAL_MS = 1_000 // TICKS_PER_SECOND
SNAPSHOT_EVERY = 1_000
"""Every so many records one carries the whole state, so that a start reads seconds of control."""

DUE_LOOKS_PER_SECOND_MAX = 200


class Times(msgspec.Struct, frozen=True):
    """The three times of a tick, in epoch milliseconds; none of them ever goes back.

    Attributes:
        log_ms: The log's own clock.
        settled_ms: No door still holds an event received before this.
        horizon_ms: Ids of events older than this are forgotten; such events are stale.
    """

    log_ms: int
    settled_ms: int
    horizon_ms: int


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Settings that are part of the log, because results depend on them.

    Attributes:
        lateness_ms: An event received more than this after its timestamp is late.
        stride: An experiment is due for a look every so many ticks; None: by their number.
        sources: ``topic/partition`` that the Kafka doors read; settled waits for all of them.
        lowered_from_ms: Largest lateness before it was lowered; ids are kept for it still, ...
        lowered_until_ms: ... while log time is before this: what was accepted is on its way.
        floor_ms: An event with an earlier timestamp is late, whatever the lateness: when it was
            raised, ids of such events had been forgotten.
    """

    lateness_ms: int = 3_600_000
    stride: int | None = None
    sources: list[str] = msgspec.field(default_factory=list)
    lowered_from_ms: int = 0
    lowered_until_ms: int = 0
    floor_ms: int = 0

    def with_lateness(self, lateness_ms: int, now_ms: int) -> "Settings":
        """Return the settings with another lateness from ``now_ms`` on."""
        before_ms = self.kept_lateness_ms(now_ms)
        changed = msgspec.structs.replace(self, lateness_ms=lateness_ms)
        if lateness_ms == before_ms:
            return changed
        if lateness_ms > before_ms:
            return msgspec.structs.replace(changed, floor_ms=max(self.floor_ms, now_ms - before_ms))
        return msgspec.structs.replace(
            changed, lowered_from_ms=before_ms, lowered_until_ms=now_ms + HORIZON_SLACK_MS
        )

    def is_late(self, timestamp_ms: int, received_at_ms: int) -> bool:
        """Return whether an event comes too late to count."""
        return received_at_ms - timestamp_ms > self.lateness_ms or timestamp_ms < self.floor_ms

    def kept_lateness_ms(self, log_ms: int) -> int:
        """Return the lateness that the horizon keeps to at a log time."""
        lowered_ms = self.lowered_from_ms if log_ms < self.lowered_until_ms else 0
        return max(self.lateness_ms, lowered_ms)


class DefinitionChange(msgspec.Struct, frozen=True, tag="definition", tag_field="type"):
    """From this tick on, this is the definition of the experiment."""

    definition: Definition


class SettingsChange(
    msgspec.Struct, frozen=True, omit_defaults=True, tag="settings", tag_field="type"
):
    """From this tick on, these are the settings.

    Attributes:
        settings: All of them.
        configured_lateness_ms: What LITMUS_LATENESS says, when that is why; None: a command is.
    """

    settings: Settings
    configured_lateness_ms: int | None = None


class CatalogueEntry(msgspec.Struct, frozen=True):
    """What is agreed for ever about the events of one metric name.

    Attributes:
        name: Of the metric events.
        precision: Values count in units of ``10 ** -precision``.
        keep_days: For so many UTC days before the horizon's the day totals of every unit are kept.
        live_from_day: First day, in days since 1970-01-01, whose totals the events themselves
            fill: the first whole one after the entry was made. Imports fill the days before it.
    """

    name: str
    precision: int
    keep_days: int
    live_from_day: int


class CatalogueChange(msgspec.Struct, frozen=True, tag="catalogue", tag_field="type"):
    """From this tick on, the catalogue has this entry."""

    entry: CatalogueEntry


RECENT_BATCHES = 64
"""Of an import, whose hashes are remembered: few, for they stand in every change of it."""


class ImportBatch(msgspec.Struct, frozen=True):
    """A batch of an import that may be written to the partitions, by whoever sends it again.

    Attributes:
        number: Counts from 1.
        sha256: Of its content, in hex; a batch of this number with other content is refused.
        row_count: Rows in all partitions together.
    """

    number: int
    sha256: str
    row_count: int


class Import(msgspec.Struct, frozen=True):
    """Day totals from elsewhere, for days before the events themselves fill them.

    Attributes:
        id: The import.
        ordinal: Numbers the imports in the order in which they were declared, from 0.
        metrics: Names that it fills.
        from_day: First UTC day, in days since 1970-01-01.
        to_day: Last one, included.
        done: Every batch up to this number is in every partition.
        reserved: The batch ``done + 1``, agreed on but perhaps not yet in every partition.
        row_count: Rows of the batches that are done.
        recent: First 16 hex digits of the content hashes of the last ``RECENT_BATCHES`` that are
            done, oldest first: a resend of one of them is told from another content.
    """

    id: str
    ordinal: int
    metrics: list[str]
    from_day: int
    to_day: int
    done: int = 0
    reserved: ImportBatch | None = None
    row_count: int = 0
    recent: list[str] = msgspec.field(default_factory=list)


class ImportChange(msgspec.Struct, frozen=True, tag="import", tag_field="type"):
    """From this tick on, the import stands as this says."""

    declared: Import


Change = DefinitionChange | SettingsChange | CatalogueChange | ImportChange


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a command.

    Attributes:
        command_id: The command.
        tick: Number of the record that took it in.
        status: HTTP status of the answer: 200 or 201, 404, 409, 412, 422.
        code: Stable code of a refusal, empty otherwise.
        detail: The refusal for a person.
        errors: What is wrong with each field, for 422.
        definition: The definition after the command, when it was done.
        entry: The catalogue entry, of a command about one.
        declared: The import after the command, of a command about one.
        settings: The settings after the command, of a command about them.
    """

    command_id: str
    tick: int
    status: int
    code: str = ""
    detail: str = ""
    errors: list[FieldError] = msgspec.field(default_factory=list)
    definition: Definition | None = None
    entry: CatalogueEntry | None = None
    declared: Import | None = None
    settings: Settings | None = None


class ControlState(msgspec.Struct, frozen=True):
    """What the control log amounts to, up to one record.

    Attributes:
        definitions: By experiment id.
        settings: The logged settings.
        catalogue: By metric name.
        imports: By import id.
        configured_lateness_ms: What LITMUS_LATENESS said when it last took effect: as long as it
            says so, a lateness that was set by command stays.
    """

    definitions: dict[str, Definition] = msgspec.field(default_factory=dict)
    settings: Settings = Settings()
    catalogue: dict[str, CatalogueEntry] = msgspec.field(default_factory=dict)
    imports: dict[str, Import] = msgspec.field(default_factory=dict)
    configured_lateness_ms: int | None = None

    def after(self, changes: Iterable[Change]) -> "ControlState":
        """Return the state with ``changes`` made."""
        definitions, settings = dict(self.definitions), self.settings
        catalogue, imports = dict(self.catalogue), dict(self.imports)
        configured_lateness_ms = self.configured_lateness_ms
        for change in changes:
            match change:
                case DefinitionChange(definition):
                    definitions[definition.id] = definition
                case SettingsChange(settings, configured):
                    if configured is not None:
                        configured_lateness_ms = configured
                case CatalogueChange(entry):
                    catalogue[entry.name] = entry
                case ImportChange(declared):
                    imports[declared.id] = declared
        return ControlState(definitions, settings, catalogue, imports, configured_lateness_ms)


class ControlRecord(msgspec.Struct, frozen=True):
    """One record of the control log, which is one tick.

    Attributes:
        log_id: Which log this is; a recreated one has another id.
        number: Number of the tick, from 1.
        before: Times of tick ``number - 1``; for the first record all zero.
        low_water_ms: What the Kafka doors have taken in, as the writer saw it; None: no sources.
        commands_from: Offset of the first command folded in; must be the predecessor's end.
        commands_to: First offset of ``litmus.commands`` that is not folded in.
        changes: What takes effect with this tick.
        outcomes: What became of the commands folded in.
        snapshot_offset: Offset of the last record before this one that holds a snapshot; -1: none.
        snapshot: State after this record, on every 1,000th and on the first.
        writer: Who wrote it; for people.
    """

    log_id: str
    number: int
    before: Times
    low_water_ms: int | None
    commands_from: int
    commands_to: int
    changes: list[Change]
    outcomes: list[Outcome]
    snapshot_offset: int
    snapshot: ControlState | None = None
    writer: str = ""


class Tick(msgspec.Struct, frozen=True):
    """A tick as it stands in every partition of ``litmus.events``."""

    log_id: str
    number: int
    times: Times
    settings: Settings
    changes: list[Change]


class Winner(NamedTuple):
    """A valid record and where it stands."""

    record: ControlRecord
    offset: int
    times: Times


def times_of(record: ControlRecord, appended_ms: int, settings: Settings) -> Times:
    """Return the times of a record's tick, given when the broker appended it.

    Log time is clamp(append time, last, last + 60 s); the first record starts the clock.
    """
    before = record.before
    if record.number == 1:
        log_ms = appended_ms
    else:
        log_ms = min(max(appended_ms, before.log_ms), before.log_ms + LOG_TIME_STEP_MS_MAX)
    low_water_ms = log_ms if record.low_water_ms is None else record.low_water_ms
    settled_ms = max(before.settled_ms, min(log_ms, low_water_ms))
    kept_ms = settings.kept_lateness_ms(log_ms) + HORIZON_SLACK_MS
    horizon_ms = max(before.horizon_ms, settled_ms - kept_ms)
    return Times(log_ms, settled_ms, horizon_ms)


class ControlFold:
    """Reads the control log in order. Pure: records in, state out.

    May start at the log's beginning or at any record that holds a snapshot.

    Attributes:
        last: The last valid record, None before the first.
        state: What the log amounts to up to and including it.
        next_offset: First offset that was not read.
        ignored_count: Records that were not valid: late ones of writers that had lost.
    """

    def __init__(self) -> None:
        self.last: Winner | None = None
        self.state = ControlState()
        self.next_offset = 0
        self.ignored_count = 0
        self._snapshot_offset = -1

    def take(self, offset: int, appended_ms: int, value: bytes) -> Winner | None:
        """Read one record; return it if it is valid, None if it is to be ignored."""
        self.next_offset = offset + 1
        record = decode_record(value)
        if not self._is_valid(record):
            self.ignored_count += 1
            return None
        if record.snapshot is not None:
            self._snapshot_offset = offset
        resumed = self.last is None and record.number > 1
        self.state = record.snapshot if resumed else self.state.after(record.changes)  # type: ignore[assignment]
        times = times_of(record, appended_ms, self.state.settings)
        self.last = Winner(record, offset, times)
        return self.last

    def tick(self) -> Tick:
        """Return the tick of the last valid record, as every partition gets it.

        Without the sources: what follows from them is in the times, and ticks are many.
        """
        assert self.last is not None
        record = self.last.record
        settings = msgspec.structs.replace(self.state.settings, sources=[])
        return Tick(record.log_id, record.number, self.last.times, settings, record.changes)

    @property
    def snapshot_offset(self) -> int:
        """Return the offset of the last snapshot read; -1 before the first."""
        return self._snapshot_offset

    def _is_valid(self, record: ControlRecord) -> bool:
        if self.last is None:
            return record.snapshot is not None
        last = self.last.record
        return (
            record.log_id == last.log_id
            and record.number == last.number + 1
            and record.commands_from == last.commands_to
            and record.commands_to >= record.commands_from
            and record.before == self.last.times
        )


def stride_of(settings: Settings, running_count: int) -> int:
    """Return how many ticks lie between two looks of one experiment.

    By default the smallest number that keeps due looks under 200 a second.
    """
    if settings.stride is not None:
        return settings.stride
    return max(1, -(-running_count * TICKS_PER_SECOND // DUE_LOOKS_PER_SECOND_MAX))


class Command(msgspec.Struct, frozen=True):
    """What an operator wants, as it stands in ``litmus.commands``.

    Attributes:
        id: Made by the sender; a resend has the same one and is answered, not done again.
        action: ``create``, ``patch``, ``start``, ``pause``, ``resume``, ``stop``, ``archive``,
            ``settings``, ``catalogue``, ``import``, ``import_batch``, ``import_done``.
        experiment_id: The experiment that it is about; of ``catalogue`` the metric name, of the
            imports' actions the import; empty for ``settings``.
        expected_version: Refused with 412 unless this is the version; None: any.
        body: Of ``create`` a definition, of ``patch`` the fields to change, of ``start``
            optionally ``{"at_ms": …}``, of ``settings`` the settings to change, beside which
            ``retire_sources`` and ``add_sources`` name some, of ``catalogue``
            ``{"precision", "keep_days"}``, of ``import`` ``{"metrics", "from_day", "to_day"}``, of
            ``import_batch`` ``{"number", "sha256", "row_count"}``: may it be written; of
            ``import_done`` ``{"number"}``: every partition has acknowledged it.
    """

    id: str
    action: str
    experiment_id: str = ""
    expected_version: int | None = None
    body: dict[str, Any] = msgspec.field(default_factory=dict)


class Mark(msgspec.Struct, frozen=True):
    """How far a Kafka door has taken one source partition in: events before this time are in."""

    source: str
    low_water_ms: int


_record_decoder = msgspec.json.Decoder(ControlRecord)
_tick_decoder = msgspec.json.Decoder(Tick)
_command_decoder = msgspec.json.Decoder(Command)


def decode_record(value: bytes) -> ControlRecord:
    """Return a control record."""
    return _record_decoder.decode(value)


def decode_tick(value: bytes) -> Tick:
    """Return a tick."""
    return _tick_decoder.decode(value)


def decode_command(value: bytes) -> Command:
    """Return a command.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError: If it is none.
    """
    return _command_decoder.decode(value)
