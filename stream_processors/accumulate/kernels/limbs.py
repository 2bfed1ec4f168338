"""Exact sums in 192 bits: three 64-bit limbs in two's complement, low limb first. Kernels.

Seven words are the sums of one basis: unit count, sum, sum of squares. A row holds two bases.
"""

import numpy as np

from stream_processors.accumulate.kernels.compiled import kernel

WORDS = 7
OPEN_WORDS = 0
"""Where in a row the sums over all exposed units begin, with totals to date."""

MATURED_WORDS = WORDS
"""Where the sums over units whose window has passed begin."""

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


@kernel
def _add_limbs(words, row, at, low, middle, high):  # type: ignore[no-untyped-def]
    total = words[row, at] + low
    carry = np.uint64(1) if total < low else np.uint64(0)
    words[row, at] = total
    total = words[row, at + 1] + middle
    over = np.uint64(1) if total < middle else np.uint64(0)
    total += carry
    if total < carry:
        over = np.uint64(1)
    words[row, at + 1] = total
    words[row, at + 2] += high + over


@kernel
def _negated(low, middle, high):  # type: ignore[no-untyped-def]
    low, middle, high = ~low, ~middle, ~high
    low += np.uint64(1)
    if low == 0:
        middle += np.uint64(1)
        if middle == 0:
            high += np.uint64(1)
    return low, middle, high


@kernel
def add_unit(words, row, at, value, sign):  # type: ignore[no-untyped-def]
    """Add (sign 1) or take away (sign -1) one unit of total ``value`` to a basis of a row.

    ``at`` is where the basis begins. |value| must be below 2**63, so its square fits 126 bits.
    """
    words[row, at] += np.uint64(sign)
    filled = np.uint64(0xFFFFFFFFFFFFFFFF) if value < 0 else np.uint64(0)
    low, middle, high = np.uint64(value), filled, filled
    if sign < 0:
        low, middle, high = _negated(low, middle, high)
    _add_limbs(words, row, at + 1, low, middle, high)

    magnitude = np.uint64(-value) if value < 0 else np.uint64(value)
    a, b = magnitude >> _HALF, magnitude & _LOW
    cross = a * b
    low = b * b
    middle = a * a + (cross >> np.uint64(31))
    shifted = cross << np.uint64(33)
    low += shifted
    if low < shifted:
        middle += np.uint64(1)
    high = np.uint64(0)
    if sign < 0:
        low, middle, high = _negated(low, middle, high)
    _add_limbs(words, row, at + 4, low, middle, high)
