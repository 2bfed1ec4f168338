"""One comparison, whole: the edge rules, the fixed-horizon test, the sequence, both scales."""

import math
from typing import Literal, NamedTuple

from stream_processors.stats.edges import Hides, Pair, judge
from stream_processors.stats.proportions import Rate, compare_proportions
from stream_processors.stats.proportions import log_ratio_std_error as rate_log_std_error
from stream_processors.stats.quantiles import normal_critical_value
from stream_processors.stats.relative import (
    Interval,
    fieller_interval,
    log_interval,
    log_ratio_std_error,
    welch_log_interval,
)
from stream_processors.stats.sequential import SequentialTest, confidence_sequence
from stream_processors.stats.sums import Moments, Sums, difference_of_means, moments
from stream_processors.stats.welch import welch_test


class FixedHorizon(NamedTuple):
    """Right for one look that was planned.

    Attributes:
        test: ``z`` for rates, ``welch`` for totals.
        statistic: z or t.
        p_value: Two-sided.
        low: Lower end of the interval of the difference.
        high: Its upper end.
        degrees_of_freedom: Of Welch's test; None for z.
    """

    test: Literal["z", "welch"]
    statistic: float
    p_value: float
    low: float
    high: float
    degrees_of_freedom: float | None = None


class RelativeEffect(NamedTuple):
    """Effect as a share of the control's mean.

    Attributes:
        status: ``ok``, or why the numbers are None.
        estimate: (treatment - control) / |control|.
        method: How the fixed-horizon interval was made: ``log`` or ``fieller``.
        fixed_horizon: Its interval at one planned look; None where it is unbounded.
        sequence: Its interval at all looks, the log ratio's; None before the burn-in and where
            a mean is not positive.
    """

    status: str
    estimate: float | None = None
    method: Literal["log", "fieller"] | None = None
    fixed_horizon: Interval | None = None
    sequence: Interval | None = None


class Effect(NamedTuple):
    """Treatment against control. What is None is so for the reason in ``status``.

    Attributes:
        status: ``ok`` or a status of ``edges``.
        flags: What a reader should know besides.
        estimate: Treatment mean - control mean, in metric units.
        std_error: √(s²/n summed over both), n - 1 variances; also for rates, whose z is pooled.
        fixed_horizon: The test for one look.
        sequence: The test for all looks; None before the burn-in.
        relative: The effect on the relative scale.
    """

    status: str
    flags: tuple[str, ...]
    estimate: float | None
    std_error: float | None
    fixed_horizon: FixedHorizon | None
    sequence: SequentialTest | None
    relative: RelativeEffect


class Plan(NamedTuple):
    """How results are read, fixed at the start.

    Attributes:
        alpha: Error probability, in (0, 1).
        n_star: Units of a pair at which the sequence is about tightest.
    """

    alpha: float = 0.05
    n_star: int = 5_000


def compare(control: Sums, treatment: Sums, *, precision: int, is_rate: bool, plan: Plan) -> Effect:
    """Return the effect of a treatment, from exact sums.

    Args:
        control: Any sums at all: impossible ones give the status ``invalid_input``.
        treatment: The same.
        precision: Decimal digits kept of a value; 0 for rates.
        is_rate: Whether a unit's value can only be 0 or 1.
        plan: Error probability and tuning.
    """
    verdict = judge(Pair(control, treatment, is_rate))
    if verdict.hides is Hides.EFFECT:
        hidden = RelativeEffect(verdict.relative_status)
        return Effect(verdict.status, verdict.flags, None, None, None, None, hidden)
    arms = moments(control, precision), moments(treatment, precision)
    estimate = difference_of_means(control, treatment, precision)
    std_error = math.sqrt(arms[0].mean_variance + arms[1].mean_variance)
    if verdict.hides is Hides.TESTS:
        hidden = RelativeEffect(verdict.relative_status)
        return Effect(verdict.status, verdict.flags, estimate, std_error, None, None, hidden)
    rates = _rates(control, treatment) if is_rate else None
    units = control.unit_count + treatment.unit_count
    sequence = None
    if verdict.hides is not Hides.SEQUENCE:
        sequence = confidence_sequence(
            estimate, std_error, unit_count=units, alpha=plan.alpha, n_star=plan.n_star
        )
    return Effect(
        status=verdict.status,
        flags=verdict.flags,
        estimate=estimate,
        std_error=std_error,
        fixed_horizon=_fixed_horizon(arms, rates, estimate, plan.alpha),
        sequence=sequence,
        relative=_relative(arms, rates, estimate, plan.alpha, sequence)
        if verdict.relative_status == "ok"
        else RelativeEffect(verdict.relative_status),
    )


def _rates(control: Sums, treatment: Sums) -> tuple[Rate, Rate]:
    return Rate(control.unit_count, control.sum_q), Rate(treatment.unit_count, treatment.sum_q)


def _fixed_horizon(
    arms: tuple[Moments, Moments],
    rates: tuple[Rate, Rate] | None,
    difference: float,
    alpha: float,
) -> FixedHorizon | None:
    if rates is None:
        welch = welch_test(*arms, alpha=alpha, difference=difference)
        return FixedHorizon(
            "welch", welch.t, welch.p_value, welch.low, welch.high, welch.degrees_of_freedom
        )
    test = compare_proportions(*rates, alpha=alpha)
    if test.z is None or test.p_value is None:
        return None
    return FixedHorizon("z", test.z, test.p_value, test.low, test.high)


def _relative(
    arms: tuple[Moments, Moments],
    rates: tuple[Rate, Rate] | None,
    difference: float,
    alpha: float,
    sequence: SequentialTest | None,
) -> RelativeEffect:
    control, treatment = arms
    estimate = difference / abs(control.mean)
    log_sequence = None
    if control.mean > 0 and treatment.mean > 0:
        if rates is not None:
            reach = normal_critical_value(alpha) * rate_log_std_error(*rates)
            interval = log_interval(treatment.mean / control.mean, reach)
        else:
            interval = welch_log_interval(control, treatment, alpha=alpha)
        if sequence is not None:
            # The log ratio is asymptotically normal with the delta method's standard error, and
            # that is all that the sequence asks of an estimate.
            reach = sequence.critical_value * log_ratio_std_error(control, treatment)
            log_sequence = log_interval(treatment.mean / control.mean, reach)
        if interval is not None:
            return RelativeEffect("ok", estimate, "log", interval, log_sequence)
    interval = fieller_interval(control, treatment, alpha=alpha)
    status = "ok" if interval is not None else "undefined"
    return RelativeEffect(status, estimate, "fieller", interval, log_sequence)
