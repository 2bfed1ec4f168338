"""Cells, day totals and recent rows from checkpoints, and into them. Kernels."""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from stream_processors.accumulate.kernels.compiled import kernel
from stream_processors.accumulate.kernels.days import first_kept_day
from stream_processors.accumulate.kernels.lookups import (
    METRIC,
    remember,
    segment_of,
    unit_for,
)
from stream_processors.accumulate.state import CELLS, DAYS, RECENT_END, RECENT_START, TOTALS


@kernel
def load_cells(state, columns, unit_types):
    """Append the cells of a checkpoint; room must have been made."""
    total_at = 0
    for row in range(len(columns.experiment)):
        unit = unit_for(
            state,
            columns.unit_high[row],
            columns.unit_low[row],
            unit_types[columns.unit_type[row]],
        )
        cell, first = state.counts[CELLS], state.counts[TOTALS]
        totals = np.int64(columns.totals[row])
        state.cells[cell].unit = unit
        state.cells[cell].experiment = columns.experiment[row]
        state.cells[cell].variant = columns.variant[row]
        state.cells[cell].segment = segment_of(columns.unit_high[row])
        state.cells[cell].entry = columns.entry[row]
        state.cells[cell].entry_hash = columns.entry_hash[row]
        state.cells[cell].other = columns.other[row]
        state.cells[cell].counted = columns.counted[row]
        state.cells[cell].outside = columns.outside[row]
        state.cells[cell].places = columns.places[row]
        state.cells[cell].next = state.units[unit].cell
        state.cells[cell].total = first
        state.cells[cell].totals = totals
        for word in range(totals):
            state.totals[first + word] = columns.total[total_at + word]
        total_at += totals
        state.units[unit].cell = cell
        state.counts[CELLS] += 1
        state.counts[TOTALS] += totals


@kernel
def load_days(state, columns, unit_types, metrics):
    """Append the day totals of a checkpoint; room must have been made."""
    for row in range(len(columns.day)):
        unit = unit_for(
            state,
            columns.unit_high[row],
            columns.unit_low[row],
            unit_types[columns.unit_type[row]],
        )
        at = state.counts[DAYS]
        state.days[at].unit = unit
        state.days[at].metric = metrics[columns.metric[row]]
        state.days[at].day = columns.day[row]
        state.days[at].total = columns.total[row]
        state.days[at].magnitude = columns.magnitude[row]
        state.days[at].rows = columns.rows[row]
        state.days[at].positives = columns.positives[row]
        state.days[at].next = state.units[unit].day
        state.units[unit].day = at
        state.counts[DAYS] += 1


@kernel
def load_recent(state, columns, unit_types, metrics):
    """Append the rows of a chunk; room must have been made."""
    for row in range(len(columns.stamp)):
        unit = unit_for(
            state,
            columns.unit_high[row],
            columns.unit_low[row],
            unit_types[columns.unit_type[row]],
        )
        code = columns.code[row]
        if columns.stamp[row] & METRIC:
            code = metrics[code]
        remember(
            state,
            unit,
            columns.hash[row],
            columns.stamp[row],
            columns.experiment[row],
            code,
            columns.value[row],
        )


@kernel
def cells_of_segment(state, segment, found):
    """Write the numbers of a segment's cells to ``found``; return how many."""
    count = 0
    for cell in range(state.counts[CELLS]):
        if state.cells[cell].variant >= 0 and state.cells[cell].segment == segment:
            found[count] = cell
            count += 1
    return count


@kernel
def days_of_segment(state, plan, segment, horizon, found):
    """Write the places of a segment's day totals that are kept to ``found``; return how many."""
    count = 0
    for at in range(state.counts[DAYS]):
        if segment_of(state.units[state.days[at].unit].high) == segment and state.days[
            at
        ].day >= first_kept_day(plan, state.days[at].metric, horizon):
            found[count] = at
            count += 1
    return count


@kernel
def gather_totals(state, cells, totals):
    """Copy the totals of ``cells``, one cell after the other."""
    at = 0
    for cell in cells:
        first = state.cells[cell].total
        for word in range(state.cells[cell].totals):
            totals[at + word] = state.totals[first + word]
        at += state.cells[cell].totals


@kernel
def gather_recent(state, first, rows):
    """Copy the recent rows from number ``first`` on."""
    mask = len(state.recent) - 1
    for number in range(first, state.counts[RECENT_END]):
        rows[number - first] = state.recent[number & mask]


@kernel
def move_recent(state, rows):
    """Copy the recent rows to a longer ring."""
    mask, longer = len(state.recent) - 1, len(rows) - 1
    for number in range(state.counts[RECENT_START], state.counts[RECENT_END]):
        rows[number & longer] = state.recent[number & mask]


@kernel
def mark_units_of_recent(state, used):
    """Mark the units of recent rows."""
    mask = len(state.recent) - 1
    for number in range(state.counts[RECENT_START], state.counts[RECENT_END]):
        used[state.recent[number & mask].unit] = True


@kernel
def renumber_recent(state, renumbered):
    """Give recent rows the new numbers of their units."""
    mask = len(state.recent) - 1
    for number in range(state.counts[RECENT_START], state.counts[RECENT_END]):
        slot = number & mask
        state.recent[slot].unit = renumbered[state.recent[slot].unit]


@kernel
def mark_metrics(state, used):
    """Mark the codes of metric names that recent rows and day totals have."""
    mask = len(state.recent) - 1
    for number in range(state.counts[RECENT_START], state.counts[RECENT_END]):
        slot = number & mask
        if state.recent[slot].stamp & METRIC:
            used[state.recent[slot].code] = True
    for at in range(state.counts[DAYS]):
        used[state.days[at].metric] = True


@kernel
def renumber_metrics(state, renumbered):
    """Give recent rows and day totals the new codes of their metric names."""
    mask = len(state.recent) - 1
    for number in range(state.counts[RECENT_START], state.counts[RECENT_END]):
        slot = number & mask
        if state.recent[slot].stamp & METRIC:
            state.recent[slot].code = renumbered[state.recent[slot].code]
    for at in range(state.counts[DAYS]):
        state.days[at].metric = renumbered[state.days[at].metric]
