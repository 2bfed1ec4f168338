"""Exact sums in 192 bits: three 64-bit limbs in two's complement, low limb first. Kernels.

The sums of k totals of a unit are its count, Σz_i, and Σz_i·z_j for i ≤ j, row by row: 7 words for
one total, 16 for two, 43 for four.
"""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from stream_processors.accumulate.kernels.compiled import inlined, kernel

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


@kernel
def _add_limbs(words, at, low, middle, high):
    total = words[at] + low
    carry = np.uint64(1) if total < low else np.uint64(0)
    words[at] = total
    total = words[at + 1] + middle
    over = np.uint64(1) if total < middle else np.uint64(0)
    total += carry
    if total < carry:
        over = np.uint64(1)
    words[at + 1] = total
    words[at + 2] += high + over


@kernel
def _negated(low, middle, high):
    low, middle, high = ~low, ~middle, ~high
    low += np.uint64(1)
    if low == 0:
        middle += np.uint64(1)
        if middle == 0:
            high += np.uint64(1)
    return low, middle, high


@kernel
def add_value(words, at, value, sign):
    filled = np.uint64(0xFFFFFFFFFFFFFFFF) if value < 0 else np.uint64(0)
    low, middle, high = np.uint64(value), filled, filled
    if sign < 0:
        low, middle, high = _negated(low, middle, high)
    _add_limbs(words, at, low, middle, high)


@kernel
def add_product(words, at, one, other, sign):
    """Add or take away the product of two integers, both below 2**63: it fits 126 bits."""
    negative = (one < 0) != (other < 0)
    a = np.uint64(-one) if one < 0 else np.uint64(one)
    b = np.uint64(-other) if other < 0 else np.uint64(other)
    a_high, a_low, b_high, b_low = a >> _HALF, a & _LOW, b >> _HALF, b & _LOW
    # Each below 2**63, so their sum does not overflow.
    cross = a_high * b_low + a_low * b_high
    low = a_low * b_low
    shifted = cross << _HALF
    low += shifted
    middle = a_high * b_high + (cross >> _HALF)
    if low < shifted:
        middle += np.uint64(1)
    high = np.uint64(0)
    if negative != (sign < 0):
        low, middle, high = _negated(low, middle, high)
    _add_limbs(words, at, low, middle, high)


@inlined
def add_one(words, at, z, sign):
    """Add (sign 1) or take away (sign -1) one unit of a total ``z``, below 2**63 like all here."""
    words[at] += np.uint64(sign)
    add_value(words, at + 1, z, sign)
    add_product(words, at + 4, z, z, sign)


@inlined
def add_two(words, at, y, d, sign):
    """Add or take away one unit of two totals."""
    words[at] += np.uint64(sign)
    add_value(words, at + 1, y, sign)
    add_value(words, at + 4, d, sign)
    add_product(words, at + 7, y, y, sign)
    add_product(words, at + 10, y, d, sign)
    add_product(words, at + 13, d, d, sign)


@kernel
def add_four(words, at, y, d, x, w, sign):
    """Add or take away one unit of four totals."""
    words[at] += np.uint64(sign)
    add_value(words, at + 1, y, sign)
    add_value(words, at + 4, d, sign)
    add_value(words, at + 7, x, sign)
    add_value(words, at + 10, w, sign)
    add_product(words, at + 13, y, y, sign)
    add_product(words, at + 16, y, d, sign)
    add_product(words, at + 19, y, x, sign)
    add_product(words, at + 22, y, w, sign)
    add_product(words, at + 25, d, d, sign)
    add_product(words, at + 28, d, x, sign)
    add_product(words, at + 31, d, w, sign)
    add_product(words, at + 34, x, x, sign)
    add_product(words, at + 37, x, w, sign)
    add_product(words, at + 40, w, w, sign)
