"""The run as a program reads it: ``.litmus/reports/demo.json``. Pure."""

from collections.abc import Mapping
from typing import Any

from tools.demo.latency import Latency
from tools.demo.results import Results, arms_on, reading_in


def report_of(
    results: Mapping[str, Results], ledger: Mapping[str, Any] | None, latency: Latency
) -> dict[str, Any]:
    """Return the report; it holds what the query API showed, not what it should show."""
    return {
        "campaigns": {campaign: _campaign(one) for campaign, one in results.items()},
        "ledger": ledger,
        "latency_ms": {"p50": latency.p50, "p99": latency.p99},
    }


def _campaign(results: Results) -> dict[str, Any]:
    arms = {variant: arm._asdict() for variant, arm in arms_on(results, "matured").items()}
    reading = reading_in(results)
    if reading is None:
        return arms | {"fixed_horizon": None, "always_valid": None}
    return arms | {
        "fixed_horizon": {"z": reading.z, "p_value": reading.p_value},
        "always_valid": {"low": reading.low, "high": reading.high},
    }
