"""How broken must a split be to be seen? Power and size of the sample ratio test."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

from scipy import special

from stream_processors.stats.planning_inputs import Formula
from stream_processors.stats.roots import root_between
from stream_processors.stats.sample_ratio import CONCENTRATIONS, MISMATCH_ALPHA

Check = Literal["sequential", "chi_square"]

UNITS_MAX = 1e15
"""Above this, no experiment will ever get there."""

FORMULAS: dict[Check, Formula] = {
    "sequential": Formula(
        "sample_ratio_sequential",
        "P(X'(v, N d) > x_N) = power, d = sum (p - p0)^2 / p0, v = variants - 1,"
        " x_N: mean over c of (1 + N/c)^(-v/2) exp(x N / (2 (N + c))) = 1/alpha; at one look,"
        " watching only adds",
        "Lindon, Malek (2022), NeurIPS, by the normal approximation of the counts",
    ),
    "chi_square": Formula(
        "sample_ratio_chi_square",
        "P(X'(v, N d) > x) = power, d = sum (p - p0)^2 / p0, v = variants - 1,"
        " x the chi-square quantile of 1 - alpha; at the one planned look",
        "Cohen (1988), Statistical Power Analysis, ch. 7",
    ),
}
"""By what each check's power is computed; X' is the noncentral chi-square."""


def noncentrality_per_unit(planned: Sequence[float], actual: Sequence[float]) -> float:
    """Return Σ (p - p₀)² / p₀ of the actual shares against the planned ones.

    Args:
        planned: Weights in any scale, > 0.
        actual: The same variants' shares in truth, in any scale, >= 0.

    Raises:
        ValueError: If the variants are not the same, or a planned weight is not above 0.
    """
    if len(planned) != len(actual) or len(planned) < 2 or min(planned) <= 0 or min(actual) < 0:
        raise ValueError("planned and actual must be shares of the same two or more variants")
    wanted, found = math.fsum(planned), math.fsum(actual)
    return math.fsum(
        (real / found - plan / wanted) ** 2 / (plan / wanted)
        for plan, real in zip(planned, actual, strict=True)
    )


def critical_chi_square(check: Check, units: float, freedom: int, alpha: float) -> float:
    """Return the χ² at and above which a check raises the alarm, with ``units`` of all variants.

    The counts' Bayes factor with a Dirichlet prior of concentration c is, with normal counts, that
    of two normals whose variances differ by 1 + N / c: (1 + N/c)^(-v/2) exp(χ² N / (2 (N + c))).
    """
    if check == "chi_square":
        return float(special.chdtri(freedom, alpha))

    def log_evidence(chi_square: float) -> float:
        terms = [
            chi_square * units / (2 * (units + one)) - freedom / 2 * math.log1p(units / one)
            for one in CONCENTRATIONS
        ]
        return float(special.logsumexp(terms)) - math.log(len(terms)) + math.log(alpha)

    high = 1.0
    while log_evidence(high) < 0:
        high *= 2
    return root_between(log_evidence, 0.0, high, rtol=1e-12)


def sample_ratio_power(
    units: float,
    planned: Sequence[float],
    actual: Sequence[float],
    *,
    check: Check = "chi_square",
    alpha: float = MISMATCH_ALPHA,
) -> float:
    """Return the probability that a check raises the alarm at one look.

    Args:
        units: Of all variants.
        planned: Weights in any scale.
        actual: What the shares are in truth; with 1 % of the treatment's units lost (1, 0.99).
        check: The sequential one, which is watched, or χ² at the end.
        alpha: Level of the alarm.

    References:
        Cohen (1988), ch. 7: noncentral χ² with N Σ (p - p₀)² / p₀.

    Example:
        >>> round(sample_ratio_power(2_000_000, (1, 1), (1, 0.99)), 4)
        0.9999
    """
    freedom = len(planned) - 1
    critical = critical_chi_square(check, units, freedom, alpha)
    return _tail(critical, freedom, units * noncentrality_per_unit(planned, actual))


def sample_ratio_units(
    planned: Sequence[float],
    actual: Sequence[float],
    *,
    power: float = 0.99,
    check: Check = "chi_square",
    alpha: float = MISMATCH_ALPHA,
) -> float:
    """Return the units of all variants at which the alarm is raised with a probability.

    Infinite where not even 10¹⁵ do.

    Raises:
        ValueError: If the shares are as planned: then no number of units is enough.
    """
    if noncentrality_per_unit(planned, actual) == 0:
        raise ValueError("actual == planned: there is nothing to see")

    def short(log_units: float) -> float:
        found = sample_ratio_power(math.exp(log_units), planned, actual, check=check, alpha=alpha)
        return found - power

    return math.exp(_first(short, 0.0, math.log(UNITS_MAX)))


def sample_ratio_loss(
    units: float,
    planned: Sequence[float],
    variant: int,
    *,
    power: float = 0.99,
    check: Check = "chi_square",
    alpha: float = MISMATCH_ALPHA,
) -> float | None:
    """Return the smallest share of one variant's units whose loss is seen; None: not even all."""

    def short(loss: float) -> float:
        actual = with_loss(planned, variant, loss)
        return sample_ratio_power(units, planned, actual, check=check, alpha=alpha) - power

    found = _first(short, 1e-9, 1.0)
    return None if math.isinf(found) else found


def with_loss(planned: Sequence[float], variant: int, loss: float) -> tuple[float, ...]:
    """Return the weights as they are in truth if a variant loses a share of its units."""
    return tuple(
        weight * (1 - loss) if index == variant else weight for index, weight in enumerate(planned)
    )


def _first(short: Callable[[float], float], low: float, high: float) -> float:
    """Return where a rising shortfall reaches 0; infinity where it does not."""
    if short(low) >= 0:
        return low
    if short(high) < 0:
        return math.inf
    return root_between(short, low, high, rtol=1e-12, xtol=1e-14)


def _tail(chi_square: float, freedom: int, noncentrality: float) -> float:
    return min(1.0, max(0.0, 1 - float(special.chndtr(chi_square, freedom, noncentrality))))
