"""The demo passes only if every number is that of the data; any one that is not fails it."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.tools.demo.builders import ledger_of, results_of, small_dataset
from tools.demo.campaigns import Arm, reading_of
from tools.demo.latency import Latency
from tools.demo.report import report_of
from tools.demo.results import are_stopped, differences, reading_in
from tools.demo.schedule import make_schedule

TRUTH = {"men": {"control": Arm(10_000, 46), "treatment": Arm(10_000, 69)}}
RESULTS = {"men": results_of(TRUTH["men"])}
SCHEDULE = make_schedule(small_dataset(rows=100), seconds=5)
LEDGER = ledger_of(
    fresh=SCHEDULE.fresh_count, duplicate=SCHEDULE.repeated_count, counted={"obd-men": 115}
)


def found(results: dict[str, Any], ledger: dict[str, Any] | None, **options: Any) -> list[str]:
    return differences(results, ledger, truth=TRUTH, schedule=SCHEDULE, **options)


def test_nothing_differs_when_all_is_right() -> None:
    assert found(RESULTS, LEDGER) == []


def one_conversion_less(results: dict[str, Any]) -> None:
    results["men"]["metrics"][0]["variants"][1]["total"] = 68


def open_basis_behind(results: dict[str, Any]) -> None:
    results["men"]["metrics"][1] = deepcopy(results["men"]["metrics"][1])
    results["men"]["metrics"][1]["variants"][0]["units"] = 9_999


def one_unit_more(results: dict[str, Any]) -> None:
    results["men"]["variants"][0]["units"] = 10_001


def a_crossover(results: dict[str, Any]) -> None:
    results["men"]["crossovers"] = 1


def an_interval_a_millionth_off(results: dict[str, Any]) -> None:
    results["men"]["metrics"][0]["effects"][0]["absolute"]["always_valid"]["low"] -= 1e-6


def a_warming_effect(results: dict[str, Any]) -> None:
    results["men"]["metrics"][0]["effects"][0]["absolute"]["always_valid"] = None


def no_results(results: dict[str, Any]) -> None:
    results.clear()


@pytest.mark.parametrize(
    "spoil",
    [
        one_conversion_less,
        open_basis_behind,
        one_unit_more,
        a_crossover,
        an_interval_a_millionth_off,
        a_warming_effect,
        no_results,
    ],
)
def test_any_wrong_number_is_named(spoil: Callable[[dict[str, Any]], None]) -> None:
    results = deepcopy(RESULTS)
    spoil(results)

    assert found(results, LEDGER)
    assert all(one.startswith("men: ") for one in found(results, LEDGER))


@pytest.mark.parametrize(
    ("part", "name", "change"),
    [
        ("rows", "fresh", -1),
        ("rows", "duplicate", -1),
        ("rows", "duplicate", 1),
        ("rows", "conflict", 1),
        ("rows", "stale", 1),
        ("rows", "refused", 1),
        ("doors", "late", 1),
        ("doors", "rejected", 1),
        ("clickhouse", "missing", 1),
        ("clickhouse", "extra", 1),
    ],
)
def test_any_wrong_line_of_the_ledger_is_named(part: str, name: str, change: int) -> None:
    ledger = deepcopy(LEDGER)
    ledger[part][name] += change

    assert len(found(RESULTS, ledger)) == 1


def test_a_ledger_that_is_not_balanced_or_not_there_is_named() -> None:
    assert found(RESULTS, LEDGER | {"balanced": False}) == ["ledger: not balanced"]
    assert found(RESULTS, None) == ["ledger: no answer"]


def test_resent_events_may_be_duplicates_and_need_not() -> None:
    more = deepcopy(LEDGER)
    more["rows"]["duplicate"] += 100

    assert found(RESULTS, more, resent_events=100) == []
    assert found(RESULTS, LEDGER, resent_events=100) == []
    assert found(RESULTS, more, resent_events=99)


def test_a_campaign_is_stopped_when_its_results_say_so() -> None:
    assert are_stopped(RESULTS, TRUTH)
    assert not are_stopped({"men": RESULTS["men"] | {"status": "running"}}, TRUTH)
    assert not are_stopped({}, TRUTH)


def test_the_report_holds_what_was_shown() -> None:
    reading = reading_of(TRUTH["men"])

    assert reading_in(RESULTS["men"]) == reading
    assert report_of(RESULTS, LEDGER, Latency(9, 210.0, 480.5)) == {
        "campaigns": {
            "men": {
                "control": {"units": 10_000, "conversions": 46},
                "treatment": {"units": 10_000, "conversions": 69},
                "fixed_horizon": {"z": reading.z, "p_value": reading.p_value},
                "always_valid": {"low": reading.low, "high": reading.high},
            }
        },
        "ledger": LEDGER,
        "latency_ms": {"p50": 210.0, "p99": 480.5},
    }
