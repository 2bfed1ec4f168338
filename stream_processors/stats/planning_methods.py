"""How each method of analysis turns units into power, and power into units."""

from collections.abc import Callable
from typing import NamedTuple

from stream_processors.stats import planning_bayes, planning_fixed, planning_sequential
from stream_processors.stats.planning_designs import Design, is_scored
from stream_processors.stats.planning_formulas import default_formula
from stream_processors.stats.planning_inputs import PlanError, PlanInputs, deciding_chance
from stream_processors.stats.spending import Spending


class Details(NamedTuple):
    """What a method adds to its answer; None where it has nothing to say.

    Attributes:
        power_single_look: Power if only the last look were taken.
        expected_share: Average share of the units used, if the effect is true.
        expected_share_null: The same without an effect.
        n_star: Tuning of the sequence.
        boundaries: Of the planned looks.
        assurance: Power averaged over the prior.
    """

    power_single_look: float | None = None
    expected_share: float | None = None
    expected_share_null: float | None = None
    n_star: int | None = None
    boundaries: tuple[float, ...] = ()
    assurance: float | None = None


def no_details(_: Design, __: float) -> Details:
    """Return nothing: one look has nothing to add."""
    return Details()


class Planner(NamedTuple):
    """One method's answers for one comparison; units are those of all variants.

    Attributes:
        power: Probability to find the effect, as it is shown.
        reach: The same as the method's formula of units has it: closed forms neglect the
            rejections on the wrong side.
        units: Units that reach a power.
        details: What else is to be said of a design with so many units.
    """

    power: Callable[[Design, float], float]
    reach: Callable[[Design, float], float]
    units: Callable[[Design, float], float]
    details: Callable[[Design, float], Details] = no_details


def planner_of(inputs: PlanInputs) -> Planner:
    """Return the planner of a method.

    Raises:
        PlanError: If the prior decides without data.
    """
    if inputs.method == "bayesian":
        return _bayesian(inputs)
    if inputs.method == "always_valid":
        return _always_valid(inputs)
    if inputs.method == "group_sequential":
        return _group_sequential(inputs)
    return _fixed(inputs)


def bayesian_rule(inputs: PlanInputs) -> planning_bayes.Rule:
    """Return the rule of decision, with the prior in the direction that is better."""
    sign = inputs.sign
    return planning_bayes.Rule(
        deciding_chance(inputs), sign * inputs.prior_mean, inputs.prior_deviation
    )


def waits_for_burn_in(inputs: PlanInputs) -> bool:
    """Return whether nothing is decided before the burn-in.

    Of posteriors, those of plain averages of totals do not wait for it, nor do guardrails. One
    look waits at a rate with a relative margin.
    """
    if is_scored(inputs):
        return inputs.margin_scale == "relative"
    if inputs.method != "bayesian":
        return inputs.method in ("always_valid", "group_sequential")
    is_average = inputs.kind in ("count", "sum") and not inputs.covariate_correlation
    return inputs.margin is None and not is_average


def _fixed(inputs: PlanInputs) -> Planner:
    formula = default_formula(inputs)
    if formula == "noncentral_t":
        return Planner(planning_fixed.t_power, planning_fixed.t_power, planning_fixed.t_units)
    if formula == "arcsine":
        return Planner(
            planning_fixed.normal_power,
            planning_fixed.normal_power,
            planning_fixed.normal_units_of_both_tails,
        )
    if waits_for_burn_in(inputs):
        return _fixed_after_burn_in()
    return Planner(
        planning_fixed.normal_power, planning_fixed.normal_reach, planning_fixed.normal_units
    )


def _fixed_after_burn_in() -> Planner:
    def power(design: Design, units: float) -> float:
        is_waiting = units < design.burn_in_units - 1e-6
        return 0.0 if is_waiting else planning_fixed.normal_power(design, units)

    def units(design: Design, power: float) -> float:
        return max(design.burn_in_units, planning_fixed.normal_units(design, power))

    return Planner(power, power, units)


def _bayesian(inputs: PlanInputs) -> Planner:
    rule = bayesian_rule(inputs)
    if planning_bayes.decides_without_data(rule):
        raise PlanError("prior_mean", "the prior alone is above the threshold: no data is needed")

    def is_waiting(design: Design, units: float) -> bool:
        return waits_for_burn_in(inputs) and units < design.burn_in_units - 1e-6

    def chance(design: Design, units: float) -> float:
        if is_waiting(design, units):
            return 0.0
        return planning_bayes.decision_chance(rule, design, units)

    def units(design: Design, power: float) -> float:
        found = planning_bayes.decision_units(rule, design, power)
        if not is_waiting(design, found):
            return found
        if chance(design, design.burn_in_units) >= power:
            return design.burn_in_units
        # With a prior in favour, few units may decide more often than some more.
        return planning_sequential.units_for(
            lambda count: chance(design, count), power, guess=design.burn_in_units
        )

    def details(design: Design, units: float) -> Details:
        averaged = planning_bayes.assurance(rule, design, units)
        if averaged is not None and is_waiting(design, units):
            averaged = 0.0
        return Details(assurance=averaged)

    return Planner(chance, chance, units, details)


def _group_sequential(inputs: PlanInputs) -> Planner:
    spending = Spending(inputs.spending, inputs.spending_power)

    def run_of(design: Design, looks: tuple[float, ...]) -> planning_sequential.Run:
        return planning_sequential.group_run(design.alpha, design.sides, spending, looks)

    def run_for(design: Design, units: float) -> planning_sequential.Run | None:
        looks = planning_sequential.looks_taken(inputs.planned_looks, design, units)
        return run_of(design, looks) if looks else None

    def power(design: Design, units: float) -> float:
        run = run_for(design, units)
        if run is None:
            return 0.0
        return run.power(planning_fixed.normal_drift(design, units), design.sides)

    def units(design: Design, power_wanted: float) -> float:
        whole = run_of(design, inputs.planned_looks)
        drift = planning_sequential.group_drift(whole, power_wanted, design.sides)
        found: float = design.variance * (drift / design.signal) ** 2
        if found * inputs.planned_looks[0] >= design.burn_in_units:
            return found
        return planning_sequential.units_for(
            lambda count: power(design, count), power_wanted, guess=found
        )

    def details(design: Design, units: float) -> Details:
        run = run_for(design, units)
        if run is None:
            return Details()
        return Details(
            expected_share=run.expected_share(planning_fixed.normal_drift(design, units)),
            expected_share_null=run.expected_share(0.0),
            boundaries=tuple(region.high for region in run.path),
        )

    return Planner(power, power, units, details)


def _always_valid(inputs: PlanInputs) -> Planner:
    watch = planning_sequential.Watch(inputs.n_star, inputs.looks, inputs.tau)

    def power(design: Design, units: float) -> float:
        return planning_sequential.sequence_power(watch, design, units)

    def units(design: Design, power: float) -> float:
        return planning_sequential.units_for(
            lambda count: planning_sequential.sequence_power(watch, design, count),
            power,
            guess=1.5 * planning_fixed.normal_units(design, power),
        )

    def details(design: Design, units: float) -> Details:
        drift = planning_fixed.normal_drift(design, units)
        share = design.shares[0] + design.shares[1]
        return Details(
            power_single_look=planning_sequential.sequence_power_at_end(watch, design, units),
            expected_share=planning_sequential.sequence_share(watch, design, units, drift=drift),
            expected_share_null=planning_sequential.sequence_share(watch, design, units, drift=0.0),
            n_star=None if inputs.tau is not None else inputs.n_star or round(units * share),
        )

    return Planner(power, power, units, details)
