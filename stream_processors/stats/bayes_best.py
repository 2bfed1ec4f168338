"""The chance of each of several variants to be the best one. See ``bayes.LABEL``."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from stream_processors.stats.bayes_beta import Beta, log_density
from stream_processors.stats.bayes_quadrature import marks_around, piecewise_rule
from stream_processors.stats.tails import Floats

_POINTS = 24
_LOG_ODDS_MAX = 700.0


def chances_best_rates(posteriors: Sequence[Beta[float]]) -> tuple[float, ...]:
    """Return for each rate the chance that it is the highest; they add up to 1.

    Args:
        posteriors: One or more, independent; parameters positive and finite.

    Raises:
        ValueError: If there is none, or a parameter is out of its range.

    References:
        P(k best) = ∫ f_k Π F_j, over the log odds (``bayes_beta``), piecewise Gauss-Legendre.
    """
    a, b = np.array(posteriors, dtype=np.float64).reshape(-1, 2).T
    if not (len(a) and np.all((a > 0) & (b > 0) & np.isfinite(a) & np.isfinite(b))):
        raise ValueError(f"posteriors == {posteriors}, must be some, positive and finite")
    marks = marks_around(
        np.log(a / b), np.sqrt(1 / a + 1 / b), low=-_LOG_ODDS_MAX, high=_LOG_ODDS_MAX
    )
    rule = piecewise_rule(marks, _POINTS)
    densities = np.exp(log_density(a[:, None], b[:, None], rule.nodes))
    below = special.betainc(a[:, None], b[:, None], special.expit(rule.nodes))
    return _chances(densities * rule.weights, below)


def chances_best_normal(means: Sequence[float], std_devs: Sequence[float]) -> tuple[float, ...]:
    """Return for each normal belief the chance that it is the highest; they add up to 1.

    Args:
        means: One or more, finite; independent beliefs.
        std_devs: Theirs, > 0 and finite.

    Raises:
        ValueError: If there is none, or a number is out of its range.

    References:
        ∫ φ(t) Π Φ((m_k + t s_k - m_j) / s_j) dt, piecewise Gauss-Legendre.
    """
    centres, spreads = np.array(means, dtype=np.float64), np.array(std_devs, dtype=np.float64)
    if not (len(centres) and np.all(np.isfinite(centres))):
        raise ValueError(f"means == {means}, must be some, all finite")
    if not (spreads.shape == centres.shape and np.all((spreads > 0) & np.isfinite(spreads))):
        raise ValueError(f"std_devs == {std_devs}, must be one per mean, positive and finite")
    rule = piecewise_rule(marks_around(centres, spreads, low=-math.inf, high=math.inf), _POINTS)
    z = (rule.nodes - centres[:, None]) / spreads[:, None]
    densities = np.exp(-0.5 * z * z) / (math.sqrt(2 * math.pi) * spreads[:, None])
    return _chances(densities * rule.weights, special.ndtr(z))


def _chances(weighted: Floats, below: Floats) -> tuple[float, ...]:
    """Return Σ weighted_k Π_{j ≠ k} below_j for every k; both of shape (arms, nodes)."""
    chances = []
    for arm in range(len(weighted)):
        others = np.delete(below, arm, axis=0).prod(axis=0)
        chances.append(float(weighted[arm] @ others))
    return tuple(chances)
