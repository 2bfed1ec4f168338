"""The compiled hashes are those of other people's programs, for any text and any slice.

Kafka's default partitioner as aiokafka has it, MurmurHash3 as mmh3 has it.
"""

from itertools import pairwise

import mmh3
import numpy as np
import pyarrow as pa
import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from schemas.hashing import (
    buffers_of,
    hash128,
    partitions_of,
    stable_hash64,
    unit_hashes,
    unit_key,
)
from schemas.identifiers import is_name

texts = st.lists(st.text(max_size=80), max_size=12)
slices = st.tuples(st.integers(0, 12), st.integers(0, 12))


def as_column(values: list[str]) -> pa.StringArray:
    return pa.array(values, pa.string())


@given(texts, st.integers(1, 100))
def test_a_key_goes_where_the_default_partitioner_sends_it(
    keys: list[str], partition_count: int
) -> None:
    partitions = list(range(partition_count))
    partitioner = DefaultPartitioner()
    expected = [partitioner(key.encode(), partitions, partitions) for key in keys]

    assert partitions_of(as_column(keys), partition_count).tolist() == expected


@pytest.mark.parametrize("length", range(20))
def test_a_key_of_any_length_goes_where_the_default_partitioner_sends_it(length: int) -> None:
    """Four bytes are taken at a time; none to three are left over, with bytes above 127 too."""
    partitions = list(range(97))
    for character in "aÿ\x00":
        key = character * length
        expected = DefaultPartitioner()(key.encode(), partitions, partitions)

        assert partitions_of(as_column([key]), 97).tolist() == [expected]


@given(texts)
def test_the_unit_hash_is_murmur3_with_seed_0(keys: list[str]) -> None:
    high, low = unit_hashes(as_column(keys))

    found = list(zip(low.tolist(), high.tolist(), strict=True))
    assert found == [mmh3.hash64(key.encode(), seed=0, signed=False) for key in keys]


@given(st.text(max_size=60), st.integers(0, 2**32 - 1))
def test_equal_halves_of_a_seed_are_the_seed_of_murmur3(text: str, seed: int) -> None:
    halves = np.array([seed], np.uint64)

    high, low = hash128(as_column([text]), halves, halves)

    assert (int(low[0]), int(high[0])) == mmh3.hash64(text.encode(), seed=seed, signed=False)


@pytest.mark.parametrize("length", range(50))
def test_the_hash_of_any_length_is_murmur3s(length: int) -> None:
    """Sixteen bytes are taken at a time; none to fifteen are left over."""
    text = "".join(chr(1 + position * 7 % 127) for position in range(length))

    assert stable_hash64(text) == mmh3.hash64(text.encode(), signed=False)[0]


@given(texts, slices)
def test_a_slice_hashes_like_a_copy_of_it(keys: list[str], cut: tuple[int, int]) -> None:
    first, last = cut
    part, copy = as_column(keys)[first:last], as_column(keys[first:last])

    assert partitions_of(part, 8).tolist() == partitions_of(copy, 8).tolist()
    assert [half.tolist() for half in unit_hashes(part)] == [
        half.tolist() for half in unit_hashes(copy)
    ]


@given(texts, slices)
def test_buffers_hold_the_texts_in_utf_8(keys: list[str], cut: tuple[int, int]) -> None:
    first, last = cut
    octets, offsets = buffers_of(as_column(keys)[first:last])

    found = [octets[start:end].tobytes().decode() for start, end in pairwise(offsets)]
    assert found == keys[first:last]


def test_a_column_of_empty_texts_has_a_hash_too() -> None:
    assert partitions_of(as_column(["", ""]), 5).tolist() == [0x106E08D9 % 5] * 2
    assert stable_hash64("") == 0


names = st.text("abz./:-", min_size=1, max_size=4)


@given(names.filter(is_name), names, names.filter(is_name), names)
def test_two_units_never_share_a_key(a_type: str, a_id: str, b_type: str, b_id: str) -> None:
    same = (a_type, a_id) == (b_type, b_id)

    assert (unit_key(a_type, a_id) == unit_key(b_type, b_id)) == same
