"""One variant of a comparison: the few floats that its exact sums come down to.

Sums that no units can have give facts too: they say so, and the edge rules hide all numbers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stream_processors.stats.cuped import Adjustment
from stream_processors.stats.edges import Side, is_rate_possible
from stream_processors.stats.effects import Summary
from stream_processors.stats.quantiles import ArmQuantile
from stream_processors.stats.ratio import share_and_form
from stream_processors.stats.strata import Strata
from stream_processors.stats.sums import Form, JointSums, Moments, Share, covariance
from stream_processors.stats.tails import Floats

NO_EVENTS = float("inf")
"""What is no rate has no converted units to wait for."""


class Facts(NamedTuple):
    """What rules and tests need of a metric in one variant; see ``edges.Side``.

    Attributes:
        is_possible: Whether any set of units has the sums.
        unit_count: Units that count.
        least_count: 0 or 1 where there is not enough to estimate from.
        burn_in_count: Units towards the burn-in: 0 where a sequence may not start yet.
        event_count: For rates, the fewer of converted units and others.
        mean: The mean, ratio or quantile; 0 where there is none.
        mean_variance: Its squared standard error.
        effect_variance: What it adds to the variance of the effect: the same, unless adjusted.
        variance: Of a unit's value, linearised for ratios.
        denominator: Mean of a ratio's denominator.
        denominator_variance: Its squared standard error.
        sample_count: Degrees of freedom of the standard error + 1.
        is_tied: Of quantiles, whether there is no standard error that holds (``tied_quantiles``).
    """

    is_possible: bool
    unit_count: float
    least_count: float
    burn_in_count: float
    event_count: float = NO_EVENTS
    mean: float = 0.0
    mean_variance: float = 0.0
    effect_variance: float = 0.0
    variance: float = 0.0
    denominator: float = 1.0
    denominator_variance: float = 0.0
    sample_count: float = 2.0
    is_tied: bool = False


def facts_of_sums(
    sums: JointSums, *, is_rate: bool, is_ratio: bool, quanta: int
) -> tuple[Facts, Share]:
    """Return the facts of a metric's totals, and its mean exactly (0 where there is none)."""
    count = sums.unit_count
    units = float(count)
    spread = sums.checked_spread() if len(sums.sums) == (2 if is_ratio else 1) else None
    possible = spread is not None and (not is_rate or is_rate_possible(sums))
    if spread is None or not possible or count < 1:
        return Facts(possible, units, units, units), Share(0, 1)
    denominator, denominator_variance = 1.0, 0.0
    if is_ratio:
        denominator = sums.sums[1] / count
        if sums.sums[1] == 0:
            return Facts(possible, units, units, units, denominator=0.0), Share(0, 1)
    share, form = share_and_form(sums, is_ratio=is_ratio, quanta=quanta)
    variance = 0.0
    if count > 1:
        variance = covariance(spread, form, form)
        if is_ratio:
            of_denominator = Form((0, 1), 1)
            denominator_variance = covariance(spread, of_denominator, of_denominator) / count
    converted = sums.sums[0]
    facts = Facts(
        possible,
        units,
        units,
        units,
        float(min(converted, count - converted)) if is_rate else NO_EVENTS,
        share.value,
        variance / count,
        variance / count,
        variance,
        denominator,
        denominator_variance,
        max(units, 2.0),
    )
    return facts, share


def facts_of_quantile(arm: ArmQuantile, unit_count: int, *, fits: bool) -> Facts:
    """Return the facts of a quantile; ``fits``: the histogram holds as many units as the sums."""
    has_error = arm.status == "ok" and arm.std_error is not None
    variance = (arm.std_error or 0.0) ** 2
    return Facts(
        is_possible=fits and unit_count >= 0 and arm.status != "invalid_input",
        unit_count=0.0 if arm.status == "no_units" else float(unit_count),
        least_count=2.0 if has_error else 1.0,
        burn_in_count=float(unit_count) if arm.is_warm else 0.0,
        mean=arm.estimate or 0.0,
        mean_variance=variance,
        effect_variance=variance,
        sample_count=float((arm.degrees_of_freedom or 1) + 1),
        is_tied=arm.is_tied,
    )


def summary_of(facts: Facts, *, has_variance: bool) -> Summary:
    """Return the facts as they are shown."""
    if not facts.is_possible:
        return Summary("invalid_input", max(int(facts.unit_count), 0))
    units = int(facts.unit_count)
    if units < 1:
        return Summary("no_units", units)
    if facts.denominator == 0:
        return Summary("undefined", units)
    if facts.least_count < 2:
        return Summary("insufficient", units, facts.mean)
    if facts.is_tied:
        return Summary("ties", units, facts.mean)
    variance = facts.variance if has_variance else None
    return Summary("ok", units, facts.mean, variance, facts.mean_variance**0.5)


def adjusted_facts(
    facts: Facts,
    strata: Strata,
    *,
    adjustment: Adjustment | None,
    is_control: bool,
) -> Facts:
    """Return the facts of a variant whose mean is adjusted.

    The mean is the unadjusted one still: that of the control is what the effect is divided by.

    Args:
        facts: Of the variant without the covariate.
        strata: Its units with a pre-period and without.
        adjustment: None where there is nothing to adjust, or too few units.
        is_control: Which side it is.
    """
    mean, mean_variance, effect_variance = facts.mean, facts.mean_variance, 0.0
    if adjustment is not None:
        with_past, without = adjustment.strata
        if is_control:
            mean = adjustment.baseline
            mean_variance = with_past.baseline_variance + without.baseline_variance
            effect_variance = with_past.control_variance + without.control_variance
        else:
            effect_variance = with_past.treatment_variance + without.treatment_variance
    return Facts(
        facts.is_possible and strata.is_possible,
        facts.unit_count,
        facts.least_count,
        facts.burn_in_count,
        facts.event_count,
        mean,
        mean_variance,
        effect_variance,
        facts.variance,
        facts.denominator,
        facts.denominator_variance,
        facts.sample_count,
    )


def columns_of(facts: Sequence[Facts]) -> Floats:
    """Return the facts as columns, shape (fields, variants)."""
    return np.array(facts, dtype=np.float64).reshape(-1, len(Facts._fields)).T


def side_of(columns: Floats) -> Side:
    """Return what the edge rules look at, from columns of facts."""
    by_name = dict(zip(Facts._fields, columns, strict=True))
    return Side(
        is_possible=by_name["is_possible"] > 0,
        **{name: by_name[name] for name in Side._fields if name != "is_possible"},
    )


def moments_of(columns: Floats) -> Moments:
    """Return mean and variance, with the units that the standard error comes from."""
    by_name = dict(zip(Facts._fields, columns, strict=True))
    units = by_name["sample_count"]
    return Moments(units, by_name["mean"], by_name["mean_variance"] * units)
