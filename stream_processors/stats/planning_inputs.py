"""What is asked of the planner and what it answers; what cannot be asked is refused here."""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal["conversion", "count", "sum", "mean", "ratio", "quantile"]
Method = Literal["fixed_horizon", "always_valid", "group_sequential", "bayesian"]
Goal = Literal["sample_size", "power", "minimum_effect"]
Scale = Literal["absolute", "relative"]
RateFormula = Literal["pooled", "unpooled", "evan_miller", "arcsine"]
MeanFormula = Literal["normal", "noncentral_t"]
RelativeStatus = Literal["ok", "undefined", "not_attainable"]

RATE_FORMULAS = ("pooled", "unpooled", "evan_miller", "arcsine")
MEAN_FORMULAS = ("normal", "noncentral_t")

SIZE_MIN, SIZE_MAX = 1e-30, 1e30
"""Of what is measured in metric units, in size: squares and their ratios stay within floats."""

RATE_MIN, RATE_MAX = 1e-9, 1 - 1e-6
"""Of a control's rate: beyond them the next float is no small step any more."""

ALPHA_MIN = 1e-9
POWER_MAX = 1 - 1e-6
"""Above it a power that is summed up over looks may never be reached, for rounding."""

SHARE_MIN = 1e-6
"""Of a variant among all units, and of a day of a ramp."""

DAILY_MIN, DAILY_MAX = 1e-6, 1e12
"""Units a day."""

LOOK_STEP_MIN = 1e-4
"""Between planned looks, as a share of the information: closer ones are the same look."""

SPENDING_POWER_MIN, SPENDING_POWER_MAX = 0.01, 100.0

LOOKS_MAX = 500
"""Looks of a run that is planned: a second or so of arithmetic."""


class PlanError(ValueError):
    """The inputs contradict each other, or something needed is missing.

    Attributes:
        field: Name of the field of ``PlanInputs`` to mend.
    """

    def __init__(self, field: str, message: str) -> None:
        """Name the field; the message says what to do."""
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInputs:
    """A question to the planner. What is None is worked out or not needed.

    Attributes:
        goal: What is wanted: ``sample_size`` needs ``effect`` and ``power``, ``power`` needs
            ``effect`` and ``units``, ``minimum_effect`` needs ``units`` and ``power``.
        kind: Of the metric.
        baseline: The control's mean, rate, ratio or quantile, in metric units.
        deviation: Standard deviation of a unit's total (``count``, ``sum``); √v of the delta
            method for ``ratio`` and ``mean``, v = (s_yy - 2R s_yd + R² s_dd) / d̄²; for
            ``quantile`` √units times the standard error of one arm's quantile. Not for rates.
        treatment_deviation: The treatment's, where it differs.
        quantile: For kind ``quantile``: in (0, 1).
        density: For kind ``quantile``, instead of ``deviation``: density of the unit totals at
            the quantile, in 1 / metric units; the deviation is then √(q(1 - q)) / density.
        effect: True effect of the treatment; signed. With a margin: 0 by default.
        effect_scale: ``absolute`` in metric units, ``relative`` as a share of |baseline|.
        direction: Which way is better; the sign of a minimum effect, and the side of a margin.
        margin: Non-inferiority margin, > 0: the plan is then one-sided, for a guardrail.
        margin_scale: ``absolute`` or ``relative``.
        sides: 2, or 1 for a one-sided test in ``direction``. A margin makes it 1.
        alpha: Error probability of the whole family, in (0, 1).
        power: Wanted probability to find the effect, in (alpha, 1).
        units: Units of all variants together.
        weights: Shares of the variants, control first, in any scale.
        decision_metrics: Metrics in the family; with the variants they make its size.
        correction: ``bonferroni`` (also the plan for Holm, whose first step it is) or ``none``.
        covariate_correlation: Between the metric and its pre-period value, in (-1, 1).
        covariate_share: Share of units that have a pre-period, in [0, 1].
        method: How the results will be read.
        formula: For rates ``pooled`` (default), ``unpooled``, ``evan_miller``, ``arcsine``; for
            all others ``noncentral_t`` (default) or ``normal`` (for quantiles the default). Of
            a fixed horizon only. With a margin rates have the score test's, or ``unpooled``,
            which is that of the plain z.
        n_star: Always valid: units of a pair at which the sequence is about tightest; None:
            the planned units of the pair.
        tau: Always valid: standard deviation of the effects that the sequence is mixed over, in
            metric units, instead of ``n_star``: the tuning ``mixture``.
        looks: Always valid: equally spaced looks of a whole run.
        planned_looks: Group sequential: increasing information fractions, the last one 1.
        spending: Group sequential: ``obrien_fleming``, ``pocock`` or ``power``.
        spending_power: Exponent of the spending ``power``, > 0.
        prior_mean: Bayesian: of the absolute effect.
        prior_deviation: Bayesian: None for a flat prior.
        threshold: Bayesian: posterior chance to be better at which one decides; None: that of the
            verdict, see ``deciding_chance``.
        units_per_day: New units of the whole experiment at full coverage; None: no days.
        ramp: Shares of that traffic on the first days; from then on the last of them holds.
        window_days: How long a unit's total takes to mature.
    """

    kind: Kind
    baseline: float
    goal: Goal = "sample_size"
    deviation: float | None = None
    treatment_deviation: float | None = None
    quantile: float | None = None
    density: float | None = None
    effect: float | None = None
    effect_scale: Scale = "relative"
    direction: Literal["increase", "decrease"] = "increase"
    margin: float | None = None
    margin_scale: Scale = "relative"
    sides: Literal[1, 2] = 2
    alpha: float = 0.05
    power: float = 0.8
    units: int | None = None
    weights: tuple[float, ...] = (1.0, 1.0)
    decision_metrics: int = 1
    correction: Literal["bonferroni", "none"] = "bonferroni"
    covariate_correlation: float = 0.0
    covariate_share: float = 1.0
    method: Method = "fixed_horizon"
    formula: RateFormula | MeanFormula | None = None
    n_star: int | None = None
    tau: float | None = None
    looks: int = 100
    planned_looks: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    spending: Literal["obrien_fleming", "pocock", "power"] = "obrien_fleming"
    spending_power: float = 1.0
    prior_mean: float = 0.0
    prior_deviation: float | None = None
    threshold: float | None = None
    units_per_day: float | None = None
    ramp: tuple[float, ...] = (1.0,)
    window_days: float = 0.0

    @property
    def sign(self) -> float:
        """Return the sign of an effect that is better: 1 or -1."""
        return 1.0 if self.direction == "increase" else -1.0


class Formula(NamedTuple):
    """What a number was computed by.

    Attributes:
        name: Short and stable.
        expression: The formula itself.
        source: Where it is from.
    """

    name: str
    expression: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanResult:
    """An answer of the planner. What is None is so for the reason in ``status`` or ``notes``.

    Attributes:
        status: ``ok``; ``not_attainable`` where no number of units, or no effect, would do.
        goal: As asked.
        method: As asked.
        units: Of all variants together, rounded up per variant.
        units_by_variant: Control first.
        units_control_exact: The control's units before rounding up; None unless the units were
            asked for.
        power: Attained with ``units``, at the effect; over a whole run for sequential methods.
        power_single_look: Always valid: at one look at the end.
        effect: The effect planned for, or the smallest one that is found with ``power``; signed,
            in metric units. With a margin: the true effect.
        relative_effect: ``effect`` / |baseline|.
        relative_minimum_effect: Of a minimum effect: the smallest relative effect that the
            *relative* effect's own interval tells from 0, the control's noise included.
        relative_status: ``ok``; ``undefined`` where the baseline is 0; ``not_attainable`` where
            the control's mean is too noisy for any relative effect to be found.
        comparisons: Size of the family.
        alpha_per_comparison: Level of each test.
        inflation: Of a sample size: units of this method over those of one fixed look with the
            same level and power.
        expected_units: Average units at the stop if the effect is true.
        expected_units_null: The same if there is no effect.
        days: Until the last unit has entered and matured.
        expected_days: The same at ``expected_units``.
        n_star: Always valid: the one used; None where ``tau`` tunes.
        boundaries: Group sequential: |z| at the planned looks.
        assurance: Bayesian with a prior: the chance to decide for the treatment, averaged over it.
        formula: By what all this was computed.
        notes: What a reader should know besides.
    """

    status: Literal["ok", "not_attainable"]
    goal: Goal
    method: Method
    formula: Formula
    comparisons: int
    alpha_per_comparison: float
    units: int | None = None
    units_by_variant: tuple[int, ...] = ()
    units_control_exact: float | None = None
    power: float | None = None
    power_single_look: float | None = None
    effect: float | None = None
    relative_effect: float | None = None
    relative_minimum_effect: float | None = None
    relative_status: RelativeStatus = "ok"
    inflation: float | None = None
    expected_units: float | None = None
    expected_units_null: float | None = None
    days: float | None = None
    expected_days: float | None = None
    n_star: int | None = None
    boundaries: tuple[float, ...] = ()
    assurance: float | None = None
    notes: tuple[str, ...] = field(default=())


def checked(inputs: PlanInputs) -> PlanInputs:
    """Return the inputs.

    Raises:
        PlanError: If something is missing, out of range, or contradicts another field.
    """
    _check_ranges(inputs)
    _check_sizes(inputs)
    _check_metric(inputs)
    _check_method(inputs)
    if inputs.goal != "minimum_effect" and inputs.effect is None and inputs.margin is None:
        raise PlanError("effect", f"is needed for the goal {inputs.goal}")
    if inputs.goal == "minimum_effect" and inputs.margin is not None:
        raise PlanError("margin", "a guardrail has no minimum effect; ask for its power")
    if inputs.goal != "sample_size" and inputs.units is None:
        raise PlanError("units", f"is needed for the goal {inputs.goal}")
    if inputs.goal != "minimum_effect" and inputs.margin is None and inputs.effect == 0:
        raise PlanError("effect", "must not be 0: no number of units finds no effect")
    return inputs


def _check_ranges(inputs: PlanInputs) -> None:
    for name in ("alpha", "power", "threshold"):
        value = getattr(inputs, name)
        if value is not None and not 0 < value < 1:
            raise PlanError(name, f"{value}, must be between 0 and 1")
    if inputs.alpha < ALPHA_MIN:
        raise PlanError("alpha", f"{inputs.alpha}, must be {ALPHA_MIN} or more")
    for name in ("power", "threshold"):
        value = getattr(inputs, name)
        if value is not None and value > POWER_MAX:
            raise PlanError(name, f"{value}, must be {POWER_MAX} at most")
    if inputs.goal != "power" and inputs.power <= inputs.alpha:
        raise PlanError("power", "must be above alpha: a coin reaches less")
    if len(inputs.weights) < 2 or not all(0 < one < math.inf for one in inputs.weights):
        raise PlanError("weights", "must be two or more numbers above 0, the control's first")
    if not all(SIZE_MIN <= one <= SIZE_MAX for one in inputs.weights):
        rule = f"each must be {SIZE_MIN:g} to {SIZE_MAX:g}"
        raise PlanError("weights", f"{list(inputs.weights)}, {rule}")
    total = math.fsum(one / max(inputs.weights) for one in inputs.weights)
    if min(inputs.weights) / max(inputs.weights) / total < SHARE_MIN:
        rule = f"each must be a share of {SHARE_MIN} or more of all of them"
        raise PlanError("weights", f"{list(inputs.weights)}, {rule}")
    if inputs.decision_metrics < 1:
        raise PlanError("decision_metrics", "must be at least 1")
    if inputs.units is not None and inputs.units < 2 * len(inputs.weights):
        raise PlanError("units", "must be at least two per variant")
    if not -1 < inputs.covariate_correlation < 1:
        raise PlanError("covariate_correlation", "must be between -1 and 1, both excluded")
    if not 0 <= inputs.covariate_share <= 1:
        raise PlanError("covariate_share", "must be between 0 and 1")
    if inputs.margin is not None and not 0 < inputs.margin < math.inf:
        raise PlanError("margin", "must be above 0; the direction says on which side it is")
    daily = inputs.units_per_day
    if daily is not None and not DAILY_MIN <= daily <= DAILY_MAX:
        raise PlanError("units_per_day", f"{daily}, must be {DAILY_MIN} to {DAILY_MAX:g}")
    if not inputs.ramp or not all(SHARE_MIN <= one <= 1 for one in inputs.ramp):
        raise PlanError("ramp", f"must be one or more shares of {SHARE_MIN} to 1")
    if not 0 <= inputs.window_days < math.inf:
        raise PlanError("window_days", "must be at least 0")


def _check_sizes(inputs: PlanInputs) -> None:
    """Check what is measured in metric units, as posted and as it enters.

    Raises:
        PlanError: If something is not finite, or so large or small that its square is not.
    """
    signed = {name: getattr(inputs, name) for name in ("baseline", "effect", "margin")}
    signed["prior_mean"] = inputs.prior_mean
    positive = ("deviation", "treatment_deviation", "density", "tau", "prior_deviation")
    given = signed | {name: getattr(inputs, name) for name in positive}
    for name, value in given.items():
        if value is None or (value == 0 and name in signed):
            continue
        if not SIZE_MIN <= abs(value) <= SIZE_MAX:
            zero = ", or 0" if name in signed else ""
            rule = f"must be {SIZE_MIN:g} to {SIZE_MAX:g} in size{zero}"
            raise PlanError(name, f"{value}, {rule}: take another unit of measurement")
    for name, scale in (("effect", inputs.effect_scale), ("margin", inputs.margin_scale)):
        value = getattr(inputs, name)
        if value and scale == "relative" and inputs.baseline:
            size = abs(value * inputs.baseline)
            if not SIZE_MIN <= size <= SIZE_MAX:
                rule = f"times the baseline it is {size:g}, must be {SIZE_MIN:g} to {SIZE_MAX:g}"
                raise PlanError(name, f"{value}, {rule}")


def _check_metric(inputs: PlanInputs) -> None:
    is_rate = inputs.kind == "conversion"
    if is_rate and not RATE_MIN <= inputs.baseline <= RATE_MAX:
        rule = f"must be a rate of {RATE_MIN:g} to {RATE_MAX}"
        raise PlanError("baseline", f"{inputs.baseline}, {rule}")
    allowed = RATE_FORMULAS if is_rate else MEAN_FORMULAS
    if inputs.formula is not None and inputs.formula not in allowed:
        raise PlanError("formula", f"must be one of {', '.join(allowed)} for {inputs.kind}")
    if is_rate and inputs.margin is not None and inputs.formula not in (None, "unpooled"):
        rule = (
            "must be left out with a margin, or unpooled: the test has its variance at the margin"
        )
        raise PlanError("formula", rule)
    relative = "relative" in (
        inputs.effect_scale if inputs.effect else "",
        inputs.margin_scale if inputs.margin else "",
    )
    if relative and inputs.baseline == 0:
        raise PlanError("baseline", "must not be 0 for a relative effect or margin")
    if is_rate:
        return
    if inputs.kind == "quantile" and inputs.deviation is None:
        if inputs.quantile is None or not RATE_MIN <= inputs.quantile <= RATE_MAX:
            rule = f"is needed, {RATE_MIN:g} to {RATE_MAX}, where there is a density"
            raise PlanError("quantile", rule)
        if inputs.density is None or not 0 < inputs.density < math.inf:
            raise PlanError("density", "is needed, above 0, where there is no deviation")
    elif inputs.deviation is None or not 0 < inputs.deviation < math.inf:
        raise PlanError("deviation", f"is needed, above 0, for kind {inputs.kind}")
    if inputs.treatment_deviation is not None and not 0 < inputs.treatment_deviation < math.inf:
        raise PlanError("treatment_deviation", "must be above 0")


def _check_method(inputs: PlanInputs) -> None:
    looks = inputs.planned_looks
    if not looks or any(b <= a for a, b in zip((0.0, *looks), looks, strict=False)):
        raise PlanError("planned_looks", "must be increasing fractions above 0")
    if looks[-1] != 1:
        raise PlanError("planned_looks", "must end with 1: the last planned look")
    if min(b - a for a, b in zip((0.0, *looks), looks, strict=False)) < LOOK_STEP_MIN:
        raise PlanError("planned_looks", f"must be {LOOK_STEP_MIN} apart or more, the first from 0")
    if not SPENDING_POWER_MIN <= inputs.spending_power <= SPENDING_POWER_MAX:
        rule = f"must be {SPENDING_POWER_MIN} to {SPENDING_POWER_MAX}"
        raise PlanError("spending_power", f"{inputs.spending_power}, {rule}")
    if not 1 <= inputs.looks <= LOOKS_MAX:
        raise PlanError("looks", f"must be between 1 and {LOOKS_MAX}")
    if inputs.n_star is not None and inputs.n_star < 1:
        raise PlanError("n_star", "must be at least 1")
    if inputs.tau is not None and not 0 < inputs.tau < math.inf:
        raise PlanError("tau", "must be above 0")
    if inputs.tau is not None and inputs.n_star is not None:
        raise PlanError("tau", "must not be given together with n_star: one of them tunes")
    if inputs.prior_deviation is not None and not 0 < inputs.prior_deviation < math.inf:
        raise PlanError("prior_deviation", "must be above 0, or null for a flat prior")
    if inputs.method == "bayesian":
        _check_bayesian(inputs)


def _check_bayesian(inputs: PlanInputs) -> None:
    if deciding_chance(inputs) <= 0.5:
        name = "alpha" if inputs.threshold is None else "threshold"
        raise PlanError(name, "the chance at which one decides must be above 0.5")
    if inputs.prior_deviation is None:
        return
    if inputs.kind == "conversion" and not inputs.covariate_correlation:
        raise PlanError(
            "prior",
            "must be null for a conversion: rates have uniform priors of their own; leave it out, "
            "or plan the same events as a count",
        )
    if inputs.margin is not None:
        raise PlanError(
            "prior", "must be null with a margin: guardrails are read with a flat prior"
        )


def deciding_chance(inputs: PlanInputs) -> float:
    """Return the posterior chance from which on one decides: by default that of the verdict.

    It names a gain where the interval that holds 1 - alpha has 0 below it, and passes a guardrail
    where the margin holds with chance 1 - alpha.
    """
    if inputs.threshold is not None:
        return inputs.threshold
    return 1 - (inputs.alpha if inputs.margin is not None else inputs.alpha / 2)
