"""What one unit adds to the sums, and when its windows have passed. Kernels.

``open`` sums are over all exposed units with totals to date, matured ones over units whose window
has passed; both change with every change of a cell, by taking its share out and adding it anew.
"""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from stream_processors.accumulate.kernels.compiled import inlined, kernel
from stream_processors.accumulate.kernels.summing import (
    count_unit,
    group_at,
    group_steps,
    has_left,
    sum_slot,
)
from stream_processors.accumulate.plan import OPEN_END
from stream_processors.accumulate.state import CELLS, HEAP


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
def _contribute_slot(state, plan, cell, slot, sign, settled):
    """Add or take away what a cell holds for one slot: open sums, and matured ones if it is."""
    entry = state.cells[cell].entry
    if not counts_for(plan, slot, entry):
        return
    if has_left(state, plan, cell, slot):
        for step in range(group_steps(plan, state.cells[cell].experiment)):
            group = group_at(state, plan, cell, step)
            state.overflowed[plan.slots[slot].overflow_start + group] += sign
        return
    sum_slot(state, plan, cell, slot, 0, sign)
    due = matured_at(plan, slot, entry)
    if due <= settled and due <= plan.experiments[state.cells[cell].experiment].stopped:
        sum_slot(state, plan, cell, slot, 1, sign)


@kernel
def contribute(state, plan, cell, sign, settled):
    """Add or take away all that a cell holds."""
    experiment = state.cells[cell].experiment
    state.experiments[experiment].touched = True
    counted, outside = state.cells[cell].counted, state.cells[cell].outside
    crossed = _crossed(state, plan, cell)
    count_unit(state, plan, cell, crossed, sign)
    if crossed:
        state.experiments[experiment].excluded += sign * (counted + outside)
        return
    state.experiments[experiment].counted += sign * counted
    state.experiments[experiment].outside += sign * outside
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
            if has_left(state, plan, cell, slot):
                continue
            sum_slot(state, plan, cell, slot, 1, 1)
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
def _forget_due(state, chosen):
    """Take the cells of chosen experiments off the heap."""
    entries = state.counts[HEAP]
    state.counts[HEAP] = 0
    for place in range(entries):
        due, cell = state.heap[place].due, state.heap[place].cell
        if not chosen[state.cells[cell].experiment]:
            _push_due(state, due, cell)


@kernel
def fold_some(state, plan, settled, chosen):
    """Compute the sums of chosen experiments, and their entries of the heap, from the cells.

    Their sums must be zero.
    """
    _forget_due(state, chosen)
    for cell in range(state.counts[CELLS]):
        experiment = state.cells[cell].experiment
        if (
            state.cells[cell].variant >= 0
            and chosen[experiment]
            and not plan.experiments[experiment].final
        ):
            contribute(state, plan, cell, 1, settled)
            await_maturity(state, plan, cell, settled)


@kernel
def heap_room_of(state, plan, chosen):
    """Return the most entries that a fold of chosen experiments may put on the heap."""
    room = 0
    for cell in range(state.counts[CELLS]):
        experiment = state.cells[cell].experiment
        if state.cells[cell].variant >= 0 and chosen[experiment]:
            room += plan.experiments[experiment].slot_end - plan.experiments[experiment].slot_start
    return room


@kernel
def heap_room(state, plan):
    """Return the most entries that a fold may put on the heap."""
    room = 0
    for cell in range(state.counts[CELLS]):
        experiment = state.cells[cell].experiment
        if state.cells[cell].variant >= 0 and experiment < len(plan.experiments):
            room += plan.experiments[experiment].slot_end - plan.experiments[experiment].slot_start
    return room
