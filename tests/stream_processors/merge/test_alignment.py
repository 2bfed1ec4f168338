"""A partition may be away for ever: what waits for it is limited, and no tick is another one."""

import random
import tracemalloc
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.partials import (
    ExperimentSums,
    ImportCount,
    Partial,
    SegmentSums,
    decode_partial,
    encode_partial,
)
from stream_processors.merge.alignment import BEHIND_TICKS, REPORT_BYTES_MIN, Alignment
from stream_processors.merge.assembly import PartitionReports, Report
from stream_processors.merge.merging import Limits, MergedTick, Merger
from tests.stream_processors.merge.builders import make_partial, make_sums, rate
from tests.stream_processors.merge.streams import make_world, rough_stream

SIZE = REPORT_BYTES_MIN
SEEDS = st.integers(0, 2**32 - 1)


def align(partitions: int, bytes_max: int, *, tick: int = 0, offset: int = 0) -> Alignment:
    return Alignment(partitions, tick=tick, offset=offset, bytes_max=bytes_max)


def bursts(rng: random.Random, partitions: int, ticks: int) -> list[Partial]:
    """Return a log in which partitions stand still and catch up, in reports of up to two parts."""
    log: list[Partial] = []
    reported = [0] * partitions
    while min(reported) < ticks:
        partition = rng.randrange(partitions)
        for _ in range(rng.choice([1, 1, 2, ticks])):
            if reported[partition] == ticks:
                break
            reported[partition] += 1
            parts = rng.randint(1, 2)
            log += [
                make_partial(partition, reported[partition], part=part, parts=parts)
                for part in range(parts)
            ]
    return log


def merged_ticks(log: list[Partial], alignment: Alignment, bytes_max: int) -> list[list[Report]]:
    """Return what is merged of a log that is read where it is asked for, to its end."""
    found: list[list[Report]] = []
    while alignment.next_offset < len(log):
        offset = alignment.next_offset
        reports = alignment.take(offset, log[offset], SIZE)
        assert alignment.waiting().bytes <= bytes_max
        if reports is not None:
            found.append(reports)
    return found


@given(SEEDS)
@settings(max_examples=80, deadline=None)
def test_whatever_waits_is_limited_and_ticks_are_those_without_a_limit(seed: int) -> None:
    rng = random.Random(seed)
    partitions, ticks = rng.randint(1, 5), rng.randint(1, 25)
    log = bursts(rng, partitions, ticks)
    room = rng.randint(1, 6) * SIZE * partitions
    # Beside the limit one report of each partition is held, of two parts at most.
    bytes_max = room + partitions * 2 * SIZE

    unlimited = merged_ticks(log, align(partitions, 2**60), 2**60)
    limited = merged_ticks(log, align(partitions, room), bytes_max)

    assert [reports[0].tick for reports in limited] == list(range(1, ticks + 1))
    assert limited == unlimited


@given(SEEDS)
@settings(max_examples=80, deadline=None)
def test_who_starts_again_where_it_says_leaves_no_tick_out(seed: int) -> None:
    """Restarts at any message, also while what was left to the topic is read again."""
    rng = random.Random(seed)
    partitions, ticks = rng.randint(2, 4), rng.randint(1, 20)
    log = bursts(rng, partitions, ticks)
    room = rng.randint(1, 4) * SIZE * partitions
    alignment = align(partitions, room)
    found: list[list[Report]] = []
    deaths = 5
    while alignment.next_offset < len(log):
        offset = alignment.next_offset
        reports = alignment.take(offset, log[offset], SIZE)
        if reports is not None:
            found.append(reports)
        if deaths and rng.random() < 0.1:
            deaths -= 1
            tick = found[-1][0].tick if found else 0
            alignment = align(partitions, room, tick=tick, offset=alignment.resume_offset())

    assert found == merged_ticks(log, align(partitions, 2**60), 2**60)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_looks_are_the_same_with_a_limit_as_without(seed: int) -> None:
    """Among writers that die half-way, are replaced, and come back."""
    rng = random.Random(seed)
    world = make_world(rng)
    stream = rough_stream(world, rng)

    def looks(limits: Limits) -> list[dict[str, object]]:
        merger, found = Merger(world.partition_count, limits), list[MergedTick]()
        while merger.next_offset < len(stream):
            found += merger.take(merger.next_offset, stream[merger.next_offset])
        return [record for tick in found for _, record in tick.looks]

    limited = looks(Limits(waiting_bytes=SIZE * world.partition_count))

    assert limited == looks(Limits())
    assert limited


def test_a_long_absence_is_read_again_in_few_stretches() -> None:
    """Not a tick at a time: each way back costs the broker a seek."""
    ticks, room = 400, 50
    here = [make_partial(0, tick) for tick in range(1, ticks + 1)]
    log = here + [make_partial(1, tick) for tick in range(1, ticks + 1)]
    alignment = align(2, 2 * room * SIZE)
    visited = []
    while alignment.next_offset < len(log):
        visited.append(alignment.next_offset)
        alignment.take(visited[-1], log[visited[-1]], SIZE)

    jumps = sum(after != before + 1 for before, after in pairwise(visited))
    assert jumps <= 2 * ticks // room
    assert len(visited) <= 2 * len(log)
    assert alignment.waiting().bytes == 0


@pytest.mark.parametrize("room", [1, 1_000])
def test_who_is_waited_for_is_named_however_little_of_the_others_is_held(room: int) -> None:
    alignment = align(2, 2 * room * SIZE)
    for offset in range(BEHIND_TICKS + 2):
        alignment.take(offset, make_partial(0, offset + 1), SIZE)

    assert alignment.behind() == [1]
    assert alignment.is_full() is (room == 1)
    assert alignment.waiting().ticks == (0, BEHIND_TICKS + 2)


def test_a_report_larger_than_the_limit_is_merged_all_the_same() -> None:
    log = [make_partial(partition, tick) for partition in (0, 1) for tick in (1, 2, 3)]
    alignment = align(2, 1)

    assert [one[0].tick for one in merged_ticks(log, alignment, 4 * SIZE)] == [1, 2, 3]


def test_a_partition_that_frees_its_place_is_taken_from_its_first_part_on() -> None:
    """The limit falls between two parts of a report: neither is taken twice, nor left out."""
    halves = [make_partial(0, tick, part=part, parts=2) for tick in (1, 2, 3) for part in (0, 1)]
    log = halves + [make_partial(1, tick) for tick in (1, 2, 3)]
    alignment = align(2, 6 * SIZE)

    found = merged_ticks(log, alignment, 2**60)

    assert [[report.size for report in one] for one in found] == [[2 * SIZE, SIZE]] * 3


def test_reports_that_wait_take_little_more_memory_than_their_messages() -> None:
    """Also those of many segments; each is handed over as it was sent."""
    log = [encode_partial(make_partial(0, tick, segmented(tick))) for tick in range(1, 101)]
    reports = PartitionReports(0)

    tracemalloc.start()
    for offset, value in enumerate(log):
        reports.take(offset, decode_partial(value), len(value))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert reports.waiting_bytes == sum(map(len, log)) > 100 * SIZE
    assert held < 2 * reports.waiting_bytes
    assert [reports.pop().experiments for _ in log] == [[segmented(tick)] for tick in range(1, 101)]
    assert not reports.complete
    assert reports.waiting_bytes == 0


def test_counts_of_imports_wait_packed_and_are_handed_over_as_they_were_sent() -> None:
    """Also None, which says that they are those of the report before."""
    imports = {
        tick: [ImportCount(f"import-{tick}-{one}", one, 7 * one) for one in range(500)]
        if tick % 4
        else None
        for tick in range(1, 101)
    }
    log = [encode_partial(make_partial(0, tick, imports=imports[tick])) for tick in imports]
    reports = PartitionReports(0)

    tracemalloc.start()
    for offset, value in enumerate(log):
        reports.take(offset, decode_partial(value), len(value))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < 2 * reports.waiting_bytes
    assert [reports.pop().imports for _ in log] == list(imports.values())


def segmented(tick: int) -> ExperimentSums:
    """Return sums of 40 segments, as they are where a metric has none of what may be asked."""
    sums = make_sums("checkout-color", [rate(300 * tick, tick), rate(301 * tick, tick)])
    nothing, none = [b""], list[list[bytes]]([[]])
    segments = [
        SegmentSums(
            group=group,
            units=sums.units,
            crossovers=0,
            overflowed=[0],
            matured=sums.matured,
            open=sums.open,
            matured_covariates=nothing,
            open_covariates=nothing,
            matured_capped=nothing,
            open_capped=nothing,
            matured_histograms=none,
            open_histograms=none,
        )
        for group in range(1, 41)
    ]
    return msgspec.structs.replace(sums, segments=segments)
