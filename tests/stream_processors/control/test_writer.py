"""What a writer puts into its records: settings, low water, remembered outcomes, snapshots."""

import random
from typing import Any

import msgspec
import pytest

from schemas.control import Command, ControlFold, ControlRecord, Mark, Settings
from stream_processors.control import writing
from stream_processors.control.writing import LogGapError, Writer
from tests.stream_processors.control.logs import LATENESS_MS, SOURCES, Logs, Process

BODY = {"variants": [{"id": "a"}, {"id": "b"}], "metrics": [{"id": "m", "kind": "count"}]}


class Alone:
    """One writer that nothing disturbs."""

    def __init__(self, logs: Logs | None = None, **changed: Any) -> None:
        self.logs = logs or Logs(partition_count=2)
        self.process = Process(self.logs, lambda **given: Writer(**(given | changed)), "alone")

    @property
    def last(self) -> ControlRecord:
        assert self.logs.fold.last is not None
        return self.logs.fold.last.record

    def tick(self, count: int = 1) -> None:
        rng = random.Random(1)
        for _ in range(count):
            self.process.read_command()
            self.process.append_next()
            self.logs.now_ms += 200
            for _ in range(2):
                while self.process.in_flight:
                    self.process.arrive(rng)
                self.process.read_control()
            while self.process.delivered:
                self.process.acknowledge(rng)

    def command(self, command_id: str, action: str, experiment_id: str, **body: Any) -> None:
        command = Command(command_id, action, experiment_id, body=body)
        self.logs.commands.append((self.logs.now_ms, msgspec.json.encode(command)))

    def mark(self, source: str, low_water_ms: int) -> None:
        self.process.writer.read_mark(msgspec.json.encode(Mark(source, low_water_ms)))


def test_the_first_record_begins_the_log_with_its_settings() -> None:
    alone = Alone()
    alone.tick()
    settings = Settings(LATENESS_MS, sources=list(SOURCES))
    assert alone.last.number == 1
    assert alone.last.log_id == "log-of-alone"
    assert alone.last.snapshot is not None
    assert alone.last.snapshot.settings == settings
    assert alone.logs.fold.state.settings == settings


def test_settled_waits_for_sources_without_a_mark_from_the_logs_begin() -> None:
    alone = Alone()
    alone.tick(5)
    assert alone.logs.fold.last is not None
    begin_ms = alone.logs.control[0][0]
    assert alone.logs.fold.last.times.settled_ms == begin_ms
    alone.mark(SOURCES[0], begin_ms + 300)
    alone.mark("of.no/1", 1)
    alone.process.writer.read_mark(b"no mark")
    alone.tick()
    assert alone.logs.fold.last.times.settled_ms == begin_ms + 300
    assert alone.process.writer.unreadable_mark_count == 1

    alone = Alone(alone.logs)  # a new process has read no mark yet: settled stays
    alone.tick()
    assert alone.process.writer.low_waters_ms() == {SOURCES[0]: begin_ms}
    assert alone.logs.fold.last.times.settled_ms == begin_ms + 300


def test_without_sources_settled_is_log_time() -> None:
    alone = Alone(sources=[])
    alone.tick(3)
    assert alone.last.low_water_ms is None
    assert alone.logs.fold.last is not None
    assert alone.logs.fold.last.times.settled_ms == alone.logs.fold.last.times.log_ms


def test_a_writer_that_starts_with_another_lateness_logs_it_once() -> None:
    logs = Alone().logs
    Alone(logs).tick(3)
    changed = Alone(logs, lateness_ms=5_000)
    changed.tick(3)
    assert logs.fold.state.settings.lateness_ms == 5_000
    assert [len(record.changes) for record in logs.records] == [1, 0, 0, 1, 0]

    changed.command("c", "settings", "", lateness_ms=7_000)
    changed.tick(3)
    assert logs.fold.state.settings.lateness_ms == 7_000


def test_a_lateness_set_by_command_outlives_the_writer() -> None:
    alone = Alone()
    alone.command("c", "settings", "", lateness_ms=7_000)
    alone.tick(3)
    alone = Alone(alone.logs)
    alone.tick(3)
    assert alone.logs.fold.state.settings.lateness_ms == 7_000

    reconfigured = Alone(alone.logs, lateness_ms=9_000)
    reconfigured.tick(3)
    assert alone.logs.fold.state.settings.lateness_ms == 9_000


def test_a_resend_is_remembered_for_as_many_records_as_a_snapshot_covers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "SNAPSHOT_EVERY", 10)
    for ticks_between, statuses in ((8, [201, 201]), (11, [201, 409])):
        for restarts in (False, True):
            alone = Alone()
            alone.tick(4)
            alone.command("c", "create", "x", **BODY, id="x")
            alone.tick(ticks_between)
            alone = Alone(alone.logs) if restarts else alone
            alone.command("c", "create", "x", **BODY, id="x")
            alone.tick(3)
            told = [outcome.status for record in alone.logs.records for outcome in record.outcomes]
            assert told == statuses, (ticks_between, restarts)


def test_a_reader_that_starts_at_a_snapshot_knows_what_one_from_the_begin_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "SNAPSHOT_EVERY", 10)
    alone = Alone()
    for number in range(23):
        alone.command(f"c{number}", "create", "", **BODY, id=f"x{number}")
    alone.tick(25)
    fold = ControlFold()
    for offset, (appended_ms, value) in list(enumerate(alone.logs.control))[
        alone.last.snapshot_offset :
    ]:
        fold.take(offset, appended_ms, value)
    assert alone.last.snapshot_offset == 19
    assert fold.state == alone.logs.fold.state
    assert fold.last == alone.logs.fold.last
    assert len(fold.state.definitions) == 23


def test_a_snapshot_that_the_broker_would_refuse_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "SNAPSHOT_EVERY", 10)
    monkeypatch.setattr(writing, "SNAPSHOT_BYTES_MAX", 20_000)
    alone = Alone()
    text = random.Random(1).randbytes(20_000).hex()
    alone.command("c", "create", "x", **BODY, id="x", hypothesis={"null": text})
    alone.tick(12)
    assert [record.number for record in alone.logs.records if record.snapshot] == [1]
    assert alone.last.snapshot_offset == 0


def test_commands_are_folded_as_they_stand_in_the_log_though_they_come_faster() -> None:
    alone = Alone()
    for number in range(250):
        alone.command(f"c{number}", "settings", "", stride=number + 1)
        alone.process.read_command()
    alone.tick(5)
    assert [record.commands_to for record in alone.logs.records] == [0, 100, 200, 250, 250]
    assert alone.logs.fold.state.settings.stride == 250


def test_a_gap_in_a_log_stops_the_writer() -> None:
    alone = Alone()
    alone.tick(3)
    writer = alone.process.writer
    with pytest.raises(LogGapError):
        writer.read_command(5, 0, b"")
    with pytest.raises(LogGapError):
        writer.read_control(9, 0, b"")
    assert writer.read_control(0, *alone.logs.control[0]) == []


def test_ticks_run_faster_while_log_time_is_behind() -> None:
    alone = Alone()
    alone.tick(2)
    assert alone.process.writer.lag_ms == 0
    alone.logs.now_ms += 3_600_000
    alone.tick()
    assert alone.process.writer.lag_ms > 3_500_000
    alone.tick(60)
    assert alone.process.writer.lag_ms == 0
