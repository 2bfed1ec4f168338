"""Sums as bytes: what ``schemas.partials.integers_to_bytes`` writes, from limbs. Kernels."""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from stream_processors.accumulate.kernels.compiled import kernel
from stream_processors.accumulate.layout import LIMBS

_BYTE = np.uint64(0xFF)
_SIGN = np.uint64(63)


@kernel
def _byte_of(sums, at, place):
    return np.int64((sums[at + (place >> 3)] >> np.uint64((place & 7) << 3)) & _BYTE)


@kernel
def _write_integer(sums, at, limbs, out, end):
    """Write one integer of so many limbs: its length, then its bytes, without needless ones."""
    filling = np.int64(0xFF) if sums[at + limbs - 1] >> _SIGN else np.int64(0)
    length = limbs << 3
    while length > 0 and _byte_of(sums, at, length - 1) == filling:
        length -= 1
    # The highest byte tells the sign; zero needs none.
    if length > 0:
        if (_byte_of(sums, at, length - 1) >> 7) != (filling & 1):
            length += 1
    elif filling:
        length = 1
    out[end] = length
    for place in range(length):
        out[end + 1 + place] = _byte_of(sums, at, place) if place < limbs << 3 else filling
    return end + 1 + length


@kernel
def write_sums(sums, first, step, rows, sums_per_row, out):
    """Write rows of sums, ``step`` words apart: of each a count, then sums; return the length."""
    end = 0
    for row in range(rows):
        at = first + row * step
        end = _write_integer(sums, at, 1, out, end)
        at += 1
        for _ in range(sums_per_row):
            end = _write_integer(sums, at, LIMBS, out, end)
            at += LIMBS
    return end
