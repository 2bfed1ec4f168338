"""Two rates: pooled z, Newcombe's interval of the difference. Numbers, or arrays of one shape.

The test and the interval may disagree at the edge, because the test knows the rates to be equal
and the interval does not: the interval decides, and a result says so where they disagree.
"""

from typing import Any, NamedTuple

import numpy as np

from stream_processors.stats.tails import normal_critical_value, plain, two_sided_normal_p_value


class Rate(NamedTuple):
    """Converted units of all units of one variant, ``0 <= conversion_count <= unit_count``."""

    unit_count: Any
    conversion_count: Any

    @property
    def value(self) -> Any:
        """Return the rate, in [0, 1]."""
        return self.conversion_count / self.unit_count


class ProportionsTest(NamedTuple):
    """Fixed-horizon comparison of two rates; right for one look that was planned.

    Attributes:
        difference: Treatment rate - control rate.
        z: Pooled statistic.
        p_value: Two-sided; equals Pearson's χ² without correction.
        low: Lower end of Newcombe's interval of the difference.
        high: Its upper end.
    """

    difference: Any
    z: Any
    p_value: Any
    low: Any
    high: Any


def compare_proportions(
    control: Rate, treatment: Rate, *, alpha: Any, difference: Any = None
) -> ProportionsTest:
    """Return the pooled z-test and the hybrid-score interval of the difference of two rates.

    Args:
        control: At least one unit.
        treatment: At least one unit. Of both together some units converted, and some did not.
        alpha: Error probability of the interval, in (0, 1).
        difference: Treatment rate - control rate where it is known more exactly than from the
            rounded rates.

    Raises:
        ValueError: If there are no units, or more conversions than units (events were counted
            where units should be), or all units or none converted: z is 0/0 there.

    Example:
        >>> test = compare_proportions(Rate(10_000, 46), Rate(10_000, 69), alpha=0.05)
        >>> round(test.z, 6), round(test.p_value, 7)
        (2.150954, 0.0314798)
    """
    _require_rate("control", control)
    _require_rate("treatment", treatment)
    if difference is None:
        difference = treatment.value - control.value
    z = _pooled_z(control, treatment, difference)
    low, high = newcombe_interval(control, treatment, alpha=alpha)
    return ProportionsTest(difference, z, two_sided_normal_p_value(z), low, high)


def _pooled_z(control: Rate, treatment: Rate, difference: Any) -> Any:
    converted = control.conversion_count + treatment.conversion_count
    units = control.unit_count + treatment.unit_count
    if np.any(np.asarray(converted) * np.asarray(units - converted) == 0):
        raise ValueError(f"conversions == {converted} of {units}: z needs some, and not all")
    inverse = 1 / np.asarray(control.unit_count) + 1 / np.asarray(treatment.unit_count)
    variance = (converted / units) * ((units - converted) / units) * inverse
    return plain(difference / np.sqrt(variance))


def newcombe_interval(control: Rate, treatment: Rate, *, alpha: Any) -> tuple[Any, Any]:
    """Return the hybrid-score interval of the difference of two rates, at least one unit each.

    References:
        Newcombe (1998), "Interval estimation for the difference between independent
        proportions", Statistics in Medicine 17, method 10.
    """
    z = normal_critical_value(alpha)
    low_c, high_c = wilson_interval(control, z)
    low_t, high_t = wilson_interval(treatment, z)
    p_c, p_t = control.value, treatment.value
    low = p_t - p_c - np.hypot(p_t - low_t, high_c - p_c)
    high = p_t - p_c + np.hypot(high_t - p_t, p_c - low_c)
    return plain(np.maximum(-1.0, low)), plain(np.minimum(1.0, high))


def wilson_interval(rate: Rate, z: Any) -> tuple[Any, Any]:
    """Return Wilson's score interval of one rate, for the normal critical value ``z``."""
    count, converted = rate
    centre = 2 * converted + z * z
    reach = z * np.sqrt(z * z + 4 * (converted * ((count - converted) / count)))
    scale = 2 * (count + z * z)
    low = np.where(np.asarray(converted) == 0, 0.0, (centre - reach) / scale)
    high = np.where(np.asarray(converted) == count, 1.0, (centre + reach) / scale)
    return plain(low), plain(high)


def _require_rate(name: str, rate: Rate) -> None:
    count, converted = np.asarray(rate.unit_count), np.asarray(rate.conversion_count)
    if np.any(count < 1):
        raise ValueError(f"{name}.unit_count == {rate.unit_count}, must be >= 1")
    if np.any((converted < 0) | (converted > count)):
        raise ValueError(
            f"{name}.conversion_count == {rate.conversion_count},"
            f" must be between 0 and unit_count == {rate.unit_count}"
        )
