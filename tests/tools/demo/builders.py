"""Small worlds for the demo's tests."""

from typing import Any

import numpy as np

from tools.demo.campaigns import METRIC, Arm, reading_of
from tools.demo.dataset import CAMPAIGNS, POLICIES, Dataset, Impressions
from tools.demo.schedule import WEEK_START_US, WEEK_US


def small_dataset(rows: int = 1_000) -> Dataset:
    """Return logs evenly spread over the week, with a click on every 50th impression."""
    shown_us = WEEK_START_US + np.arange(rows, dtype=np.int64) * (WEEK_US // rows)
    clicked = np.arange(rows) % 50 == 0
    return {(c, p): Impressions(shown_us, clicked) for c in CAMPAIGNS for p in POLICIES}


def results_of(arms: dict[str, Arm], **changes: Any) -> dict[str, Any]:
    """Return the results that the query API has to show for these counts."""
    reading = reading_of(arms)
    absolute = {
        "estimate": arms["treatment"].rate - arms["control"].rate,
        "fixed_horizon": {"test": "z", "statistic": reading.z, "p_value": reading.p_value},
        "always_valid": {"p_value": 1.0, "low": reading.low, "high": reading.high},
    }
    variants = [
        {"variant": name, "units": arm.units, "total": arm.conversions, "mean": arm.rate}
        for name, arm in arms.items()
    ]
    effect = {
        "variant": "treatment",
        "control": "control",
        "status": "ok",
        "absolute": absolute,
    }
    metric = {"metric_id": METRIC, "variants": variants, "effects": [effect]}
    return {
        "status": "stopped",
        "look": {"tick": 7, "offsets": {"0": 10}},
        "variants": [{"variant": name, "units": arm.units} for name, arm in arms.items()],
        "crossovers": 0,
        "metrics": [metric | {"basis": "matured"}, metric | {"basis": "open"}],
    } | changes


def ledger_of(*, fresh: int, duplicate: int, counted: dict[str, int], **changes: Any) -> dict:
    """Return a ledger in which all is well."""
    return {
        "balanced": True,
        "doors": {"posted": fresh + duplicate, "received": fresh + duplicate, "late": 0}
        | {"rejected": 0},
        "rows": {"received": fresh + duplicate, "fresh": fresh, "duplicate": duplicate}
        | {"conflict": 0, "stale": 0, "refused": 0},
        "partitions": [],
        "experiments": {
            name: {"counted": count, "outside_window": 0, "excluded": 0, "no_assignment": 0}
            for name, count in counted.items()
        },
        "clickhouse": {"rows": fresh, "missing": 0, "extra": 0},
    } | changes
