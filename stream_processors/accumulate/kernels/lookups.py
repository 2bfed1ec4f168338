"""Finding units, cells and ids. Kernels."""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from stream_processors.accumulate.kernels.compiled import inlined, kernel
from stream_processors.accumulate.state import (
    CELLS,
    ID_FILL,
    RECENT_END,
    RECENT_START,
    SEGMENT_SHIFT,
    UNIT_FILL,
    UNITS,
)

_SHIFT = np.uint64(SEGMENT_SHIFT)


@inlined
def segment_of(unit_high):
    """Return the segment of a unit."""
    return np.int64(unit_high >> _SHIFT)


@inlined
def _find_unit(state, high, low):
    mask = len(state.unit_table) - 1
    place = np.int64(low & np.uint64(mask))
    while True:
        unit = state.unit_table[place]
        if unit < 0:
            return np.int64(-1), place
        if state.units[unit].low == low and state.units[unit].high == high:
            return np.int64(unit), place
        place = (place + 1) & mask


@kernel
def unit_for(state, high, low, unit_type):
    """Return the number of a unit, a new one if it is not known."""
    unit, place = _find_unit(state, high, low)
    if unit >= 0:
        return unit
    unit = state.counts[UNITS]
    state.counts[UNITS] += 1
    state.counts[UNIT_FILL] += 1
    state.unit_table[place] = unit
    state.units[unit].high = high
    state.units[unit].low = low
    state.units[unit].type = unit_type
    state.units[unit].cell = -1
    state.units[unit].recent = -1
    return unit


@kernel
def rebuild_unit_table(state):
    """Fill an empty table with all units."""
    mask = len(state.unit_table) - 1
    for unit in range(state.counts[UNITS]):
        place = np.int64(state.units[unit].low & np.uint64(mask))
        while state.unit_table[place] >= 0:
            place = (place + 1) & mask
        state.unit_table[place] = unit
    state.counts[UNIT_FILL] = state.counts[UNITS]


@kernel
def rebuild_id_table(state):
    """Fill an empty table with all recent rows."""
    start, end = state.counts[RECENT_START], state.counts[RECENT_END]
    for number in range(start, end):
        _insert_id(state, number)
    state.counts[ID_FILL] = end - start


@kernel
def _insert_id(state, number):
    mask = len(state.id_table) - 1
    place = np.int64(state.recent[number - state.counts[RECENT_START]].low & np.uint64(mask))
    while state.id_table[place] >= 0:
        place = (place + 1) & mask
    state.id_table[place] = number


@inlined
def known_content(state, high, low, position, horizon):
    """Return (whether the id is known, content of its first row), looking below ``position``."""
    start = state.counts[RECENT_START]
    mask = len(state.id_table) - 1
    place = np.int64(low & np.uint64(mask))
    found, content, first = False, np.uint64(0), np.int64(0)
    while True:
        number = state.id_table[place]
        if number < 0:
            return found, content
        if number >= start:
            at = number - start
            if (
                state.recent[at].low == low
                and state.recent[at].high == high
                and state.recent[at].position < position
                and state.recent[at].timestamp >= horizon
                and (not found or state.recent[at].position < first)
            ):
                found, content, first = True, state.recent[at].content, state.recent[at].position
        place = (place + 1) & mask


@kernel
def remember(state, high, low, position, timestamp, content, unit, kind, experiment, code, value):
    """Append a recent row and chain it to its unit."""
    number = state.counts[RECENT_END]
    at = number - state.counts[RECENT_START]
    state.counts[RECENT_END] += 1
    state.counts[ID_FILL] += 1
    state.recent[at].high = high
    state.recent[at].low = low
    state.recent[at].position = position
    state.recent[at].timestamp = timestamp
    state.recent[at].content = content
    state.recent[at].unit = unit
    state.recent[at].kind = kind
    state.recent[at].experiment = experiment
    state.recent[at].code = code
    state.recent[at].value = value
    state.recent[at].before = state.units[unit].recent
    state.units[unit].recent = number
    _insert_id(state, number)


@inlined
def find_cell(state, unit, experiment):
    """Return the unit's cell of an experiment, -1 if it has none."""
    cell = np.int64(state.units[unit].cell)
    while cell >= 0:
        if state.cells[cell].experiment == experiment and state.cells[cell].variant >= 0:
            return cell
        cell = np.int64(state.cells[cell].next)
    return np.int64(-1)


@kernel
def relink_cells(state):
    """Chain the cells of every unit anew."""
    for unit in range(state.counts[UNITS]):
        state.units[unit].cell = -1
    for cell in range(state.counts[CELLS]):
        unit = state.cells[cell].unit
        state.cells[cell].next = state.units[unit].cell
        state.units[unit].cell = cell
