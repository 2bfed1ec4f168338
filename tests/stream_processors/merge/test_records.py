"""An experiment that is too large for one record is remembered in parts, wherever a crash cuts.

The changelog here is every write in order; a crash leaves a prefix of it. Whatever the prefix, the
newest whole record of each experiment is at least as new as the progress that is left.
"""

import hashlib
import random
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from schemas.control import DefinitionChange
from schemas.definitions import Metric
from schemas.partials import (
    ExperimentSums,
    Partial,
    decode_partial,
    encode_partial,
    histogram_to_bytes,
    in_parts,
)
from schemas.topics import MESSAGE_BYTES_MAX
from stream_processors.merge.merging import Limits, MergedTick, Merger
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.records import (
    PROGRESS_KEY,
    RECORD_BYTES_MAX,
    ExperimentPart,
    ExperimentRecord,
    RecordDamagedError,
    encode_experiment,
    kept_experiments,
    part_key,
)
from stream_processors.stats.buckets import BUCKET_MAX, LOWER_EDGES
from tests.stream_processors.merge.builders import (
    CONVERSION,
    make_definition,
    make_partial,
    make_sums,
    rate,
)

SMALL = 700
SINGLE = len(
    msgspec.msgpack.encode(
        ExperimentRecord(1, make_definition("x"), {}, {}, ExperimentPath(), True, "")
    )
)
SIZES = [0, 900, 5_000, 5_100, 700, 0, 0, 6_500, 100, 2_500, 2_500, 0, 1_300]
"""Bytes beside what a record always has, by tick: alone, in parts, in more and in fewer, alone."""

Write = tuple[str, bytes]


def record(tick: int, size: int, experiment_id: str = "x") -> ExperimentRecord:
    """Return a record whose bytes are others at every tick."""
    rng = random.Random(f"{tick} {experiment_id}")
    sums = make_sums(experiment_id, [rate(tick, 1), rate(tick, 1)])
    sums = msgspec.structs.replace(sums, open=[rng.randbytes(size)])
    return ExperimentRecord(
        tick, make_definition(experiment_id), {0: sums}, {0: 4}, ExperimentPath(), False, "ab"
    )


def writes_of(tick: int, held: int | None) -> list[Write]:
    written, _ = encode_experiment(record(tick, SIZES[tick]), held=held, bytes_max=SINGLE + SMALL)
    return [*written.items(), (PROGRESS_KEY, b"%d" % tick)]


def progress_of(log: list[Write]) -> int:
    return int(dict(log).get(PROGRESS_KEY, b"0"))


def go_on(log: list[Write]) -> Iterator[list[Write]]:
    """Yield what a worker that finds ``log`` makes of it, write by write, to the last tick."""
    log = list(log)
    kept = {one.record.definition.id: one for one in kept_experiments(dict(log), progress_of(log))}
    held = kept["x"].slot if kept else None
    known = kept["x"].record.tick if kept else 0
    for tick in range(progress_of(log) + 1, len(SIZES)):
        writes = writes_of(tick, held)
        if tick <= known:
            writes = writes[-1:]  # its record is newer: replayed, it is not written again
        else:
            _, held = encode_experiment(
                record(tick, SIZES[tick]), held=held, bytes_max=SINGLE + SMALL
            )
        for write in writes:
            log.append(write)
            yield list(log)


def assert_nothing_is_lost(log: list[Write]) -> None:
    progress = progress_of(log)
    found = list(kept_experiments(dict(log), progress))
    assert len(found) == 1 or progress == 0
    for one in found:
        assert one.record.tick >= progress
        assert one.record == record(one.record.tick, SIZES[one.record.tick])


def test_sizes_cross_the_limit_both_ways() -> None:
    counts = [len(writes_of(tick, None)) - 1 for tick in range(len(SIZES))]

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
        while progress_of(log) < len(SIZES) - 1:
            states = list(go_on(log))
            log = states[min(rng.randrange(9), len(states) - 1)]
            assert_nothing_is_lost(log)


def test_the_record_that_is_being_replaced_is_not_written_to() -> None:
    written, slot = encode_experiment(record(9, 4_000), held=0, bytes_max=1_000)
    again, other = encode_experiment(record(10, 4_000), held=slot, bytes_max=1_000)

    assert (slot, other) == (1, 0)
    assert not written.keys() & again.keys()
    assert max(map(len, [*written.values(), *again.values()])) <= 1_000


def test_a_small_record_is_one_and_as_it_always_was() -> None:
    one = record(1, 10)

    written, slot = encode_experiment(one, held=1)

    assert slot is None
    assert written == {"experiment/x": msgspec.msgpack.encode(one)}


def test_parts_are_stored_as_they_were_first_written() -> None:
    whole = msgspec.msgpack.encode(record(9, 4_000))
    half = ExperimentPart(9, 0, 2, hashlib.sha256(whole).digest(), whole[:2_000])
    rest = ExperimentPart(9, 1, 2, hashlib.sha256(whole).digest(), whole[2_000:])
    head = b"\x95\x09%c\x02\xc4\x20" + hashlib.sha256(whole).digest() + b"\xc5"
    stored = {
        "experiment-part/1/0/x": head % 0 + b"\x07\xd0" + whole[:2_000],
        "experiment-part/1/1/x": head % 1 + len(whole[2_000:]).to_bytes(2, "big") + whole[2_000:],
    }

    assert [msgspec.msgpack.encode(one) for one in (half, rest)] == list(stored.values())
    [found] = kept_experiments(stored, 9)
    assert (found.slot, found.record) == (1, record(9, 4_000))


def test_an_experiment_whose_first_record_is_not_whole_is_replayed() -> None:
    written, _ = encode_experiment(record(9, 4_000), held=None, bytes_max=1_000)
    del written[part_key("x", 0, 2)]

    assert list(kept_experiments(written, 8)) == []


def test_a_record_that_the_progress_promises_and_that_is_not_whole_stops_the_worker() -> None:
    written, _ = encode_experiment(record(9, 4_000), held=None, bytes_max=1_000)
    del written[part_key("x", 0, 2)]

    with pytest.raises(RecordDamagedError, match="x: parts of its record are missing"):
        list(kept_experiments(written, 9))


def test_parts_with_other_bytes_stop_the_worker() -> None:
    written, _ = encode_experiment(record(9, 4_000), held=None, bytes_max=1_000)
    key = part_key("x", 0, 2)
    written[key] = written[key][:-1] + bytes([written[key][-1] ^ 1])

    with pytest.raises(RecordDamagedError, match="not what was written"):
        list(kept_experiments(written, 9))


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
    assert sum(key.startswith("experiment-part/") for key, _ in log) > 20
    assert sum(key.startswith("experiment/") for key, _ in log) > 2
    assert max(len(value) for _, value in log) <= 3_000
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
    parts = [value for key, value in written.items() if key.startswith("experiment-part/")]
    assert sum(map(len, parts)) > RECORD_BYTES_MAX >= max(map(len, parts))
    assert "experiment/x" not in written
    loaded = Merger.load(written, PARTITIONS)
    more = messages_of(0, 3, [large_sums(99, 60_000)])
    stream += [decode_partial(one) for one in more]
    stream += [make_partial(partition, 3) for partition in range(1, PARTITIONS)]
    [[look]] = [tick.looks for tick in drive(loaded, stream, log)]
    [*_, last] = drive(Merger(PARTITIONS), stream, [])
    assert [look] == last.looks
    assert len(msgspec.json.encode(look[1])) > 500_000
    # The third record went where the first had been, while the second was whole.
    [kept] = kept_experiments(dict(log), 3)
    assert (kept.record.tick, kept.slot) == (3, 0)
