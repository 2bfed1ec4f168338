"""Gauss-Legendre rules over pieces: between marks where an integrand bends, it is smooth."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from stream_processors.stats.tails import Floats

SPREADS = (1.0, 3.0, 5.0, 8.0, 12.0, 20.0, 40.0, 80.0)
"""Marks on both sides of a centre, in standard deviations."""


class Rule(NamedTuple):
    """Where to evaluate, and what to multiply by: both of shape (..., nodes)."""

    nodes: Floats
    weights: Floats


def marks_around(centres: Floats, spreads: Floats, *, low: float, high: float) -> Floats:
    """Return marks at every centre and ``SPREADS`` of its spread beside it, within bounds.

    Args:
        centres: Shape (..., arms).
        spreads: Standard deviations, the same shape.
        low: Marks below are moved here: the piece then has no width.
        high: Marks above are moved here.

    Returns:
        Marks, upwards: shape (..., arms * 17).
    """
    steps = np.array([*(-step for step in reversed(SPREADS)), 0.0, *SPREADS])
    marks = centres[..., None] + spreads[..., None] * steps
    return np.sort(np.clip(marks.reshape(*centres.shape[:-1], -1), low, high), axis=-1)


def piecewise_rule(marks: Floats, points: int) -> Rule:
    """Return the rule with ``points`` nodes in each piece between neighbouring marks.

    Args:
        marks: Upwards along the last axis, shape (..., marks); pieces may have no width.
        points: Nodes of a piece.
    """
    nodes, weights = _legendre(points)
    half = np.diff(marks, axis=-1)[..., None] / 2
    middle = marks[..., :-1, None] + half
    shape = (*marks.shape[:-1], -1)
    return Rule((middle + half * nodes).reshape(shape), (half * weights).reshape(shape))


@lru_cache(maxsize=8)
def _legendre(points: int) -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return nodes, weights
