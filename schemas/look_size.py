"""How large a look may get, known before there is one: a message takes only so much. Pure.

A look says every exact sum twice (``integers`` and ``inputs``) and an entry per metric, variant
and basis; of a histogram it says the counts that are not zero, in base 64. So its size follows from
the definition, but for histograms: how many of their buckets are filled, and how large the counts
are, depends on the data. The constants are for data that fill much of them; a test holds them to
looks at such sums. A look that gets larger all the same is skipped by merge, and said to be.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

LOOK_BYTES_MAX = 4_000_000
"""No look or snapshot is larger, before compression. Their topics, and what produces them, take
four mebibytes; the rest is for the envelope."""

ESTIMATED_BYTES_MAX = 3_600_000
"""An estimate that a definition may have; the rest is for what it says in its own words."""

HEAD_BYTES = 10_000
"""Of a look as a whole."""

GROUP_BYTES = 1_500
"""Of a segment, whatever its metrics are."""

VARIANT_BYTES = 250
"""Of a variant in a look or a segment, whatever its metrics are."""

CONVERSION_BYTES = 1_300
"""Of a conversion, for a variant on one basis: a share has no variance of its own to be told."""

ENTRY_BYTES = 2_600
"""The same of any other kind: sums, effects, always-valid and planned looks, path, verdict."""

SECOND_TOTAL_BYTES = 400
"""More than that, of a ratio or a mean: sums and products of two totals."""

COVARIATE_BYTES = 2_200
"""More than that, with a covariate: its sums and products, an adjusted effect and its path."""

CAP_GRID_BYTES = 4_600
"""More than that, with a cap at a quantile: units, Σ and Σ² at 32 caps."""

UNIT_HISTOGRAM_BYTES = 36_000
"""More than that, of a quantile of units: 2,200 buckets, which is totals from one to three billion
times as much, with up to four billion units in one."""

EVENT_HISTOGRAM_BYTES = 285_000
"""More than that, of a quantile of events: ten million lognormal events of a variant whose
logarithms have a standard deviation of 1 fill 950 buckets of nearly all 64 shards."""

_BASES = 2
_NAMES = 3
_GROUP_NAMES = 8


class MetricShape(Protocol):
    """What the size of a metric depends on."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def of(self) -> str | None: ...
    @property
    def cap(self) -> Any: ...
    @property
    def covariate_days(self) -> int: ...


def metric_bytes(metric: MetricShape) -> int:
    """Return about how many bytes of a look a metric is at most, for a variant on one basis."""
    return _told_bytes(metric) + _counted_bytes(metric)


def _told_bytes(metric: MetricShape) -> int:
    """Return the bytes of its entry, its sums and its path."""
    size = CONVERSION_BYTES if metric.kind == "conversion" else ENTRY_BYTES
    if metric.kind in ("ratio", "mean"):
        size += SECOND_TOTAL_BYTES
    if metric.covariate_days:
        size += COVARIATE_BYTES
        # All products of its totals with two covariates.
        size += 2 * SECOND_TOTAL_BYTES if metric.kind in ("ratio", "mean") else 0
    return size


def _counted_bytes(metric: MetricShape) -> int:
    """Return the bytes of what it is counted by: a histogram, or the classes of a grid of caps."""
    if metric.kind == "quantile":
        return EVENT_HISTOGRAM_BYTES if metric.of == "events" else UNIT_HISTOGRAM_BYTES
    is_grid = metric.cap is not None and not isinstance(metric.cap, int | float)
    return CAP_GRID_BYTES if is_grid else 0


def look_bytes(
    metrics: Iterable[MetricShape],
    variant_ids: Sequence[str],
    segments: Mapping[str, Sequence[str]],
) -> int:
    """Return about how many bytes of JSON a look is at most.

    It is, for all units together and for each segment: both bases, times variants, times the bytes
    of every metric; and what does not depend on metrics. A segment has no path and no planned
    looks, so half of what is told is said there.

    Args:
        metrics: Of the definition.
        variant_ids: Of the definition.
        segments: Values by attribute, ``other`` not among them.
    """
    metrics, count = list(metrics), len(variant_ids)
    names = _NAMES * sum(map(len, variant_ids))
    of_names = _BASES * sum(_NAMES * count * len(one.id) + names for one in metrics)
    of_names += count * VARIANT_BYTES + names
    told = _BASES * count * sum(map(_told_bytes, metrics))
    counted = _BASES * count * sum(map(_counted_bytes, metrics))
    groups = sum(len(values) + 1 for values in segments.values())
    values = sum(len(value.encode()) for values in segments.values() for value in values)
    of_segment = GROUP_BYTES + told // 2 + counted + of_names
    whole = HEAD_BYTES + told + counted + of_names
    return whole + groups * of_segment + _GROUP_NAMES * values
