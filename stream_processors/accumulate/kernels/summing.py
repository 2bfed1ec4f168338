"""What one unit adds to the sums of one metric, in every group that it is in. Kernels."""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from stream_processors.accumulate.kernels.compiled import inlined, kernel
from stream_processors.accumulate.kernels.limbs import (
    add_four,
    add_one,
    add_product,
    add_two,
    add_value,
)
from stream_processors.accumulate.layout import (
    BASES,
    BUCKETS,
    CLASS_WORDS,
    CONVERSION,
    EVENTS,
    MEAN,
    PLACE_BITS,
    PLACES_BITS,
    QUANTILE,
    RATIO,
    SHARDS,
    SUM,
)

MAGNITUDE_LIMIT = 1 << 42
"""In units of 2**20: a unit whose sum of |q| may reach 2**62 leaves the metric."""

_PLACE = (1 << PLACE_BITS) - 1
_PLACES = (1 << PLACES_BITS) - 1
_SHARD_SHIFT = np.uint64(54)
_SHARD = np.uint64(SHARDS - 1)


@inlined
def places_for(plan, experiment, value):
    """Return a unit's places from what the row of its assignment carries."""
    marked = np.int64(value)
    if (marked >> PLACES_BITS) << PLACES_BITS == plan.experiments[experiment].places_mark:
        return np.int64(marked & _PLACES)
    # Coded by segments that the draft had before: those values may not exist any more.
    return np.int64(plan.experiments[experiment].elsewhere)


@inlined
def group_at(state, plan, cell, step):
    """Return a cell's group: of all units at step 0, after that by one attribute each."""
    if step == 0:
        return np.int64(0)
    attribute = plan.experiments[state.cells[cell].experiment].attribute_start + step - 1
    place = (np.int64(state.cells[cell].places) >> (PLACE_BITS * (step - 1))) & _PLACE
    return np.int64(plan.group_start[attribute]) + place


@inlined
def group_steps(plan, experiment):
    """Return in how many groups every unit of an experiment is."""
    attributes = (
        plan.experiments[experiment].attribute_end - plan.experiments[experiment].attribute_start
    )
    return attributes + 1


@inlined
def bucket_index(plan, q):
    """Return the place among all buckets of the one that holds ``q``."""
    low, high = np.int64(0), np.int64(BUCKETS)
    while high - low > 1:
        middle = (low + high) >> 1
        if plan.edges[middle] <= q:
            low = middle
        else:
            high = middle
    return low


@inlined
def has_left(state, plan, cell, slot):
    """Return whether a cell's values are too large for the metric to hold."""
    kind = plan.slots[slot].kind
    if kind < SUM and plan.slots[slot].covariate_at < 0:
        return False
    first = np.int64(state.cells[cell].total)
    at = first + plan.slots[slot].at
    if kind == EVENTS:
        return state.totals[at + 2] > 0
    if kind >= SUM and state.totals[at + 1] >= MAGNITUDE_LIMIT:
        return True
    if kind == RATIO and state.totals[at + 3] >= MAGNITUDE_LIMIT:
        return True
    if plan.slots[slot].covariate_at < 0:
        return False
    at = first + plan.slots[slot].covariate_at
    if state.totals[at + 1] >= MAGNITUDE_LIMIT:
        return True
    return kind == RATIO and state.totals[at + 3] >= MAGNITUDE_LIMIT


@inlined
def _add_capped(state, plan, slot, at, q, above, sign):
    """Count what a cap does: units above a fixed one, or the total in its class of the grid."""
    if plan.slots[slot].grid < 0:
        if above:
            state.sums[at] += np.uint64(sign)
        return
    grid = plan.slots[slot].grid
    rank = 0
    while rank < plan.grids.shape[1] and q > plan.grids[grid, rank]:
        rank += 1
    place = at + rank * CLASS_WORDS
    state.sums[place] += np.uint64(sign)
    add_value(state.sums, place + 1, q, sign)
    add_product(state.sums, place + 4, q, q, sign)


@inlined
def _fill(state, row, bucket, at, count):
    """Add to one count of a histogram, and note that its bucket was filled."""
    state.histograms[at] += np.int32(count)
    state.ranges[row, 0] = max(state.ranges[row, 0], BUCKETS - bucket)
    state.ranges[row, 1] = max(state.ranges[row, 1], bucket + 1)


@kernel
def _add_to_histogram(state, plan, cell, slot, row, q, sign):
    """Add a unit's total, or each of its events' values, to one histogram; ``row`` says which."""
    number = plan.slots[slot].range_start + row
    if plan.slots[slot].kind == QUANTILE:
        bucket = bucket_index(plan, q)
        _fill(
            state, number, bucket, plan.slots[slot].histogram_start + row * BUCKETS + bucket, sign
        )
        return
    high = state.units[state.cells[cell].unit].high
    shard = np.int64((high >> _SHARD_SHIFT) & _SHARD)
    node = state.totals[np.int64(state.cells[cell].total) + plan.slots[slot].at + 1]
    while node > 0:
        bucket = np.int64(state.nodes[node - 1].bucket)
        at = plan.slots[slot].histogram_start + (row * BUCKETS + bucket) * SHARDS + shard
        _fill(state, number, bucket, at, sign * state.nodes[node - 1].count)
        node = np.int64(state.nodes[node - 1].next)


@kernel
def _sum_with_covariates(state, plan, cell, slot, at, y, d, sign):
    """Add a unit with a pre-period: its covariates too."""
    covariate = np.int64(state.cells[cell].total) + plan.slots[slot].covariate_at
    x = state.totals[covariate]
    kind = plan.slots[slot].kind
    if kind == RATIO:
        if state.totals[covariate + 4] > 0:
            add_four(state.sums, at, y, d, x, state.totals[covariate + 2], sign)
    elif state.totals[covariate + 2] > 0:
        if kind == MEAN:
            add_four(state.sums, at, y, d, x, state.totals[covariate + 2], sign)
        else:
            if kind == CONVERSION:
                x = np.int64(1) if x > 0 else np.int64(0)
            add_two(state.sums, at, y, x, sign)


@kernel
def sum_slot(state, plan, cell, slot, matured, sign):
    """Add to, or take from, one basis what a cell holds for one slot."""
    kind = plan.slots[slot].kind
    first = np.int64(state.cells[cell].total) + plan.slots[slot].at
    q = state.totals[first]
    if kind == CONVERSION:
        q = np.int64(1) if q > 0 else np.int64(0)
    d = np.int64(0)
    if plan.slots[slot].dimension == 2:
        d = state.totals[first + 2]
    y = min(q, plan.slots[slot].cap)
    experiment = state.cells[cell].experiment
    width = np.int64(plan.experiments[experiment].variants)
    block = np.int64(plan.slots[slot].block)
    for step in range(group_steps(plan, experiment)):
        group = group_at(state, plan, cell, step)
        row = (group * width + state.cells[cell].variant) * BASES + matured
        at = plan.slots[slot].sums_start + row * block
        if plan.slots[slot].dimension == 1:
            add_one(state.sums, at, y, sign)
        else:
            add_two(state.sums, at, y, d, sign)
        if plan.slots[slot].covariates_in_block >= 0:
            covariates = at + plan.slots[slot].covariates_in_block
            _sum_with_covariates(state, plan, cell, slot, covariates, y, d, sign)
        if plan.slots[slot].capped_in_block >= 0:
            capped = at + plan.slots[slot].capped_in_block
            _add_capped(state, plan, slot, capped, q, q > y, sign)
        if kind >= QUANTILE:
            _add_to_histogram(state, plan, cell, slot, row, q, sign)


@inlined
def count_unit(state, plan, cell, crossed, sign):
    """Count a unit's exposure, or its crossover, in all its groups."""
    experiment = state.cells[cell].experiment
    width = np.int64(plan.experiments[experiment].variants)
    place = width if crossed else np.int64(state.cells[cell].variant)
    for step in range(group_steps(plan, experiment)):
        group = group_at(state, plan, cell, step)
        at = plan.experiments[experiment].units_start + group * (width + 1) + place
        state.units_of[at] += sign
