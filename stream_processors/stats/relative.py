"""The effect as a share of the control's mean: (treatment - control) / |control|.

Log interval where both means are positive, Fieller's otherwise. The delta method's symmetric
interval is kept for comparison with other programs; it is poor when the control is noisy.
Everything is over arrays: one place per comparison.
"""

from typing import Any, NamedTuple

import numpy as np

from stream_processors.stats.edges import Mask
from stream_processors.stats.sums import Moments
from stream_processors.stats.tails import Floats
from stream_processors.stats.welch import satterthwaite

EXPONENT_MAX = 700.0
"""Beyond this, exp leaves the floats; an interval that wide says nothing anyway."""


class Interval(NamedTuple):
    """Both ends, finite."""

    low: float
    high: float


class Intervals(NamedTuple):
    """An interval per comparison; both ends are 0 where it is not bounded.

    Attributes:
        low: Lower ends, shape (n,).
        high: Upper ends.
        is_bounded: Whether both ends are finite numbers.
    """

    low: Floats
    high: Floats
    is_bounded: Mask


class Contrast(NamedTuple):
    """Differences, what they are divided by, and how both vary together, by stratum.

    A stratum is a share of the units that is estimated by itself; its variances are already
    multiplied by its squared weight. Without a covariate there is one.

    Attributes:
        difference: Treatment - control, adjusted by a covariate or not; shape (n,).
        baseline: The control's unadjusted mean, shape (n,).
        treatment_variances: What the treatment's units add to the difference's variance; (s, n).
        control_variances: What the control's units add to it; (s, n).
        baseline_variances: Of the baseline; (s, n).
        covariances: Of the control's part of the difference and the baseline; (s, n). Without a
            covariate that part *is* the baseline.
        treatment_counts: Units, >= 2; (s, n).
        control_counts: Units, >= 2; (s, n).
    """

    difference: Floats
    baseline: Floats
    treatment_variances: Floats
    control_variances: Floats
    baseline_variances: Floats
    covariances: Floats
    treatment_counts: Floats
    control_counts: Floats

    @property
    def variances(self) -> Floats:
        """Return what every stratum of every variant adds to the difference's variance."""
        return np.concatenate([self.treatment_variances, self.control_variances])

    @property
    def counts(self) -> Floats:
        """Return the units that ``variances`` are estimated from."""
        return np.concatenate([self.treatment_counts, self.control_counts])

    @property
    def estimate(self) -> Floats:
        """Return the relative effect. Baselines not 0."""
        return self.difference / np.abs(self.baseline)

    @property
    def relative_variances(self) -> Floats:
        """Return what every stratum adds to the variance of the relative effect; delta method.

        The gradient is 1 / b for the treatment's mean, and for the control's -(1 + g) / b with
        g = difference / b: its adjusted mean moves the difference, its plain mean the baseline.
        """
        g = self.difference / self.baseline
        control = (
            self.control_variances + 2 * g * self.covariances + g * g * self.baseline_variances
        )
        # A sum of squares as it stands; rounding may leave it just below 0.
        control = np.maximum(control, 0.0)
        return np.concatenate([self.treatment_variances, control]) / self.baseline**2

    def at(self, places: Any) -> "Contrast":
        """Return the contrasts of some comparisons, chosen by a mask or by their numbers."""
        return Contrast(*(field[..., places] for field in self))


def contrast_of(control: Moments, treatment: Moments, difference: Any = None) -> Contrast:
    """Return the contrast of two variants' means without a covariate.

    Args:
        control: At least two units; numbers or arrays.
        treatment: The same.
        difference: Treatment - control where it is known more exactly than from the means.
    """
    if difference is None:
        difference = treatment.mean - control.mean
    return Contrast(
        difference=np.atleast_1d(np.asarray(difference, dtype=np.float64)),
        baseline=np.atleast_1d(np.asarray(control.mean, dtype=np.float64)),
        treatment_variances=_row(treatment.mean_variance),
        control_variances=_row(control.mean_variance),
        baseline_variances=_row(control.mean_variance),
        covariances=_row(control.mean_variance),
        treatment_counts=_row(treatment.unit_count),
        control_counts=_row(control.unit_count),
    )


def _row(value: Any) -> Floats:
    return np.atleast_1d(np.asarray(value, dtype=np.float64))[np.newaxis]


def delta_std_error(contrast: Contrast) -> Floats:
    """Return the standard error of the relative effect by the delta method.

    References:
        Deng, Knoblich, Lu (2018), "Applying the Delta Method in Metric Analytics", KDD; with a
        covariate the gradient takes the covariance of adjusted and plain control mean along.
    """
    return np.sqrt(contrast.relative_variances.sum(axis=0))


def relative_degrees_of_freedom(contrast: Contrast) -> Floats:
    """Return Satterthwaite's degrees of freedom of the relative effect's variance."""
    variances = contrast.relative_variances
    # Without any variance left there is nothing to estimate: as if it were known.
    known = variances.sum(axis=0) == 0
    return satterthwaite(np.where(known, 1.0, variances), np.where(known, np.inf, contrast.counts))


def has_log(contrast: Contrast) -> Mask:
    """Return where both means are positive, so that the ratio has a logarithm."""
    positive: Mask = (contrast.baseline > 0) & (contrast.difference + contrast.baseline > 0)
    return positive


def log_interval(contrast: Contrast, critical_value: Any) -> Intervals:
    """Return (1 + relative effect) · exp(± critical value · standard error of its log) - 1.

    References:
        tea-tasting, ``metrics/mean.py``: Welch's t on variances scaled by the squared means.
    """
    defined = has_log(contrast)
    ratio = np.where(defined, 1 + contrast.difference / contrast.baseline, 1.0)
    reach = critical_value * delta_std_error(contrast) / ratio
    log_ratio = np.log(ratio)
    bounded = defined & (log_ratio + reach <= EXPONENT_MAX)
    reach = np.where(bounded, reach, 0.0)
    return _intervals(np.expm1(log_ratio - reach), np.expm1(log_ratio + reach), bounded)


def fieller_interval(contrast: Contrast, critical_value: Any) -> Intervals:
    """Return Fieller's interval of the relative effect: all g that are not rejected as its value.

    That is, where (difference - g baseline)² <= critical value² · its variance. It is unbounded
    where the baseline may be 0. With the critical value of a sequence it is one itself, because
    every difference - g baseline is a contrast that the sequence holds for.

    References:
        Fieller (1954), "Some problems in interval estimation", JRSS B 16(2).
    """
    squared = np.asarray(critical_value, dtype=np.float64) ** 2
    effect_variance = contrast.variances.sum(axis=0)
    # cov(difference, baseline) is minus that of the control's part, which is subtracted.
    covariance = -contrast.covariances.sum(axis=0)
    scale = contrast.baseline**2
    a = 1 - squared * contrast.baseline_variances.sum(axis=0) / scale
    half_b = (contrast.difference * contrast.baseline - squared * covariance) / scale
    c = (contrast.difference**2 - squared * effect_variance) / scale
    inner = half_b**2 - a * c
    bounded = a > 0
    a = np.where(bounded, a, 1.0)
    # Rounding may leave the root of a true square just below 0.
    reach = np.sqrt(np.where(bounded, np.maximum(inner, 0.0), 0.0))
    low, high = (half_b - reach) / a, (half_b + reach) / a
    mirrored = contrast.baseline < 0
    low, high = np.where(mirrored, -high, low), np.where(mirrored, -low, high)
    return _intervals(low, high, bounded)


def _intervals(low: Floats, high: Floats, bounded: Mask) -> Intervals:
    bounded = bounded & np.isfinite(low) & np.isfinite(high)
    return Intervals(np.where(bounded, low, 0.0), np.where(bounded, high, 0.0), bounded)
