"""Exact credible intervals and chances of two rates' difference and ratio, by integration.

With independent Beta posteriors of the control's rate C and the treatment's T, P(T - C <= d) and
P(T / C - 1 <= r) are integrals of one density times the other's distribution. They are taken over
the log odds of the one whose spread is smaller, by Gauss-Legendre rules on both sides of where the
other rate reaches 0 or 1: in between everything is smooth. Ends are found by Newton's steps, for
all pairs at once. Nothing leaves what is possible: a difference stays within -1 and 1.
See ``bayes.LABEL``.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from stream_processors.stats.bayes_beta import Beta, log_density
from stream_processors.stats.tails import Floats

_POINTS = (72, 18)
"""Nodes on each side of the edge, for few and for many conversions: to 1e-6 of alpha."""

_MANY_FROM = 12.0
"""Parameters from which on a density has vanished so smoothly at 0 and 1 that no edge shows."""

_WEIGHT_MIN = 1e-13

_DROP = 24.0
_STEPS_MAX = 80
_TOLERANCE = 1e-10
_ODDS_MAX = 700.0
_CHANCE_ALPHA = 1e-3
"""What the ends of an integral for a chance are chosen by: 1e-9 of the chance is beyond them."""

_REACH = 700.0
"""Where the search ends; differences stay within -1 and 1, and log ratios end far before."""
_PAIRS_MAX = 1 << 12
"""Pairs in one array: bounds the memory of very many."""

_Below = Callable[[NDArray[np.intp], Floats], tuple[Floats, Floats]]


class _Law(NamedTuple):
    """Pairs of posteriors, and the log odds that their integrals go over; shape (n,) each."""

    leads: Beta[Floats]
    other: Beta[Floats]
    low: Floats
    peak: Floats
    high: Floats
    alphas: Floats

    def at(self, rows: NDArray[np.intp]) -> "_Law":
        """Return some of them."""
        leads, other = (Beta(one.a[rows], one.b[rows]) for one in (self.leads, self.other))
        return _Law(leads, other, *(field[rows] for field in self[2:]))


def difference_intervals(
    control: Beta[Floats], treatment: Beta[Floats], alphas: Floats
) -> tuple[Floats, Floats]:
    """Return the central intervals of treatment - control that hold 1 - alpha, shape (n,) each.

    Args:
        control: Posteriors, parameters positive and finite, of shape (n,).
        treatment: The same.
        alphas: In (0, 1), of shape (n,).
    """
    return _intervals(control, treatment, alphas, is_relative=False)


def relative_intervals(
    control: Beta[Floats], treatment: Beta[Floats], alphas: Floats
) -> tuple[Floats, Floats]:
    """Return the same of treatment / control - 1."""
    return _intervals(control, treatment, alphas, is_relative=True)


def chances_at_most(
    control: Beta[Floats], treatment: Beta[Floats], bounds: Floats, *, is_relative: bool
) -> Floats:
    """Return the chance that treatment - control is a bound at most, of shape (n,).

    Args:
        control: Posteriors, parameters positive and finite, of shape (n,).
        treatment: The same.
        bounds: Differences; where relative, of treatment / control - 1, and above -1. Shape (n,).
        is_relative: Which of the two.
    """
    found = np.empty(len(bounds))
    is_many = np.min([*control, *treatment], axis=0) >= _MANY_FROM
    for rows in _batches(is_many):
        first, second = (Beta(one.a[rows], one.b[rows]) for one in (control, treatment))
        at = np.log1p(bounds[rows]) if is_relative else bounds[rows]
        spreads = [_moments(one, is_relative=is_relative)[1] for one in (first, second)]
        t_leads = spreads[1] < spreads[0]
        law = _law_of(first, second, t_leads, np.full(len(rows), _CHANCE_ALPHA))
        found[rows] = _integral(law, np.where(t_leads, -at, at), ~t_leads, is_relative)[0]
    return np.clip(found, 0.0, 1.0)


def _intervals(
    control: Beta[Floats], treatment: Beta[Floats], alphas: Floats, *, is_relative: bool
) -> tuple[Floats, Floats]:
    low, high = np.empty(len(alphas)), np.empty(len(alphas))
    is_many = np.min([*control, *treatment], axis=0) >= _MANY_FROM
    for rows in _batches(is_many):
        first, second = (Beta(one.a[rows], one.b[rows]) for one in (control, treatment))
        if is_relative:
            # On the log scale, where a ratio is about symmetric: the ends of ln T - ln C.
            low[rows], high[rows] = np.expm1(_ends(first, second, alphas[rows], is_relative=True))
        else:
            low[rows], high[rows] = _ends(first, second, alphas[rows], is_relative=False)
    return low, high


def _batches(is_many: NDArray[np.bool_]) -> Iterator[NDArray[np.intp]]:
    """Yield rows that share a rule, few enough for an array."""
    for rows in (np.flatnonzero(is_many), np.flatnonzero(~is_many)):
        if len(rows):
            yield from np.array_split(rows, -(-len(rows) // _PAIRS_MAX))


def _ends(
    control: Beta[Floats], treatment: Beta[Floats], alphas: Floats, *, is_relative: bool
) -> tuple[Floats, Floats]:
    (mean_c, spread_c), (mean_t, spread_t) = (
        _moments(one, is_relative=is_relative) for one in (control, treatment)
    )
    mean, spread = mean_t - mean_c, np.hypot(spread_c, spread_t)
    t_leads = spread_t < spread_c
    law = _law_of(control, treatment, t_leads, alphas)

    def below(rows: NDArray[np.intp], at: Floats, *, upper: bool) -> tuple[Floats, Floats]:
        """Return P(difference <= at), or with ``upper`` P(difference > at), and the density."""
        # Led by C, P(T <= g(C)) is the lower side; led by T, P(C <= g(T)) is the upper one.
        led = t_leads[rows]
        return _integral(law.at(rows), np.where(led, -at, at), led == upper, is_relative)

    low = _solved(lambda rows, at: below(rows, at, upper=False), alphas / 2, mean, spread)
    high = -_solved(lambda rows, at: below(rows, -at, upper=True), alphas / 2, -mean, spread)
    return low, high


def _law_of(
    control: Beta[Floats], treatment: Beta[Floats], t_leads: NDArray[np.bool_], alphas: Floats
) -> _Law:
    leads = Beta(*(np.where(t_leads, t, c) for c, t in zip(control, treatment, strict=True)))
    other = Beta(*(np.where(t_leads, c, t) for c, t in zip(control, treatment, strict=True)))
    return _Law(leads, other, *_span(leads, alphas), alphas)


def _moments(rate: Beta[Floats], *, is_relative: bool) -> tuple[Floats, Floats]:
    """Return where a rate, or its logarithm, is about, and its spread."""
    n = rate.a + rate.b
    if is_relative:
        mean = special.digamma(rate.a) - special.digamma(n)
        return mean, np.sqrt(special.polygamma(1, rate.a) - special.polygamma(1, n))
    return rate.a / n, np.sqrt(rate.a / n * (rate.b / n) / (n + 1))


def _span(leads: Beta[Floats], alphas: Floats) -> tuple[Floats, Floats, Floats]:
    """Return ends of the log odds beyond which nothing counts, and the peak in between.

    Beyond them the density has fallen by the drop and by alpha: it is a Gaussian near its peak and
    the exponentials a·u and b·u far from it.
    """
    a, b = leads
    drop = _DROP + np.log(2 / alphas)
    peak = np.log(a / b)
    reach = np.sqrt(2 * drop * (1 / a + 1 / b))
    low = np.maximum(peak - reach - 0.75 * drop / a, -_ODDS_MAX)
    return low, peak, np.minimum(peak + reach + 0.75 * drop / b, _ODDS_MAX)


def _integral(
    law: _Law,
    at: Floats,
    is_below: NDArray[np.bool_],
    is_relative: bool,  # noqa: FBT001  # One of two scales, as everywhere here.
) -> tuple[Floats, Floats]:
    """Return P(other <= g(leads)) or its complement, and the size of the derivative by ``at``.

    g(x) is x + at, or x e^at.
    """
    u, weight = _rule(law, at, is_relative=is_relative)
    share = special.expit(u)
    moved = share * np.exp(at)[:, None] if is_relative else share + at[:, None]
    below = np.broadcast_to(is_below[:, None], u.shape)
    part = np.where((moved >= 1) == below, 1.0, 0.0)
    slope = np.zeros_like(u)
    # Where nothing weighs, nothing is worked out: that is half of the nodes.
    inside = (moved > 0) & (moved < 1) & (weight > _WEIGHT_MIN * law.alphas[:, None])
    a, b = (np.broadcast_to(one[:, None], u.shape)[inside] for one in law.other)
    x = np.clip(moved[inside], np.finfo(float).tiny, 1 - 2.0**-53)
    is_lower = below[inside]
    # The complement is the other rate's own distribution from the other end.
    part[inside] = special.betainc(
        np.where(is_lower, a, b), np.where(is_lower, b, a), np.where(is_lower, x, 1 - x)
    )
    density = np.exp(log_density(a, b, np.log(x) - np.log1p(-x)))
    # The density of log odds is x (1 - x) f(x); by the logarithm a distribution's slope is x f(x).
    slope[inside] = density / (1 - x) if is_relative else density / (x * (1 - x))
    return (weight * part).sum(axis=1), (weight * slope).sum(axis=1)


def _rule(law: _Law, at: Floats, *, is_relative: bool) -> tuple[Floats, Floats]:
    """Return nodes, and weights with the leading density in them: shape (n, nodes)."""
    fewest = np.min([*law.leads, *law.other], axis=0)
    is_many = bool(np.all(fewest >= _MANY_FROM))
    edge = _edge(at, is_relative=is_relative)
    middle = np.where((edge > law.low) & (edge < law.high) & (not is_many), edge, law.peak)
    nodes, weights = _legendre(_POINTS[is_many])
    ends = np.stack([law.low, middle, law.high], axis=1)
    half = np.diff(ends, axis=1)[:, :, None] / 2
    u = ((ends[:, :-1] + ends[:, 1:])[:, :, None] / 2 + half * nodes).reshape(len(at), -1)
    weight = (half * weights).reshape(len(at), -1)
    with np.errstate(over="ignore"):  # So far out the density is 0, as it should be.
        density = np.exp(log_density(law.leads.a[:, None], law.leads.b[:, None], u))
    return u, weight * density


def _edge(at: Floats, *, is_relative: bool) -> Floats:
    """Return the log odds of the leading rate with which the other reaches 0 or 1."""
    share = np.exp(np.minimum(-at, 0.0)) if is_relative else np.where(at < 0, -at, 1 - at)
    inside = (share > 0) & (share < 1)
    share = np.where(inside, share, 0.5)
    return np.where(inside, special.logit(share), math.inf)


def _solved(below: _Below, share: Floats, mean: Floats, spread: Floats) -> Floats:
    """Return where ``below`` is ``share``, from a normal's quantile, between ends that close in."""
    low, high = np.full(len(mean), -_REACH), np.full(len(mean), _REACH)
    found = np.clip(mean + special.ndtri(share) * spread, -_REACH, _REACH)
    rows = np.arange(len(mean))
    for _ in range(_STEPS_MAX):
        at = found[rows]
        value, density = below(rows, at)
        is_short = value < share[rows]
        low[rows], high[rows] = (
            np.where(is_short, at, low[rows]),
            np.where(is_short, high[rows], at),
        )
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            # On the logarithm a tail is nearly straight, so that a step does not overshoot.
            step = at - np.log(value / share[rows]) * value / density
        is_inside = (step > low[rows]) & (step < high[rows])
        found[rows] = np.where(is_inside, step, _between(low[rows], high[rows], at, spread[rows]))
        rows = rows[np.abs(found[rows] - at) > _TOLERANCE * spread[rows]]
        if not len(rows):
            break
    return found


def _between(low: Floats, high: Floats, at: Floats, spread: Floats) -> Floats:
    """Return the middle of a bracket, but not many spreads away from where one is."""
    return np.clip((low + high) / 2, at - 4 * spread, at + 4 * spread)


@lru_cache(maxsize=2)
def _legendre(points: int) -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return nodes, weights
