"""The rules of counting, one row after the other. Kernels.

Loops, not columns: a row may depend on the one before it (a duplicate in the same batch), and a
compiled loop is as fast. ``live`` says whether sums are kept; they are not while a replay catches
up, because segments stand at different offsets then.

No rule looks at a recent row that is older than the horizon, so it does not matter how long such
rows are physically kept.
"""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from stream_processors.accumulate.kernels.compiled import kernel
from stream_processors.accumulate.kernels.contributing import await_maturity, contribute
from stream_processors.accumulate.kernels.lookups import (
    find_cell,
    known_content,
    remember,
    segment_of,
    unit_for,
)
from stream_processors.accumulate.kernels.placing import UNKNOWN, place_event, place_recent
from stream_processors.accumulate.plan import OPEN_END
from stream_processors.accumulate.state import (
    CELLS,
    CONFLICT,
    DUPLICATE,
    FRESH,
    RECEIVED,
    REFUSED,
    SLOTS,
    STALE,
)


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
        place_recent(state, plan, np.int64(-1), unit, experiment, -1, horizon)
        cell = _new_cell(state, plan, unit, experiment, variant, timestamp, high, low)
        place_recent(state, plan, cell, unit, experiment, 1, horizon)
        if live:
            contribute(state, plan, cell, 1, settled)
            await_maturity(state, plan, cell, settled)
        return
    if _is_earlier(state, cell, timestamp, high, low):
        if live:
            contribute(state, plan, cell, -1, settled)
        place_recent(state, plan, cell, unit, experiment, -1, horizon)
        if state.cells[cell].variant != variant:
            # What was first is the earliest of the others now: nothing was before it.
            state.cells[cell].other = state.cells[cell].entry
            state.cells[cell].variant = variant
        state.cells[cell].entry = timestamp
        state.cells[cell].entry_high = high
        state.cells[cell].entry_low = low
        place_recent(state, plan, cell, unit, experiment, 1, horizon)
        if live:
            contribute(state, plan, cell, 1, settled)
            await_maturity(state, plan, cell, settled)
    elif variant != state.cells[cell].variant and timestamp < state.cells[cell].other:
        if live:
            contribute(state, plan, cell, -1, settled)
        state.cells[cell].other = timestamp
        if live:
            contribute(state, plan, cell, 1, settled)


@kernel
def _measure(state, plan, unit, segment, experiment, metric, value, timestamp, settled, live):
    """Count one fresh metric event for one experiment that tracks it."""
    cell = find_cell(state, unit, experiment)
    changes = live and cell >= 0 and timestamp >= state.cells[cell].entry
    if changes:
        contribute(state, plan, cell, -1, settled)
    place_event(state, plan, cell, segment, experiment, metric, value, timestamp, 1)
    if changes:
        contribute(state, plan, cell, 1, settled)
    elif live:
        state.experiments[experiment].touched = True


@kernel
def apply_rows(state, plan, rows, offset, settled, horizon, live):
    """Apply the rows of one message.

    Args:
        state: Room for all of them must have been made.
        plan: Of the last tick.
        rows: A ``Rows``.
        offset: Of the message; a segment whose own offset is above it has them already.
        settled: Of the last tick.
        horizon: Of the last tick.
        live: Whether sums are kept.
    """
    for row in range(len(rows.kind)):
        high, low = rows.unit_high[row], rows.unit_low[row]
        segment = segment_of(high)
        counts = state.segments[segment].offset <= offset
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
        known, content = known_content(state, event_high, event_low, position, horizon)
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
