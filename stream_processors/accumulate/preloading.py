"""Loads the kernels of a recovery while the broker is waited for.

Each takes tens of milliseconds to load from where compiled code is kept, at its first use: while
events wait. Half of that is LLVM's work, beside which the rest of a start goes on.
"""

import threading
from typing import Any

from stream_processors.accumulate.kernels import (
    changing,
    contributing,
    counting,
    days,
    loading,
    lookups,
    nodes,
    writing_sums,
)

KERNELS: tuple[Any, ...] = (
    loading.load_recent,
    loading.load_cells,
    nodes.load_nodes,
    loading.load_days,
    loading.move_recent,
    lookups.rechain_rows,
    lookups.rebuild_id_table,
    lookups.rebuild_unit_table,
    counting.apply_rows,
    loading.gather_recent,
    contributing.heap_room,
    contributing.fold,
    contributing.mature,
    days.forget_days,
    writing_sums.write_sums,
    loading.cells_of_segment,
    loading.days_of_segment,
    loading.gather_totals,
    changing.replace_recent,
    changing.totals_missing,
    changing.widen_cells,
    changing.take_back_assignments,
    changing.count_recent_assignments,
    changing.assign_recent,
)
"""Those that Python calls on the way back and at the ticks after it, in that order."""


def preload() -> None:
    """Load what was compiled of ``KERNELS``; what was not is compiled at its first use, as ever."""
    for kernel in KERNELS:
        kept = kernel._cache  # noqa: SLF001  # numba has no public way to list it
        codegen = kernel.targetctx.codegen()
        for key in kept._cache_file._load_index():  # noqa: SLF001
            signature = key[0]
            if key == kept._index_key(signature, codegen):  # noqa: SLF001
                kernel.compile(signature)


def preload_meanwhile() -> None:
    """Preload in a thread; numba's own lock keeps two from loading the same."""
    threading.Thread(target=preload, name="preload", daemon=True).start()
