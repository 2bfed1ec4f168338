"""What the accumulate worker shows of itself, read from the state when asked."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from stream_processors.accumulate.agent import LivePartitions
from stream_processors.accumulate.auditing import LiveAudit
from stream_processors.accumulate.imported import Imported
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.state import CELLS, RECENT_END, RECENT_START, UNITS

OUTCOMES = ("received", "fresh", "duplicate", "conflict", "stale", "refused")


class StateCollector(Collector):
    """Shows ledger, size and checkpoints of every partition that this process owns."""

    def __init__(self, live: LivePartitions, audit: LiveAudit) -> None:
        self._live = live
        self._audit = audit

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they stand now."""
        owned = sorted(self._live.partitions.items())
        yield _rows(owned)
        yield _entries(owned)
        yield _bytes(owned)
        yield from _progress(owned)
        yield self._ids_max()
        yield from _imports(owned, self._live.imported)
        yield from self._checkpoints([number for number, _ in owned])
        yield from self._audits()

    def _checkpoints(self, numbers: list[int]) -> Iterator[Metric]:
        age = GaugeMetricFamily(
            "litmus_accumulate_checkpoint_age_seconds",
            "Time since the broker last acknowledged a checkpoint of a partition, or since it came"
            " to this process.",
            labels=["partition"],
        )
        size = CounterMetricFamily(
            "litmus_accumulate_checkpoint_bytes",
            "Bytes of checkpoints that the broker acknowledged.",
            labels=["partition"],
        )
        for number in numbers:
            written = self._live.written(number)
            if written is not None:
                age.add_metric([str(number)], written.age_s)
                size.add_metric([str(number)], written.byte_count)
        yield from (age, size)

    def _ids_max(self) -> Metric:
        ids_max = GaugeMetricFamily(
            "litmus_accumulate_ids_max",
            "Recent entries that this process may have, all partitions together; beyond it stops.",
        )
        ids_max.add_metric([], self._live.ids.maximum)
        return ids_max

    def _audits(self) -> Iterator[Metric]:
        audits = CounterMetricFamily(
            "litmus_accumulate_audits", "Times that the live sums were held to a fold."
        )
        audits.add_metric([], self._audit.audit_count)
        differences = CounterMetricFamily(
            "litmus_accumulate_audit_differences", "Sums that were not the fold of their cells."
        )
        differences.add_metric([], self._audit.difference_count)
        yield from (audits, differences)


Owned = list[tuple[int, Partition]]

NOTHING_IMPORTED = Imported()


def _rows(owned: Owned) -> Metric:
    rows = CounterMetricFamily(
        "litmus_accumulate_rows",
        "Rows by what became of them; received is the sum of the others.",
        labels=["partition", "outcome"],
    )
    for number, partition in owned:
        counts = partition.state.ledger.sum(axis=0).tolist()
        for outcome, count in zip(OUTCOMES, counts, strict=True):
            rows.add_metric([str(number), outcome], count)
    return rows


def _entries(owned: Owned) -> Metric:
    entries = GaugeMetricFamily(
        "litmus_accumulate_entries",
        "Entries of the state; recent: ids and events within the horizon.",
        labels=["partition", "kind"],
    )
    for number, partition in owned:
        counts = partition.state.counts
        for kind, count in (
            ("units", counts[UNITS]),
            ("cells", counts[CELLS]),
            ("recent", counts[RECENT_END] - counts[RECENT_START]),
        ):
            entries.add_metric([str(number), kind], int(count))
    return entries


def _bytes(owned: Owned) -> Metric:
    size = GaugeMetricFamily(
        "litmus_accumulate_state_bytes", "Bytes of state in use.", labels=["partition"]
    )
    for number, partition in owned:
        size.add_metric([str(number)], sum(partition.memory().values()))
    return size


def _progress(owned: Owned) -> Iterator[Metric]:
    of_partition = ["partition"]
    offset = GaugeMetricFamily(
        "litmus_accumulate_offset", "Next offset to apply.", labels=of_partition
    )
    tick = GaugeMetricFamily("litmus_accumulate_tick", "Last tick.", labels=of_partition)
    live = GaugeMetricFamily(
        "litmus_accumulate_live",
        "1 once a partition has caught up with its checkpoints and reports sums.",
        labels=of_partition,
    )
    for number, partition in owned:
        offset.add_metric([str(number)], partition.cursor)
        tick.add_metric([str(number)], partition.tick)
        live.add_metric([str(number)], float(partition.is_live))
    yield from (offset, tick, live)


def _imports(owned: Owned, imported: Mapping[int, Imported]) -> Iterator[Metric]:
    rows = CounterMetricFamily(
        "litmus_accumulate_imported_rows",
        "Rows of imports that were applied; too_old: of days before those that are kept.",
        labels=["partition", "outcome"],
    )
    ignored = CounterMetricFamily(
        "litmus_accumulate_ignored_import_parts",
        "Parts of imports that were not the next one: sent again, or by a gateway that had lost.",
        labels=["partition"],
    )
    for number, partition in owned:
        ignored.add_metric([str(number)], partition.ignored_imports)
        counts = imported.get(number, NOTHING_IMPORTED)
        rows.add_metric([str(number), "kept"], counts.kept_count)
        rows.add_metric([str(number), "too_old"], counts.too_old_count)
    yield from (rows, ignored)


def show(live: LivePartitions, audit: LiveAudit) -> None:
    """Register the metrics of ``live``."""
    REGISTRY.register(StateCollector(live, audit))
