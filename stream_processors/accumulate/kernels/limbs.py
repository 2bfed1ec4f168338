"""Exact sums in 192 bits: three 64-bit limbs in two's complement, low limb first. Kernels.

Seven words are the sums of one basis: unit count, sum, sum of squares. A row holds two bases. With
a covariate there are sixteen: unit count, Σq, Σq², Σx, Σx², Σqx.
"""

import numpy as np

from schemas.partials import COVARIATE_WORDS
from stream_processors.accumulate.kernels.compiled import kernel

WORDS = 7
OPEN_WORDS = 0
"""Where in a row the sums over all exposed units begin, with totals to date."""

MATURED_WORDS = WORDS
"""Where the sums over units whose window has passed begin."""

MATURED_COVARIATE_WORDS = COVARIATE_WORDS
"""The same in a row of sums with a covariate."""

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
def _add_value(words, row, at, value, sign):  # type: ignore[no-untyped-def]
    filled = np.uint64(0xFFFFFFFFFFFFFFFF) if value < 0 else np.uint64(0)
    low, middle, high = np.uint64(value), filled, filled
    if sign < 0:
        low, middle, high = _negated(low, middle, high)
    _add_limbs(words, row, at, low, middle, high)


@kernel
def _add_product(words, row, at, one, other, sign):  # type: ignore[no-untyped-def]
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
    _add_limbs(words, row, at, low, middle, high)


@kernel
def add_unit(words, row, at, value, sign):  # type: ignore[no-untyped-def]
    """Add (sign 1) or take away (sign -1) one unit of total ``value`` to a basis of a row.

    ``at`` is where the basis begins. |value| must be below 2**63, so its square fits 126 bits.
    """
    words[row, at] += np.uint64(sign)
    _add_value(words, row, at + 1, value, sign)
    _add_product(words, row, at + 4, value, value, sign)


@kernel
def add_unit_with_covariate(words, row, at, value, covariate, sign):  # type: ignore[no-untyped-def]
    """Add or take away one unit of total ``value`` and covariate ``covariate``; see above."""
    words[row, at] += np.uint64(sign)
    _add_value(words, row, at + 1, value, sign)
    _add_product(words, row, at + 4, value, value, sign)
    _add_value(words, row, at + 7, covariate, sign)
    _add_product(words, row, at + 10, covariate, covariate, sign)
    _add_product(words, row, at + 13, value, covariate, sign)
