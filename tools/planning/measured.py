"""What a running experiment says about its metrics, as a plan needs it."""

from datetime import datetime
from typing import Any, NamedTuple

import httpx

from tools.errors import LitmusError

REQUEST_TIMEOUT_S = 20.0
SPAN_DAYS_MIN = 0.01
"""Below about a quarter of an hour, units per day would be a guess."""


class Measured(NamedTuple):
    """A question as far as results answer it, and what it rests on.

    Attributes:
        question: Fields of ``POST /v1/power``.
        metric_id: Whose numbers they are.
        units: Of the control, that count.
        as_of: Of the look, RFC 3339.
    """

    question: dict[str, Any]
    metric_id: str
    units: int
    as_of: str


def measure(query: str, experiment_id: str, metric_id: str | None) -> Measured:
    """Return what the present look of an experiment says.

    Args:
        query: Address of the query API.
        experiment_id: A running, paused or stopped experiment.
        metric_id: Which metric; without it the first that decides.

    Raises:
        LitmusError: If there is no such experiment or metric, or no numbers yet.
    """
    base = f"{query.rstrip('/')}/v1/experiments/{experiment_id}"
    with httpx.Client(timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
        definition, results = _get(client, base), _get(client, f"{base}/results")
    return read(definition, results, metric_id)


def read(definition: dict[str, Any], results: dict[str, Any], metric_id: str | None) -> Measured:
    """Return what a look says: the control's numbers, alpha and method, the traffic.

    Raises:
        LitmusError: If there is no such metric, or no numbers yet.
    """
    if results.get("look") is None:
        raise LitmusError(f"{definition['id']} has no look yet: plan with --baseline meanwhile.")
    metric = _metric(definition, metric_id)
    entry = _entry(results, metric["id"])
    control_id = next(one["id"] for one in definition["variants"] if one["is_control"])
    control = next(one for one in entry["variants"] if one["variant"] == control_id)
    if control["mean"] is None or control["std_error"] is None:
        raise LitmusError(
            f"{metric['id']} has no mean and standard error of {control_id} yet "
            f"({control['status']}, {control['units']} units): plan with --baseline meanwhile."
        )
    question: dict[str, Any] = {
        "kind": metric["kind"],
        "baseline": control["mean"],
        "direction": metric["direction"],
        "alpha": definition["analysis"]["alpha"],
        "method": definition["analysis"]["method"],
        "weights": _weights(definition, control_id),
        "decision_metrics": max(1, sum(one["role"] == "decision" for one in definition["metrics"])),
        "window": metric["window"],
        "units_per_day": _units_per_day(definition, results),
    }
    if metric["kind"] != "conversion":
        question["sd"] = control["std_error"] * control["units"] ** 0.5
    if metric["role"] == "guardrail" and metric["margin"]:
        question["margin"] = metric["margin"]
    hypothesis = definition.get("hypothesis") or {}
    if metric["role"] == "decision" and hypothesis.get("minimum_effect"):
        question["effect"] = {"relative": hypothesis["minimum_effect"]}
    question |= _sequential(definition["analysis"]) | _covariate(entry)
    known = {name: value for name, value in question.items() if value is not None}
    return Measured(known, metric["id"], control["units"], results["look"]["as_of"])


def _get(client: httpx.Client, url: str) -> dict[str, Any]:
    try:
        answer = client.get(url)
    except httpx.TransportError as error:
        raise LitmusError(f"{url} does not answer: {error or type(error).__name__}") from error
    found: dict[str, Any] = answer.json()
    if answer.status_code >= 300:
        raise LitmusError(f"{answer.status_code} {found.get('code')}: {found.get('detail')}")
    return found


def _metric(definition: dict[str, Any], metric_id: str | None) -> dict[str, Any]:
    metrics: list[dict[str, Any]] = definition["metrics"]
    if metric_id is None:
        return next((one for one in metrics if one["role"] == "decision"), metrics[0])
    for one in metrics:
        if one["id"] == metric_id:
            return one
    known = ", ".join(one["id"] for one in metrics)
    raise LitmusError(f"{definition['id']} has no metric {metric_id!r}, but {known}")


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
