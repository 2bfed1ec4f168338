"""Sums in 192 bits are Python's integers, whatever is added and taken away."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.partials import integers_from_bytes, integers_to_bytes
from stream_processors.accumulate.kernels.limbs import add_four, add_product, add_value
from stream_processors.accumulate.kernels.writing_sums import write_sums
from stream_processors.accumulate.layout import joint_words

EXTREME = 2**62
WORDS = joint_words(4)
totals = st.one_of(
    st.integers(-EXTREME, EXTREME),
    st.integers(-3, 3),
    st.sampled_from([EXTREME, -EXTREME, 2**32, 2**32 - 1, -(2**32), 2**31, 2**63 - 1, 1 - 2**63]),
)
units = st.tuples(totals, totals, totals, totals)
changes = st.lists(st.tuples(units, st.sampled_from([1, -1])), max_size=20)


def apply(changes: list[tuple[tuple[int, ...], int]]) -> np.ndarray:
    """Return three blocks of words after the changes were made to the one in the middle."""
    words = np.zeros(3 * WORDS, np.uint64)
    for unit, sign in changes:
        add_four(words, WORDS, *unit, sign)
    return words


def read(words: np.ndarray) -> list[int]:
    """Return the integers of the block in the middle, as a partial carries them."""
    out = np.empty(25 * WORDS, np.uint8)
    length = write_sums(words, WORDS, WORDS, 1, 14, out)
    return integers_from_bytes(out[:length].tobytes())


def summed(changes: list[tuple[tuple[int, ...], int]]) -> list[int]:
    """Return count, sums and products in plain Python."""
    count = sum(sign for _, sign in changes)
    sums = [sum(sign * unit[i] for unit, sign in changes) for i in range(4)]
    products = [
        sum(sign * unit[i] * unit[j] for unit, sign in changes)
        for i in range(4)
        for j in range(i, 4)
    ]
    return [count, *sums, *products]


@given(changes)
def test_any_sequence_of_units_that_come_and_go_sums_up_exactly(
    changes: list[tuple[tuple[int, ...], int]],
) -> None:
    words = apply(changes)

    assert read(words) == summed(changes)
    words[WORDS : 2 * WORDS] = 0
    assert not words.any()


@given(st.lists(units, max_size=10), st.randoms(use_true_random=False))
def test_units_that_all_leave_again_leave_nothing(values, random) -> None:  # noqa: ANN001
    leaving = values.copy()
    random.shuffle(leaving)

    words = apply([(value, 1) for value in values] + [(value, -1) for value in leaving])

    assert not words.any()


@pytest.mark.parametrize("value", [EXTREME, -EXTREME, 2**63 - 1, 1 - 2**63])
def test_a_thousand_extreme_units_do_not_overflow(value: int) -> None:
    unit = (value, 0, -value, 1)

    assert read(apply([(unit, 1)] * 1_000)) == summed([(unit, 1)] * 1_000)


@given(totals, totals, st.sampled_from([1, -1]))
def test_an_integer_is_written_as_the_schema_writes_it(one: int, other: int, sign: int) -> None:
    words, out = np.zeros(7, np.uint64), np.empty(75, np.uint8)
    add_value(words, 1, one, sign)
    add_product(words, 4, one, other, sign)

    length = write_sums(words, 0, 7, 1, 2, out)

    expected = integers_to_bytes([0, sign * one, sign * one * other])
    assert out[:length].tobytes() == expected
