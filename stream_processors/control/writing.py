"""One writer of the control log, as a state machine. Pure: records in, records to send out.

Writers may freeze, die, or not know of each other; the log stays one chain because

- the first valid ``last + 1`` in litmus.control wins and everybody reads it by that rule,
- record n + 1 is appended only by a writer that has read back the winning record n, whoever wrote
  it, and holds the acknowledgements of its own copies of n in all partitions of litmus.events,
- a writer that starts reads the log to its end and copies the last winner again.

So tick n stands in every partition before record n + 1 stands in the log, and a door that has read
record n + 1 may send rows that need tick n. For the same reason the outcomes of record n are
published when record n + 1 is read, and n + 2 waits for their acknowledgement.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from aiokafka.codec import zstd_encode

from schemas.control import (
    SNAPSHOT_EVERY,
    Change,
    ControlFold,
    ControlRecord,
    ControlState,
    Mark,
    Outcome,
    Settings,
    SettingsChange,
    Times,
    Winner,
    decode_record,
)
from schemas.topics import CONTROL, EVENTS, KIND_HEADER, KIND_TICK, OUTCOMES
from stream_processors.control.commands import Received, fold

SNAPSHOT_JSON_BYTES_MAX = 16_000_000
"""Of a record with a snapshot: every reader decodes it, in 0.4 s of CPU at that size."""

SNAPSHOT_BYTES_MAX = 4_000_000
"""Of the same, compressed as it is sent: litmus.control takes 4,194,304."""

REQUEST_BYTES_MAX = SNAPSHOT_JSON_BYTES_MAX + 1_000_000
"""What the producer must take of one record, before it compresses it."""


class LogGapError(Exception):
    """A record of a log is missing: reading on would fold something else than the log."""


class Send(NamedTuple):
    """A record to send for a tick; the writer is told when the broker has it."""

    tick: int
    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Writer:
    """What one writer has read, has sent and may do next.

    Attributes:
        control: The control log as this writer has read it.
        next_command_offset: First command that it has not read.
        unreadable_mark_count: Marks that were none.
        lag_ms: How far log time is behind the broker's: ticks run faster while it is.
    """

    def __init__(
        self,
        *,
        name: str,
        log_id: str,
        partition_count: int,
        lateness_ms: int,
        sources: Sequence[str],
        origin_ms: int | None = None,
    ) -> None:
        """Start before the log.

        Args:
            name: Who writes; for people.
            log_id: Id of the log, should this writer have to begin it.
            partition_count: Partitions of litmus.events.
            lateness_ms: What LITMUS_LATENESS says; it takes effect when it has changed.
            sources: What the Kafka doors read, should this writer have to begin the log.
            origin_ms: When the log's first record was appended; None if it is read from there.
        """
        self.control = ControlFold()
        self.next_command_offset = 0
        self.next_mark_offset = 0
        self.unreadable_mark_count = 0
        self.lag_ms = 0
        self._name = name
        self._log_id = log_id
        self._partition_count = partition_count
        self._settings = Settings(lateness_ms=lateness_ms, sources=list(sources))
        self._wanted_lateness_ms: int | None = None
        self._origin_ms = origin_ms
        self._marks: dict[str, int] = {}
        self._commands: deque[Received] = deque()
        self._answered: dict[str, Outcome] = {}
        self._outcomes_before: list[Outcome] = []
        self._begun = False
        self._appended_number = 0
        self._unacknowledged: set[Send] = set()

    def read_control(self, offset: int, appended_ms: int, value: bytes) -> list[Send]:
        """Take in the next record of litmus.control; return what its tick asks for.

        Raises:
            LogGapError: If records before it were not read.
        """
        expected = self.control.next_offset
        if offset > expected and self.control.last is not None:
            raise LogGapError(f"offset == {offset} of litmus.control, must be {expected}")
        if offset < expected:
            return []
        before = self.control.last
        winner = self.control.take(offset, appended_ms, value)
        if winner is None:
            return []
        self._outcomes_before = before.record.outcomes if before else []
        self._follow(winner, appended_ms)
        return self._duties() if self._begun else []

    def begin(self) -> list[Send]:
        """Start to write, when the log was read to its end: copy the last winner again."""
        self._begun = True
        last = self.control.last
        if last is None:
            return []
        self.next_command_offset = last.record.commands_to
        if self._configured_lateness_ms() != self._settings.lateness_ms:
            self._wanted_lateness_ms = self._settings.lateness_ms
        return self._duties()

    def read_command(self, offset: int, appended_ms: int, value: bytes) -> None:
        """Take in the next record of litmus.commands.

        Raises:
            LogGapError: If records before it were not read.
        """
        if offset > self.next_command_offset:
            expected = self.next_command_offset
            raise LogGapError(f"offset == {offset} of litmus.commands, must be {expected}")
        if offset < self.next_command_offset:
            return
        self.next_command_offset = offset + 1
        last = self.control.last
        if last is None or offset >= last.record.commands_to:
            self._commands.append(Received(offset, appended_ms, value))

    def read_mark(self, value: bytes) -> None:
        """Take in a low-water mark; the highest of a source counts: a zombie's is lower."""
        try:
            mark = msgspec.json.decode(value, type=Mark)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.unreadable_mark_count += 1
            return
        known_ms = self._marks.get(mark.source, mark.low_water_ms)
        self._marks[mark.source] = max(known_ms, mark.low_water_ms)

    def acknowledge(self, send: Send) -> None:
        """Take note that the broker has ``send``."""
        self._unacknowledged.discard(send)

    def append_next(self) -> Send | None:
        """Return the next record, for it is time; None while this writer may not append."""
        if not self._may_append():
            return None
        record = self._next_record()
        self._appended_number = record.number
        return Send(
            record.number, CONTROL.name, 0, b"%d" % record.number, msgspec.json.encode(record)
        )

    def low_waters_ms(self) -> dict[str, int]:
        """Return up to when each source is taken in; one without a mark since the log's begin."""
        origin_ms = self._origin_ms or 0
        sources = self.control.state.settings.sources
        return {source: self._marks.get(source, origin_ms) for source in sources}

    def _may_append(self) -> bool:
        last_number = self.control.last.record.number if self.control.last else 0
        read_back = self._appended_number <= last_number
        return self._begun and read_back and not self._unacknowledged

    def _follow(self, winner: Winner, appended_ms: int) -> None:
        record = winner.record
        self.lag_ms = appended_ms - winner.times.log_ms
        if record.number == 1:
            self._origin_ms = appended_ms
        if self._configured_lateness_ms() == self._wanted_lateness_ms:
            self._wanted_lateness_ms = None
        while self._commands and self._commands[0].offset < record.commands_to:
            self._commands.popleft()
        self._remember(record)

    def _remember(self, record: ControlRecord) -> None:
        for outcome in record.outcomes:
            self._answered.pop(outcome.command_id, None)
            self._answered[outcome.command_id] = outcome
        for command_id in list(self._forgotten(record.number)):
            del self._answered[command_id]

    def _forgotten(self, number: int) -> Iterator[str]:
        """Yield what every writer has forgotten by now, wherever it started to read the log."""
        for command_id, outcome in self._answered.items():
            if outcome.tick > number - SNAPSHOT_EVERY:
                return
            yield command_id

    def _duties(self) -> list[Send]:
        tick = self.control.tick()
        value = msgspec.json.encode(tick)
        headers = ((KIND_HEADER, KIND_TICK),)
        copies = [
            Send(tick.number, EVENTS.name, partition, None, value, headers)
            for partition in range(self._partition_count)
        ]
        outcomes = [
            Send(
                tick.number,
                OUTCOMES.name,
                0,
                outcome.command_id.encode(),
                msgspec.json.encode(outcome),
            )
            for outcome in self._outcomes_before
        ]
        self._unacknowledged = {*copies, *outcomes}
        return copies + outcomes

    def _next_record(self) -> ControlRecord:
        last = self.control.last
        if last is None:
            return self._first_record()
        number, before = last.record.number + 1, last.record
        changes = self._setting_changes()
        folded = fold(
            self.control.state.after(changes),
            self._commands,
            tick=number,
            from_offset=before.commands_to,
            answered=self._answered,
        )
        changes += folded.changes
        state = self.control.state.after(changes)
        record = ControlRecord(
            log_id=before.log_id,
            number=number,
            before=last.times,
            low_water_ms=self._low_water_ms(state.settings),
            commands_from=before.commands_to,
            commands_to=folded.next_offset,
            changes=changes,
            outcomes=folded.outcomes,
            snapshot_offset=self.control.snapshot_offset,
            writer=self._name,
        )
        return record if number % SNAPSHOT_EVERY else _with_snapshot(record, state)

    def _first_record(self) -> ControlRecord:
        return ControlRecord(
            log_id=self._log_id,
            number=1,
            before=Times(0, 0, 0),
            low_water_ms=None,  # all sources count from this record's own append time
            commands_from=0,
            commands_to=0,
            changes=[SettingsChange(self._settings, self._settings.lateness_ms)],
            outcomes=[],
            snapshot_offset=-1,
            snapshot=ControlState(
                settings=self._settings, configured_lateness_ms=self._settings.lateness_ms
            ),
            writer=self._name,
        )

    def _setting_changes(self) -> list[Change]:
        if self._wanted_lateness_ms is None:
            return []
        wanted_ms, settings = self._wanted_lateness_ms, self.control.state.settings
        now_ms = self.control.last.times.log_ms if self.control.last else 0
        changed = settings.with_lateness(wanted_ms, now_ms)
        return [SettingsChange(changed, wanted_ms)]

    def _configured_lateness_ms(self) -> int:
        """Return what the environment of writers said when it last took effect.

        A lateness that a command has set since then stays, whoever starts, dies or takes over.
        """
        state = self.control.state
        if state.configured_lateness_ms is None:
            return state.settings.lateness_ms
        return state.configured_lateness_ms

    def _low_water_ms(self, settings: Settings) -> int | None:
        origin_ms = self._origin_ms or 0
        return min((self._marks.get(one, origin_ms) for one in settings.sources), default=None)


def _with_snapshot(record: ControlRecord, state: ControlState) -> ControlRecord:
    """Return ``record`` with its snapshot, unless that makes it too large to be sent or read.

    Without one a start reads more of the log; a record that is not taken would be the last tick.
    """
    whole = msgspec.structs.replace(record, snapshot=state)
    value = msgspec.json.encode(whole)
    if len(value) > SNAPSHOT_JSON_BYTES_MAX:
        return record
    if len(value) > SNAPSHOT_BYTES_MAX and len(zstd_encode(value)) > SNAPSHOT_BYTES_MAX:
        return record
    return whole


def without_snapshot(send: Send) -> Send | None:
    """Return a control record to send in place of one that the broker refused as too large.

    Returns:
        The same without its snapshot, which no record but itself depends on; None: it has none.
    """
    record = decode_record(send.value)
    if record.snapshot is None:
        return None
    lean = msgspec.structs.replace(record, snapshot=None)
    return send._replace(value=msgspec.json.encode(lean))
