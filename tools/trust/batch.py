"""The batch answer in the form of the product's sums, made from values by plain arithmetic."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

from schemas.definitions import CapQuantile, Metric
from stream_processors.merge.questions import questions_of
from stream_processors.merge.totals import totals_from_strings
from stream_processors.stats.buckets import bucket_of
from stream_processors.stats.caps import cap_grid
from stream_processors.stats.sums import CapSums, JointSums, MetricSums
from tools.trust.logs import PRECISION, UnitTotals, experiment


class Compared(NamedTuple):
    """A look held against the batch answer.

    Attributes:
        compared: Integers that were.
        different: How many differ.
    """

    compared: int
    different: int


Integers = dict[str, Any]


def differences(record: dict[str, Any], answer: tuple[list[UnitTotals], int]) -> Compared:
    """Hold the last look of a log, when all units have matured, against the batch answer."""
    units, crossovers = answer
    definition = experiment()
    totals = totals_from_strings(record["integers"], is_final=False)
    found: Integers = {"crossovers": totals.crossovers}
    truth: Integers = {"crossovers": crossovers}
    for place, variant in enumerate(definition.variant_ids):
        found[f"units {variant}"] = totals.units[place]
        truth[f"units {variant}"] = sum(one.variant == variant for one in units)
    for question in questions_of(definition, totals):
        its_segment = question.segment
        where = "" if its_segment is None else f" {its_segment.attribute}={its_segment.value}"
        for variant, sums in zip(definition.variant_ids, question.arms, strict=True):
            its_units = [
                one
                for one in units
                if one.variant == variant and (not where or _segment(one) == its_segment.value)  # type: ignore[union-attr]  # where says so
            ]
            name = f"{question.basis} {question.metric.id} {variant}{where} "
            found |= _named(name, sums)
            truth |= _named(name, sums_of_units(its_units, question.metric))
    keys = found.keys() | truth.keys()
    return Compared(len(keys), sum(found.get(key) != truth.get(key) for key in keys))


def sums_of_units(units: Sequence[UnitTotals], metric: Metric) -> MetricSums:
    """Return what the product must keep of a metric."""
    rows = [_totals_of(one, metric) for one in units]
    kind, cap = metric.kind, metric.cap
    totals = [row[: len(row) // 2] for row in rows]
    width = 2 if kind in ("ratio", "mean") else 1
    covariates = None
    if metric.covariate_days:
        known = [row for row in rows if None not in row]
        covariates = _joint(known, 2 * width)
    caps: tuple[CapSums, ...] | None = None
    histogram = shards = None
    if isinstance(cap, float):
        caps = (_capped([sum(one.values) for one in units], _fixed_cap(cap)),)
    if isinstance(cap, CapQuantile):
        caps = tuple(_capped([one for (one,) in totals], limit) for limit in cap_grid(PRECISION))
    if kind == "quantile" and metric.of == "units":
        histogram = dict(Counter(bucket_of(one) for (one,) in totals))
    if kind == "quantile" and metric.of == "events":
        shards = (dict(Counter(bucket_of(value) for one in units for value in one.values)),)
    return MetricSums(_joint(totals, width), covariates, caps, histogram, shards)


def _totals_of(unit: UnitTotals, metric: Metric) -> tuple[Any, ...]:
    """Return a unit's totals, and then the same before its entry; None: it has no history."""
    match metric.kind:
        case "conversion":
            after: tuple[Any, ...] = (int(any(value > 0 for value in unit.values)),)
            before: tuple[Any, ...] = (None,)
        case "count":
            after, before = (len(unit.values),), (None,)
        case "quantile" if metric.of == "events":
            after, before = (len(unit.values),), (None,)
        case "mean":
            after, before = (sum(unit.values), len(unit.values)), (None, None)
        case "ratio":
            after = (sum(unit.values), unit.views)
            is_known = unit.before is not None or unit.views_before is not None
            before = (unit.before or 0, unit.views_before or 0) if is_known else (None, None)
        case _:
            after, before = (sum(unit.values),), (unit.before,)
    if isinstance(metric.cap, float):
        after = (min(after[0], _fixed_cap(metric.cap)),)
    return after + before


def _joint(rows: Sequence[tuple[Any, ...]], width: int) -> JointSums:
    pairs = list(combinations_with_replacement(range(width), 2))
    return JointSums(
        len(rows),
        tuple(sum(row[i] for row in rows) for i in range(width)),
        tuple(sum(row[i] * row[j] for row in rows) for i, j in pairs),
    )


def _capped(totals: Sequence[int], cap: int) -> CapSums:
    kept = [min(one, cap) for one in totals]
    return CapSums(sum(one > cap for one in totals), sum(kept), sum(one * one for one in kept))


def _fixed_cap(cap: float) -> int:
    return round(cap * 10**PRECISION)


def _segment(unit: UnitTotals) -> str:
    return unit.country if unit.country in ("CA", "US") else "other"


def _named(name: str, sums: MetricSums) -> Integers:
    """Return every integer under a name of its own; zero counts of buckets are none."""
    integers: Integers = _named_joint(f"{name}total", sums.total)
    if sums.covariates is not None:
        integers |= _named_joint(f"{name}covariates", sums.covariates)
    for index, cap in enumerate(sums.caps or ()):
        integers |= {f"{name}cap {index} {field}": one for field, one in cap._asdict().items()}
    for label, counts in (("units", sums.histogram), ("events", _pooled(sums.shards))):
        integers |= {f"{name}{label} {bucket}": n for bucket, n in (counts or {}).items() if n}
    return integers


def _named_joint(name: str, sums: JointSums) -> Integers:
    return {f"{name} n": sums.unit_count} | {
        f"{name} {label}{index}": one
        for label, values in (("sum", sums.sums), ("product", sums.products))
        for index, one in enumerate(values)
    }


def _pooled(shards: Sequence[dict[int, int]] | None) -> dict[int, int]:
    """Return the counts over all shards; which shard a unit is in hangs on its hash."""
    pooled: Counter[int] = Counter()
    for shard in shards or ():
        pooled.update(shard)
    return dict(pooled)
