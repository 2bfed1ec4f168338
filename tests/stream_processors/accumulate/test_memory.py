"""Large arrays take memory as they are written to, and give it back."""

import numpy as np
import psutil

from stream_processors.accumulate import memory
from stream_processors.accumulate.state import empty_state, with_room

MEGABYTE = 1 << 20
WORD = np.dtype("i8")


def resident() -> int:
    return psutil.Process().memory_info().rss


def test_a_reserved_array_takes_memory_only_where_it_is_written() -> None:
    before = resident()

    array = memory.zeros(memory.SMALL_ENTRIES + 1, WORD)
    array[: 8 * MEGABYTE] = 1

    assert len(array) >= memory.RESERVED_ENTRIES
    assert 60 * MEGABYTE < resident() - before < 80 * MEGABYTE


def test_what_is_released_is_given_back_and_the_rest_stays() -> None:
    array = memory.zeros(memory.SMALL_ENTRIES + 1, WORD)
    array[: 8 * MEGABYTE] = 1
    before = resident()

    memory.release(array, MEGABYTE, 8 * MEGABYTE)

    assert before - resident() > 50 * MEGABYTE
    assert (array[:MEGABYTE] == 1).all()


def test_releasing_the_middle_of_a_page_harms_no_neighbour() -> None:
    array = memory.zeros(memory.SMALL_ENTRIES + 1, WORD)
    array[:10_000] = 7

    memory.release(array, 5, 9_995)

    assert (array[:5] == 7).all()
    assert (array[9_995:10_000] == 7).all()


def test_growing_copies_what_is_in_use_and_no_more() -> None:
    """Beyond what is reserved an array is copied: room for what may come takes no memory."""
    state = with_room(empty_state(), "nodes", 0, memory.SMALL_ENTRIES + 1)
    state.nodes["count"][:1_000] = 7
    before, length = resident(), len(state.nodes)

    state = with_room(state, "nodes", 1_000, length + 1)

    assert len(state.nodes) > length
    assert (state.nodes["count"][:1_001].sum(), state.nodes["count"][999]) == (7_000, 7)
    assert resident() - before < 10 * MEGABYTE


def test_a_small_array_is_an_ordinary_one() -> None:
    array = memory.zeros(memory.SMALL_ENTRIES, WORD)
    array[:] = 1

    memory.release(array, 0, len(array))

    assert (len(array), int(array.sum())) == (memory.SMALL_ENTRIES, memory.SMALL_ENTRIES)
