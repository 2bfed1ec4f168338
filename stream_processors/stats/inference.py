"""The tests of many comparisons at once: arrays in, arrays out, no Python per comparison."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from stream_processors.stats.edges import EDGE_RULES, Hides, Mask, Pairs, Side, Verdicts, judge
from stream_processors.stats.proportions import Rate, compare_proportions
from stream_processors.stats.relative import (
    Contrast,
    Intervals,
    delta_std_error,
    fieller_interval,
    has_log,
    log_interval,
    relative_degrees_of_freedom,
)
from stream_processors.stats.sequential import (
    mixture_of_effects,
    mixture_sequence,
    mixture_variance,
)
from stream_processors.stats.tails import Floats, normal_critical_value, t_critical_value
from stream_processors.stats.tied_quantiles import RankCurve, tied_sequence, tied_test
from stream_processors.stats.welch import welch_test_of_sum


class Plans(NamedTuple):
    """How every comparison is read; arrays of shape (n,).

    Attributes:
        alpha: Error probability, in (0, 1).
        n_star: Units of a pair at which its sequence is about tightest.
        tau: Standard deviation of the effects it is tuned for instead; NaN: by ``n_star``.
        is_rate: Whether the means are rates, whose fixed-horizon test is the pooled z.
    """

    alpha: Floats
    n_star: Floats
    tau: Floats
    is_rate: Mask

    def at(self, places: Any) -> "Plans":
        """Return the plans of some comparisons."""
        return Plans(*(field[places] for field in self))


class Inference(NamedTuple):
    """What is known of every comparison; columns of shape (n,), 0 where a verdict hides them.

    Attributes:
        verdicts: What may be shown.
        is_tied: Where both tests are of ranks: quantiles with ties, without a standard error.
        effect: Columns ``std_error``, ``degrees_of_freedom``.
        fixed: Columns ``statistic``, ``p_value``, ``low``, ``high``.
        sequence: Columns as of ``sequential.SequentialTest``.
        relative: Columns ``estimate``, ``std_error``, ``degrees_of_freedom``, ``low``, ``high``,
            ``sequence_low``, ``sequence_high``.
        is_log: Whether the relative interval is the log ratio's.
        is_bounded: Whether it has two ends.
        is_sequence_bounded: Whether that of all looks has.
        interval_decides: Whether p-value and interval of a rate disagree.
    """

    verdicts: Verdicts
    is_tied: Mask
    effect: Floats
    fixed: Floats
    sequence: Floats
    relative: Floats
    is_log: Mask
    is_bounded: Mask
    is_sequence_bounded: Mask
    interval_decides: Mask


class Tied(NamedTuple):
    """What a comparison of quantiles with ties is made from.

    Attributes:
        control: Distribution function of the one variant.
        treatment: Of the other.
        quanta: Of one metric unit.
    """

    control: RankCurve
    treatment: RankCurve
    quanta: int


def infer(
    pairs: Pairs, contrast: Contrast, plans: Plans, ties: Mapping[int, Tied] | None = None
) -> Inference:
    """Return the tests of every comparison.

    Args:
        pairs: Both variants, n of them.
        contrast: Their differences; whatever it holds where a verdict hides tests is not read.
        plans: How they are read.
        ties: By place, what those whose sides are tied are made from.
    """
    is_tied = np.zeros(len(plans.alpha), dtype=bool)
    is_tied[list(ties or ())] = True
    verdicts = judge(Pairs(*(_without_error(side, is_tied) for side in pairs)))
    is_tied &= verdicts.shows_tests
    count = len(plans.alpha)
    tested = np.flatnonzero(verdicts.shows_tests & ~is_tied)
    effect, fixed = np.zeros((2, count)), np.zeros((4, count))
    effect[0] = np.sqrt(np.where(verdicts.shows_effect, contrast.variances.sum(axis=0), 0.0))
    welch = welch_test_of_sum(
        contrast.difference[tested],
        contrast.variances[:, tested],
        contrast.counts[:, tested],
        alpha=plans.alpha[tested],
    )
    effect[1, tested] = welch.degrees_of_freedom
    fixed[:, tested] = welch.t, welch.p_value, welch.low, welch.high
    interval_decides = np.zeros(count, dtype=bool)
    rates = np.flatnonzero(verdicts.shows_tests & plans.is_rate)
    if rates.size:
        alpha = plans.alpha[rates]
        test = compare_proportions(
            _rates(pairs.control, rates),
            _rates(pairs.treatment, rates),
            alpha=alpha,
            difference=contrast.difference[rates],
        )
        fixed[:, rates] = test.z, test.p_value, test.low, test.high
        interval_decides[rates] = (test.p_value <= alpha) != ((test.low > 0) | (test.high < 0))
    sequence = _sequences(verdicts.shows_sequence & ~is_tied, pairs, contrast, effect[0], plans)
    for place in np.flatnonzero(is_tied).tolist():
        row = _tied_columns((ties or {})[place], plans.at(place))
        fixed[:, place], sequence[:, place] = row
    verdicts = _without_sequence(verdicts, is_tied & ~np.isfinite(sequence).all(axis=0))
    relative, masks = _relative(verdicts, contrast, sequence[4], plans)
    return Inference(verdicts, is_tied, effect, fixed, sequence, relative, *masks, interval_decides)


def _rates(side: Any, places: Any) -> Rate:
    units = side.unit_count[places]
    return Rate(units, np.rint(side.mean[places] * units))


def _without_error(side: Side, is_tied: Mask) -> Side:
    """Return a side to which rules about standard errors do not apply where it is tied.

    There it has none: neither one of 0, nor one that says how far it is from 0.
    """
    return side._replace(
        effect_variance=np.where(is_tied, 1.0, side.effect_variance),
        mean_variance=np.where(is_tied, np.inf, side.mean_variance),
    )


def _without_sequence(verdicts: Verdicts, held: Mask) -> Verdicts:
    """Return the verdicts where the sequences of some have not started yet: no two ends."""
    held = held & verdicts.shows_sequence
    return verdicts._replace(
        status=np.where(held, _WARMING_UP, verdicts.status),
        shows_sequence=verdicts.shows_sequence & ~held,
    )


_WARMING_UP = next(row for row, rule in enumerate(EDGE_RULES) if rule.hides is Hides.SEQUENCE)


def _tied_columns(tied: Tied, plan: Plans) -> tuple[Floats, Floats]:
    """Return the columns of ``fixed`` and ``sequence`` of one comparison, in metric units."""
    alpha = float(plan.alpha)
    curves = tied.control, tied.treatment
    fixed = tied_test(*curves, alpha=alpha)
    always = tied_sequence(*curves, alpha=alpha, n_star=float(plan.n_star))
    scale = tied.quanta
    return (
        np.array([fixed.statistic, fixed.p_value, fixed.low / scale, fixed.high / scale]),
        np.array([always.low / scale, always.high / scale, *always[2:]]),
    )


def _sequences(
    shown: Mask, pairs: Pairs, contrast: Contrast, std_error: Floats, plans: Plans
) -> Floats:
    sequence = np.zeros((5, len(std_error)))
    places = np.flatnonzero(shown)
    if places.size:
        plan, error = plans.at(places), std_error[places]
        units = pairs.control.unit_count[places] + pairs.treatment.unit_count[places]
        k = np.where(
            np.isnan(plan.tau),
            units * mixture_variance(plan.alpha, plan.n_star),
            mixture_of_effects(np.nan_to_num(plan.tau), error),
        )
        sequence[:, places] = mixture_sequence(
            contrast.difference[places], error, k=k, alpha=plan.alpha
        )
    return sequence


def _relative(
    verdicts: Verdicts, contrast: Contrast, critical: Floats, plans: Plans
) -> tuple[Floats, tuple[Mask, Mask, Mask]]:
    count = len(critical)
    relative = np.zeros((7, count))
    masks = tuple(np.zeros(count, dtype=bool) for _ in range(3))
    places = np.flatnonzero(verdicts.shows_relative)
    if not places.size:
        return relative, (masks[0], masks[1], masks[2])
    some, plan = (
        _with_binomial_variances(contrast.at(places), plans.is_rate[places]),
        plans.at(places),
    )
    freedom = relative_degrees_of_freedom(some)
    log = log_interval(some, t_critical_value(plan.alpha, freedom))
    fieller = fieller_interval(some, normal_critical_value(plan.alpha))
    is_log = has_log(some) & log.is_bounded
    fixed = _chosen(is_log, log, fieller)
    always = _chosen(
        is_log, log_interval(some, critical[places]), fieller_interval(some, critical[places])
    )
    relative[:, places] = (
        some.estimate,
        delta_std_error(some),
        freedom,
        fixed.low,
        fixed.high,
        always.low,
        always.high,
    )
    masks[0][places] = is_log
    masks[1][places] = fixed.is_bounded
    masks[2][places] = always.is_bounded & verdicts.shows_sequence[places]
    return relative, (masks[0], masks[1], masks[2])


def _with_binomial_variances(contrast: Contrast, is_rate: Mask) -> Contrast:
    """Return the contrasts with p(1 - p)/n for rates: known from the rate, so not a t's."""
    control, treatment = contrast.control_counts, contrast.treatment_counts
    by_control = np.where(is_rate, (control - 1) / control, 1.0)
    by_treatment = np.where(is_rate, (treatment - 1) / treatment, 1.0)
    return contrast._replace(
        treatment_variances=contrast.treatment_variances * by_treatment,
        control_variances=contrast.control_variances * by_control,
        baseline_variances=contrast.baseline_variances * by_control,
        covariances=contrast.covariances * by_control,
        treatment_counts=np.where(is_rate, np.inf, treatment),
        control_counts=np.where(is_rate, np.inf, control),
    )


def _chosen(is_log: Mask, log: Intervals, fieller: Intervals) -> Intervals:
    return Intervals(
        *(np.where(is_log, one, other) for one, other in zip(log, fieller, strict=True))
    )
