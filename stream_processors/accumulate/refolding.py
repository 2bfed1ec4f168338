"""Sums of some experiments computed anew, while those of all others stay. Pure.

A definition that changes must not cost a fold of every cell: the others' sums move to their new
places as they are.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.definitions import Definition
from stream_processors.accumulate.checkpoints import make_room
from stream_processors.accumulate.kernels import contributing
from stream_processors.accumulate.layout import Sizes, sizes_of_all
from stream_processors.accumulate.plan import Plan
from stream_processors.accumulate.state import State


class _Run(NamedTuple):
    """Experiments that stand together before and after: where, and how much they take."""

    before: Sizes
    after: Sizes
    size: Sizes


def refold_some(
    state: State,
    plan: Plan,
    ordinals: Iterable[int],
    *,
    before: list[Definition],
    after: list[Definition],
    settled_ms: int,
) -> State:
    """Return the state with the sums of some experiments, and their entries of the heap, anew.

    Args:
        state: Whose other sums are those of its cells, up to ``settled_ms``.
        plan: Of ``after``.
        ordinals: Of the experiments: all whose definition is another one than before.
        before: Definitions by which the sums lie where they do.
        after: Definitions now; there are no fewer.
        settled_ms: Settled time.
    """
    chosen = np.zeros(len(after), np.bool_)
    chosen[list(ordinals)] = True
    state = _moved(state, _runs(chosen, before, after), sizes_of_all(after))
    for name in ("counted", "outside", "excluded"):
        state.experiments[name][chosen] = 0
    state = make_room(state, heap=int(contributing.heap_room_of(state, plan, chosen)))
    touched = state.experiments["touched"].copy()
    contributing.fold_some(state, plan, settled_ms, chosen)
    state.experiments["touched"] = touched
    return state


def _runs(
    chosen: NDArray[np.bool_], before: list[Definition], after: list[Definition]
) -> Iterator[_Run]:
    """Yield what stays, in as few pieces as it can."""
    old, new = _starts(before), _starts(after)
    place = 0
    while place < len(before):
        first = place
        while place < len(before) and not chosen[place]:
            place += 1
        if place > first:
            taken = (end - start for start, end in zip(old[first], old[place], strict=True))
            yield _Run(old[first], new[first], Sizes(*taken))
        place += 1


def _starts(definitions: list[Definition]) -> list[Sizes]:
    """Return where each experiment's share of the arrays starts; one more at the end."""
    sizes = [sizes_of_all([one]) for one in definitions]
    return list(accumulate(sizes, Sizes.plus, initial=Sizes(0, 0, 0, 0, 0)))


def _moved(state: State, runs: Iterable[_Run], total: Sizes) -> State:
    """Return the state with arrays of sums of a new size, which hold ``runs`` and else zeros."""
    arrays: dict[str, tuple[str, NDArray[Any]]] = {
        "units": ("units_of", np.zeros(total.units, np.int64)),
        "sums": ("sums", np.zeros(total.sums, np.uint64)),
        "overflowed": ("overflowed", np.zeros(total.overflowed, np.int64)),
        "ranges": ("ranges", np.zeros((total.ranges, 2), np.int32)),
        # Zeros take memory only where they are written to: most buckets never are.
        "histograms": ("histograms", np.zeros(total.histograms, np.int32)),
    }
    for run in runs:
        for share, (name, target) in arrays.items():
            start, count = getattr(run.before, share), getattr(run.size, share)
            source = getattr(state, name)[start : start + count]
            filled = np.flatnonzero(source) if share == "histograms" else slice(None)
            to = getattr(run.after, share)
            target[to : to + count][filled] = source[filled]
    return state._replace(**dict(arrays.values()))
