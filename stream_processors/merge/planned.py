"""Group-sequential looks of one comparison: taken when due, kept as they were. Pure."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

from schemas.definitions import Analysis, Definition, Metric
from stream_processors.merge.path import CapMove, GroupState, most
from stream_processors.stats.effects import CupedEffect, Effect, RelativeEffect
from stream_processors.stats.group_sequential import (
    GroupPath,
    GroupPlan,
    GroupTest,
    boundaries,
    group_test,
    is_closed,
    is_due,
    take_look,
)
from stream_processors.stats.spending import Spending, alpha_spent

Entry = dict[str, Any]

STOPPED_BEFORE_LOOK = "stopped_before_look"
"""What holds a planned look back for good: the end came first."""


class Information(NamedTuple):
    """How far a comparison is, and what its look is about.

    Attributes:
        units: Matured units of both variants.
        is_final: Whether this is the experiment's last look. It makes no look official that was
            not planned: the time of the end may have been chosen by what was seen.
        tick: Number of the tick.
        cap: Chosen cap of the grid, in quanta; None where none was chosen.
    """

    units: int
    is_final: bool
    tick: int
    cap: int | None


class Plans(NamedTuple):
    """How one comparison is tested, alone and among the others of its role.

    A path is over once it has crossed a boundary, so that has to be one at which Holm's procedure
    is sure to agree: that of alpha over the number of comparisons. What is shown of a comparison
    taken alone goes by alpha itself; its repeated p-value is the same under both.

    Attributes:
        units_max: Planned units of a pair.
        alone: At alpha.
        among_others: At alpha over the number of comparisons: when the path is over.
    """

    units_max: int
    alone: GroupPlan
    among_others: GroupPlan


def plans_of(definition: Definition, metric: Metric, *, one_sided: bool = False) -> Plans:
    """Return how a definition tests a metric.

    The others are those of its role that were there when it was added: a plan is never another
    one later.
    """
    analysis = definition.analysis
    metrics = sum(
        other.role == metric.role
        and other.window_ms is not None
        and other.added_at_ms <= metric.added_at_ms
        for other in definition.metrics
    )
    comparisons = metrics * (len(definition.variants) - 1)
    return Plans(
        analysis.units_max or 1,
        _plan(analysis, analysis.alpha, one_sided=one_sided),
        _plan(analysis, analysis.alpha / max(1, comparisons), one_sided=one_sided),
    )


def _plan(analysis: Analysis, alpha: float, *, one_sided: bool) -> GroupPlan:
    spending = Spending(analysis.spending, analysis.spending_power or 1.0)
    return GroupPlan(alpha, spending, analysis.planned_looks, 1 if one_sided else 2)


def is_look_due(looks: GroupPath, information: Information, plans: Plans) -> bool:
    """Return whether an official look is due: a planned one, never the end as such.

    Boundaries hold at times that do not depend on the results. Between planned looks the page
    shows everything, so an end there is a time that the results may have chosen: with Pocock's
    spending and one planned look, whoever stops as soon as the boundary of that moment is crossed
    finds a difference in 15 % of experiments without one, although the rest is left unspent.
    """
    return is_due(looks, information.units / plans.units_max, plans.among_others)


def is_stopped_between(looks: GroupPath, information: Information, plans: Plans) -> bool:
    """Return whether the experiment has ended while its test waited for a planned look."""
    is_open = not is_closed(looks, plans.among_others)
    return information.is_final and is_open and not is_look_due(looks, information, plans)


def path_after(looks: GroupPath, information: Information, z: float, plans: Plans) -> GroupPath:
    """Return the looks with this one, if it is due; the very same if it is not."""
    if information.units == 0 or not is_look_due(looks, information, plans):
        return looks
    fraction = information.units / plans.units_max
    return take_look(looks, information=fraction, z=z, plan=plans.among_others)


def held_back(
    before: GroupState | None,
    effect: Effect | CupedEffect | None,
    information: Information,
    plans: Plans,
) -> str | None:
    """Return what kept the next look from being taken; None if none was due, or it was taken.

    Such a look spends nothing, and is taken as soon as it can be computed. It is a status of the
    edge rules (``warming_up``: it waits for the burn-in), or ``stopped_before_look`` where the
    experiment ended before it was due.
    """
    looks = before.looks if before is not None else ()
    if is_stopped_between(looks, information, plans):
        return STOPPED_BEFORE_LOOK
    if not is_look_due(looks, information, plans):
        return None
    if effect is None:
        return "undefined"
    if effect.status != "ok":
        return effect.status
    if "ties" in effect.flags:
        return "ties"
    if effect.estimate is None or not effect.std_error:
        return "zero_variance"
    return None


def boundary_alone(looks: GroupPath, plans: Plans) -> float:
    """Return what |z| had to reach at the last look, were the comparison the only one."""
    if plans.alone == plans.among_others:
        return looks[-1].boundary
    return _boundary(tuple(look.information for look in looks), plans.alone)


def group_after(
    before: GroupState | None,
    effect: Effect | CupedEffect,
    information: Information,
    plans: Plans,
) -> GroupState | None:
    """Return the test after this look; the same between planned looks and during the burn-in."""
    if effect.status != "ok" or effect.estimate is None or not effect.std_error:
        return before
    looks = before.looks if before is not None else ()
    after = path_after(looks, information, effect.estimate / effect.std_error, plans)
    if after == looks:
        return before
    boundary = boundary_alone(after, plans)
    kept, moved = _kept(before, information)
    relative_low, relative_high = _relative_ends(effect.relative, boundary)
    reach = boundary * effect.std_error
    return GroupState(
        looks=after,
        estimate=effect.estimate,
        std_error=effect.std_error,
        low=max(effect.estimate - reach, -math.inf if kept is None else kept.low),
        high=min(effect.estimate + reach, math.inf if kept is None else kept.high),
        relative=effect.relative.estimate,
        relative_std_error=effect.relative.std_error,
        relative_low=most(max, None if kept is None else kept.relative_low, relative_low),
        relative_high=most(min, None if kept is None else kept.relative_high, relative_high),
        cap=information.cap,
        moved=moved,
    )


def _kept(
    before: GroupState | None, information: Information
) -> tuple[GroupState | None, CapMove | None]:
    """Return whose intervals go on at this look, and the last time that they began anew.

    Intervals at another cap are about another effect. What was spent is spent all the same.
    """
    if before is None:
        return None, None
    if before.cap == information.cap:
        return before, before.moved
    return None, CapMove(information.tick, before.cap)


def _relative_ends(
    relative: RelativeEffect, boundary: float
) -> tuple[float, float] | tuple[None, None]:
    if relative.estimate is None or relative.std_error is None:
        return None, None
    reach = boundary * relative.std_error
    return relative.estimate - reach, relative.estimate + reach


def group_entry(state: GroupState | None, plans: Plans, held: str | None = None) -> Entry | None:
    """Return the test as of its last official look; None before the first.

    Args:
        state: As of that look.
        plans: Of the comparison.
        held: What holds the next one back; see ``held_back``.
    """
    if state is None:
        return None
    test = _tested(state.looks, state.estimate, state.std_error, plans.among_others)
    if test is None:
        return None
    boundary, stagewise, alone = boundary_alone(state.looks, plans), test.stagewise, plans.alone
    is_empty = state.low > state.high
    return {
        "status": test.status,
        "look": test.look_count,
        "information": test.information,
        "estimate": state.estimate,
        "std_error": state.std_error,
        "statistic": test.z,
        "boundary": boundary,
        "family_boundary": test.boundary,
        "alpha_spent": alpha_spent(alone.spending, test.information, alpha=alone.alpha),
        "p_value": test.p_value,
        "low": state.estimate - boundary * state.std_error,
        "high": state.estimate + boundary * state.std_error,
        "running_low": None if is_empty else state.low,
        "running_high": None if is_empty else state.high,
        "next_information": test.next_information,
        "held_back": held,
        "stagewise": None if stagewise is None else stagewise._asdict(),
    }


def relative_group_entry(state: GroupState | None, plans: Plans) -> Entry | None:
    """Return the repeated interval of the relative effect, by the delta method."""
    if state is None or state.relative is None or state.relative_std_error is None:
        return None
    reach = boundary_alone(state.looks, plans) * state.relative_std_error
    low, high = state.relative_low, state.relative_high
    is_empty = low is not None and high is not None and low > high
    return {
        "estimate": state.relative,
        "method": "delta",
        "low": state.relative - reach,
        "high": state.relative + reach,
        "running_low": None if is_empty else low,
        "running_high": None if is_empty else high,
    }


@lru_cache(maxsize=4096)
def _tested(
    looks: GroupPath, estimate: float, std_error: float, plan: GroupPlan
) -> GroupTest | None:
    """Return the test of a path; it stays the same for many ticks, and takes root finding."""
    return group_test(looks, estimate=estimate, std_error=std_error, plan=plan)


@lru_cache(maxsize=4096)
def _boundary(times: tuple[float, ...], plan: GroupPlan) -> float:
    return boundaries(times, plan)[-1]
