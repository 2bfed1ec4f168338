"""What a changed definition means for what was counted before. Kernels.

Recent events are taken back under the old plan and counted again under the new one, so stops,
starts and added metrics are exact whatever had arrived before the tick that brought them. Sums
are not kept here: a fold follows.
"""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from stream_processors.accumulate.kernels.compiled import kernel
from stream_processors.accumulate.kernels.counting import assign, counts_at
from stream_processors.accumulate.kernels.lookups import find_cell, segment_of
from stream_processors.accumulate.kernels.placing import place_recent
from stream_processors.accumulate.plan import OPEN_END
from stream_processors.accumulate.state import CELLS, RECENT_END, RECENT_START, SLOTS, UNITS


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
        place_recent(state, plan, cell, unit, experiment, sign, horizon)
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
