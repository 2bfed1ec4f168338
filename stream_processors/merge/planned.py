"""Group-sequential looks of one comparison: taken when due, kept as they were. Pure."""

from functools import lru_cache
from typing import Any, NamedTuple

from schemas.definitions import Analysis
from stream_processors.merge.path import GroupState
from stream_processors.stats.effects import CupedEffect, Effect
from stream_processors.stats.group_sequential import (
    GroupPath,
    GroupPlan,
    GroupTest,
    group_test,
    is_closed,
    is_due,
    take_look,
)
from stream_processors.stats.spending import Spending

Entry = dict[str, Any]


class Information(NamedTuple):
    """How far a comparison is.

    Attributes:
        units: Matured units of both variants.
        is_final: Whether this is the experiment's last look. What is left of the error probability
            is not spent on it: it may have been ended because of what was seen.
    """

    units: int
    is_final: bool


def group_plan(analysis: Analysis, *, one_sided: bool = False) -> GroupPlan:
    """Return the test that a definition plans."""
    return GroupPlan(
        analysis.alpha,
        Spending(analysis.spending, analysis.spending_power or 1.0),
        analysis.planned_looks,
        1 if one_sided else 2,
    )


def path_after(
    looks: GroupPath, information: Information, z: float, *, analysis: Analysis, plan: GroupPlan
) -> GroupPath:
    """Return the looks with this one, if it is due; the very same if it is not."""
    if analysis.units_max is None or information.units == 0:
        return looks
    fraction = information.units / analysis.units_max
    may_look = is_due(looks, fraction, plan) or (
        information.is_final and not is_closed(looks, plan)
    )
    return take_look(looks, information=fraction, z=z, plan=plan) if may_look else looks


def group_after(
    before: GroupState | None,
    effect: Effect | CupedEffect,
    information: Information,
    analysis: Analysis,
) -> GroupState | None:
    """Return the test after this look; the same between planned looks and during the burn-in."""
    if effect.status != "ok" or effect.estimate is None or not effect.std_error:
        return before
    looks = before.looks if before is not None else ()
    after = path_after(
        looks,
        information,
        effect.estimate / effect.std_error,
        analysis=analysis,
        plan=group_plan(analysis),
    )
    if after == looks:
        return before
    relative = effect.relative
    return GroupState(
        after, effect.estimate, effect.std_error, relative.estimate, relative.std_error
    )


def group_entry(state: GroupState | None, analysis: Analysis) -> Entry | None:
    """Return the test as of its last official look; None before the first."""
    if state is None:
        return None
    test = _tested(state.looks, state.estimate, state.std_error, group_plan(analysis))
    if test is None:
        return None
    stagewise = test.stagewise
    return {
        "status": test.status,
        "look": test.look_count,
        "information": test.information,
        "estimate": state.estimate,
        "std_error": state.std_error,
        "statistic": test.z,
        "boundary": test.boundary,
        "nominal_alpha": test.nominal_alpha,
        "alpha_spent": test.alpha_spent,
        "p_value": test.p_value,
        "low": test.low,
        "high": test.high,
        "next_information": test.next_information,
        "stagewise": None if stagewise is None else stagewise._asdict(),
    }


def relative_group_entry(state: GroupState | None) -> Entry | None:
    """Return the repeated interval of the relative effect, by the delta method."""
    if state is None or state.relative is None or state.relative_std_error is None:
        return None
    reach = state.looks[-1].boundary * state.relative_std_error
    return {
        "estimate": state.relative,
        "method": "delta",
        "low": state.relative - reach,
        "high": state.relative + reach,
    }


@lru_cache(maxsize=4096)
def _tested(
    looks: GroupPath, estimate: float, std_error: float, plan: GroupPlan
) -> GroupTest | None:
    """Return the test of a path; it stays the same for many ticks, and takes root finding."""
    return group_test(looks, estimate=estimate, std_error=std_error, plan=plan)
