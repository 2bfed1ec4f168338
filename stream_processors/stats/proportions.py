"""Two rates: pooled z, Newcombe's interval of the difference, log interval of the ratio."""

import math
from typing import NamedTuple

from stream_processors.stats.quantiles import normal_critical_value, two_sided_normal_p_value


class Rate(NamedTuple):
    """Converted units of all units of one variant, ``0 <= conversion_count <= unit_count``."""

    unit_count: int
    conversion_count: int

    @property
    def value(self) -> float:
        """Return the rate, in [0, 1]."""
        return self.conversion_count / self.unit_count


class ProportionsTest(NamedTuple):
    """Fixed-horizon comparison of two rates; right for one look that was planned.

    Attributes:
        difference: Treatment rate - control rate.
        z: Pooled statistic. None where all units or none converted: it is 0/0 there.
        p_value: Two-sided; equals Pearson's χ² without correction. None where z is.
        low: Lower end of Newcombe's interval of the difference.
        high: Its upper end. Interval and test may disagree at the edge; the interval decides.
    """

    difference: float
    z: float | None
    p_value: float | None
    low: float
    high: float


def compare_proportions(control: Rate, treatment: Rate, *, alpha: float) -> ProportionsTest:
    """Return the pooled z-test and the hybrid-score interval of the difference of two rates.

    Args:
        control: At least one unit.
        treatment: At least one unit.
        alpha: Error probability of the interval, in (0, 1).

    Raises:
        ValueError: If there are no units, or more conversions than units: events were counted
            where units should be.

    References:
        Newcombe (1998), "Interval estimation for the difference between independent
        proportions", Statistics in Medicine 17, method 10.

    Example:
        >>> test = compare_proportions(Rate(10_000, 46), Rate(10_000, 69), alpha=0.05)
        >>> round(test.z, 6), round(test.p_value, 7)
        (2.150954, 0.0314798)
    """
    _require_rate("control", control)
    _require_rate("treatment", treatment)
    crossed = (
        treatment.conversion_count * control.unit_count
        - control.conversion_count * treatment.unit_count
    )
    difference = crossed / (control.unit_count * treatment.unit_count)
    z = _pooled_z(control, treatment, crossed)
    low, high = _newcombe_interval(control, treatment, alpha)
    return ProportionsTest(
        difference=difference,
        z=z,
        p_value=None if z is None else two_sided_normal_p_value(z),
        low=low,
        high=high,
    )


def log_ratio_std_error(control: Rate, treatment: Rate) -> float:
    """Return the standard error of log(treatment rate / control rate). Both rates above 0."""
    return math.sqrt(
        sum(
            (rate.unit_count - rate.conversion_count) / (rate.unit_count * rate.conversion_count)
            for rate in (control, treatment)
        )
    )


def _pooled_z(control: Rate, treatment: Rate, crossed: int) -> float | None:
    converted = control.conversion_count + treatment.conversion_count
    units = control.unit_count + treatment.unit_count
    # (p_t - p_c) / √(p(1 - p)(1/n_c + 1/n_t)) with both sides times n_c n_t: one rounding less.
    variance = converted * (units - converted) * control.unit_count * treatment.unit_count / units
    return crossed / math.sqrt(variance) if variance else None


def _newcombe_interval(control: Rate, treatment: Rate, alpha: float) -> tuple[float, float]:
    z = normal_critical_value(alpha)
    low_c, high_c = wilson_interval(control, z)
    low_t, high_t = wilson_interval(treatment, z)
    p_c, p_t = control.value, treatment.value
    low = p_t - p_c - math.hypot(p_t - low_t, high_c - p_c)
    high = p_t - p_c + math.hypot(high_t - p_t, p_c - low_c)
    return max(-1.0, low), min(1.0, high)


def wilson_interval(rate: Rate, z: float) -> tuple[float, float]:
    """Return Wilson's score interval of one rate, for the normal critical value ``z``."""
    count, converted = rate
    centre = 2 * converted + z * z
    reach = z * math.sqrt(z * z + 4 * (converted * (count - converted) / count))
    scale = 2 * (count + z * z)
    low = 0.0 if converted == 0 else (centre - reach) / scale
    high = 1.0 if converted == count else (centre + reach) / scale
    return low, high


def _require_rate(name: str, rate: Rate) -> None:
    if rate.unit_count < 1:
        raise ValueError(f"{name}.unit_count == {rate.unit_count}, must be >= 1")
    if not 0 <= rate.conversion_count <= rate.unit_count:
        raise ValueError(
            f"{name}.conversion_count == {rate.conversion_count},"
            f" must be between 0 and unit_count == {rate.unit_count}"
        )
