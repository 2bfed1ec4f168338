"""Sums in 192 bits are Python's integers, whatever is added and taken away."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.partials import Sums, sums_from_bytes, sums_to_bytes
from stream_processors.accumulate.kernels.limbs import MATURED_WORDS, OPEN_WORDS, WORDS, add_unit

EXTREME = 2**62
totals = st.one_of(
    st.integers(-EXTREME, EXTREME),
    st.integers(-3, 3),
    st.sampled_from([EXTREME, -EXTREME, 2**32, 2**32 - 1, -(2**32), 2**31, 2**63 - 1, 1 - 2**63]),
)
changes = st.lists(st.tuples(totals, st.sampled_from([1, -1])), max_size=40)


def apply(changes: list[tuple[int, int]], *, at: int = MATURED_WORDS) -> np.ndarray:
    """Return three rows of words after the changes were made to the one in the middle."""
    words = np.zeros((3, 2 * WORDS), np.uint64)
    for value, sign in changes:
        add_unit(words, 1, at, value, sign)
    return words


def read(words: np.ndarray, at: int = MATURED_WORDS) -> Sums:
    return sums_from_bytes(sums_to_bytes(words[1:2, at : at + WORDS]))[0]


@given(changes)
def test_any_sequence_of_units_that_come_and_go_sums_up_exactly(
    changes: list[tuple[int, int]],
) -> None:
    count = sum(sign for _, sign in changes)

    assert read(apply(changes)) == Sums(
        count % 2**64,
        sum(sign * value for value, sign in changes),
        sum(sign * value * value for value, sign in changes),
    )


@given(st.lists(totals, max_size=20), st.randoms(use_true_random=False))
def test_units_that_all_leave_again_leave_nothing(values: list[int], random) -> None:  # noqa: ANN001
    leaving = values.copy()
    random.shuffle(leaving)

    words = apply([(value, 1) for value in values] + [(value, -1) for value in leaving])

    assert not words.any()


@pytest.mark.parametrize("at", [OPEN_WORDS, MATURED_WORDS])
def test_a_basis_and_a_row_leave_their_neighbours_alone(at: int) -> None:
    words = apply([(-EXTREME, 1), (EXTREME, -1)], at=at)

    words[1, at : at + WORDS] = 0
    assert not words.any()


@pytest.mark.parametrize("value", [EXTREME, -EXTREME, 2**63 - 1, 1 - 2**63])
def test_a_thousand_extreme_units_do_not_overflow(value: int) -> None:
    words = apply([(value, 1)] * 1_000)

    assert read(words) == Sums(1_000, 1_000 * value, 1_000 * value**2)
