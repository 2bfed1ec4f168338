"""What one metric event means for one cell: totals and attribution. Kernels.

Sums are the caller's business. Placing with sign -1 undoes placing with sign 1.
"""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from stream_processors.accumulate.kernels.compiled import inlined, kernel
from stream_processors.accumulate.kernels.contributing import counts_for, matured_at
from stream_processors.accumulate.kernels.lookups import (
    before_of,
    is_metric,
    newest_of,
    segment_of,
    time_of,
)
from stream_processors.accumulate.kernels.nodes import count_in_bucket
from stream_processors.accumulate.kernels.summing import MAGNITUDE_LIMIT, bucket_index
from stream_processors.accumulate.layout import CONVERSION, COUNT, EVENTS, MEAN, RATIO
from stream_processors.accumulate.plan import OPEN_END

MAGNITUDE_SHIFT = 20

EVERY = -1
"""The experiment of a metric event that is for all that track it."""

UNKNOWN = -2
"""The experiment of a row that names none there is."""

_Q_LIMIT = 2.0**62


@inlined
def quantised(value, scale):
    """Return (a value in units of the precision, what it adds to the bound on magnitudes)."""
    scaled = np.rint(value * scale)
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
def is_made_of(plan, slot, metric):
    """Return whether metric events of a name count for a slot."""
    return plan.slots[slot].metric == metric or plan.slots[slot].divisor == metric


@inlined
def _add_to_totals(state, plan, slot, at, metric, value, sign):
    """Add one event to a slot's totals, which begin at word ``at``, or take it back."""
    kind = plan.slots[slot].kind
    if kind == CONVERSION:
        if value > 0:
            state.totals[at] += sign
    elif kind == COUNT:
        state.totals[at] += sign
    else:
        q, magnitude = quantised(value, plan.slots[slot].scale)
        if kind == EVENTS:
            state.totals[at] += sign
            if magnitude >= MAGNITUDE_LIMIT:
                state.totals[at + 2] += sign
            else:
                count_in_bucket(state, at + 1, bucket_index(plan, q), sign)
        else:
            if kind == RATIO and plan.slots[slot].divisor == metric:
                at += 2
            elif kind == MEAN:
                state.totals[at + 2] += sign
            state.totals[at] += sign * q
            state.totals[at + 1] += sign * magnitude


@inlined
def _put_event(state, plan, cell, metric, value, timestamp, sign):
    """Add or take back one metric event in a cell: totals and attribution, not sums.

    Returns whether a window held it.
    """
    experiment = state.cells[cell].experiment
    entry = state.cells[cell].entry
    first = plan.experiments[experiment].slot_start
    held = False
    for slot in range(first, plan.experiments[experiment].slot_end):
        if is_made_of(plan, slot, metric) and _in_window(plan, experiment, slot, entry, timestamp):
            at = np.int64(state.cells[cell].total) + plan.slots[slot].at
            _add_to_totals(state, plan, slot, at, metric, value, sign)
            held = True
    return held


@kernel
def _tracks(plan, experiment, metric):
    for slot in range(
        plan.experiments[experiment].slot_start, plan.experiments[experiment].slot_end
    ):
        if is_made_of(plan, slot, metric):
            return True
    return False


@inlined
def _attributed_from(plan, experiment, metric):
    """Return from which timestamp on events of a metric are attributed to an experiment."""
    since = OPEN_END
    for slot in range(
        plan.experiments[experiment].slot_start, plan.experiments[experiment].slot_end
    ):
        if is_made_of(plan, slot, metric):
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
    segment = segment_of(state.units[unit].high)
    mask = len(state.recent) - 1
    number = newest_of(state, unit)
    while number >= 0:
        slot = number & mask
        if (
            is_metric(state, slot)
            and time_of(state, slot) >= horizon
            and (
                state.recent[slot].experiment == EVERY
                or state.recent[slot].experiment == experiment
            )
            and _tracks(plan, experiment, state.recent[slot].code)
        ):
            place_event(
                state,
                plan,
                cell,
                segment,
                experiment,
                state.recent[slot].code,
                state.recent[slot].value,
                time_of(state, slot),
                sign,
            )
        number = before_of(state, number)
