"""Events of a cell by the bucket of their value: small chained nodes. Kernels.

A chain is in the order of buckets, so it depends on its events alone. Whoever is emptied is free
for the next; room is made before each call.
"""

# numba compiles these; annotations would be its types, not Python's.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,assignment"

import numpy as np

from stream_processors.accumulate.kernels.compiled import kernel
from stream_processors.accumulate.layout import EVENTS
from stream_processors.accumulate.state import FREE_NODE, FREE_NODES, NODES


@kernel
def _take_node(state):
    """Return a node that is not in use, counted from 1."""
    node = state.counts[FREE_NODE]
    if node > 0:
        state.counts[FREE_NODE] = state.nodes[node - 1].next
        state.counts[FREE_NODES] -= 1
        return node
    state.counts[NODES] += 1
    return state.counts[NODES]


@kernel
def _free_node(state, node):
    state.nodes[node - 1].next = state.counts[FREE_NODE]
    state.counts[FREE_NODE] = node
    state.counts[FREE_NODES] += 1


@kernel
def free_nodes(state, plan, cell):
    """Free all nodes of a cell; their heads are blank then."""
    experiment = state.cells[cell].experiment
    for slot in range(
        plan.experiments[experiment].slot_start, plan.experiments[experiment].slot_end
    ):
        word = plan.slots[slot].at + 1
        if plan.slots[slot].kind != EVENTS or word >= state.cells[cell].totals:
            continue
        head = np.int64(state.cells[cell].total) + word
        node = state.totals[head]
        state.totals[head] = 0
        while node > 0:
            after = np.int64(state.nodes[node - 1].next)
            _free_node(state, node)
            node = after


@kernel
def count_in_bucket(state, head, bucket, sign):
    """Count an event of a bucket, or take it back, in the chain that begins at word ``head``."""
    before, node = np.int64(0), state.totals[head]
    while node > 0 and state.nodes[node - 1].bucket < bucket:
        before, node = node, np.int64(state.nodes[node - 1].next)
    if node > 0 and state.nodes[node - 1].bucket == bucket:
        state.nodes[node - 1].count += sign
        if state.nodes[node - 1].count == 0:
            _link(state, head, before, np.int64(state.nodes[node - 1].next))
            _free_node(state, node)
        return
    taken = _take_node(state)
    state.nodes[taken - 1].bucket = bucket
    state.nodes[taken - 1].count = sign
    state.nodes[taken - 1].next = node
    _link(state, head, before, taken)


@kernel
def _link(state, head, before, node):
    if before > 0:
        state.nodes[before - 1].next = node
    else:
        state.totals[head] = node


@kernel
def nodes_of_cells(state, plan, cells, counts):
    """Write how many nodes each cell has to ``counts``; return how many they are together."""
    every = 0
    for place in range(len(cells)):
        counts[place] = 0
        experiment = state.cells[cells[place]].experiment
        for slot in range(
            plan.experiments[experiment].slot_start, plan.experiments[experiment].slot_end
        ):
            if plan.slots[slot].kind != EVENTS:
                continue
            at = np.int64(state.cells[cells[place]].total) + plan.slots[slot].at
            node = state.totals[at + 1]
            while node > 0:
                counts[place] += 1
                node = np.int64(state.nodes[node - 1].next)
        every += counts[place]
    return every


@kernel
def gather_nodes(state, plan, cells, totals, found):
    """Copy the nodes of ``cells``, one cell after the other, and blank their heads in ``totals``.

    A node's word is that of its head, among its cell's.
    """
    start, end = 0, 0
    for cell in cells:
        experiment = state.cells[cell].experiment
        for slot in range(
            plan.experiments[experiment].slot_start, plan.experiments[experiment].slot_end
        ):
            if plan.slots[slot].kind != EVENTS:
                continue
            word = plan.slots[slot].at + 1
            totals[start + word] = 0
            node = state.totals[np.int64(state.cells[cell].total) + word]
            while node > 0:
                found.word[end] = word
                found.bucket[end] = state.nodes[node - 1].bucket
                found.count[end] = state.nodes[node - 1].count
                end += 1
                node = np.int64(state.nodes[node - 1].next)
        start += state.cells[cell].totals


@kernel
def load_nodes(state, first_cell, counts, columns):
    """Chain the nodes of a checkpoint to the cells that were just loaded; heads are blank."""
    place = 0
    for row in range(len(counts)):
        first = np.int64(state.cells[first_cell + row].total)
        last_word, last = np.int64(-1), np.int64(0)
        for _ in range(counts[row]):
            word = np.int64(columns.word[place])
            state.counts[NODES] += 1
            node = state.counts[NODES]
            state.nodes[node - 1].bucket = columns.bucket[place]
            state.nodes[node - 1].count = columns.count[place]
            state.nodes[node - 1].next = 0
            if word == last_word:
                state.nodes[last - 1].next = node
            else:
                state.totals[first + word] = node
            last_word, last = word, node
            place += 1


@kernel
def move_nodes(state, plan, cell_count, nodes):
    """Copy the nodes of all cells to ``nodes``, without gaps; return how many they are."""
    end = np.int64(0)
    for cell in range(cell_count):
        experiment = state.cells[cell].experiment
        for slot in range(
            plan.experiments[experiment].slot_start, plan.experiments[experiment].slot_end
        ):
            if plan.slots[slot].kind != EVENTS:
                continue
            head = np.int64(state.cells[cell].total) + plan.slots[slot].at + 1
            node = state.totals[head]
            before = np.int64(0)
            while node > 0:
                nodes[end].bucket = state.nodes[node - 1].bucket
                nodes[end].count = state.nodes[node - 1].count
                nodes[end].next = 0
                end += 1
                if before > 0:
                    nodes[before - 1].next = end
                else:
                    state.totals[head] = end
                before, node = end, np.int64(state.nodes[node - 1].next)
    return end
