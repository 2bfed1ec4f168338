"""What the control worker counts."""

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from schemas.control import Outcome

TICKS = Counter("litmus_control_ticks_total", "Valid control records read, each one a tick.")
IGNORED = Counter(
    "litmus_control_ignored_records_total", "Records of writers that had lost; they do no harm."
)
TICK_INTERVAL = Histogram(
    "litmus_control_tick_interval_seconds",
    "Time between two ticks; five a second are meant.",
    buckets=(0.05, 0.1, 0.15, 0.19, 0.21, 0.25, 0.3, 0.5, 1, 2, 5, 10, 30),
)
COMMANDS = Counter("litmus_control_commands_total", "Commands taken in.", ["outcome"])
LOW_WATER = Gauge(
    "litmus_control_low_water_timestamp_seconds",
    "Up to when the Kafka doors have taken a source in.",
    ["source"],
)
SETTLED_LAG = Gauge(
    "litmus_control_settled_lag_seconds", "How far the settled time is behind log time."
)
MISSING_SNAPSHOTS = Counter(
    "litmus_control_missing_snapshots_total",
    "Snapshots left out of the control log as too large; without them a start takes longer.",
)
UNREADABLE_MARKS = Counter("litmus_control_unreadable_marks_total", "Marks that were none.")


def count_commands(outcomes: Iterable[Outcome]) -> None:
    """Count what became of commands, by code."""
    for outcome in outcomes:
        COMMANDS.labels(outcome.code or "done").inc()


def show_low_waters(low_waters_ms: dict[str, int]) -> None:
    """Show up to when each source is taken in."""
    for source, low_water_ms in low_waters_ms.items():
        LOW_WATER.labels(source).set(low_water_ms / 1_000)
