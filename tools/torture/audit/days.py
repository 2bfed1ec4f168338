"""Day totals as the newest checkpoints hold them, against all rows that were ever counted.

What is compared are the days that are kept as of the record: earlier ones are forgotten at some
time, and no unit's covariate can reach them any more.
"""

from collections.abc import Callable
from typing import NamedTuple

from stream_processors.accumulate.records import DAY_COLUMNS, SegmentRecord, decode_columns
from tools.torture.audit.findings import Findings
from tools.torture.audit.partition_fold import PartitionFold
from tools.torture.audit.units import DAY_MS, MAGNITUDE_LIMIT

DAYS = "day totals"
SEGMENT_SHIFT = 60
"""A segment is the top four bits of the unit hash."""

DayKey = tuple[int, int, str, int]
"""The two halves of the unit's hash, name of the metric events, UTC day."""


_STORED_LIMIT = 1 << 42
"""Records bound Σ|q| in units of 2**20."""


class DayTotal(NamedTuple):
    """What a unit's events of one name amount to on one day.

    Attributes:
        total: Σq; None where Σ|q| is too large for exact sums: then no covariate takes it.
        rows: How many.
        positives: Of these, values above 0.
    """

    total: int | None
    rows: int
    positives: int


def stored_days(record: SegmentRecord) -> dict[DayKey, DayTotal]:
    """Return the day totals of a record."""
    columns = decode_columns(record.days, DAY_COLUMNS)
    names = ("unit_high", "unit_low", "metric", "day", "total", "magnitude", "rows", "positives")
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    return {
        (high, low, record.metrics[metric], day): DayTotal(
            total if bound < _STORED_LIMIT else None, count, positives
        )
        for high, low, metric, day, total, bound, count, positives in rows
    }


def comparing_days(
    number: int, found: dict[DayKey, DayTotal], findings: Findings
) -> Callable[[PartitionFold], None]:
    """Return what compares a segment's day totals with a fold that stands at its offset."""

    def compare(fold: PartitionFold) -> None:
        first = {
            entry.name: fold.horizon // DAY_MS - entry.keep_days
            for entry in fold.catalogue.values()
            if entry.keep_days
        }
        wanted = {
            key: total
            for key, total in _expected(fold, number).items()
            if key[3] >= first.get(key[2], key[3] + 1)
        }
        kept = {key: one for key, one in found.items() if key[3] >= first.get(key[2], key[3])}
        findings.count(DAYS, len(wanted))
        for key in wanted.keys() | kept.keys():
            if wanted.get(key) != kept.get(key):
                where = f"partition {fold.number}, segment {number}"
                unit = f"unit {key[0]:016x}{key[1]:016x}, {key[2]} on day {key[3]}"
                line = f"expected {wanted.get(key)}, found {kept.get(key)}"
                findings.differ(DAYS, f"{where}, {unit}: {line}")

    return compare


def _expected(fold: PartitionFold, number: int) -> dict[DayKey, DayTotal]:
    """Return the day totals of a segment's units, from all their rows."""
    values: dict[DayKey, list[float]] = {}
    for unit_hash, rows in fold.imported.items():
        if unit_hash[0] >> SEGMENT_SHIFT == number:
            for name, day, value in rows:
                values.setdefault((*unit_hash, name, day), []).append(value)
    live_from = {
        entry.name: entry.live_from_day for entry in fold.catalogue.values() if entry.keep_days
    }
    for units in fold.units.values():
        for unit in units.values():
            if unit.hash[0] >> SEGMENT_SHIFT != number:
                continue
            for row in unit.measured:
                name, day = row.metric or "", row.timestamp // DAY_MS
                if row.experiment is None and day >= live_from.get(name, day + 1):
                    values.setdefault((*unit.hash, name, day), []).append(row.value)
    return {key: _total(fold, key[2], those) for key, those in values.items()}


def _total(fold: PartitionFold, name: str, values: list[float]) -> DayTotal:
    scale = 10.0 ** fold.catalogue[name].precision
    quanta = [round(value * scale) for value in values]
    is_exact = sum(map(abs, quanta)) < MAGNITUDE_LIMIT
    positives = sum(value > 0 for value in values)
    return DayTotal(sum(quanta) if is_exact else None, len(values), positives)
