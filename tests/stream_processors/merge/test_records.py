"""What merge remembers stays whole, wherever a crash cuts and whatever a zombie writes late.

The changelog here is every write in order; a crash leaves a prefix of it, a process that froze and
thawed adds writes of before. Whatever is left, the latest whole record of each experiment is at
least as new as the latest progress, and neither ever goes back.
"""

import hashlib
import random
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from schemas.control import DefinitionChange, Settings, Times
from schemas.definitions import Metric
from schemas.partials import (
    ExperimentSums,
    ImportCount,
    Partial,
    decode_partial,
    encode_partial,
    histogram_to_bytes,
    in_parts,
)
from schemas.topics import MESSAGE_BYTES_MAX
from stream_processors.control.imports import IMPORTS_MAX
from stream_processors.merge.changelog import (
    IMPORTS,
    PROGRESS,
    Changelog,
    Key,
    Name,
    RecordDamagedError,
    keys_of,
)
from stream_processors.merge.merging import Limits, MergedTick, Merger
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.records import (
    RECORD_BYTES_MAX,
    ExperimentRecord,
    Imports,
    ProgressRecord,
    encode_experiment,
    encode_imports,
    encode_progress,
    kept_experiments,
    kept_imports,
    kept_progress,
)
from stream_processors.stats.buckets import BUCKET_MAX, LOWER_EDGES
from tests.stream_processors.merge.builders import (
    CONVERSION,
    make_definition,
    make_partial,
    make_sums,
    rate,
)
from tests.stream_processors.merge.changelogs import (
    Write,
    as_before_ticks_were_in_keys,
    compacted,
)

SMALL = 700
SINGLE = len(
    msgspec.msgpack.encode(
        ExperimentRecord(1, make_definition("x"), {}, {}, ExperimentPath(), True, "")
    )
)
SIZES = [0, 900, 5_000, 5_100, 700, 0, 0, 6_500, 100, 2_500, 2_500, 0, 1_300]
"""Bytes beside what a record always has, by tick: alone, in parts, in more and in fewer, alone."""


def record(tick: int, size: int, experiment_id: str = "x") -> ExperimentRecord:
    """Return a record whose bytes are others at every tick."""
    rng = random.Random(f"{tick} {experiment_id}")
    sums = make_sums(experiment_id, [rate(tick, 1), rate(tick, 1)])
    sums = msgspec.structs.replace(sums, open=[rng.randbytes(size)])
    return ExperimentRecord(
        tick, make_definition(experiment_id), {0: sums}, {0: 4}, ExperimentPath(), False, "ab"
    )


def parts_of(one: ExperimentRecord, bytes_max: int = 1_000) -> dict[str, bytes]:
    return keys_of(
        Name("experiment", one.definition.id), one.tick, encode_experiment(one), bytes_max
    )


def progress_of(tick: int) -> bytes:
    return encode_progress(ProgressRecord("log", tick, Times(0, 0, 0), 0, Settings(), [], []))


class Worker:
    """Writes one record per tick as a merger does, from what it finds."""

    def __init__(self, log: list[Write]) -> None:
        self._changelog = Changelog(compacted(log))
        progress = kept_progress(self._changelog)
        self.tick = 0 if progress is None else progress.tick
        kept = list(kept_experiments(self._changelog, self.tick))
        self._known = kept[0].tick if kept else -1

    def writes(self) -> Iterator[Write]:
        for tick in range(self.tick + 1, len(SIZES)):
            yield from self._changelog.deletions().items()
            if tick > self._known:  # else its record is newer: replayed, it is not written again
                one = encode_experiment(record(tick, SIZES[tick]))
                name = Name("experiment", "x")
                yield from self._changelog.write(name, tick, one, SINGLE + SMALL).items()
            value = progress_of(tick)
            yield from self._changelog.write(PROGRESS, tick, value, SINGLE + SMALL).items()


def go_on(log: list[Write]) -> Iterator[list[Write]]:
    """Yield what a worker that finds ``log`` makes of it, write by write, to the last tick."""
    log = list(log)
    for write in Worker(log).writes():
        log.append(write)
        yield list(log)


def assert_nothing_is_lost(log: list[Write]) -> int:
    """Return the tick of the progress; the record is at least as new, and as it was written."""
    changelog = Changelog(compacted(log))
    progress = kept_progress(changelog)
    tick = 0 if progress is None else progress.tick
    found = list(kept_experiments(changelog, tick))
    assert len(found) == 1 or tick == 0
    for one in found:
        assert one.tick >= tick
        assert one == record(one.tick, SIZES[one.tick])
    return tick


def test_sizes_cross_the_limit_both_ways() -> None:
    counts = [len(parts_of(record(tick, size), SINGLE + SMALL)) for tick, size in enumerate(SIZES)]

    assert len(set(counts)) > 3
    assert (min(counts), counts[0], counts[-1]) == (1, 1, 2)


def test_two_crashes_at_any_two_writes_lose_nothing() -> None:
    for once in go_on([]):
        assert_nothing_is_lost(once)
        for twice in go_on(once):
            assert_nothing_is_lost(twice)


def test_many_crashes_within_the_same_few_writes_lose_nothing() -> None:
    rng = random.Random(5)
    for _ in range(60):
        log: list[Write] = []
        while assert_nothing_is_lost(log) < len(SIZES) - 1:
            states = list(go_on(log))
            log = states[min(rng.randrange(9), len(states) - 1)]


def test_a_zombie_that_writes_late_takes_nothing_back() -> None:
    """Frozen before any write, awake after any write of its successor, ended by any crash.

    What it had in hand are the writes of up to three ticks, deletions among them.
    """
    undisturbed = [*go_on([])][-1]
    for frozen_at in range(len(undisturbed)):
        before = undisturbed[:frozen_at]
        in_hand = undisturbed[frozen_at : frozen_at + 18]
        # Every third state of the successor, another third for every moment of freezing.
        for after in [before, *go_on(before)][frozen_at % 3 :: 3]:
            reached = assert_nothing_is_lost(after)
            for count in range(1 + len(after) % 4, len(in_hand) + 1, 4):
                assert assert_nothing_is_lost(after + in_hand[:count]) >= reached


def test_a_zombie_and_its_successor_may_write_by_turns() -> None:
    rng = random.Random(7)
    for _ in range(20):
        log: list[Write] = []
        reached = 0
        while reached < len(SIZES) - 1:
            started = [Worker(log).writes() for _ in range(rng.randint(1, 3))]
            for _ in range(rng.randrange(40)):
                write = next(rng.choice(started), None)
                if write is not None:
                    log.append(write)
                before, reached = reached, assert_nothing_is_lost(log)
                assert reached >= before


def test_only_the_latest_records_stay_after_the_next_write() -> None:
    log = [*go_on([])][-1]
    held = [Key.decode(key) for key in compacted(log)]

    last = len(SIZES) - 1
    assert {key.tick for key in held} == {last - 1, last}
    assert {key.tick for key in map(Key.decode, compacted(log)) if key.tick < last - 1} == set()


def test_no_part_is_larger_than_a_message_may_be() -> None:
    written = parts_of(record(9, 4_000))

    assert len(written) > 4
    assert max(map(len, written.values())) <= 1_000


def test_a_record_is_stored_under_its_tick_and_the_hash_of_its_bytes() -> None:
    whole = encode_experiment(record(9, 4_000))
    sha256 = hashlib.sha256(whole).hexdigest()[:16]
    stored = {
        f"at/experiment/9/2/0/{sha256}/x": whole[:3_000],
        f"at/experiment/9/2/1/{sha256}/x": whole[3_000:],
    }

    assert parts_of(record(9, 4_000), 3_000) == stored
    [found] = kept_experiments(Changelog(stored), 9)
    assert found == record(9, 4_000)


def test_an_experiment_whose_first_record_is_not_whole_is_replayed() -> None:
    written = parts_of(record(9, 4_000))
    del written[list(written)[2]]

    assert list(kept_experiments(Changelog(written), 8)) == []


def test_a_record_that_the_progress_promises_and_that_is_not_whole_stops_the_worker() -> None:
    written = parts_of(record(9, 4_000))
    del written[list(written)[2]]

    with pytest.raises(RecordDamagedError, match="x: parts of its record are missing"):
        list(kept_experiments(Changelog(written), 9))


def test_parts_with_other_bytes_stop_the_worker() -> None:
    written = parts_of(record(9, 4_000))
    key = list(written)[2]
    written[key] = written[key][:-1] + bytes([written[key][-1] ^ 1])

    with pytest.raises(RecordDamagedError, match="not what was written"):
        list(kept_experiments(Changelog(written), 9))


def test_a_key_that_merge_does_not_write_stops_the_worker() -> None:
    with pytest.raises(RecordDamagedError, match="'else': no key of the changelog"):
        Changelog({"else": msgspec.msgpack.encode({"tick": 1})})


# --- imports: as many as there may be, over more partitions than anybody has ---


def test_the_largest_imports_are_remembered_in_parts() -> None:
    taken: Imports = [
        [ImportCount(f"{number:04}".ljust(128, "x"), 200, 120_000 + partition)
         for number in range(IMPORTS_MAX)]
        for partition in range(128)
    ]  # fmt: skip
    taken[7] = None
    value = encode_imports(taken)
    stored = keys_of(IMPORTS, 5, value, RECORD_BYTES_MAX // 4)

    assert len(value) < RECORD_BYTES_MAX
    assert len(stored) > 1
    progress = ProgressRecord("l", 9, Times(0, 0, 0), 0, Settings(), [], [], imports_tick=5)
    assert kept_imports(Changelog(stored), progress) == taken
    del stored[min(stored)]
    with pytest.raises(RecordDamagedError, match="imports: parts of its record are missing"):
        kept_imports(Changelog(stored), progress)


def test_a_merger_with_the_most_imports_remembers_its_progress() -> None:
    """Per partition they did not fit into the record of the progress, and merge stood still."""
    ids = [f"files-{number:016x}" for number in range(IMPORTS_MAX)]
    log: list[Write] = []
    merger = Merger(64)
    for partition in range(64):
        taken = [ImportCount(one, 200, 120_000) for one in ids]
        if merger.take(partition, make_partial(partition, 1, imports=taken)):
            log += merger.records().items()

    loaded = Merger.load(compacted(log), 64)
    ticks = [
        tick
        for partition in range(64)
        for tick in loaded.take(64 + partition, make_partial(partition, 2))
    ]

    [ledger] = [tick.ledger for tick in ticks]
    assert ledger["imports"] == {one: {"parts": 64 * 200, "rows": 64 * 120_000} for one in ids}
    kinds = [Key.decode(key).name.kind for key, value in loaded.records().items() if value]
    assert kinds == ["progress"], "written only when something was taken"


def test_imports_are_as_of_the_progress_wherever_a_crash_cuts_the_writes() -> None:
    stream = [
        make_partial(partition, tick, imports=[ImportCount("spend", tick, 10 * tick)])
        if (tick + partition) % 3 == 0
        else make_partial(partition, tick)
        for tick in range(1, 12)
        for partition in (0, 1)
    ]
    log: list[Write] = []
    undisturbed = drive(Merger(2), stream, log)
    expected = {tick.tick: tick.ledger for tick in undisturbed}

    for cut in range(len(log) + 1):
        after = log[:cut]
        for tick in drive(Merger.load(compacted(after), 2), stream, after):
            assert tick.ledger == expected[tick.tick]
        late = after + log[max(0, cut - 5) : cut + 5]
        loaded = Merger.load(compacted(late), 2)
        for tick in drive(loaded, [*stream, make_partial(0, 12), make_partial(1, 12)], late):
            assert tick.ledger["imports"] == expected[min(tick.tick, 11)]["imports"]


# --- keys without a tick, of before ---


def test_what_was_remembered_without_ticks_in_its_keys_is_gone_on_with_and_then_deleted() -> None:
    stream, log = stream_of_sizes(), list[Write]()
    undisturbed = identities(drive(Merger(2, TIGHT), stream, log))
    for until in range(2, len(stream), 2):
        before: list[Write] = []
        drive(Merger(2, TIGHT), stream[:until], before)
        older = as_before_ticks_were_in_keys(
            latest_of(before), bytes_max=2_900, slot=until // 2 % 2
        )
        assert not any(key.startswith("at/") for key in older)
        after: list[Write] = list(older.items())

        merger = Merger.load(compacted(after), 2, TIGHT)
        assert merger.next_offset == until
        repeated = identities(drive(merger, stream, after))

        assert repeated == {
            place: undisturbed[place] for place in undisturbed if place[1] > until // 2
        }
        assert compacted([*after, *merger.records().items()]).keys().isdisjoint(older)
        # A process of before that thaws writes under its own keys: nothing is taken back.
        again = Merger.load(compacted([*after, *older.items()]), 2, TIGHT)
        assert again.tick == merger.tick
        assert identities(drive(again, stream, after)) == {}


def latest_of(writes: list[Write]) -> dict[str, bytes]:
    """Return the latest record of everything, all of them whole."""
    held = compacted(writes)
    ticks: dict[Name, int] = {}
    for key in map(Key.decode, held):
        ticks[key.name] = max(key.tick, ticks.get(key.name, 0))
    return {key: held[key] for key in held if Key.decode(key).tick == ticks[Key.decode(key).name]}


# --- the same through the merger ---

LATENCY = Metric("latency", "quantile", "load", window_ms=3_600_000, quantile=0.9, of="units")
TIGHT = Limits(record_bytes=3_000)


def sums_with_buckets(experiment_id: str, count: int, units: int) -> ExperimentSums:
    """Return sums of two metrics, the second with so many buckets filled in both arms."""
    sums = make_sums(experiment_id, *[[rate(units, units // 2), rate(units, units // 3)]] * 2)
    histogram = histogram_to_bytes(np.full((count, 1), 1 + units % 100, np.int64), 500)
    histograms = [[], [histogram, histogram]]
    return msgspec.structs.replace(sums, matured_histograms=histograms, open_histograms=histograms)


def stream_of_sizes() -> list[Partial]:
    """Return partials of two partitions and two experiments; sizes grow and shrink."""
    buckets = [1, 300, 20, 500, 500, 1, 700, 2]
    definitions = [make_definition(one, metrics=[CONVERSION, LATENCY]) for one in ("one", "three")]
    stream = []
    for tick, count in enumerate(buckets, 1):
        for partition in (0, 1):
            first = tick == 1 and partition == 0
            changes = [DefinitionChange(one) for one in definitions] if first else []
            sums = [
                sums_with_buckets("one", count, 100 * tick),
                sums_with_buckets("three", buckets[-tick], 90 * tick + partition),
            ]
            stream.append(make_partial(partition, tick, *sums, changes=changes))
    return stream


def identities(ticks: list[MergedTick]) -> dict[tuple[str, int], set[str]]:
    found: dict[tuple[str, int], set[str]] = {}
    for tick in ticks:
        for experiment_id, look in tick.looks:
            found.setdefault((experiment_id, tick.tick), set()).add(look["look"]["sha256"])
    return found


def drive(merger: Merger, stream: list[Partial], log: list[Write]) -> list[MergedTick]:
    """Take the rest of a stream in; ``log`` grows by what is remembered after every tick."""
    ticks = []
    for offset in range(merger.next_offset, len(stream)):
        merged = merger.take(offset, stream[offset])
        ticks += merged
        if merged:
            log += merger.records().items()
    return ticks


def test_looks_are_the_same_wherever_a_crash_cuts_the_writes() -> None:
    stream, log = stream_of_sizes(), list[Write]()
    undisturbed = drive(Merger(2, TIGHT), stream, log)
    counts = [Key.decode(key).part_count for key, _ in log if key.startswith("at/experiment/")]
    assert sum(count > 1 for count in counts) > 20
    assert counts.count(1) > 2
    assert max(len(value) for _, value in log if value) <= 3_000
    end = Merger.load(dict(log), 2, TIGHT)

    for cut in range(len(log) + 1):
        after = log[:cut]
        merger = Merger.load(dict(after), 2, TIGHT)
        repeated = drive(merger, stream, after)

        expected = identities(undisturbed)
        for place, found in identities(repeated).items():
            assert found == expected[place], (cut, place)
        # What the progress that is left does not cover is published again, nothing is left out.
        left = Merger.load(dict(log[:cut]), 2, TIGHT)
        owed = {place for place in expected if place[1] > _remembered(left, place[0])}
        assert set(identities(repeated)) == owed
        for experiment_id, experiment in end.experiments.items():
            assert merger.experiments[experiment_id].to_record() == experiment.to_record()
        again = Merger.load(dict(after), 2, TIGHT)
        assert {one: each.to_record() for one, each in again.experiments.items()} == {
            one: each.to_record() for one, each in end.experiments.items()
        }


def _remembered(merger: Merger, experiment_id: str) -> int:
    experiment = merger.experiments.get(experiment_id)
    return 0 if experiment is None else experiment.tick


# --- at the size of a real one ---

SLOWEST = Metric(
    "slowest", "quantile", "load", window_ms=3_600_000, precision=6, quantile=0.9, of="events"
)
PARTITIONS = 8


def shards_of_events(rng: np.random.Generator, events: int) -> bytes:
    """Return the histogram of lognormal values around 100, in 64 shards."""
    values = np.rint(np.exp(rng.standard_normal(events)) * 100 * 10**6).astype(np.int64)
    buckets = np.searchsorted(LOWER_EDGES, values, side="right") - 1 - BUCKET_MAX
    first = int(buckets.min())
    counts = np.zeros((int(buckets.max()) - first + 1, 64), np.int64)
    np.add.at(counts, (buckets - first, rng.integers(0, 64, events)), 1)
    return histogram_to_bytes(counts, first)


def large_sums(seed: int, units: int) -> ExperimentSums:
    rng = np.random.default_rng(seed)
    sums = make_sums("x", *[[rate(units, units // 2), rate(units, units // 3)]] * 2)
    histograms = [[], [shards_of_events(rng, 100_000) for _ in range(2)]]
    return msgspec.structs.replace(sums, matured_histograms=histograms, open_histograms=histograms)


def messages_of(partition: int, tick: int, sums: list[ExperimentSums]) -> list[bytes]:
    """Return a report as the engine sends it: in parts, and what is large in pieces."""
    first = tick == 1 and partition == 0
    definition = make_definition("x", metrics=[CONVERSION, SLOWEST])
    changes = [DefinitionChange(definition)] if first else []
    parts = in_parts(sums, MESSAGE_BYTES_MAX // 2)
    return [
        encode_partial(
            msgspec.structs.replace(
                make_partial(
                    partition, tick, *whole, changes=changes if at == 0 else [],
                    part=at, parts=len(parts),
                ),
                pieces=pieces,
            )
        )
        for at, (whole, pieces) in enumerate(parts)
    ]  # fmt: skip


def test_an_experiment_of_a_megabyte_is_looked_at_remembered_and_gone_on_with() -> None:
    stream = [
        decode_partial(message)
        for tick in (1, 2)
        for partition in range(PARTITIONS)
        for message in messages_of(
            partition, tick, [large_sums(partition, 50_000)] if partition == 0 or tick == 1 else []
        )
    ]
    log: list[Write] = []

    ticks = drive(Merger(PARTITIONS), stream, log)

    assert [len(tick.looks) for tick in ticks] == [1, 0]
    assert not [tick.skipped for tick in ticks if tick.skipped]
    written = dict(log)
    parts = [value for key, value in written.items() if key.startswith("at/experiment/") and value]
    assert sum(map(len, parts)) > RECORD_BYTES_MAX >= max(map(len, parts))
    loaded = Merger.load(written, PARTITIONS)
    more = messages_of(0, 3, [large_sums(99, 60_000)])
    stream += [decode_partial(one) for one in more]
    stream += [make_partial(partition, 3) for partition in range(1, PARTITIONS)]
    [[look]] = [tick.looks for tick in drive(loaded, stream, log)]
    [*_, last] = drive(Merger(PARTITIONS), stream, [])
    assert [look] == last.looks
    assert len(msgspec.json.encode(look[1])) > 500_000
    [kept] = kept_experiments(Changelog(compacted(log)), 3)
    assert kept.tick == 3
