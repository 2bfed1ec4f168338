"""Arrays that grow where they are: address space is reserved, memory follows as it is written to.

Nothing is copied when a large array grows, so no batch waits for it, no second copy stands beside
the first, and what is not in use costs nothing. What is no longer in use is given back.
"""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALL_ENTRIES = 1 << 15
"""Arrays up to this length are ordinary ones."""

RESERVED_ENTRIES = 1 << 26
"""For so many entries address space is reserved at once."""

_NO_RESERVE = 0x4000  # MAP_NORESERVE of Linux; Python names it from 3.12 on


def zeros(entries: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array of at least ``entries`` zeros that takes memory only where it is written.

    Its length is a power of two.
    """
    length = 64
    while length < entries:
        length *= 2
    if length <= SMALL_ENTRIES:
        return np.zeros(length, dtype)
    length = max(length, RESERVED_ENTRIES)
    try:
        reserved = mmap.mmap(-1, length * dtype.itemsize, flags=_flags())
    except (OSError, ValueError):
        # No address space to spare (a strict limit): grow by copying, as arrays do.
        length = 64
        while length < entries:
            length *= 2
        return np.zeros(length, dtype)
    return np.frombuffer(reserved, dtype, length)


def release(array: NDArray[Any], start: int, end: int) -> None:
    """Give back the memory of entries ``start`` to ``end``; they must be out of use.

    Their contents are undefined after that. Of small arrays nothing is given back.
    """
    base = _mapping_of(array)
    if base is None or end <= start:
        return
    size = array.dtype.itemsize
    first = -(-start * size // mmap.PAGESIZE) * mmap.PAGESIZE
    last = end * size // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        base.madvise(mmap.MADV_DONTNEED, first, last - first)


def _mapping_of(array: NDArray[Any]) -> mmap.mmap | None:
    viewed = array.base.obj if isinstance(array.base, memoryview) else array.base
    return viewed if isinstance(viewed, mmap.mmap) else None


def _flags() -> int:
    return mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
