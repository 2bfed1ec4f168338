"""Sums are exact integers on the way into a partial and out of it."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.control import Settings, Times
from schemas.partials import (
    PIECE_BYTES_MAX,
    STATE_VERSION,
    ExperimentSums,
    Ledger,
    Partial,
    Piece,
    SegmentSums,
    Sums,
    decode_partial,
    encode_partial,
    experiments_of,
    histogram_from_bytes,
    histogram_to_bytes,
    in_parts,
    integers_from_bytes,
    integers_to_bytes,
    sums_from_bytes,
    sums_to_bytes,
)
from schemas.topics import MESSAGE_BYTES_MAX

LIMBS_MAX = 2**190
integers = st.integers(-LIMBS_MAX, LIMBS_MAX)
sums = st.builds(Sums, st.integers(0, 2**63 - 1), integers, integers)
EDGES = [0, 1, -1, 127, 128, -128, -129, 2**63, -(2**63), 2**64, -(2**64), 2**190, -(2**190)]


@given(st.lists(sums, max_size=4))
def test_sums_come_back_from_their_bytes(variants: list[Sums]) -> None:
    assert sums_from_bytes(sums_to_bytes(variants)) == variants


@pytest.mark.parametrize("value", EDGES)
def test_both_sums_keep_their_sign_whatever_their_length(value: int) -> None:
    assert sums_from_bytes(sums_to_bytes([Sums(1, value, -value)])) == [Sums(1, value, -value)]


@given(st.lists(integers, max_size=10))
def test_integers_take_no_byte_more_than_they_need(values: list[int]) -> None:
    written = integers_to_bytes(values)

    lengths = [next(n for n in range(25) if fits(one, n)) for one in values]
    assert integers_from_bytes(written) == values
    assert len(written) == len(values) + sum(lengths)


def fits(value: int, length: int) -> bool:
    """Return whether an integer fits so many bytes in two's complement."""
    half = 2 ** (8 * length) // 2
    return value == 0 if length == 0 else -half <= value < half


histograms = st.integers(0, 3).flatmap(
    lambda n: st.sampled_from([1, 64]).flatmap(
        lambda width: st.dictionaries(
            st.tuples(st.integers(0, 400), st.integers(0, width - 1)),
            st.integers(1, [3, 300, 70_000, 2**40][n]),
            max_size=30,
        ).map(lambda counts: (width, counts))
    )
)


@given(histograms, st.integers(-3_963, 3_500))
def test_a_histogram_comes_back_from_its_bytes(
    histogram: tuple[int, dict[tuple[int, int], int]], first: int
) -> None:
    width, counts = histogram
    dense = np.zeros((401, width), np.int64)
    for (bucket, shard), count in counts.items():
        dense[bucket, shard] = count

    found = histogram_from_bytes(histogram_to_bytes(dense, first))

    rows = zip(found.buckets.tolist(), found.shards.tolist(), found.counts.tolist(), strict=True)
    assert found.width == width
    assert {(bucket - first, shard): count for bucket, shard, count in rows} == counts


def test_equal_histograms_are_equal_bytes_wherever_they_begin() -> None:
    counts = np.zeros((10, 64), np.int64)
    counts[4, 7] = 3

    assert histogram_to_bytes(counts, 100) == histogram_to_bytes(counts[2:], 102)


@given(sums, sums)
def test_sums_over_two_sets_of_units_add_up(one: Sums, other: Sums) -> None:
    assert one.plus(other) == Sums(
        one.unit_count + other.unit_count,
        one.sum_q + other.sum_q,
        one.sum_squares_q + other.sum_squares_q,
    )
    assert one.plus(Sums()) == one


counts = st.integers(0, 5)


@given(counts, counts, counts, counts, counts, counts)
def test_a_ledger_is_balanced_when_every_row_is_accounted_for(
    received: int, fresh: int, duplicate: int, conflict: int, stale: int, refused: int
) -> None:
    ledger = Ledger(received, fresh, duplicate, conflict, stale, refused)

    accounted = fresh + duplicate + conflict + stale + refused
    assert ledger.is_balanced() == (received == accounted)


def partial(
    experiments: list[ExperimentSums], pieces: list[Piece], part: int = 0, parts: int = 1
) -> Partial:
    return Partial(
        log_id="log",
        state_version=STATE_VERSION,
        partition=1,
        tick=2,
        times=Times(3, 2, 1),
        next_offset=4,
        writer="w",
        part=part,
        parts=parts,
        ledger=Ledger(1, 1),
        changes=[],
        settings=Settings(sources=["litmus.metrics/0"]),
        experiments=experiments,
        pieces=pieces,
    )


def experiment(name: str, size: int) -> ExperimentSums:
    segment = SegmentSums(3, [1], 0, [0], [b"m"], [b"o"], [b""], [b""], [b""], [b"c"], [], [[b"h"]])
    return ExperimentSums(
        name,
        [1, 2],
        3,
        [b"m" * size],
        [b"o"],
        [4],
        [5, 6, 7, 8],
        final=True,
        segments=[segment],
    )


def test_a_partial_comes_back_from_its_message() -> None:
    one = partial([experiment("x", 1)], [])

    assert decode_partial(encode_partial(one)) == one


@given(st.lists(st.sampled_from([1, 50_000, 199_000, 450_000, 900_000]), max_size=6))
def test_sums_of_any_size_come_back_from_parts_that_fit_a_message(sizes: list[int]) -> None:
    reported = [experiment(f"x{number}", size) for number, size in enumerate(sizes)]

    parts = in_parts(reported, 256_000)

    messages = [
        encode_partial(partial(*part, number, len(parts))) for number, part in enumerate(parts)
    ]
    assert max(map(len, messages)) < 480_000
    found = experiments_of(map(decode_partial, messages))
    assert sorted(found, key=lambda one: one.experiment_id) == reported


@pytest.mark.parametrize("size", [-300, 0, 300, PIECE_BYTES_MAX, 9 * PIECE_BYTES_MAX + 17])
def test_sums_pass_in_pieces_however_large_they_are(size: int) -> None:
    """Around the size of a piece, and eight million bytes beyond what a message takes."""
    reported = [experiment("x", max(1, PIECE_BYTES_MAX + size)), experiment("y", 8_000_000)]

    parts = in_parts(reported, MESSAGE_BYTES_MAX // 2)

    messages = [
        encode_partial(partial(*part, number, len(parts))) for number, part in enumerate(parts)
    ]
    assert max(map(len, messages)) <= MESSAGE_BYTES_MAX
    found = experiments_of(map(decode_partial, messages))
    assert sorted(found, key=lambda one: one.experiment_id) == reported


def test_a_report_without_its_last_part_is_refused() -> None:
    parts = in_parts([experiment("x", 450_000)], 256_000)

    with pytest.raises(ValueError, match="a part is missing"):
        experiments_of(partial(*part, number, len(parts)) for number, part in enumerate(parts[:-1]))


@given(st.binary(max_size=60))
def test_what_is_no_partial_is_refused(value: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
        decode_partial(value)
