"""What a run came to, for people and for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

from rich.table import Table

from tools.torture.audit.findings import Report
from tools.torture.run import Course, Progress
from tools.torture.siege import Endured

DIFFERENCES_KEPT_MAX = 200


@dataclass(frozen=True, slots=True)
class Figures:
    """What was endured of one kind; ``recovery_alone_…`` leaves out faults that overlapped."""

    kind: str
    count: int
    survived: int
    recovery_p50_s: float | None
    recovery_max_s: float | None
    recovery_alone_max_s: float | None
    outage_max_s: float | None
    stall_max_ms: int


class Result(NamedTuple):
    """A run and its audit.

    Attributes:
        course: What was to be done.
        progress: What was done.
        audit: What the auditor found; None: it did not come to that.
        impossible: Kinds that this machine does not allow, and why.
    """

    course: Course
    progress: Progress
    audit: Report | None
    impossible: dict[str, str]

    @property
    def problems(self) -> list[str]:
        """Return all that keeps this run from being a success, but differences."""
        found = list(self.progress.problems)
        if self.progress.load is not None:
            found += self.progress.load.problems
        if self.progress.importer is not None:
            found += self.progress.importer.problems
        endured = self.progress.endured
        found += [f"{one.fault.label}: {one.problem}" for one in endured if not one.survived]
        if self.left_out and not self.time_is_up:
            found.append(f"{self.left_out} faults of the schedule were not carried out")
        if self.audit is None:
            found.append("the run was not audited")
        return found

    @property
    def left_out(self) -> int:
        """Return how many faults of the schedule were not carried out."""
        return len(self.course.faults) - len(self.progress.endured)

    @property
    def time_is_up(self) -> bool:
        """Return whether the run took all the time that it was given."""
        return self.progress.seconds.get("breaking things", 0.0) >= self.course.seconds_max

    @property
    def differences(self) -> int | None:
        """Return how many differences the audit found; None: there was none."""
        return self.audit.difference_count if self.audit else None

    @property
    def passed(self) -> bool:
        """Return whether everything was survived, and nothing differs."""
        return not self.problems and self.differences == 0


def figures_of(endured: Sequence[Endured]) -> list[Figures]:
    """Return figures per kind, the most frequent first."""
    of_kind: dict[str, list[Endured]] = {}
    for one in endured:
        of_kind.setdefault(one.fault.label, []).append(one)
    kinds = sorted(of_kind, key=lambda kind: (-len(of_kind[kind]), kind))
    return [summary(kind, of_kind[kind], _overlapped(endured)) for kind in kinds]


def summary(kind: str, endured: Sequence[Endured], overlapped: set[int]) -> Figures:
    """Return figures of some faults under one name."""
    times = [(one.fault.number, one.recovery_s) for one in endured]
    recoveries = [seconds for _, seconds in times if seconds is not None]
    alone = [at for number, at in times if at is not None and number not in overlapped]
    outages = [one.outage_s for one in endured if one.outage_s is not None]
    return Figures(
        kind,
        len(endured),
        sum(one.survived for one in endured),
        round(median(recoveries), 2) if recoveries else None,
        max(recoveries, default=None),
        max(alone, default=None),
        max(outages, default=None),
        max((one.stall_ms for one in endured), default=0),
    )


def _overlapped(endured: Sequence[Endured]) -> set[int]:
    """Return the numbers of faults that began while another lasted, or had one begin."""
    numbers = {one.fault.number for one in endured if one.fault.overlaps}
    return numbers | {number - 1 for number in numbers}


def report_of(result: Result) -> dict[str, Any]:
    """Return ``.litmus/reports/torture.json``."""
    progress, course = result.progress, result.course
    load, audit = progress.load, result.audit
    return {
        "seed": course.seed,
        "faults": [asdict(one) for one in figures_of(progress.endured)],
        "events_compared": audit.events_compared if audit else 0,
        "differences": result.differences,
        "passed": result.passed,
        "fault_count": len(course.faults),
        "left_out": result.left_out,
        "survived": sum(one.survived for one in progress.endured),
        "impossible": result.impossible,
        "problems": result.problems,
        "units": course.units,
        "rate": course.rate,
        "seconds": progress.seconds,
        "looks_compared": audit.looks_compared if audit else 0,
        "compared": audit.compared if audit else {},
        "difference_lines": audit.differences[:DIFFERENCES_KEPT_MAX] if audit else [],
        "sent": {
            "requests": load.requests if load else 0,
            "records": load.records if load else 0,
            "events_accepted": load.rows_accepted if load else 0,
            "sent_again": load.retries if load else 0,
            "import_batches": progress.importer.batches if progress.importer else 0,
        },
        "endured": [_told(one) for one in progress.endured],
        "lag": [list(one) for one in progress.samples],
    }


def _told(one: Endured) -> dict[str, Any]:
    fault = one.fault
    return {
        "number": fault.number,
        "kind": fault.label,
        "overlaps": fault.overlaps,
        "hold_s": fault.hold_s,
        "size": fault.size,
        "began_s": one.began_s,
        "over_s": one.over_s,
        "recovered_s": one.recovered_s,
        "recovery_s": one.recovery_s,
        "outage_s": one.outage_s,
        "stall_ms": one.stall_ms,
    }


def figures_table(endured: Sequence[Endured]) -> Table:
    """Return the table of faults that a person sees."""
    table = Table(
        title="faults", title_justify="left", box=None, header_style="bold", pad_edge=False
    )
    table.add_column("fault")
    for name in ("times", "survived", "recovery p50", "max", "alone", "outage max", "oldest look"):
        table.add_column(name, justify="right")
    figures = figures_of(endured)
    figures.append(summary("all", endured, _overlapped(endured)))
    for one in figures:
        style = None if one.survived == one.count else "bold red"
        table.add_row(
            one.kind,
            str(one.count),
            str(one.survived),
            *(
                _seconds(value)
                for value in (
                    one.recovery_p50_s,
                    one.recovery_max_s,
                    one.recovery_alone_max_s,
                    one.outage_max_s,
                    one.stall_max_ms / 1_000,
                )
            ),
            style=style,
        )
    return table


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
