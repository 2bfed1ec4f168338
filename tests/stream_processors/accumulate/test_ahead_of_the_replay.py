"""Segments that stand ahead of a replay keep what they hold, and late writers harm nothing."""

from collections.abc import Callable

import pytest

from schemas.control import (
    CatalogueChange,
    CatalogueEntry,
    DefinitionChange,
    Import,
    ImportBatch,
    ImportChange,
)
from schemas.definitions import Interval
from schemas.topics import KIND_TICK
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.records import CHUNK, MANIFEST, SEGMENT, decode_key
from stream_processors.accumulate.recovery import recover
from stream_processors.accumulate.state import DAYS, SEGMENTS
from stream_processors.accumulate.writing import CELLS_PER_SHORT_CYCLE, CYCLE_TICKS
from tests.stream_processors.accumulate.builders import (
    LOG_ID,
    T0,
    ImportRow,
    Message,
    assignment,
    batch,
    definition,
    import_part,
    measured,
    tick,
)
from tests.stream_processors.accumulate.test_recovery import control_at, final_bytes

DAY = T0 // 86_400_000
SHA256 = "ab" * 32
Changelog = dict[bytes, bytes]
Damage = Callable[[Changelog], Changelog]


def imported_log() -> list[Message]:
    """Return a log whose catalogue entry and import come after the end of a chunk."""
    entry = CatalogueEntry("spend", 0, 28, DAY + 1)
    declared = Import("i", 0, ["spend"], DAY - 20, DAY)
    reserved = Import("i", 0, ["spend"], DAY - 20, DAY, 0, ImportBatch(1, SHA256, 200))
    done = Import("i", 0, ["spend"], DAY - 20, DAY, 1, None, row_count=200)
    changes = {
        51: CatalogueChange(entry),
        53: ImportChange(declared),
        55: ImportChange(reserved),
        57: ImportChange(done),
    }
    rows = [ImportRow(f"u{number}", "spend", DAY - 3, 5.0) for number in range(200)]
    log = []
    for number in range(1, 140):
        made = [changes[number]] if number in changes else []
        horizon = T0 + 200 * number - 4_200_000
        log.append(tick(number, T0 + 200 * number, *made, horizon=horizon))
        if number == 55:
            log.append(import_part(rows, import_id="i", number=1, sha256=SHA256))
    return log


def run(partition: Partition, log: list[Message], until: int, changelog: Changelog) -> None:
    while partition.cursor < until:
        ticked = partition.apply(partition.cursor, *log[partition.cursor])
        for key, value in ticked.writes if ticked else []:
            if value is None:
                changelog.pop(key, None)
            else:
                changelog[key] = value


def recovered(log: list[Message], changelog: Changelog) -> Partition:
    return recover(
        0, changelog.items(), state_at=control_at(log), log_id=LOG_ID, writer="b"
    ).partition


def without_chunks(changelog: Changelog) -> Changelog:
    return {key: value for key, value in changelog.items() if decode_key(key).kind != CHUNK}


def with_one_damaged(changelog: Changelog) -> Changelog:
    key = next(key for key in changelog if decode_key(key).kind == SEGMENT)
    return changelog | {key: changelog[key][:-1] + b"x"}


@pytest.mark.parametrize("crash", range(56, 66))
def test_imported_days_outlive_a_replay_that_has_not_come_to_their_catalogue_entry(
    crash: int,
) -> None:
    log, changelog = imported_log(), dict[bytes, bytes]()
    undisturbed = Partition(0, writer="a", log_id=LOG_ID)
    run(undisturbed, log, crash, changelog)

    again = recovered(log, changelog)
    for partition in (undisturbed, again):
        run(partition, log, len(log), {})

    assert int(again.state.counts[DAYS]) == 200
    assert final_bytes(again) == final_bytes(undisturbed)


@pytest.mark.parametrize("damage", [without_chunks, with_one_damaged])
def test_imported_days_outlive_a_replay_from_the_beginning(damage: Damage) -> None:
    log, changelog = imported_log(), dict[bytes, bytes]()
    undisturbed = Partition(0, writer="a", log_id=LOG_ID)
    run(undisturbed, log, 120, changelog)

    again = recovered(log, damage(changelog))
    assert again.cursor == 0
    for partition in (undisturbed, again):
        run(partition, log, len(log), {})

    assert final_bytes(again) == final_bytes(undisturbed)


@pytest.mark.parametrize("cycles", range(1, 9))
def test_a_manifest_that_a_frozen_owner_writes_late_costs_no_replay(cycles: int) -> None:
    """Chunks that it needs are deleted by then: it would mean reading from the beginning."""
    change = DefinitionChange(definition())
    log = [tick(1, T0, change, horizon=T0 - 20_000)]
    for number in range(2, 700):
        now = T0 + 200 * number
        log.append(tick(number, now, horizon=now - 20_000))
        if number % 3 == 0:
            log.append(batch([assignment(f"u{number % 40}", f"e{number}", now - 300)]))
    changelog, manifests = dict[bytes, bytes](), list[tuple[bytes, bytes]]()
    partition = Partition(0, writer="a", log_id=LOG_ID)
    for until in range(1, len(log) - 5):
        run(partition, log, until, changelog)
        newest = [
            (key, value) for key, value in changelog.items() if decode_key(key).kind == MANIFEST
        ]
        manifests += [one for one in newest if one not in manifests]
    resumed = recovered(log, changelog).cursor
    assert resumed > 0

    key, value = manifests[-1 - cycles]

    assert recovered(log, changelog | {key: value}).cursor == resumed


def test_a_segment_without_cells_is_written_anew_when_its_experiment_is_final() -> None:
    running, other = definition(), definition("y", 1)
    stopped = definition(
        status="stopped", stopped_at_ms=T0 + 2_000, intervals=[Interval(T0, T0 + 2_000)], version=1
    )
    log = []
    for number in range(1, 140):
        made = {1: [running, other], 12: [stopped]}.get(number, [])
        now = T0 + 200 * number
        log.append(tick(number, now, *map(DefinitionChange, made), horizon=now - 4_000))
        if number == 5:
            log.append(batch([measured("u", f"e{i}", T0 + 900) for i in range(3)]))
        if number == 100:
            log.append(batch([measured("u", "late", now)]))
    changelog: Changelog = {}
    partition = Partition(0, writer="a", log_id=LOG_ID)
    run(partition, log, 85, changelog)
    again = recovered(log, changelog)

    for one in (partition, again):
        run(one, log, 130, {})

    assert again.state.no_assignment.sum(axis=0).tolist() == [0, 4]
    assert final_bytes(again) == final_bytes(partition)
    assert len(final_bytes(again)) == SEGMENTS


def test_whoever_catches_up_writes_segments_no_more_often_than_they_were_made() -> None:
    """At ten times the speed of the log, ten cycles are read in the time of one."""
    now_s = [0.0]
    log = [tick(1, T0, DefinitionChange(definition()))]
    for number in range(2, 602):
        log.append(tick(number, T0 + 200 * number))
        log.append(batch([assignment(f"u{number % 90}", f"e{number}", T0 + 200 * number)]))
    written = {}
    for pace in (1, 10):
        partition = Partition(0, writer="a", log_id=LOG_ID)
        partition.checkpoints.keep_pace(lambda: now_s[0], cells=0)
        changelog: Changelog = {}
        written[pace] = 0
        for offset, message in enumerate(log):
            ticked = partition.apply(offset, *message)
            if ticked is None:
                continue
            now_s[0] += 0.2 / pace
            written[pace] += sum(
                value is not None and decode_key(key).kind == SEGMENT
                for key, value in ticked.writes
            )
            for key, value in ticked.writes:
                if value is None:
                    changelog.pop(key, None)
                else:
                    changelog[key] = value
        assert final_bytes(recovered(log, changelog)) != []

    assert written[10] < written[1] / 5


@pytest.mark.parametrize("is_told", [True, False])
def test_an_owner_that_gets_a_quiet_partition_back_writes_over_what_came_in_between(
    *, is_told: bool
) -> None:
    """Else its manifests name records that are not the newest, and a start reads all of the log."""
    log = quiet_log()
    thaws_at, given_back_at = after_tick(log, 62), after_tick(log, 92)
    first = Partition(0, writer="a")
    changelog: Changelog = {}
    run(first, log, after_tick(log, 44), changelog)
    under_way: Changelog = {}
    run(first, log, thaws_at, under_way)
    second = recovered(log, changelog)
    now_s = [0.0]
    second.checkpoints.keep_pace(lambda: now_s[0], cells=0)
    run(second, log, thaws_at, changelog)
    now_s[0] = 100.0
    run(second, log, given_back_at, changelog)
    changelog |= under_way

    run(first, log, given_back_at, changelog)
    if is_told:
        first.write_anew()
    run(first, log, len(log), changelog)

    cursor = recovered(log, changelog).cursor
    assert (cursor > given_back_at) == is_told, cursor


def quiet_log() -> list[Message]:
    """Return a log with a tick a second and 20 s of horizon; after 40 s nothing comes any more."""
    log = [tick(1, T0, DefinitionChange(definition()))]
    for second in range(1, 300):
        now = T0 + 1_000 * second
        if second < 40:
            log.append(batch([assignment(f"u{second}", "a", now)]))
        log.append(tick(second + 1, now, horizon=now - 20_000))
    return log


def after_tick(log: list[Message], number: int) -> int:
    """Return the offset behind a tick."""
    ticks = [offset for offset, one in enumerate(log) if one.kind == KIND_TICK]
    return ticks[number - 1] + 1


def test_whoever_comes_back_writes_no_segment_before_a_cycle_has_passed() -> None:
    now_s = 50.0
    partition = Partition(0, writer="a", log_id=LOG_ID)
    partition.checkpoints.keep_pace(lambda: now_s, cells=CELLS_PER_SHORT_CYCLE * 2)
    began_at_s = None
    offset = 0
    for number in range(1, 61):
        now_s += 0.2
        partition.apply(offset, *batch([assignment(f"u{number}", f"e{number}", T0 + 200 * number)]))
        changes = [DefinitionChange(definition())] if number == 1 else []
        ticked = partition.apply(offset + 1, *tick(number, T0 + 200 * number, *changes))
        offset += 2
        assert ticked is not None
        if began_at_s is None and any(decode_key(one.key).kind == SEGMENT for one in ticked.writes):
            began_at_s = now_s

    assert began_at_s == pytest.approx(50.0 + 2 * CYCLE_TICKS * 0.2)
