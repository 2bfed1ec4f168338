"""The effect as a share of the control's mean: (treatment - control) / |control|.

Log interval where both means are positive, Fieller's otherwise. The delta method's symmetric
interval is kept for comparison with other programs; it is poor when the control is noisy.
"""

import math
from typing import NamedTuple

from stream_processors.stats.quantiles import normal_critical_value, t_critical_value
from stream_processors.stats.sums import Moments
from stream_processors.stats.welch import satterthwaite

EXPONENT_MAX = 700.0
"""Beyond this, exp leaves the floats; an interval that wide says nothing anyway."""


class Interval(NamedTuple):
    """Both ends, finite."""

    low: float
    high: float


class DeltaEffect(NamedTuple):
    """Relative effect with its standard error by the delta method."""

    estimate: float
    std_error: float


def log_ratio_std_error(control: Moments, treatment: Moments) -> float:
    """Return the standard error of log(treatment mean / control mean). Both means above 0."""
    return math.hypot(
        control.std_error / control.mean,
        treatment.std_error / treatment.mean,
    )


def log_ratio_degrees_of_freedom(control: Moments, treatment: Moments) -> float:
    """Return Satterthwaite's degrees of freedom of the variance of the log ratio."""
    return satterthwaite(
        (control.mean_variance / control.mean**2, control.unit_count),
        (treatment.mean_variance / treatment.mean**2, treatment.unit_count),
    )


def log_interval(ratio: float, reach: float) -> Interval | None:
    """Return ``ratio * exp(± reach) - 1``; None where an end is no finite number.

    Args:
        ratio: Treatment mean / control mean, > 0.
        reach: Critical value times the standard error of the log ratio, >= 0.
    """
    log_ratio = math.log(ratio)
    if log_ratio + reach > EXPONENT_MAX:
        return None
    return Interval(math.expm1(log_ratio - reach), math.expm1(log_ratio + reach))


def welch_log_interval(control: Moments, treatment: Moments, *, alpha: float) -> Interval | None:
    """Return the interval of the relative effect of two positive means, on the log scale.

    References:
        tea-tasting, ``metrics/mean.py``: Welch's t on variances scaled by the squared means.
    """
    degrees_of_freedom = log_ratio_degrees_of_freedom(control, treatment)
    reach = t_critical_value(alpha, degrees_of_freedom) * log_ratio_std_error(control, treatment)
    return log_interval(treatment.mean / control.mean, reach)


def fieller_interval(control: Moments, treatment: Moments, *, alpha: float) -> Interval | None:
    """Return Fieller's interval of the relative effect; None where it is unbounded.

    For a negative control it is that of (treatment - control) / |control|.

    References:
        Fieller (1954), "Some problems in interval estimation", JRSS B 16(2).
    """
    z = normal_critical_value(alpha)
    g = z * z * control.mean_variance / control.mean**2
    if not g < 1:
        return None
    ratio = treatment.mean / control.mean
    inner = (1 - g) * treatment.mean_variance + ratio**2 * control.mean_variance
    reach = z / abs(control.mean) * math.sqrt(inner) / (1 - g)
    centre = ratio / (1 - g)
    ends = (centre - reach - 1, centre + reach - 1)
    if not all(map(math.isfinite, ends)):
        return None
    return Interval(*ends) if control.mean > 0 else Interval(-ends[1], -ends[0])


def delta_effect(control: Moments, treatment: Moments) -> DeltaEffect:
    """Return the relative effect and its delta-method standard error. Control mean not 0.

    References:
        Deng, Knoblich, Lu (2018), "Applying the Delta Method in Metric Analytics", KDD.
    """
    ratio = treatment.mean / control.mean
    std_error = math.hypot(treatment.std_error, ratio * control.std_error) / abs(control.mean)
    return DeltaEffect(math.copysign(1.0, control.mean) * (ratio - 1), std_error)
