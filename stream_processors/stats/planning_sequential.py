"""Power of tests that look more than once, by the recursion of the sub-density: no simulation."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from stream_processors.stats.group_sequential import GroupPlan, boundaries
from stream_processors.stats.planning_designs import Design
from stream_processors.stats.planning_fixed import UNITS_MAX, normal_drift
from stream_processors.stats.roots import root_between
from stream_processors.stats.sequential import (
    mixture_critical_value,
    mixture_variance,
    one_sided_sequence,
)
from stream_processors.stats.spending import Spending
from stream_processors.stats.sub_density import Exits, Grid, Region, exits, grids

DRIFT_MAX = 40.0
"""Above this the power is 1 in every digit."""


class Run(NamedTuple):
    """A whole run of looks, ready for any drift.

    Attributes:
        path: The looks; information 1 at the last one.
        before: Sub-densities before each of them.
    """

    path: tuple[Region, ...]
    before: tuple[Grid, ...]

    def exits(self, drift: float) -> Exits:
        """Return how often the run stops at each look, on either side."""
        return exits(self.path, self.before, drift=max(-DRIFT_MAX, min(DRIFT_MAX, drift)))

    def power(self, drift: float, sides: Literal[1, 2]) -> float:
        """Return how often it stops at all: on both sides for a two-sided test."""
        found = self.exits(drift)
        return min(1.0, found.total if sides == 2 else math.fsum(found.high))

    def expected_share(self, drift: float) -> float:
        """Return the average information at the stop."""
        found = self.exits(drift)
        stopped = found.low + found.high
        times = np.array([region.information for region in self.path])
        return float(np.sum(times * stopped) + max(0.0, 1 - found.total) * times[-1])


def run_of(times: Sequence[float], critical: Sequence[float], sides: Literal[1, 2]) -> Run:
    """Return the run of looks with the given critical values of z."""
    path = tuple(
        Region(time, -z if sides == 2 else -math.inf, z)
        for time, z in zip(times, critical, strict=True)
    )
    return Run(path, tuple(grids(path)))


@lru_cache(maxsize=256)
def group_run(
    alpha: float,
    sides: Literal[1, 2],
    spending: Spending,
    planned_looks: tuple[float, ...],
) -> Run:
    """Return the run of a group-sequential test with its planned looks."""
    plan = GroupPlan(alpha, spending, planned_looks, sides)
    return run_of(planned_looks, boundaries(planned_looks, plan), sides)


def looks_taken(
    planned_looks: tuple[float, ...], design: Design, units: float
) -> tuple[float, ...]:
    """Return the planned looks that come after the burn-in: before it none is taken."""
    return tuple(look for look in planned_looks if look * units >= design.burn_in_units - 1e-6)


def group_drift(run: Run, power: float, sides: Literal[1, 2]) -> float:
    """Return the drift at which a run reaches a power."""
    return root_between(lambda drift: run.power(drift, sides) - power, 0.0, DRIFT_MAX, xtol=1e-12)


@lru_cache(maxsize=32)
def sequence_run(
    k_at_end: float, alpha: float, sides: Literal[1, 2], looks: int, first_look: int
) -> Run:
    """Return the run of a confidence sequence with equally spaced looks.

    Args:
        k_at_end: N ρ² at the last look.
        alpha: Error probability, of all sides together.
        sides: Of the test.
        looks: Number of looks up to the end.
        first_look: Number of the first one after the burn-in, from 1.
    """
    times = [look / looks for look in range(first_look, looks + 1)]
    return run_of(times, [critical_z(k_at_end * time, alpha, sides) for time in times], sides)


def critical_z(k: float, alpha: float, sides: Literal[1, 2]) -> float:
    """Return what |z| (z, for one side) has to exceed, as the sequences themselves have it."""
    if sides == 2:
        return float(mixture_critical_value(k, alpha=alpha))
    return float(one_sided_sequence(0.0, 1.0, k=k, alpha=alpha).critical_value)


class Watch(NamedTuple):
    """How an always-valid experiment is watched.

    Attributes:
        n_star: Units of a pair at which the sequence is tightest; None: those at the end.
        looks: Equally spaced ones up to the end.
        tau: Standard deviation of the effects that the sequence is mixed over, instead of N*.
    """

    n_star: int | None
    looks: int
    tau: float | None = None


def sequence_power(watch: Watch, design: Design, units: float) -> float:
    """Return how often a whole run finds the effect; 0 while the burn-in is not over."""
    run = _run_at(watch, design, units)
    return 0.0 if run is None else run.power(normal_drift(design, units), design.sides)


def sequence_power_at_end(watch: Watch, design: Design, units: float) -> float:
    """Return how often the last look alone finds the effect."""
    if _first_look(watch, design, units) > watch.looks:
        return 0.0
    k = _k_at_end(watch, design, units)
    critical, drift = critical_z(k, design.alpha, design.sides), normal_drift(design, units)
    power = float(special.ndtr(drift - critical))
    return power + float(special.ndtr(-drift - critical)) if design.sides == 2 else power


def sequence_share(watch: Watch, design: Design, units: float, *, drift: float) -> float | None:
    """Return the average share of the units at the stop."""
    run = _run_at(watch, design, units)
    return None if run is None else run.expected_share(drift)


def units_for(power_of: Callable[[float], float], power: float, *, guess: float) -> float:
    """Return the units at which a power that grows with them is reached.

    Infinite where not even ``UNITS_MAX`` do.
    """
    low = high = max(guess, 4.0)
    while power_of(high) < power:
        if high > UNITS_MAX:
            return math.inf
        low, high = high, 1.5 * high
    while low == high or power_of(low) >= power:
        high, low = (low, low / 1.5) if low != high else (high, low / 1.5)
        if low < 4:
            return high
    return root_between(lambda n: power_of(n) - power, low, high, rtol=1e-9)


def _pair_share(design: Design) -> float:
    return design.shares[0] + design.shares[1]


def _k_at_end(watch: Watch, design: Design, units: float) -> float:
    if watch.tau is not None:
        return watch.tau**2 * units / design.variance
    pair = units * _pair_share(design)
    # A one-sided sequence at alpha is tuned like a two-sided one at 2 alpha.
    level = design.alpha if design.sides == 2 else 2 * design.alpha
    return pair * float(mixture_variance(level, watch.n_star or pair))


def _first_look(watch: Watch, design: Design, units: float) -> int:
    """Return the number of the first look after the burn-in; it may lie beyond the last."""
    return max(1, math.ceil(design.burn_in_units / units * watch.looks - 1e-9))


def _run_at(watch: Watch, design: Design, units: float) -> Run | None:
    first = _first_look(watch, design, units)
    if first > watch.looks:
        return None
    k = _k_at_end(watch, design, units)
    return sequence_run(k, design.alpha, design.sides, watch.looks, first)
