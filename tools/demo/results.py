"""Finds its way in a results object, and holds it to what the data say. Pure."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tools.demo.campaigns import METRIC, Arm, Reading, reading_of
from tools.demo.schedule import Schedule

TOLERANCE = 1e-9
"""Counts are compared exactly, floats computed by another formula to this."""

Results = Mapping[str, Any]
Arms = Mapping[str, Arm]


def metric_on(results: Results, basis: str) -> dict[str, Any] | None:
    """Return the demo's metric on ``matured`` or ``open`` basis, None where there is none yet."""
    for metric in results.get("metrics") or []:
        if metric["metric_id"] == METRIC and metric["basis"] == basis:
            return dict(metric)
    return None


def matured_effect(results: Results) -> dict[str, Any] | None:
    """Return the effect that decides, None where there is none yet."""
    metric = metric_on(results, "matured")
    return metric["effects"][0] if metric and metric["effects"] else None


def arms_on(results: Results, basis: str) -> dict[str, Arm]:
    """Return units and conversions by variant, empty where there are none yet."""
    metric = metric_on(results, basis)
    if metric is None:
        return {}
    return {one["variant"]: Arm(one["units"], one["total"]) for one in metric["variants"]}


def reading_in(results: Results) -> Reading | None:
    """Return what the look says of the effect by itself; None while it is warming up."""
    effect = matured_effect(results)
    absolute = effect.get("absolute") if effect else None
    if not absolute or not absolute.get("always_valid") or not absolute.get("fixed_horizon"):
        return None
    fixed, interval = absolute["fixed_horizon"], absolute["always_valid"]
    return Reading(fixed["statistic"], fixed["p_value"], interval["low"], interval["high"])


def fixed_p_value_in(results: Results) -> float | None:
    """Return the fixed-horizon p-value, which is there before the burn-in too."""
    effect = matured_effect(results)
    fixed = effect["absolute"].get("fixed_horizon") if effect and effect.get("absolute") else None
    return fixed["p_value"] if fixed else None


def count_differences(campaign: str, results: Results | None, truth: Arms) -> Iterator[str]:
    """Yield in what the counts of a campaign are not those of the data."""
    if results is None:
        yield f"{campaign}: no results"
        return
    assigned = {one["variant"]: one["units"] for one in results.get("variants") or []}
    for variant, arm in truth.items():
        if assigned.get(variant) != arm.units:
            yield f"{campaign}: {assigned.get(variant)} units in {variant}, must be {arm.units}"
    if results.get("crossovers") != 0:
        yield f"{campaign}: {results.get('crossovers')} crossovers, must be 0"
    for basis in ("matured", "open"):
        counted = arms_on(results, basis)
        for variant, arm in truth.items():
            if counted.get(variant) != arm:
                found = tuple(counted[variant]) if variant in counted else None
                yield (
                    f"{campaign}: {basis} units and conversions of {variant} are {found}, "
                    f"must be {tuple(arm)}"
                )


def reading_differences(campaign: str, results: Results | None, truth: Arms) -> Iterator[str]:
    """Yield in what the statistics of a campaign are not those of the data."""
    reading = reading_in(results) if results is not None else None
    if reading is None:
        yield f"{campaign}: no estimate"
        return
    for name, found, expected in zip(Reading._fields, reading, reading_of(truth), strict=True):
        if found is None or not math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{campaign}: {name} is {found}, must be {expected}"


def ledger_differences(
    ledger: Mapping[str, Any] | None, schedule: Schedule, resent_events: int = 0
) -> Iterator[str]:
    """Yield in what the ledger is not that of the schedule.

    An event that was sent again because an answer was missing may or may not have been received
    the first time: up to ``resent_events`` more duplicates are right.
    """
    if ledger is None:
        yield "ledger: no answer"
        return
    rows = ledger["rows"]
    repeated = schedule.repeated_count
    if rows["fresh"] != schedule.fresh_count:
        yield f"ledger: {rows['fresh']} fresh rows, must be {schedule.fresh_count}"
    if not repeated <= rows["duplicate"] <= repeated + resent_events:
        yield f"ledger: {rows['duplicate']} duplicates, must be {repeated}"
    for name in ("conflict", "stale", "refused"):
        if rows[name]:
            yield f"ledger: {rows[name]} {name} rows, must be 0"
    for name in ("late", "rejected"):
        if ledger["doors"][name]:
            yield f"ledger: {ledger['doors'][name]} {name} events, must be 0"
    for name in ("missing", "extra"):
        if ledger["clickhouse"][name]:
            yield f"ledger: {ledger['clickhouse'][name]} rows {name} in ClickHouse, must be 0"
    if not ledger["balanced"]:
        yield "ledger: not balanced"


def differences(
    results: Mapping[str, Results],
    ledger: Mapping[str, Any] | None,
    *,
    truth: Mapping[str, Arms],
    schedule: Schedule,
    resent_events: int = 0,
) -> list[str]:
    """Return in what the platform's numbers are not those of the data; empty: nothing."""
    found: list[str] = []
    for campaign, arms in truth.items():
        found += count_differences(campaign, results.get(campaign), arms)
        found += reading_differences(campaign, results.get(campaign), arms)
    found += ledger_differences(ledger, schedule, resent_events)
    return found


def are_stopped(results: Mapping[str, Results], truth: Mapping[str, Arms]) -> bool:
    """Return whether the results of every campaign say that its experiment has stopped."""
    return all(results.get(campaign, {}).get("status") == "stopped" for campaign in truth)
