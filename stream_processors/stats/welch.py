"""Welch's test: two means, two variances."""

import math
from typing import NamedTuple

from stream_processors.stats.quantiles import t_critical_value, two_sided_t_p_value
from stream_processors.stats.sums import Moments


class WelchTest(NamedTuple):
    """Fixed-horizon comparison of two means; right for one look that was planned.

    Attributes:
        difference: Treatment mean - control mean, in metric units.
        std_error: Of the difference, > 0.
        t: difference / std_error.
        degrees_of_freedom: Satterthwaite's, >= 1.
        p_value: Two-sided.
        low: Lower end of the interval of the difference.
        high: Its upper end.
    """

    difference: float
    std_error: float
    t: float
    degrees_of_freedom: float
    p_value: float
    low: float
    high: float


def welch_test(
    control: Moments, treatment: Moments, *, alpha: float, difference: float | None = None
) -> WelchTest:
    """Return Welch's test of two means.

    Args:
        control: At least two units; one of the two variances may be 0, not both.
        treatment: The same.
        alpha: Error probability of the interval, in (0, 1).
        difference: Treatment mean - control mean where it is known more exactly than from the
            rounded means.

    Raises:
        ValueError: If an arm has fewer than two units, or both variances are 0.

    References:
        Welch (1947), Biometrika 34, with the degrees of freedom of Satterthwaite (1946),
        Biometrics Bulletin 2(6).
    """
    for name, arm in (("control", control), ("treatment", treatment)):
        if arm.unit_count < 2:
            raise ValueError(f"{name}.unit_count == {arm.unit_count}, must be >= 2")
    effect_variance = control.mean_variance + treatment.mean_variance
    if not effect_variance > 0:
        raise ValueError("both variances are 0, one at least must be above")
    if difference is None:
        difference = treatment.mean - control.mean
    std_error = math.sqrt(effect_variance)
    degrees_of_freedom = satterthwaite(
        (control.mean_variance, control.unit_count), (treatment.mean_variance, treatment.unit_count)
    )
    reach = t_critical_value(alpha, degrees_of_freedom) * std_error
    return WelchTest(
        difference=difference,
        std_error=std_error,
        t=difference / std_error,
        degrees_of_freedom=degrees_of_freedom,
        p_value=two_sided_t_p_value(difference / std_error, degrees_of_freedom),
        low=difference - reach,
        high=difference + reach,
    )


def satterthwaite(*arms: tuple[float, int]) -> float:
    """Return the degrees of freedom of Σ of variances, each given with its unit count."""
    total = math.fsum(variance for variance, _ in arms)
    # Shares, not squares of the variances: those underflow long before the variances do.
    return 1.0 / math.fsum((variance / total) ** 2 / (count - 1) for variance, count in arms)
