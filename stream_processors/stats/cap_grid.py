"""Caps of unit totals that exact sums are kept for. Nothing but numpy: the engine reads it too."""

import numpy as np
from numpy.typing import NDArray

CAP_COUNT = 32
"""Caps of a grid, each twice the one before."""

PRECISION_MAX = 9
"""Highest precision that has a grid."""


def _cap_grid() -> NDArray[np.int64]:
    grid = [[5**p * 2**step for step in range(CAP_COUNT)] for p in range(PRECISION_MAX + 1)]
    caps = np.array(grid, dtype=np.int64)
    caps.flags.writeable = False
    return caps


CAP_GRID = _cap_grid()
"""``CAP_GRID[precision]`` are the caps in quanta, upwards: int64, shape (10, 32), read-only.

A metric unit is 10^p = 5^p 2^p quanta, so from an anchor of 5^p quanta every cap is an integer of
quanta and a power of two in metric units: 1/64 to 33,554,432 at precision 6, and 1 to 2³¹ for
counts (precision 0).
"""


def cap_grid(precision: int) -> tuple[int, ...]:
    """Return the 32 caps in quanta, upwards.

    Raises:
        ValueError: If the precision has no grid.
    """
    if not 0 <= precision <= PRECISION_MAX:
        raise ValueError(f"precision == {precision}, must be >= 0 and <= {PRECISION_MAX}")
    return tuple(CAP_GRID[precision].tolist())


def fixed_cap_q(cap: float, precision: int) -> int:
    """Return a cap given in metric units in quanta, rounded as values are."""
    return round(cap * float(10**precision))
