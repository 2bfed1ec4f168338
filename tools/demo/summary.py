"""The end of the demo in words: what two readers conclude, and why they differ. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from tools.demo.campaigns import ALPHA, TITLES, Arm, Reading, critical_value
from tools.demo.latency import Latency
from tools.demo.schedule import Schedule
from tools.demo.watching import Path

_FIXED_CRITICAL_VALUE = 1.96


def verdict(reading: Reading) -> tuple[str, str]:
    """Return what the fixed-horizon reader and the always-valid reader conclude."""
    winner = "bts" if reading.z > 0 else "random"
    fixed = f"below {ALPHA}: “{winner} wins”" if reading.is_significant else "no difference shown"
    if reading.excludes_zero:
        always = f"excludes 0: {'bts' if reading.low > 0 else 'random'} wins, whenever one looks"
    else:
        always = "contains 0: undecided"
    return fixed, always


def why(reading: Reading, path: Path) -> str:
    """Return why the two readers agree or not, given what was there to be seen on the way."""
    seen = _seen(path)
    if reading.is_significant and not reading.excludes_zero:
        return (
            f"They differ. A p-value keeps its promise ({ALPHA:.0%} false alarms) at one look, "
            f"fixed beforehand. {seen}; a reader who stops at the first p-value below {ALPHA} has "
            "had that many chances to be wrong. The always-valid interval holds at all looks at "
            "once and pays for it with width."
        )
    if reading.is_significant:
        return f"They agree, and the second may be trusted at every look. {seen}."
    if reading.excludes_zero:
        return f"They differ: the interval decides where the p-value does not. {seen}."
    if path.significant_looks:
        return (
            f"They agree at the end, not on the way. {seen}: whoever stopped there would have "
            "reported a difference that the whole week does not show."
        )
    return f"They agree: clicks are too few to tell the policies apart. {seen}."


def _seen(path: Path) -> str:
    looks = f"{path.looks:,} looks with a p-value" if path.looks != 1 else "1 look with a p-value"
    return (
        f"Of {looks} in this run, {path.significant_looks:,} showed p < {ALPHA}, "
        f"{path.excluding_looks:,} an always-valid interval without 0"
    )


def campaign_summary(
    campaign: str, arms: Mapping[str, Arm], reading: Reading, path: Path
) -> Iterator[tuple[str, str]]:
    """Yield the summary of one campaign as pairs of a label and a text."""
    control, treatment = arms["control"], arms["treatment"]
    fixed, always = verdict(reading)
    count = control.units + treatment.units
    yield (
        TITLES[campaign],
        ", ".join(
            [
                f"random {control.conversions} clicks of {control.units:,} ({control.rate:.2%})",
                f"bts {treatment.conversions} of {treatment.units:,} ({treatment.rate:.2%})",
                f"difference {points(treatment.rate - control.rate)}",
            ]
        ),
    )
    yield "fixed horizon", f"z {reading.z:.3f}, p {reading.p_value:.3f}: {fixed}"
    width = f"± {critical_value(count):.2f} standard errors, not {_FIXED_CRITICAL_VALUE}"
    interval = f"{points(reading.low)} … {points(reading.high)}"
    yield "always valid", f"{interval} ({width}): {always}"
    yield "why", why(reading, path)


def points(difference: float) -> str:
    """Return a difference of two rates in percentage points."""
    return f"{difference * 100:+.3f} pp"


def ledger_summary(ledger: Mapping[str, Any], schedule: Schedule) -> str:
    """Return what became of everything that was sent, and of what was sent twice."""
    rows, clickhouse = ledger["rows"], ledger["clickhouse"]
    return (
        f"{rows['received']:,} rows received = {rows['fresh']:,} counted + "
        f"{rows['duplicate']:,} duplicates + {rows['conflict'] + rows['stale'] + rows['refused']} "
        f"others. {schedule.repeated_count:,} events were sent twice on purpose; the ledger names "
        f"them and no result holds them. ClickHouse: {clickhouse['rows']:,} rows, "
        f"{clickhouse['missing']} missing, {clickhouse['extra']} extra."
    )


def latency_summary(latency: Latency) -> str:
    """Return how long an accepted event took to be readable."""
    if not latency.requests:
        return "not measured: no look was read after an answer"
    return (
        f"from the 202 to the look that holds all events of the request: p50 {latency.p50:.0f} ms, "
        f"p99 {latency.p99:.0f} ms, of {latency.requests:,} requests"
    )
