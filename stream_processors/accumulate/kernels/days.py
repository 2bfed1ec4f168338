"""Day totals of units, and the covariates that cells take from them. Kernels.

A covariate is a unit's total over the L whole UTC days before the day of its entry. Day totals are
kept as far back as an entry that may still change can reach; a cell has its covariate by itself,
so what is forgotten changes nothing.
"""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from schemas.imports import DAY_MS
from stream_processors.accumulate.kernels.compiled import inlined, kernel
from stream_processors.accumulate.kernels.contributing import contribute, counts_for
from stream_processors.accumulate.kernels.lookups import (
    is_metric,
    segment_of,
    time_of,
    unit_for,
)
from stream_processors.accumulate.kernels.placing import EVERY, is_made_of, quantised
from stream_processors.accumulate.layout import CONVERSION, COUNT, RATIO
from stream_processors.accumulate.state import DAYS, RECENT_END, RECENT_START, UNITS


@inlined
def day_of(timestamp):
    """Return the UTC day of a timestamp, in days since 1970-01-01."""
    return timestamp // DAY_MS


@inlined
def _holds(plan, slot, entry, day):
    """Return whether a day is one of the covariate's of a unit that entered at ``entry``."""
    last = day_of(entry)
    return last - plan.slots[slot].covariate_days <= day < last


@inlined
def _covariate_words(plan, slot):
    return 5 if plan.slots[slot].kind == RATIO else 3


@inlined
def _add_covariate(state, plan, cell, slot, metric, total, magnitude, rows, positives):
    """Add rows of one metric name to a covariate; its last word counts them."""
    at = np.int64(state.cells[cell].total) + plan.slots[slot].covariate_at
    kind = plan.slots[slot].kind
    state.totals[at + _covariate_words(plan, slot) - 1] += rows
    if kind == CONVERSION:
        state.totals[at] += positives
    elif kind == COUNT:
        state.totals[at] += rows
    else:
        if kind == RATIO and plan.slots[slot].divisor == metric:
            at += 2
        state.totals[at] += total
        state.totals[at + 1] += magnitude


@kernel
def take_covariates(state, plan, cell, first):
    """Set a cell's covariates, from word ``first`` on, to what its unit's day totals amount to.

    Only an entry that is not before the horizon is ever set, and a metric's units enter after it
    was added: all days in question are kept.
    """
    experiment = state.cells[cell].experiment
    if not plan.experiments[experiment].covariates:
        return
    entry = state.cells[cell].entry
    for slot in range(
        plan.experiments[experiment].slot_start, plan.experiments[experiment].slot_end
    ):
        if plan.slots[slot].covariate_at < 0 or plan.slots[slot].at < first:
            continue
        at = state.cells[cell].total + plan.slots[slot].covariate_at
        for word in range(at, at + _covariate_words(plan, slot)):
            state.totals[word] = 0
        if not counts_for(plan, slot, entry):
            continue
        day = np.int64(state.units[state.cells[cell].unit].day)
        while day >= 0:
            if is_made_of(plan, slot, state.days[day].metric) and _holds(
                plan, slot, entry, state.days[day].day
            ):
                _add_covariate(
                    state,
                    plan,
                    cell,
                    slot,
                    state.days[day].metric,
                    state.days[day].total,
                    state.days[day].magnitude,
                    state.days[day].rows,
                    state.days[day].positives,
                )
            day = np.int64(state.days[day].next)


@kernel
def _day_for(state, unit, metric, day):
    """Return the place of a unit's total of a metric name and day, a new one if there is none."""
    at = np.int64(state.units[unit].day)
    while at >= 0:
        if state.days[at].day == day and state.days[at].metric == metric:
            return at
        at = np.int64(state.days[at].next)
    at = state.counts[DAYS]
    state.counts[DAYS] += 1
    state.days[at].unit = unit
    state.days[at].metric = metric
    state.days[at].day = day
    state.days[at].total = 0
    state.days[at].magnitude = 0
    state.days[at].rows = 0
    state.days[at].positives = 0
    state.days[at].next = state.units[unit].day
    state.units[unit].day = at
    return at


@inlined
def first_kept_day(plan, metric, horizon):
    """Return the first day whose totals of a metric name are kept."""
    return day_of(horizon) - plan.metrics[metric].keep_days


@kernel
def keep_day(state, plan, unit, metric, day, value, horizon, settled, live):
    """Add one row to the day totals of a unit, and to the covariates of its cells."""
    q, magnitude = quantised(value, plan.metrics[metric].scale)
    positive = 1 if value > 0 else 0
    if day >= first_kept_day(plan, metric, horizon):
        at = _day_for(state, unit, metric, day)
        state.days[at].total += q
        state.days[at].magnitude += magnitude
        state.days[at].rows += 1
        state.days[at].positives += positive
    cell = np.int64(state.units[unit].cell)
    while cell >= 0:
        if state.cells[cell].variant >= 0:
            _pass_on(state, plan, cell, metric, day, q, magnitude, positive, settled, live)
        cell = np.int64(state.cells[cell].next)


@kernel
def _pass_on(state, plan, cell, metric, day, q, magnitude, positive, settled, live):
    """Add one row to the covariates of a cell that reach its day."""
    experiment = state.cells[cell].experiment
    if experiment >= len(plan.experiments) or not plan.experiments[experiment].covariates:
        return
    entry = state.cells[cell].entry
    changed = False
    for slot in range(
        plan.experiments[experiment].slot_start, plan.experiments[experiment].slot_end
    ):
        if (
            plan.slots[slot].covariate_at < 0
            or not is_made_of(plan, slot, metric)
            or not _holds(plan, slot, entry, day)
            or not counts_for(plan, slot, entry)
        ):
            continue
        if live and not changed:
            contribute(state, plan, cell, -1, settled)
        changed = True
        _add_covariate(state, plan, cell, slot, metric, q, magnitude, 1, positive)
    if live and changed:
        contribute(state, plan, cell, 1, settled)


@inlined
def is_kept_live(plan, metric, day):
    """Return whether events themselves fill the totals of a metric name on a day."""
    return (
        metric < len(plan.metrics)
        and plan.metrics[metric].keep_days > 0
        and day >= plan.metrics[metric].live_from_day
    )


@kernel
def keep_recent(state, plan, metric, offset, horizon):
    """Count recent events into the day totals of a metric name that is new to the catalogue."""
    mask = len(state.recent) - 1
    for number in range(state.counts[RECENT_START], state.counts[RECENT_END]):
        slot = number & mask
        timestamp = time_of(state, slot)
        if (
            not is_metric(state, slot)
            or state.recent[slot].code != metric
            or state.recent[slot].experiment != EVERY
            or timestamp < horizon
            or not is_kept_live(plan, metric, day_of(timestamp))
        ):
            continue
        unit = np.int64(state.recent[slot].unit)
        segment = segment_of(state.units[unit].high)
        if state.segments[segment].offset > offset:
            continue
        state.segments[segment].dirty = True
        value = state.recent[slot].value
        keep_day(state, plan, unit, metric, day_of(timestamp), value, horizon, np.int64(0), False)


@kernel
def apply_import(state, plan, part, ordinal, number, offset, settled, horizon, live):
    """Apply a partition's part of an import batch to the segments whose next one it is.

    Returns whether any segment took it.
    """
    for row in range(len(part.day)):
        segment = segment_of(part.unit_high[row])
        if (
            state.segments[segment].offset > offset
            or state.imported[segment, ordinal] != number - 1
        ):
            continue
        state.import_rows[segment, ordinal] += 1
        unit = unit_for(state, part.unit_high[row], part.unit_low[row], part.unit_type[row])
        keep_day(
            state,
            plan,
            unit,
            part.metric[row],
            np.int64(part.day[row]),
            part.value[row],
            horizon,
            settled,
            live,
        )
    taken = False
    for segment in range(len(state.segments)):
        if (
            state.segments[segment].offset <= offset
            and state.imported[segment, ordinal] == number - 1
        ):
            state.imported[segment, ordinal] = number
            state.segments[segment].dirty = True
            taken = True
    return taken


@kernel
def forget_days(state, plan, horizon):
    """Drop day totals that no entry can reach any more."""
    for unit in range(state.counts[UNITS]):
        state.units[unit].day = -1
    kept = 0
    for at in range(state.counts[DAYS]):
        if state.days[at].day < first_kept_day(plan, state.days[at].metric, horizon):
            continue
        state.days[kept] = state.days[at]
        unit = state.days[kept].unit
        state.days[kept].next = state.units[unit].day
        state.units[unit].day = kept
        kept += 1
    state.counts[DAYS] = kept
