"""Many comparisons at once: exact sums in, effects out; the one place where a test is computed.

Python's integers make the few floats of every comparison, each rounded once; from there on all
comparisons are columns of arrays. A comparison alone is an array of one: the same code.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from stream_processors.stats.adjusting import Adjusted, adjusted_effects, adjusted_pair
from stream_processors.stats.caps import CapChoice, cap_grid, choose_cap
from stream_processors.stats.edges import Pairs
from stream_processors.stats.effects import (
    AppliedCap,
    CupedEffect,
    Effect,
    Plan,
    Summary,
    TestName,
    shared_fields,
)
from stream_processors.stats.inference import Inference, Plans, Tied, infer
from stream_processors.stats.quantiles import ArmQuantile, event_quantile, unit_quantile
from stream_processors.stats.relative import Contrast, contrast_of
from stream_processors.stats.sides import (
    Facts,
    columns_of,
    facts_of_quantile,
    facts_of_sums,
    moments_of,
    side_of,
    summary_of,
)
from stream_processors.stats.strata import Strata, strata_of
from stream_processors.stats.sums import JointSums, MetricSums, Share, Sums, joint_sums, quanta
from stream_processors.stats.tied_quantiles import RankCurve

Kind = Literal["conversion", "count", "sum", "ratio", "mean", "quantile"]


class Comparison(NamedTuple):
    """One metric of a treatment against the control's.

    Attributes:
        kind: Of the metric; see ``sums.JointSums`` for the totals that belong to it.
        control: Any sums at all: impossible ones give the status ``invalid_input``.
        treatment: The same.
        plan: How it is read.
        precision: Decimal digits kept of a value. Conversions and counts have none, whatever it
            says; a ratio's numerator and denominator have the same, so it cancels.
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
    strata: Strata | None = None
    curve: RankCurve | None = None


class _Row(NamedTuple):
    """A comparison on its way."""

    comparison: Comparison
    control: _Known
    treatment: _Known
    difference: float
    cap: AppliedCap | None
    adjusted: Adjusted | None


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
    fields = shared_fields(inference, contrast, [_test_name(row.comparison) for row in rows])
    cuped = _cuped_effects(rows, contrast)
    return [
        Effect._make(
            (*shared, row.control.summary, row.treatment.summary, cuped.get(index), row.cap, None)
        )
        for index, (row, shared) in enumerate(zip(rows, fields, strict=True))
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
    one, other = MetricSums(joint_sums(control)), MetricSums(joint_sums(treatment))
    kind: Kind = "conversion" if is_rate else "sum"
    return compare_all([Comparison(kind, one, other, plan, precision)])[0]


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
    return _Row(
        comparison, control, treatment, difference, cap, _adjusted(comparison, control, treatment)
    )


def _known(comparison: Comparison, sums: MetricSums, choice: CapChoice | None) -> _Known:
    if comparison.kind == "quantile":
        arm, facts = _quantile_of(comparison, sums)
        return _Known(facts, None, summary_of(facts, has_variance=False), curve=arm.curve)
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
    strata = None
    if sums.covariates is not None and comparison.cap is None:
        strata = strata_of(sums)
    return _Known(facts, share, summary_of(facts, has_variance=True), strata)


def _adjusted(comparison: Comparison, control: _Known, treatment: _Known) -> Adjusted | None:
    if control.strata is None or treatment.strata is None:
        return None
    return adjusted_pair(
        (control.facts, control.strata),
        (treatment.facts, treatment.strata),
        is_ratio=_is_ratio(comparison),
        quanta=_quanta(comparison),
    )


def _is_ratio(comparison: Comparison) -> bool:
    return comparison.kind in ("ratio", "mean")


def _precision(comparison: Comparison) -> int:
    """Return the digits that a total has: events are counted, not quantised."""
    return 0 if comparison.kind in ("conversion", "count") else comparison.precision


def _quanta(comparison: Comparison) -> int:
    return 1 if comparison.kind == "ratio" else quanta(_precision(comparison))


def _quantile_of(comparison: Comparison, sums: MetricSums) -> tuple[ArmQuantile, Facts]:
    level, alpha, precision = comparison.quantile, comparison.plan.alpha, comparison.precision
    units = sums.total.unit_count
    if level is None:
        raise ValueError("quantile is None, a quantile metric needs one")
    if comparison.of == "units":
        if sums.histogram is None:
            raise ValueError("histogram is None, a quantile of units needs one")
        arm = unit_quantile(sums.histogram, quantile=level, precision=precision, alpha=alpha)
        return arm, facts_of_quantile(arm, units, fits=sum(sums.histogram.values()) == units)
    if sums.shards is None:
        raise ValueError("shards is None, a quantile of events needs them")
    arm = event_quantile(
        sums.shards, unit_count=units, quantile=level, precision=precision, alpha=alpha
    )
    return arm, facts_of_quantile(arm, units, fits=True)


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
        precision=_precision(comparison),
        quantile=cap,
    )


def _applied_cap(comparison: Comparison, choice: CapChoice) -> AppliedCap:
    caps = comparison.control.caps, comparison.treatment.caps
    if choice.cap_index is None or caps[0] is None or caps[1] is None:
        return AppliedCap(choice.status)
    cap_q = cap_grid(_precision(comparison))[choice.cap_index]
    control, treatment = (side[choice.cap_index].capped_units for side in caps if side is not None)
    return AppliedCap(choice.status, cap_q / quanta(_precision(comparison)), (control, treatment))


def _infer_unadjusted(rows: Sequence[_Row]) -> tuple[Inference, Contrast]:
    control = columns_of([row.control.facts for row in rows])
    treatment = columns_of([row.treatment.facts for row in rows])
    contrast = contrast_of(
        moments_of(control), moments_of(treatment), np.array([row.difference for row in rows])
    )
    pairs = Pairs(side_of(control), side_of(treatment))
    plans = _plans([row.comparison for row in rows])
    return infer(pairs, contrast, plans, _ties(rows)), contrast


def _ties(rows: Sequence[_Row]) -> dict[int, Tied]:
    """Return what comparisons with ties are made from, by the number of their row."""
    found: dict[int, Tied] = {}
    for index, row in enumerate(rows):
        control, treatment = row.control.curve, row.treatment.curve
        is_tied = row.control.facts.is_tied or row.treatment.facts.is_tied
        if is_tied and control is not None and treatment is not None:
            found[index] = Tied(control, treatment, _quanta(row.comparison))
    return found


def _plans(comparisons: Sequence[Comparison], *, has_rates: bool = True) -> Plans:
    return Plans(
        np.array([comparison.plan.alpha for comparison in comparisons], dtype=np.float64),
        np.array([comparison.plan.n_star for comparison in comparisons], dtype=np.float64),
        np.array([comparison.plan.tau or math.nan for comparison in comparisons]),
        np.array([has_rates and one.kind == "conversion" for one in comparisons], dtype=bool),
    )


def _test_name(comparison: Comparison) -> TestName:
    if comparison.kind == "quantile":
        return "woodruff"
    return "z" if comparison.kind == "conversion" else "welch"


def _cuped_effects(rows: Sequence[_Row], contrast: Contrast) -> dict[int, CupedEffect]:
    """Return the adjusted effects, by the number of their row."""
    chosen = {index: row.adjusted for index, row in enumerate(rows) if row.adjusted is not None}
    if not chosen:
        return {}
    plans = _plans([rows[index].comparison for index in chosen], has_rates=False)
    before = contrast.variances.sum(axis=0)[list(chosen)].tolist()
    effects = adjusted_effects(list(chosen.values()), plans, before)
    return dict(zip(chosen, effects, strict=True))
