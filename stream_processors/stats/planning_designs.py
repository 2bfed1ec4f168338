"""The one shape that every metric's plan is reduced to.

Whatever the metric, its estimate is about normal with a variance that shrinks as 1 / units. So a
design needs three numbers: how far the truth is from the null hypothesis, and the variance of the
estimate times the units, under the null hypothesis and under the truth.
"""

import math
from typing import Literal, NamedTuple

from stream_processors.stats.edges import (
    BURN_IN_CONVERSIONS,
    BURN_IN_UNITS,
    EFFECTIVE_UNITS_MIN,
    SPARSE_UNITS_MAX,
)
from stream_processors.stats.guardrails import EXPECTED_MIN
from stream_processors.stats.planning_inputs import PlanError, PlanInputs
from stream_processors.stats.proportions import Rate
from stream_processors.stats.quantiles import BURN_IN_RANK
from stream_processors.stats.rare_rates import RARE_SHARE
from stream_processors.stats.rate_margins import MarginRates, rates_in_ratio
from stream_processors.stats.roots import root_between


class Design(NamedTuple):
    """One comparison, reduced to what every method needs.

    Attributes:
        signal: Distance of the truth from the null hypothesis, > 0 where it can be found;
            metric units, or radians for the arcsine formula.
        null_variance: Units of all variants · variance of the estimate, as the test's standard
            error has it.
        variance: The same as the truth has it.
        shares: Shares of control and treatment among all units.
        arm_variances: Variance of a unit's value in control and treatment, as they enter.
        sides: 2 or 1.
        alpha: Level of this comparison.
        burn_in_units: Units of all variants before a sequence starts, a planned look is taken, or
            posteriors that wait for it decide: 100 in each of the two; of rates 30 that converted
            and 30 that did not; of quantiles 30 on either side; of all others what ``edges`` asks
            of unequal variants. One look at a rate with a relative margin asks for
            ``guardrails.EXPECTED_MIN`` instead. Where it goes by what came, with
            ``SPARE_DEVIATIONS``.
    """

    signal: float
    null_variance: float
    variance: float
    shares: tuple[float, float]
    arm_variances: tuple[float, float]
    sides: Literal[1, 2]
    alpha: float
    burn_in_units: float

    @property
    def tail(self) -> float:
        """Return the error probability of the side on which the effect is looked for."""
        return self.alpha / self.sides


def comparisons_in(inputs: PlanInputs) -> int:
    """Return how many comparisons share alpha: treatments times decision metrics.

    A guardrail with a margin shares with none: all have to pass, so passing is not corrected.
    """
    if inputs.margin is not None:
        return 1
    return (len(inputs.weights) - 1) * inputs.decision_metrics


def alpha_of(inputs: PlanInputs) -> float:
    """Return the level of one comparison.

    The sequence of a rate's guardrail leaves ``RARE_SHARE`` to the exact test of harm.
    """
    alpha = inputs.alpha / (comparisons_in(inputs) if inputs.correction == "bonferroni" else 1)
    is_watched_rate = inputs.kind == "conversion" and inputs.method == "always_valid"
    return alpha * (1 - RARE_SHARE) if is_watched_rate and inputs.margin is not None else alpha


def shares_of(inputs: PlanInputs) -> tuple[float, ...]:
    """Return the shares of the variants, which add up to 1."""
    total = math.fsum(inputs.weights)
    return tuple(weight / total for weight in inputs.weights)


def effect_of(inputs: PlanInputs) -> float:
    """Return the planned effect in metric units; 0 where none is given."""
    effect = inputs.effect or 0.0
    return effect * abs(inputs.baseline) if inputs.effect_scale == "relative" else effect


def margin_of(inputs: PlanInputs) -> float:
    """Return the margin in metric units, 0 where there is none."""
    margin = inputs.margin or 0.0
    return margin * abs(inputs.baseline) if inputs.margin_scale == "relative" else margin


def variance_factor(inputs: PlanInputs) -> float:
    """Return what a covariate leaves of the variance.

    Units without a pre-period are a stratum of their own, whose variance stays.
    """
    return 1 - inputs.covariate_share * inputs.covariate_correlation**2


def arm_variances(inputs: PlanInputs, effect: float) -> tuple[float, float]:
    """Return the variance of a unit's value in control and treatment, metric units squared.

    Raises:
        PlanError: If the effect takes a rate out of (0, 1).
    """
    factor = variance_factor(inputs)
    if inputs.kind == "conversion":
        rate = inputs.baseline + effect
        if not 0 < rate < 1:
            raise PlanError("effect", f"makes the treatment's rate {rate:g}; it must be in (0, 1)")
        control = inputs.baseline * (1 - inputs.baseline)
        return factor * control, factor * rate * (1 - rate)
    deviation = inputs.deviation
    if deviation is None:
        quantile, density = inputs.quantile, inputs.density
        if quantile is None or density is None:
            raise PlanError("deviation", f"is needed, above 0, for kind {inputs.kind}")
        deviation = math.sqrt(quantile * (1 - quantile)) / density
    treatment = inputs.treatment_deviation or deviation
    return factor * deviation**2, factor * treatment**2


def design_of(inputs: PlanInputs, effect: float, treatment: int) -> Design:
    """Return the design of one comparison.

    Args:
        inputs: Checked.
        effect: True effect in metric units, signed.
        treatment: Index of the treatment among the variants, from 1.
    """
    shares = shares_of(inputs)
    pair = shares[0], shares[treatment]
    variances = arm_variances(inputs, effect)
    sign = inputs.sign
    sides = inputs.sides if inputs.margin is None else 1
    signal = abs(effect) if sides == 2 else sign * effect
    variance = variances[0] / pair[0] + variances[1] / pair[1]
    null_variance = variance
    if inputs.margin is not None:
        signal = sign * effect + margin_of(inputs)
        if inputs.margin_scale == "relative":
            # Of the contrast treatment - (1 -+ margin) control, which needs no ratio.
            weight = 1 - sign * math.copysign(inputs.margin, inputs.baseline)
            variances = weight**2 * variances[0], variances[1]
            variance = variances[0] / pair[0] + variances[1] / pair[1]
        null_variance = variance
        if is_scored(inputs) and inputs.formula is None:
            null_variance = _null_variance(inputs, effect, pair)
    design = Design(
        signal,
        null_variance,
        variance,
        pair,
        variances,
        sides,
        alpha_of(inputs),
        _burn_in_units(inputs, effect, pair),
    )
    is_rate = inputs.kind == "conversion" and inputs.method == "fixed_horizon"
    return _of_rates(design, inputs, effect) if is_rate and inputs.margin is None else design


def _burn_in_units(inputs: PlanInputs, effect: float, pair: tuple[float, float]) -> float:
    if is_scored(inputs) and inputs.margin_scale == "relative":
        return _units_of_ratio(inputs, effect, pair)
    needed = [float(BURN_IN_UNITS)] * 2
    if inputs.kind == "conversion":
        rates = inputs.baseline, inputs.baseline + effect
        needed = [max(BURN_IN_UNITS, _units_of_conversions(min(one, 1 - one))) for one in rates]
    elif inputs.kind == "quantile":
        # A spread without its quantile does not say how many units lie beyond it.
        beyond = 0.5 if inputs.quantile is None else min(inputs.quantile, 1 - inputs.quantile)
        needed = [max(BURN_IN_UNITS, BURN_IN_RANK / beyond)] * 2
    units = max(one / share for one, share in zip(needed, pair, strict=True))
    if inputs.kind in ("conversion", "quantile"):
        return units
    return max(units, _sparse_units(inputs, effect, pair))


SPARE_DEVIATIONS = 2
"""Standard errors by which a plan stays clear of a rule that goes by what came, so by chance."""


def _units_of_conversions(rarer: float) -> float:
    """Return the units of a variant among which the rarer outcome is there often enough.

    Its count has mean n p and variance n p (1 - p): with n = 30 / p half of the experiments would
    still wait. So n p - 2 √(n p (1 - p)) is to be 30, which is a quadratic in √n.
    """
    spread = SPARE_DEVIATIONS * math.sqrt(1 - rarer)
    root = (spread + math.sqrt(spread**2 + 4 * BURN_IN_CONVERSIONS)) / 2
    return root**2 / rarer


def is_scored(inputs: PlanInputs) -> bool:
    """Return whether a guardrail is read by the score test: one look at a rate."""
    is_one_look_at_a_rate = inputs.kind == "conversion" and inputs.method == "fixed_horizon"
    return is_one_look_at_a_rate and inputs.margin is not None


def _ratio_at_margin(inputs: PlanInputs) -> float:
    """Return what a relative margin leaves of the control's rate: 1 - d, or 1 + d."""
    sign = inputs.sign
    return 1 - sign * (inputs.margin or 0.0)


def _rates_at_margin(inputs: PlanInputs, effect: float, pair: tuple[float, float]) -> MarginRates:
    """Return the rates at the margin that the test finds, with many units of the true ones."""
    rates = inputs.baseline, inputs.baseline + effect
    if inputs.margin_scale == "relative":
        control, treatment = (Rate(n, n * p) for n, p in zip(pair, rates, strict=True))
        return rates_in_ratio(control, treatment, _ratio_at_margin(inputs))
    sign = inputs.sign
    return _rates_that_differ(rates, pair, -sign * min(1.0, inputs.margin or 0.0))


def _rates_that_differ(
    rates: tuple[float, float], pair: tuple[float, float], difference: float
) -> MarginRates:
    """Return what ``rate_margins.rates_that_differ`` does, by a search between both rates.

    Its closed form loses the digits of rates below about 1e-7, which are planned but rarely read.
    """
    control, implied = rates[0], rates[1] - difference

    def slope(rate: float) -> float:
        """Return the likelihood's slope times all denominators."""
        treatment = rate + difference
        from_control = pair[0] * (control - rate) * treatment * (1 - treatment)
        return from_control + pair[1] * (implied - rate) * rate * (1 - rate)

    low = max(0.0, -difference, min(control, implied))
    high = min(1.0, 1 - difference, max(control, implied))
    rate = root_between(slope, low, high, xtol=1e-300, rtol=1e-12) if low < high else low
    return MarginRates(rate, rate + difference)


def _null_variance(inputs: PlanInputs, effect: float, pair: tuple[float, float]) -> float:
    """Return the variance as the score test has it, of the contrast if the margin is relative.

    References:
        Farrington, Manning (1990), Statistics in Medicine 9, 1447-1454: sizes, by method 3.
    """
    weight = _ratio_at_margin(inputs) if inputs.margin_scale == "relative" else 1.0
    control, treatment = (p * (1 - p) for p in _rates_at_margin(inputs, effect, pair))
    variance = weight**2 * control / pair[0] + treatment / pair[1]
    return variance_factor(inputs) * variance


def _units_of_ratio(inputs: PlanInputs, effect: float, pair: tuple[float, float]) -> float:
    """Return the units of all variants from which on one look at a relative margin tells anything.

    It has to expect ``EXPECTED_MIN`` of either outcome in each variant by rates that it estimates
    from all that came, n p of them with a relative error of 1/√(n p).
    """
    if _ratio_at_margin(inputs) <= 0:
        return 0.0
    at_margin = _rates_at_margin(inputs, effect, pair)
    # Rounding may leave nothing of the rarer outcome; then it takes more units than there are.
    rarer = [max(n * min(p, 1 - p), 1e-30) for n, p in zip(pair, at_margin, strict=True)]
    half = SPARE_DEVIATIONS / (2 * math.sqrt(math.fsum(rarer)))
    return (half + math.sqrt(half**2 + EXPECTED_MIN / min(rarer))) ** 2


def _sparse_units(inputs: PlanInputs, effect: float, pair: tuple[float, float]) -> float:
    """Return the units of all variants from which on they are not ``sparse``: see ``edges``.

    The rule counts what came, so half of the experiments would still wait where it is just met:
    n mean²/s² has a relative standard error of about s/(mean √N), of which some are added.
    """
    smaller, larger = min(pair), max(pair)
    if smaller == larger:
        return 0.0
    total = smaller + larger
    weights = pair[0] / total, pair[1] / total
    control, treatment = (one / variance_factor(inputs) for one in arm_variances(inputs, effect))
    between = weights[0] * weights[1] * effect**2
    variance = weights[0] * control + weights[1] * treatment + between
    imbalance = (larger - smaller) ** 2 / (larger * total)
    mean = inputs.baseline + weights[1] * effect
    # Compared by products: a mean of 0 has no number of units that would do.
    if SPARSE_UNITS_MAX * mean**2 <= EFFECTIVE_UNITS_MIN * variance * imbalance:
        return SPARSE_UNITS_MAX / smaller
    of_smaller = EFFECTIVE_UNITS_MIN * variance * imbalance / mean**2
    spare = math.sqrt(smaller / (EFFECTIVE_UNITS_MIN * imbalance * total))
    return min(SPARSE_UNITS_MAX, of_smaller * (1 + SPARE_DEVIATIONS * spare)) / smaller


def _of_rates(design: Design, inputs: PlanInputs, effect: float) -> Design:
    """Return the design by the formula for rates that is asked for."""
    pair = design.shares
    parts = 1 / pair[0] + 1 / pair[1]
    factor = variance_factor(inputs)
    control, treatment = inputs.baseline, inputs.baseline + effect
    if inputs.formula == "evan_miller":
        return design._replace(null_variance=design.arm_variances[0] * parts)
    if inputs.formula == "arcsine":
        distance = 2 * (math.asin(math.sqrt(treatment)) - math.asin(math.sqrt(control)))
        signal = abs(distance) if design.sides == 2 else math.copysign(distance, design.signal)
        variance = factor * parts
        return design._replace(signal=signal, null_variance=variance, variance=variance)
    if inputs.formula in (None, "pooled"):
        pooled = (pair[0] * control + pair[1] * treatment) / (pair[0] + pair[1])
        return design._replace(null_variance=factor * pooled * (1 - pooled) * parts)
    return design
