"""Sums of metrics as partials carry them, added over partitions, and as looks write them down."""

import base64
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.definitions import CapQuantile, Definition, Metric
from schemas.partials import histogram_from_bytes, histogram_to_bytes, integers_from_bytes
from stream_processors.stats.cap_grid import cap_grid
from stream_processors.stats.sums import CapSums, JointSums, MetricSums, no_sums

OfMetrics = tuple[tuple[MetricSums, ...], ...]
"""Per metric, per variant, in the order of the definition."""

SHARDS = 64

_DIMENSIONS = {1 + k + k * (k + 1) // 2: k for k in (1, 2, 4)}
"""How many totals a unit has, by how many integers their sums are."""

Caps = tuple[CapSums, ...]


class Columns(NamedTuple):
    """What a partition reported of one basis, per metric: see ``ExperimentSums``."""

    totals: Sequence[bytes]
    covariates: Sequence[bytes]
    capped: Sequence[bytes]
    histograms: Sequence[Sequence[bytes]]

    def of_metric(self, number: int) -> "Reported":
        """Return what was reported of a metric; nothing of one that was added since."""
        if number >= len(self.totals):
            return Reported(b"", b"", b"", ())
        return Reported(
            self.totals[number],
            self.covariates[number] if number < len(self.covariates) else b"",
            self.capped[number] if number < len(self.capped) else b"",
            self.histograms[number] if number < len(self.histograms) else (),
        )


class Reported(NamedTuple):
    """What was reported of one metric and basis."""

    totals: bytes
    covariates: bytes
    capped: bytes
    histograms: Sequence[bytes]


def no_metric_sums(metric: Metric) -> MetricSums:
    """Return the sums over no units, in the shape of a metric."""
    dimension = 2 if metric.kind in ("ratio", "mean") else 1
    is_quantile, of_events = metric.kind == "quantile", metric.of == "events"
    return MetricSums(
        no_sums(dimension),
        no_sums(2 * dimension) if metric.covariate_days and not is_quantile else None,
        None if metric.cap is None else (CapSums(0, 0, 0),) * len(_caps_of(metric)),
        {} if is_quantile and not of_events else None,
        tuple({} for _ in range(SHARDS)) if is_quantile and of_events else None,
    )


def emptied_metrics(metrics: OfMetrics) -> OfMetrics:
    """Return the sums over no units, in the shapes of these."""
    return tuple(tuple(_emptied(one) for one in metric) for metric in metrics)


def _emptied(sums: MetricSums) -> MetricSums:
    covariates, caps, shards = sums.covariates, sums.caps, sums.shards
    return MetricSums(
        no_sums(sums.total.dimension),
        None if covariates is None else no_sums(covariates.dimension),
        None if caps is None else (CapSums(0, 0, 0),) * len(caps),
        None if sums.histogram is None else {},
        None if shards is None else tuple({} for _ in shards),
    )


def metrics_of(definition: Definition, parts: Sequence[Columns]) -> OfMetrics:
    """Return the sums of every metric and variant over all partitions.

    What was not reported is zero. Integers are added as they stand in the reports, one after the
    other, and get their shape when they are added: shapes cost more than sums.

    Args:
        definition: Of the experiment.
        parts: What partitions reported of one basis; no unit may be in two of them.

    Raises:
        ValueError: If they are not of as many variants as there are.
    """
    variants = len(definition.variants)
    return tuple(
        _metric_of(metric, [columns.of_metric(number) for columns in parts], variants)
        for number, metric in enumerate(definition.metrics)
    )


def _metric_of(metric: Metric, parts: Sequence[Reported], variants: int) -> tuple[MetricSums, ...]:
    nothing = no_metric_sums(metric)
    totals = _added_integers(one.totals for one in parts)
    if not totals:
        return (nothing,) * variants
    found = [nothing._replace(total=one) for one in _joint_sums(totals, variants)]
    covariates = _added_integers(one.covariates for one in parts)
    if covariates:
        joint = _joint_sums(covariates, variants)
        found = [one._replace(covariates=its) for one, its in zip(found, joint, strict=True)]
    capped = _added_integers(one.capped for one in parts)
    if capped:
        width = len(capped) // variants
        found = [
            one._replace(caps=_capped(metric, one, capped[width * at : width * (at + 1)]))
            for at, one in enumerate(found)
        ]
    histograms = [one.histograms for one in parts if one.histograms]
    if histograms:
        found = [
            _with_histograms(one, values)
            for one, values in zip(found, zip(*histograms, strict=True), strict=True)
        ]
    return tuple(found)


def _added_integers(values: Iterable[bytes]) -> list[int]:
    """Return the sums, integer by integer, of those that are there."""
    rows = [integers_from_bytes(value) for value in values if value]
    return rows[0] if len(rows) == 1 else list(map(sum, zip(*rows, strict=True)))


def _joint_sums(integers: Sequence[int], variants: int) -> list[JointSums]:
    width = len(integers) // variants
    if width not in _DIMENSIONS or width * variants != len(integers):
        raise ValueError(f"sums of {len(integers)} integers, must be of {variants} variants")
    return [_joint(integers[at : at + width]) for at in range(0, len(integers), width)]


def _joint(integers: Sequence[int]) -> JointSums:
    dimension = _DIMENSIONS[len(integers)]
    sums, products = integers[1 : 1 + dimension], integers[1 + dimension :]
    return JointSums(integers[0], tuple(sums), tuple(products))


# --- caps ---


def _caps_of(metric: Metric) -> tuple[int, ...]:
    """Return the caps that sums are kept for; of a fixed one only that there is one."""
    if isinstance(metric.cap, CapQuantile):
        return cap_grid(0 if metric.kind == "count" else metric.precision)
    return (0,)


def _capped(metric: Metric, sums: MetricSums, integers: Sequence[int]) -> Caps:
    """Return what caps make of one variant's totals.

    Under a fixed cap the sums are of capped totals already. Of a grid the totals are reported in
    classes, up to each cap and above the one before it: those above a cap count for the cap.
    """
    total = sums.total
    if not isinstance(metric.cap, CapQuantile):
        return (CapSums(integers[0], total.sums[0], total.products[0]),)
    above, sum_q, sum_squares_q = total.unit_count, 0, 0
    found = []
    for cap, at in zip(_caps_of(metric), range(0, len(integers), 3), strict=False):
        above -= integers[at]
        sum_q += integers[at + 1]
        sum_squares_q += integers[at + 2]
        found.append(CapSums(above, sum_q + above * cap, sum_squares_q + above * cap * cap))
    return tuple(found)


# --- histograms ---


def _with_histograms(sums: MetricSums, values: Iterable[bytes]) -> MetricSums:
    """Return ``sums`` with the sum of histograms of units, or of events by shard."""
    added: tuple[dict[int, int], ...] = ({},)
    for value in values:
        width, buckets, shards, counts = histogram_from_bytes(value)
        if width > len(added):
            added = tuple({} for _ in range(width))
        rows = zip(buckets.tolist(), shards.tolist(), counts.tolist(), strict=True)
        for bucket, shard, count in rows:
            histogram = added[shard]
            histogram[bucket] = histogram.get(bucket, 0) + count
    return sums._replace(histogram=added[0]) if len(added) == 1 else sums._replace(shards=added)


def _histogram_bytes(sums: MetricSums) -> bytes:
    shards = sums.shards if sums.shards is not None else (sums.histogram or {},)
    buckets = sorted(set().union(*shards))
    first = buckets[0] if buckets else 0
    counts: NDArray[np.int64] = np.zeros(
        (buckets[-1] - first + 1 if buckets else 0, len(shards)), np.int64
    )
    for shard, histogram in enumerate(shards):
        for bucket, count in histogram.items():
            counts[bucket - first, shard] = count
    return histogram_to_bytes(counts, first)


# --- looks ---


def metrics_to_strings(basis: str, metrics: OfMetrics) -> dict[str, Any]:
    """Return the sums of one basis with every integer in decimal, histograms in base 64."""
    written: dict[str, Any] = {
        basis: [[_strings(one.total) for one in metric] for metric in metrics],
        f"{basis}_covariates": [
            [_strings(one.covariates) for one in metric if one.covariates is not None]
            for metric in metrics
        ],
    }
    if any(one.caps is not None for metric in metrics for one in metric):
        written[f"{basis}_caps"] = [
            [[list(map(str, cap)) for cap in one.caps] for one in metric if one.caps is not None]
            for metric in metrics
        ]
    if any(_has_histogram(one) for metric in metrics for one in metric):
        written[f"{basis}_histograms"] = [
            [
                base64.b64encode(_histogram_bytes(one)).decode()
                for one in metric
                if _has_histogram(one)
            ]
            for metric in metrics
        ]
    return written


def metrics_from_strings(basis: str, written: dict[str, Any]) -> OfMetrics:
    """Return the sums that ``metrics_to_strings`` wrote down."""
    found = []
    for number, metric in enumerate(written[basis]):
        sums = [MetricSums(_joint(list(map(int, one)))) for one in metric]
        for at, one in enumerate(written[f"{basis}_covariates"][number]):
            sums[at] = sums[at]._replace(covariates=_joint(list(map(int, one))))
        for at, caps in enumerate(_column(written, f"{basis}_caps", number)):
            sums[at] = sums[at]._replace(caps=tuple(CapSums(*map(int, cap)) for cap in caps))
        for at, text in enumerate(_column(written, f"{basis}_histograms", number)):
            sums[at] = _with_histograms(sums[at], [base64.b64decode(text)])
        found.append(tuple(sums))
    return tuple(found)


def _column(written: dict[str, Any], name: str, number: int) -> list[Any]:
    column: list[list[Any]] = written.get(name, [])
    return column[number] if column else []


def _has_histogram(sums: MetricSums) -> bool:
    return sums.histogram is not None or sums.shards is not None


def _strings(sums: JointSums) -> list[str]:
    return [str(one) for one in (sums.unit_count, *sums.sums, *sums.products)]
