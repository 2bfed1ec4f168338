"""What every Faust worker shows of its consumer group and of how far it is behind."""

from collections.abc import Iterator
from typing import Any

import faust
from faust.types import TP
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

REBALANCES = Counter(
    "litmus_worker_rebalances", "Times that the group gave this process its partitions, or none."
)


class GroupCollector(Collector):
    """Shows what a worker owns and how far behind it is, read when asked."""

    def __init__(self, app: faust.App) -> None:
        self._app = app

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they stand now."""
        rebalancing = GaugeMetricFamily(
            "litmus_worker_rebalancing", "1 while the group hands out partitions anew."
        )
        rebalancing.add_metric([], float(self._app.rebalancing))
        assigned = GaugeMetricFamily(
            "litmus_worker_assigned_partitions",
            "Source partitions of this process; 0 on one that stands by.",
        )
        lag = GaugeMetricFamily(
            "litmus_worker_lag_messages",
            "Messages of a source partition that this process has not applied yet.",
            labels=["topic", "partition"],
        )
        owned = list(self._owned())
        assigned.add_metric([], len(owned))
        for tp, cursor in owned:
            end = self._app.consumer.highwater(tp)
            if cursor is not None and end is not None:
                lag.add_metric([tp.topic, str(tp.partition)], max(0, end - cursor))
        yield from (rebalancing, assigned, lag)

    def _owned(self) -> Iterator[tuple[TP, int | None]]:
        consumer: Any = self._app.consumer if self._app.started else None
        if consumer is None:
            return
        sources, _, cursor = self._app.tables.seeks
        for tp in sorted(consumer.assignment()):
            if tp.topic in sources:
                yield tp, cursor(tp)


def show(app: faust.App) -> None:
    """Register the metrics of ``app``'s group."""

    @app.on_partitions_assigned.connect(weak=False)  # type: ignore[untyped-decorator]
    async def count(_app: faust.App, _assigned: object, **_: object) -> None:
        REBALANCES.inc()

    REGISTRY.register(GroupCollector(app))
