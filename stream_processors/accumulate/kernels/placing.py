"""What one metric event means for one cell: totals and attribution. Kernels.

Sums are the caller's business. Placing with sign -1 undoes placing with sign 1.
"""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from stream_processors.accumulate.kernels.compiled import inlined, kernel
from stream_processors.accumulate.kernels.contributing import (
    CONVERSION,
    MAGNITUDE_LIMIT,
    counts_for,
    matured_at,
)
from stream_processors.accumulate.kernels.lookups import segment_of
from stream_processors.accumulate.plan import OPEN_END
from stream_processors.accumulate.state import RECENT_START

COUNT = 1
MAGNITUDE_SHIFT = 20

EVERY = -1
"""The experiment of a metric event that is for all that track it."""

UNKNOWN = -2
"""The experiment of a row that names none there is."""

_Q_LIMIT = 2.0**62


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
        and timestamp < matured_at(plan, slot, entry)
        and timestamp < plan.experiments[experiment].stopped
        and counts_for(plan, slot, entry)
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
def place_event(state, plan, cell, segment, experiment, metric, value, timestamp, sign):
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
def place_recent(state, plan, cell, unit, experiment, sign, horizon):
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
            place_event(
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
