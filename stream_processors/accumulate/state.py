"""The arrays that a partition's live state is made of, and how they grow.

Units, cells, slots of cells, and recent rows are arrays of records; two open-addressing tables
find a unit by its hash and a recent row by its event hash. Kernels take the arrays as they are;
room is made before each call, so no kernel allocates. Few arrays: each costs a kernel's call.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_processors.accumulate.kernels.limbs import WORDS

SEGMENTS = 16
"""A partition is split in as many segments, by the top bits of the unit hash."""

SEGMENT_SHIFT = 60

# Places in ``counts``.
UNITS, CELLS, SLOTS, RECENT_END, RECENT_START, HEAP, UNIT_FILL, ID_FILL = range(8)

# Columns of ``ledger``.
RECEIVED, FRESH, DUPLICATE, CONFLICT, STALE, REFUSED = range(6)
LEDGER_WIDTH = 6

NOWHERE = -1

UNIT = np.dtype(
    [("high", "u8"), ("low", "u8"), ("recent", "i8"), ("type", "i4"), ("cell", "i4")], align=True
)
"""A unit: 128-bit hash, number of its newest recent row, code of its type, its first cell."""

CELL = np.dtype(
    [
        ("entry", "i8"),
        ("entry_high", "u8"),
        ("entry_low", "u8"),
        ("other", "i8"),
        ("slot", "i8"),
        ("unit", "i4"),
        ("experiment", "i4"),
        ("next", "i4"),
        ("counted", "i4"),
        ("outside", "i4"),
        ("slots", "i2"),
        ("variant", "i2"),
    ],
    align=True,
)
"""A unit in an experiment.

``entry``: timestamp of its first assignment, whose event hash breaks ties. ``other``: earliest
timestamp of an assignment to another variant, OPEN_END if none. ``slot``, ``slots``: its totals.
``next``: the unit's next cell. ``counted``, ``outside``: metric events since entry, by whether a
window held them. ``variant`` -1: taken back.
"""

SLOT = np.dtype([("total", "i8"), ("magnitude", "i8")], align=True)
"""A cell's total of one metric: positive events (conversion), events (count), sum of quantised
values; and an integer bound on the sum of |q|, in units of 2**20."""

RECENT = np.dtype(
    [
        ("high", "u8"),
        ("low", "u8"),
        ("position", "i8"),
        ("timestamp", "i8"),
        ("content", "u8"),
        ("value", "f8"),
        ("before", "i8"),
        ("unit", "i4"),
        ("experiment", "i4"),
        ("code", "i4"),
        ("kind", "u1"),
    ],
    align=True,
)
"""A fresh row within the horizon.

``high``, ``low``: event hash. ``position``: offset * 2**20 + row in its message. ``content``: hash
of what a resend must repeat. ``before``: the unit's recent row before this one, -1 for none.
``experiment``: ordinal, -1 for a metric event of all. ``code``: variant of an assignment, metric
name of a metric event. ``kind``: 0 assignment, 1 metric. Row number n stands at n - start.
"""

DUE = np.dtype([("due", "i8"), ("cell", "i8")], align=True)
"""An entry of the heap of cells whose window has not passed: entry + window, cell."""

SEGMENT_MARK = np.dtype([("offset", "i8"), ("dirty", "?")], align=True)
"""First source offset that a segment does not contain; whether its checkpoint is older."""

EXPERIMENT_SUMS = np.dtype(
    [
        ("crossovers", "i8"),
        ("counted", "i8"),
        ("outside", "i8"),
        ("excluded", "i8"),
        ("touched", "?"),
    ],
    align=True,
)
"""Of one experiment: units with two variants, metric events by what became of them, and whether
anything changed since the last report."""


class State(NamedTuple):
    """One partition's arrays. The first ``counts[…]`` entries are in use.

    Attributes:
        counts: How many units, cells, slots; end and start of recent rows; length of the heap;
            filled places of the two tables.
        units: UNIT.
        unit_table: Open addressing over the low half of the hash: number of a unit, or -1.
        cells: CELL.
        slots: SLOT.
        recent: RECENT.
        id_table: Open addressing over the low half of the event hash: number of a row, or -1.
        heap: DUE, the least first.
        segments: SEGMENT_MARK, shape (segments,).
        ledger: Shape (segments, 6): rows by what became of them.
        no_assignment: Shape (segments, experiments): events of units not, or not yet, in it.
        experiments: EXPERIMENT_SUMS, shape (experiments,).
        units_of: Shape (variants of all experiments,): exposed units.
        sums: Shape (slots and variants of all experiments, 14): exact sums, see ``limbs``.
        overflowed: Shape (slots of all experiments,): units that left a metric.
    """

    counts: NDArray[np.int64]
    units: NDArray[np.void]
    unit_table: NDArray[np.int32]
    cells: NDArray[np.void]
    slots: NDArray[np.void]
    recent: NDArray[np.void]
    id_table: NDArray[np.int64]
    heap: NDArray[np.void]
    segments: NDArray[np.void]
    ledger: NDArray[np.int64]
    no_assignment: NDArray[np.int64]
    experiments: NDArray[np.void]
    units_of: NDArray[np.int64]
    sums: NDArray[np.uint64]
    overflowed: NDArray[np.int64]


def empty_state() -> State:
    """Return the state of a partition that has read nothing."""
    return State(
        counts=np.zeros(8, np.int64),
        units=np.zeros(64, UNIT),
        unit_table=np.full(256, NOWHERE, np.int32),
        cells=np.zeros(64, CELL),
        slots=np.zeros(64, SLOT),
        recent=np.zeros(64, RECENT),
        id_table=np.full(256, NOWHERE, np.int64),
        heap=np.zeros(64, DUE),
        segments=np.zeros(SEGMENTS, SEGMENT_MARK),
        ledger=np.zeros((SEGMENTS, LEDGER_WIDTH), np.int64),
        no_assignment=np.zeros((SEGMENTS, 0), np.int64),
        experiments=np.zeros(0, EXPERIMENT_SUMS),
        units_of=np.zeros(0, np.int64),
        sums=np.zeros((0, 2 * WORDS), np.uint64),
        overflowed=np.zeros(0, np.int64),
    )


def with_room(state: State, name: str, needed: int) -> State:
    """Return the state with room for ``needed`` entries in one of its arrays."""
    array = getattr(state, name)
    capacity = len(array)
    if needed <= capacity:
        return state
    while capacity < needed:
        capacity += max(64, capacity // 2)
    longer = np.zeros(capacity, array.dtype)
    longer[: len(array)] = array
    return state._replace(**{name: longer})


def table_size(entries: int) -> int:
    """Return the size of a table for so many entries: a power of two, at most 60 % full."""
    size = 256
    while size * 3 < entries * 5:
        size *= 2
    return size
