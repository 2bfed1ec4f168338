"""A worker that dies at any message, with any of its last writes lost, ends in the same state.

The changelog is a dict here: what Faust's table holds after recovery. A crash loses the writes
that were not acknowledged; a zombie's writes arrive late.
"""

from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import NamedTuple

import msgspec
import pytest

from schemas.control import ControlState, DefinitionChange, decode_tick
from schemas.definitions import Interval
from schemas.partials import decode_partial
from schemas.topics import KIND_TICK
from stream_processors.accumulate.checkpoints import segment_record
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.records import (
    CHUNK,
    SEGMENT,
    ForeignRecordError,
    SegmentRecord,
    decode_key,
    read_record,
)
from stream_processors.accumulate.recovery import recover
from stream_processors.accumulate.state import SEGMENTS
from stream_processors.accumulate.writing import Write
from tests.seeds import seeds
from tests.stream_processors.accumulate.arrivals import Log, logs
from tests.stream_processors.accumulate.builders import (
    T0,
    Message,
    assignment,
    batch,
    definition,
    measured,
    tick,
)
from tests.stream_processors.accumulate.holding import Held, equals_its_fold
from tests.stream_processors.accumulate.worlds import make_world

Changelog = dict[bytes, bytes]
Looks = dict[int, list]


def control_at(log: list[Message]) -> Callable[[int], ControlState]:
    """Return the definitions as of any tick, as the control log would tell them."""
    states = {0: ControlState()}
    for message in log:
        if message.kind == KIND_TICK:
            one = decode_tick(message.value)
            after = states[one.number - 1].after(one.changes)
            states.setdefault(one.number, msgspec.structs.replace(after, settings=one.settings))
    return states.__getitem__


def make(changelog: Changelog, writes: list[Write]) -> None:
    for key, value in writes:
        if value is None:
            changelog.pop(key, None)
        else:
            changelog[key] = value


def final_bytes(partition: Partition) -> list[SegmentRecord]:
    """Return every segment as it would be written now: equal states are equal bytes."""
    return [
        segment_record(
            partition.state,
            segment,
            plan=partition.plan,
            header=partition.header,
            metrics=partition.metrics,
            unit_types=partition.unit_types,
        )
        for segment in range(SEGMENTS)
    ]


def run(partition: Partition, log: list[Message], until: int, looks: Looks) -> list[list[Write]]:
    """Apply messages up to ``until``; note each tick's sums; return the writes by tick."""
    writes = []
    while partition.cursor < until:
        ticked = partition.apply(partition.cursor, *log[partition.cursor])
        if ticked:
            writes.append(ticked.writes)
            for value in ticked.partials:
                partial = decode_partial(value)
                looks.setdefault(partial.tick, []).extend(partial.experiments)
                sums = (partial.ledger, partial.next_offset, partial.times)
                looks[partial.tick].append(sums)
    return writes


def a_log(seed: int, *, ticks: int = 90, events: int = 90) -> list[Message]:
    """Return a log of three cycles of checkpoints, hostile rows and import parts included."""
    random = Random(seed)
    world = make_world(random, tick_count=ticks, event_count=events)
    [log] = logs(world, random, Log(repeats=15, hostile=10, recycled=5))
    return log


class Undisturbed(NamedTuple):
    """A log, and a partition that read all of it in one life; several tests ask for the same.

    Attributes:
        log: Its messages.
        partition: In the end; nobody may apply more to it.
        segments: What it would write of itself then.
        looks: Of every tick.
        writes: By tick.
    """

    log: list[Message]
    partition: Partition
    segments: list[SegmentRecord]
    looks: Looks
    writes: list[list[Write]]

    @property
    def changelog(self) -> Changelog:
        """Return what the table holds after all writes."""
        changelog: Changelog = {}
        for writes in self.writes:
            make(changelog, writes)
        return changelog


@lru_cache(maxsize=24)  # of 4 MB each
def undisturbed_by(seed: int) -> Undisturbed:
    """Read the log of a seed without a kill."""
    log, looks, partition = a_log(seed), Looks(), Partition(0, writer="w")
    writes = run(partition, log, len(log), looks)
    return Undisturbed(log, partition, final_bytes(partition), looks, writes)


@pytest.mark.parametrize("seed", seeds(60))
def test_kills_with_lost_writes_change_no_byte_and_lose_no_look(seed: int) -> None:
    log, undisturbed, truth_bytes, looks, _ = undisturbed_by(seed)
    random = Random(seed)

    changelog: Changelog = {}
    seen: Looks = {}
    partition = Partition(0, writer="w0")
    for life in range(6):
        until = random.randint(partition.cursor, len(log) - 1)
        ticks = run(partition, log, until, seen)
        kept = len(ticks) - random.choice([0, 0, 1, 2, 20])
        for writes in ticks[: max(0, kept)]:
            make(changelog, writes)
        # The last tick's writes may have arrived in part; within one partition, in order.
        if 0 < kept < len(ticks):
            part = ticks[kept]
            make(changelog, [one for one in part[: random.randint(0, len(part))] if one.value])
        partition = recover(
            0, changelog.items(), state_at=control_at(log), log_id="log", writer=f"w{life}"
        ).partition
        assert partition.cursor <= until
    make(changelog, [one for writes in run(partition, log, len(log), seen) for one in writes])

    assert partition.is_live
    assert final_bytes(partition) == truth_bytes
    last = max(looks)
    assert [one for one in seen[last] if isinstance(one, tuple)][-1] == looks[last][-1]
    for ordinal in range(len(partition.control.definitions)):
        if ordinal not in partition._final:
            one = partition._definitions[ordinal]
            assert partition.experiment_sums(one, final=False) == undisturbed.experiment_sums(
                one, final=False
            )
    # Whatever any life reported at a tick is what the undisturbed one would have.
    for number, reported in seen.items():
        truth = {one.experiment_id: one for one in looks[number] if not isinstance(one, tuple)}
        for one in reported:
            if isinstance(one, tuple):
                assert one in looks[number]
            elif one.experiment_id in truth:
                assert one == truth[one.experiment_id]


def restart(held: Held, changelog: Changelog, log: list[Message]) -> list[list[Write]]:
    """Replace a partition by what its changelog amounts to, read up to where it was."""
    until = held.partition.cursor
    held.partition = recover(
        0, changelog.items(), state_at=control_at(log), log_id="log", writer="w"
    ).partition
    return run(held.partition, log, until, {})


@pytest.mark.parametrize("seed", seeds(40))
def test_after_restarts_at_any_message_both_ledgers_and_all_integers_hold(seed: int) -> None:
    log, random = a_log(seed + 1_000, ticks=70), Random(seed)
    held, changelog = Held(), dict[bytes, bytes]()
    kills = set(random.sample(range(1, len(log) - 1), 4))
    waiting: list[list[Write]] = []

    for message in log:
        ticked = held.read(message)
        waiting += [ticked.writes] if ticked else []
        # Writes are acknowledged some ticks later; a kill loses those that wait.
        while len(waiting) > random.choice([0, 1, 3]):
            make(changelog, waiting.pop(0))
        if held.partition.cursor in kills:
            waiting = restart(held, changelog, log)
            if held.partition.is_live:
                held.check_ledgers()
                held.check_integers()
                assert equals_its_fold(held.partition)

    assert held.partition.is_live
    held.check_integers()


@pytest.mark.parametrize("seed", [1, 2, pytest.param(3, marks=pytest.mark.long)])
def test_a_kill_at_every_single_message_changes_no_byte(seed: int) -> None:
    """Every message kind at every point of the checkpoint cycle, acknowledged writes only."""
    log = a_log(seed, ticks=55, events=40)
    undisturbed = Partition(0, writer="w")
    run(undisturbed, log, len(log), {})
    truth = final_bytes(undisturbed)

    writer, changelog = Partition(0, writer="w"), {}
    for until in range(1, len(log)):
        for writes in run(writer, log, until, {}):
            make(changelog, writes)
        recovered = recover(
            0, changelog.items(), state_at=control_at(log), log_id="log", writer="w"
        ).partition
        run(recovered, log, len(log), {})

        assert final_bytes(recovered) == truth


@pytest.mark.parametrize("seed", seeds(20))
def test_records_lost_at_random_only_mean_more_to_read(seed: int) -> None:
    undisturbed, random = undisturbed_by(seed), Random(seed)
    log, changelog = undisturbed.log, undisturbed.changelog
    survivors = {key: value for key, value in changelog.items() if random.random() < 0.7}

    recovered = recover(
        0, survivors.items(), state_at=control_at(log), log_id="log", writer="w"
    ).partition
    run(recovered, log, len(log), {})

    assert final_bytes(recovered) == undisturbed.segments


@pytest.mark.parametrize("seed", seeds(20))
def test_a_zombie_that_writes_late_changes_no_byte(seed: int) -> None:
    """The former owner goes on from where it froze and its writes arrive after the new one's."""
    undisturbed, random = undisturbed_by(seed), Random(seed)
    log, changelog = undisturbed.log, Changelog()
    zombie = Partition(0, writer="old")
    frozen_at = random.randint(1, len(log) - 1)
    for writes in run(zombie, log, frozen_at, {}):
        make(changelog, writes)
    owner = recover(
        0, changelog.items(), state_at=control_at(log), log_id="log", writer="new"
    ).partition
    for writes in run(owner, log, random.randint(frozen_at, len(log)), {}):
        make(changelog, writes)
    thawed_to = random.randint(frozen_at, len(log))
    for writes in run(zombie, log, thawed_to, {}):
        make(changelog, writes)

    recovered = recover(
        0, changelog.items(), state_at=control_at(log), log_id="log", writer="next"
    ).partition
    run(recovered, log, len(log), {})

    assert final_bytes(recovered) == undisturbed.segments


def test_chunks_beyond_the_horizon_are_deleted_and_recovery_does_not_miss_them() -> None:
    """A tick a second, an event each; the horizon is 20 s behind, a chunk is 25 ticks long."""
    log = [tick(1, T0, DefinitionChange(definition()))]
    for second in range(1, 300):
        now = T0 + 1_000 * second
        log += [
            batch([assignment(f"u{second}", "a", now), measured(f"u{second}", "m", now + 1)]),
            tick(second + 1, now, horizon=now - 20_000),
        ]
    partition, changelog = Partition(0, writer="w"), {}
    for writes in run(partition, log, len(log), {}):
        make(changelog, writes)

    chunks = sorted(decode_key(key).number for key in changelog if decode_key(key).kind == CHUNK)
    recovered = recover(
        0, changelog.items(), state_at=control_at(log), log_id="log", writer="w"
    ).partition
    resumed_at = recovered.cursor
    run(recovered, log, len(log), {})

    # Ended chunks are 0 to 11; the last manifest but one is from tick 285 or so.
    assert chunks[0] >= 8
    assert resumed_at > len(log) - 2 * 40
    assert final_bytes(recovered) == final_bytes(partition)


@pytest.mark.parametrize("final_at", range(26, 42))
def test_a_last_look_is_not_told_again_from_records_that_lack_what_was_dropped_after_it(
    final_at: int,
) -> None:
    """Killed after the tick that ends the experiment, at which segments were recorded."""
    units = [f"u{number}" for number in range(200)]
    stopped = definition(status="stopped", stopped_at_ms=T0 + 9, intervals=[Interval(T0, T0 + 9)])
    log = [
        tick(1, T0, DefinitionChange(stopped)),
        batch([assignment(unit, "a", T0 + 5) for unit in units]),
        batch([measured(unit, "m", T0 + 3) for unit in units]),
        *(tick(number, T0 + number) for number in range(2, final_at)),
        tick(final_at, T0 + final_at, horizon=T0 + 10),
    ]
    truth, seen, changelog = Looks(), Looks(), Changelog()
    for writes in run(Partition(0, writer="w"), log, len(log), truth):
        make(changelog, writes)
    [last, _] = truth[final_at]
    assert (last.final, sum(last.units), last.attribution) == (True, 200, [0, 0, 0, 200])

    # Without the chunks, reading begins at the beginning.
    segments = {key: value for key, value in changelog.items() if decode_key(key).kind == SEGMENT}
    recovered = recover(
        0, segments.items(), state_at=control_at(log), log_id="log", writer="w"
    ).partition
    run(recovered, log, len(log), seen)

    assert recovered.cursor == len(log)
    assert seen.get(final_at, truth[final_at]) == truth[final_at]


def test_every_owner_writes_the_same_bytes_under_the_same_key() -> None:
    log = a_log(11)
    first: Changelog = {}
    for writes in run(Partition(0, writer="a"), log, len(log), {}):
        make(first, [one for one in writes if one.value])
    again: Changelog = dict(first)
    cut = {k: v for k, v in first.items() if decode_key(k).offset < len(log) // 2}
    second = recover(0, cut.items(), state_at=control_at(log), log_id="log", writer="b").partition
    for writes in run(second, log, len(log), {}):
        for key, value in writes:
            if value and key in again and decode_key(key).kind in (SEGMENT, CHUNK):
                assert again[key] == value


def test_a_record_of_another_log_stops_the_worker() -> None:
    log = a_log(3)
    changelog: Changelog = {}
    for writes in run(Partition(0, writer="w"), log, len(log), {}):
        make(changelog, writes)

    with pytest.raises(ForeignRecordError, match="must be 'other'"):
        recover(0, changelog.items(), state_at=control_at(log), log_id="other", writer="w")


@pytest.mark.parametrize("seed", seeds(30))
def test_a_damaged_record_is_as_good_as_absent(seed: int) -> None:
    undisturbed, random = undisturbed_by(5), Random(seed)
    log, changelog = undisturbed.log, undisturbed.changelog
    key = random.choice(sorted(changelog))
    damaged = bytearray(changelog[key])
    damaged[random.randrange(len(damaged))] ^= random.randint(1, 255)
    changelog[key] = bytes(damaged)

    recovered = recover(
        0, changelog.items(), state_at=control_at(log), log_id="log", writer="w"
    ).partition
    run(recovered, log, len(log), {})

    assert final_bytes(recovered) == undisturbed.segments
    with pytest.raises(Exception, match="checksum"):
        read_record([bytes(damaged)], SegmentRecord)
