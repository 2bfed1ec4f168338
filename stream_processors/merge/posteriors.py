"""Posteriors of effects, for experiments whose method is Bayesian. Pure.

Rates have Beta posteriors of their own. Averages of unit totals are held to Student's t, because
their variances are estimated too (``stats.bayes_differences``). What is a mean by the delta method
only (ratios, adjusted and relative effects, quantiles) waits for the burn-in of the sequences.

A posterior is not protected against repeated looks, and its entry says so.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from schemas.definitions import Analysis, Metric, Prior
from schemas.posted import is_prior
from stream_processors.merge.questions import Question
from stream_processors.stats.bayes import LABEL, EffectPosterior
from stream_processors.stats.bayes_beta import Beta, RatePosterior, beta_posterior, compare_rates
from stream_processors.stats.bayes_differences import (
    FREEDOM_MIN,
    Differences,
    difference_posteriors,
)
from stream_processors.stats.bayes_rate_intervals import difference_intervals, relative_intervals
from stream_processors.stats.edges import BURN_IN_CONVERSIONS, BURN_IN_UNITS
from stream_processors.stats.effects import CupedEffect, Effect, RelativeEffect
from stream_processors.stats.tails import Floats

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
    """Return the effects with posteriors where the method is Bayesian; all in one go."""
    wanted: list[tuple[int, str, _Difference]] = []
    for index, ((analysis, question), effect) in enumerate(zip(asked, effects, strict=True)):
        if analysis.method == "bayesian" and question.basis == "matured":
            differences = _differences(question.metric, effect, analysis)
            wanted += [(index, where, one) for where, one in differences.items()]
    told = list(effects)
    for index, posteriors in _rates(asked, effects):
        for where, one in posteriors.items():
            told[index] = _with(told[index], where, one)
    if not wanted:
        return told
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
    for (index, where, _), row in zip(wanted, zip(*found, strict=True), strict=True):
        posterior = EffectPosterior(*map(float, row))
        told[index] = _with(told[index], where, posterior)
    return told


def posterior_status(metric: Metric, effect: Effect | CupedEffect, analysis: Analysis) -> str:
    """Return why there is no posterior; ``ok`` if there is one."""
    status = _status_of_sums(metric, effect)
    prior = _prior_of(metric, analysis)
    if status != "ok" or (metric.kind == "conversion" and isinstance(effect, Effect)):
        return status
    return "ok" if prior is _FLAT or is_prior(prior) else "invalid_prior"


def _status_of_sums(metric: Metric, effect: Effect | CupedEffect) -> str:
    if metric.kind == "conversion" and isinstance(effect, Effect):
        return "ok" if effect.estimate is not None else effect.status
    if "ties" in effect.flags:
        return "ties"
    if effect.estimate is None or not effect.std_error:
        return effect.status if effect.status != "ok" else "undefined"
    if isinstance(effect, Effect) and metric.kind in _AVERAGES:
        if effect.status == "one_variance_zero":
            return effect.status
        fewest = min(effect.control.unit_count, effect.treatment.unit_count)
        return "ok" if fewest >= UNITS_MIN else "insufficient"
    if effect.status == "ok" and _freedom(effect) < FREEDOM_MIN:
        return "insufficient"  # One unit carries nearly all of the standard error.
    return effect.status


def is_of_rates(metric: Metric) -> bool:
    """Return whether what decides is two rates as they are, with Beta posteriors."""
    return metric.kind == "conversion" and not metric.covariate_days


def leans_on_prior(effect: Effect) -> bool:
    """Return whether the posterior of two rates is shown, but decides nothing yet: the burn-in.

    A uniform prior expects every second unit to convert. Of few events that is much of what is
    believed, and in unequal variants not the same of both: none of 100 would be "higher" than none
    of 10,000 with a chance of 99 %.
    """
    for arm in (effect.control, effect.treatment):
        converted = round((arm.mean or 0.0) * arm.unit_count)
        fewer = min(converted, arm.unit_count - converted)
        if arm.unit_count < BURN_IN_UNITS or fewer < BURN_IN_CONVERSIONS:
            return True
    return False


def posterior_entry(
    effect: Effect | CupedEffect | RelativeEffect, *, of_rates: bool = False
) -> Entry | None:
    """Return the posterior that ``believed`` found; None where there is none."""
    found = effect.posterior
    if found is None:
        return None
    freedom = effect.degrees_of_freedom
    return {
        "model": "beta" if of_rates else "normal" if freedom is None else "student",
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
    prior, name = _prior_of(metric, analysis), "cuped" if metric.covariate_days else "effect"
    deciding = effect.cuped if metric.covariate_days else effect
    if deciding is None:
        return found
    is_rate = metric.kind == "conversion" and isinstance(deciding, Effect)
    if posterior_status(metric, deciding, analysis) == "ok" and not is_rate:
        by_arm = isinstance(deciding, Effect) and metric.kind in _AVERAGES
        found[name] = _by_arm(effect, prior) if by_arm else _as_one(deciding, prior)
    # The prior is one of the absolute effect: a relative posterior without it would be of somebody
    # else's belief, and say "better" beside "worse".
    relative = deciding.relative
    has_relative = prior is _FLAT and not is_rate and deciding.status == "ok"
    # Its degrees of freedom are its own, and can be fewer than those of the absolute effect.
    if has_relative and relative.std_error and _freedom(relative) >= FREEDOM_MIN:
        found[f"{name}.relative"] = _as_one(relative, _FLAT)
    return found


def _rates(
    asked: Sequence[tuple[Analysis, Question]], effects: Sequence[Effect]
) -> Iterator[tuple[int, dict[str, EffectPosterior[float]]]]:
    """Yield posteriors of rates with a uniform prior each, by where they go; all in one go."""
    rows = [
        index
        for index, ((analysis, question), effect) in enumerate(zip(asked, effects, strict=True))
        if analysis.method == "bayesian"
        and question.basis == "matured"
        and is_of_rates(question.metric)
        and effect.estimate is not None
    ]
    if not rows:
        return
    pairs = [asked[index][1].comparison for index in rows]
    control, treatment = (
        beta_posterior(
            np.array([float(one.total.unit_count) for one in arms]),
            np.array([float(one.total.sums[0]) for one in arms]),
        )
        for arms in ([one.control for one in pairs], [one.treatment for one in pairs])
    )
    alphas = np.array([asked[index][0].alpha for index in rows])
    lower = np.array([asked[index][1].metric.direction == "decrease" for index in rows])
    found = compare_rates(control, treatment)
    absolute = _rate_effects(found, lower, difference_intervals(control, treatment, alphas))
    shares = _relative_rates(found, control, treatment)
    relative = _rate_effects(shares, lower, relative_intervals(control, treatment, alphas))
    for index, plain, share in zip(
        rows, zip(*absolute, strict=True), zip(*relative, strict=True), strict=True
    ):
        posteriors = {"effect": EffectPosterior(*map(float, plain))}
        if effects[index].relative.estimate is not None:
            posteriors["effect.relative"] = EffectPosterior(*map(float, share))
        yield index, posteriors


def _relative_rates(
    found: RatePosterior[Floats], control: Beta[Floats], treatment: Beta[Floats]
) -> RatePosterior[Floats]:
    """Return mean and losses as shares of the control's posterior mean; the delta method's spread.

    The chance is that of the difference: the two have the same sign.
    """
    scale = control.mean
    spreads = [
        one.a / (one.a + one.b) * (one.b / (one.a + one.b)) / (one.a + one.b + 1)
        for one in (control, treatment)
    ]
    ratio = treatment.mean / scale
    return RatePosterior(
        found.chance_to_beat,
        found.loss_treatment / scale,
        found.loss_control / scale,
        found.mean / scale,
        np.sqrt(spreads[1] + np.square(ratio) * spreads[0]) / scale,
    )


def _rate_effects(
    found: RatePosterior[Floats], is_lower_better: Floats, interval: tuple[Floats, Floats]
) -> EffectPosterior[Floats]:
    """Return the belief of an effect, in the direction that is better.

    What the treatment's rate is higher by is lost with the treatment where lower is better.
    """
    above, below = found.loss_control, found.loss_treatment
    return EffectPosterior(
        mean=found.mean,
        std_dev=found.std_dev,
        chance_to_win=np.where(is_lower_better, 1 - found.chance_to_beat, found.chance_to_beat),
        loss_treatment=np.where(is_lower_better, above, below),
        loss_control=np.where(is_lower_better, below, above),
        low=interval[0],
        high=interval[1],
    )


def _prior_of(metric: Metric, analysis: Analysis) -> Prior:
    """Return the prior of an effect: a prior is in the units of what decides, so of no other."""
    return analysis.prior or _FLAT if metric.role == "decision" else _FLAT


def _by_arm(effect: Effect, prior: Prior) -> _Difference:
    """Return both variants' own standard errors; one without spread is taken to be known.

    That is one of so many units that they are not alike by chance: ``stats.edges`` sees to it.
    """
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
    """Return one estimate with Satterthwaite's degrees of freedom."""
    std_errors = (0.0, effect.std_error or 0.0)
    return _Difference(effect.estimate or 0.0, std_errors, (math.inf, _freedom(effect)), prior)


def _freedom(effect: Effect | CupedEffect | RelativeEffect) -> float:
    """Return the degrees of freedom; infinite without them: the standard error counts as known."""
    freedom = effect.degrees_of_freedom
    return math.inf if freedom is None else freedom


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
