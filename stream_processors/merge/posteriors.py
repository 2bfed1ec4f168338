"""Posteriors of effects, for experiments whose method is Bayesian. Pure.

Rates have Beta posteriors of their own. Averages of unit totals are held to Student's t, because
their variances are estimated too (``stats.bayes_differences``). What is a mean by the delta method
only (ratios, adjusted and relative effects, quantiles) waits for the burn-in of the sequences.

A posterior is not protected against repeated looks, and its entry says so.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from schemas.definitions import Analysis, Metric, Prior
from stream_processors.merge.questions import Question
from stream_processors.stats.bayes import LABEL, EffectPosterior
from stream_processors.stats.bayes_beta import Beta, beta_posterior, compare_rates
from stream_processors.stats.bayes_differences import Differences, difference_posteriors
from stream_processors.stats.effects import CupedEffect, Effect, RelativeEffect
from stream_processors.stats.sums import JointSums
from stream_processors.stats.tails import normal_critical_value

Entry = dict[str, Any]

UNITS_MIN = 3
"""Of each variant: with two a mean has no posterior mean, and an expected loss no value."""

_AVERAGES = ("count", "sum")
"""Kinds of metrics that are plain averages of unit totals."""

_FLAT = Prior(sd=math.inf)


class _Difference(NamedTuple):
    """One row of ``Differences``, less what its question says."""

    estimate: float
    std_errors: tuple[float, float]
    freedoms: tuple[float, float]
    prior: Prior = _FLAT


def believed(asked: Sequence[tuple[Analysis, Question]], effects: Sequence[Effect]) -> list[Effect]:
    """Return the effects with posteriors where the method is Bayesian; all in one go.

    Rates have none here, but on the relative scale: see ``rate_posterior_entry``.
    """
    wanted: list[tuple[int, str, _Difference]] = []
    for index, ((analysis, question), effect) in enumerate(zip(asked, effects, strict=True)):
        if analysis.method == "bayesian" and question.basis == "matured":
            differences = _differences(question.metric, effect, analysis)
            wanted += [(index, where, one) for where, one in differences.items()]
    if not wanted:
        return list(effects)
    of_rows = [asked[index] for index, _, _ in wanted]
    found = difference_posteriors(
        Differences(
            np.array([one.estimate for _, _, one in wanted]),
            np.array([one.std_errors for _, _, one in wanted]).T,
            np.array([one.freedoms for _, _, one in wanted]).T,
            np.array([one.prior.mean for _, _, one in wanted]),
            np.array([one.prior.sd for _, _, one in wanted]),
            np.array([analysis.alpha for analysis, _ in of_rows]),
            np.array([question.metric.direction == "decrease" for _, question in of_rows]),
        )
    )
    told = list(effects)
    for (index, where, _), row in zip(wanted, zip(*found, strict=True), strict=True):
        posterior = EffectPosterior(*map(float, row))
        told[index] = _with(told[index], where, posterior)
    return told


def posterior_status(metric: Metric, effect: Effect | CupedEffect) -> str:
    """Return why there is no posterior; ``ok`` if there is one."""
    if metric.kind == "conversion" and isinstance(effect, Effect):
        return "ok" if effect.estimate is not None else effect.status
    if "ties" in effect.flags:
        return "ties"
    if effect.estimate is None or not effect.std_error:
        return effect.status if effect.status != "ok" else "undefined"
    if isinstance(effect, Effect) and metric.kind in _AVERAGES:
        fewest = min(effect.control.unit_count, effect.treatment.unit_count)
        return "ok" if fewest >= UNITS_MIN else "insufficient"
    return effect.status


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


def posterior_entry(effect: Effect | CupedEffect | RelativeEffect) -> Entry | None:
    """Return the posterior that ``believed`` found; None where there is none."""
    found = effect.posterior
    if found is None:
        return None
    freedom = effect.degrees_of_freedom
    return {
        "model": "normal" if freedom is None else "student",
        "mean": found.mean,
        "sd": found.std_dev if math.isfinite(found.std_dev) else None,
        "chance": found.chance_to_win,
        "loss_treatment": found.loss_treatment,
        "loss_control": found.loss_control,
        "low": found.low,
        "high": found.high,
        "label": LABEL,
    }


def _differences(metric: Metric, effect: Effect, analysis: Analysis) -> dict[str, _Difference]:
    """Return what has a posterior, by where it goes: the effect that decides, on both scales."""
    found: dict[str, _Difference] = {}
    prior, name = analysis.prior or _FLAT, "cuped" if metric.covariate_days else "effect"
    deciding = effect.cuped if metric.covariate_days else effect
    if deciding is None:
        return found
    is_rate = metric.kind == "conversion" and isinstance(deciding, Effect)
    if posterior_status(metric, deciding) == "ok" and not is_rate:
        by_arm = isinstance(deciding, Effect) and metric.kind in _AVERAGES
        found[name] = _by_arm(effect, prior) if by_arm else _as_one(deciding, prior)
    if deciding.status == "ok" and deciding.relative.std_error:
        found[f"{name}.relative"] = _as_one(deciding.relative, _FLAT)
    return found


def _by_arm(effect: Effect, prior: Prior) -> _Difference:
    """Return both variants' own standard errors; one without spread is taken to be known."""
    arms = [
        (one.std_error or 0.0, one.unit_count - 1) for one in (effect.control, effect.treatment)
    ]
    return _Difference(
        effect.estimate or 0.0,
        (arms[0][0], arms[1][0]),
        (arms[0][1] if arms[0][0] else math.inf, arms[1][1] if arms[1][0] else math.inf),
        prior,
    )


def _as_one(effect: Effect | CupedEffect | RelativeEffect, prior: Prior) -> _Difference:
    """Return one estimate with Satterthwaite's degrees of freedom; without them as known."""
    freedom = effect.degrees_of_freedom or math.inf
    return _Difference(
        effect.estimate or 0.0, (0.0, effect.std_error or 0.0), (math.inf, freedom), prior
    )


def _with(effect: Effect, where: str, posterior: EffectPosterior[float]) -> Effect:
    if where == "effect":
        return effect._replace(posterior=posterior)
    if where == "effect.relative":
        return effect._replace(relative=effect.relative._replace(posterior=posterior))
    cuped = effect.cuped
    if cuped is None:
        raise ValueError(f"{where} of an effect without a covariate")
    if where == "cuped":
        return effect._replace(cuped=cuped._replace(posterior=posterior))
    relative = cuped.relative._replace(posterior=posterior)
    return effect._replace(cuped=cuped._replace(relative=relative))
