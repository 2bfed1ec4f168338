"""Confidence sequences: intervals and p-values that may be watched all the time."""

import math
from functools import lru_cache
from typing import NamedTuple

from scipy import special


class SequentialTest(NamedTuple):
    """An asymptotic confidence sequence at one look.

    Attributes:
        low: Lower end. With chance 1 - alpha the true effect lies inside at *all* looks.
        high: Upper end.
        p_value: min(1, 1 / e) at this look alone; a running minimum of it stays valid.
        log_e_value: Evidence against no effect. It is kept as a logarithm, because the e-value
            itself leaves the floats for clear winners.
        critical_value: What |estimate| / std_error must exceed to exclude no effect.
    """

    low: float
    high: float
    p_value: float
    log_e_value: float
    critical_value: float


@lru_cache(maxsize=1024)
def mixture_variance(alpha: float, n_star: int) -> float:
    """Return ρ², for which the sequence is about tightest at ``n_star`` units of a pair.

    References:
        Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, arXiv 2103.06476v7, eq. 161: the
        approximation that GrowthBook uses too.
    """
    log_alpha = math.log(alpha)
    return (-2 * log_alpha + math.log1p(-2 * log_alpha)) / n_star


def exact_mixture_variance(alpha: float, n_star: int) -> float:
    """Return the ρ² that is tightest; about 3.5 % above the approximation that is used."""
    return (-float(special.lambertw(-(alpha**2) / math.e, k=-1).real) - 1) / n_star


def critical_value(unit_count: int, *, alpha: float, n_star: int) -> float:
    """Return what |estimate| / std_error must exceed with ``unit_count`` units in both arms."""
    k = unit_count * mixture_variance(alpha, n_star)
    return math.sqrt((1 + k) / k * (math.log1p(k) - 2 * math.log(alpha)))


def confidence_sequence(
    estimate: float, std_error: float, *, unit_count: int, alpha: float, n_star: int
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
    if not math.isfinite(estimate):
        raise ValueError(f"estimate == {estimate}, must be finite")
    if not 0 < std_error < math.inf:
        raise ValueError(f"std_error == {std_error}, must be positive and finite")
    k = unit_count * mixture_variance(alpha, n_star)
    z = estimate / std_error
    log_e_value = k / (1 + k) * z * z / 2 - math.log1p(k) / 2
    critical = critical_value(unit_count, alpha=alpha, n_star=n_star)
    return SequentialTest(
        low=estimate - critical * std_error,
        high=estimate + critical * std_error,
        p_value=math.exp(-max(log_e_value, 0.0)),
        log_e_value=log_e_value,
        critical_value=critical,
    )
