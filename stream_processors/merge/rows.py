"""Flat rows of a look, as Grafana and SQL want them.

Every row has the same keys, null where there is no number, and floats with a decimal point.
"""

from typing import Any, NamedTuple

from stream_processors.merge.effect_entries import DECIDING_FIELDS


class Row(NamedTuple):
    """A record of ``litmus.snapshot-rows``.

    Attributes:
        key: ``experiment id|metric id|variant``.
        value: Flat; ``ROW_KEYS`` in this order.
        timestamp_ms: When the look is of; the record's own timestamp.
    """

    key: str
    value: dict[str, Any]
    timestamp_ms: int


ROW_KEYS = (
    "experiment_id",
    "metric_id",
    "variant",
    "basis",
    "units",
    "total",
    "mean",
    "std_error",
    "effect",
    "effect_std_error",
    "effect_low",
    "effect_high",
    "p_value",
    "interval",
    "relative_effect",
    "relative_effect_low",
    "relative_effect_high",
    "status",
    "as_of_ms",
    "tick",
    "kind",
    "role",
    "estimate_of",
    "adjusted_p_value",
    "rejects",
    "guardrail",
    "verdict",
)


def rows_of(results: dict[str, Any], as_of_ms: int) -> list[Row]:
    """Return a row for every metric, basis and variant of a results object.

    On matured units, effect, interval and p-value are those of this look by the method of the
    definition (``interval`` says which), of the adjusted effect where the metric has a covariate;
    on open units the interval is the pointwise one and there is no p-value, because nobody may
    decide on it. ``rejects`` is 1 where a difference is left after the correction for several
    comparisons.
    """
    return [
        _row(results, metric, variant, as_of_ms)
        for metric in results["metrics"]
        for variant in metric["variants"]
    ]


def _row(
    results: dict[str, Any], metric: dict[str, Any], variant: dict[str, Any], as_of_ms: int
) -> Row:
    experiment_id, variant_id = results["experiment_id"], variant["variant"]
    effect = next((one for one in metric["effects"] if one["variant"] == variant_id), None)
    value = dict.fromkeys(ROW_KEYS) | {
        "experiment_id": experiment_id,
        "metric_id": metric["metric_id"],
        "variant": variant_id,
        "basis": metric["basis"],
        "units": variant["units"],
        "total": float(variant["total"]),
        "mean": variant["mean"],
        "std_error": variant["std_error"],
        "status": variant["status"] if effect is None else effect["status"],
        "as_of_ms": as_of_ms,
        "tick": results["look"]["tick"],
        "kind": metric["kind"],
        "role": metric["role"],
        "verdict": results["verdict"]["reading"],
    }
    if effect is not None:
        value |= _matured(effect) if metric["basis"] == "matured" else _open(effect)
    return Row(f"{experiment_id}|{metric['metric_id']}|{variant_id}", value, as_of_ms)


def _open(effect: dict[str, Any]) -> dict[str, Any]:
    columns = _columns(effect["absolute"], effect["relative"], "fixed_horizon", "fixed_horizon")
    return columns | {"p_value": None}


def _matured(effect: dict[str, Any]) -> dict[str, Any]:
    decision = effect["decision"]
    field = DECIDING_FIELDS[decision["method"]]
    source, relative = effect["absolute"], effect["relative"]
    if decision["of"] == "cuped" and effect["cuped"] is not None:
        source, relative = effect["cuped"], effect["cuped"]["relative"]
    columns = _columns(source, relative, field, decision["method"])
    adjusted, guardrail = effect["adjusted"], effect.get("guardrail")
    if decision["method"] == "fixed_horizon" and decision["status"] != "ok":
        columns["p_value"] = None  # one look is planned, and this is not it
    return columns | {
        "estimate_of": decision["of"],
        "adjusted_p_value": None if adjusted is None else adjusted["p_value"],
        "rejects": None if adjusted is None else int(adjusted["rejects"]),
        "guardrail": None if guardrail is None else guardrail["status"],
    }


def _columns(
    source: dict[str, Any], relative: dict[str, Any], field: str, method: str
) -> dict[str, Any]:
    interval, relative_interval = source[field] or {}, relative.get(field) or {}
    return {
        "effect": _own(interval, source),
        "effect_std_error": interval.get("std_error", interval.get("sd", source["std_error"])),
        "effect_low": interval.get("low"),
        "effect_high": interval.get("high"),
        "p_value": interval.get("p_value"),
        "interval": method,
        "relative_effect": _own(relative_interval, relative),
        "relative_effect_low": relative_interval.get("low"),
        "relative_effect_high": relative_interval.get("high"),
    }


def _own(shown: dict[str, Any], source: dict[str, Any]) -> float | None:
    """Return what an interval is around: a method's own estimate, where it has one."""
    estimate: float | None = shown.get("estimate", shown.get("mean", source["estimate"]))
    return estimate
