"""Posteriors of effects, for experiments whose method is Bayesian. Pure.

A posterior is not protected against repeated looks, and its entry says so.
"""

from typing import Any

from schemas.definitions import Analysis, Metric
from stream_processors.stats.bayes import FLAT, LABEL, NormalPrior, effect_posterior
from stream_processors.stats.bayes_beta import Beta, beta_posterior, compare_rates
from stream_processors.stats.effects import CupedEffect, Effect, RelativeEffect
from stream_processors.stats.sums import JointSums
from stream_processors.stats.tails import normal_critical_value

Entry = dict[str, Any]


def rate_posterior_entry(
    metric: Metric, control: JointSums, treatment: JointSums, effect: Effect, analysis: Analysis
) -> Entry | None:
    """Return the posterior of two rates with a uniform prior each; None without an estimate."""
    if effect.estimate is None:
        return None
    arms: list[Beta[float]] = [
        beta_posterior(float(one.unit_count), float(one.sums[0])) for one in (control, treatment)
    ]
    found = compare_rates(*arms)
    reach = normal_critical_value(analysis.alpha) * found.std_dev
    is_lower_better = metric.direction == "decrease"
    chance = 1 - found.chance_to_beat if is_lower_better else found.chance_to_beat
    losses = (found.loss_treatment, found.loss_control)
    if is_lower_better:
        # What the treatment's rate is higher by is lost with the treatment, and the other way.
        losses = (found.loss_control, found.loss_treatment)
    return {
        "model": "beta",
        "mean": found.mean,
        "sd": found.std_dev,
        "chance": chance,
        "loss_treatment": losses[0],
        "loss_control": losses[1],
        "low": found.mean - reach,
        "high": found.mean + reach,
        "label": LABEL,
    }


def posterior_entry(
    metric: Metric, effect: Effect | CupedEffect, analysis: Analysis
) -> Entry | None:
    """Return the normal posterior of an effect; None without an estimate or a standard error."""
    if effect.estimate is None or not effect.std_error:
        return None
    prior = FLAT
    if analysis.prior is not None:
        prior = NormalPrior(analysis.prior.mean, analysis.prior.sd)
    return _normal(effect.estimate, effect.std_error, prior, metric, analysis)


def relative_posterior_entry(
    metric: Metric, relative: RelativeEffect, analysis: Analysis
) -> Entry | None:
    """Return the posterior of a relative effect with a flat prior, by the delta method."""
    if relative.estimate is None or not relative.std_error:
        return None
    return _normal(relative.estimate, relative.std_error, FLAT, metric, analysis)


def _normal(
    estimate: float, std_error: float, prior: NormalPrior, metric: Metric, analysis: Analysis
) -> Entry:
    found = effect_posterior(
        estimate,
        std_error,
        alpha=analysis.alpha,
        prior=prior,
        is_lower_better=metric.direction == "decrease",
    )
    return {
        "model": "normal",
        "mean": found.mean,
        "sd": found.std_dev,
        "chance": found.chance_to_win,
        "loss_treatment": found.loss_treatment,
        "loss_control": found.loss_control,
        "low": found.low,
        "high": found.high,
        "label": LABEL,
    }
