"""Looks are published before they are remembered, and a restart goes on where memory ends.

The table here is what a broker keeps of it: a crash loses the last writes, never those before.
"""

import asyncio
import logging
import threading
from collections.abc import Generator, Mapping
from itertools import combinations

import msgspec
import pytest
from faust.types import TP

from schemas.control import TICKS_PER_SECOND, DefinitionChange
from schemas.partials import Ledger, encode_partial
from schemas.topics import LEDGER, LOOKS, PARTIALS, SNAPSHOT_ROWS, SNAPSHOTS, Topic
from stream_processors.merge.agent import (
    LedgerTick,
    LiveMerger,
    Message,
    OffsetGapError,
    ReadFrom,
    Send,
    encode,
)
from stream_processors.merge.alignment import REPORT_BYTES_MIN
from stream_processors.merge.changelog import PROGRESS, Key
from stream_processors.merge.merging import LIMITS, Limits
from stream_processors.merge.repeating import REPEAT_TICKS
from stream_processors.merge.telemetry import LookCollector, WaitingCollector
from tests.stream_processors.merge.builders import (
    make_definition,
    make_partial,
    make_sums,
    make_times,
    rate,
)

SOURCE = TP(PARTIALS.name, 0)
HELD = frozenset([SOURCE])
EXPERIMENT = "checkout-color"


class Outside:
    """Topics and table of merge; ``refuses``, ``cuts`` and ``forgets`` make them fail.

    Attributes:
        journal: Every delivery, in order: published records and written keys.
        cuts: Topics to which the sends of one tick do not come any more; None: all come.
    """

    def __init__(self) -> None:
        self.journal: list[Send | str] = []
        self.table: dict[str, bytes] = {}
        self.refuses = self.forgets = False
        self.cuts: tuple[Topic, ...] | None = None

    async def publish(self, sends: list[Send]) -> None:
        if self.refuses:
            raise ConnectionError("not delivered")
        self.journal += [one for one in sends if one.topic not in (self.cuts or ())]
        if self.cuts is not None:
            raise ConnectionError("killed")

    def read(self) -> Mapping[str, bytes]:
        return dict(self.table)

    async def write(self, records: Mapping[str, bytes | None]) -> None:
        if self.forgets:
            raise ConnectionError("not delivered")
        for key, value in records.items():
            self.table.pop(key, None)
            if value is not None:
                self.table[key] = value
        self.journal += records

    def sent(self, topic: object) -> list[Send]:
        return [one for one in self.journal if isinstance(one, Send) and one.topic == topic]

    def newest(self) -> dict[tuple[str, str], bytes]:
        """Return what compaction leaves, by topic and key."""
        return {
            (topic.name, send.key): encode(send.value)
            for topic in (SNAPSHOTS, SNAPSHOT_ROWS, LEDGER)
            for send in self.sent(topic)
        }

    def ledger_tick(self) -> LedgerTick | None:
        value = self.newest().get((LEDGER.name, "ledger"))
        return None if value is None else msgspec.json.decode(value, type=LedgerTick)

    def looks(self) -> dict[int, str]:
        """Return the identity of every look by its tick; repeats must be the same one."""
        found: dict[int, str] = {}
        for send in self.sent(LOOKS):
            look = send.value["look"]
            assert found.setdefault(look["tick"], look["sha256"]) == look["sha256"]
        return found


def nothing_again(offset: int) -> Generator[list[Message], None, None]:
    raise AssertionError(f"nothing was left to the topic, {offset} was read again")


def start(
    outside: Outside, read_from: ReadFrom = nothing_again, limits: Limits = LIMITS
) -> LiveMerger:
    return LiveMerger(
        partition_count=2,
        records=outside,
        publish=outside.publish,
        read_from=read_from,
        read_ledger_tick=outside.ledger_tick,
        limits=limits,
    )


def make_log(ticks: int) -> list[bytes]:
    """Return partials of two partitions: units grow at every tick, in both."""
    log = []
    for tick in range(1, ticks + 1):
        for partition in (0, 1):
            first = tick == 1 and partition == 0
            changes = [DefinitionChange(make_definition(EXPERIMENT))] if first else []
            sums = make_sums(EXPERIMENT, [rate(10 * tick, tick), rate(10 * tick, tick)])
            log.append(encode_partial(make_partial(partition, tick, sums, changes=changes)))
    return log


async def drive(live: LiveMerger, log: list[bytes], until: int | None = None) -> None:
    cursor = live.cursor(SOURCE)
    assert cursor is not None
    for offset in range(cursor, len(log) if until is None else until):
        await live.take(offset, log[offset])


async def test_a_process_without_the_partition_stands_by_and_takes_nothing() -> None:
    outside = Outside()
    live = start(outside)
    assert not live.readiness()["ready"]

    await live.load(frozenset())
    await live.take(7, b"nonsense")

    readiness = live.readiness()
    assert (readiness["ready"], readiness["role"]) == (True, "standby")
    assert live.cursor(SOURCE) is None
    assert not outside.journal


async def test_a_merger_is_ready_once_it_has_merged_a_tick() -> None:
    live = start(Outside())
    await live.load(HELD)
    assert not live.readiness()["ready"]

    await drive(live, make_log(1))

    readiness = live.readiness()
    assert (readiness["ready"], readiness["role"], readiness["tick"]) == (True, "merger", 1)


async def test_a_tick_is_published_whole_before_anything_is_remembered() -> None:
    outside = Outside()
    live = start(outside)
    await live.load(HELD)

    await drive(live, make_log(1))

    *published, experiment, progress = outside.journal
    topics = [one.topic.name for one in published if isinstance(one, Send)]
    rows = [SNAPSHOT_ROWS.name] * (len(topics) - 3)
    assert rows
    assert topics == [LOOKS.name, SNAPSHOTS.name, *rows, LEDGER.name]
    names = [Key.decode(key).name for key in (experiment, progress) if isinstance(key, str)]
    assert names == [("experiment", EXPERIMENT), PROGRESS]


async def test_half_a_tick_publishes_and_remembers_nothing() -> None:
    outside = Outside()
    live = start(outside)
    await live.load(HELD)

    await drive(live, make_log(1), until=1)

    assert not outside.journal
    assert live.cursor(SOURCE) == 1


async def test_records_carry_the_log_time_of_their_tick() -> None:
    outside = Outside()
    live = start(outside)
    await live.load(HELD)

    await drive(live, make_log(3))

    assert [one.timestamp_ms for one in outside.sent(LOOKS)] == [
        make_times(tick).log_ms for tick in (1, 2, 3)
    ]


async def test_a_look_that_is_not_delivered_is_not_remembered() -> None:
    outside = Outside()
    live = start(outside)
    await live.load(HELD)
    outside.refuses = True

    with pytest.raises(ConnectionError):
        await drive(live, make_log(1))

    assert not outside.table


async def test_what_is_delivered_again_changes_nothing() -> None:
    outside, log = Outside(), make_log(3)
    live = start(outside)
    await live.load(HELD)
    await drive(live, log)
    before = list(outside.journal)

    for offset, value in enumerate(log):
        await live.take(offset, value)

    assert outside.journal == before


async def test_a_missing_partial_stops_the_worker() -> None:
    log = make_log(2)
    live = start(Outside())
    await live.load(HELD)
    await live.take(0, log[0])

    with pytest.raises(
        OffsetGapError, match=r"offset == 2, must be 1\..*litmus recount`.*count litmus.events anew"
    ):
        await live.take(2, log[2])


@pytest.mark.parametrize("died_at", range(1, 11))
async def test_a_restart_goes_on_where_memory_ends_and_repeats_no_other_look(died_at: int) -> None:
    """Five ticks of two partials each; a tick is remembered with its second one."""
    log, undisturbed, outside = make_log(5), Outside(), Outside()
    for before in (undisturbed, outside):
        live = start(before)
        await live.load(HELD)
        await drive(live, log, until=None if before is undisturbed else died_at)

    second = start(outside)
    await second.load(HELD)
    assert second.cursor(SOURCE) == died_at // 2 * 2
    await drive(second, log)

    assert outside.looks() == undisturbed.looks()
    assert outside.table == undisturbed.table
    assert len(outside.sent(LOOKS)) == 5


@pytest.mark.parametrize("died_at", range(2, 11, 2))
async def test_a_tick_that_was_published_but_not_remembered_is_published_again(
    died_at: int,
) -> None:
    log, undisturbed, outside = make_log(5), Outside(), Outside()
    first, live = start(undisturbed), start(outside)
    await first.load(HELD)
    await drive(first, log)
    await live.load(HELD)
    await drive(live, log, until=died_at - 1)
    outside.forgets = True
    with pytest.raises(ConnectionError):
        await drive(live, log, until=died_at)
    outside.forgets = False

    second = start(outside)
    await second.load(HELD)
    assert second.cursor(SOURCE) == died_at - 2
    await drive(second, log)

    assert outside.looks() == undisturbed.looks()
    assert len(outside.sent(LOOKS)) == 6
    assert outside.table == undisturbed.table


async def test_who_loses_the_partition_and_gets_it_back_reads_memory_anew() -> None:
    """Another process may have gone on in between."""
    outside, log = Outside(), make_log(4)
    first, second = start(outside), start(outside)
    await first.load(HELD)
    await drive(first, log, until=4)

    await first.load(frozenset())
    await second.load(HELD)
    await drive(second, log, until=6)
    await second.load(frozenset())
    await first.load(HELD)

    assert first.cursor(SOURCE) == 6
    assert second.cursor(SOURCE) is None


def make_quiet_log(ticks: int) -> list[bytes]:
    """Return partials of two experiments, of which one stands still after tick 2; no row comes."""
    log = []
    for tick in range(1, ticks + 1):
        counts = [rate(10 * tick, tick), rate(10 * tick, tick)]
        named = [EXPERIMENT, "quiet"] if tick <= 2 else [EXPERIMENT]
        for partition in (0, 1):
            first = tick == 1 and partition == 0
            changes = [DefinitionChange(make_definition(one)) for one in named] if first else []
            sums = [make_sums(one, counts) for one in named]
            partial = make_partial(partition, tick, *sums, changes=changes)
            same = msgspec.structs.replace(partial, ledger=Ledger(received=7, fresh=7))
            log.append(encode_partial(same))
    return log


async def test_who_counts_anew_publishes_all_looks_and_nothing_older_than_is_there() -> None:
    outside, log = Outside(), make_quiet_log(8)
    live = start(outside)
    await live.load(HELD)
    await drive(live, log, until=14)
    newest, looks = outside.newest(), outside.sent(LOOKS)
    assert len(looks) == 9

    outside.table.clear()
    again = start(outside)
    await again.load(HELD)
    for offset in range(14):
        await again.take(offset, log[offset])
        assert outside.newest() == newest
    assert outside.sent(LOOKS) == looks + looks

    await drive(again, log)
    quiet = (SNAPSHOTS.name, "quiet")
    assert outside.newest()[quiet] == newest[quiet]
    assert outside.newest()[SNAPSHOTS.name, EXPERIMENT] == encode(outside.sent(SNAPSHOTS)[-1].value)
    assert len(outside.sent(LOOKS)) == len(looks + looks) + 1
    assert outside.ledger_tick() == LedgerTick("log-1", 8)


async def test_who_counts_another_log_is_held_back_by_no_ledger_of_the_one_before() -> None:
    outside, log = Outside(), make_quiet_log(3)
    outside.journal.append(Send(LEDGER, "ledger", {"log_id": "log-0", "tick": 99}, 0))
    live = start(outside)
    await live.load(HELD)

    await drive(live, log)

    assert len(outside.sent(SNAPSHOTS)) == len(outside.sent(LOOKS)) == 5
    assert outside.ledger_tick() == LedgerTick("log-1", 3)


@pytest.mark.parametrize("counts_anew", [False, True])
@pytest.mark.parametrize("tick", [2, 4])
@pytest.mark.parametrize(
    "cuts",
    [
        some
        for count in range(5)
        for some in combinations((LOOKS, SNAPSHOTS, SNAPSHOT_ROWS, LEDGER), count)
    ],
    ids=lambda cuts: "+".join(one.name for one in cuts) or "none",
)
async def test_a_tick_whose_sends_a_crash_cut_is_there_whole_after_it(
    cuts: tuple[Topic, ...], tick: int, *, counts_anew: bool
) -> None:
    undisturbed, outside, log = Outside(), Outside(), make_quiet_log(4)
    for before in (undisturbed, outside):
        live = start(before)
        await live.load(HELD)
        await drive(live, log, until=2 * tick - 1 if before is outside else 2 * tick)
    outside.cuts = cuts
    with pytest.raises(ConnectionError):
        await live.take(2 * tick - 1, log[2 * tick - 1])
    outside.cuts = None
    if counts_anew:
        outside.table.clear()

    second = start(outside)
    await second.load(HELD)
    await drive(second, log, until=2 * tick)

    assert outside.newest() == undisturbed.newest()
    looks, expected = (
        {encode(one.value) for one in each.sent(LOOKS)} for each in (outside, undisturbed)
    )
    assert looks == expected
    assert outside.table.keys() == undisturbed.table.keys()


async def test_a_ledger_that_stays_the_same_is_published_once_a_second() -> None:
    outside = Outside()
    live = start(outside)
    await live.load(HELD)
    partials = [make_partial(partition, tick) for tick in range(1, 16) for partition in (0, 1)]
    log = [
        encode_partial(msgspec.structs.replace(one, ledger=Ledger(received=7, fresh=7)))
        for one in partials
    ]

    await drive(live, log)

    ticks = [one.value["tick"] for one in outside.sent(LEDGER)]
    assert ticks == [1, TICKS_PER_SECOND, 2 * TICKS_PER_SECOND, 3 * TICKS_PER_SECOND]


async def test_a_snapshot_that_a_zombie_overwrote_is_there_again_within_ten_minutes() -> None:
    """Nothing happens in the experiment any more; the partition is given anew on the way."""
    outside = Outside()
    live, zombie = start(outside), start(outside)
    log = make_log(4)
    await zombie.load(HELD)
    await drive(zombie, log, until=4)
    in_hand = outside.sent(SNAPSHOTS)[-1]
    await live.load(HELD)
    await drive(live, log)
    newest = outside.sent(SNAPSHOTS)[-1]
    assert encode(newest.value) != encode(in_hand.value)

    outside.journal.append(in_hand)
    await live.load(HELD)
    ticks = range(5, 5 + 2 * REPEAT_TICKS)
    log += [encode_partial(make_partial(one, tick)) for tick in ticks for one in (0, 1)]
    await drive(live, log)

    repeats = outside.sent(SNAPSHOTS)[len(make_log(4)) // 2 + 1 :]
    assert [encode(one.value) for one in repeats] == [encode(newest.value)] * 2
    assert repeats[1].timestamp_ms - repeats[0].timestamp_ms == (
        make_times(REPEAT_TICKS).log_ms - make_times(0).log_ms
    )


async def test_a_snapshot_that_another_process_has_superseded_is_not_repeated() -> None:
    outside, log = Outside(), make_log(6)
    first, second = start(outside), start(outside)
    await first.load(HELD)
    await drive(first, log, until=6)
    await second.load(HELD)
    await drive(second, log)
    published = len(outside.sent(SNAPSHOTS))

    await first.load(HELD)
    ticks = range(7, 7 + REPEAT_TICKS)
    log += [encode_partial(make_partial(one, tick)) for tick in ticks for one in (0, 1)]
    await drive(first, log)

    assert published == 6
    assert len(outside.sent(SNAPSHOTS)) == published


async def test_the_age_of_looks_is_shown_by_who_makes_them_and_by_nobody_else() -> None:
    live = start(Outside())
    collector = LookCollector(lambda: live.merger, lambda: make_times(3).log_ms + 42_000)

    def ages() -> list[float]:
        [family] = collector.collect()
        return [sample.value for sample in family.samples]

    assert ages() == []
    await live.load(HELD)
    assert ages() == []
    await drive(live, make_log(3))
    assert ages() == [42]
    await live.load(frozenset())
    assert ages() == []


class Absence:
    """A log in which partition 1 is away for ``ticks`` ticks, and then reports them in one go.

    Attributes:
        log: What the topic holds.
        first_kept: The topic holds nothing before.
        reads: Offsets from which it was read again.
    """

    limits = Limits(waiting_bytes=2 * 4 * REPORT_BYTES_MIN)

    def __init__(self, ticks: int) -> None:
        both = make_log(ticks)
        self.log = both[::2] + both[1::2]
        self.first_kept = 0
        self.reads: list[int] = []

    def read_from(self, offset: int) -> Generator[list[Message], None, None]:
        """Yield messages three at a time, as a broker: from the first one that is still there."""
        self.reads.append(offset)
        first = max(offset, self.first_kept)
        messages = list(enumerate(self.log))[first:]
        for at in range(0, len(messages), 3):
            yield messages[at : at + 3]


async def test_what_is_left_to_the_topic_is_read_again_and_gives_the_same_records(
    caplog: pytest.LogCaptureFixture,
) -> None:
    absence, unlimited, outside = Absence(20), Outside(), Outside()
    reference, live = start(unlimited), start(outside, absence.read_from, Absence.limits)
    await reference.load(HELD)
    await live.load(HELD)
    held = WaitingCollector(lambda: live.merger)

    def shown() -> list[float]:
        return [sample.value for family in held.collect() for sample in family.samples]

    await drive(reference, absence.log)
    with caplog.at_level(logging.INFO):
        await drive(live, absence.log, until=20)
        assert shown() == [0, 20, 4 * REPORT_BYTES_MIN]
        await drive(live, absence.log)

    assert live.cursor(SOURCE) == len(absence.log)
    assert shown() == [0, 0, 0]
    assert absence.reads
    assert outside.table.keys() == unlimited.table.keys()
    for topic in (LOOKS, SNAPSHOTS, SNAPSHOT_ROWS):
        assert len(outside.sent(topic)) >= 20
        assert outside.sent(topic) == unlimited.sent(topic)
    [warned] = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert warned.startswith("waits for partitions [1] since tick 0: ")
    assert "caught up at tick " in caplog.text


@pytest.mark.parametrize("died_at", [5, 15, 22, 27, 33])
async def test_a_restart_amid_an_absence_gives_the_same_looks(died_at: int) -> None:
    absence, unlimited, outside = Absence(17), Outside(), Outside()
    reference, live = start(unlimited), start(outside, absence.read_from, Absence.limits)
    await reference.load(HELD)
    await drive(reference, absence.log)
    await live.load(HELD)
    await drive(live, absence.log, until=died_at)

    second = start(outside, absence.read_from, Absence.limits)
    await second.load(HELD)
    await drive(second, absence.log)

    assert outside.looks() == unlimited.looks()
    assert len(outside.looks()) == 17
    assert outside.table.keys() == unlimited.table.keys()


async def test_what_left_the_topic_while_a_partition_was_away_stops_the_worker() -> None:
    absence, outside = Absence(20), Outside()
    live = start(outside, absence.read_from, Absence.limits)
    await live.load(HELD)
    await drive(live, absence.log, until=20)
    absence.first_kept = 10

    with pytest.raises(
        OffsetGapError,
        match=r"offset == 10, must be 4\..*litmus recount`.*count litmus.events anew",
    ):
        await drive(live, absence.log)

    assert sorted(outside.looks()) == [1, 2, 3, 4]


async def test_who_loses_the_partition_while_it_reads_again_leaves_it_to_the_next() -> None:
    absence, outside = Absence(20), Outside()

    def read_and_lose(offset: int) -> Generator[list[Message], None, None]:
        live.merger = None
        yield from absence.read_from(offset)

    live = start(outside, read_and_lose, Absence.limits)
    await live.load(HELD)
    for offset, value in enumerate(absence.log):
        await live.take(offset, value)
    second = start(outside, absence.read_from, Absence.limits)
    await second.load(HELD)
    await drive(second, absence.log)

    assert [one.value["look"]["tick"] for one in outside.sent(LOOKS)] == list(range(1, 21))


async def test_who_is_stopped_while_it_reads_again_ends_so_and_closes_what_it_reads() -> None:
    absence = Absence(20)
    reads, goes_on, closed = threading.Event(), threading.Event(), threading.Event()

    def read_slowly(offset: int) -> Generator[list[Message], None, None]:
        try:
            reads.set()
            assert goes_on.wait(60)
            yield from absence.read_from(offset)
        finally:
            closed.set()

    live = start(Outside(), read_slowly, Absence.limits)
    await live.load(HELD)
    driving = asyncio.create_task(drive(live, absence.log))
    assert await asyncio.to_thread(reads.wait, 60)
    driving.cancel()
    await asyncio.wait([driving], timeout=0.2)  # whatever it does now, a thread is still reading
    goes_on.set()

    with pytest.raises(asyncio.CancelledError):
        await driving
    assert closed.is_set()
