"""An engine that gets no more memory stops at a message, and counts it once when it goes on."""

import resource
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from schemas.control import DefinitionChange
from stream_processors.accumulate.partition import Partition
from tests.stream_processors.accumulate.builders import (
    T0,
    Message,
    assignment,
    batch,
    definition,
    measured,
    tick,
)

MORE_BYTES = 12 << 20
UNITS = 5_000
BATCHES = 24


class Starved(NamedTuple):
    """What became of an engine with little memory.

    Attributes:
        stopped_at: Offset of the message at which it had too little; None: it had enough.
        cursor: Where it stood then.
        after: What it held in the end, when it was given memory and went on from there.
        wanted: What an engine holds that always had enough.
    """

    stopped_at: int | None
    cursor: int
    after: Any
    wanted: Any


def log() -> list[Message]:
    """Return a log of ever more units, two events each, with a tick after every batch."""
    messages = [tick(1, T0, DefinitionChange(definition()))]
    for number in range(BATCHES):
        names = [f"u{number}-{unit}" for unit in range(UNITS)]
        at = T0 + number
        events = [assignment(name, f"a{name}", at) for name in names]
        events += [measured(name, f"m{name}", at + 1) for name in names]
        messages += [batch(events), tick(2 + number, at + 200)]
    return messages


def held(partition: Partition) -> Any:
    """Return what a partition counts, as plain values."""
    sums = [getattr(one, "tolist", lambda one=one: one)() for one in partition.sums()]
    return sums, partition.state.ledger.tolist(), partition.cursor, partition.tick


def starve() -> Starved:
    """Apply a log with hardly more memory than the process has, then go on with all of it."""
    messages = log()
    wanted = Partition(0, writer="w")
    for offset, message in enumerate(messages):
        wanted.apply(offset, *message)
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    starved, stopped_at = Partition(0, writer="w"), None
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MORE_BYTES, before[1]))
    try:
        for offset, message in enumerate(messages):
            stopped_at = offset
            starved.apply(offset, *message)
        stopped_at = None
    except MemoryError:
        pass
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    cursor = starved.cursor
    for offset, message in enumerate(messages[cursor:], cursor):
        starved.apply(offset, *message)
    return Starved(stopped_at, cursor, held(starved), held(wanted))


def test_an_engine_without_memory_stops_and_counts_all_once_it_has_some() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        found = apart.submit(starve).result()

    assert found.stopped_at is not None, "it had enough"
    assert found.stopped_at > 2, "it had counted some"
    # A tick is taken before its report is made: what is reported then is made anew on recovery.
    assert found.cursor in (found.stopped_at, found.stopped_at + 1)
    assert found.after == found.wanted
