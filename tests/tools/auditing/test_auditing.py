"""An audit of a sound log finds nothing; one sum, cell or look that is off, and it says which."""

from collections.abc import Callable
from random import Random

import msgspec
import numpy as np
import pytest

from schemas.control import ControlState, decode_tick
from schemas.partials import decode_partial
from schemas.topics import KIND_TICK
from stream_processors.accumulate.auditing import LiveAudit, fold_differences
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.recovery import Found
from stream_processors.merge.merging import Merger
from tests.stream_processors.accumulate.arrivals import Log, logs
from tests.stream_processors.accumulate.builders import Message
from tests.stream_processors.accumulate.worlds import make_world
from tools.auditing.comparing import Compared, compare_looks
from tools.auditing.replaying import ReplayedPartition

PARTITIONS = 2
TICKS = 90


class Run:
    """A log of two partitions, what was published of it, and the checkpoints of one moment."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        world = make_world(random, tick_count=TICKS, event_count=150, is_simple=True)
        self.logs = logs(world, random, Log(PARTITIONS, repeats=10))
        self.changelogs: list[dict[bytes, bytes]] = [{} for _ in range(PARTITIONS)]
        self.looks: list[dict] = []
        died = random.randint(20, TICKS - 10)
        partials: dict[int, list[bytes]] = {}
        for number, log in enumerate(self.logs):
            partition = Partition(number, writer="w")
            for offset, message in enumerate(log):
                ticked = partition.apply(offset, *message)
                if ticked is None:
                    continue
                partials.setdefault(ticked.tick, []).extend(ticked.partials)
                if ticked.tick <= died:
                    self._write(number, ticked.writes)
        merger, offset = Merger(PARTITIONS), 0
        for tick in sorted(partials):
            for value in partials[tick]:
                for merged in merger.take(offset, decode_partial(value)):
                    self.looks += [
                        msgspec.json.decode(msgspec.json.encode(r)) for _, r in merged.looks
                    ]
                offset += 1
        self.last_tick = max(partials)

    def _write(self, number: int, writes: list) -> None:
        for key, value in writes:
            if value is None:
                self.changelogs[number].pop(key, None)
            else:
                self.changelogs[number][key] = value

    def replay(
        self, spoil: Callable[[Partition], None] | None = None
    ) -> dict[int, ReplayedPartition]:
        """Return the partitions, built from the checkpoints and read on to the end."""
        replayed = {}
        for number, log in enumerate(self.logs):
            found = Found(number, self.changelogs[number].items(), log_id="log")
            control = state_at(log, found.start.tick) if found.start else None
            one = replayed[number] = ReplayedPartition(found.build(control, writer="a").partition)
            while one.partition.tick < self.last_tick:
                if spoil is not None and number == 1 and one.partition.tick == self.last_tick - 1:
                    spoil(one.partition)
                at = one.partition.cursor
                one.apply(at, *log[at])
            one.check()
        return replayed

    def compare(self, replayed: dict[int, ReplayedPartition]) -> Compared:
        return compare_looks(replayed, self.looks, self.last_tick)


def state_at(log: list[Message], number: int) -> ControlState:
    state = ControlState()
    for message in log:
        if message.kind == KIND_TICK:
            tick = decode_tick(message.value)
            if tick.number <= number:
                after = state.after(tick.changes)
                state = msgspec.structs.replace(after, settings=tick.settings)
    return state


@pytest.mark.parametrize("seed", range(6))
def test_a_sound_log_has_no_difference_and_looks_are_compared(seed: int) -> None:
    run = Run(seed)

    replayed = run.replay()
    compared = run.compare(replayed)

    assert [one.differences for one in replayed.values()] == [[], []]
    assert compared.differences == []
    assert all(one.folds for one in replayed.values())


def test_most_looks_since_the_checkpoints_are_compared() -> None:
    assert sum(run.compare(run.replay()).looks for run in map(Run, range(4))) > 40


def a_run_with_sums() -> Run:
    return next(run for run in map(Run, range(50)) if run.compare(run.replay()).looks > 20)


def test_a_sum_that_is_not_the_fold_of_its_cells_is_found() -> None:
    def spoil(partition: Partition) -> None:
        partition.state.sums[0] += np.uint64(1)

    replayed = a_run_with_sums().replay(spoil)

    assert {(one.where, one.what) for one in replayed[1].differences} == {("partition 1", "sums")}
    assert replayed[0].differences == []


def test_a_look_with_another_integer_than_the_log_s_is_found() -> None:
    run = a_run_with_sums()
    replayed = run.replay()
    look = run.looks[-1]
    look["integers"]["crossovers"] = str(int(look["integers"]["crossovers"]) + 1)

    differences = run.compare(replayed).differences

    assert (look["experiment_id"], look["look"]["tick"], "crossovers") in {
        (one.where, one.tick, one.what) for one in differences
    }


def test_a_look_of_an_event_that_the_log_does_not_hold_is_found() -> None:
    run = a_run_with_sums()
    expected = run.compare(run.replay())
    assert expected.differences == []
    run.looks[-1]["integers"]["units"][0] = "999"

    assert run.compare(run.replay()).differences


async def test_a_live_worker_audits_what_it_owns_and_counts_what_it_finds() -> None:
    run = a_run_with_sums()
    partitions = {number: one.partition for number, one in run.replay().items()}
    audit = LiveAudit(partitions, lambda: pytest.fail("the test is in the loop"))

    assert await audit.run() == {"partitions": [0, 1], "differences": []}
    partitions[1].state.units_of[0] += 1
    found = await audit.run()

    assert [(one["where"], one["what"]) for one in found["differences"]] == [
        ("partition 1", "units")
    ]
    assert (audit.audit_count, audit.difference_count) == (2, 1)
    assert fold_differences(partitions[1]) == []
