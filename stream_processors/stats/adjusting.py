"""Effects adjusted by a covariate, from the same rules and tests as the unadjusted ones."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stream_processors.stats.cuped import NO_STRATUM, Adjustment, adjust
from stream_processors.stats.edges import Pairs
from stream_processors.stats.effects import CupedEffect, shared_fields
from stream_processors.stats.inference import Plans, infer
from stream_processors.stats.relative import Contrast
from stream_processors.stats.sides import Facts, adjusted_facts, columns_of, side_of
from stream_processors.stats.strata import Strata


class Adjusted(NamedTuple):
    """A comparison's adjustment, if the rules would show one, and the facts that they look at."""

    adjustment: Adjustment | None
    control: Facts
    treatment: Facts


def adjusted_pair(
    control: tuple[Facts, Strata], treatment: tuple[Facts, Strata], *, is_ratio: bool, quanta: int
) -> Adjusted:
    """Return the adjustment of one comparison; see ``cuped.adjust``.

    Args:
        control: Facts without the covariate, and the units with a pre-period and without.
        treatment: The same.
        is_ratio: See ``cuped.adjust``.
        quanta: See ``cuped.adjust``.
    """
    adjustment = None
    if _is_adjustable(*control) and _is_adjustable(*treatment):
        adjustment = adjust(control[1], treatment[1], is_ratio=is_ratio, quanta=quanta)
    return Adjusted(
        adjustment,
        adjusted_facts(*control, adjustment=adjustment, is_control=True),
        adjusted_facts(*treatment, adjustment=adjustment, is_control=False),
    )


def _is_adjustable(facts: Facts, strata: Strata) -> bool:
    """Return whether the rules would show an adjusted effect as far as this variant goes."""
    return (
        facts.is_possible
        and strata.is_possible
        and facts.denominator != 0
        and facts.least_count >= 2
    )


def adjusted_effects(
    adjusted: Sequence[Adjusted], plans: Plans, variances: Sequence[float]
) -> list[CupedEffect]:
    """Return the adjusted effects; ``variances`` are those of the unadjusted ones."""
    control = columns_of([one.control for one in adjusted])
    treatment = columns_of([one.treatment for one in adjusted])
    contrast = _contrast([one.adjustment for one in adjusted])
    inference = infer(Pairs(side_of(control), side_of(treatment)), contrast, plans)
    fields = shared_fields(inference, contrast, ["welch"] * len(adjusted))
    return [
        _effect(one.adjustment, shared, variance)
        for one, shared, variance in zip(adjusted, fields, variances, strict=True)
    ]


def _effect(adjustment: Adjustment | None, shared: tuple[Any, ...], variance: float) -> CupedEffect:
    status, flags, estimate, std_error, fixed, sequence, relative, freedom = shared
    if adjustment is None or std_error is None:
        return CupedEffect(status, flags, relative=relative)
    return CupedEffect(
        status,
        flags + adjustment.flags,
        estimate,
        std_error,
        freedom,
        fixed,
        sequence,
        relative,
        adjustment.theta,
        1 - std_error**2 / variance if variance > 0 else 0.0,
        adjustment.covered_share,
        adjustment.control_mean,
        adjustment.treatment_mean,
        adjustment.handling,
    )


def _contrast(adjustments: Sequence[Adjustment | None]) -> Contrast:
    """Return the contrasts over both strata; those that are not adjusted are not read."""
    head = np.array([(one.difference, one.baseline) if one else (0.0, 1.0) for one in adjustments])
    strata = [one.strata if one else (NO_STRATUM, NO_STRATUM) for one in adjustments]
    # Shape (comparisons, strata, fields) → fields of shape (strata, comparisons).
    fields = np.moveaxis(np.array(strata, dtype=np.float64), (0, 1, 2), (2, 1, 0))
    control_counts, treatment_counts, by_control, by_treatment, by_baseline, covariance = fields
    return Contrast(
        difference=head[:, 0],
        baseline=head[:, 1],
        treatment_variances=by_treatment,
        control_variances=by_control,
        baseline_variances=by_baseline,
        covariances=covariance,
        treatment_counts=treatment_counts,
        control_counts=control_counts,
    )
