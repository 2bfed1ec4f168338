"""Means of normal values with unknown variance: normal-inverse-gamma beliefs.

For small samples, where a standard error is not yet certain itself; the effects of looks use the
normal posterior of ``bayes``. See ``bayes.LABEL``.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from stream_processors.stats.bayes_quadrature import marks_around, piecewise_rule

_POINTS = 32
_DROP = 300.0
"""Logarithm of how far the density has fallen where the rule ends."""


class NormalInverseGamma(NamedTuple):
    """Belief of mean and variance: mean | σ² ~ N(mu, σ² / kappa), σ² ~ IG(alpha, beta).

    Attributes:
        mu: Expected mean.
        kappa: Units that the belief of the mean is worth, > 0.
        alpha: Shape, > 0; half the units that the belief of the variance is worth.
        beta: Scale, > 0; half their sum of squared deviations.
    """

    mu: float
    kappa: float
    alpha: float
    beta: float

    @property
    def degrees_of_freedom(self) -> float:
        """Return those of the mean's own distribution, a Student's t at ``mu``."""
        return 2 * self.alpha

    @property
    def scale(self) -> float:
        """Return the scale of that t."""
        return math.sqrt(self.beta / (self.alpha * self.kappa))

    def credible_interval(self, alpha: float) -> tuple[float, float]:
        """Return the central interval that holds the mean with 1 - alpha."""
        reach = -float(special.stdtrit(self.degrees_of_freedom, alpha / 2)) * self.scale
        return self.mu - reach, self.mu + reach


WEAK = NormalInverseGamma(mu=0.0, kappa=0.001, alpha=1.0, beta=1.0)


def mean_posterior(
    unit_count: int,
    mean: float,
    squared_deviations: float,
    prior: NormalInverseGamma = WEAK,
) -> NormalInverseGamma:
    """Return the belief after some values.

    Args:
        unit_count: Values, >= 0.
        mean: Theirs; without values it is not used.
        squared_deviations: Σ (value - mean)², >= 0: variance times unit_count - 1.
        prior: The belief before.

    Raises:
        ValueError: If a number is out of its range.

    References:
        Murphy (2007), "Conjugate Bayesian analysis of the Gaussian distribution", section 3.3.
    """
    if unit_count < 0:
        raise ValueError(f"unit_count == {unit_count}, must be >= 0")
    if not (math.isfinite(squared_deviations) and squared_deviations >= 0):
        raise ValueError(f"squared_deviations == {squared_deviations}, must be >= 0 and finite")
    _check(prior)
    if unit_count == 0:
        return prior
    kappa = prior.kappa + unit_count
    between = prior.kappa * unit_count * (mean - prior.mu) ** 2 / kappa
    posterior = NormalInverseGamma(
        mu=(prior.kappa * prior.mu + unit_count * mean) / kappa,
        kappa=kappa,
        alpha=prior.alpha + unit_count / 2,
        beta=prior.beta + (squared_deviations + between) / 2,
    )
    _check(posterior)
    return posterior


def chance_to_beat(control: NormalInverseGamma, treatment: NormalInverseGamma) -> float:
    """Return the chance that the treatment's mean is the higher one.

    Args:
        control: Independent of the treatment's.
        treatment: All parameters in their ranges.

    Raises:
        ValueError: If a parameter is out of its range.

    References:
        With t = √d sinh(y), Student's density of d degrees turns into a constant over cosh(y)^d,
        whose tails end soon: Gauss-Legendre between marks at both centres.
    """
    _check(control)
    _check(treatment)
    treatment_leads = treatment.mu >= control.mu
    ahead, behind = (treatment, control) if treatment_leads else (control, treatment)
    missed = _chance_below(ahead, behind)
    return 1 - missed if treatment_leads else missed


def _chance_below(one: NormalInverseGamma, other: NormalInverseGamma) -> float:
    """Return P(one < other): the density of the narrower is integrated."""
    gap = one.mu - other.mu
    narrow, wide = (one, other) if one.scale <= other.scale else (other, one)
    nu = narrow.degrees_of_freedom
    width = narrow.scale * math.sqrt(nu)
    # ln cosh(y) >= y - ln 2, and >= 0.69 y²/2 up to 1.35: at the ends it has fallen by _DROP.
    end = min(_DROP / nu + math.log(2), 1.2 * math.sqrt(2 * _DROP / nu))
    centre = math.asinh(gap / width)
    centres = np.array([0.0, centre])
    spreads = np.array([1 / math.sqrt(nu), wide.scale / (width * math.cosh(centre))])
    rule = piecewise_rule(marks_around(centres, spreads, low=-end, high=end), _POINTS)
    density = rule.weights * np.exp(-nu * np.log(np.cosh(rule.nodes)))
    # Symmetric, so that P(one < other) is P(wide's t < (narrow's - gap) / scale) either way.
    below = special.stdtr(wide.degrees_of_freedom, (width * np.sinh(rule.nodes) - gap) / wide.scale)
    return float(density @ below / density.sum())


def _check(belief: NormalInverseGamma) -> None:
    if not math.isfinite(belief.mu):
        raise ValueError(f"mu == {belief.mu}, must be finite")
    for name in ("kappa", "alpha", "beta"):
        value = getattr(belief, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name} == {value}, must be > 0 and finite")
