"""What the merge worker counts."""

from prometheus_client import Counter, Gauge

from stream_processors.merge.merging import MergedTick

TICKS = Counter("litmus_merge_ticks_total", "Ticks merged over all partitions.")
LOOKS = Counter("litmus_merge_looks_total", "Looks published.")
SKIPPED = Counter("litmus_merge_skipped_looks_total", "Looks that were due and not computed.")
SETTLED = Gauge("litmus_merge_settled_timestamp_seconds", "Settled time of the last merged tick.")


def count(merged: MergedTick) -> None:
    """Count one merged tick."""
    TICKS.inc()
    LOOKS.inc(len(merged.looks))
    SKIPPED.inc(len(merged.skipped))
    SETTLED.set(merged.times.settled_ms / 1_000)
