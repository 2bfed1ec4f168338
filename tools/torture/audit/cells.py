"""Cells of units as the newest checkpoints hold them, against the reference at their own offsets.

The records' bytes are decoded by the format's own module; nothing else of the engine is used.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from stream_processors.accumulate.records import (
    SEGMENT,
    SEGMENT_COLUMNS,
    SegmentRecord,
    decode_columns,
    decode_key,
    read_record,
)
from tools.torture.audit.days import DayKey, DayTotal, stored_days
from tools.torture.audit.findings import Findings
from tools.torture.audit.partition_fold import PartitionFold
from tools.torture.audit.rules import CONVERSION, COUNT, NEVER, SUM, Rules
from tools.torture.audit.units import MAGNITUDE_LIMIT, NOWHERE, Cell

CELLS = "cells"
SEGMENT_SHIFT = 60
"""A segment is the top four bits of the unit hash."""

_STORED_NEVER = (1 << 63) - 1
_STORED_LIMIT = 1 << 42
"""Records bound Σ|q| in units of 2**20."""

_WORDS = {CONVERSION: 1, COUNT: 1, SUM: 2}
_COVARIATE_WORDS = 3

CellKey = tuple[int, int, int]
"""Ordinal of the experiment, the two halves of the unit's hash."""

LEFT = "left the metric"
"""Stands for the total of a unit whose magnitude reached the limit."""

Total = int | str | None


class StoredCell(NamedTuple):
    """A cell: what is compared of it. Of the event's hash a record holds the upper half.

    Attributes:
        totals: Per metric; of a covariate, which follows its metric, None where there is none.
    """

    variant: int
    entry: int
    entry_hash: int
    other: int
    counted: int
    outside: int
    totals: tuple[Total, ...]


class StoredSegment(NamedTuple):
    """The newest whole record of a segment.

    Attributes:
        number: Of the segment.
        offset: First source offset that is not in it.
        cells: By experiment and unit, their totals still the words of the format.
        days: Day totals.
    """

    number: int
    offset: int
    cells: dict[CellKey, StoredCell]
    days: dict[DayKey, DayTotal]


def read_segments(records: Iterable[tuple[bytes, bytes | None]]) -> list[StoredSegment]:
    """Return the newest record of every segment in one partition's changelog."""
    kept: dict[bytes, bytes] = {}
    for encoded, record in records:
        if record is None:
            kept.pop(encoded, None)
        else:
            kept[encoded] = record
    parts: dict[tuple[int, int], dict[int, bytes]] = defaultdict(dict)
    wanted: dict[tuple[int, int], int] = {}
    for encoded, value in kept.items():
        key = decode_key(encoded)
        if key.kind == SEGMENT:
            parts[key.number, key.offset][key.part] = value
            wanted[key.number, key.offset] = key.parts
    newest: dict[int, int] = {}
    for (number, offset), values in parts.items():
        if len(values) == wanted[number, offset]:
            newest[number] = max(offset, newest.get(number, -1))
    return [
        _decoded(number, offset, parts[number, offset]) for number, offset in sorted(newest.items())
    ]


_OF_CELLS = (
    "experiment",
    "unit_high",
    "unit_low",
    "variant",
    "entry",
    "entry_hash",
    "other",
    "counted",
    "outside",
    "totals",
)


def _decoded(number: int, offset: int, parts: dict[int, bytes]) -> StoredSegment:
    record = read_record([parts[part] for part in sorted(parts)], SegmentRecord)
    columns: dict[str, list[Any]] = {
        name: column.tolist()
        for name, column in decode_columns(record.columns, SEGMENT_COLUMNS).items()
    }
    cells: dict[CellKey, StoredCell] = {}
    at = 0
    rows = zip(*(columns[name] for name in _OF_CELLS), strict=True)
    for experiment, high, low, variant, entry, entry_hash, other, counted, outside, words in rows:
        cells[experiment, high, low] = StoredCell(
            variant,
            entry,
            entry_hash,
            NEVER if other == _STORED_NEVER else other,
            counted,
            outside,
            tuple(columns["total"][at : at + words]),
        )
        at += words
    return StoredSegment(number, offset, cells, stored_days(record))


def comparing(segment: StoredSegment, findings: Findings) -> Callable[[PartitionFold], None]:
    """Return what compares a segment with a fold that stands at the segment's offset."""

    def compare(fold: PartitionFold) -> None:
        wanted = {
            (ordinal, *unit.hash): _as_stored(cell, fold.rules[ordinal])
            for units in fold.units.values()
            for unit in units.values()
            if unit.hash[0] >> SEGMENT_SHIFT == segment.number
            for ordinal, cell in unit.cells.items()
            if cell.variant != NOWHERE
        }
        found = {
            key: cell._replace(totals=_totals_of(cell.totals, fold.rules[key[0]]))
            for key, cell in segment.cells.items()
            if key[0] in fold.rules
        }
        findings.count(CELLS, len(wanted))
        for key in wanted.keys() | segment.cells.keys():
            if wanted.get(key) != found.get(key):
                where = f"partition {fold.number}, offset {segment.offset}, experiment {key[0]}"
                unit = f"unit {key[1]:016x}{key[2]:016x}"
                line = f"expected {wanted.get(key)}, found {found.get(key, segment.cells.get(key))}"
                findings.differ(CELLS, f"{where}, {unit}: {line}")

    return compare


def _as_stored(cell: Cell, rules: Rules) -> StoredCell:
    totals: list[Total] = []
    for metric in rules.metrics:
        magnitude = cell.magnitudes[metric.place]
        totals.append(LEFT if magnitude >= MAGNITUDE_LIMIT else cell.totals[metric.place])
        if metric.days:
            has_left = cell.left >> metric.place & 1
            totals.append(LEFT if has_left else cell.covariates[metric.place])
    return StoredCell(
        cell.variant,
        cell.entry,
        cell.entry_hash[0],
        cell.other,
        cell.counted,
        cell.outside,
        tuple(totals),
    )


def _totals_of(words: tuple[Total, ...], rules: Rules) -> tuple[Total, ...]:
    """Return what a cell's words say, metric by metric."""
    left = list(words)
    totals: list[Total] = []
    for metric in rules.metrics:
        size = _WORDS[metric.kind]
        mine, left = left[:size], left[size:]
        totals.append(_total(mine[0], mine[1] if size > 1 else 0) if mine else 0)
        if metric.days:
            (total, bound, rows) = left[:_COVARIATE_WORDS]
            left = left[_COVARIATE_WORDS:]
            x: Total = int(total > 0) if metric.kind == CONVERSION else total  # type: ignore[operator]
            totals.append(_total(x, bound) if rows else None)
    return tuple(totals)


def _total(total: Total, bound: Any) -> Total:
    return LEFT if bound >= _STORED_LIMIT else total
