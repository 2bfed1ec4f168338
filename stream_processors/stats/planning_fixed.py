"""Power and size of one planned look."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from stream_processors.stats.planning_designs import Design
from stream_processors.stats.roots import root_between

UNITS_MAX = 1e15
"""Above this, no experiment will ever get there."""

NORMAL_FROM = 1e8
"""Degrees of freedom from which on t is the normal, to 1e-9."""

SPREADS, PANELS = 12.0, 20
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)


def normal_drift(design: Design, units: float) -> float:
    """Return the expected z of one look, in the scale of the truth's standard error.

    Where the test's standard error is not the truth's (the pooled z of rates), it is the drift
    of the plain test that has the same power.
    """
    critical = -float(special.ndtri(design.tail))
    shortfall = math.sqrt(design.null_variance) - math.sqrt(design.variance)
    signal = math.sqrt(units) * design.signal - critical * shortfall
    return signal / math.sqrt(design.variance)


def normal_power(design: Design, units: float) -> float:
    """Return the probability to reject at one look, with ``units`` units of all variants.

    Of both tails where the test has two.
    """
    power = normal_reach(design, units)
    if design.sides == 2:
        power += normal_reach(design._replace(signal=-design.signal), units)
    return power


def normal_reach(design: Design, units: float) -> float:
    """Return the probability to reject at one look on the side of the effect."""
    critical = -float(special.ndtri(design.tail)) * math.sqrt(design.null_variance / units)
    return float(special.ndtr((design.signal - critical) / math.sqrt(design.variance / units)))


def normal_units(design: Design, power: float) -> float:
    """Return the units of all variants that one look needs; the wrong tail is neglected."""
    critical = -float(special.ndtri(design.tail))
    reach = critical * math.sqrt(design.null_variance)
    reach += float(special.ndtri(power)) * math.sqrt(design.variance)
    return (reach / design.signal) ** 2 if reach > 0 else 0.0


def normal_units_of_both_tails(design: Design, power: float) -> float:
    """Return the units of all variants that one look needs, the wrong tail's rejections counted."""
    high = normal_units(design, power)
    if design.sides == 1 or high == 0:
        return high
    low = high / 4
    if normal_power(design, low) >= power:
        return low
    return root_between(lambda n: normal_power(design, n) - power, low, high * (1 + 1e-9))


def degrees_of_freedom(design: Design, units: float) -> float:
    """Return Satterthwaite's degrees of freedom of Welch's test."""
    counts = [share * units for share in design.shares]
    parts = [v / n for v, n in zip(design.arm_variances, counts, strict=True)]
    total = math.fsum(parts)
    return 1 / math.fsum(
        (part / total) ** 2 / (n - 1) for part, n in zip(parts, counts, strict=True)
    )


def t_power(design: Design, units: float) -> float:
    """Return the power of Welch's test at one look, by the noncentral t distribution."""
    freedom = degrees_of_freedom(design, units)
    drift = design.signal / math.sqrt(design.variance / units)
    critical = -float(special.stdtrit(freedom, design.tail))
    power = noncentral_t_tail(critical, freedom, drift)
    if design.sides == 2:
        power += noncentral_t_tail(critical, freedom, -drift)
    return power


def noncentral_t_tail(t: float, degrees_of_freedom: float, drift: float) -> float:
    """Return P(T' > t) of the noncentral t: the mean of Φ(drift - t s), s² ~ χ² / freedom.

    By quadrature, because ``scipy.special.nctdtr`` is not a number for many drifts above 3.
    """
    if degrees_of_freedom > NORMAL_FROM:
        return float(special.ndtr(drift - t))
    scales, weights = _scales(degrees_of_freedom)
    return float(np.sum(weights * special.ndtr(drift - t * scales)))


@lru_cache(maxsize=64)
def _scales(freedom: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return nodes and weights of √(χ² / freedom), out to where nothing is left of it."""
    spread = SPREADS * math.sqrt(2 * freedom)
    low = math.sqrt(max(0.0, freedom - spread) / freedom)
    high = math.sqrt((freedom + spread + SPREADS**2) / freedom)
    edges = np.linspace(low, high, PANELS + 1)
    if low == 0:  # Few degrees of freedom: a large t sees the density near 0.
        edges = np.union1d(edges, np.geomspace(1e-9, high, 2 * PANELS))
    half = np.diff(edges)[:, None] / 2
    nodes = (edges[:-1, None] + half * (1 + _NODES)).ravel()
    # The density up to its constant; it is normalised by its own sum. Written in the shift
    # from 1, because the large terms of the exponent cancel.
    shift = nodes - 1
    exponent = (freedom - 1) * np.log1p(shift) - freedom * (shift + shift * shift / 2)
    masses = np.exp(exponent - exponent.max()) * (half * _WEIGHTS).ravel()
    return nodes, masses / masses.sum()


def t_units(design: Design, power: float) -> float:
    """Return the units of all variants that Welch's test needs at one look."""
    low = 2.0001 / min(design.shares)
    if t_power(design, low) >= power:
        return low
    high = max(2 * low, 2 * normal_units(design, power))
    while t_power(design, high) < power:
        high *= 2
    return root_between(lambda n: t_power(design, n) - power, low, high, xtol=1e-9)
