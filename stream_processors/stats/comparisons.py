"""Many comparisons at once: exact sums in, effects out; the one place where a test is computed.

Python's integers make the few floats of every comparison, each rounded once; from there on all
comparisons are columns of arrays. A comparison alone is an array of one: the same code.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from stream_processors.stats.caps import CapChoice, cap_grid, choose_cap
from stream_processors.stats.cuped import NO_STRATUM, Adjustment, adjust
from stream_processors.stats.edges import Pairs, flag_names, status_name
from stream_processors.stats.effects import (
    AppliedCap,
    CupedEffect,
    Effect,
    FixedHorizon,
    Plan,
    RelativeEffect,
    Summary,
)
from stream_processors.stats.inference import Inference, Plans, infer
from stream_processors.stats.quantiles import event_quantile, unit_quantile
from stream_processors.stats.relative import Contrast, Interval, contrast_of
from stream_processors.stats.sequential import SequentialTest
from stream_processors.stats.sides import (
    Facts,
    adjusted_facts,
    columns_of,
    facts_of_quantile,
    facts_of_sums,
    moments_of,
    side_of,
    summary_of,
)
from stream_processors.stats.sums import JointSums, MetricSums, Share, Sums, joint_sums, quanta

Kind = Literal["conversion", "count", "sum", "ratio", "mean", "quantile"]


class Comparison(NamedTuple):
    """One metric of a treatment against the control's.

    Attributes:
        kind: Of the metric; see ``sums.JointSums`` for the totals that belong to it.
        control: Any sums at all: impossible ones give the status ``invalid_input``.
        treatment: The same.
        plan: How it is read.
        precision: Decimal digits kept of a value; 0 for conversions and counts. A ratio's
            numerator and denominator have the same, so it cancels.
        quantile: Of a quantile metric, in (0, 1).
        of: What it is a quantile of: unit totals, or values of events.
        cap: Of unit totals, chosen from the grid: the choice over *all* variants of the
            experiment (``caps.choose_cap``), or a quantile where these two are all. None: no cap,
            or a fixed one, which the sums know of already.
    """

    kind: Kind
    control: MetricSums
    treatment: MetricSums
    plan: Plan = Plan()
    precision: int = 0
    quantile: float | None = None
    of: Literal["units", "events"] = "units"
    cap: CapChoice | float | None = None


class _Known(NamedTuple):
    """What is computed of a metric in one variant; shared by all comparisons with it."""

    facts: Facts
    share: Share | None
    summary: Summary


class _Row(NamedTuple):
    """A comparison on its way."""

    comparison: Comparison
    control: _Known
    treatment: _Known
    difference: float
    cap: AppliedCap | None
    adjustment: Adjustment | None


def compare_all(comparisons: Iterable[Comparison]) -> list[Effect]:
    """Return the effect of every comparison, in their order.

    Raises:
        ValueError: If a comparison lacks what its kind needs (a quantile, a histogram, caps).
            Sums of any value are no error: they have a status.
    """
    known: dict[tuple[Any, ...], _Known] = {}
    rows = [_row(comparison, known) for comparison in comparisons]
    if not rows:
        return []
    inference, contrast = _infer_unadjusted(rows)
    adjusted = _adjusted_effects(rows, contrast)
    results = _results(inference, contrast, [_test_name(row.comparison) for row in rows])
    return [
        Effect(
            *result,
            control=row.control.summary,
            treatment=row.treatment.summary,
            cuped=adjusted.get(index),
            cap=row.cap,
        )
        for index, (row, result) in enumerate(zip(rows, results, strict=True))
    ]


def compare(control: Sums, treatment: Sums, *, precision: int, is_rate: bool, plan: Plan) -> Effect:
    """Return the effect of a treatment on conversions or totals, from exact sums.

    Args:
        control: Any sums at all: impossible ones give the status ``invalid_input``.
        treatment: The same.
        precision: Decimal digits kept of a value; 0 for rates.
        is_rate: Whether a unit's value can only be 0 or 1.
        plan: Error probability and tuning.
    """
    both = (MetricSums(joint_sums(sums)) for sums in (control, treatment))
    kind: Kind = "conversion" if is_rate else "sum"
    return compare_all([Comparison(kind, *both, plan=plan, precision=precision)])[0]


def summarise(
    kind: Kind,
    sums: MetricSums,
    *,
    precision: int = 0,
    quantile: float | None = None,
    of: Literal["units", "events"] = "units",
    alpha: float = 0.05,
) -> Summary:
    """Return a metric in one variant: as in the effects, for experiments without a comparison."""
    plan = Plan(alpha=alpha)
    comparison = Comparison(kind, sums, sums, plan, precision, quantile, of)
    return _known(comparison, sums, None).summary


def _row(comparison: Comparison, known: dict[tuple[Any, ...], _Known]) -> _Row:
    choice = _cap_choice(comparison)
    both = []
    for sums in (comparison.control, comparison.treatment):
        key = (
            id(sums),
            comparison.kind,
            comparison.precision,
            comparison.quantile,
            comparison.of,
            comparison.plan.alpha,
            choice and choice.cap_index,
        )
        if key not in known:
            known[key] = _known(comparison, sums, choice)
        both.append(known[key])
    control, treatment = both
    if control.share is not None and treatment.share is not None:
        difference = treatment.share.minus(control.share).value
    else:
        difference = treatment.facts.mean - control.facts.mean
    cap = None if choice is None else _applied_cap(comparison, choice)
    row = _Row(comparison, control, treatment, difference, cap, None)
    return row._replace(adjustment=_adjustment(row))


def _known(comparison: Comparison, sums: MetricSums, choice: CapChoice | None) -> _Known:
    if comparison.kind == "quantile":
        facts = _quantile_facts(comparison, sums)
        return _Known(facts, None, summary_of(facts, has_variance=False))
    total = sums.total
    if choice is not None and choice.cap_index is not None and sums.caps is not None:
        capped = sums.caps[choice.cap_index]
        total = JointSums(total.unit_count, (capped.sum_q,), (capped.sum_squares_q,))
    facts, share = facts_of_sums(
        total,
        is_rate=comparison.kind == "conversion",
        is_ratio=_is_ratio(comparison),
        quanta=_quanta(comparison),
    )
    return _Known(facts, share, summary_of(facts, has_variance=True))


def _is_ratio(comparison: Comparison) -> bool:
    return comparison.kind in ("ratio", "mean")


def _quanta(comparison: Comparison) -> int:
    return 1 if comparison.kind == "ratio" else quanta(comparison.precision)


def _quantile_facts(comparison: Comparison, sums: MetricSums) -> Facts:
    level, alpha, precision = comparison.quantile, comparison.plan.alpha, comparison.precision
    units = sums.total.unit_count
    if level is None:
        raise ValueError("quantile is None, a quantile metric needs one")
    if comparison.of == "units":
        if sums.histogram is None:
            raise ValueError("histogram is None, a quantile of units needs one")
        arm = unit_quantile(sums.histogram, quantile=level, precision=precision, alpha=alpha)
        return facts_of_quantile(arm, units, fits=sum(sums.histogram.values()) == units)
    if sums.shards is None:
        raise ValueError("shards is None, a quantile of events needs them")
    arm = event_quantile(
        sums.shards, unit_count=units, quantile=level, precision=precision, alpha=alpha
    )
    return facts_of_quantile(arm, units, fits=True)


def _cap_choice(comparison: Comparison) -> CapChoice | None:
    cap = comparison.cap
    if cap is None:
        return None
    caps = comparison.control.caps, comparison.treatment.caps
    if caps[0] is None or caps[1] is None:
        raise ValueError("caps is None, a cap at a quantile needs the sums of every cap")
    if isinstance(cap, CapChoice):
        return cap
    units = [comparison.control.total.unit_count, comparison.treatment.total.unit_count]
    if min(units) < 0:
        return CapChoice("no_units")
    return choose_cap(
        units,
        [[one.capped_units for one in side] for side in caps if side is not None],
        precision=comparison.precision,
        quantile=cap,
    )


def _applied_cap(comparison: Comparison, choice: CapChoice) -> AppliedCap:
    caps = comparison.control.caps, comparison.treatment.caps
    if choice.cap_index is None or caps[0] is None or caps[1] is None:
        return AppliedCap(choice.status)
    cap_q = cap_grid(comparison.precision)[choice.cap_index]
    control, treatment = (side[choice.cap_index].capped_units for side in caps if side is not None)
    return AppliedCap(choice.status, cap_q / quanta(comparison.precision), (control, treatment))


def _infer_unadjusted(rows: Sequence[_Row]) -> tuple[Inference, Contrast]:
    control = columns_of([row.control.facts for row in rows])
    treatment = columns_of([row.treatment.facts for row in rows])
    contrast = contrast_of(
        moments_of(control), moments_of(treatment), np.array([row.difference for row in rows])
    )
    pairs = Pairs(side_of(control), side_of(treatment))
    return infer(pairs, contrast, _plans([row.comparison for row in rows])), contrast


def _plans(comparisons: Sequence[Comparison], *, has_rates: bool = True) -> Plans:
    return Plans(
        np.array([comparison.plan.alpha for comparison in comparisons], dtype=np.float64),
        np.array([comparison.plan.n_star for comparison in comparisons], dtype=np.float64),
        np.array([comparison.plan.tau or math.nan for comparison in comparisons]),
        np.array([has_rates and one.kind == "conversion" for one in comparisons], dtype=bool),
    )


def _test_name(comparison: Comparison) -> Literal["z", "welch", "woodruff"]:
    if comparison.kind == "quantile":
        return "woodruff"
    return "z" if comparison.kind == "conversion" else "welch"


def _results(
    inference: Inference, contrast: Contrast, tests: Sequence[Literal["z", "welch", "woodruff"]]
) -> list[tuple[Any, ...]]:
    """Return the fields that unadjusted and adjusted effects share, per comparison.

    They are status, flags, estimate, standard error, fixed horizon, sequence, relative effect and
    degrees of freedom.
    """
    verdicts = inference.verdicts
    columns = zip(
        tests,
        verdicts.status.tolist(),
        verdicts.relative_status.tolist(),
        verdicts.flags.tolist(),
        verdicts.shows_effect.tolist(),
        verdicts.shows_tests.tolist(),
        verdicts.shows_sequence.tolist(),
        inference.interval_decides.tolist(),
        contrast.difference.tolist(),
        inference.effect.T.tolist(),
        inference.fixed.T.tolist(),
        inference.sequence.T.tolist(),
        _relatives(inference),
        strict=True,
    )
    results: list[tuple[Any, ...]] = []
    for (
        test, status, relative_status, flags, has_effect, has_tests, has_sequence, decides,
        difference, (std_error, freedom), fixed, sequence, relative,
    ) in columns:  # fmt: skip
        name = status_name(status)
        if not has_effect:
            results.append((name, (), None, None, None, None, RelativeEffect(name), None))
            continue
        if not has_tests:
            results.append(
                (name, (), difference, std_error, None, None, RelativeEffect(name), None)
            )
            continue
        results.append(
            (
                name,
                flag_names(flags) + (("interval_decides",) if decides else ()),
                difference,
                std_error,
                FixedHorizon(test, *fixed, None if test == "z" else freedom),
                SequentialTest(*sequence) if has_sequence else None,
                relative or RelativeEffect(status_name(relative_status)),
                freedom,
            )
        )
    return results


def _relatives(inference: Inference) -> list[RelativeEffect | None]:
    """Return the effects on the relative scale; None where the verdict hides them."""
    relatives: list[RelativeEffect | None] = []
    for shown, is_log, bounded, always, numbers in zip(
        inference.verdicts.shows_relative.tolist(),
        inference.is_log.tolist(),
        inference.is_bounded.tolist(),
        inference.is_sequence_bounded.tolist(),
        inference.relative.T.tolist(),
        strict=True,
    ):
        if not shown:
            relatives.append(None)
            continue
        estimate, std_error, freedom, low, high, sequence_low, sequence_high = numbers
        relatives.append(
            RelativeEffect(
                "ok" if bounded else "undefined",
                estimate,
                "log" if is_log else "fieller",
                Interval(low, high) if bounded else None,
                Interval(sequence_low, sequence_high) if always else None,
                std_error,
                freedom if is_log and math.isfinite(freedom) else None,
            )
        )
    return relatives


def _has_covariate(comparison: Comparison) -> bool:
    sides = comparison.control, comparison.treatment
    return (
        comparison.kind != "quantile"
        and comparison.cap is None
        and all(side.covariates is not None for side in sides)
    )


def _adjusted_effects(rows: Sequence[_Row], contrast: Contrast) -> dict[int, CupedEffect]:
    """Return the adjusted effects by the number of their row."""
    places = [index for index, row in enumerate(rows) if _has_covariate(row.comparison)]
    if not places:
        return {}
    chosen = [rows[index] for index in places]
    facts = [_adjusted_facts(row, row.adjustment) for row in chosen]
    control = columns_of([one for one, _ in facts])
    treatment = columns_of([one for _, one in facts])
    adjusted = _adjusted_contrast([row.adjustment for row in chosen])
    plans = _plans([row.comparison for row in chosen], has_rates=False)
    inference = infer(Pairs(side_of(control), side_of(treatment)), adjusted, plans)
    results = _results(inference, adjusted, ["welch"] * len(chosen))
    before = contrast.variances.sum(axis=0)[places].tolist()
    return {
        index: _adjusted_effect(row.adjustment, result, variance)
        for index, row, result, variance in zip(places, chosen, results, before, strict=True)
    }


def _adjusted_effect(
    adjustment: Adjustment | None, result: tuple[Any, ...], variance: float
) -> CupedEffect:
    status, flags, estimate, std_error, fixed, sequence, relative, freedom = result
    effect = CupedEffect(status, flags, estimate, std_error, freedom, fixed, sequence, relative)
    if adjustment is None or std_error is None:
        return effect
    return effect._replace(
        flags=flags + adjustment.flags,
        theta=adjustment.theta,
        variance_reduction=1 - std_error**2 / variance if variance > 0 else 0.0,
        covered_share=adjustment.covered_share,
        control_mean=adjustment.control_mean,
        treatment_mean=adjustment.treatment_mean,
    )


def _adjusted_contrast(adjustments: Sequence[Adjustment | None]) -> Contrast:
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


def _adjusted_facts(row: _Row, adjustment: Adjustment | None) -> tuple[Facts, Facts]:
    comparison = row.comparison
    both = (comparison.control, row.control.facts), (comparison.treatment, row.treatment.facts)
    has_uncovered = any(
        sums.covariates is not None and sums.total.unit_count != sums.covariates.unit_count
        for sums, _ in both
    )
    control, treatment = (
        adjusted_facts(sums, facts, adjustment, is_control=is_control, has_uncovered=has_uncovered)
        for is_control, (sums, facts) in zip((True, False), both, strict=True)
    )
    return control, treatment


def _adjustment(row: _Row) -> Adjustment | None:
    """Return the adjusted effect, or None where there is nothing that rules would show."""
    comparison = row.comparison
    if not _has_covariate(comparison):
        return None
    if any(
        not facts.is_possible or facts.least_count < 2 or facts.denominator == 0
        for facts in _adjusted_facts(row, None)
    ):
        return None
    return adjust(
        comparison.control,
        comparison.treatment,
        is_ratio=_is_ratio(comparison),
        quanta=_quanta(comparison),
    )
