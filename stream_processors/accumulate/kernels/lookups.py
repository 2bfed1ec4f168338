"""Finding units, cells and ids. Kernels.

An entry of a table has the number of a unit, or the place of a recent row, plus 1 in its low 27
bits, and 5 bits of the hash above them, so that most others are passed over without a look at
what they stand for; 0 is a free place. Entries of forgotten rows stay until their place is needed
or the table is made anew.
"""

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
    UNITS,
)

_SHIFT = np.uint64(SEGMENT_SHIFT)
_HALF = np.uint64(32)
_TAG = np.uint64(31)
_TAG_SHIFT = 27
_INDEX = (1 << _TAG_SHIFT) - 1

METRIC = 1
GIVEN = 2


@inlined
def segment_of(unit_high):
    """Return the segment of a unit."""
    return np.int64(unit_high >> _SHIFT)


@inlined
def _home(hash_, size):
    """Return where a search begins: the upper half of the hash, scaled to the table."""
    return np.int64(((hash_ >> _HALF) * np.uint64(size)) >> _HALF)


@inlined
def _tag(hash_):
    return np.int64(hash_ & _TAG)


# --- units ---


@kernel
def find_unit(state, high, low):
    """Return the number of a unit, -1 if it is not known."""
    size = len(state.unit_table)
    place, tag = _home(low, size), _tag(low)
    while True:
        entry = np.int64(state.unit_table[place])
        if entry == 0:
            return np.int64(-1)
        if entry >> _TAG_SHIFT == tag:
            unit = (entry & _INDEX) - 1
            if state.units[unit].low == low and state.units[unit].high == high:
                return unit
        place += 1
        if place == size:
            place = 0


@inlined
def _insert_unit(state, unit):
    low = state.units[unit].low
    size = len(state.unit_table)
    place = _home(low, size)
    while state.unit_table[place] != 0:
        place += 1
        if place == size:
            place = 0
    state.unit_table[place] = np.uint32((_tag(low) << _TAG_SHIFT) | (unit + 1))


@kernel
def unit_for(state, high, low, unit_type):
    """Return the number of a unit, a new one if it is not known."""
    unit = find_unit(state, high, low)
    if unit >= 0:
        return unit
    unit = state.counts[UNITS]
    state.counts[UNITS] += 1
    state.units[unit].high = high
    state.units[unit].low = low
    state.units[unit].type = unit_type
    state.units[unit].cell = -1
    state.units[unit].day = -1
    state.units[unit].recent = -1
    _insert_unit(state, unit)
    return unit


@kernel
def rebuild_unit_table(state):
    """Fill an empty table with all units."""
    for unit in range(state.counts[UNITS]):
        _insert_unit(state, unit)


# --- recent rows ---


@inlined
def is_kept(state, slot):
    """Return whether a place of the ring holds a row that is not forgotten."""
    start = state.counts[RECENT_START]
    return ((slot - start) & (len(state.recent) - 1)) < state.counts[RECENT_END] - start


@inlined
def time_of(state, slot):
    """Return the timestamp of a recent row."""
    return state.recent[slot].stamp >> 2


@inlined
def is_metric(state, slot):
    """Return whether a recent row is a metric event."""
    return (state.recent[slot].stamp & METRIC) != 0


@inlined
def newest_of(state, unit):
    """Return the number of the unit's newest recent row, -1 if none is kept."""
    slot = np.int64(state.units[unit].recent)
    if slot < 0 or not is_kept(state, slot) or state.recent[slot].unit != unit:
        return np.int64(-1)
    start = state.counts[RECENT_START]
    return start + ((slot - start) & (len(state.recent) - 1))


@inlined
def before_of(state, number):
    """Return the number of the unit's recent row before this one, -1 if none is kept."""
    step = np.int64(state.recent[number & (len(state.recent) - 1)].before)
    if step == 0 or number - step < state.counts[RECENT_START]:
        return np.int64(-1)
    return number - step


@kernel
def find_row(state, unit, hash_, horizon):
    """Return the place of the row within the horizon that has this id, -1 if there is none."""
    size = len(state.id_table)
    place, tag = _home(hash_, size), _tag(hash_)
    while True:
        entry = np.int64(state.id_table[place])
        if entry == 0:
            return np.int64(-1)
        if entry >> _TAG_SHIFT == tag:
            slot = (entry & _INDEX) - 1
            if (
                is_kept(state, slot)
                and state.recent[slot].hash == hash_
                and state.recent[slot].unit == unit
                and time_of(state, slot) >= horizon
            ):
                return slot
        place += 1
        if place == size:
            place = 0


@kernel
def _insert_id(state, slot):
    hash_ = state.recent[slot].hash
    size = len(state.id_table)
    place = _home(hash_, size)
    while True:
        entry = np.int64(state.id_table[place])
        if entry == 0:
            state.counts[ID_FILL] += 1
            break
        if not is_kept(state, (entry & _INDEX) - 1):
            break
        place += 1
        if place == size:
            place = 0
    state.id_table[place] = np.uint32((_tag(hash_) << _TAG_SHIFT) | (slot + 1))


@kernel
def rebuild_id_table(state):
    """Fill an empty table with all recent rows."""
    state.counts[ID_FILL] = 0
    for number in range(state.counts[RECENT_START], state.counts[RECENT_END]):
        _insert_id(state, number & (len(state.recent) - 1))


@kernel
def rechain_rows(state):
    """Make every unit's newest row known anew, after rows have got other places."""
    for unit in range(state.counts[UNITS]):
        state.units[unit].recent = -1
    for number in range(state.counts[RECENT_START], state.counts[RECENT_END]):
        slot = number & (len(state.recent) - 1)
        state.units[state.recent[slot].unit].recent = slot


@kernel
def remember(state, unit, hash_, stamp, experiment, code, value):
    """Append a recent row and chain it to its unit."""
    newest = newest_of(state, unit)
    number = state.counts[RECENT_END]
    slot = number & (len(state.recent) - 1)
    state.counts[RECENT_END] += 1
    state.recent[slot].hash = hash_
    state.recent[slot].value = value
    state.recent[slot].stamp = stamp
    state.recent[slot].before = np.uint32(number - newest if newest >= 0 else 0)
    state.recent[slot].unit = unit
    state.recent[slot].experiment = experiment
    state.recent[slot].code = code
    state.units[unit].recent = slot
    _insert_id(state, slot)


# --- cells ---


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
