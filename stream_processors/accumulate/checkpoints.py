"""Live state to records of the changelog, and back. Pure.

A segment's record is a function of the log up to the record's own offset, whoever wrote it; so is
a chunk's. Only which records are written when is the owner's business.
"""

from collections import namedtuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_processors.accumulate import memory
from stream_processors.accumulate.kernels import days, loading, lookups
from stream_processors.accumulate.kernels import nodes as node_kernels
from stream_processors.accumulate.plan import Names, Plan
from stream_processors.accumulate.records import (
    CHUNK_COLUMNS,
    DAY_COLUMNS,
    NODE_COLUMNS,
    SEGMENT_COLUMNS,
    ChunkRecord,
    Header,
    SegmentRecord,
    decode_columns,
    encode_columns,
)
from stream_processors.accumulate.state import (
    CELLS,
    DAYS,
    DEAD,
    FREE_NODE,
    FREE_NODES,
    HEAP,
    ID_FILL,
    NODE,
    NODES,
    RECENT,
    RECENT_END,
    RECENT_START,
    TOTAL,
    TOTALS,
    UNITS,
    State,
    new_table,
    table_for,
    wider,
    with_room,
)

# Kernels take named tuples; their fields are the columns of the format.
SegmentColumns: Any = namedtuple("SegmentColumns", tuple(SEGMENT_COLUMNS))  # type: ignore[misc]  # noqa: PYI024
DayColumns: Any = namedtuple("DayColumns", tuple(DAY_COLUMNS))  # type: ignore[misc]  # noqa: PYI024
NodeColumns: Any = namedtuple("NodeColumns", tuple(NODE_COLUMNS))  # type: ignore[misc]  # noqa: PYI024
ChunkColumns: Any = namedtuple("ChunkColumns", tuple(CHUNK_COLUMNS))  # type: ignore[misc]  # noqa: PYI024

_MANY = 10_000
"""Fewer entries than this are not worth a compaction."""


def make_room(
    state: State,
    *,
    units: int = 0,
    cells: int = 0,
    totals: int = 0,
    days: int = 0,
    recent: int = 0,
    heap: int = 0,
    nodes: int = 0,
) -> State:
    """Return the state with room for so many more of each."""
    counts = state.counts
    for name, place, more in (
        ("units", UNITS, units),
        ("cells", CELLS, cells),
        ("totals", TOTALS, totals),
        ("days", DAYS, days),
        ("heap", HEAP, heap),
        ("nodes", NODES, nodes),
    ):
        used = int(counts[place])
        if used + more > len(getattr(state, name)):
            state = with_room(state, name, used, used + more)
    table = table_for(int(counts[UNITS]) + units, state.unit_table)
    if table is not None:
        state = state._replace(unit_table=table)
        lookups.rebuild_unit_table(state)
    return _room_for_recent(state, recent)


def _room_for_recent(state: State, more: int) -> State:
    kept = _kept(state)
    if kept + more > len(state.recent):
        ring = memory.zeros(kept + more, RECENT)
        loading.move_recent(state, ring)
        state = state._replace(recent=ring, id_table=new_table(kept + more))
        lookups.rechain_rows(state)
        lookups.rebuild_id_table(state)
    elif table_for(int(state.counts[ID_FILL]) + more, state.id_table) is not None:
        state = state._replace(id_table=new_table(kept + more))
        lookups.rebuild_id_table(state)
    return state


def forget_recent(state: State, before: int) -> None:
    """Forget the recent rows numbered below ``before``, and give their memory back."""
    start, length = int(state.counts[RECENT_START]), len(state.recent)
    state.counts[RECENT_START] = before
    first, last = start % length, before % length
    if first < last:
        memory.release(state.recent, first, last)
    elif before > start:
        memory.release(state.recent, first, length)
        memory.release(state.recent, 0, last)


def forget_days(state: State, plan: Plan, horizon_ms: int) -> None:
    """Drop day totals that no entry can reach any more, and give their memory back."""
    before = int(state.counts[DAYS])
    days.forget_days(state, plan, horizon_ms)
    memory.release(state.days, int(state.counts[DAYS]), before)


def compact(state: State, plan: Plan) -> State:
    """Return the state without cells taken back and units that hold nothing.

    The heap counts in cells, so the caller folds again.
    """
    cells_before, totals_before = int(state.counts[CELLS]), int(state.counts[TOTALS])
    used = _used_units(state)
    renumbered = (np.cumsum(used) - 1).astype(np.int32)
    kept = np.flatnonzero(state.cells["variant"][:cells_before] >= 0)
    totals = _totals_of(state, kept)
    cells, units = state.cells[kept], state.units[: len(used)][used]
    cells["unit"] = renumbered[cells["unit"]]
    cells["total"] = np.cumsum(cells["totals"], dtype=np.int64) - cells["totals"]
    loading.renumber_recent(state, renumbered)
    its_days = state.days[: int(state.counts[DAYS])]
    its_days["unit"] = renumbered[its_days["unit"]]
    for array, entries, before in (
        (state.units, units, len(used)),
        (state.cells, cells, cells_before),
        (state.totals, totals, totals_before),
    ):
        array[: len(entries)] = entries
        memory.release(array, len(entries), before)
    state.counts[[UNITS, CELLS, TOTALS, DEAD]] = [len(units), len(cells), len(totals), 0]
    state = state._replace(unit_table=new_table(len(units)))
    lookups.rebuild_unit_table(state)
    lookups.relink_cells(state)
    return _without_free_nodes(state, plan)


def _without_free_nodes(state: State, plan: Plan) -> State:
    if not state.counts[NODES]:
        return state
    nodes = memory.zeros(int(state.counts[NODES]), NODE)
    kept = node_kernels.move_nodes(state, plan, int(state.counts[CELLS]), nodes)
    state.counts[[NODES, FREE_NODE, FREE_NODES]] = [kept, 0, 0]
    return state._replace(nodes=nodes)


def forget_names(state: State, metrics: Names, unit_types: Names) -> tuple[Names, Names]:
    """Return the names that the state has codes of, with new codes; the state has those then.

    Producers make names up; those of events long gone would add up.
    """
    used = np.zeros(len(metrics.values), np.bool_)
    loading.mark_metrics(state, used)
    kept, renumbered = metrics.kept(used)
    loading.renumber_metrics(state, renumbered)
    units = state.units["type"][: int(state.counts[UNITS])]
    used = np.zeros(len(unit_types.values), np.bool_)
    used[units] = True
    kept_types, renumbered = unit_types.kept(used)
    units[:] = renumbered[units]
    return kept, kept_types


def is_mostly_dead(state: State) -> bool:
    """Return whether half of many cells were taken back."""
    return int(state.counts[CELLS]) >= _MANY and 2 * state.counts[DEAD] > state.counts[CELLS]


def is_mostly_free(state: State) -> bool:
    """Return whether half of many nodes are free."""
    nodes = int(state.counts[NODES])
    return nodes >= _MANY and 2 * int(state.counts[FREE_NODES]) > nodes


def is_mostly_unused(state: State) -> bool:
    """Return whether half of many units hold nothing."""
    units = int(state.counts[UNITS])
    return units >= _MANY and 2 * int(_used_units(state).sum()) < units


def segment_record(
    state: State, segment: int, *, plan: Plan, header: Header, metrics: Names, unit_types: Names
) -> SegmentRecord:
    """Return the record of one segment, complete up to ``header.offset``."""
    cells, totals, counts, nodes = _cells_of(state, plan, segment)
    its_days = _days_of(state, segment, plan, header.times.horizon_ms)
    units, owners = state.units[cells["unit"]], state.units[its_days["unit"]]
    names, types = _renumbered(np.concatenate([units["type"], owners["type"]]), unit_types)
    metric_names, metric = _renumbered(its_days["metric"], metrics)
    of_cells: dict[str, NDArray[Any]] = {
        "unit_high": units["high"],
        "unit_low": units["low"],
        "unit_type": types[: len(units)],
        "nodes": counts,
        "total": totals,
    }
    of_cells |= {name: cells[name] for name in SEGMENT_COLUMNS if name not in of_cells}
    order = np.lexsort((its_days["day"], metric, owners["low"], owners["high"]))
    of_days: dict[str, NDArray[Any]] = {
        "unit_high": owners["high"][order],
        "unit_low": owners["low"][order],
        "unit_type": types[len(units) :][order],
        "metric": metric[order],
    }
    of_days |= {name: its_days[name][order] for name in DAY_COLUMNS if name not in of_days}
    return SegmentRecord(
        header,
        names,
        metric_names,
        state.ledger[segment].tolist(),
        state.no_assignment[segment].tolist(),
        state.imported[segment].tolist(),
        state.import_rows[segment].tolist(),
        encode_columns(of_cells, SEGMENT_COLUMNS),
        encode_columns(of_days, DAY_COLUMNS),
        encode_columns(nodes._asdict(), NODE_COLUMNS),
    )


def load_segment(
    state: State, segment: int, record: SegmentRecord, *, metrics: Names, unit_types: Names
) -> State:
    """Return the state with the cells, day totals, ledger and counts of a record in it."""
    cells: Any = SegmentColumns(**decode_columns(record.columns, SEGMENT_COLUMNS))
    its_days: Any = DayColumns(**decode_columns(record.days, DAY_COLUMNS))
    nodes: Any = NodeColumns(**decode_columns(record.nodes, NODE_COLUMNS))
    count, day_count = len(cells.experiment), len(its_days.day)
    state = make_room(
        state,
        units=count + day_count,
        cells=count,
        totals=len(cells.total),
        days=day_count,
        nodes=len(nodes.word),
    )
    first = int(state.counts[CELLS])
    types = np.array([unit_types.code(name) for name in record.unit_types], np.int32)
    names = np.array([metrics.code(name) for name in record.metrics], np.int32)
    loading.load_cells(state, cells, types)
    node_kernels.load_nodes(state, first, cells.nodes, nodes)
    loading.load_days(state, its_days, types, names)
    state = state._replace(
        no_assignment=wider(state.no_assignment, len(record.no_assignment)),
        imported=wider(state.imported, len(record.imported)),
        import_rows=wider(state.import_rows, len(record.import_rows)),
    )
    state.ledger[segment] = record.ledger
    state.no_assignment[segment, : len(record.no_assignment)] = record.no_assignment
    state.imported[segment, : len(record.imported)] = record.imported
    state.import_rows[segment, : len(record.import_rows)] = record.import_rows
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
    rows = np.zeros(int(state.counts[RECENT_END]) - first, RECENT)
    loading.gather_recent(state, first, rows)
    units = state.units[rows["unit"]]
    is_metric = (rows["stamp"] & lookups.METRIC) != 0
    metric_names, code = _renumbered(np.where(is_metric, rows["code"], -1), metrics)
    type_names, types = _renumbered(units["type"], unit_types)
    columns: dict[str, NDArray[Any]] = {
        "unit_high": units["high"],
        "unit_low": units["low"],
        "unit_type": types,
        "code": np.where(is_metric, code, rows["code"]),
    }
    columns |= {name: rows[name] for name in CHUNK_COLUMNS if name not in columns}
    timestamp = rows["stamp"] >> 2
    latest = max(timestamp_through_max, int(timestamp.max(initial=timestamp_through_max)))
    return ChunkRecord(
        header, start, latest, metric_names, type_names, encode_columns(columns, CHUNK_COLUMNS)
    )


def load_chunk(state: State, record: ChunkRecord, *, metrics: Names, unit_types: Names) -> State:
    """Return the state with the rows of a chunk among the recent ones."""
    columns: Any = ChunkColumns(**decode_columns(record.columns, CHUNK_COLUMNS))
    rows = len(columns.stamp)
    state = make_room(state, units=rows, recent=rows)
    types = np.array([unit_types.code(name) for name in record.unit_types], np.int32)
    names = np.array([metrics.code(name) for name in record.metrics], np.int32)
    loading.load_recent(state, columns, types, names)
    return state


def memory_in_use(state: State) -> dict[str, int]:
    """Return bytes in use by array; tables count whole, the others as far as they are filled."""
    counts = state.counts
    filled = {
        "units": int(counts[UNITS]),
        "cells": int(counts[CELLS]),
        "totals": int(counts[TOTALS]),
        "days": int(counts[DAYS]),
        "recent": _kept(state),
        "heap": int(counts[HEAP]),
        "nodes": int(counts[NODES]),
    }
    sizes = {name: entries * getattr(state, name).itemsize for name, entries in filled.items()}
    return sizes | {"unit_table": state.unit_table.nbytes, "id_table": state.id_table.nbytes}


def _cells_of(
    state: State, plan: Plan, segment: int
) -> tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.int64], Any]:
    """Return a segment's cells in the order of its record, their totals, and their nodes."""
    found = np.empty(int(state.counts[CELLS]), np.int64)
    count = loading.cells_of_segment(state, segment, found)
    here = found[:count]
    cells = state.cells[here]
    units = state.units[cells["unit"]]
    order = np.lexsort((cells["experiment"], units["low"], units["high"]))
    here = here[order]
    totals, counts = _totals_of(state, here), np.zeros(count, np.int64)
    every = node_kernels.nodes_of_cells(state, plan, here, counts) if state.counts[NODES] else 0
    nodes = NodeColumns(*(np.zeros(every, kind) for kind in NODE_COLUMNS.values()))
    if every:
        node_kernels.gather_nodes(state, plan, here, totals, nodes)
    return cells[order], totals, counts, nodes


def _days_of(state: State, segment: int, plan: Plan, horizon_ms: int) -> NDArray[np.void]:
    found = np.empty(int(state.counts[DAYS]), np.int64)
    count = loading.days_of_segment(state, plan, segment, horizon_ms, found)
    return state.days[found[:count]]


def _used_units(state: State) -> NDArray[np.bool_]:
    """Return which units have a cell, a recent row or a kept day."""
    cells = state.cells[: int(state.counts[CELLS])]
    used = np.zeros(int(state.counts[UNITS]), np.bool_)
    used[cells["unit"][cells["variant"] >= 0]] = True
    used[state.days["unit"][: int(state.counts[DAYS])]] = True
    loading.mark_units_of_recent(state, used)
    return used


def _totals_of(state: State, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the totals of ``cells``, one cell after the other."""
    totals = np.zeros(int(state.cells["totals"][cells].sum()), TOTAL)
    loading.gather_totals(state, cells, totals)
    return totals


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
