"""What one unit adds to the sums, and when its windows have passed. Kernels.

``open`` sums are over all exposed units with totals to date, matured ones over units whose window
has passed; both change with every change of a cell, by taking its share out and adding it anew.
"""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from stream_processors.accumulate.kernels.compiled import inlined, kernel
from stream_processors.accumulate.kernels.limbs import (
    MATURED_COVARIATE_WORDS,
    MATURED_WORDS,
    OPEN_WORDS,
    add_unit,
    add_unit_with_covariate,
)
from stream_processors.accumulate.plan import OPEN_END
from stream_processors.accumulate.state import CELLS, HEAP

CONVERSION = 0
COUNT = 1
SUM = 2

MAGNITUDE_LIMIT = 1 << 42
"""In units of 2**20: a unit whose sum of |q| may reach 2**62 leaves the metric."""


@inlined
def _crossed(state, plan, cell):
    return (
        plan.experiments[state.cells[cell].experiment].excludes
        and state.cells[cell].other != OPEN_END
    )


@inlined
def counts_for(plan, slot, entry):
    return entry >= plan.slots[slot].added


@inlined
def matured_at(plan, slot, entry):
    window = plan.slots[slot].window
    if window < 0 or entry > OPEN_END - window:
        return OPEN_END
    return entry + window


@inlined
def _has_left(state, plan, cell, slot):
    """Return whether a cell's values are too large for the metric to hold."""
    at = state.cells[cell].total + plan.slots[slot].at
    if plan.slots[slot].kind == SUM and state.totals[at + 1] >= MAGNITUDE_LIMIT:
        return True
    covariate_at = plan.slots[slot].covariate_at
    return (
        covariate_at >= 0
        and state.totals[state.cells[cell].total + covariate_at + 1] >= MAGNITUDE_LIMIT
    )


@kernel
def _sum_slot(state, plan, cell, slot, matured, sign):
    """Add to, or take from, one basis what a cell holds for one slot."""
    first = np.int64(state.cells[cell].total)
    variant = state.cells[cell].variant
    converts = plan.slots[slot].kind == CONVERSION
    q = state.totals[first + plan.slots[slot].at]
    if converts:
        q = np.int64(1) if q > 0 else np.int64(0)
    basis = MATURED_WORDS if matured else OPEN_WORDS
    add_unit(state.sums, plan.slots[slot].row + variant, basis, q, sign)
    if plan.slots[slot].covariate_at < 0:
        return
    at = first + plan.slots[slot].covariate_at
    if state.totals[at + 2] == 0:
        return
    x = state.totals[at]
    if converts:
        x = np.int64(1) if x > 0 else np.int64(0)
    basis = MATURED_COVARIATE_WORDS if matured else OPEN_WORDS
    row = plan.slots[slot].covariate_row + variant
    add_unit_with_covariate(state.covariate_sums, row, basis, q, x, sign)


@inlined
def _contribute_slot(state, plan, cell, slot, sign, settled):
    """Add or take away what a cell holds for one slot: open sums, and matured ones if it is."""
    entry = state.cells[cell].entry
    if not counts_for(plan, slot, entry):
        return
    if _has_left(state, plan, cell, slot):
        state.overflowed[slot] += sign
        return
    _sum_slot(state, plan, cell, slot, False, sign)
    due = matured_at(plan, slot, entry)
    if due <= settled and due <= plan.experiments[state.cells[cell].experiment].stopped:
        _sum_slot(state, plan, cell, slot, True, sign)


@kernel
def contribute(state, plan, cell, sign, settled):
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
def await_maturity(state, plan, cell, settled):
    """Put a cell on the heap once for each window that has not yet passed."""
    experiment = state.cells[cell].experiment
    first, end = plan.experiments[experiment].slot_start, plan.experiments[experiment].slot_end
    for slot in range(first, end):
        due = matured_at(plan, slot, state.cells[cell].entry)
        if due <= settled or due == OPEN_END:
            continue
        repeated = False
        for before in range(first, slot):
            if plan.slots[before].window == plan.slots[slot].window:
                repeated = True
        if not repeated:
            _push_due(state, due, cell)


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
            if matured_at(plan, slot, entry) != due or not counts_for(plan, slot, entry):
                continue
            if _has_left(state, plan, cell, slot):
                continue
            _sum_slot(state, plan, cell, slot, True, 1)
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
            contribute(state, plan, cell, 1, settled)
            await_maturity(state, plan, cell, settled)


@kernel
def heap_room(state, plan):
    """Return the most entries that a fold may put on the heap."""
    room = 0
    for cell in range(state.counts[CELLS]):
        experiment = state.cells[cell].experiment
        if state.cells[cell].variant >= 0 and experiment < len(plan.experiments):
            room += plan.experiments[experiment].slot_end - plan.experiments[experiment].slot_start
    return room
