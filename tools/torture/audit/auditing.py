"""The audit itself: which check holds what to what, in which order, on how many processes."""

import gc
from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import Progress, TaskID, TimeElapsedColumn

from tools.torture.audit.cells import comparing, read_segments
from tools.torture.audit.control_log import ControlLog, read_control
from tools.torture.audit.days import comparing_days
from tools.torture.audit.doors import (
    Logged,
    Told,
    compare_doors,
    compare_letters,
    name_missing,
    read_late,
    read_told,
)
from tools.torture.audit.evidence import Evidence
from tools.torture.audit.findings import Findings, Report
from tools.torture.audit.history import PartitionRows, Stored, compare_history
from tools.torture.audit.imports import Batch, BatchKey, compare_imports, read_sent
from tools.torture.audit.imports import compare_ledger as compare_imports_ledger
from tools.torture.audit.looks import LookAudit
from tools.torture.audit.partition_fold import FATES, PartitionFold
from tools.torture.audit.reference import Counted, TickState, add_deltas, together, walk
from tools.torture.journal import Entry, read_journal

Json = dict[str, Any]

PROCESSES = 2
LOOKS_PER_STEP = 500


class Run(NamedTuple):
    """What is audited beside the log.

    Attributes:
        journal: What producers sent and were told; a file, or entries.
        ledger: What ``/v1/ledger`` said at last, when all had settled; None: it was not kept.
        history: What ClickHouse holds; None: there was none.
    """

    journal: Path | list[Entry]
    ledger: Json | None = None
    history: Stored | None = None

    def entries(self) -> Iterable[Entry]:
        """Return the journal from its beginning."""
        return read_journal(self.journal) if isinstance(self.journal, Path) else self.journal


class Folded(NamedTuple):
    """What the partitions of one process amount to; it is sent between processes.

    Attributes:
        counted: Integers and rows by tick.
        rows: By partition, what its log holds: for ClickHouse.
        fingerprints: By partition, of its rows; and where these stand.
        anonymous: Of rows that are known by their place, to the fingerprint without it.
        imports: By partition, the batches of imports that it took.
        findings: What was found on the way.
    """

    counted: Counted
    rows: dict[int, PartitionRows]
    fingerprints: dict[int, "tuple[array[int], array[int]]"]
    anonymous: dict[int, int]
    imports: dict[int, dict[BatchKey, Batch]]
    findings: Findings


def fold_partitions(
    evidence: Evidence,
    partitions: list[int],
    partition_count: int,
    control: ControlLog,
) -> Folded:
    """Count some partitions, one after the other, and compare their checkpoints."""
    findings = Findings()
    folded = Folded(Counted({}, {}, {}), {}, {}, {}, {}, findings)
    with _without_collector():
        _fold(evidence, partitions, partition_count, control, folded)
    return folded


@contextmanager
def _without_collector() -> Iterator[None]:
    """Do without the cyclic collector: nothing here forms cycles, and it would visit millions."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _fold(
    evidence: Evidence,
    partitions: list[int],
    partition_count: int,
    control: ControlLog,
    folded: Folded,
) -> None:
    findings = folded.findings
    for number in partitions:
        fold = PartitionFold(number, partition_count, control, findings)
        for segment in read_segments(evidence.changelog(number)):
            findings.count("segments")
            fold.watch(segment.offset, comparing(segment, findings))
            fold.watch(segment.offset, comparing_days(segment.number, segment.days, findings))
        fold.feed(evidence.events(number))
        fold.finish()
        add_deltas(folded.counted.deltas, fold.deltas)
        folded.counted.marks[number] = fold.marks
        folded.counted.finals.update(fold.finals)
        folded.rows[number] = PartitionRows(
            fold.batches, fold.not_counted, tuple(fold.column_sums), tuple(fold.rows)
        )
        folded.fingerprints[number] = (fold.fingerprints, fold.places)
        folded.anonymous.update(fold.anonymous)
        folded.imports[number] = fold.import_batches


def audit(
    evidence: Evidence,
    run: Run,
    *,
    processes: int = PROCESSES,
    console: Console | None = None,
) -> Report:
    """Recompute a run from its journal and its log, and compare it with all that it published.

    The run must have settled: nothing is sent any more, and a look holds all that was.

    Args:
        evidence: The log. With several processes it must be fit to be sent to them.
        run: The journal and what was published beside the log.
        processes: How many count partitions; 1: this one.
        console: Where progress is shown; None: nowhere.
    """
    findings = Findings()
    with Progress(
        *Progress.get_default_columns(), TimeElapsedColumn(), console=console, disable=not console
    ) as progress:
        control = read_control(evidence.control(), findings)
        folded = _fold_all(evidence, control, processes, progress)
        for part in folded:
            findings.merge(part.findings)
        counted = together(part.counted for part in folded)
        rows = {number: one for part in folded for number, one in part.rows.items()}
        task = progress.add_task("looks", total=None)
        last, looks = _compare_looks(
            evidence,
            run,
            control,
            counted,
            findings,
            lambda: progress.advance(task, LOOKS_PER_STEP),
        )
        progress.add_task("doors", total=1)
        events = _compare_doors(evidence, run, control, folded, findings)
        imports = {number: one for part in folded for number, one in part.imports.items()}
        compare_imports(read_sent(run.entries(), len(imports)), imports, findings)
        if run.ledger is not None:
            _compare_final_ledger(run.ledger, rows, findings)
            compare_imports_ledger(run.ledger.get("imports", []), imports, findings)
        if run.history is not None:
            progress.add_task("ClickHouse", total=None)
            compare_history(run.history, rows, last, findings)
    findings.require("control", "ticks", "hashes", "cells", "looks", "ledger", "doors", "answers")
    return findings.report({"events": events, "looks": looks})


def _fold_all(
    evidence: Evidence, control: ControlLog, processes: int, progress: Progress
) -> list[Folded]:
    partitions = evidence.partitions()
    count = len(partitions)
    task: TaskID = progress.add_task("partitions", total=count)
    if processes == 1:
        done = []
        for number in partitions:
            done.append(fold_partitions(evidence, [number], count, control))
            progress.advance(task)
        return done
    # Clients of Kafka do not survive a fork.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(fold_partitions, evidence, [number], count, control)
            for number in partitions
        ]
        done = []
        for future in futures:
            done.append(future.result())
            progress.advance(task)
        return done


def _compare_looks(
    evidence: Evidence,
    run: Run,
    control: ControlLog,
    counted: Counted,
    findings: Findings,
    step: Callable[[], None],
) -> tuple[TickState | None, int]:
    """Walk all ticks beside the looks; return where everything ended, and the looks compared."""
    ledgers: dict[int, Json] = {one["tick"]: one for one in evidence.ledgers() if one["tick"]}
    if run.ledger is not None and run.ledger.get("tick"):
        ledgers[run.ledger["tick"]] = run.ledger
    merged = max(ledgers, default=0)
    states = _Remembering(walk(control, counted))
    looks = LookAudit(states, ledgers, findings)
    for number, value in enumerate(evidence.looks()):
        looks.take(value)
        if number % LOOKS_PER_STEP == 0:
            step()
    looks.finish(merged)
    if states.last is not None:
        _compare_end(states.last, merged, counted, findings)
    return states.last, looks.compared


class _Remembering:
    """An iterator that can be asked for its last value."""

    def __init__(self, states: Iterable[TickState]) -> None:
        self._states = iter(states)
        self.last: TickState | None = None

    def __iter__(self) -> "_Remembering":
        return self

    def __next__(self) -> TickState:
        self.last = next(self._states)
        return self.last


def _compare_end(last: TickState, merged: int, counted: Counted, findings: Findings) -> None:
    """Note rows that no look can hold, because they stand after the last tick that was merged."""
    for number, marks in counted.marks.items():
        at_end = marks[-1].rows[0] if marks else 0
        findings.count("settled")
        if last.rows[number][0] != at_end:
            line = f"litmus.events/{number}: rows after tick {merged}, the last that was merged"
            findings.differ("settled", f"{line}: {last.rows[number][0]} of {at_end} are counted")


def _compare_doors(
    evidence: Evidence, run: Run, control: ControlLog, folded: list[Folded], findings: Findings
) -> int:
    told: Told = read_told(run.entries(), findings)
    lateness_ms_min = min((one.settings.lateness_ms for one in control.ticks), default=0)
    floor_ms = max((one.settings.floor_ms for one in control.ticks), default=0)
    logged = read_late(evidence.late(), lateness_ms_min, floor_ms, findings)
    events: dict[int, tuple[int, int]] = {}
    for part in folded:
        for number, (keys, places) in part.fingerprints.items():
            for key, at in zip(keys, places, strict=True):
                events.setdefault(key, (number, at))
    anonymous = {key: one for part in folded for key, one in part.anonymous.items()}
    anonymous |= logged.anonymous
    missing = compare_doors(told, Logged(events, logged.late, anonymous), findings)
    name_missing(run.entries(), missing, findings)
    letters = compare_letters(told, evidence.dead_letters(), findings)
    received = sum(rows.fates[0] for part in folded for rows in part.rows.values())
    late = findings.compared["late rows"]
    doors = {
        "posted": received + late + letters,
        "received": received,
        "late": late,
        "rejected": letters,
    }
    if run.ledger is not None:
        findings.compare("ledger", "doors", doors, run.ledger.get("doors"))
    return len(told.events)


def _compare_final_ledger(ledger: Json, rows: dict[int, PartitionRows], findings: Findings) -> None:
    findings.compare("ledger", "balanced", True, ledger.get("balanced"))
    totals = [sum(column) for column in zip(*(one.fates for one in rows.values()), strict=True)]
    expected = dict(zip(FATES, totals, strict=True))
    findings.compare("ledger", "rows at the end", expected, ledger.get("rows"))
    stored = {"rows": totals[0] if totals else 0, "missing": 0, "extra": 0}
    findings.compare("ledger", "clickhouse", stored, ledger.get("clickhouse"))
