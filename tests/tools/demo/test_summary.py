"""The summary says what each reader concludes, and does not claim more than the numbers do."""

import pytest

from tests.tools.demo.builders import ledger_of, results_of, small_dataset
from tools.demo.campaigns import Arm, reading_of
from tools.demo.latency import Latency
from tools.demo.schedule import make_schedule
from tools.demo.summary import (
    campaign_summary,
    latency_summary,
    ledger_summary,
    points,
    verdict,
    why,
)
from tools.demo.watching import Path, Watch

MEN = {"control": Arm(10_000, 46), "treatment": Arm(10_000, 69)}
WOMEN = {"control": Arm(10_000, 46), "treatment": Arm(10_000, 46)}
CLEAR = {"control": Arm(10_000, 100), "treatment": Arm(10_000, 300)}
WORSE = {"control": Arm(10_000, 300), "treatment": Arm(10_000, 100)}


@pytest.mark.parametrize(
    ("arms", "fixed", "always"),
    [
        (MEN, "bts wins", "undecided"),
        (WOMEN, "no difference shown", "undecided"),
        (CLEAR, "bts wins", "bts wins"),
        (WORSE, "random wins", "random wins"),
    ],
)
def test_both_readers_say_what_their_numbers_say(
    arms: dict[str, Arm], fixed: str, always: str
) -> None:
    says = verdict(reading_of(arms))

    assert fixed in says[0]
    assert always in says[1]


def test_readers_who_differ_are_told_why() -> None:
    text = why(reading_of(MEN), Path(looks=300, significant_looks=41, excluding_looks=0))

    assert text.startswith("They differ.")
    assert "Of 300 looks with a p-value in this run, 41 showed p < 0.05" in text


def test_a_difference_that_came_and_went_is_told() -> None:
    reading = reading_of(WOMEN)

    assert "not on the way" in why(reading, Path(300, significant_looks=5))
    assert why(reading, Path(300)).startswith("They agree: ")
    assert why(reading_of(CLEAR), Path(300)).startswith("They agree, ")


def test_a_summary_shows_counts_and_both_readings() -> None:
    lines = dict(campaign_summary("men", MEN, reading_of(MEN), Path(300, 41, 0)))

    assert lines["men's items"].startswith("random 46 clicks of 10,000 (0.46%), bts 69")
    assert lines["fixed horizon"].startswith("z 2.151, p 0.031")
    assert lines["always valid"].startswith("-0.104 pp … +0.564 pp (± 3.13")


def test_points_have_a_sign() -> None:
    assert [points(x) for x in (0.0023, -0.0023, 0.0)] == ["+0.230 pp", "-0.230 pp", "+0.000 pp"]


def test_the_ledger_in_words_names_the_duplicates() -> None:
    schedule = make_schedule(small_dataset(rows=100), seconds=5)
    ledger = ledger_of(fresh=schedule.fresh_count, duplicate=schedule.repeated_count, counted={})

    assert f"{schedule.repeated_count} duplicates" in ledger_summary(ledger, schedule)


def test_every_look_is_judged_once_by_both_readers() -> None:
    watch = Watch()
    first, second = results_of(MEN), results_of(CLEAR)
    second["look"] = {"tick": 8, "offsets": {}}
    warming = results_of(WOMEN)
    warming["look"] = {"tick": 6, "offsets": {}}
    warming["metrics"][0]["effects"][0]["absolute"]["always_valid"] = None

    for results in (warming, first, first, second, {"look": None}):
        watch.take("men", results, now_s=0.0)

    assert watch.paths["men"] == Path(looks=3, significant_looks=2, excluding_looks=1)
    assert watch.results["men"] is second


def test_a_latency_that_was_not_measured_is_not_shown_as_a_number() -> None:
    assert "not measured" in latency_summary(Latency(0, None, None))
    assert "p50 210 ms, p99 480 ms, of 1,000" in latency_summary(Latency(1_000, 210.0, 480.2))
