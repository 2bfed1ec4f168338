"""Everybody who folds the control log gets the same ticks, wherever they start to read.

The first valid ``last + 1`` wins, anything else is ignored; log time never goes back and never
leaps more than a minute; settled and horizon follow it and never go back either.
"""

from collections.abc import Sequence
from itertools import pairwise
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.control import (
    DUE_LOOKS_PER_SECOND_MAX,
    HORIZON_SLACK_MS,
    LOG_TIME_STEP_MS_MAX,
    TICKS_PER_SECOND,
    Change,
    ControlFold,
    ControlRecord,
    ControlState,
    DefinitionChange,
    Settings,
    SettingsChange,
    Tick,
    Times,
    Winner,
    decode_tick,
    stride_of,
    times_of,
)
from tests.stream_processors.accumulate.builders import definition

T0 = 1_795_000_000_000
NEVER = Times(0, 0, 0)
LATENESS_MS = 3_600_000
Appended = tuple[int, bytes]


def record(number: int, before: Times = NEVER, **fields: object) -> ControlRecord:
    defaults: dict[str, object] = {
        "low_water_ms": None,
        "commands_from": 0,
        "commands_to": 0,
        "changes": [],
        "outcomes": [],
        "snapshot_offset": -1,
    }
    return ControlRecord(log_id="log", number=number, before=before, **(defaults | fields))  # type: ignore[arg-type]


def take(fold: ControlFold, one: ControlRecord, appended_ms: int = T0) -> Winner | None:
    return fold.take(fold.next_offset, appended_ms, msgspec.json.encode(one))


def begun() -> ControlFold:
    """Return a fold that has read the first record, with commands up to offset 3."""
    fold = ControlFold()
    assert take(fold, record(1, commands_to=3, snapshot=ControlState())) is not None
    return fold


def second(fold: ControlFold, **fields: object) -> ControlRecord:
    """Return the valid record that follows, but for ``fields``."""
    assert fold.last is not None
    return msgspec.structs.replace(
        record(2, fold.last.times, commands_from=3, commands_to=5), **fields
    )


# --- who wins ---


def test_the_record_that_continues_the_log_wins() -> None:
    fold = begun()

    winner = take(fold, second(fold), T0 + 200)

    assert winner is not None
    assert (winner.record.number, winner.offset, winner.times.log_ms) == (2, 1, T0 + 200)
    assert fold.last == winner


@pytest.mark.parametrize(
    "fields",
    [
        {"log_id": "another"},
        {"number": 1},
        {"number": 3},
        {"commands_from": 2},
        {"commands_from": 4},
        {"commands_to": 2},
        {"before": NEVER},
        {"before": Times(T0, T0, 1)},
        {"before": Times(T0 + 1, T0, T0 - LATENESS_MS - HORIZON_SLACK_MS)},
    ],
    ids=str,
)
def test_a_record_that_does_not_continue_the_log_is_ignored(fields: dict[str, object]) -> None:
    fold = begun()
    last, state = fold.last, fold.state
    change = DefinitionChange(definition("late"))

    assert take(fold, second(fold, changes=[change], **fields)) is None

    assert (fold.last, fold.state) == (last, state)
    assert (fold.next_offset, fold.ignored_count) == (2, 1)
    assert take(fold, second(fold)) is not None


def test_of_two_records_with_one_number_the_first_wins() -> None:
    fold = begun()
    first = second(fold, writer="first", changes=[DefinitionChange(definition("a"))])
    late = second(fold, writer="late", changes=[DefinitionChange(definition("b"))])

    assert take(fold, first) is not None
    assert take(fold, late) is None
    assert list(fold.state.definitions) == ["a"]


def test_a_record_may_fold_no_command_at_all() -> None:
    fold = begun()

    assert take(fold, second(fold, commands_to=3)) is not None


def test_reading_starts_at_a_snapshot_and_nowhere_else() -> None:
    fold = ControlFold()

    assert take(fold, record(7)) is None
    assert take(fold, record(8, snapshot=ControlState())) is not None
    assert fold.ignored_count == 1


def test_a_snapshot_holds_what_its_own_record_changes() -> None:
    """Read from the beginning, the changes count; read from there, the snapshot does."""
    state = ControlState({"x": definition("x")})
    fold = ControlFold()

    take(fold, record(9, Times(T0, T0, 0), snapshot=state))

    assert fold.state == state
    assert fold.snapshot_offset == 0


# --- what the log amounts to ---


def test_changes_are_made_in_their_order() -> None:
    one, other = definition("x", version=1), definition("x", version=2)
    settings = Settings(stride=5)

    state = ControlState().after(
        [DefinitionChange(one), SettingsChange(settings), DefinitionChange(other)]
    )

    assert state == ControlState({"x": other}, settings)


def test_a_state_does_not_change_under_its_readers() -> None:
    before = ControlState({"x": definition("x")})

    before.after([DefinitionChange(definition("y", 1))])

    assert list(before.definitions) == ["x"]


def test_a_tick_tells_every_partition_what_the_record_says() -> None:
    fold = begun()
    changes: list[Change] = [
        DefinitionChange(definition("x")),
        SettingsChange(Settings(lateness_ms=60_000, stride=2, sources=["litmus.metrics/0"])),
    ]
    take(fold, second(fold, changes=changes), T0 + 200)

    tick = fold.tick()

    assert tick.number == 2
    # The sources stay in the record: what follows from them is in the times.
    assert tick.settings == Settings(lateness_ms=60_000, stride=2)
    assert tick.times.horizon_ms == T0 + 200 - 60_000 - HORIZON_SLACK_MS
    assert tick.changes == changes
    assert decode_tick(msgspec.json.encode(tick)) == tick


def make_log(random: Random) -> list[Appended]:
    """Return a log as writers that lose, freeze and have bad clocks make it."""
    log: list[Appended] = []
    fold, appended_ms, commands = ControlFold(), T0, 0
    while fold.last is None or fold.last.record.number < 30:
        last = fold.last
        number = last.record.number + 1 if last else 1
        changes: list[Change] = []
        if random.random() < 0.4:
            name = random.choice("xyz")
            changes.append(DefinitionChange(definition(name, version=commands)))
        if random.random() < 0.1:
            lateness_ms = random.choice([0, 60_000, LATENESS_MS])
            changes.append(SettingsChange(Settings(lateness_ms, random.choice([None, 3]))))
        has_snapshot = number % 7 == 1
        one = record(
            number,
            last.times if last else NEVER,
            low_water_ms=random.choice([None, appended_ms - random.randint(0, 500_000)]),
            commands_from=commands,
            commands_to=commands + len(changes),
            changes=changes,
            snapshot=fold.state.after(changes) if has_snapshot else None,
            snapshot_offset=fold.snapshot_offset,
        )
        wrong: dict[str, object] = random.choice(
            [
                {},
                {},
                {"log_id": "another"},
                {"number": number + random.choice([-1, 1])},
                {"commands_from": commands + 1, "commands_to": commands + 9},
                {"before": Times(1, 1, 1)},
            ]
        )
        if last is None:
            wrong = {}
        value = msgspec.json.encode(msgspec.structs.replace(one, **wrong))
        appended_ms += random.choice([-5_000, 0, 3, 200, 90_000])
        log.append((appended_ms, value))
        if fold.take(len(log) - 1, appended_ms, value) is not None:
            commands = one.commands_to
    return log


def read(log: Sequence[Appended], start: int = 0) -> dict[int, tuple[Winner, ControlState, Tick]]:
    """Return what a reader who starts there knows after each tick."""
    fold, known = ControlFold(), {}
    for offset in range(start, len(log)):
        winner = fold.take(offset, *log[offset])
        if winner is not None:
            known[winner.record.number] = (winner, fold.state, fold.tick())
    return known


@given(st.randoms(use_true_random=False))
def test_a_reader_who_starts_at_any_snapshot_knows_what_one_from_the_beginning_knows(
    random: Random,
) -> None:
    log = make_log(random)
    everything = read(log)
    starts = [one.offset for one, _, _ in everything.values() if one.record.snapshot is not None]
    assert len(starts) == 5

    for start in starts:
        assert read(log, start) == {
            number: known for number, known in everything.items() if known[0].offset >= start
        }


@given(st.randoms(use_true_random=False))
def test_ticks_are_numbered_without_a_gap_and_their_times_never_go_back(random: Random) -> None:
    winners = [winner for winner, _, _ in read(make_log(random)).values()]

    assert [winner.record.number for winner in winners] == list(range(1, 31))
    for earlier, later in pairwise(winners):
        assert 0 <= later.times.log_ms - earlier.times.log_ms <= LOG_TIME_STEP_MS_MAX
        assert earlier.times.settled_ms <= later.times.settled_ms <= later.times.log_ms
        assert earlier.times.horizon_ms <= later.times.horizon_ms
        assert later.record.commands_from == earlier.record.commands_to


# --- times ---

DAY_MS = 86_400_000
instants = st.integers(T0 - DAY_MS, T0 + DAY_MS)


@given(instants, instants, st.integers(0, DAY_MS), st.none() | instants, st.integers(0, DAY_MS))
def test_log_time_follows_the_broker_within_a_minute_and_never_goes_back(
    log_ms: int, appended_ms: int, settled_behind: int, low_water_ms: int | None, lateness_ms: int
) -> None:
    before = Times(log_ms, log_ms - settled_behind, log_ms - settled_behind - 1)

    times = times_of(
        record(2, before, low_water_ms=low_water_ms), appended_ms, Settings(lateness_ms=lateness_ms)
    )

    assert times.log_ms == sorted([log_ms, appended_ms, log_ms + 60_000])[1]
    assert before.settled_ms <= times.settled_ms <= times.log_ms
    assert before.horizon_ms <= times.horizon_ms <= times.settled_ms


def test_the_first_record_starts_the_clock_wherever_the_broker_stands() -> None:
    times = times_of(record(1), T0, Settings(LATENESS_MS))

    assert times == Times(T0, T0, T0 - LATENESS_MS - 600_000)


def test_a_leap_of_the_brokers_clock_becomes_steps_of_a_minute() -> None:
    times = times_of(record(2, Times(T0, T0, 0)), T0 + DAY_MS, Settings(LATENESS_MS))

    assert times.log_ms == T0 + 60_000


@pytest.mark.parametrize(
    ("low_water_ms", "settled_ms"),
    [
        (None, T0 + 200),  # no sources: nothing to wait for
        (T0 + 150, T0 + 150),  # a door still holds events of 150 ms ago
        (T0 + 999, T0 + 200),  # a door's clock may be ahead, the log's is the limit
        (T0 - 50, T0 - 10),  # a door came back with older events; it is too late for those
    ],
)
def test_settled_is_what_all_doors_have_taken_in(low_water_ms: int | None, settled_ms: int) -> None:
    before = Times(T0, T0 - 10, 0)

    times = times_of(record(2, before, low_water_ms=low_water_ms), T0 + 200, Settings(LATENESS_MS))

    assert times.settled_ms == settled_ms


def test_the_horizon_is_the_lateness_and_ten_minutes_behind_what_settled() -> None:
    times = times_of(
        record(2, Times(T0, T0, 0), low_water_ms=T0 + 5), T0 + 9, Settings(LATENESS_MS)
    )

    assert times.horizon_ms == T0 + 5 - LATENESS_MS - 600_000


def test_a_greater_lateness_brings_no_forgotten_id_back() -> None:
    before = Times(T0, T0, T0 - 600_000)

    assert times_of(record(2, before), T0 + 1, Settings(DAY_MS)).horizon_ms == before.horizon_ms


def test_a_tick_goes_by_the_lateness_that_it_brings() -> None:
    fold = begun()

    winner = take(fold, second(fold, changes=[SettingsChange(Settings(lateness_ms=0))]), T0 + 7)

    assert winner is not None
    assert winner.times.horizon_ms == T0 + 7 - 600_000


@given(
    st.lists(st.tuples(st.integers(1, 3_600_000), st.integers(1_000, DAY_MS)), max_size=6),
    st.integers(0, 3_600_000),
    st.integers(0, 600_000),
    st.integers(0, 600_000),
)
def test_what_was_accepted_counts_ten_minutes_later_however_the_lateness_changes(
    changes: list[tuple[int, int]], accepted_after_ms: int, spare_ms: int, on_its_way_ms: int
) -> None:
    """A door judges an event by the settings of then; settled time is log time here."""
    now_ms, settings, horizon_ms = T0, Settings(), 0
    history = [(T0, settings)]
    for after_ms, lateness_ms in changes:
        now_ms += after_ms
        settings = settings.with_lateness(lateness_ms, now_ms)
        history.append((now_ms, settings))
    received_ms = T0 + accepted_after_ms
    arrived_ms = received_ms + on_its_way_ms
    for since_ms in [at_ms for at_ms, _ in history] + [arrived_ms]:
        # The horizon of the last tick before a change, and of the last before it arrives.
        if since_ms > arrived_ms:
            break
        for at_ms in (since_ms - 1, since_ms):
            in_force = [one for from_ms, one in history if from_ms <= max(at_ms, T0)][-1]
            kept_ms = in_force.kept_lateness_ms(at_ms) + 600_000
            horizon_ms = max(horizon_ms, at_ms - kept_ms)
    judged_by = [one for from_ms, one in history if from_ms <= received_ms][-1]

    # The hardest case is an event that is nearly late.
    timestamp_ms = received_ms - judged_by.lateness_ms + spare_ms

    if not judged_by.is_late(timestamp_ms, received_ms):
        assert timestamp_ms >= horizon_ms


# --- stride ---


@given(st.integers(0, 100_000))
def test_the_stride_is_the_smallest_that_keeps_looks_under_200_a_second(running: int) -> None:
    stride = stride_of(Settings(), running)

    assert running * TICKS_PER_SECOND <= DUE_LOOKS_PER_SECOND_MAX * stride
    assert stride == 1 or running * TICKS_PER_SECOND > DUE_LOOKS_PER_SECOND_MAX * (stride - 1)


@pytest.mark.parametrize(("running", "stride"), [(0, 1), (1, 1), (40, 1), (41, 2), (400, 10)])
def test_forty_experiments_have_a_look_at_every_tick(running: int, stride: int) -> None:
    """40 experiments, 5 ticks a second: 200 looks a second."""
    assert stride_of(Settings(), running) == stride


def test_a_stride_that_was_set_holds_for_any_number() -> None:
    assert stride_of(Settings(stride=3), 10_000) == 3
