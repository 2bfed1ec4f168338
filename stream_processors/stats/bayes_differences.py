"""What is believed of a difference of two means whose variances had to be estimated too.

With the usual reference prior of each variance, 1/σ², what the data say of a mean is Student's t
around the estimate, and of a difference the law of Behrens and Fisher. Taking the standard errors
as known instead (``bayes``) claims too much of few units: with three normal values in each variant
a 95 % interval covers in 88 % of cases. With many units the two are the same.

A t is a normal whose precision is multiplied by W ~ χ²_d / d. Given both W the difference is
normal, so the posterior with a normal prior, its chance and its losses are in closed form, and a
rule over both W integrates them: a mixture of normals, of positive terms only. Without a prior, or
one that the data hardly contradict, the nodes lie around W = 1; else they lie where it and the data
leave the weight (``bayes_prior_rules``), however far apart the two are. See ``bayes.LABEL``.

References:
    Box, Tiao (1973), "Bayesian Inference in Statistical Analysis", sections 2.4-2.5; Andrews,
    Mallows (1974), "Scale mixtures of normal distributions", JRSS B 36; Golub, Welsch (1969),
    "Calculation of Gauss quadrature rules", Mathematics of Computation 23.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from stream_processors.stats.bayes import EffectPosterior, standard_loss
from stream_processors.stats.bayes_prior_rules import (
    PriorTilt,
    fallen,
    is_mild,
    log_density,
    prior_boxes,
    spots,
)
from stream_processors.stats.tails import Floats

FREEDOM_MIN = 2.0
"""Below this a t has no mean, and an expected loss no value."""

_DROPS = (34.0, 26.0, 26.0)
"""Logarithm of how far the density of ln W has fallen where a trapezoidal rule ends: no prior."""

_NODES = (80, 48, 24, 12, 8, 1)
"""Of the rule for freedoms below each of ``_TIERS``, then of infinite ones."""

_TIERS = (6.0, 20.0, 60.0, 300.0)
"""Freedoms from which on fewer nodes do; where ``_DROPS`` end, they are Gauss's."""

_ARRAY_MAX = 1 << 20
"""Nodes of one array: bounds the memory of very many differences."""

_STEPS_MAX = 100
_TOLERANCE = 1e-9
"""Of an end of an interval, in standard deviations; a last Newton step squares it."""


_Rule = tuple[Floats, Floats]
"""Nodes W and the logarithms of their weights, up to a constant of the row; shape (n, nodes)."""


class Differences(NamedTuple):
    """Estimates of differences, treatment - control; arrays of shape (n,) but for two.

    Attributes:
        estimates: Finite.
        std_errors: Of each variant's mean: shape (2, n), >= 0 and not both 0.
        freedoms: With which each was estimated, >= 2; inf: known. Shape (2, n). One estimate with
            Satterthwaite's degrees of freedom is a pair whose first standard error is 0.
        prior_means: Of normal priors of the difference, finite.
        prior_std_devs: Theirs, > 0; inf: flat.
        alphas: The credible interval holds 1 - alpha.
        is_lower_better: Where a negative difference is a gain.
    """

    estimates: Floats
    std_errors: Floats
    freedoms: Floats
    prior_means: Floats
    prior_std_devs: Floats
    alphas: Floats
    is_lower_better: NDArray[np.bool_]

    def at(self, rows: NDArray[np.intp]) -> "Differences":
        """Return some of them."""
        return Differences._make(field[..., rows] for field in self)


def difference_posteriors(given: Differences) -> EffectPosterior[Floats]:
    """Return the posterior of every difference; the deviation is inf where it has none.

    It has none with a flat prior and 2 degrees of freedom in a variant.

    Raises:
        ValueError: If a number is out of its range.
    """
    _check(given)
    found = np.empty((len(EffectPosterior._fields), len(given.estimates)))
    for rows, log_rules in _rules(given):
        some = given.at(rows)
        found[:, rows] = _posteriors(some, _mixture(some, log_rules))
    return EffectPosterior(*found)


class _Mixture(NamedTuple):
    """Normals and their shares, shape (n, nodes): a posterior each row."""

    shares: Floats
    means: Floats
    std_devs: Floats

    def below(self, at: Floats) -> tuple[Floats, Floats]:
        """Return the probability below a value of every row, and the density there."""
        z = (at[:, None] - self.means) / self.std_devs
        density = np.exp(-0.5 * z * z) / (math.sqrt(2 * math.pi) * self.std_devs)
        return (
            _averaged(self.shares, special.ndtr(z)),
            _averaged(self.shares, density),
        )

    def mirrored(self) -> "_Mixture":
        return self._replace(means=-self.means)


def _posteriors(given: Differences, mixture: _Mixture) -> Floats:
    shares, means, std_devs = mixture
    mean = _averaged(shares, means)
    around = _averaged(shares, np.square(std_devs) + np.square(means - mean[:, None]))
    is_flat = np.isinf(given.prior_std_devs)
    mean = np.where(is_flat, given.estimates, mean)
    std_dev = np.sqrt(np.where(is_flat, _flat_variance(given), around))
    z = np.where(given.is_lower_better, -1.0, 1.0)[:, None] * means / std_devs
    losses = [_averaged(shares, std_devs * standard_loss(side)) for side in (z, -z)]
    # Where the deviation is infinite, that of the normal with the same scale is a first guess.
    scale = np.where(np.isfinite(std_dev), std_dev, np.hypot(*given.std_errors))
    low = _quantile(mixture, given.alphas / 2, mean, scale)
    high = -_quantile(mixture.mirrored(), given.alphas / 2, -mean, scale)
    chance = _averaged(shares, special.ndtr(z))
    return np.stack([mean, std_dev, chance, *losses, low, high])


def _mixture(given: Differences, rules: list[_Rule]) -> _Mixture:
    """Return the posterior as normals given both W, and how likely each of them is."""
    (w_control, logs_control), (w_treatment, logs_treatment) = rules
    ratios = [
        np.square(se)[:, None] / w
        for se, w in zip(given.std_errors, (w_control, w_treatment), strict=True)
    ]
    count = len(given.estimates)
    variances = (ratios[0][:, :, None] + ratios[1][:, None, :]).reshape(count, -1)
    logs = (logs_control[:, :, None] + logs_treatment[:, None, :]).reshape(count, -1)
    # The prior's weight relative to the data's: 0 for a flat one, and then the shares stay.
    ratio = variances / np.square(given.prior_std_devs)[:, None]
    logs = logs + _tilt(given).log_weight(ratio)
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    means = (given.estimates[:, None] + ratio * given.prior_means[:, None]) / (1 + ratio)
    return _Mixture(shares, means, np.sqrt(variances / (1 + ratio)))


def _averaged(shares: Floats, values: Floats) -> Floats:
    """Return Σ share value of every row, in an order that the other rows have no say in."""
    return np.asarray((shares * values).sum(axis=1))


def _flat_variance(given: Differences) -> Floats:
    """Return Σ se² d / (d - 2), infinite with d = 2."""
    finite = np.where(np.isinf(given.freedoms), 3.0, given.freedoms)
    with np.errstate(divide="ignore"):
        widened = np.where(np.isinf(given.freedoms), 1.0, finite / (finite - 2))
    squares = np.square(given.std_errors)
    return np.asarray(np.where(squares > 0, squares * widened, 0.0).sum(axis=0))


def _quantile(mixture: _Mixture, share: Floats, mean: Floats, scale: Floats) -> Floats:
    """Return what has ``share`` below it: Newton's steps, held between ends that close in."""
    low, high = mean - scale, mean + scale
    for _ in range(_STEPS_MAX):
        is_above = mixture.below(low)[0] > share
        if not is_above.any():
            break
        low = np.where(is_above, mean - 2 * (mean - low), low)
    found, is_done = low, np.zeros(len(low), dtype=bool)
    for _ in range(_STEPS_MAX):
        below, density = mixture.below(found)
        low, high = np.where(below < share, found, low), np.where(below < share, high, found)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            # On the logarithm a tail is nearly straight, so that a step does not overshoot.
            step = found - np.log(below / share) * below / density
        after = np.where((step > low) & (step < high), step, (low + high) / 2)
        moved = np.abs(after - found)
        # A row that has arrived stays: what it says depends on no other row of the array.
        found = np.where(is_done, found, after)
        is_done |= moved <= _TOLERANCE * scale
        if is_done.all():
            break
    return found


def _tilt(given: Differences) -> PriorTilt:
    """Return what a prior does to the rules; nothing if it is flat."""
    return PriorTilt(
        given.freedoms / 2,
        np.square(given.std_errors / given.prior_std_devs),
        (given.estimates - given.prior_means) / given.prior_std_devs,
    )


def _rules(given: Differences) -> Iterator[tuple[NDArray[np.intp], list[_Rule]]]:
    """Yield rows that share their rules' numbers of nodes, and the rules of both variants."""
    is_around = np.isinf(given.prior_std_devs) | is_mild(_tilt(given))
    around, told = np.flatnonzero(is_around), np.flatnonzero(~is_around)
    tiers = np.searchsorted(_TIERS, given.freedoms, side="right") + np.isinf(given.freedoms)
    for rows in _batches(around, np.array(_NODES)[tiers[:, around]]):
        yield rows, [_rule(freedoms) for freedoms in given.freedoms[:, rows]]
    if not len(told):
        return
    lows, highs, counts = prior_boxes(_tilt(given.at(told)))
    for some in _batches(np.arange(len(told)), counts):
        rows = told[some]
        yield (
            rows,
            [
                _box_rule(
                    given.freedoms[arm, rows],
                    lows[arm, some],
                    highs[arm, some],
                    counts[arm, some[0]],
                )
                for arm in (0, 1)
            ],
        )


def _batches(rows: NDArray[np.intp], counts: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Yield rows whose two counts of nodes, shape (2, n), are the same; few enough for an array."""
    for pair in np.unique(counts, axis=1).T:
        alike = rows[(counts == pair[:, None]).all(axis=0)]
        yield from np.array_split(alike, math.ceil(len(alike) * int(pair.prod()) / _ARRAY_MAX))


def _rule(freedoms: Floats) -> _Rule:
    """Return nodes and log weights of W ~ χ²_d / d, shape (n, nodes); freedoms of one tier."""
    tier = int(np.searchsorted(_TIERS, freedoms[0], side="right"))
    if np.isinf(freedoms[0]):
        return np.ones((len(freedoms), 1)), np.zeros((len(freedoms), 1))
    if tier >= len(_DROPS):
        return _gauss_rule(freedoms / 2, _NODES[tier])
    reach = _DROPS[tier] / (freedoms / 2)
    low = fallen(-reach - 1 - np.sqrt(2 * reach), reach)
    return _box_rule(freedoms, low, fallen(np.sqrt(2 * reach), reach), _NODES[tier])


def _box_rule(freedoms: Floats, lows: Floats, highs: Floats, count: int) -> _Rule:
    """Return the trapezoidal rule over u = ln W, where the density is e^(d/2 (u - e^u))."""
    u = spots(lows, highs, count)
    return np.exp(u), log_density(freedoms / 2, u)


def _gauss_rule(shapes: Floats, count: int) -> _Rule:
    """Return Gauss's rule for the weight x^(shape - 1) e^-x, with x = shape W (Golub, Welsch)."""
    index = np.arange(count)
    matrix = np.zeros((len(shapes), count, count))
    matrix[:, index, index] = 2 * index + shapes[:, None]
    beside = np.sqrt(index[1:] * (index[1:] + shapes[:, None] - 1))
    matrix[:, index[1:], index[:-1]] = beside
    nodes, vectors = np.linalg.eigh(matrix)
    with np.errstate(divide="ignore"):
        return nodes / shapes[:, None], 2 * np.log(np.abs(vectors[:, 0, :]))


def _check(given: Differences) -> None:
    errors = given.std_errors
    if not (np.all(np.isfinite(given.estimates)) and np.all(np.isfinite(given.prior_means))):
        raise ValueError("estimates and prior_means must be finite")
    if not np.all(np.isfinite(errors) & (errors >= 0)) or np.any(errors.sum(axis=0) == 0):
        raise ValueError(f"std_errors == {errors}, must be >= 0, finite, and one of a pair above 0")
    if not np.all(given.freedoms >= FREEDOM_MIN):
        raise ValueError(f"freedoms == {given.freedoms}, must be {FREEDOM_MIN} or more")
    if not np.all(given.prior_std_devs > 0):
        raise ValueError(f"prior_std_devs == {given.prior_std_devs}, must be above 0")
    if not np.all((given.alphas > 0) & (given.alphas < 1)):
        raise ValueError(f"alphas == {given.alphas}, must be > 0 and < 1")
