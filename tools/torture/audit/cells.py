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
from tools.torture.audit.findings import Findings
from tools.torture.audit.partition_fold import PartitionFold
from tools.torture.audit.rules import NEVER
from tools.torture.audit.units import MAGNITUDE_LIMIT, NOWHERE, Cell

CELLS = "cells"
SEGMENT_SHIFT = 60
"""A segment is the top four bits of the unit hash."""

_STORED_NEVER = (1 << 63) - 1
_STORED_LIMIT = 1 << 42
"""Records bound the magnitude in units of 2**20."""

_OF_SLOTS = ("total", "magnitude")

CellKey = tuple[int, int, int]
"""Ordinal of the experiment, the two halves of the unit's hash."""


class StoredCell(NamedTuple):
    """A cell: what is compared of it. A total is None where the unit left the metric."""

    variant: int
    entry: int
    entry_hash: tuple[int, int]
    other: int
    counted: int
    outside: int
    totals: tuple[int | None, ...]


class StoredSegment(NamedTuple):
    """The newest whole record of a segment.

    Attributes:
        number: Of the segment.
        offset: First source offset that is not in it.
        cells: By experiment and unit.
    """

    number: int
    offset: int
    cells: dict[CellKey, StoredCell]


def read_segments(records: Iterable[tuple[bytes, bytes | None]]) -> list[StoredSegment]:
    """Return the newest record of every segment in one partition's changelog."""
    kept: dict[bytes, bytes] = {}
    for key, value in records:
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value
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


def _decoded(number: int, offset: int, parts: dict[int, bytes]) -> StoredSegment:
    record = read_record([parts[part] for part in sorted(parts)], SegmentRecord)
    columns: dict[str, list[Any]] = {
        name: column.tolist()
        for name, column in decode_columns(record.columns, SEGMENT_COLUMNS).items()
    }
    cells: dict[CellKey, StoredCell] = {}
    at = 0
    for place, slots in enumerate(columns["slots"]):
        row = {name: columns[name][place] for name in columns if name not in _OF_SLOTS}
        cells[row["experiment"], row["unit_high"], row["unit_low"]] = StoredCell(
            row["variant"],
            row["entry"],
            (row["entry_high"], row["entry_low"]),
            NEVER if row["other"] == _STORED_NEVER else row["other"],
            row["counted"],
            row["outside"],
            tuple(
                None if magnitude >= _STORED_LIMIT else total
                for total, magnitude in zip(
                    columns["total"][at : at + slots],
                    columns["magnitude"][at : at + slots],
                    strict=True,
                )
            ),
        )
        at += slots
    return StoredSegment(number, offset, cells)


def comparing(segment: StoredSegment, findings: Findings) -> Callable[[PartitionFold], None]:
    """Return what compares a segment with a fold that stands at the segment's offset."""

    def compare(fold: PartitionFold) -> None:
        wanted = {
            (ordinal, *unit.hash): _as_stored(cell)
            for units in fold.units.values()
            for unit in units.values()
            if unit.hash[0] >> SEGMENT_SHIFT == segment.number
            for ordinal, cell in unit.cells.items()
            if cell.variant != NOWHERE
        }
        findings.count(CELLS, len(wanted))
        for key in wanted.keys() | segment.cells.keys():
            if wanted.get(key) != segment.cells.get(key):
                where = f"partition {fold.number}, offset {segment.offset}, experiment {key[0]}"
                unit = f"unit {key[1]:016x}{key[2]:016x}"
                line = f"expected {wanted.get(key)}, found {segment.cells.get(key)}"
                findings.differ(CELLS, f"{where}, {unit}: {line}")

    return compare


def _as_stored(cell: Cell) -> StoredCell:
    return StoredCell(
        cell.variant,
        cell.entry,
        cell.entry_hash,
        cell.other,
        cell.counted,
        cell.outside,
        tuple(
            None if magnitude >= MAGNITUDE_LIMIT else total
            for total, magnitude in zip(cell.totals, cell.magnitudes, strict=True)
        ),
    )
