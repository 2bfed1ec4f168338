"""Two rates with Beta posteriors: the chance that one is higher, and the expected losses.

Everything is integrated over the log odds u = log(x / (1 - x)). There a Beta(a, b) density is
log-concave and analytic around the real line, so the trapezoidal rule converges exponentially: a
few dozen nodes give nine digits, also of very small chances and losses, because the integrand is
positive and the smaller of the two tails is the one that is integrated. See ``bayes.LABEL``.

References:
    Trefethen, Weideman (2014), "The exponentially convergent trapezoidal rule", SIAM Review 56(3).
    Stucchio (2015), "Bayesian A/B testing at VWO": expected loss as the rule of decision.
"""

import math
from typing import Any, Generic, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from stream_processors.stats.bayes_quadrature import SPREADS, Rule, marks_around, piecewise_rule
from stream_processors.stats.tails import Floats, Numbers, plain

FAR_APART = 6.0
"""Standard deviations between two posteriors from which on pieces are integrated instead."""

_STEP = 0.65
"""Of the trapezoidal rule, in standard deviations of the narrower posterior."""

_SKEWNESS = 1.0
"""How much finer the rule is for a posterior of few conversions."""

_DROP = 24.0
"""Logarithm of how far a density has fallen where the rule ends."""

_POINTS = 40
_PIECES_NODES = (2 * (2 * len(SPREADS) + 1) - 1) * _POINTS
_STIRLING_FROM = 10.0
_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
_ARRAY_MAX = 1 << 20
"""Nodes of one array: bounds the memory of very many pairs."""


class Beta(NamedTuple, Generic[Numbers]):
    """A Beta distribution, or an array of them."""

    a: Numbers
    b: Numbers

    @property
    def mean(self) -> Numbers:
        """Return a / (a + b)."""
        return self.a / (self.a + self.b)


UNIFORM: Beta[float] = Beta(1.0, 1.0)


class RatePosterior(NamedTuple, Generic[Numbers]):
    """Belief of two rates; every field is a float, or an array with one entry per pair.

    Attributes:
        chance_to_beat: Probability that the treatment's rate is higher.
        loss_treatment: Expected loss of choosing the treatment, E[max(0, control - treatment)].
        loss_control: Expected loss of choosing the control, E[max(0, treatment - control)].
        mean: Of treatment - control.
        std_dev: Of treatment - control.
    """

    chance_to_beat: Numbers
    loss_treatment: Numbers
    loss_control: Numbers
    mean: Numbers
    std_dev: Numbers


def beta_posterior(
    units: Numbers, conversions: Numbers, prior: Beta[float] = UNIFORM
) -> Beta[Numbers]:
    """Return the posterior of a rate.

    Args:
        units: Units, >= 0.
        conversions: Converted units, 0 to ``units``.
        prior: Both parameters above 0.

    Raises:
        ValueError: If more units converted than there are, or a number is out of its range.
    """
    if not np.all((np.asarray(conversions) >= 0) & (np.asarray(conversions) <= units)):
        raise ValueError(f"conversions == {conversions}, must be >= 0 and <= {units}")
    posterior = Beta(
        plain(prior.a + np.asarray(conversions, dtype=np.float64)),
        plain(prior.b + (np.asarray(units, dtype=np.float64) - conversions)),
    )
    _check(posterior)
    return posterior


def credible_interval(posterior: Beta[Numbers], alpha: float) -> tuple[Numbers, Numbers]:
    """Return the central interval that holds 1 - alpha of a rate's posterior."""
    low = special.betaincinv(posterior.a, posterior.b, alpha / 2)
    high = special.betainccinv(posterior.a, posterior.b, alpha / 2)
    return plain(low), plain(high)


def compare_rates(control: Beta[Numbers], treatment: Beta[Numbers]) -> RatePosterior[Numbers]:
    """Return chance and expected losses of two independent rates, to about nine digits.

    Args:
        control: Posterior, both parameters positive and finite; floats or arrays of one shape (n,).
        treatment: The same.

    Raises:
        ValueError: If a parameter is out of its range.
    """
    _check(control)
    _check(treatment)
    arms = [np.atleast_1d(np.asarray(one, dtype=np.float64)) for one in (*control, *treatment)]
    a_c, b_c, a_t, b_t = np.broadcast_arrays(*arms)
    # The narrower posterior carries the density, the wider the distribution.
    narrow_t = 1 / a_t + 1 / b_t < 1 / a_c + 1 / b_c
    narrow, wide = _ordered(narrow_t, (a_c, b_c), (a_t, b_t))
    # By exact products of whole numbers; mirrored rates 1 - x trade places.
    narrow_leads = narrow[0] * wide[1] >= wide[0] * narrow[1]
    pairs = _Pairs(*_mirrored(narrow_leads, narrow), *_mirrored(narrow_leads, wide))
    chance, loss = _behind(pairs)
    mean = (a_t * b_c - a_c * b_t) / ((a_t + b_t) * (a_c + b_c))
    treatment_leads = narrow_t == narrow_leads
    larger_loss = np.abs(mean) + loss
    is_one = all(np.ndim(one) == 0 for one in (*control, *treatment))
    return RatePosterior(
        chance_to_beat=_shaped(np.where(treatment_leads, 1 - chance, chance), is_one=is_one),
        loss_treatment=_shaped(np.where(treatment_leads, loss, larger_loss), is_one=is_one),
        loss_control=_shaped(np.where(treatment_leads, larger_loss, loss), is_one=is_one),
        mean=_shaped(mean, is_one=is_one),
        std_dev=_shaped(np.sqrt(_variance(a_c, b_c) + _variance(a_t, b_t)), is_one=is_one),
    )


def log_density(a: Floats, b: Floats, log_odds: Floats) -> Floats:
    """Return the log density of the log odds of Beta(a, b), accurate for large a and b.

    It is taken relative to its peak at log(a / b): there Γ and powers of rates cancel in closed
    form up to Stirling's corrections, where they would leave only few digits of a billion units.
    """
    n = a + b
    peak = 0.5 * np.log(a * b / n / (2 * math.pi)) + _stirling(n) - _stirling(a) - _stirling(b)
    v = log_odds - np.log(a / b)
    # From the side of the smaller share, so that 1 + share (e^v - 1) does not cancel.
    sign = np.where(a <= b, 1.0, -1.0)
    small = np.minimum(a, b)
    return peak + small * sign * v - n * np.log1p(small / n * np.expm1(sign * v))


class _Pairs(NamedTuple):
    """Parameters of pairs, shape (n,) each: the narrower posterior leads, rates mirrored if not."""

    narrow_a: Floats
    narrow_b: Floats
    wide_a: Floats
    wide_b: Floats

    @property
    def centres(self) -> Floats:
        """Return where the densities peak: shape (n, 2)."""
        return np.stack(
            [np.log(self.narrow_a / self.narrow_b), np.log(self.wide_a / self.wide_b)], axis=-1
        )

    @property
    def variances(self) -> Floats:
        """Return what the curvature at the peak amounts to: shape (n, 2)."""
        return np.stack(
            [1 / self.narrow_a + 1 / self.narrow_b, 1 / self.wide_a + 1 / self.wide_b], axis=-1
        )

    def at(self, rows: Any) -> "_Pairs":
        return _Pairs(*(field[rows] for field in self))


def _behind(pairs: _Pairs) -> tuple[Floats, Floats]:
    """Return P(narrow < wide) and E[max(0, wide - narrow)], of leading narrow ones."""
    centres, variances = pairs.centres, pairs.variances
    apart = (centres[:, 0] - centres[:, 1]) / np.sqrt(variances.sum(axis=1))
    low, high, counts = _ranges(pairs, centres, variances)
    # Powers of two: few shapes of arrays, and no more than twice the nodes that are needed.
    sizes = np.where(apart > FAR_APART, 0, 2.0 ** np.ceil(np.log2(counts * 8)) / 8)
    chance, loss = np.empty(len(apart)), np.empty(len(apart))
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        nodes_max = _PIECES_NODES if size == 0 else math.ceil(counts[members].max())
        for rows in np.array_split(members, -(-len(members) * nodes_max // _ARRAY_MAX)):
            if size == 0:
                marks = marks_around(centres[rows], np.sqrt(variances[rows]), low=-700, high=700)
                rule = piecewise_rule(marks, _POINTS)
            else:
                rule = _trapezoid(low[rows], high[rows], nodes_max)
            chance[rows], loss[rows] = _integrals(pairs.at(rows), rule)
    return chance, loss


def _ranges(pairs: _Pairs, centres: Floats, variances: Floats) -> tuple[Floats, Floats, Floats]:
    """Return ends and nodes of the trapezoidal rules.

    The integrand peaks between the narrow density's peak and that of the product of densities, at
    the odds of both together; it falls beyond both at least like the narrow density: a Gaussian,
    with the slower of exponentials a·u and b·u. The step follows the narrow density's sharpest
    bend in between: its curvature is n x (1 - x).
    """
    product = np.log((pairs.narrow_a + pairs.wide_a) / (pairs.narrow_b + pairs.wide_b))
    peak = centres[:, 0]
    # x (1 - x) is greatest at log odds 0, or where the stretch comes nearest to it.
    middle = special.expit(np.clip(0.0, np.minimum(product, peak), np.maximum(product, peak)))
    bend = 1 / np.sqrt((pairs.narrow_a + pairs.narrow_b) * middle * (1 - middle))
    spread = np.sqrt(variances[:, 0])
    # A skewed density, of few conversions, needs a finer rule: its transform falls as that of
    # Gumbel's, exp(-π ω / 2), not as a Gaussian's.
    small = np.minimum(np.minimum(spread, bend), 1.0)
    steps = _STEP * small / (1 + _SKEWNESS * small)
    reach = math.sqrt(2 * _DROP) * spread
    low = np.minimum(product, peak) - reach - 0.75 * _DROP / pairs.narrow_a
    high = np.maximum(product, peak) + reach + 0.75 * _DROP / pairs.narrow_b
    return low, high, np.ceil((high - low) / steps) + 1


def _trapezoid(low: Floats, high: Floats, nodes: int) -> Rule:
    steps = (high - low) / (nodes - 1)
    return Rule(low[:, None] + steps[:, None] * np.arange(nodes), steps[:, None])


def _integrals(pairs: _Pairs, rule: Rule) -> tuple[Floats, Floats]:
    narrow_a, narrow_b, wide_a, wide_b = (field[:, None] for field in pairs)
    wide_n = wide_a + wide_b
    share, rest = special.expit(rule.nodes), special.expit(-rule.nodes)
    weights = rule.weights * np.exp(log_density(narrow_a, narrow_b, rule.nodes))
    above = special.betainc(wide_b, wide_a, rest)
    # E[max(0, W - x)] = (E W - x) P(W > x) + x (1 - x) f(x) / (a + b), by parts.
    gap = np.where(share < 0.5, wide_a / wide_n - share, rest - wide_b / wide_n)
    excess = gap * above + np.exp(log_density(wide_a, wide_b, rule.nodes)) / wide_n
    return (weights * above).sum(axis=1), (weights * np.maximum(excess, 0.0)).sum(axis=1)


def _ordered(
    narrow_t: NDArray[np.bool_], control: tuple[Floats, Floats], treatment: tuple[Floats, Floats]
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Return the narrower and the wider arm of every pair."""
    narrow = tuple(np.where(narrow_t, t, c) for c, t in zip(control, treatment, strict=True))
    wide = tuple(np.where(narrow_t, c, t) for c, t in zip(control, treatment, strict=True))
    return (narrow[0], narrow[1]), (wide[0], wide[1])


def _mirrored(keeps: NDArray[np.bool_], arm: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    a, b = arm
    return np.where(keeps, a, b), np.where(keeps, b, a)


def _shaped(values: Floats, *, is_one: bool) -> Any:
    return float(values[0]) if is_one else values


def _variance(a: Floats, b: Floats) -> Floats:
    n = a + b
    return a / n * (b / n) / (n + 1)


def _stirling(z: Floats) -> Floats:
    """Return ln Γ(z) - ((z - ½) ln z - z + ½ ln 2π); NIST DLMF 5.11.1."""
    large = np.maximum(z, _STIRLING_FROM)
    square = 1 / (large * large)
    series = 1 / 1260 - square * (1 / 1680 - square / 1188)
    series = (1 / 12 - square * (1 / 360 - square * series)) / large
    small = np.minimum(z, _STIRLING_FROM)
    exact = special.gammaln(small) - ((small - 0.5) * np.log(small) - small + _HALF_LOG_TWO_PI)
    return np.where(z < _STIRLING_FROM, exact, series)


def _check(posterior: Beta[Numbers]) -> None:
    for name, value in zip(Beta._fields, posterior, strict=True):
        if not np.all((np.asarray(value) > 0) & np.isfinite(value)):
            raise ValueError(f"{name} == {value}, must be positive and finite")
