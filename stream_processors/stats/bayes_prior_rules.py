"""Where to integrate over two estimated variances when a prior has a say: around what it leaves.

Each variance is its estimate over W ~ χ²_d / d (``bayes_differences``). A prior that the data
contradict moves the weight to small W, tens of its standard deviations away, or to two places:
there "the estimate is off" and "the prior is off" are about as likely. Gauss's rule around W = 1
has no nodes there, and is off by tenths. So the box that holds the weight is looked for, in
u = ln W, and a trapezoidal rule is laid over it, which converges geometrically (Trefethen,
Weideman 2014, "The exponentially convergent trapezoidal rule", SIAM Review 56). Looking for a box
costs ten times what the nodes around W = 1 do, so these are kept where the prior tilts the weight
by little (``is_mild``).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_processors.stats.tails import Floats

DROP = 40.0
"""Logarithm of how far the density of both ln W has fallen outside the box."""

TILT_MILD = 1.0
"""Up to this slope of a prior's part, in standard deviations of u, nodes around W = 1 do.

Over drawn rows they then are within 1e-8 posterior standard deviations of the box's; twice the
slope would cost 1e-4.
"""

_FREEDOM_MILD = 20.0
"""Below it the nodes around W = 1 are so many that the box costs no more."""

_LOW_MIN = -300.0
"""Of u: no weight is below with priors and data of 1e-30 to 1e30 in size, and e^-u overflows."""

_STEP_MAX = 0.45
_STEP_DEVIATIONS = 0.8
"""Of the rule: in u, and in standard deviations of u, about 1 / √shape."""

_SPOTS = 24
_NARROWINGS = 6
"""Spots in each direction that a box is narrowed by, and how often; each leaves about a fifth."""

_COUNTS = np.array([1, 16, 23, 32, 45, 64, 91, 128, 181, 256])
"""Nodes are rounded up to one of these, so that rows share an array.

More than the last would be wanted only of tens of thousands of units and a prior more than a
hundred standard errors off, where either variance may be what is wrong: there the nodes are wider
apart, and a mode is found to about a percent of the effect.
"""


class PriorTilt(NamedTuple):
    """What the prior and the estimated variances are, in units of the prior; of n rows.

    Attributes:
        shapes: d / 2 of each variant, shape (2, n); inf: known.
        ratios: Each estimated variance over that of the prior, shape (2, n).
        gaps: Estimate less the prior's mean, in standard deviations of the prior; shape (n,).
    """

    shapes: Floats
    ratios: Floats
    gaps: Floats

    def log_weight(self, ratio: Floats) -> Floats:
        """Return what the prior makes of variances that are ``ratio`` of its own, (n, …)."""
        gaps = self.gaps.reshape(-1, *(1,) * (ratio.ndim - 1))
        return np.asarray(-0.5 * np.square(gaps) / (1 + ratio) - 0.5 * np.log1p(ratio))


class Boxes(NamedTuple):
    """Where to integrate over u = ln W of both variants; all of shape (2, n).

    Attributes:
        lows: Of u; 0 where a variance is known.
        highs: The same.
        counts: Nodes; 1 where a variance is known.
    """

    lows: Floats
    highs: Floats
    counts: NDArray[np.intp]


def is_mild(tilt: PriorTilt) -> NDArray[np.bool_]:
    """Return where the rules without a prior are accurate with it too, shape (n,).

    With z the gap between estimate and prior in standard deviations of both together, the slope of
    the prior's part at u <= 0 is at most max(z², 1) / 2; a standard deviation of u is 1 / √shape.
    """
    shapes = tilt.shapes.min(axis=0)
    squares = np.square(tilt.gaps) / (1 + tilt.ratios.sum(axis=0))
    return np.asarray((squares <= 2 * TILT_MILD * np.sqrt(shapes)) & (2 * shapes >= _FREEDOM_MILD))


def prior_boxes(tilt: PriorTilt) -> Boxes:
    """Return the box of every row that holds all but e^-DROP of the density, and its nodes."""
    most = _reached(tilt)
    lows, highs = np.zeros_like(tilt.shapes), np.zeros_like(tilt.shapes)
    for lows_of, highs_of, shapes in zip(lows, highs, tilt.shapes, strict=True):
        # The prior's part is 0 at most: beyond these the density of W alone is too low.
        is_known = np.isinf(shapes)
        reach = (DROP - most) / np.where(is_known, 1.0, shapes)
        lowest = np.maximum(fallen(-reach - 1 - np.sqrt(2 * reach), reach), _LOW_MIN)
        lows_of[:] = np.where(is_known, 0.0, lowest)
        start = np.minimum(np.sqrt(2 * reach), np.log1p(reach) + 1)
        highs_of[:] = np.where(is_known, 0.0, fallen(start, reach))
    for _ in range(_NARROWINGS):
        lows, highs = _narrowed(tilt, lows, highs)
    steps = np.minimum(_STEP_MAX, _STEP_DEVIATIONS / np.sqrt(tilt.shapes))
    wanted = np.where(steps > 0, (highs - lows) / np.where(steps > 0, steps, 1.0) + 1, 1.0)
    counts = _COUNTS[np.minimum(np.searchsorted(_COUNTS, wanted), len(_COUNTS) - 1)]
    return Boxes(lows, highs, counts)


def spots(lows: Floats, highs: Floats, count: int) -> Floats:
    """Return ``count`` evenly spaced values of u in each row, shape (n, count)."""
    return np.asarray(lows[:, None] + (highs - lows)[:, None] * np.linspace(0.0, 1.0, count))


def log_density(shapes: Floats, u: Floats) -> Floats:
    """Return the logarithm of the density of u = ln W over that at 0; 0 of what is known."""
    known = np.isinf(shapes)
    return np.asarray(np.where(known, 0.0, shapes)[:, None] * (u - np.expm1(u)))


def fallen(u: Floats, reach: Floats) -> Floats:
    """Return where u - e^u + 1 is -reach, by Newton's steps from further out."""
    for _ in range(50):
        slope = -np.expm1(u)
        u = u - (slope + u + reach) / slope
    return u


def _reached(tilt: PriorTilt) -> Floats:
    """Return what the logarithm of the density reaches at least, by a look along three lines."""
    along = -np.concatenate([[0.0], np.geomspace(1e-6, 60.0, 64)])
    ahead = np.broadcast_to(along, (len(tilt.gaps), len(along)))
    found = []
    for moves in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0)):
        u = [
            np.where(np.isinf(s)[:, None], 0.0, m * ahead)
            for s, m in zip(tilt.shapes, moves, strict=True)
        ]
        ratios = [r[:, None] * np.exp(-one) for r, one in zip(tilt.ratios, u, strict=True)]
        parts = [log_density(s, one) for s, one in zip(tilt.shapes, u, strict=True)]
        found.append((parts[0] + parts[1] + tilt.log_weight(ratios[0] + ratios[1])).max(axis=1))
    return np.asarray(np.max(found, axis=0))


def _narrowed(tilt: PriorTilt, lows: Floats, highs: Floats) -> tuple[Floats, Floats]:
    """Return the boxes less what is too low at all spots of the other direction.

    Between two spots the logarithm can be higher by what its curvature, about ``shapes``, makes
    of a step: that much less is taken away, so that no narrow peak gets lost.
    """
    u = [spots(low, high, _SPOTS) for low, high in zip(lows, highs, strict=True)]
    parts = [log_density(s, one) for s, one in zip(tilt.shapes, u, strict=True)]
    ratios = [r[:, None] * np.exp(-one) for r, one in zip(tilt.ratios, u, strict=True)]
    density = parts[0][:, :, None] + parts[1][:, None, :]
    density += tilt.log_weight(ratios[0][:, :, None] + ratios[1][:, None, :])
    known = np.isinf(tilt.shapes)
    steps = (highs - lows) / (_SPOTS - 1)
    slack = (np.where(known, 0.0, tilt.shapes) * np.square(steps)).sum(axis=0)
    enough = density.max(axis=(1, 2)) - DROP - slack
    found = np.empty((2, *lows.shape))
    for arm, other in ((0, 2), (1, 1)):
        holds = density.max(axis=other) >= enough[:, None]
        first = np.maximum(holds.argmax(axis=1) - 1, 0)
        last = np.minimum(_SPOTS - holds[:, ::-1].argmax(axis=1), _SPOTS - 1)
        found[:, arm] = [np.take_along_axis(u[arm], at[:, None], 1)[:, 0] for at in (first, last)]
    return found[0], found[1]
