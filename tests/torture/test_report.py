"""The report says of every kind how often, how well and how long; only a clean run passes."""

import json
import re
from pathlib import Path

import pytest

from tools.report_page import page_of
from tools.torture.audit import Report
from tools.torture.command import PAGE
from tools.torture.report import Result, figures_of, report_of
from tools.torture.run import Course, Progress
from tools.torture.schedule import Fault, Kind, make_schedule
from tools.torture.siege import Endured

CLEAN = Report(1_000, 50, [], 0, {"looks": 50})


def endured(number: int, kind: Kind, target: str, seconds: float | None, **more: object) -> Endured:
    """Return a fault that began at 10 s times its number."""
    fault = Fault(number, kind, target, 1.0, overlaps=bool(more.pop("overlaps", False)))
    began = 10.0 * number
    recovered = None if seconds is None else began + seconds
    return Endured(fault, began, began, recovered, 500, "" if recovered else "no fresh look")


ENDURED = [
    endured(1, Kind.KILL, "gateway", 1.0),
    endured(2, Kind.KILL, "gateway", 3.0),
    endured(3, Kind.KILL, "gateway", 2.0),
    endured(4, Kind.BROKER_KILL, "kafka", 8.0),
    endured(5, Kind.KILL, "gateway", 9.0, overlaps=True),
]


def result(
    faults: list[Endured], audit: Report | None = CLEAN, problems: list[str] | None = None
) -> Result:
    class Siege:
        endured = faults

    progress = Progress(problems=problems or [])
    progress.siege = Siege()  # type: ignore[assignment]
    course = Course(
        seed=7, faults=[one.fault for one in faults], units=10, rate=100.0, lateness_ms=1_000
    )
    return Result(course, progress, audit, {})


def test_kinds_have_their_median_and_worst_recovery() -> None:
    gateway, broker = figures_of(ENDURED)

    assert (gateway.kind, gateway.count, gateway.survived) == ("kill gateway", 4, 4)
    assert (gateway.recovery_p50_s, gateway.recovery_max_s) == (2.5, 9.0)
    assert gateway.recovery_alone_max_s == 3.0, "what overlapped is left out"
    assert (broker.kind, broker.recovery_p50_s) == ("broker kill", 8.0)


def test_the_report_has_the_shape_that_programs_rely_on() -> None:
    report = json.loads(json.dumps(report_of(result(ENDURED))))

    assert (report["seed"], report["events_compared"], report["differences"]) == (7, 1_000, 0)
    assert report["passed"]
    for one in report["faults"]:
        assert {"kind", "count", "survived", "recovery_p50_s", "recovery_max_s"} <= one.keys()


@pytest.mark.parametrize(
    "failed",
    [
        result([*ENDURED, endured(6, Kind.KILL, "merge", None)]),
        result(ENDURED, CLEAN._replace(differences=["one"], difference_count=1)),
        result(ENDURED, None),
        result(ENDURED, problems=["what is right was refused"]),
    ],
    ids=["not recovered", "a difference", "no audit", "a wrong answer"],
)
def test_a_run_passes_only_if_all_was_survived_and_nothing_differs(failed: Result) -> None:
    assert result(ENDURED).passed
    assert not failed.passed


def test_a_schedule_that_was_not_carried_out_to_its_end_is_no_success() -> None:
    short = result(ENDURED)
    course = Course(seed=7, faults=make_schedule(7, 9), units=1, rate=10.0, lateness_ms=1_000)

    assert not short._replace(course=course).passed


def test_the_page_needs_nothing_else_and_holds_the_report(tmp_path: Path) -> None:
    report = report_of(result([*ENDURED, endured(6, Kind.KILL, "merge", None)]))
    report["problems"].append("</script><b>")
    page = page_of(PAGE, report)

    loads = r"""<(script|link|img)[^>]*(src|href)=|@import|^import |url\(h"""
    assert not re.search(loads, page, re.MULTILINE)
    assert "/*" + "REPORT*/" not in page
    start = page.index('type="application/json">') + len('type="application/json">')
    assert json.loads(page[start : page.index("</script>", start)]) == json.loads(
        json.dumps(report)
    )
