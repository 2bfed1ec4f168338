"""How many units, how much power, how small an effect, how many days: one function for all.

Every result names its formula. No number here is simulated.
"""

import dataclasses
import math
from collections.abc import Callable

from stream_processors.stats.planning_days import days_to_mature
from stream_processors.stats.planning_designs import (
    Design,
    alpha_of,
    arm_variances,
    comparisons_in,
    design_of,
    effect_of,
    shares_of,
)
from stream_processors.stats.planning_fixed import UNITS_MAX, normal_units
from stream_processors.stats.planning_formulas import formula_of
from stream_processors.stats.planning_inputs import (
    Formula,
    PlanError,
    PlanInputs,
    PlanResult,
    RelativeStatus,
    checked,
    deciding_chance,
)
from stream_processors.stats.planning_methods import Planner, planner_of, waits_for_burn_in
from stream_processors.stats.planning_sequential import looks_taken
from stream_processors.stats.roots import root_between

__all__ = ["Formula", "PlanError", "PlanInputs", "PlanResult", "plan"]

EFFECT_FIRST = 1e-7
EFFECT_STEP = 1.4
"""A smallest effect is looked for in steps of that factor, from that share of the largest one."""


def plan(inputs: PlanInputs) -> PlanResult:
    """Answer a question of planning.

    With several variants every comparison is with the control, and the one that needs most
    units counts; ``power`` is that of each comparison, not of all of them together.

    Raises:
        PlanError: If the inputs contradict each other; it names the field.

    Example:
        >>> inputs = PlanInputs(kind="conversion", baseline=0.05, effect=0.1)
        >>> result = plan(inputs)  # 5.0 % against 5.5 %
        >>> result.units_by_variant, result.formula.name
        ((31234, 31234), 'pooled')
    """
    inputs = checked(inputs)
    planner = planner_of(inputs)
    if inputs.goal == "sample_size":
        return _size(inputs, planner)
    if inputs.goal == "power":
        return _answer(inputs, planner, effect=effect_of(inputs), units=float(inputs.units or 0))
    return _minimum_effect(inputs, planner)


def _size(inputs: PlanInputs, planner: Planner) -> PlanResult:
    effect = effect_of(inputs)
    designs = _designs(inputs, effect)
    if min(design.signal for design in designs) <= 0:
        return _not_attainable(inputs, "the effect is on the wrong side: no number of units helps")
    units = max(planner.units(design, inputs.power) for design in designs)
    units = max(units, 2 / min(shares_of(inputs)))
    if units > UNITS_MAX:
        return _not_attainable(inputs, "more than 10¹⁵ units: the effect is too small to be found")
    answer = _answer(inputs, planner, effect=effect, units=units)
    return dataclasses.replace(answer, units_control_exact=units * shares_of(inputs)[0])


def _minimum_effect(inputs: PlanInputs, planner: Planner) -> PlanResult:
    units = float(inputs.units or 0)
    sign = inputs.sign

    def shortfall(size: float) -> float:
        reached = (planner.reach(one, units) for one in _designs(inputs, sign * size))
        return min(reached) - inputs.power

    low, high = _bracket(shortfall, _large_effect(inputs, units, sign))
    if high is None:
        return _not_attainable(inputs, "even the largest possible effect is found less often")
    size = root_between(shortfall, low, high, xtol=1e-300, rtol=1e-12)
    answer = _answer(inputs, planner, effect=sign * size, units=units)
    relative, status = _minimum_relative_effect(inputs, size, units, sign)
    return dataclasses.replace(answer, relative_minimum_effect=relative, relative_status=status)


def _bracket(shortfall: Callable[[float], float], largest: float) -> tuple[float, float | None]:
    """Return a size that is found too seldom, and one beside it that is found often enough.

    From small to large, because power need not grow all the way: where the treatment's rate comes
    near 0 or 1 a sequence waits for its burn-in.

    Raises:
        PlanError: If the power is reached without any effect.
    """
    low = largest * EFFECT_FIRST
    if shortfall(low) >= 0:
        raise PlanError("power", "is reached even without an effect; ask for more, or less prior")
    while low < largest:
        size = min(largest, low * EFFECT_STEP)
        if shortfall(size) >= 0:
            return low, size
        low = size
    return low, None


def _large_effect(inputs: PlanInputs, units: float, sign: float) -> float:
    if inputs.kind == "conversion":
        room = 1 - inputs.baseline if sign > 0 else inputs.baseline
        return room * (1 - 1e-9)
    design = max(_designs(inputs, sign), key=lambda one: one.variance)
    return 1_000 * math.sqrt(design.variance / units)


def _minimum_relative_effect(
    inputs: PlanInputs, size: float, units: float, sign: float
) -> tuple[float | None, RelativeStatus]:
    """Return the relative effect whose own interval tells it from 0 as often.

    The control's mean is uncertain too, and counts (1 + r) times: r² = k²(b + (1 + r)² a) is a
    quadratic that has no solution where k² a >= 1, that is where n_c <= k² s_c² / m_c².
    """
    if inputs.baseline == 0:
        return None, "undefined"
    found: list[float] = []
    for treatment in range(1, len(inputs.weights)):
        effect = sign * size
        for _ in range(60):  # A rate's variance moves with the effect; elsewhere one pass does.
            design = design_of(inputs, effect, treatment)
            k = size / math.sqrt(design_of(inputs, sign * size, treatment).variance / units)
            variances = arm_variances(inputs, effect)
            scale = k * k / (units * inputs.baseline**2)
            a = scale * variances[0] / design.shares[0]
            b = scale * variances[1] / design.shares[1]
            if a >= 1:
                return None, "not_attainable"
            root = math.sqrt(a * a + (1 - a) * (a + b))
            relative = (math.copysign(a, inputs.baseline) + sign * root) / (1 - a)
            last, effect = effect, relative * abs(inputs.baseline)
            if inputs.kind == "conversion" and not 0 < inputs.baseline + effect < 1:
                return None, "not_attainable"
            if abs(effect - last) <= 1e-13 * abs(effect):
                break
        found.append(relative)
    return max(found, key=abs), "ok"


def _answer(inputs: PlanInputs, planner: Planner, *, effect: float, units: float) -> PlanResult:
    shares = shares_of(inputs)
    by_variant = tuple(math.ceil(units * share - 1e-9) for share in shares)
    if inputs.goal != "sample_size":
        by_variant = _split(round(units), shares)
    designs = _designs(inputs, effect)
    worst = min(designs, key=lambda design: planner.power(design, units))
    if inputs.goal == "sample_size":
        units = min(count / share for count, share in zip(by_variant, shares, strict=True))
    details = planner.details(worst, units)
    total = sum(by_variant)
    return PlanResult(
        status="ok",
        goal=inputs.goal,
        method=inputs.method,
        formula=formula_of(inputs),
        comparisons=comparisons_in(inputs),
        alpha_per_comparison=alpha_of(inputs),
        units=total,
        units_by_variant=by_variant,
        power=min(1.0, planner.power(worst, units)),
        power_single_look=details.power_single_look,
        effect=effect,
        relative_effect=effect / abs(inputs.baseline) if inputs.baseline else None,
        relative_status="ok" if inputs.baseline else "undefined",
        inflation=_inflation(inputs, worst, units),
        expected_units=_share_of(total, details.expected_share),
        expected_units_null=_share_of(total, details.expected_share_null),
        days=_days(inputs, total),
        expected_days=_days(inputs, _share_of(total, details.expected_share)),
        n_star=details.n_star,
        boundaries=details.boundaries,
        assurance=details.assurance,
        notes=(*_notes(inputs), *_burn_in_notes(inputs, worst, units)),
    )


def _burn_in_notes(inputs: PlanInputs, design: Design, units: float) -> tuple[str, ...]:
    """Return what the burn-in takes from a plan, where it takes a planned look or half of it."""
    burn_in = math.ceil(design.burn_in_units - 1e-6)
    if inputs.method == "group_sequential":
        taken = looks_taken(inputs.planned_looks, design, units)
        missed = [f"{look:g}" for look in inputs.planned_looks if look not in taken]
        if missed:
            early = f"nothing is found at {', '.join(missed)} of the units"
            return (f"no look is taken before the burn-in of about {burn_in:,} units: {early}",)
    if inputs.method != "group_sequential" and waits_for_burn_in(inputs) and 2 * burn_in > units:
        return (f"nothing is found before the burn-in of about {burn_in:,} units",)
    return ()


def _split(units: int, shares: tuple[float, ...]) -> tuple[int, ...]:
    """Return whole units by share; what rounding leaves goes to the largest remainders."""
    counts = [math.floor(units * share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda one: counts[one] - units * shares[one])
    for one in by_remainder[: units - sum(counts)]:
        counts[one] += 1
    return tuple(counts)


def _designs(inputs: PlanInputs, effect: float) -> list[Design]:
    return [design_of(inputs, effect, treatment) for treatment in range(1, len(inputs.weights))]


def _not_attainable(inputs: PlanInputs, why: str) -> PlanResult:
    return PlanResult(
        status="not_attainable",
        goal=inputs.goal,
        method=inputs.method,
        formula=formula_of(inputs),
        comparisons=comparisons_in(inputs),
        alpha_per_comparison=alpha_of(inputs),
        notes=(why, *_notes(inputs)),
    )


def _inflation(inputs: PlanInputs, design: Design, units: float) -> float | None:
    """Return the units of the method over those of one fixed look with the same test."""
    if inputs.goal != "sample_size" or inputs.method not in ("always_valid", "group_sequential"):
        return None
    return units / normal_units(design, inputs.power)


def _share_of(units: int, share: float | None) -> float | None:
    return None if share is None else units * share


def _days(inputs: PlanInputs, units: float | None) -> float | None:
    if units is None or inputs.units_per_day is None:
        return None
    return days_to_mature(
        units,
        units_per_day=inputs.units_per_day,
        ramp=inputs.ramp,
        window_days=inputs.window_days,
    )


def _notes(inputs: PlanInputs) -> tuple[str, ...]:
    notes = []
    if len(inputs.weights) > 2:
        notes.append(
            "power is that of each comparison with the control; the smallest share decides"
        )
    shares_alpha = inputs.correction == "bonferroni" and inputs.method != "bayesian"
    if comparisons_in(inputs) > 1 and shares_alpha:
        notes.append(
            f"alpha is shared by {comparisons_in(inputs)} comparisons (Bonferroni);"
            " Holm needs no more units"
        )
    if inputs.covariate_correlation:
        notes.append(
            "the covariate's correlation is a guess until its metric has run: it shrinks the units"
        )
    if inputs.kind == "quantile":
        notes.append("a quantile's normal approximation needs many units beyond the quantile")
        if inputs.quantile is None and waits_for_burn_in(inputs):
            notes.append("without its quantile a plan does not know how long the burn-in is")
    if inputs.method == "always_valid":
        notes.append(
            f"power over a run of {inputs.looks} equal looks; looking more often only adds to it"
        )
    if inputs.method == "bayesian":
        notes.append(
            f"decides at a posterior chance of {deciding_chance(inputs):.6g} at one look, several"
            " comparisons or not: this is no error rate, and a posterior is not protected against"
            " repeated looks"
        )
    return tuple(notes)
