"""Confidence sequences: intervals and p-values that may be watched all the time.

One core: the mixture of likelihood ratios over effects that are normal around 0, with ``k`` the
mixture's variance over that of the estimate. How k is chosen is the tuning: by the units at which
the sequence shall be tightest (N*), by the size of effects (mSPRT), or as a prior precision in the
exact version for normal values. Numbers, or arrays of one shape.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from stream_processors.stats.roots import root_between
from stream_processors.stats.sums import Moments
from stream_processors.stats.tails import plain


class SequentialTest(NamedTuple):
    """A confidence sequence at one look.

    Attributes:
        low: Lower end. With chance 1 - alpha the true effect lies inside at *all* looks.
        high: Upper end.
        p_value: min(1, 1 / e) at this look alone; a running minimum of it stays valid.
        log_e_value: Evidence against no effect. It is kept as a logarithm, because the e-value
            itself leaves the floats for clear winners.
        critical_value: What |estimate| / std_error must exceed to exclude no effect.
    """

    low: Any
    high: Any
    p_value: Any
    log_e_value: Any
    critical_value: Any


class OneSidedTest(NamedTuple):
    """One side of a confidence sequence at one look.

    Attributes:
        bound: With chance 1 - alpha the true effect lies above it at *all* looks (or below it).
        p_value: Of the hypothesis that the true effect is not above the null (or not below).
        log_e_value: Evidence against that hypothesis: the mixture over effects on the side of the
            alternative. At least -log(p_value).
        critical_value: Standard errors from the estimate to the bound.
    """

    bound: Any
    p_value: Any
    log_e_value: Any
    critical_value: Any


def mixture_variance(alpha: Any, n_star: Any) -> Any:
    """Return ρ², for which the sequence is about tightest at ``n_star`` units of a pair.

    References:
        Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, arXiv 2103.06476v7, eq. 161: the
        approximation that GrowthBook uses too.
    """
    log_alpha = np.log(alpha)
    return plain((-2 * log_alpha + np.log1p(-2 * log_alpha)) / n_star)


def exact_mixture_variance(alpha: float, n_star: int) -> float:
    """Return the ρ² that is tightest; about 3.5 % above the approximation that is used."""
    return (-float(special.lambertw(-(alpha**2) / math.e, k=-1).real) - 1) / n_star


def mixture_of_effects(tau: Any, std_error: Any) -> Any:
    """Return k for a mixture of effects with standard deviation ``tau``: the mSPRT's tuning.

    References:
        Johari, Koomen, Pekelis, Walsh (2022), "Always Valid Inference", Operations Research 70(3).
        Their nτ²/V, with V/n the variance of the estimate.
    """
    return plain((np.asarray(tau) / std_error) ** 2)


def log_e_value(statistic: Any, k: Any, degrees_of_freedom: Any = math.inf) -> Any:
    """Return the logarithm of the mixture of likelihood ratios against no effect.

    Args:
        statistic: Estimate / standard error.
        k: Variance of the mixture over that of the estimate, > 0.
        degrees_of_freedom: Of a t statistic of normal values, for which the result is exact;
            infinite for what is asymptotically normal.

    References:
        Lindon, Ham, Tingley, Bojinov, "Anytime-Valid Inference in Linear Models and
        Regression-Adjusted Causal Inference": with r = 1 / (1 + k). Infinite degrees of freedom
        leave the normal mixture.
    """
    k, squared = np.asarray(k, dtype=np.float64), np.asarray(statistic, dtype=np.float64) ** 2
    share = k / (1 + k)
    freedom = np.asarray(degrees_of_freedom, dtype=np.float64)
    is_normal = np.isinf(freedom)
    finite = np.where(is_normal, 1.0, freedom)
    # log((1 + t²/m) / (1 + r t²/m)) as one log1p: the quotient alone loses small evidence.
    ratio = share * squared / (finite + squared * (1 - share))
    gain = np.where(is_normal, share * squared, (finite + 1) * np.log1p(ratio))
    return plain(gain / 2 - np.log1p(k) / 2)


def mixture_critical_value(k: Any, *, alpha: Any, degrees_of_freedom: Any = math.inf) -> Any:
    """Return the statistic at which the e-value reaches 1 / alpha; infinite if it never does."""
    k = np.asarray(k, dtype=np.float64)
    freedom = np.asarray(degrees_of_freedom, dtype=np.float64)
    needed = np.log1p(k) - 2 * np.log(alpha)
    is_normal = np.isinf(freedom)
    finite = np.where(is_normal, 1.0, freedom)
    growth = np.expm1(np.where(is_normal, 0.0, needed / (finite + 1)))
    # t² (share - growth (1 - share)) = m growth, from the quotient in ``log_e_value``.
    share = k / (1 + k)
    room = share - growth * (1 - share)
    reachable = room > 0
    squared = np.where(is_normal, needed / share, finite * growth / np.where(reachable, room, 1.0))
    return plain(np.where(reachable, np.sqrt(squared), np.inf))


def critical_value(unit_count: Any, *, alpha: Any, n_star: Any) -> Any:
    """Return what |estimate| / std_error must exceed with ``unit_count`` units in both arms."""
    return mixture_critical_value(unit_count * mixture_variance(alpha, n_star), alpha=alpha)


def confidence_sequence(
    estimate: Any, std_error: Any, *, unit_count: Any, alpha: Any, n_star: Any
) -> SequentialTest:
    """Return the two-sided asymptotic confidence sequence (AsympCS) of an effect at one look.

    Args:
        estimate: Any estimate that is asymptotically normal: a difference, a log ratio.
        std_error: Of the estimate, > 0; consistent, so a burn-in comes first (``edges``).
        unit_count: Units of both arms together, >= 1.
        alpha: Error probability over all looks together, in (0, 1).
        n_star: Units of the pair at which the sequence is about tightest; fixed at the start.

    Raises:
        ValueError: If the estimate is not finite or the standard error not positive.

    References:
        arXiv 2103.06476v7, eq. 9 and 155. The e-value is that of the mSPRT with a normal
        mixture (Johari, Koomen, Pekelis, Walsh 2022, Operations Research 70(3)).
    """
    k = unit_count * mixture_variance(alpha, n_star)
    return mixture_sequence(estimate, std_error, k=k, alpha=alpha)


def mixture_sequence(
    estimate: Any, std_error: Any, *, k: Any, alpha: Any, degrees_of_freedom: Any = math.inf
) -> SequentialTest:
    """Return the two-sided confidence sequence of an effect at one look, whatever the tuning.

    Args:
        estimate: See ``confidence_sequence``.
        std_error: Of the estimate, > 0.
        k: Variance of the mixture over that of the estimate: ``unit_count * mixture_variance``,
            or ``mixture_of_effects``.
        alpha: Error probability over all looks together, in (0, 1).
        degrees_of_freedom: Infinite for what is asymptotically normal; finite for the exact
            version, whose interval is unbounded while no data could exclude no effect.

    Raises:
        ValueError: If the estimate is not finite or the standard error not positive.
    """
    _require_estimate(estimate, std_error)
    log_e = log_e_value(estimate / std_error, k, degrees_of_freedom)
    critical = mixture_critical_value(k, alpha=alpha, degrees_of_freedom=degrees_of_freedom)
    return SequentialTest(
        low=plain(estimate - critical * std_error),
        high=plain(estimate + critical * std_error),
        p_value=plain(np.exp(-np.maximum(log_e, 0.0))),
        log_e_value=log_e,
        critical_value=critical,
    )


def one_sided_sequence(
    estimate: Any, std_error: Any, *, k: Any, alpha: Any, null: Any = 0.0, is_lower: bool = True
) -> OneSidedTest:
    """Return one side of the confidence sequence: a bound that holds at all looks.

    Args:
        estimate: See ``confidence_sequence``.
        std_error: Of the estimate, > 0.
        k: ``unit_count * mixture_variance(2 * alpha, n_star)``: a one-sided sequence at alpha is
            tuned like a two-sided one at 2 alpha.
        alpha: Error probability over all looks together, in (0, 1/2).
        null: The p-value is of "the true effect is at most this" (at least, for an upper bound).
        is_lower: Whether the bound lies below the estimate, or above it.

    Raises:
        ValueError: If the estimate is not finite or the standard error not positive.

    References:
        arXiv 2103.06476v7, eq. 134, a closed form for the mixture over half a normal.
    """
    _require_estimate(estimate, std_error)
    k = np.asarray(k, dtype=np.float64)
    share = k / (1 + k)
    critical = np.sqrt(2 * np.log1p(np.sqrt(1 + k) / (2 * np.asarray(alpha))) / share)
    sign = 1.0 if is_lower else -1.0
    z = sign * (np.asarray(estimate) - null) / std_error
    # Evidence e^{x²/2} with x = z √share, on the alternative's side only.
    half_squared = share * np.maximum(z, 0.0) ** 2 / 2
    log_least_e = np.log(2.0) + _log_expm1(half_squared) - np.log1p(k) / 2
    root = z * np.sqrt(share)
    log_e = np.log(2.0) + root**2 / 2 + special.log_ndtr(root) - np.log1p(k) / 2
    return OneSidedTest(
        bound=plain(np.asarray(estimate) - sign * critical * std_error),
        p_value=plain(np.exp(-np.maximum(log_least_e, 0.0))),
        log_e_value=plain(log_e),
        critical_value=plain(critical),
    )


def _log_expm1(value: Any) -> Any:
    """Return log(e^value - 1), very negative at 0, without leaving the floats on either side."""
    value = np.maximum(value, np.finfo(np.float64).tiny)
    return value + np.log(-np.expm1(-value))


def sequential_t_test(
    control: Moments, treatment: Moments, *, phi: float, alpha: float
) -> SequentialTest:
    """Return the confidence sequence that is exact at every sample size for normal values.

    Args:
        control: Both variants' values are normal with one variance; at least two units each.
        treatment: The same.
        phi: Precision of the mixture over effects, in units of one value's; fixed at the start.
            The larger, the smaller the effects that it is made for.
        alpha: Error probability over all looks together.

    References:
        Lindon, Ham, Tingley, Bojinov, as in ``log_e_value``; k = z² / φ, z² = n_c n_t / (n_c + n_t)
    """
    counts = control.unit_count, treatment.unit_count
    freedom = counts[0] + counts[1] - 2
    pooled = ((counts[0] - 1) * control.variance + (counts[1] - 1) * treatment.variance) / freedom
    information = counts[0] * counts[1] / (counts[0] + counts[1])
    return mixture_sequence(
        treatment.mean - control.mean,
        plain(np.sqrt(pooled / information)),
        k=information / phi,
        alpha=alpha,
        degrees_of_freedom=freedom,
    )


def bernoulli_sequence(
    unit_count: int, conversion_count: int, *, alpha: float, n_optimal: int
) -> tuple[float, float]:
    """Return the confidence sequence of one rate at one look: exact, no burn-in needed.

    Args:
        unit_count: Units, >= 1.
        conversion_count: Converted units.
        alpha: Error probability over all looks together, in (0, 1).
        n_optimal: Units at which it shall be about tightest.

    Raises:
        ValueError: If there are no units or more conversions than units.

    References:
        Howard, Ramdas, McAuliffe, Sekhon (2021), "Time-uniform, nonparametric, nonasymptotic
        confidence sequences", Annals of Statistics 49(2): the beta-binomial mixture, tuned as
        their package confseq does (``bernoulli_confidence_interval``).
    """
    if not 0 <= conversion_count <= unit_count or unit_count < 1:
        raise ValueError(f"{conversion_count} of {unit_count} units converted: must be 0 to all")
    failures = unit_count - conversion_count
    rate = conversion_count / unit_count
    tuning = 1 / mixture_variance(0.05, 1)

    def excess(p: float) -> float:
        # A beta prior with mean p whose weight makes n_optimal the best time, at variance p(1-p).
        spread = p * (1 - p)
        weight = max(n_optimal * spread * tuning - spread, 1e-3 * spread)
        a, b = weight / (1 - p), weight / p
        log_mixture = special.betaln(a + conversion_count, b + failures) - special.betaln(a, b)
        log_likelihood = special.xlogy(conversion_count, p) + special.xlog1py(failures, -p)
        return float(log_mixture - log_likelihood + math.log(alpha))

    inside = min(max(rate, _RATE_EDGE), 1 - _RATE_EDGE)
    return _end(excess, _RATE_EDGE, inside, 0.0), _end(excess, 1 - _RATE_EDGE, inside, 1.0)


_RATE_EDGE = 1e-12
"""Rates are told apart down to this."""


def _end(excess: Callable[[float], float], outer: float, inside: float, bound: float) -> float:
    """Return where the evidence crosses the threshold; ``bound`` if it never does."""
    if excess(outer) <= 0 or excess(inside) >= 0:
        return bound
    return root_between(excess, outer, inside)


def _require_estimate(estimate: Any, std_error: Any) -> None:
    if not np.all(np.isfinite(estimate)):
        raise ValueError(f"estimate == {estimate}, must be finite")
    if not np.all((np.asarray(std_error) > 0) & np.isfinite(std_error)):
        raise ValueError(f"std_error == {std_error}, must be positive and finite")
