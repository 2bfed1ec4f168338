"""Live state to records of the changelog, and back. Pure.

A segment's record is a function of the log up to the record's own offset, whoever wrote it; so is
a chunk's. Only which records are written when is the owner's business.
"""

from collections import namedtuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_processors.accumulate.kernels import loading, lookups
from stream_processors.accumulate.plan import Names
from stream_processors.accumulate.records import (
    CHUNK_COLUMNS,
    SEGMENT_COLUMNS,
    ChunkRecord,
    Header,
    SegmentRecord,
    decode_columns,
    encode_columns,
)
from stream_processors.accumulate.state import (
    CELLS,
    HEAP,
    ID_FILL,
    NOWHERE,
    RECENT_END,
    RECENT_START,
    SEGMENT_SHIFT,
    SLOT,
    SLOTS,
    UNIT_FILL,
    UNITS,
    State,
    table_size,
    with_room,
)

# Kernels take named tuples; their fields are the columns of the format.
SegmentColumns: Any = namedtuple("SegmentColumns", tuple(SEGMENT_COLUMNS))  # type: ignore[misc]  # noqa: PYI024
ChunkColumns: Any = namedtuple("ChunkColumns", tuple(CHUNK_COLUMNS))  # type: ignore[misc]  # noqa: PYI024


def make_room(
    state: State, *, units: int = 0, cells: int = 0, slots: int = 0, recent: int = 0, heap: int = 0
) -> State:
    """Return the state with room for so many more of each."""
    counts = state.counts
    kept = _kept(state)
    state = with_room(state, "units", int(counts[UNITS]) + units)
    state = with_room(state, "cells", int(counts[CELLS]) + cells)
    state = with_room(state, "slots", int(counts[SLOTS]) + slots)
    state = with_room(state, "recent", kept + recent)
    state = with_room(state, "heap", int(counts[HEAP]) + heap)
    if table_size(int(counts[UNIT_FILL]) + units) > len(state.unit_table):
        size = table_size(2 * (int(counts[UNITS]) + units))
        state = state._replace(unit_table=np.full(size, NOWHERE, np.int32))
        lookups.rebuild_unit_table(state)
    if table_size(int(counts[ID_FILL]) + recent) > len(state.id_table):
        size = table_size(2 * (kept + recent))
        state = state._replace(id_table=np.full(size, NOWHERE, np.int64))
        lookups.rebuild_id_table(state)
    return state


def forget_recent(state: State, before: int) -> State:
    """Return the state without the recent rows numbered below ``before``."""
    start, end = int(state.counts[RECENT_START]), int(state.counts[RECENT_END])
    state.recent[: end - before] = state.recent[before - start : end - start].copy()
    state.counts[RECENT_START] = before
    return state


def compact(state: State) -> State:
    """Return the state without cells taken back and units that hold nothing.

    The heap counts in cells, so the caller folds again.
    """
    cells = state.cells[: int(state.counts[CELLS])]
    kept = np.flatnonzero(cells["variant"] >= 0)
    used = _used_units(state)
    renumbered = (np.cumsum(used) - 1).astype(np.int32)
    totals = _slots_of(state, kept)
    recent_unit = state.recent["unit"][: _kept(state)]
    recent_unit[:] = renumbered[recent_unit]
    cells, units = cells[kept], state.units[: len(used)][used]
    cells["unit"] = renumbered[cells["unit"]]
    cells["slot"] = np.cumsum(cells["slots"], dtype=np.int64) - cells["slots"]
    state.counts[[UNITS, CELLS, SLOTS, UNIT_FILL]] = [len(units), len(cells), len(totals), 0]
    state = state._replace(
        units=units,
        cells=cells,
        slots=totals,
        unit_table=np.full(table_size(2 * len(units)), NOWHERE, np.int32),
    )
    lookups.rebuild_unit_table(state)
    lookups.relink_cells(state)
    return state


def is_mostly_empty(state: State) -> bool:
    """Return whether more than half of many cells and units hold nothing."""
    cells, units = int(state.counts[CELLS]), int(state.counts[UNITS])
    if cells + units < 10_000:
        return False
    live = int((state.cells["variant"][:cells] >= 0).sum())
    return 2 * (live + int(_used_units(state).sum())) < cells + units


def segment_record(
    state: State, segment: int, *, header: Header, unit_types: Names
) -> SegmentRecord:
    """Return the record of one segment, complete up to ``header.offset``."""
    cells = state.cells[: int(state.counts[CELLS])]
    of_unit = state.units["high"][cells["unit"]] >> np.uint64(SEGMENT_SHIFT)
    here = np.flatnonzero((of_unit == segment) & (cells["variant"] >= 0))
    units = state.units[cells["unit"][here]]
    order = np.lexsort((cells["experiment"][here], units["low"], units["high"]))
    here, units = here[order], units[order]
    cells, totals = cells[here], _slots_of(state, here)
    names, types = _renumbered(units["type"], unit_types)
    columns: dict[str, NDArray[Any]] = {
        "unit_high": units["high"],
        "unit_low": units["low"],
        "unit_type": types,
        "total": totals["total"],
        "magnitude": totals["magnitude"],
    }
    columns |= {name: cells[name] for name in SEGMENT_COLUMNS if name not in columns}
    return SegmentRecord(
        header,
        names,
        state.ledger[segment].tolist(),
        state.no_assignment[segment].tolist(),
        encode_columns(columns, SEGMENT_COLUMNS),
    )


def load_segment(state: State, segment: int, record: SegmentRecord, *, unit_types: Names) -> State:
    """Return the state with the cells, ledger and counts of a record in it."""
    columns: Any = SegmentColumns(**decode_columns(record.columns, SEGMENT_COLUMNS))
    cells = len(columns.experiment)
    state = make_room(state, units=cells, cells=cells, slots=len(columns.total))
    types = np.array([unit_types.code(name) for name in record.unit_types], np.int32)
    loading.load_cells(state, columns, types)
    state.ledger[segment] = record.ledger
    known = max(state.no_assignment.shape[1], len(record.no_assignment))
    if known > state.no_assignment.shape[1]:
        wider = np.zeros((len(state.no_assignment), known), np.int64)
        wider[:, : state.no_assignment.shape[1]] = state.no_assignment
        state = state._replace(no_assignment=wider)
    state.no_assignment[segment, : len(record.no_assignment)] = record.no_assignment
    return state


def chunk_record(
    state: State,
    *,
    header: Header,
    start: int,
    first: int,
    timestamp_through_max: int,
    metrics: Names,
    unit_types: Names,
) -> ChunkRecord:
    """Return the record of the recent rows from number ``first`` on.

    Args:
        state: Of the partition.
        header: Of the tick that ends the chunk.
        start: Source offset at which the chunk begins.
        first: Number of its first recent row.
        timestamp_through_max: Latest timestamp of the chunks before it.
        metrics: Numbers of metric names.
        unit_types: Numbers of unit types.
    """
    rows = state.recent[first - int(state.counts[RECENT_START]) : _kept(state)]
    units = state.units[rows["unit"]]
    is_metric = rows["kind"] == 1
    metric_names, code = _renumbered(np.where(is_metric, rows["code"], -1), metrics)
    type_names, types = _renumbered(units["type"], unit_types)
    timestamp = rows["timestamp"]
    columns: dict[str, NDArray[Any]] = {
        "unit_high": units["high"],
        "unit_low": units["low"],
        "unit_type": types,
        "code": np.where(is_metric, code, rows["code"]),
    }
    columns |= {name: rows[name] for name in CHUNK_COLUMNS if name not in columns}
    latest = max(timestamp_through_max, int(timestamp.max(initial=timestamp_through_max)))
    return ChunkRecord(
        header, start, latest, metric_names, type_names, encode_columns(columns, CHUNK_COLUMNS)
    )


def load_chunk(state: State, record: ChunkRecord, *, metrics: Names, unit_types: Names) -> State:
    """Return the state with the rows of a chunk among the recent ones."""
    columns: Any = ChunkColumns(**decode_columns(record.columns, CHUNK_COLUMNS))
    rows = len(columns.position)
    state = make_room(state, units=rows, recent=rows)
    types = np.array([unit_types.code(name) for name in record.unit_types], np.int32)
    names = np.array([metrics.code(name) for name in record.metrics], np.int32)
    loading.load_recent(state, columns, types, names)
    return state


def _used_units(state: State) -> NDArray[np.bool_]:
    """Return which units have a cell or a recent row."""
    cells = state.cells[: int(state.counts[CELLS])]
    used = np.zeros(int(state.counts[UNITS]), np.bool_)
    used[cells["unit"][cells["variant"] >= 0]] = True
    used[state.recent["unit"][: _kept(state)]] = True
    return used


def _slots_of(state: State, cells: NDArray[np.int64]) -> NDArray[np.void]:
    """Return the slots of ``cells``, one cell after the other."""
    slots = np.zeros(int(state.cells["slots"][cells].sum()), SLOT)
    loading.gather_slots(state, cells, slots)
    return slots


def _kept(state: State) -> int:
    return int(state.counts[RECENT_END] - state.counts[RECENT_START])


def _renumbered(codes: NDArray[Any], names: Names) -> tuple[list[str], NDArray[np.int32]]:
    """Return the names in use, sorted, and the codes as places in that list (-1 stays).

    Process-local numbers never leave the process: every owner writes the same bytes.
    """
    used = [int(code) for code in np.unique(codes) if code >= 0]
    in_order = sorted(used, key=lambda code: names.values[code])
    places = np.full(max(used, default=0) + 2, -1, np.int32)
    places[in_order] = np.arange(len(in_order))
    return [names.values[code] for code in in_order], places[codes]
