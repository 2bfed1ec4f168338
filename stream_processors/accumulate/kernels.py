"""The rules of counting, one row after the other, compiled. Arrays in, arrays changed.

Loops, not columns: a row may depend on the one before it (a duplicate in the same batch), and a
compiled loop is as fast. ``state`` is a ``State``, ``plan`` a ``Plan``; ``live`` says whether
sums are kept (they are not while a replay catches up: segments stand at different offsets then).

No rule looks at a recent row that is older than the horizon, so it does not matter how long such
rows are physically kept.
"""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numba
import numpy as np

from stream_processors.accumulate.limbs import MATURED_WORDS, OPEN_WORDS, add_unit
from stream_processors.accumulate.plan import OPEN_END
from stream_processors.accumulate.state import (
    CELLS,
    CONFLICT,
    DUPLICATE,
    FRESH,
    HEAP,
    ID_FILL,
    RECEIVED,
    RECENT_END,
    RECENT_START,
    REFUSED,
    SEGMENT_SHIFT,
    SLOTS,
    STALE,
    UNIT_FILL,
    UNITS,
)

CONVERSION, COUNT = 0, 1
MAGNITUDE_SHIFT = 20
MAGNITUDE_LIMIT = 1 << 42
"""In units of 2**20: a unit whose sum of |q| may reach 2**62 leaves the metric."""

EVERY = -1
"""The experiment of a metric event that is for all that track it."""

UNKNOWN = -2
"""The experiment of a row that names none there is."""

_Q_LIMIT = 2.0**62
_SHIFT = np.uint64(SEGMENT_SHIFT)

# Kernels allocate nothing, so they need no reference counts: those cost more than the counting.
# What is small and hot is inlined, or each call would pass every array of the state.
_OPTIONS = {"cache": True, "nogil": True, "_nrt": False}
kernel = numba.njit(**_OPTIONS)
inlined = numba.njit(**_OPTIONS, inline="always")


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
def _known_content(state, high, low, position, horizon):
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


# --- one unit's share of the sums ---------------------------------------------------------------


@inlined
def _crossed(state, plan, cell):
    return (
        plan.experiments[state.cells[cell].experiment].excludes
        and state.cells[cell].other != OPEN_END
    )


@inlined
def _counts_for(plan, slot, entry):
    return entry >= plan.slots[slot].added


@inlined
def _matured_at(plan, slot, entry):
    window = plan.slots[slot].window
    if window < 0 or entry > OPEN_END - window:
        return OPEN_END
    return entry + window


@inlined
def _contribute_slot(state, plan, cell, slot, sign, settled):
    """Add or take away what a cell holds for one slot: open sums, and matured ones if it is."""
    experiment = state.cells[cell].experiment
    at = state.cells[cell].slot + slot - plan.experiments[experiment].slot_start
    entry = state.cells[cell].entry
    if not _counts_for(plan, slot, entry):
        return
    if state.slots[at].magnitude >= MAGNITUDE_LIMIT:
        state.overflowed[slot] += sign
        return
    value = state.slots[at].total
    if plan.slots[slot].kind == CONVERSION:
        value = np.int64(1) if value > 0 else np.int64(0)
    row = plan.slots[slot].row + state.cells[cell].variant
    add_unit(state.sums, row, OPEN_WORDS, value, sign)
    due = _matured_at(plan, slot, entry)
    if due <= settled and due <= plan.experiments[experiment].stopped:
        add_unit(state.sums, row, MATURED_WORDS, value, sign)


@kernel
def _contribute(state, plan, cell, sign, settled):
    """Add or take away all that a cell holds."""
    experiment = state.cells[cell].experiment
    state.experiments[experiment].touched = True
    counted, outside = state.cells[cell].counted, state.cells[cell].outside
    if _crossed(state, plan, cell):
        state.experiments[experiment].crossovers += sign
        state.experiments[experiment].excluded += sign * (counted + outside)
        return
    state.experiments[experiment].counted += sign * counted
    state.experiments[experiment].outside += sign * outside
    state.units_of[plan.experiments[experiment].variant_start + state.cells[cell].variant] += sign
    for slot in range(
        plan.experiments[experiment].slot_start, plan.experiments[experiment].slot_end
    ):
        _contribute_slot(state, plan, cell, slot, sign, settled)


# --- what an event means for a cell -------------------------------------------------------------


@inlined
def _quantised(plan, slot, value):
    """Return (what an event adds to the total, what it adds to the magnitude) of a slot."""
    kind = plan.slots[slot].kind
    if kind == CONVERSION:
        return (np.int64(1) if value > 0 else np.int64(0)), np.int64(0)
    if kind == COUNT:
        return np.int64(1), np.int64(0)
    scaled = np.rint(value * plan.slots[slot].scale)
    if not -_Q_LIMIT < scaled < _Q_LIMIT:
        return np.int64(0), np.int64(MAGNITUDE_LIMIT)
    q = np.int64(scaled)
    if q == 0:
        return q, np.int64(0)
    return q, (abs(q) >> MAGNITUDE_SHIFT) + 1


@inlined
def _in_window(plan, experiment, slot, entry, timestamp):
    return (
        entry <= timestamp
        and timestamp < _matured_at(plan, slot, entry)
        and timestamp < plan.experiments[experiment].stopped
        and _counts_for(plan, slot, entry)
    )


@inlined
def _put_event(state, plan, cell, metric, value, timestamp, sign):
    """Add or take back one metric event in a cell: totals and attribution, not sums.

    Returns whether a window held it.
    """
    experiment = state.cells[cell].experiment
    entry = state.cells[cell].entry
    first = plan.experiments[experiment].slot_start
    held = False
    for place in range(state.cells[cell].slots):
        slot = first + place
        if plan.slots[slot].metric == metric and _in_window(
            plan, experiment, slot, entry, timestamp
        ):
            q, magnitude = _quantised(plan, slot, value)
            state.slots[state.cells[cell].slot + place].total += sign * q
            state.slots[state.cells[cell].slot + place].magnitude += sign * magnitude
            held = True
    return held


@kernel
def _tracks(plan, experiment, metric):
    for slot in range(
        plan.experiments[experiment].slot_start, plan.experiments[experiment].slot_end
    ):
        if plan.slots[slot].metric == metric:
            return True
    return False


@inlined
def _attributed_from(plan, experiment, metric):
    """Return from which timestamp on events of a metric are attributed to an experiment."""
    since = OPEN_END
    for slot in range(
        plan.experiments[experiment].slot_start, plan.experiments[experiment].slot_end
    ):
        if plan.slots[slot].metric == metric:
            since = min(since, max(plan.experiments[experiment].started, plan.slots[slot].added))
    return since


@kernel
def _place_event(state, plan, cell, segment, experiment, metric, value, timestamp, sign):
    """Count one metric event for one experiment that tracks it, or take it back.

    ``cell`` is the unit's cell, -1 for none. Sums are the caller's business.
    """
    if timestamp < _attributed_from(plan, experiment, metric):
        return
    if cell < 0 or timestamp < state.cells[cell].entry:
        state.no_assignment[segment, experiment] += sign
        return
    if _put_event(state, plan, cell, metric, value, timestamp, sign):
        state.cells[cell].counted += sign
    else:
        state.cells[cell].outside += sign


@kernel
def _place_recent(state, plan, cell, unit, experiment, sign, horizon):
    """Count all recent metric events of a unit for one experiment, or take them back."""
    start = state.counts[RECENT_START]
    segment = segment_of(state.units[unit].high)
    number = state.units[unit].recent
    while number >= start:
        at = number - start
        if (
            state.recent[at].kind == 1
            and state.recent[at].timestamp >= horizon
            and (state.recent[at].experiment == EVERY or state.recent[at].experiment == experiment)
            and _tracks(plan, experiment, state.recent[at].code)
        ):
            _place_event(
                state,
                plan,
                cell,
                segment,
                experiment,
                state.recent[at].code,
                state.recent[at].value,
                state.recent[at].timestamp,
                sign,
            )
        number = state.recent[at].before


@kernel
def _push_due(state, due, cell):
    """Put (due, cell) on the heap, which is ordered by both."""
    place = state.counts[HEAP]
    state.counts[HEAP] += 1
    while place > 0:
        parent = (place - 1) >> 1
        above = state.heap[parent].due
        if above < due or (above == due and state.heap[parent].cell <= cell):
            break
        state.heap[place].due = above
        state.heap[place].cell = state.heap[parent].cell
        place = parent
    state.heap[place].due = due
    state.heap[place].cell = cell


@kernel
def _pop_due(state):
    """Take the first entry off the heap."""
    last = state.counts[HEAP] - 1
    state.counts[HEAP] = last
    due, cell = state.heap[last].due, state.heap[last].cell
    place = 0
    while True:
        child = 2 * place + 1
        if child >= last:
            break
        right = child + 1
        if right < last and (
            state.heap[right].due < state.heap[child].due
            or (
                state.heap[right].due == state.heap[child].due
                and state.heap[right].cell < state.heap[child].cell
            )
        ):
            child = right
        below = state.heap[child].due
        if below > due or (below == due and state.heap[child].cell >= cell):
            break
        state.heap[place].due = below
        state.heap[place].cell = state.heap[child].cell
        place = child
    state.heap[place].due = due
    state.heap[place].cell = cell


@kernel
def _await_maturity(state, plan, cell, settled):
    """Put a cell on the heap once for each window that has not yet passed."""
    experiment = state.cells[cell].experiment
    first, end = plan.experiments[experiment].slot_start, plan.experiments[experiment].slot_end
    for slot in range(first, end):
        due = _matured_at(plan, slot, state.cells[cell].entry)
        if due <= settled or due == OPEN_END:
            continue
        repeated = False
        for before in range(first, slot):
            if plan.slots[before].window == plan.slots[slot].window:
                repeated = True
        if not repeated:
            _push_due(state, due, cell)


# --- assignments --------------------------------------------------------------------------------


@kernel
def counts_at(plan, experiment, timestamp):
    """Return whether an assignment of that timestamp counts."""
    for place in range(
        plan.experiments[experiment].interval_start, plan.experiments[experiment].interval_end
    ):
        if plan.intervals[place].start <= timestamp < plan.intervals[place].end:
            return True
    return False


@kernel
def _new_cell(state, plan, unit, experiment, variant, timestamp, high, low):
    cell = state.counts[CELLS]
    state.counts[CELLS] += 1
    slots = plan.experiments[experiment].slot_end - plan.experiments[experiment].slot_start
    state.cells[cell].unit = unit
    state.cells[cell].experiment = experiment
    state.cells[cell].variant = variant
    state.cells[cell].entry = timestamp
    state.cells[cell].entry_high = high
    state.cells[cell].entry_low = low
    state.cells[cell].other = OPEN_END
    state.cells[cell].next = state.units[unit].cell
    state.cells[cell].counted = 0
    state.cells[cell].outside = 0
    state.cells[cell].slot = state.counts[SLOTS]
    state.cells[cell].slots = slots
    for at in range(state.counts[SLOTS], state.counts[SLOTS] + slots):
        state.slots[at].total = 0
        state.slots[at].magnitude = 0
    state.counts[SLOTS] += slots
    state.units[unit].cell = cell
    return cell


@kernel
def _is_earlier(state, cell, timestamp, high, low):
    entry = state.cells[cell].entry
    if timestamp != entry:
        return timestamp < entry
    if high != state.cells[cell].entry_high:
        return high < state.cells[cell].entry_high
    return low < state.cells[cell].entry_low


@kernel
def assign(state, plan, unit, experiment, variant, timestamp, high, low, settled, horizon, live):
    """Record that a unit was exposed: the first by (timestamp, event hash) decides."""
    cell = find_cell(state, unit, experiment)
    if cell < 0:
        _place_recent(state, plan, np.int64(-1), unit, experiment, -1, horizon)
        cell = _new_cell(state, plan, unit, experiment, variant, timestamp, high, low)
        _place_recent(state, plan, cell, unit, experiment, 1, horizon)
        if live:
            _contribute(state, plan, cell, 1, settled)
            _await_maturity(state, plan, cell, settled)
        return
    if _is_earlier(state, cell, timestamp, high, low):
        if live:
            _contribute(state, plan, cell, -1, settled)
        _place_recent(state, plan, cell, unit, experiment, -1, horizon)
        if state.cells[cell].variant != variant:
            # What was first is the earliest of the others now: nothing was before it.
            state.cells[cell].other = state.cells[cell].entry
            state.cells[cell].variant = variant
        state.cells[cell].entry = timestamp
        state.cells[cell].entry_high = high
        state.cells[cell].entry_low = low
        _place_recent(state, plan, cell, unit, experiment, 1, horizon)
        if live:
            _contribute(state, plan, cell, 1, settled)
            _await_maturity(state, plan, cell, settled)
    elif variant != state.cells[cell].variant and timestamp < state.cells[cell].other:
        if live:
            _contribute(state, plan, cell, -1, settled)
        state.cells[cell].other = timestamp
        if live:
            _contribute(state, plan, cell, 1, settled)


@kernel
def _measure(state, plan, unit, segment, experiment, metric, value, timestamp, settled, live):
    """Count one fresh metric event for one experiment that tracks it."""
    cell = find_cell(state, unit, experiment)
    changes = live and cell >= 0 and timestamp >= state.cells[cell].entry
    if changes:
        _contribute(state, plan, cell, -1, settled)
    _place_event(state, plan, cell, segment, experiment, metric, value, timestamp, 1)
    if changes:
        _contribute(state, plan, cell, 1, settled)
    elif live:
        state.experiments[experiment].touched = True


# --- rows ---------------------------------------------------------------------------------------


@kernel
def apply_rows(state, plan, rows, offset, settled, horizon, live, fill_only):
    """Apply the rows of one message.

    Args:
        state: Room for all of them must have been made.
        plan: Of the last tick.
        rows: A ``Rows``.
        offset: Of the message; a segment whose own offset is above it has them already.
        settled: Of the last tick.
        horizon: Of the last tick.
        live: Whether sums are kept.
        fill_only: Only ids and recent rows are wanted.
    """
    for row in range(len(rows.kind)):
        high, low = rows.unit_high[row], rows.unit_low[row]
        segment = segment_of(high)
        counts = not fill_only and state.segments[segment].offset <= offset
        if counts:
            state.segments[segment].dirty = True
            state.ledger[segment, RECEIVED] += 1
        kind, experiment, code = rows.kind[row], rows.experiment[row], rows.code[row]
        if experiment == UNKNOWN or code < 0:
            if counts:
                state.ledger[segment, REFUSED] += 1
            continue
        timestamp = rows.timestamp[row]
        if timestamp < horizon:
            if counts:
                state.ledger[segment, STALE] += 1
            continue
        event_high, event_low = rows.event_high[row], rows.event_low[row]
        position = (np.int64(offset) << 20) + row
        known, content = _known_content(state, event_high, event_low, position, horizon)
        if known:
            if counts:
                same = content == rows.content[row]
                state.ledger[segment, DUPLICATE if same else CONFLICT] += 1
            continue
        unit = unit_for(state, high, low, rows.unit_type[row])
        if counts:
            state.ledger[segment, FRESH] += 1
            if kind == 0:
                if not plan.experiments[experiment].final and counts_at(
                    plan, experiment, timestamp
                ):
                    assign(
                        state,
                        plan,
                        unit,
                        experiment,
                        code,
                        timestamp,
                        event_high,
                        event_low,
                        settled,
                        horizon,
                        live,
                    )
            elif code < len(plan.tracker_start) - 1:
                for at in range(plan.tracker_start[code], plan.tracker_start[code + 1]):
                    tracking = plan.tracker[at]
                    if experiment >= 0 and experiment != tracking:
                        continue
                    if plan.experiments[tracking].unit_type == rows.unit_type[row]:
                        _measure(
                            state,
                            plan,
                            unit,
                            segment,
                            tracking,
                            code,
                            rows.value[row],
                            timestamp,
                            settled,
                            live,
                        )
        remember(
            state,
            event_high,
            event_low,
            position,
            timestamp,
            rows.content[row],
            unit,
            kind,
            experiment,
            code,
            rows.value[row],
        )


# --- ticks --------------------------------------------------------------------------------------


@kernel
def mature(state, plan, settled):
    """Add the cells whose windows have passed since the last settled time to the matured sums."""
    last_due, last_cell = np.int64(-1), np.int64(-1)
    while state.counts[HEAP] > 0 and state.heap[0].due <= settled:
        due, cell = state.heap[0].due, np.int64(state.heap[0].cell)
        _pop_due(state)
        if due == last_due and cell == last_cell:
            continue
        last_due, last_cell = due, cell
        if state.cells[cell].variant < 0 or _crossed(state, plan, cell):
            continue
        experiment = state.cells[cell].experiment
        entry = state.cells[cell].entry
        if due > plan.experiments[experiment].stopped:
            continue
        first = plan.experiments[experiment].slot_start
        for slot in range(first, plan.experiments[experiment].slot_end):
            if _matured_at(plan, slot, entry) != due or not _counts_for(plan, slot, entry):
                continue
            at = state.cells[cell].slot + slot - first
            if state.slots[at].magnitude >= MAGNITUDE_LIMIT:
                continue
            value = state.slots[at].total
            if plan.slots[slot].kind == CONVERSION:
                value = np.int64(1) if value > 0 else np.int64(0)
            row = plan.slots[slot].row + state.cells[cell].variant
            add_unit(state.sums, row, MATURED_WORDS, value, 1)
            state.experiments[experiment].touched = True


@kernel
def fold(state, plan, settled):
    """Compute all sums, and the heap, from the cells. The arrays of sums must be zero."""
    state.counts[HEAP] = 0
    for cell in range(state.counts[CELLS]):
        if (
            state.cells[cell].variant >= 0
            and not plan.experiments[state.cells[cell].experiment].final
        ):
            _contribute(state, plan, cell, 1, settled)
            _await_maturity(state, plan, cell, settled)


@kernel
def heap_room(state):
    """Return the most entries that a fold may put on the heap."""
    room = 0
    for cell in range(state.counts[CELLS]):
        if state.cells[cell].variant >= 0:
            room += state.cells[cell].slots
    return room


@kernel
def slots_missing(state, plan):
    """Return how many more slots the cells need for metrics that were added."""
    missing = 0
    for cell in range(state.counts[CELLS]):
        experiment = state.cells[cell].experiment
        if state.cells[cell].variant >= 0 and experiment < len(plan.experiments):
            wanted = plan.experiments[experiment].slot_end - plan.experiments[experiment].slot_start
            if wanted > state.cells[cell].slots:
                missing += wanted
    return missing


@kernel
def widen_cells(state, plan):
    """Move the cells of experiments that got metrics to slots that hold them too."""
    for cell in range(state.counts[CELLS]):
        experiment = state.cells[cell].experiment
        if state.cells[cell].variant < 0 or experiment >= len(plan.experiments):
            continue
        wanted = plan.experiments[experiment].slot_end - plan.experiments[experiment].slot_start
        if wanted <= state.cells[cell].slots:
            continue
        old, new = state.cells[cell].slot, state.counts[SLOTS]
        for place in range(wanted):
            had = place < state.cells[cell].slots
            state.slots[new + place].total = state.slots[old + place].total if had else 0
            state.slots[new + place].magnitude = state.slots[old + place].magnitude if had else 0
        state.cells[cell].slot = new
        state.cells[cell].slots = wanted
        state.counts[SLOTS] += wanted


@kernel
def replace_recent(state, plan, experiment, offset, sign, horizon):
    """Take back (sign -1), or count again (1), all recent events for one experiment.

    Between the two the plan changes: stops, starts and added metrics are exact that way, whatever
    had arrived before the tick that brought them. Only segments whose offset is at most ``offset``
    take part. Sums are not kept: a fold follows.
    """
    for unit in range(state.counts[UNITS]):
        segment = segment_of(state.units[unit].high)
        if (
            state.segments[segment].offset > offset
            or state.units[unit].recent < state.counts[RECENT_START]
        ):
            continue
        if state.units[unit].type != plan.experiments[experiment].unit_type:
            continue
        cell = find_cell(state, unit, experiment)
        _place_recent(state, plan, cell, unit, experiment, sign, horizon)
        state.segments[segment].dirty = True


@kernel
def take_back_assignments(state, plan, experiment, offset):
    """Undo assignments of an experiment that no interval of ``plan`` holds any more.

    An interval only ever loses its end, so what is lost is the newest: a cell whose entry is lost
    had no earlier assignment, and of the others only the earliest is known, and needed.
    """
    for cell in range(state.counts[CELLS]):
        if state.cells[cell].experiment != experiment or state.cells[cell].variant < 0:
            continue
        unit = state.cells[cell].unit
        segment = segment_of(state.units[unit].high)
        if state.segments[segment].offset > offset:
            continue
        if not counts_at(plan, experiment, state.cells[cell].entry):
            state.cells[cell].variant = -1
            state.segments[segment].dirty = True
        elif state.cells[cell].other != OPEN_END and not counts_at(
            plan, experiment, state.cells[cell].other
        ):
            state.cells[cell].other = OPEN_END
            state.segments[segment].dirty = True


@kernel
def count_recent_assignments(state, experiment):
    """Return how many recent rows assign units to an experiment."""
    found = 0
    for at in range(state.counts[RECENT_END] - state.counts[RECENT_START]):
        if state.recent[at].kind == 0 and state.recent[at].experiment == experiment:
            found += 1
    return found


@kernel
def assign_recent(state, old_plan, plan, experiment, offset, horizon):
    """Count recent assignments that an interval holds now and none held before."""
    for at in range(state.counts[RECENT_END] - state.counts[RECENT_START]):
        timestamp = state.recent[at].timestamp
        if (
            state.recent[at].kind != 0
            or state.recent[at].experiment != experiment
            or timestamp < horizon
            or not counts_at(plan, experiment, timestamp)
        ):
            continue
        held = experiment < len(old_plan.experiments) and counts_at(old_plan, experiment, timestamp)
        unit = state.recent[at].unit
        segment = segment_of(state.units[unit].high)
        if held or state.segments[segment].offset > offset:
            continue
        state.segments[segment].dirty = True
        assign(
            state,
            plan,
            unit,
            experiment,
            state.recent[at].code,
            timestamp,
            state.recent[at].high,
            state.recent[at].low,
            np.int64(0),
            horizon,
            False,
        )


@kernel
def drop_cells(state, experiment, offset):
    """Drop the cells of an experiment that is final, in segments up to ``offset``."""
    for cell in range(state.counts[CELLS]):
        if state.cells[cell].experiment == experiment and state.cells[cell].variant >= 0:
            segment = segment_of(state.units[state.cells[cell].unit].high)
            if state.segments[segment].offset <= offset:
                state.cells[cell].variant = -1
                state.segments[segment].dirty = True


# --- checkpoints --------------------------------------------------------------------------------


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


@kernel
def relink_cells(state):
    """Chain the cells of every unit anew."""
    for unit in range(state.counts[UNITS]):
        state.units[unit].cell = -1
    for cell in range(state.counts[CELLS]):
        unit = state.cells[cell].unit
        state.cells[cell].next = state.units[unit].cell
        state.units[unit].cell = cell
