"""The arrays that a partition's live state is made of, and how they grow.

Units, cells, totals of cells, kept days and recent rows; two open-addressing tables find a unit by
its hash and a recent row by its id. Kernels take the arrays as they are; room is made before each
call, so no kernel allocates. Few arrays: each costs a kernel's call.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_processors.accumulate import memory

SEGMENTS = 16
"""A partition is split in as many segments, by the top bits of the unit hash."""

SEGMENT_SHIFT = 60

# Places in ``counts``.
UNITS, CELLS, TOTALS, RECENT_END, RECENT_START, HEAP, DAYS, ID_FILL, DEAD = range(9)
NODES, FREE_NODE, FREE_NODES = 9, 10, 11
COUNTS_WIDTH = 12

# Columns of ``ledger``.
RECEIVED, FRESH, DUPLICATE, CONFLICT, STALE, REFUSED = range(6)
LEDGER_WIDTH = 6

ENTRIES_MAX = (1 << 26) - 1
"""Units, and recent rows, of one partition: a table's entry has 27 bits for their number."""

_TABLE_LOAD_MAX = 0.8
_TABLE_LOAD_NEW = 0.57


class PartitionFullError(Exception):
    """A partition holds as many units, or rows within the horizon, as it can."""


UNIT = np.dtype(
    [
        ("high", "u8"),
        ("low", "u8"),
        ("recent", "i4"),
        ("cell", "i4"),
        ("day", "i4"),
        ("type", "i4"),
    ],
    align=True,
)
"""A unit: 128-bit hash, place of its newest recent row (it may have been forgotten since), its
first cell, its first kept day, code of its type."""

CELL = np.dtype(
    [
        ("entry", "i8"),
        ("entry_hash", "u8"),
        ("other", "i8"),
        ("total", "i4"),
        ("unit", "i4"),
        ("experiment", "i4"),
        ("next", "i4"),
        ("counted", "i4"),
        ("outside", "i4"),
        ("places", "u4"),
        ("totals", "i2"),
        ("variant", "i1"),
        ("segment", "i1"),
    ],
    align=True,
)
"""A unit in an experiment.

``entry``: timestamp of its first assignment, whose event hash breaks ties. ``other``: earliest
timestamp of an assignment to another variant, OPEN_END if none. ``total``, ``totals``: where its
totals begin, and how many words they are. ``next``: the unit's next cell. ``counted``,
``outside``: metric events since entry, by whether a window held them. ``places``: among which
results the unit is, by attributes of its first assignment; see ``Rows``. ``variant`` -1: taken
back. ``segment``: the unit's, so that a segment's cells are found without a look at their units.
"""

TOTAL = np.dtype("i8")
"""A word of a cell's totals. A conversion has one, its positive events; a count one, its events; a
sum, and a quantile of units, two: the sum of quantised values, and an integer bound on the sum of
|q| in units of 2**20. A mean has these and its events, a ratio these of the numerator and of the
denominator. A quantile of events has three: events, its first node (plus 1, 0 for none), events
whose value is too large for a bucket.

A metric with a covariate has three more: the covariate's sum, its bound, and its rows; a ratio
five: sum and bound of either, and rows."""

NODE = np.dtype([("bucket", "i4"), ("count", "i4"), ("next", "i4")])
"""Events of one cell and metric whose values are in one bucket; ``next`` (plus 1, 0 for none) is of
a higher one. Free nodes are chained too."""

DAY = np.dtype(
    [
        ("total", "i8"),
        ("magnitude", "i8"),
        ("unit", "i4"),
        ("metric", "i4"),
        ("day", "i4"),
        ("rows", "i4"),
        ("positives", "i4"),
        ("next", "i4"),
    ],
    align=True,
)
"""What a unit's events of one metric name amount to on one UTC day, in days since 1970-01-01: sum
and bound as in ``TOTAL``, rows, rows above 0. ``next``: the unit's next one."""

RECENT = np.dtype(
    [
        ("hash", "u8"),
        ("value", "f8"),
        ("stamp", "i8"),
        ("before", "u4"),
        ("unit", "i4"),
        ("experiment", "i4"),
        ("code", "i4"),
    ],
    align=True,
)
"""A fresh row within the horizon.

``hash``: of unit and event id; with the unit itself it tells an id. ``stamp``: timestamp * 4, plus
2 if the producer gave it, plus 1 for a metric event. ``before``: how many rows before this one the
unit's last recent row stands, 0 for none. ``experiment``: ordinal, -1 for a metric event of all.
``code``: variant of an assignment, metric name of a metric event. ``value`` of an assignment: its
places, as in ``Rows``. The array is a ring: row number n stands at n modulo its length.
"""

DUE = np.dtype([("due", "i8"), ("cell", "i4")])
"""An entry of the heap of cells whose window has not passed: entry + window, cell."""

SEGMENT_MARK = np.dtype([("offset", "i8"), ("dirty", "?")], align=True)
"""First source offset that a segment does not contain; whether its checkpoint is older."""

EXPERIMENT_SUMS = np.dtype(
    [
        ("counted", "i8"),
        ("outside", "i8"),
        ("excluded", "i8"),
        ("touched", "?"),
    ],
    align=True,
)
"""Of one experiment: metric events by what became of them, and whether anything changed since the
last report."""


class State(NamedTuple):
    """One partition's arrays. The first ``counts[…]`` entries are in use.

    Attributes:
        counts: How many units, cells, totals; end and start of recent rows; length of the heap;
            kept days; filled places of the table of ids; cells taken back; nodes; first free node;
            how many nodes are free.
        units: UNIT.
        unit_table: Open addressing over the unit's hash; see ``lookups``.
        cells: CELL.
        totals: TOTAL.
        days: DAY.
        recent: RECENT.
        id_table: Open addressing over the event's hash.
        heap: DUE, the least first.
        segments: SEGMENT_MARK, shape (segments,).
        ledger: Shape (segments, 6): rows by what became of them.
        no_assignment: Shape (segments, experiments): events of units not, or not yet, in it.
        imported: Shape (segments, imports): number of the last batch applied.
        import_rows: Shape (segments, imports): rows of these batches.
        experiments: EXPERIMENT_SUMS, shape (experiments,).
        nodes: NODE.
        units_of: Per experiment and group: exposed units of each variant, then crossovers.
        sums: Per slot, group, variant and basis (open, matured): a block of words, see ``limbs``.
        overflowed: Per slot and group: units that left the metric.
        histograms: Per slot with a quantile, group, variant and basis: units of every bucket, or
            events of every bucket and shard.
        ranges: For each of these the buckets ever filled: how many from the last one on, and how
            many up to the first one; both 0 for none.
    """

    counts: NDArray[np.int64]
    units: NDArray[np.void]
    unit_table: NDArray[np.uint32]
    cells: NDArray[np.void]
    totals: NDArray[np.int64]
    days: NDArray[np.void]
    recent: NDArray[np.void]
    id_table: NDArray[np.uint32]
    heap: NDArray[np.void]
    segments: NDArray[np.void]
    ledger: NDArray[np.int64]
    no_assignment: NDArray[np.int64]
    imported: NDArray[np.int64]
    import_rows: NDArray[np.int64]
    experiments: NDArray[np.void]
    nodes: NDArray[np.void]
    units_of: NDArray[np.int64]
    sums: NDArray[np.uint64]
    overflowed: NDArray[np.int64]
    histograms: NDArray[np.int32]
    ranges: NDArray[np.int32]


def empty_state() -> State:
    """Return the state of a partition that has read nothing."""
    return State(
        counts=np.zeros(COUNTS_WIDTH, np.int64),
        units=memory.zeros(64, UNIT),
        unit_table=np.zeros(256, np.uint32),
        cells=memory.zeros(64, CELL),
        totals=memory.zeros(64, TOTAL),
        days=memory.zeros(64, DAY),
        recent=memory.zeros(64, RECENT),
        id_table=np.zeros(256, np.uint32),
        heap=memory.zeros(64, DUE),
        segments=np.zeros(SEGMENTS, SEGMENT_MARK),
        ledger=np.zeros((SEGMENTS, LEDGER_WIDTH), np.int64),
        no_assignment=np.zeros((SEGMENTS, 0), np.int64),
        imported=np.zeros((SEGMENTS, 0), np.int64),
        import_rows=np.zeros((SEGMENTS, 0), np.int64),
        experiments=np.zeros(0, EXPERIMENT_SUMS),
        nodes=memory.zeros(64, NODE),
        units_of=np.zeros(0, np.int64),
        sums=np.zeros(0, np.uint64),
        overflowed=np.zeros(0, np.int64),
        histograms=np.zeros(0, np.int32),
        ranges=np.zeros((0, 2), np.int32),
    )


def with_room(state: State, name: str, used: int, needed: int) -> State:
    """Return the state with room for ``needed`` entries in an array of which ``used`` are in use.

    What is not in use is not copied: it would take memory from then on.
    """
    array: NDArray[Any] = getattr(state, name)
    if needed <= len(array):
        return state
    longer = memory.zeros(needed, array.dtype)
    longer[:used] = array[:used]
    return state._replace(**{name: longer})


def wider(counts: NDArray[np.int64], columns: int) -> NDArray[np.int64]:
    """Return counts per segment with room for so many columns."""
    known = counts.shape[1]
    if known >= columns:
        return counts
    more = np.zeros((len(counts), columns), np.int64)
    more[:, :known] = counts
    return more


def table_for(entries: int, table: NDArray[np.uint32]) -> NDArray[np.uint32] | None:
    """Return an empty table for so many entries, or None while they fit in ``table``."""
    if entries <= len(table) * _TABLE_LOAD_MAX:
        return None
    return new_table(entries)


def new_table(entries: int) -> NDArray[np.uint32]:
    """Return an empty table with room for ``entries`` and half as many again.

    Raises:
        PartitionFullError: If they are too many.
    """
    if entries > ENTRIES_MAX:
        raise PartitionFullError(
            f"{entries} units or rows within the horizon in one partition, must be at most "
            f"{ENTRIES_MAX}: use more partitions (LITMUS_PARTITIONS) or a shorter lateness"
        )
    return np.zeros(max(256, int(entries / _TABLE_LOAD_NEW)), np.uint32)
