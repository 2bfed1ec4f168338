"""Group-sequential tests: a few planned looks that share one error probability (Lan-DeMets).

A look is official when the information reaches a planned fraction; what it spent and found is
path state, kept with the snapshot, and everything else is a pure function of that path. A path is
closed once it has crossed a boundary or spent everything: more data changes nothing after that.

Matured units only: totals that still grow are no increments, and break the guarantee (6.0 %
instead of 5 % at 14 daily looks).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from scipy import special

from stream_processors.stats.roots import root_between
from stream_processors.stats.spending import Spending, alpha_spent
from stream_processors.stats.sub_density import START, Grid, Region, advance, exit_high, grid_after

INFORMATION_STEP_MIN = 1e-5
"""Looks nearer than this to the last one are skipped: nothing new can be seen."""

ALPHA_STEP_MIN = 1e-14
"""Below this nothing is spent, and the boundary is ``Z_MAX``."""

Z_MAX = 8.0
"""Boundary of a look that has next to nothing to spend."""

P_VALUE_MIN = 1e-12
"""Repeated p-values are not followed below this: the boundaries above are capped."""


class GroupPlan(NamedTuple):
    """A group-sequential test, fixed at the start.

    Attributes:
        alpha: Error probability over all looks, of all sides together; in (0, 1).
        spending: How it is shared out.
        planned_looks: Increasing fractions of the planned information at which looks are due.
        sides: 2, or 1 for a test that stops at its upper boundary only.
    """

    alpha: float = 0.05
    spending: Spending = Spending()
    planned_looks: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    sides: Literal[1, 2] = 2


class GroupLook(NamedTuple):
    """One official look: all that has to be kept.

    Attributes:
        information: Matured units over planned units; above 1 at an overrun.
        z: Estimate over standard error.
        alpha_spent: Up to this look.
        boundary: What |z| (z, for one side) has to reach.
    """

    information: float
    z: float
    alpha_spent: float
    boundary: float


GroupPath = tuple[GroupLook, ...]


class Stagewise(NamedTuple):
    """What to report at the end; corrected for having looked before.

    Attributes:
        p_value: Of the stagewise ordering, two-sided for a two-sided test.
        estimate: Median-unbiased; the plain one overstates an effect that stopped the test.
        low: Lower end of the interval that goes with the p-value: alpha / sides lies below.
        high: Upper end: as much lies above.
    """

    p_value: float
    estimate: float
    low: float
    high: float


class GroupTest(NamedTuple):
    """A group-sequential test as of its last official look.

    Attributes:
        status: ``continue``, ``rejected``, or ``accepted`` when all was spent without a rejection.
        look_count: Official looks so far.
        information: At the last one.
        z: There.
        boundary: What |z| has to reach there.
        nominal_alpha: Level of that look taken alone.
        alpha_spent: Up to it.
        p_value: Repeated p-value: the smallest alpha for which any look so far rejects. Valid at
            every look, and what Holm is applied to.
        low: Lower end of the repeated interval: all of them together hold with 1 - alpha.
        high: Upper end; None for a one-sided test.
        next_information: At which the next look is due; None when the path is closed.
        stagewise: When the path is closed; None before.
    """

    status: Literal["continue", "rejected", "accepted"]
    look_count: int
    information: float
    z: float
    boundary: float
    nominal_alpha: float
    alpha_spent: float
    p_value: float
    low: float
    high: float | None
    next_information: float | None
    stagewise: Stagewise | None


def is_closed(path: GroupPath, plan: GroupPlan) -> bool:
    """Return whether the test is over: rejected, or all spent."""
    if not path:
        return False
    last = path[-1]
    return _crosses(last, plan) or last.information >= 1 or last.alpha_spent >= plan.alpha


def next_information(path: GroupPath, plan: GroupPlan) -> float | None:
    """Return the planned fraction that is due next, None when there is none."""
    if is_closed(path, plan):
        return None
    reached = path[-1].information if path else 0.0
    return next(
        (look for look in plan.planned_looks if look > reached + INFORMATION_STEP_MIN), None
    )


def is_due(path: GroupPath, information: float, plan: GroupPlan) -> bool:
    """Return whether an official look is due. Planned looks that were jumped over are one look."""
    planned = next_information(path, plan)
    return planned is not None and information >= planned


def take_look(
    path: GroupPath, *, information: float, z: float, plan: GroupPlan, is_final: bool = False
) -> GroupPath:
    """Return the path with one more look.

    The same path, if it is closed or if the information has not grown by 1e-5. Looks need not be
    the planned ones: spending makes any times valid that do not depend on the results.

    Args:
        path: So far.
        information: Matured units over planned units, > 0. Above 1 all that is left is spent, as
            at 1, once; the correlation with the looks before is that of the real information.
        z: Estimate over standard error, finite.
        plan: Fixed at the start.
        is_final: Whether this is the last look whatever it shows: an experiment that ends short
            of its planned information then spends what is left. Never for an end that was decided
            because of the results.

    Raises:
        ValueError: If information or z is not finite, or the information not positive.
    """
    if not math.isfinite(z):
        raise ValueError(f"z == {z}, must be finite")
    if not 0 < information < math.inf:
        raise ValueError(f"information == {information}, must be positive and finite")
    reached = path[-1].information if path else 0.0
    if is_closed(path, plan) or information - reached < INFORMATION_STEP_MIN:
        return path
    boundary, spent = next_boundary(path, information, plan=plan, is_final=is_final)
    return (*path, GroupLook(information, z, spent, boundary))


def next_boundary(
    path: GroupPath, information: float, *, plan: GroupPlan, is_final: bool = False
) -> tuple[float, float]:
    """Return boundary and alpha spent of a look that would be taken now.

    Args:
        path: So far; its boundaries are taken as they were.
        information: Of the look, above that of the last one.
        plan: Fixed at the start.
        is_final: Whether to spend what is left.
    """
    before = path[-1].alpha_spent if path else 0.0
    fraction = 1.0 if is_final else information
    spent = alpha_spent(plan.spending, fraction, alpha=plan.alpha, sides=plan.sides)
    increment = spent - before
    if increment < ALPHA_STEP_MIN:
        return Z_MAX, spent if fraction >= 1 else before
    reached = path[-1].information if path else 0.0
    grid = grid_after(_regions(path, plan.sides), information - reached)
    return _solve(grid, information, increment=increment, sides=plan.sides), spent


def planned_boundaries(plan: GroupPlan, path: GroupPath = ()) -> tuple[tuple[float, float], ...]:
    """Return (information, boundary) of the looks taken and of those that are still planned."""
    looks = [(look.information, look.boundary) for look in path]
    planned = next_information(path, plan)
    while planned is not None:
        path = take_look(path, information=planned, z=0.0, plan=plan)
        looks.append((path[-1].information, path[-1].boundary))
        planned = next_information(path, plan)
    return tuple(looks)


def group_test(
    path: GroupPath, *, estimate: float, std_error: float, plan: GroupPlan
) -> GroupTest | None:
    """Return the test as of its last official look; None before the first.

    Args:
        path: Looks so far.
        estimate: Effect at the *last official look*, not the present one.
        std_error: Its standard error there, > 0.
        plan: Fixed at the start.
    """
    if not path:
        return None
    last = path[-1]
    closed = is_closed(path, plan)
    status: Literal["continue", "rejected", "accepted"] = "continue"
    if closed:
        status = "rejected" if _crosses(last, plan) else "accepted"
    return GroupTest(
        status=status,
        look_count=len(path),
        information=last.information,
        z=last.z,
        boundary=last.boundary,
        nominal_alpha=plan.sides * float(special.ndtr(-last.boundary)),
        alpha_spent=last.alpha_spent,
        p_value=repeated_p_value(path, plan),
        low=estimate - last.boundary * std_error,
        high=estimate + last.boundary * std_error if plan.sides == 2 else None,
        next_information=next_information(path, plan),
        stagewise=stagewise(path, std_error=std_error, plan=plan) if closed else None,
    )


@lru_cache(maxsize=1024)
def repeated_p_value(path: GroupPath, plan: GroupPlan) -> float:
    """Return the smallest alpha for which a test with these looks would have rejected by now.

    It is valid at every look and at every stop, and never grows along a path. Not followed below
    ``P_VALUE_MIN``, where it is an upper bound. At least one look.

    References:
        Jennison, Turnbull (2000), section 9.3; Liu, Anderson (2008), "On adaptive extensions of
        group sequential trials", JASA 103; Maurer, Bretz (2013), "Multiple testing in group
        sequential trials", for its use in Holm's procedure.
    """
    # A look that spent everything below information 1 was declared to be the last.
    fractions = [1.0 if look.alpha_spent >= plan.alpha else look.information for look in path]
    z = [abs(look.z) if plan.sides == 2 else look.z for look in path]
    if max(z) <= 0:
        return 1.0
    times = [look.information for look in path]

    def excess(log_alpha: float) -> float:
        level = plan._replace(alpha=math.exp(log_alpha))
        found = boundaries(times, level, fractions=fractions)
        return max(one - boundary for one, boundary in zip(z, found, strict=True))

    low, high = math.log(P_VALUE_MIN), math.log1p(-1e-9)
    if excess(low) >= 0:
        return P_VALUE_MIN
    if excess(high) <= 0:
        return 1.0
    return math.exp(root_between(excess, low, high, xtol=1e-11))


def boundaries(
    times: Sequence[float], plan: GroupPlan, *, fractions: Sequence[float] | None = None
) -> tuple[float, ...]:
    """Return the boundaries of looks at given times, if none is crossed.

    Args:
        times: Increasing information.
        plan: Spending and level.
        fractions: Where the spending stands at each look, if not at its information.
    """
    found: list[float] = []
    grid, spent = START, 0.0
    for index, time in enumerate(times):
        fraction = fractions[index] if fractions is not None else time
        target = alpha_spent(plan.spending, fraction, alpha=plan.alpha, sides=plan.sides)
        if target - spent < ALPHA_STEP_MIN:
            found.append(Z_MAX)
        else:
            found.append(_solve(grid, time, increment=target - spent, sides=plan.sides))
            spent = target
        if index + 1 < len(times):
            region = Region(time, -found[-1] if plan.sides == 2 else -math.inf, found[-1])
            grid = advance(grid, region, step=times[index + 1] - time)
    return tuple(found)


def stagewise(path: GroupPath, *, std_error: float, plan: GroupPlan) -> Stagewise:
    """Return p-value, median-unbiased estimate and interval of a closed path.

    Results are ordered by where the path ended: an upper crossing counts as more, the earlier it
    came; a lower one as less, the earlier it came; at the same look z decides.

    Args:
        path: Closed.
        std_error: Of the estimate at its last look; makes effects of drifts.
        plan: Fixed at the start.

    References:
        Tsiatis, Rosner, Mehta (1984), "Exact confidence intervals following a group sequential
        test", Biometrics 40; Jennison, Turnbull (2000), section 8.4.
    """
    last = path[-1]
    sign = -1.0 if plan.sides == 2 and last.z < 0 else 1.0
    z, root = sign * last.z, math.sqrt(last.information)
    regions = (*_regions(path[:-1], plan.sides), Region(last.information, -math.inf, z))
    before = [
        grid_after(
            regions[:index], region.information - (regions[index - 1].information if index else 0.0)
        )
        for index, region in enumerate(regions)
    ]

    def at_least(drift: float) -> float:
        """Return the probability of a result at least as high; for z >= 0, else mirrored."""
        pairs = zip(before, regions, strict=True)
        return math.fsum(exit_high(grid, t, high, drift=drift) for grid, (t, _, high) in pairs)

    def drift_of(probability: float) -> float:
        low, high, step = z / root, z / root, 1 / root
        while at_least(low) > probability:
            low, step = low - step, 2 * step
        step = 1 / root
        while at_least(high) < probability:
            high, step = high + step, 2 * step
        if low == high:
            return low
        return root_between(lambda d: at_least(d) - probability, low, high, xtol=1e-12)

    tail = plan.alpha / plan.sides
    ends = [sign * drift_of(one) * std_error * root for one in (tail, 0.5, 1 - tail)]
    chance = at_least(0.0)
    return Stagewise(
        p_value=min(1.0, 2 * min(chance, 1 - chance)) if plan.sides == 2 else min(1.0, chance),
        estimate=ends[1],
        low=min(ends[0], ends[2]),
        high=max(ends[0], ends[2]),
    )


def _crosses(look: GroupLook, plan: GroupPlan) -> bool:
    return (abs(look.z) if plan.sides == 2 else look.z) >= look.boundary


def _regions(path: GroupPath, sides: Literal[1, 2]) -> tuple[Region, ...]:
    return tuple(
        Region(look.information, -look.boundary if sides == 2 else -math.inf, look.boundary)
        for look in path
    )


def _solve(grid: Grid, information: float, *, increment: float, sides: Literal[1, 2]) -> float:
    """Return the boundary that the test crosses first at this look with that probability."""

    def excess(z: float) -> float:
        return sides * exit_high(grid, information, z) - increment

    low = 0.0 if sides == 2 else -Z_MAX
    if excess(low) <= 0:
        return low
    return root_between(excess, low, Z_MAX, xtol=1e-13)
