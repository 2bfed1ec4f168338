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
from stream_processors.accumulate.kernels.days import take_covariates
from stream_processors.accumulate.kernels.lookups import (
    find_cell,
    is_metric,
    newest_of,
    segment_of,
    time_of,
)
from stream_processors.accumulate.kernels.nodes import free_nodes
from stream_processors.accumulate.kernels.placing import place_recent
from stream_processors.accumulate.plan import OPEN_END
from stream_processors.accumulate.state import (
    CELLS,
    DEAD,
    RECENT_END,
    RECENT_START,
    TOTALS,
    UNITS,
)


@kernel
def totals_missing(state, plan):
    """Return how many more words of totals the cells need for metrics that were added."""
    missing = 0
    for cell in range(state.counts[CELLS]):
        experiment = state.cells[cell].experiment
        if state.cells[cell].variant >= 0 and experiment < len(plan.experiments):
            wanted = plan.experiments[experiment].totals
            if wanted > state.cells[cell].totals:
                missing += wanted
    return missing


@kernel
def widen_cells(state, plan):
    """Move the totals of cells of experiments that got metrics to where they hold them too."""
    for cell in range(state.counts[CELLS]):
        experiment = state.cells[cell].experiment
        if state.cells[cell].variant < 0 or experiment >= len(plan.experiments):
            continue
        wanted, had = plan.experiments[experiment].totals, state.cells[cell].totals
        if wanted <= had:
            continue
        old, new = np.int64(state.cells[cell].total), state.counts[TOTALS]
        for word in range(wanted):
            state.totals[new + word] = state.totals[old + word] if word < had else 0
        state.cells[cell].total = new
        state.cells[cell].totals = wanted
        state.counts[TOTALS] += wanted
        take_covariates(state, plan, cell, had)


@kernel
def replace_recent(state, plan, experiment, offset, sign, horizon):
    """Take back (sign -1), or count again (1), all recent events for one experiment.

    Between the two the plan changes: stops, starts and added metrics are exact that way, whatever
    had arrived before the tick that brought them. Only segments whose offset is at most ``offset``
    take part. Sums are not kept: a fold follows.
    """
    for unit in range(state.counts[UNITS]):
        segment = segment_of(state.units[unit].high)
        if state.segments[segment].offset > offset or newest_of(state, unit) < 0:
            continue
        if state.units[unit].type != plan.experiments[experiment].unit_type:
            continue
        cell = find_cell(state, unit, experiment)
        place_recent(state, plan, cell, unit, experiment, sign, horizon)
        state.segments[segment].dirty = True


@kernel
def _give_up(state, plan, cell):
    """Take a cell back; what it held is free at once, or after a compaction."""
    free_nodes(state, plan, cell)
    state.cells[cell].variant = -1
    state.counts[DEAD] += 1


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
            _give_up(state, plan, cell)
            state.segments[segment].dirty = True
        elif state.cells[cell].other != OPEN_END and not counts_at(
            plan, experiment, state.cells[cell].other
        ):
            state.cells[cell].other = OPEN_END
            state.segments[segment].dirty = True


@kernel
def count_recent_assignments(state, experiment):
    """Return how many recent rows assign units to an experiment."""
    found, mask = 0, len(state.recent) - 1
    for number in range(state.counts[RECENT_START], state.counts[RECENT_END]):
        slot = number & mask
        if not is_metric(state, slot) and state.recent[slot].experiment == experiment:
            found += 1
    return found


@kernel
def assign_recent(state, old_plan, plan, experiment, offset, horizon):
    """Count recent assignments that an interval holds now and none held before."""
    mask = len(state.recent) - 1
    for number in range(state.counts[RECENT_START], state.counts[RECENT_END]):
        slot = number & mask
        timestamp = time_of(state, slot)
        if (
            is_metric(state, slot)
            or state.recent[slot].experiment != experiment
            or timestamp < horizon
            or not counts_at(plan, experiment, timestamp)
        ):
            continue
        held = experiment < len(old_plan.experiments) and counts_at(old_plan, experiment, timestamp)
        unit = np.int64(state.recent[slot].unit)
        segment = segment_of(state.units[unit].high)
        if held or state.segments[segment].offset > offset:
            continue
        state.segments[segment].dirty = True
        assign(
            state,
            plan,
            unit,
            experiment,
            state.recent[slot].code,
            timestamp,
            state.recent[slot].hash,
            state.recent[slot].value,
            np.int64(0),
            horizon,
            False,
        )


@kernel
def drop_cells(state, plan, experiment, offset):
    """Drop the cells of an experiment that is final, in segments up to ``offset``."""
    for cell in range(state.counts[CELLS]):
        if state.cells[cell].experiment == experiment and state.cells[cell].variant >= 0:
            segment = segment_of(state.units[state.cells[cell].unit].high)
            if state.segments[segment].offset <= offset:
                _give_up(state, plan, cell)
                state.segments[segment].dirty = True
