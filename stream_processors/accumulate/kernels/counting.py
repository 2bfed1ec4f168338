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

from stream_processors.accumulate.kernels.compiled import inlined, kernel
from stream_processors.accumulate.kernels.contributing import await_maturity, contribute
from stream_processors.accumulate.kernels.days import (
    day_of,
    is_kept_live,
    keep_day,
    take_covariates,
)
from stream_processors.accumulate.kernels.lookups import (
    GIVEN,
    METRIC,
    find_cell,
    find_row,
    find_unit,
    remember,
    segment_of,
    unit_for,
)
from stream_processors.accumulate.kernels.placing import (
    EVERY,
    UNKNOWN,
    place_event,
    place_recent,
)
from stream_processors.accumulate.kernels.summing import places_for
from stream_processors.accumulate.plan import OPEN_END
from stream_processors.accumulate.state import (
    CELLS,
    CONFLICT,
    DUPLICATE,
    FRESH,
    RECEIVED,
    REFUSED,
    STALE,
    TOTALS,
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
def _new_cell(state, plan, unit, experiment, variant, timestamp, hash_, places):
    cell = state.counts[CELLS]
    state.counts[CELLS] += 1
    first = state.counts[TOTALS]
    totals = np.int64(plan.experiments[experiment].totals)
    state.cells[cell].unit = unit
    state.cells[cell].experiment = experiment
    state.cells[cell].variant = variant
    state.cells[cell].segment = segment_of(state.units[unit].high)
    state.cells[cell].entry = timestamp
    state.cells[cell].entry_hash = hash_
    state.cells[cell].other = OPEN_END
    state.cells[cell].next = state.units[unit].cell
    state.cells[cell].counted = 0
    state.cells[cell].outside = 0
    state.cells[cell].places = places
    state.cells[cell].total = first
    state.cells[cell].totals = totals
    for word in range(first, first + totals):
        state.totals[word] = 0
    state.counts[TOTALS] += totals
    state.units[unit].cell = cell
    take_covariates(state, plan, cell, 0)
    return cell


@kernel
def assign(state, plan, unit, experiment, variant, timestamp, hash_, value, settled, horizon, live):
    """Record that a unit was exposed: the first by (timestamp, event hash) decides.

    ``value`` carries the places, by attributes of this assignment; the first decides them too.
    """
    places = places_for(plan, experiment, value)
    cell = find_cell(state, unit, experiment)
    if cell < 0:
        place_recent(state, plan, np.int64(-1), unit, experiment, -1, horizon)
        cell = _new_cell(state, plan, unit, experiment, variant, timestamp, hash_, places)
        place_recent(state, plan, cell, unit, experiment, 1, horizon)
        if live:
            contribute(state, plan, cell, 1, settled)
            await_maturity(state, plan, cell, settled)
        return
    entry = state.cells[cell].entry
    if timestamp < entry or (timestamp == entry and hash_ < state.cells[cell].entry_hash):
        if live:
            contribute(state, plan, cell, -1, settled)
        place_recent(state, plan, cell, unit, experiment, -1, horizon)
        if state.cells[cell].variant != variant:
            # What was first is the earliest of the others now: nothing was before it.
            state.cells[cell].other = entry
            state.cells[cell].variant = variant
        state.cells[cell].entry = timestamp
        state.cells[cell].entry_hash = hash_
        state.cells[cell].places = places
        take_covariates(state, plan, cell, 0)
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


@inlined
def _repeats(state, slot, rows, row):
    """Return whether a row says what the recent row of the same id says."""
    stamp = state.recent[slot].stamp
    given = (stamp & GIVEN) != 0
    return (
        (stamp & METRIC) == (METRIC if rows.kind[row] == 1 else 0)
        and given == rows.given[row]
        and (not given or stamp >> 2 == rows.timestamp[row])
        and state.recent[slot].experiment == rows.experiment[row]
        and state.recent[slot].code == rows.code[row]
        and (rows.kind[row] != 1 or state.recent[slot].value == rows.value[row])
    )


@kernel
def _count(state, plan, rows, row, unit, segment, settled, horizon, live):
    """Count one fresh row."""
    experiment, code, timestamp = rows.experiment[row], rows.code[row], rows.timestamp[row]
    if rows.kind[row] == 0:
        if not plan.experiments[experiment].final and counts_at(plan, experiment, timestamp):
            assign(
                state,
                plan,
                unit,
                experiment,
                code,
                timestamp,
                rows.event_hash[row],
                rows.value[row],
                settled,
                horizon,
                live,
            )
        return
    if code < len(plan.tracker_start) - 1:
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
    if experiment == EVERY and is_kept_live(plan, code, day_of(timestamp)):
        value = rows.value[row]
        keep_day(state, plan, unit, code, day_of(timestamp), value, horizon, settled, live)


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
        if rows.experiment[row] == UNKNOWN or rows.code[row] < 0:
            if counts:
                state.ledger[segment, REFUSED] += 1
            continue
        timestamp = rows.timestamp[row]
        if timestamp < horizon:
            if counts:
                state.ledger[segment, STALE] += 1
            continue
        hash_ = rows.event_hash[row]
        unit = find_unit(state, high, low)
        known = find_row(state, unit, hash_, horizon) if unit >= 0 else np.int64(-1)
        if known >= 0:
            if counts:
                same = _repeats(state, known, rows, row)
                state.ledger[segment, DUPLICATE if same else CONFLICT] += 1
            continue
        if unit < 0:
            unit = unit_for(state, high, low, rows.unit_type[row])
        if counts:
            state.ledger[segment, FRESH] += 1
            _count(state, plan, rows, row, unit, segment, settled, horizon, live)
        stamp = timestamp << 2
        if rows.given[row]:
            stamp |= GIVEN
        if rows.kind[row] == 1:
            stamp |= METRIC
        remember(state, unit, hash_, stamp, rows.experiment[row], rows.code[row], rows.value[row])
