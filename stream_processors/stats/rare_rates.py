"""Rates of rare events: has the treatment more of them? Exact at any look, with any few events.

The sequences of ``sequential`` are asymptotic, so they wait until enough units of *both* variants
converted: for crashes that the control hardly has, that is never. This test needs no burn-in. It
looks at the converted units alone: without an effect, each of them comes from the treatment with
the share of the pair that the treatment was planned to have, whatever the rate is, however it
changes over time, and however many units there are.

With the k_t and k_c converted units of treatment and control, w the planned share and θ the chance
that a converted unit comes from the treatment,

    e = mean over θ of (θ / w)^k_t ((1 - θ) / (1 - w))^k_c,  θ uniform above w,

is a product over converted units, averaged over θ: under "no worse" each factor has expectation 1
at most, because then a converted unit comes from the treatment with a chance of w at most. So it
is a test supermartingale, and reaches 1 / alpha at *any* look with a chance of alpha at most
(Ville). It needs the counts only, and the same holds for the units that did not convert, with the
other side of w: for rates near 1. The mean of both is one again.
"""

import math
from typing import NamedTuple

from scipy import special

RARE_SHARE = 0.1
"""Of a watched rate's error probability: what the exact test of its harm may use, before the
burn-in. The sequences of its guardrail have the rest."""


class RareCounts(NamedTuple):
    """Units of one variant.

    Attributes:
        unit_count: Units, >= 0.
        conversion_count: Converted ones, 0 to all.
    """

    unit_count: int
    conversion_count: int


def log_e_value_of_more(
    control: RareCounts, treatment: RareCounts, *, treatment_share: float
) -> float:
    """Return the logarithm of the evidence that the treatment's rate is higher.

    Args:
        control: As of a look.
        treatment: The same.
        treatment_share: Planned weight of the treatment over that of the pair, in (0, 1). With
            weights that are not held the test is wrong: see the sample-ratio check.

    Raises:
        ValueError: If the share is not in (0, 1), or more units converted than there are.

    References:
        Robbins (1970), Annals of Mathematical Statistics 41, and Howard, Ramdas, McAuliffe, Sekhon
        (2021), Annals of Statistics 49(2): mixtures of binomial likelihood ratios. Ramdas, Ruf,
        Larsson, Koolen, arXiv 2009.03167: such mixtures under composite hypotheses. Conditioning
        on the number of events is that of Przyborowski, Wilenski (1940), Biometrika 31.
    """
    if not 0 < treatment_share < 1:
        raise ValueError(f"treatment_share == {treatment_share}, must be in (0, 1)")
    for name, arm in (("control", control), ("treatment", treatment)):
        if not 0 <= arm.conversion_count <= arm.unit_count:
            raise ValueError(
                f"{name}.conversion_count == {arm.conversion_count},"
                f" must be between 0 and unit_count == {arm.unit_count}"
            )
    converted = _log_mixture_above(
        treatment.conversion_count, control.conversion_count, treatment_share
    )
    # More conversions are fewer others, so the control has the larger share of these.
    others = _log_mixture_above(
        control.unit_count - control.conversion_count,
        treatment.unit_count - treatment.conversion_count,
        1 - treatment_share,
    )
    return float(math.log(0.5) + special.logsumexp([converted, others]))


def harm_p_value(
    control: RareCounts, treatment: RareCounts, *, treatment_share: float, is_more_better: bool
) -> float:
    """Return min(1, 1 / e) of "the treatment is no worse"; a running minimum of it stays valid.

    Args:
        control: See ``log_e_value_of_more``.
        treatment: The same.
        treatment_share: The same.
        is_more_better: Whether conversions are good, so that harm is a lower rate.
    """
    if is_more_better:
        control, treatment = (
            RareCounts(arm.unit_count, arm.unit_count - arm.conversion_count)
            for arm in (control, treatment)
        )
    log_e = log_e_value_of_more(control, treatment, treatment_share=treatment_share)
    return math.exp(-max(0.0, log_e))


def _log_mixture_above(count: int, other: int, share: float) -> float:
    """Return log e of ``count`` against ``other`` with θ uniform in (share, 1).

    The integral is a Beta function times the chance that Beta(count + 1, other + 1) is above the
    share. Far below it that chance leaves the floats: then there is no evidence, and e is 0.
    """
    above = float(special.betainc(other + 1.0, count + 1.0, 1 - share))
    if above <= 0:
        return -math.inf
    return (
        float(special.betaln(count + 1.0, other + 1.0))
        + math.log(above)
        - math.log1p(-share)
        - count * math.log(share)
        - other * math.log1p(-share)
    )
