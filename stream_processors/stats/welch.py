"""Welch's test: two means, two variances. Numbers, or arrays of one shape."""

from typing import Any, NamedTuple

import numpy as np

from stream_processors.stats.sums import Moments
from stream_processors.stats.tails import Floats, plain, t_critical_value, two_sided_t_p_value


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

    difference: Any
    std_error: Any
    t: Any
    degrees_of_freedom: Any
    p_value: Any
    low: Any
    high: Any


def welch_test(
    control: Moments, treatment: Moments, *, alpha: Any, difference: Any = None
) -> WelchTest:
    """Return Welch's test of two means.

    Args:
        control: At least two units; one of the two variances may be 0, not both.
        treatment: The same.
        alpha: Error probability of the interval, in (0, 1).
        difference: Treatment mean - control mean where it is known more exactly than from the
            rounded means.

    Raises:
        ValueError: If a variant has fewer than two units, or both variances are 0.

    References:
        Welch (1947), Biometrika 34, with the degrees of freedom of Satterthwaite (1946),
        Biometrics Bulletin 2(6).
    """
    for name, side in (("control", control), ("treatment", treatment)):
        if np.any(np.asarray(side.unit_count) < 2):
            raise ValueError(f"{name}.unit_count == {side.unit_count}, must be >= 2")
    if difference is None:
        difference = treatment.mean - control.mean
    variances = np.array([control.mean_variance, treatment.mean_variance], dtype=np.float64)
    counts = np.array([control.unit_count, treatment.unit_count], dtype=np.float64)
    return welch_test_of_sum(difference, variances, counts, alpha=alpha)


def welch_test_of_sum(
    difference: Any, variances: Floats, counts: Floats, *, alpha: Any
) -> WelchTest:
    """Return Welch's test of an estimate whose variance is a sum of estimated variances.

    Args:
        difference: Any estimate that is about normal; a number, or shape (n,).
        variances: What every sample adds to its variance; shape (m,) or (m, n).
        counts: Units of every sample, >= 2; the same shape.
        alpha: Error probability of the interval, in (0, 1).

    Raises:
        ValueError: If all variances of an estimate are 0.
    """
    effect_variance = variances.sum(axis=0)
    if not np.all(effect_variance > 0):
        raise ValueError("both variances are 0, one at least must be above")
    std_error = np.sqrt(effect_variance)
    degrees_of_freedom = satterthwaite(variances, counts)
    t = difference / std_error
    reach = t_critical_value(alpha, degrees_of_freedom) * std_error
    return WelchTest(
        difference=difference,
        std_error=plain(std_error),
        t=plain(t),
        degrees_of_freedom=plain(degrees_of_freedom),
        p_value=two_sided_t_p_value(t, degrees_of_freedom),
        low=plain(difference - reach),
        high=plain(difference + reach),
    )


def satterthwaite(variances: Floats, counts: Floats) -> Floats:
    """Return the degrees of freedom of Σ of variances, each estimated from ``counts`` units.

    Args:
        variances: Shape (m,) or (m, n), not all 0; summed over the first axis.
        counts: Units, the same shape. Infinitely many: the variance is known.
    """
    # Shares, not squares of the variances: those underflow long before the variances do.
    inverse = ((variances / variances.sum(axis=0)) ** 2 / (counts - 1)).sum(axis=0)
    known: Floats = np.full_like(inverse, np.inf)
    return np.divide(1.0, inverse, out=known, where=inverse > 0)
