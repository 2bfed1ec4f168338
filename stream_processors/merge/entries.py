"""Statistics as the results object shows them: dictionaries of numbers that are finite or null."""

from typing import Any

from schemas.definitions import CapQuantile, Metric
from schemas.times import format_duration_ms
from stream_processors.merge.path import CapMove, ComparisonPath
from stream_processors.merge.questions import CapUse, Question, precision_of
from stream_processors.stats.effects import (
    CupedEffect,
    Effect,
    FixedHorizon,
    RelativeEffect,
    Summary,
)
from stream_processors.stats.relative import Interval
from stream_processors.stats.sequential import SequentialTest
from stream_processors.stats.sums import MetricSums, quanta

Entry = dict[str, Any]

_TWO_TOTALS = ("ratio", "mean")
"""Kinds of metrics that have a numerator and a denominator."""


def metric_head(metric: Metric, basis: str, overflowed: int) -> Entry:
    """Return what a metric's entry says before its variants and effects."""
    return {
        "metric_id": metric.id,
        "kind": metric.kind,
        "role": metric.role,
        "direction": metric.direction,
        "basis": basis,
        "window": None if metric.window_ms is None else format_duration_ms(metric.window_ms),
        "status": "units_overflowed" if overflowed else "ok",
        "overflowed": overflowed,
    }


def variant_entry(variant: str, question: Question, sums: MetricSums, summary: Summary) -> Entry:
    """Return one variant of a metric; of a ratio both totals, of a quantile its value as mean."""
    metric = question.metric
    total, scale = sums.total, quanta(precision_of(metric))
    first = total.sums[0]
    choice = None if question.cap is None else question.cap.choice
    if choice is not None and choice.cap_index is not None and sums.caps is not None:
        first = sums.caps[choice.cap_index].sum_q
    entry: Entry = {
        "variant": variant,
        "units": total.unit_count,
        "total": first / scale if scale > 1 else first,
    }
    if metric.kind in _TWO_TOTALS:
        counted = 1 if metric.kind == "mean" else scale
        entry["denominator"] = total.sums[1] / counted if counted > 1 else total.sums[1]
    entry["mean"] = summary.mean
    entry["variance"] = summary.variance
    entry["std_error"] = summary.std_error
    entry["status"] = summary.status
    return entry


def cap_entry(metric: Metric, use: CapUse | None) -> Entry | None:
    """Return the cap of a metric: what was asked, what was applied, whether it hits all alike."""
    if use is None:
        return None
    applied, quantile = metric.cap, None
    if isinstance(applied, CapQuantile):
        quantile, applied = applied.quantile, None
        if use.choice is not None and use.choice.cap_q is not None:
            applied = use.choice.cap_q / quanta(precision_of(metric))
    return {
        "status": "ok" if use.choice is None else use.choice.status,
        "cap": applied,
        "quantile": quantile,
        "capped_units": None if use.capped_units is None else list(use.capped_units),
        "imbalance_p_value": None if use.imbalance is None else use.imbalance.p_value,
    }


def cap_move_entry(metric: Metric, now: int | None, moved: CapMove | None) -> Entry | None:
    """Return when numbers over several looks began anew at another cap; None: they did not.

    Args:
        metric: With a cap at a quantile.
        now: The cap that they are of, in quanta; None: totals are not capped.
        moved: Since when.
    """
    if moved is None:
        return None
    scale = quanta(precision_of(metric))
    before, after = (None if cap is None else cap / scale for cap in (moved.before, now))
    return {"tick": moved.tick, "cap_before": before, "cap": after}


def absolute_entry(effect: Effect | CupedEffect) -> Entry:
    """Return the effect in metric units, with the test for one look."""
    return {
        "estimate": effect.estimate,
        "std_error": effect.std_error,
        "fixed_horizon": _fixed_horizon(effect.fixed_horizon),
    }


def _fixed_horizon(fixed: FixedHorizon | None) -> Entry | None:
    if fixed is None:
        return None
    entry: Entry = {
        "test": fixed.test,
        "statistic": fixed.statistic,
        "p_value": fixed.p_value,
        "low": fixed.low,
        "high": fixed.high,
    }
    if fixed.degrees_of_freedom is not None:
        entry["degrees_of_freedom"] = fixed.degrees_of_freedom
    return entry


def relative_entry(relative: RelativeEffect) -> Entry:
    """Return the effect as a share of the control's mean, with its interval for one look."""
    low, high = relative.fixed_horizon or (None, None)
    return {
        "estimate": relative.estimate,
        "status": relative.status,
        "std_error": relative.std_error,
        "fixed_horizon": {"method": relative.method, "low": low, "high": high},
    }


def cuped_entry(cuped: CupedEffect) -> Entry:
    """Return the effect adjusted by the covariate, in the shape of the absolute one."""
    return {
        "status": cuped.status,
        "flags": list(cuped.flags),
        **absolute_entry(cuped),
        "relative": relative_entry(cuped.relative),
        "theta": cuped.theta,
        "variance_reduction": cuped.variance_reduction,
        "covered_share": cuped.covered_share,
        "handling": cuped.handling,
        "control_mean": cuped.control_mean,
        "treatment_mean": cuped.treatment_mean,
    }


def always_valid_entry(sequence: SequentialTest | None, path: ComparisonPath) -> Entry | None:
    """Return the test for all looks, at this one and over those so far; None before the first.

    What was shown stays: a look that has no sequence of its own has null numbers of its own only.
    """
    if sequence is None and path.low is None:
        return None
    is_empty = path.is_empty
    return {
        "p_value": None if sequence is None else sequence.p_value,
        "low": None if sequence is None else sequence.low,
        "high": None if sequence is None else sequence.high,
        "running_p_value": path.p_value,
        "running_low": None if is_empty else path.low,
        "running_high": None if is_empty else path.high,
    }


def relative_always_valid(interval: Interval | None, status: str, path: ComparisonPath) -> Entry:
    """Return the relative interval for all looks, at this one and over those so far.

    Args:
        interval: Of this look; where it has none, the looks so far keep theirs.
        status: Of the effect.
        path: After this look.
    """
    low, high = interval or (None, None)
    is_empty = path.is_relative_empty
    if is_empty:
        status = "empty_intersection"
    elif interval is not None:
        status = "ok"
    elif status == "ok":
        status = "undefined"
    return {
        "low": low,
        "high": high,
        "running_low": None if is_empty else path.relative_low,
        "running_high": None if is_empty else path.relative_high,
        "status": status,
    }
