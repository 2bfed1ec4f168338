"""Planning for a decision by posterior chance: how often it would be reached at one look.

This is not an error rate: a posterior is not protected against repeated looks.
"""

import math
from typing import NamedTuple

from scipy import special

from stream_processors.stats.planning_designs import Design
from stream_processors.stats.planning_fixed import UNITS_MAX
from stream_processors.stats.roots import root_between


class Rule(NamedTuple):
    """Decide when the posterior chance of a gain is above the threshold.

    Attributes:
        threshold: In (0.5, 1).
        prior_gain: Prior mean of the gain: of the effect, in the direction that is better.
        prior_deviation: None for a flat prior.
    """

    threshold: float
    prior_gain: float
    prior_deviation: float | None


def least_estimate(rule: Rule, effect_variance: float) -> float:
    """Return the estimated gain from which on the posterior chance is above the threshold."""
    reach = float(special.ndtri(rule.threshold))
    if rule.prior_deviation is None:
        return reach * math.sqrt(effect_variance)
    prior_precision = rule.prior_deviation**-2
    precision = 1 / effect_variance + prior_precision
    return effect_variance * (reach * math.sqrt(precision) - rule.prior_gain * prior_precision)


def decision_chance(rule: Rule, design: Design, units: float) -> float:
    """Return how often one look with so many units would decide, if the effect is true."""
    effect_variance = design.variance / units
    short = design.signal - least_estimate(rule, effect_variance)
    return float(special.ndtr(short / math.sqrt(effect_variance)))


def assurance(rule: Rule, design: Design, units: float) -> float | None:
    """Return the same averaged over the prior of the effect; None for a flat prior."""
    if rule.prior_deviation is None:
        return None
    effect_variance = design.variance / units
    short = rule.prior_gain - least_estimate(rule, effect_variance)
    return float(special.ndtr(short / math.hypot(math.sqrt(effect_variance), rule.prior_deviation)))


def decides_without_data(rule: Rule) -> bool:
    """Return whether the prior alone is above the threshold."""
    return (
        rule.prior_deviation is not None
        and special.ndtr(rule.prior_gain / rule.prior_deviation) >= rule.threshold
    )


def decision_units(rule: Rule, design: Design, power: float) -> float:
    """Return the units of all variants with which the chance to decide is ``power``.

    Infinite where not even ``UNITS_MAX`` do.
    """
    high = (special.ndtri(rule.threshold) + special.ndtri(power)) ** 2
    high *= design.variance / design.signal**2
    if rule.prior_deviation is None:
        return float(high)
    high = max(high, design.variance / rule.prior_deviation**2)
    while decision_chance(rule, design, high) < power:
        if high > UNITS_MAX:
            return math.inf
        high *= 2
    low = high
    while decision_chance(rule, design, low) >= power:
        if low < 1:  # The prior nearly decides: any data would do.
            return float(low)
        low /= 2
    return root_between(lambda n: decision_chance(rule, design, n) - power, low, 2 * low + high)
