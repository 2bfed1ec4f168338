"""A Brownian motion that stops at boundaries: where it is, if it has not stopped.

At look k a test with information t_k has the score S_k = Z_k √t_k, and its increments are
independent normal with variance t_k - t_{k-1}. The density of S_k on the paths that crossed no
boundary before is the integral of the last one times a normal kernel; it is kept as masses on the
nodes of a composite Gauss-Legendre rule, fine enough for the increments on both sides of it.

A drift θ needs no recursion of its own: it multiplies the density by exp(θ s - θ² t / 2).

References:
    Armitage, McPherson, Rowe (1969), "Repeated significance tests on accumulating data", JRSS A
    132; Jennison, Turnbull (2000), "Group Sequential Methods", ch. 19.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

PANEL_NODES = 20
PANEL_WIDTH = 3.0
"""Widest panel, in standard deviations of the narrower of the two increments beside it."""

PANELS_MAX = 200
"""From increments of about 1e-5 on the rule is coarser than that, and still good to 1e-8."""

TAIL = 14.0
"""|Z| beyond which a side without a boundary is cut off; far out even for a strong drift."""

ROWS_AT_ONCE = 64
"""Rows of the kernel that are taken together, with the columns that are near enough to matter."""

KERNEL_REACH = 9.0
"""Standard deviations beyond which the kernel adds nothing to a double, besides the drift of the
density itself: far out in the tail most paths came from further in."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(PANEL_NODES)

Floats = NDArray[np.float64]


class Region(NamedTuple):
    """Where the test goes on at a look.

    Attributes:
        information: Fraction of the planned information, > 0.
        low: z at or below which it stops; -inf for a side without a boundary.
        high: z at or above which it stops.
    """

    information: float
    low: float
    high: float


class Grid(NamedTuple):
    """The sub-density after a look.

    Attributes:
        information: Of that look; 0 before the first.
        nodes: Scores, shape (n,).
        masses: Density times weight at the nodes, shape (n,), without a drift. Their sum is the
            probability that the test went on.
    """

    information: float
    nodes: Floats
    masses: Floats


class Exits(NamedTuple):
    """Probabilities to stop at each look.

    Attributes:
        low: At the lower boundary, shape (looks,).
        high: At the upper one.
    """

    low: Floats
    high: Floats

    @property
    def total(self) -> float:
        """Return the probability to stop at any look."""
        return math.fsum(self.low) + math.fsum(self.high)


START = Grid(0.0, np.zeros(1), np.ones(1))
"""Before the first look the score is 0."""


def advance(grid: Grid, region: Region, *, step: float) -> Grid:
    """Return the sub-density after the look that follows.

    Args:
        grid: After the last look.
        region: Of the look; more information than ``grid``.
        step: Information from that look to the one after it, > 0: the rule has to be as fine.
    """
    before = region.information - grid.information
    nodes, weights = _rule(region, min(before, step))
    scale = 1 / math.sqrt(before)
    reach = (KERNEL_REACH + TAIL * math.sqrt(before / region.information)) / scale
    density = np.empty_like(nodes)
    for first in range(0, len(nodes), ROWS_AT_ONCE):
        rows = nodes[first : first + ROWS_AT_ONCE]
        near = slice(*np.searchsorted(grid.nodes, (rows[0] - reach, rows[-1] + reach)))
        distance = (rows[:, None] - grid.nodes[None, near]) * scale
        # einsum, not matmul: how a threaded BLAS adds up is not the same every time.
        density[first : first + ROWS_AT_ONCE] = np.einsum(
            "ij,j->i", np.exp(-0.5 * distance * distance), grid.masses[near]
        )
    masses = density * weights * (scale / math.sqrt(2 * math.pi))
    return Grid(region.information, nodes, masses)


@lru_cache(maxsize=2048)
def grid_after(path: tuple[Region, ...], step: float) -> Grid:
    """Return the sub-density after all looks of a path: a pure function, remembered.

    Args:
        path: Looks so far, of increasing information.
        step: Information to the next look.
    """
    if not path:
        return START
    *_, before = (0.0, *(region.information for region in path[:-1]))
    last = grid_after(path[:-1], path[-1].information - before)
    return advance(last, path[-1], step=step)


def grids(path: Sequence[Region]) -> Iterator[Grid]:
    """Yield the sub-density before each look of a path."""
    grid = START
    yield grid
    for region, following in pairwise(path):
        grid = advance(grid, region, step=following.information - region.information)
        yield grid


def exit_high(grid: Grid, information: float, z: float, *, drift: float = 0.0) -> float:
    """Return the probability to reach the next look and have Z >= z there.

    Args:
        grid: After the last look.
        information: Of the next look.
        z: Boundary.
        drift: θ, the mean of the score at information 1.
    """
    step = information - grid.information
    reach = grid.nodes + (drift * step - z * math.sqrt(information))
    return float(np.sum(_tilted(grid, drift) * special.ndtr(reach / math.sqrt(step))))


def exit_low(grid: Grid, information: float, z: float, *, drift: float = 0.0) -> float:
    """Return the probability to reach the next look and have Z <= z there."""
    step = information - grid.information
    reach = z * math.sqrt(information) - drift * step - grid.nodes
    return float(np.sum(_tilted(grid, drift) * special.ndtr(reach / math.sqrt(step))))


def exits(path: Sequence[Region], before: Sequence[Grid], *, drift: float = 0.0) -> Exits:
    """Return the probabilities to stop at each look.

    Args:
        path: The looks.
        before: ``list(grids(path))``, which serves for all drifts.
        drift: θ, the mean of the score at information 1.
    """
    pairs = list(zip(before, path, strict=True))
    return Exits(
        np.array([exit_low(grid, t, low, drift=drift) for grid, (t, low, _) in pairs]),
        np.array([exit_high(grid, t, high, drift=drift) for grid, (t, _, high) in pairs]),
    )


def _tilted(grid: Grid, drift: float) -> Floats:
    if drift == 0:
        return grid.masses
    return grid.masses * np.exp(drift * grid.nodes - drift * drift * grid.information / 2)


def _rule(region: Region, step: float) -> tuple[Floats, Floats]:
    root = math.sqrt(region.information)
    low, high = max(region.low, -TAIL) * root, min(region.high, TAIL) * root
    panels = math.ceil((high - low) / (PANEL_WIDTH * math.sqrt(step)))
    edges = np.linspace(low, high, min(max(panels, 1), PANELS_MAX) + 1)
    half = np.diff(edges) / 2
    nodes = (edges[:-1] + half)[:, None] + half[:, None] * _NODES
    return nodes.ravel(), (half[:, None] * _WEIGHTS).ravel()
