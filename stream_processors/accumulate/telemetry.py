"""What the accumulate worker shows of itself, read from the state when asked."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from stream_processors.accumulate.agent import LivePartitions
from stream_processors.accumulate.state import CELLS, RECENT_END, RECENT_START, UNITS

OUTCOMES = ("received", "fresh", "duplicate", "conflict", "stale", "refused")


class StateCollector(Collector):
    """Shows the ledger and size of every partition that this process owns."""

    def __init__(self, live: LivePartitions) -> None:
        self._live = live

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they stand now."""
        rows = CounterMetricFamily(
            "litmus_accumulate_rows",
            "Rows by what became of them; received is the sum of the others.",
            labels=["partition", "outcome"],
        )
        offset = GaugeMetricFamily(
            "litmus_accumulate_offset", "Next offset to apply.", labels=["partition"]
        )
        tick = GaugeMetricFamily("litmus_accumulate_tick", "Last tick.", labels=["partition"])
        sizes = GaugeMetricFamily(
            "litmus_accumulate_entries", "Entries of the state.", labels=["partition", "kind"]
        )
        for number, partition in list(self._live.partitions.items()):
            label = str(number)
            state = partition.state
            for outcome, count in zip(OUTCOMES, state.ledger.sum(axis=0).tolist(), strict=True):
                rows.add_metric([label, outcome], count)
            offset.add_metric([label], partition.cursor)
            tick.add_metric([label], partition.tick)
            counts = state.counts
            sizes.add_metric([label, "units"], int(counts[UNITS]))
            sizes.add_metric([label, "cells"], int(counts[CELLS]))
            sizes.add_metric([label, "recent"], int(counts[RECENT_END] - counts[RECENT_START]))
        yield from (rows, offset, tick, sizes)


def show(live: LivePartitions) -> None:
    """Register the metrics of ``live``."""
    REGISTRY.register(StateCollector(live))
