"""What is believed of an effect after the data: a normal posterior of any asymptotic estimate.

A posterior is not protected against repeated looks: stopping when P > 95 % or < 5 % rejects more
than half of all A/A tests within 100 looks. ``LABEL`` says so and belongs beside every number.
All is in closed form; nothing is drawn at random.
"""

import math
from typing import Generic, NamedTuple

import numpy as np
from scipy import special

from stream_processors.stats.tails import Floats, Numbers, normal_critical_value, plain

LABEL = "posterior; not protected against repeated looks"

MILLS_SERIES_FROM = 10.0
"""Standard deviations from which on the expected loss uses the series of Mills' ratio."""

_MILLS_TERMS = 20
_ROOT_HALF = math.sqrt(0.5)


class NormalPrior(NamedTuple):
    """Belief before the data, on the scale of the estimate; ``std_dev`` inf: flat."""

    mean: float = 0.0
    std_dev: float = math.inf


FLAT = NormalPrior()


class EffectPosterior(NamedTuple, Generic[Numbers]):
    """Belief of an effect; every field is a float, or an array with one entry per effect.

    Attributes:
        mean: In the units of the estimate.
        std_dev: The same, > 0.
        chance_to_win: Probability that the treatment is better.
        loss_treatment: Expected loss of choosing the treatment: what it is worse by, 0 where it is
            better, on average; in the units of the estimate.
        loss_control: Expected loss of choosing the control.
        low: Lower end of the central credible interval.
        high: Its upper end.
    """

    mean: Numbers
    std_dev: Numbers
    chance_to_win: Numbers
    loss_treatment: Numbers
    loss_control: Numbers
    low: Numbers
    high: Numbers


def effect_posterior(
    estimate: Numbers,
    std_error: Numbers,
    *,
    alpha: float,
    prior: NormalPrior = FLAT,
    is_lower_better: bool = False,
) -> EffectPosterior[Numbers]:
    """Return the posterior of effects whose estimates are asymptotically normal.

    Args:
        estimate: Effects on any scale: difference, relative difference, log ratio.
        std_error: Theirs, > 0 and finite.
        alpha: The credible interval holds 1 - alpha.
        prior: On the same scale.
        is_lower_better: Whether a negative effect is a gain.

    Raises:
        ValueError: If an estimate is not finite, a standard error or the prior's deviation not
            positive, or alpha not in (0, 1).

    References:
        Conjugate normal: precisions add, means are weighted by them. Gelman et al. (2013),
        "Bayesian Data Analysis", section 2.5. Losses: s φ(z) - m Φ(-z) with z = m / s.
    """
    _check(estimate, std_error, alpha, prior)
    # Relative weight of the prior: 0 for a flat one, without ∞ - ∞ on the way.
    weight = np.square(np.asarray(std_error) / prior.std_dev)
    mean = (np.asarray(estimate) + weight * prior.mean) / (1 + weight)
    std_dev = np.asarray(std_error) / np.sqrt(1 + weight)
    z = (-mean if is_lower_better else mean) / std_dev
    reach = normal_critical_value(alpha) * std_dev
    return EffectPosterior(
        mean=plain(mean),
        std_dev=plain(std_dev),
        chance_to_win=plain(special.ndtr(z)),
        loss_treatment=plain(std_dev * standard_loss(z)),
        loss_control=plain(std_dev * standard_loss(-z)),
        low=plain(mean - reach),
        high=plain(mean + reach),
    )


def standard_loss(z: Floats) -> Floats:
    """Return E[max(0, -X)] of X ~ N(z, 1): φ(z) - zΦ(-z), to full relative accuracy in the tail.

    References:
        φ(z) (1 - z R(z)) with Mills' ratio R = Φ(-z) / φ(z): by erfcx, and far out, where the
        difference cancels, by its asymptotic series 1/z² - 3/z⁴ + 15/z⁶ - …; NIST DLMF 7.12.1.
    """
    size = np.abs(z)
    near = np.minimum(size, MILLS_SERIES_FROM)
    mills = math.sqrt(math.pi / 2) * special.erfcx(near * _ROOT_HALF)
    inverse = 1 / np.square(np.maximum(size, MILLS_SERIES_FROM))
    series = np.ones_like(size)
    for odd in range(2 * _MILLS_TERMS + 1, 1, -2):
        series = 1 - odd * inverse * series
    factor = np.where(size < MILLS_SERIES_FROM, 1 - near * mills, inverse * series)
    density = np.exp(-0.5 * size * size) / math.sqrt(2 * math.pi)
    return np.asarray(density * factor + np.maximum(-z, 0.0), dtype=np.float64)


def _check(estimate: Numbers, std_error: Numbers, alpha: float, prior: NormalPrior) -> None:
    if not np.all(np.isfinite(estimate)):
        raise ValueError(f"estimate == {estimate}, must be finite")
    if not np.all((np.asarray(std_error) > 0) & np.isfinite(std_error)):
        raise ValueError(f"std_error == {std_error}, must be positive and finite")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha == {alpha}, must be > 0 and < 1")
    if not (prior.std_dev > 0 and math.isfinite(prior.mean)):
        raise ValueError(f"prior == {prior}, must have a finite mean and std_dev > 0")
