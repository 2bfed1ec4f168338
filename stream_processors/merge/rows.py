"""Flat rows of a look, as Grafana and SQL want them.

Every row has the same keys, null where there is no number, and floats with a decimal point.
"""

from typing import Any, NamedTuple


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
)


def rows_of(results: dict[str, Any], as_of_ms: int) -> list[Row]:
    """Return a row for every metric, basis and variant of a results object.

    On matured units, interval and p-value are the always-valid ones of this look; on open units
    the interval is the pointwise one and there is no p-value, because nobody may decide on it.
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
    }
    if effect is not None:
        value |= _effect_columns(effect, metric["basis"])
    return Row(f"{experiment_id}|{metric['metric_id']}|{variant_id}", value, as_of_ms)


def _effect_columns(effect: dict[str, Any], basis: str) -> dict[str, Any]:
    kind = "always_valid" if basis == "matured" else "fixed_horizon"
    absolute, relative = effect["absolute"], effect["relative"]
    interval = absolute[kind] or {}
    return {
        "effect": absolute["estimate"],
        "effect_std_error": absolute["std_error"],
        "effect_low": interval.get("low"),
        "effect_high": interval.get("high"),
        "p_value": interval.get("p_value") if kind == "always_valid" else None,
        "interval": kind,
        "relative_effect": relative["estimate"],
        "relative_effect_low": relative[kind]["low"],
        "relative_effect_high": relative[kind]["high"],
    }
