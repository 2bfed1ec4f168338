"""Cells and recent rows from checkpoints, and slots into them. Kernels."""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from stream_processors.accumulate.kernels.compiled import kernel
from stream_processors.accumulate.kernels.lookups import remember, unit_for
from stream_processors.accumulate.state import CELLS, SLOTS


@kernel
def load_cells(state, columns, unit_types):
    """Append the cells of a checkpoint; room must have been made."""
    slot_at = 0
    for row in range(len(columns.experiment)):
        unit = unit_for(
            state,
            columns.unit_high[row],
            columns.unit_low[row],
            unit_types[columns.unit_type[row]],
        )
        cell, first = state.counts[CELLS], state.counts[SLOTS]
        slots = np.int64(columns.slots[row])
        state.cells[cell].unit = unit
        state.cells[cell].experiment = columns.experiment[row]
        state.cells[cell].variant = columns.variant[row]
        state.cells[cell].entry = columns.entry[row]
        state.cells[cell].entry_high = columns.entry_high[row]
        state.cells[cell].entry_low = columns.entry_low[row]
        state.cells[cell].other = columns.other[row]
        state.cells[cell].counted = columns.counted[row]
        state.cells[cell].outside = columns.outside[row]
        state.cells[cell].next = state.units[unit].cell
        state.cells[cell].slot = first
        state.cells[cell].slots = slots
        for place in range(slots):
            state.slots[first + place].total = columns.total[slot_at + place]
            state.slots[first + place].magnitude = columns.magnitude[slot_at + place]
        slot_at += slots
        state.units[unit].cell = cell
        state.counts[CELLS] += 1
        state.counts[SLOTS] += slots


@kernel
def load_recent(state, columns, unit_types, metrics):
    """Append the rows of a chunk; room must have been made."""
    for row in range(len(columns.position)):
        unit = unit_for(
            state,
            columns.unit_high[row],
            columns.unit_low[row],
            unit_types[columns.unit_type[row]],
        )
        code = columns.code[row]
        if columns.kind[row] == 1:
            code = metrics[code]
        remember(
            state,
            columns.high[row],
            columns.low[row],
            columns.position[row],
            columns.timestamp[row],
            columns.content[row],
            unit,
            columns.kind[row],
            columns.experiment[row],
            code,
            columns.value[row],
        )


@kernel
def gather_slots(state, cells, slots):
    """Copy the slots of ``cells``, one cell after the other."""
    at = 0
    for cell in cells:
        for place in range(state.cells[cell].slots):
            slots[at].total = state.slots[state.cells[cell].slot + place].total
            slots[at].magnitude = state.slots[state.cells[cell].slot + place].magnitude
            at += 1
