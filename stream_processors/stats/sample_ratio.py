"""Did the variants get the shares that they should? A broken split spoils every result."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from stream_processors.stats.tails import chi_square_p_value

CONCENTRATION = 10_000.0
"""Weight of the prior around the planned shares; high, to spend the evidence near them."""


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
        (count - total * share) ** 2 / (total * share) for count, share in planned
    )
    return SampleRatioTest(
        chi_square, degrees_of_freedom, chi_square_p_value(chi_square, degrees_of_freedom)
    )


def sample_ratio_log_bayes_factor(
    counts: Sequence[int], weights: Sequence[float], *, concentration: float = CONCENTRATION
) -> float:
    """Return the log evidence that the shares differ from the weights; for any number of looks.

    It depends on the cumulative counts only. ``sequential_p_value`` makes a p-value of it.

    References:
        Lindon, Malek (2022), "Anytime-Valid Inference for Multinomial Count Data", NeurIPS:
        Dirichlet-multinomial against multinomial, with α₀ = concentration · weights.
    """
    planned = _planned(counts, weights)
    total = sum(count for count, _ in planned)
    terms = [math.lgamma(concentration) - math.lgamma(concentration + total)]
    for count, share in planned:
        prior = concentration * share
        terms += [math.lgamma(prior + count), -math.lgamma(prior), -count * math.log(share)]
    return math.fsum(terms)


def sequential_p_value(log_bayes_factor: float) -> float:
    """Return min(1, 1 / BF) at one look; its running minimum over the looks is a p-value."""
    return math.exp(-max(log_bayes_factor, 0.0))


def _planned(counts: Sequence[int], weights: Sequence[float]) -> list[tuple[int, float]]:
    total = math.fsum(weights)
    return [
        (count, weight / total) for count, weight in zip(counts, weights, strict=True) if weight > 0
    ]
