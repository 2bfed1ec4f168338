"""Sums are exact integers on the way into a partial and out of it."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.control import Settings, Times
from schemas.partials import (
    STATE_VERSION,
    SUM_WORDS,
    ExperimentSums,
    Ledger,
    Partial,
    Sums,
    decode_partial,
    encode_partial,
    sums_from_bytes,
    sums_to_bytes,
)

WORD = 2**64
LIMBS_MAX = 2**190
sums = st.builds(
    Sums,
    st.integers(0, WORD - 1),
    st.integers(-LIMBS_MAX, LIMBS_MAX),
    st.integers(-LIMBS_MAX, LIMBS_MAX),
)
variants = st.lists(sums, max_size=4)


def words_of(one: Sums) -> list[int]:
    """Return the words of sums by arithmetic: two's complement in 192 bits, low limb first."""
    words = [one.unit_count]
    for value in (one.sum_q, one.sum_squares_q):
        rest = value % WORD**3
        words += [rest % WORD, rest // WORD % WORD, rest // WORD**2]
    return words


@given(variants)
def test_sums_come_back_from_their_bytes(variants: list[Sums]) -> None:
    words = np.array([words_of(one) for one in variants], np.uint64).reshape(-1, SUM_WORDS)

    assert sums_from_bytes(sums_to_bytes(words)) == variants


@given(variants)
def test_sums_come_back_from_a_part_of_a_wider_array(variants: list[Sums]) -> None:
    """The engine keeps two bases side by side, and sends one of them."""
    wide = np.full((len(variants), 2 * SUM_WORDS), 7, np.uint64)
    for row, one in enumerate(variants):
        wide[row, SUM_WORDS:] = words_of(one)

    assert sums_from_bytes(sums_to_bytes(wide[:, SUM_WORDS:])) == variants


@pytest.mark.parametrize("value", [0, 1, -1, 2**63, -(2**63), 2**64, -(2**64), 2**190, -(2**190)])
def test_both_sums_keep_their_sign_at_every_limb(value: int) -> None:
    one = Sums(1, value, -value)

    assert sums_from_bytes(sums_to_bytes(np.array([words_of(one)], np.uint64))) == [one]


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


def test_a_partial_comes_back_from_its_message() -> None:
    experiment = ExperimentSums("x", [1, 2], 3, [b"m"], [b"o"], [4], [5, 6, 7, 8], final=True)
    partial = Partial(
        log_id="log",
        state_version=STATE_VERSION,
        partition=1,
        tick=2,
        times=Times(3, 2, 1),
        next_offset=4,
        writer="w",
        part=0,
        parts=1,
        ledger=Ledger(1, 1),
        changes=[],
        settings=Settings(sources=["litmus.metrics/0"]),
        experiments=[experiment],
    )

    assert decode_partial(encode_partial(partial)) == partial


@given(st.binary(max_size=60))
def test_what_is_no_partial_is_refused(value: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
        decode_partial(value)
