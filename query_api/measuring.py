"""What a running experiment says about its metrics, as a plan needs it. Pure."""

from datetime import datetime
from typing import Any, NamedTuple

SPAN_DAYS_MIN = 0.01
"""Below about a quarter of an hour, units per day would be a guess."""


class NotMeasuredError(ValueError):
    """The results do not say what a plan needs; the message says what to do."""


class UnknownMetricError(ValueError):
    """The experiment has no such metric."""


class Measured(NamedTuple):
    """A question as far as results answer it, and what it rests on.

    Attributes:
        question: Fields of ``POST /v1/power``.
        metric_id: Whose numbers they are.
        units: Of the control, that count.
        all_units: Of all variants, that count.
        as_of: Of the look, RFC 3339.
    """

    question: dict[str, Any]
    metric_id: str
    units: int
    all_units: int
    as_of: str


def read(definition: dict[str, Any], results: dict[str, Any], metric_id: str | None) -> Measured:
    """Return what a look says: the control's numbers, alpha and method, the traffic.

    Raises:
        UnknownMetricError: If there is no such metric.
        NotMeasuredError: If there are no numbers yet.
    """
    if results.get("look") is None:
        raise NotMeasuredError(f"{definition['id']} has no look yet")
    metric = _metric(definition, metric_id)
    entry = _entry(results, metric["id"])
    control_id = next(one["id"] for one in definition["variants"] if one["is_control"])
    control = next(one for one in entry["variants"] if one["variant"] == control_id)
    if control["mean"] is None or control["std_error"] is None:
        raise NotMeasuredError(
            f"{metric['id']} has no mean and standard error of {control_id} yet "
            f"({control['status']}, {control['units']} units)"
        )
    question: dict[str, Any] = {
        "kind": metric["kind"],
        "baseline": control["mean"],
        "direction": metric["direction"],
        "alpha": definition["analysis"]["alpha"],
        "method": definition["analysis"]["method"],
        "weights": _weights(definition, control_id),
        "window": metric["window"],
        "units_per_day": _units_per_day(definition, results),
    }
    if metric["kind"] == "quantile":
        question["quantile"] = metric["quantile"]
    if metric["kind"] != "conversion":
        question["sd"] = control["std_error"] * control["units"] ** 0.5
    if metric["role"] == "guardrail" and metric["margin"]:
        # Passing is not corrected for several comparisons, nor adjusted by a covariate.
        question["margin"] = metric["margin"]
    else:
        deciding = sum(one["role"] == "decision" for one in definition["metrics"])
        question |= {"decision_metrics": max(1, deciding)} | _covariate(entry)
    hypothesis = definition.get("hypothesis") or {}
    if metric["role"] == "decision" and hypothesis.get("minimum_effect"):
        sign = 1 if metric["direction"] == "increase" else -1
        question["effect"] = {"relative": sign * hypothesis["minimum_effect"]}
    question |= _sequential(definition["analysis"])
    known = {name: value for name, value in question.items() if value is not None}
    all_units = sum(one["units"] for one in entry["variants"])
    as_of = results["look"]["as_of"]
    return Measured(known, metric["id"], control["units"], all_units, as_of)


def _metric(definition: dict[str, Any], metric_id: str | None) -> dict[str, Any]:
    metrics: list[dict[str, Any]] = definition["metrics"]
    if metric_id is None:
        return next((one for one in metrics if one["role"] == "decision"), metrics[0])
    for one in metrics:
        if one["id"] == metric_id:
            return one
    known = ", ".join(one["id"] for one in metrics)
    raise UnknownMetricError(f"{definition['id']} has no metric {metric_id!r}, but {known}")


def _entry(results: dict[str, Any], metric_id: str) -> dict[str, Any]:
    """Return a metric's entry on matured units, or on open ones where it has no window."""
    entries = {one["basis"]: one for one in results["metrics"] if one["metric_id"] == metric_id}
    found: dict[str, Any] = entries.get("matured") or entries["open"]
    return found


def _weights(definition: dict[str, Any], control_id: str) -> list[float]:
    variants = sorted(definition["variants"], key=lambda one: one["id"] != control_id)
    return [one["weight"] for one in variants if one["weight"] > 0]


def _units_per_day(definition: dict[str, Any], results: dict[str, Any]) -> float | None:
    """Return new units a day since the start, where that was long enough ago to say."""
    if definition["started_at"] is None:
        return None
    until = definition["stopped_at"] or results["look"]["as_of"]
    span = datetime.fromisoformat(until) - datetime.fromisoformat(definition["started_at"])
    days = span.total_seconds() / 86_400
    units = sum(one["units"] for one in results["variants"])
    return units / days if days >= SPAN_DAYS_MIN and units else None


def _sequential(analysis: dict[str, Any]) -> dict[str, Any]:
    """Return what of the analysis a plan of its method takes."""
    if analysis["method"] == "always_valid":
        tuning = "tau" if analysis.get("tuning") == "mixture" else "n_star"
        return {tuning: analysis[tuning]}
    if analysis["method"] == "group_sequential":
        names = ("planned_looks", "spending", "spending_power")
        return {name: analysis.get(name) for name in names}
    if analysis["method"] == "bayesian":
        return {"prior": analysis.get("prior")}
    return {}


def _covariate(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the correlation that CUPED has shown: what it left of the variance is 1 - ρ²."""
    reductions = [
        effect["cuped"]["variance_reduction"]
        for effect in entry["effects"]
        if effect.get("cuped") and effect["cuped"].get("variance_reduction") is not None
    ]
    share = min(reductions, default=0.0)
    return {"covariate_correlation": share**0.5} if 0 < share < 1 else {}
