"""What misses is tried once more; the report tells both; the page holds all of it and no more."""

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from tools.errors import LitmusError
from tools.report_page import page_of
from tools.trust.bands import Band
from tools.trust.checks import (
    Check,
    Figure,
    Found,
    Part,
    Protocol,
    Trial,
    UnavailableError,
    exactly_none,
)
from tools.trust.protocols import PROTOCOLS
from tools.trust.report import Result, failures, report_of
from tools.trust.running import Ran, rng_of, run_all, run_part
from tools.trust.suite import PAGE, carry_out, choose, conclude

FIGURE = Figure("1.f", "lines", "A </script> title", "x", "y", [0.0, 1.0], {"found": [0.0, None]})


def drawn(trial: Trial) -> Found:
    value = float(trial.rng.random())
    return Found([Check("1.drawn", "a number", value, Band(0.0, 1.0), 100)], [FIGURE])


def high(_trial: Trial) -> Found:
    return Found([Check("1.high", "too high", 2.0, Band(0.0, 1.0), 100)])


def differs(_trial: Trial) -> Found:
    return Found([exactly_none("1.differs", "differences", 3, 100)])


def breaks(_trial: Trial) -> Found:
    raise ValueError("no units")


def impossible(_trial: Trial) -> Found:
    raise UnavailableError("no Java here")


class Unlucky:
    """A part that misses the first time it is drawn."""

    def __init__(self) -> None:
        self.tries = 0

    def __call__(self, _trial: Trial) -> Found:
        self.tries += 1
        value = 0.5 if self.tries > 1 else 2.0
        return Found([Check("1.unlucky", "a number", value, Band(0.0, 1.0), 100)])


def protocol(*parts: Part, whole_stack: bool = False) -> Protocol:
    return Protocol("1", "a name", "A claim.", "A method.", parts, is_whole_stack=whole_stack)


def ran(run: object, name: str = "part") -> Ran:
    part = Part(name, run)  # type: ignore[arg-type]
    [one] = run_all([protocol(part, whole_stack=True)], seed=1, scale=1.0)
    return one


def test_what_misses_once_holds_and_both_values_are_told() -> None:
    unlucky = Unlucky()
    one = ran(unlucky)
    report = report_of(Result(1, 1.0, [one.protocol], [one], {}, 0.0))

    assert unlucky.tries == 2
    assert one.passed
    [row] = report["protocols"]
    assert (row["value"], row["second_value"], row["passed"]) == (2.0, 0.5, True)
    assert report["about"][0]["second_tries"] == 1


def test_what_misses_twice_fails_and_is_named() -> None:
    one = ran(high)
    result = Result(1, 1.0, [one.protocol], [one], {}, 0.0)

    assert not result.passed
    assert failures(report_of(result)) == ["1.high: 2, must be 0 to 1; second seed: 2"]


def test_what_is_exact_has_no_second_try() -> None:
    one = ran(differs)

    assert not one.passed
    assert one.judged[0].again is None


def test_a_part_that_breaks_fails_by_itself() -> None:
    one = ran(breaks)
    result = Result(1, 1.0, [one.protocol], [one], {}, 0.0)

    assert not result.passed
    assert failures(report_of(result)) == ["1.part: ValueError: no units"]


def test_what_cannot_run_here_is_neither_passed_nor_failed() -> None:
    console = Console(quiet=True)
    able = Protocol("2", "able", "A claim.", "A method.", [Part("p", drawn)], is_whole_stack=True)
    chosen = [protocol(Part("part", impossible), whole_stack=True), able]

    result = carry_out(console, chosen, seed=1, scale=1.0, stack=True)
    report = report_of(result)

    assert result.passed
    assert report["not_run"] == [{"id": "1", "name": "a name", "reason": "no Java here"}]
    assert [one["status"] for one in report["about"]] == ["not run", "passed"]


def test_nothing_that_ran_is_no_success() -> None:
    console = Console(quiet=True)
    alone = [protocol(Part("part", drawn), whole_stack=True)]

    assert not carry_out(console, alone, seed=1, scale=1.0, stack=False).passed


def test_a_part_draws_the_same_whatever_runs_beside() -> None:
    part = Part("part", drawn)
    one = run_part(protocol(part), part, seed=7, scale=1.0)
    other = run_part(protocol(Part("more", drawn), part), part, seed=7, scale=1.0)

    assert one.judged == other.judged
    assert rng_of(7, "1", "part").random() != rng_of(7, "1", "part", 1).random()
    assert rng_of(7, "1", "part").random() != rng_of(7, "1", "other").random()


def test_the_report_has_the_fields_that_others_read(tmp_path: Path) -> None:
    one = ran(drawn)
    result = Result(7, 0.5, [one.protocol], [one], {}, 12.0)

    report = conclude(Console(quiet=True), result, tmp_path)

    written = json.loads((tmp_path / "trust.json").read_text())
    assert written == json.loads(json.dumps(report))
    assert written["seed"] == 7
    assert {"id", "name", "value", "low", "high", "replications", "passed"} <= set(
        written["protocols"][0]
    )


def test_the_page_needs_nothing_else_and_no_text_of_ours_ends_its_data() -> None:
    one = ran(drawn)
    page = page_of(PAGE, report_of(Result(7, 0.5, [one.protocol], [one], {}, 12.0)))

    data = re.search(r'<script id="report" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert json.loads(data[1])["figures"][0]["title"] == "A </script> title"
    assert "/*" + "REPORT*/" not in page
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_protocols_are_chosen_by_number() -> None:
    assert [one.id for one in choose("3, 1")] == ["3", "1"]
    assert choose("") == list(PROTOCOLS)
    with pytest.raises(LitmusError, match="No protocol 99"):
        choose("99")
