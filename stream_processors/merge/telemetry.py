"""What the merge worker counts."""

import time
from collections.abc import Callable, Iterator

from prometheus_client import Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from stream_processors.merge.merging import MergedTick, Merger, SkipCode

TICKS = Counter("litmus_merge_ticks_total", "Ticks merged over all partitions.")
LOOKS = Counter("litmus_merge_looks_total", "Looks published.")
SKIPPED = Counter(
    "litmus_merge_skipped_looks_total", "Looks that were due and not published.", ["reason"]
)
for _code in SkipCode:
    SKIPPED.labels(_code)
SETTLED = Gauge("litmus_merge_settled_timestamp_seconds", "Settled time of the last merged tick.")


def count(merged: MergedTick) -> None:
    """Count one merged tick."""
    TICKS.inc()
    LOOKS.inc(len(merged.looks))
    for skipped in merged.skipped:
        SKIPPED.labels(skipped.code).inc()
    SETTLED.set(merged.times.settled_ms / 1_000)


class LookCollector(Collector):
    """Shows how old the looks of this process are, read when asked; nothing while it stands by.

    Args:
        merger: Returns what merges here; None on a process that stands by.
        now_ms: The wall clock.
    """

    def __init__(self, merger: Callable[[], Merger | None], now_ms: Callable[[], int]) -> None:
        self._merger = merger
        self._now_ms = now_ms

    def collect(self) -> Iterator[Metric]:
        """Yield the metric as it stands now."""
        age = GaugeMetricFamily(
            "litmus_merge_look_age_seconds",
            "Age of the newest merged tick: no look that is published is newer.",
        )
        merger = self._merger()
        if merger is not None and merger.tick > 0:
            age.add_metric([], (self._now_ms() - merger.times.log_ms) / 1_000)
        yield age


class WaitingCollector(Collector):
    """Shows what waits for partitions that have not reported; nothing while it stands by.

    Args:
        merger: Returns what merges here; None on a process that stands by.
    """

    def __init__(self, merger: Callable[[], Merger | None]) -> None:
        self._merger = merger

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they stand now."""
        behind = GaugeMetricFamily(
            "litmus_merge_behind_ticks",
            "Ticks that a partition has not reported and another has: looks wait for the most.",
            labels=["partition"],
        )
        held = GaugeMetricFamily(
            "litmus_merge_waiting_bytes",
            "Bytes of reports held in memory until all partitions have reported.",
        )
        merger = self._merger()
        if merger is not None:
            waiting = merger.waiting()
            for partition, ticks in enumerate(waiting.ticks):
                behind.add_metric([str(partition)], ticks)
            held.add_metric([], waiting.bytes)
        yield behind
        yield held


def show(merger: Callable[[], Merger | None]) -> None:
    """Register the age of the looks that ``merger`` makes, and what waits in it."""
    REGISTRY.register(LookCollector(merger, lambda: time.time_ns() // 1_000_000))
    REGISTRY.register(WaitingCollector(merger))
