"""Did the variants get the shares that they should? A broken split spoils every result."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from stream_processors.stats.multiplicity import adjust_e_values, adjust_p_values
from stream_processors.stats.tails import chi_square_p_value

CONCENTRATION = 10_000.0
"""Weight of a single prior around the planned shares: it sees departures of about 1 %."""

CONCENTRATIONS = (10.0, 100.0, 1_000.0, 10_000.0, 100_000.0)
"""Weights of the priors that the product's check averages, equally: departures of every size.

A prior of concentration c expects shares to be off by about √((1 - p) / (c p)) of themselves: 10
sees gross losses among a few hundred units, 100,000 small ones among millions. One of them alone is
blind far from its own size.
"""

MISMATCH_ALPHA = 0.001
"""An alarm spoils a whole experiment, so it has to be rare."""

EXPECTED_MIN = 5
"""Units that every variant has to expect before χ² is trusted."""

CHI_SQUARE_MAX = 1e300
"""Of a variant whose planned share is next to nothing: finite, so that JSON can hold the sum."""

IMPOSSIBLE = 1_000.0
"""Log evidence of what cannot be under the plan; finite, so that it can be added to others."""

RANK_TOLERANCE = 1e-6
"""Units² below which a direction of the covariance is rounding: real ones are of the order of n."""


class SampleRatioTest(NamedTuple):
    """χ² of the units per variant; right for one look that was planned.

    Attributes:
        chi_square: >= 0.
        degrees_of_freedom: Variants with a weight above 0, less one.
        p_value: 1 while there are no units.
    """

    chi_square: float
    degrees_of_freedom: int
    p_value: float


class Epoch(NamedTuple):
    """A stretch of time with weights of its own, as a bandit or a ramp has them.

    Attributes:
        counts: Units per variant that entered in it.
        weights: Planned shares in any scale, >= 0.
    """

    counts: Sequence[int]
    weights: Sequence[float]


class EpochsTest(NamedTuple):
    """Sample ratio over epochs; right for one look that was planned.

    Attributes:
        z: Per variant, its units less Σ N_k p_k over √(Σ N_k p_k (1 - p_k)); None for a variant
            that had no share, or all of it, throughout.
        chi_square: Of all variants together.
        degrees_of_freedom: Of it.
        p_value: 1 while there are no units.
    """

    z: tuple[float | None, ...]
    chi_square: float
    degrees_of_freedom: int
    p_value: float


class SegmentSampleRatio(NamedTuple):
    """Sample ratio of one segment among several.

    Attributes:
        status: ``ok``, or ``insufficient`` where a variant expects fewer than five units: χ² is
            not to be trusted there, and the segment is no part of the family. The sequential
            test is exact all the same.
        test: At one look.
        adjusted_p_value: By Benjamini-Hochberg among the segments; None where insufficient.
        log_e_value: Of the sequential test.
        mismatch: Alarm at one planned look.
        sequential_mismatch: Alarm by e-BH, whenever one looks.
    """

    status: Literal["ok", "insufficient"]
    test: SampleRatioTest
    adjusted_p_value: float | None
    log_e_value: float
    mismatch: bool
    sequential_mismatch: bool


def sample_ratio_test(counts: Sequence[int], weights: Sequence[float]) -> SampleRatioTest:
    """Return Pearson's χ² of the counts against the weights.

    Args:
        counts: Units per variant.
        weights: Planned shares in any scale, >= 0. A variant of weight 0 is left out, of the
            degrees of freedom too.

    References:
        Fabijan et al. (2019), "Diagnosing Sample Ratio Mismatch in Online Controlled
        Experiments", KDD; they alert at p < 0.001.
    """
    planned = _planned(counts, weights)
    degrees_of_freedom = max(0, len(planned) - 1)
    total = sum(count for count, _ in planned)
    if not total or not degrees_of_freedom:
        return SampleRatioTest(0.0, degrees_of_freedom, 1.0)
    chi_square = math.fsum(
        min(CHI_SQUARE_MAX, (count - total * share) ** 2 / (total * share))
        for count, share in planned
    )
    return SampleRatioTest(
        chi_square, degrees_of_freedom, chi_square_p_value(chi_square, degrees_of_freedom)
    )


def sample_ratio_log_bayes_factor(
    counts: Sequence[int], weights: Sequence[float], *, concentration: float = CONCENTRATION
) -> float:
    """Return the log evidence of one prior that the shares differ from the weights.

    It holds at any number of looks, and depends on the cumulative counts only. A unit in a variant
    of weight 0 cannot be: it is evidence enough. The product's own check averages priors, see
    ``sample_ratio_log_e_value``.

    References:
        Lindon, Malek (2022), "Anytime-Valid Inference for Multinomial Count Data", NeurIPS:
        Dirichlet-multinomial against multinomial, with α₀ = concentration · weights.
    """
    return _log_bayes_factor(_planned(counts, weights), sum(counts), concentration)


def sample_ratio_log_e_value(counts: Sequence[int], weights: Sequence[float]) -> float:
    """Return the log evidence that the shares differ from the weights; for any number of looks.

    The mean of the Bayes factors of ``CONCENTRATIONS``: an average of e-processes is one, so the
    chance that it ever reaches 1 / alpha under the planned weights is alpha at most (Ville).
    It depends on the cumulative counts only. ``sequential_p_value`` makes a p-value of it.

    References:
        Lindon, Malek (2022), NeurIPS; Vovk, Wang (2021), "E-values: Calibration, combination and
        applications", Annals of Statistics 49, §4: averaging.
    """
    return log_e_value_of_epochs([Epoch(counts, weights)])


def sequential_p_value(log_e_value: float) -> float:
    """Return min(1, 1 / e) at one look; its running minimum over the looks is a p-value."""
    return math.exp(-max(log_e_value, 0.0))


def log_e_value_of_epochs(epochs: Sequence[Epoch]) -> float:
    """Return the log evidence over epochs with weights of their own; for any number of looks.

    Given the weights of an epoch its units are independent of what came before, so the evidence
    of one prior multiplies over them, also where the weights of an epoch were chosen by the results
    of the last one. The products are averaged over the priors; 0 without an epoch.
    """
    planned = [(_planned(one.counts, one.weights), sum(one.counts)) for one in epochs]
    factors = [
        math.fsum(_log_bayes_factor(pairs, units, concentration) for pairs, units in planned)
        for concentration in CONCENTRATIONS
    ]
    largest = max(factors)
    total = math.fsum(math.exp(factor - largest) for factor in factors)
    return largest + math.log(total / len(factors))


def sample_ratio_of_epochs(epochs: Sequence[Epoch]) -> EpochsTest:
    """Return whether the units follow weights that changed on the way.

    Args:
        epochs: Of the same variants in the same order; weights fixed within each.

    Raises:
        ValueError: If the epochs do not name the same number of variants.

    Example:
        >>> sample_ratio_of_epochs([Epoch((480, 520), (1, 1)), Epoch((90, 910), (1, 9))]).z
        (-1.6269784336399213, 1.6269784336399213)
    """
    if not epochs:
        return EpochsTest((), 0.0, 0, 1.0)
    if len({len(epoch.counts) for epoch in epochs}) > 1:
        raise ValueError("every epoch must have all variants, with weight 0 where one is not used")
    size = len(epochs[0].counts)
    surplus, covariance = np.zeros(size), np.zeros((size, size))
    for epoch in epochs:
        weights = np.asarray(epoch.weights, dtype=np.float64)
        shares = weights / math.fsum(epoch.weights)
        # Units of a variant without a weight are no part of the epoch, as at a single look.
        counts = np.where(shares > 0, np.asarray(epoch.counts, dtype=np.float64), 0.0)
        total = float(counts.sum())
        surplus += counts - total * shares
        covariance += total * (np.diag(shares) - np.outer(shares, shares))
    variances = np.diag(covariance)
    z = tuple(
        float(one / math.sqrt(variance)) if variance > 0 else None
        for one, variance in zip(surplus, variances, strict=True)
    )
    # The surpluses add up to 0 within every group of variants that ever shared an epoch.
    degrees_of_freedom = int(np.linalg.matrix_rank(covariance, hermitian=True, tol=RANK_TOLERANCE))
    if degrees_of_freedom == 0:
        return EpochsTest(z, 0.0, 0, 1.0)
    inverse = np.linalg.pinv(covariance, hermitian=True, rcond=1e-12)
    chi_square = max(0.0, float(surplus @ inverse @ surplus))
    return EpochsTest(
        z, chi_square, degrees_of_freedom, chi_square_p_value(chi_square, degrees_of_freedom)
    )


def sample_ratio_by_segment(
    counts: Sequence[Sequence[int]],
    weights: Sequence[float],
    *,
    alpha: float = MISMATCH_ALPHA,
) -> list[SegmentSampleRatio]:
    """Return the sample ratio of every segment (or day), corrected for their number.

    Args:
        counts: Units per variant, of each segment.
        weights: Planned shares in any scale; the same in all segments.
        alpha: Bound of the expected share of false alarms among the alarms.
    """
    tests = [sample_ratio_test(one, weights) for one in counts]
    log_e_values = [sample_ratio_log_e_value(one, weights) for one in counts]
    enough = [_smallest_expected(one, weights) >= EXPECTED_MIN for one in counts]
    fixed = adjust_p_values(
        [test.p_value if ok else None for test, ok in zip(tests, enough, strict=True)],
        procedure="benjamini_hochberg",
        alpha=alpha,
    )
    sequential = adjust_e_values(log_e_values, alpha=alpha)
    return [
        SegmentSampleRatio(
            status="ok" if enough[index] else "insufficient",
            test=test,
            adjusted_p_value=fixed.p_values[index],
            log_e_value=log_e_values[index],
            mismatch=fixed.rejects[index],
            sequential_mismatch=sequential.rejects[index],
        )
        for index, test in enumerate(tests)
    ]


def _log_bayes_factor(
    planned: Sequence[tuple[int, float]], units: int, concentration: float
) -> float:
    """Return it of counts and shares; ``units`` are all, those where none can be among them."""
    total = sum(count for count, _ in planned)
    if units > total:
        return IMPOSSIBLE
    terms = [math.lgamma(concentration) - math.lgamma(concentration + total)]
    for count, share in planned:
        prior = concentration * share
        terms += [math.lgamma(prior + count), -math.lgamma(prior), -count * math.log(share)]
    return math.fsum(terms)


def _smallest_expected(counts: Sequence[int], weights: Sequence[float]) -> float:
    planned = _planned(counts, weights)
    total = sum(count for count, _ in planned)
    return min((total * share for _, share in planned), default=0.0)


def _planned(counts: Sequence[int], weights: Sequence[float]) -> list[tuple[int, float]]:
    total = math.fsum(weights)
    return [
        (count, weight / total) for count, weight in zip(counts, weights, strict=True) if weight > 0
    ]
