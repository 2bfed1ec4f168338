"""Readers keep the newest definition and the highest (log id, tick), in whatever order."""

import math
import random

import msgspec

from query_api.snapshots import Snapshots, current_results
from schemas.times import format_time_ms
from tests.query_api.builders import NOW_MS, as_of_ms, ledger, snapshot_value

ID = "checkout-color"


def tick_of(snapshots: Snapshots) -> int:
    snapshot = snapshots.get(ID)
    assert snapshot is not None
    assert snapshot.results is not None
    found: int = snapshot.results["look"]["tick"]
    return found


def test_an_older_look_and_a_repeat_are_no_news() -> None:
    snapshots = Snapshots()

    assert snapshots.take(ID, snapshot_value(7))
    assert not snapshots.take(ID, snapshot_value(7))
    assert not snapshots.take(ID, snapshot_value(6))
    assert snapshots.take(ID, snapshot_value(8))
    assert tick_of(snapshots) == 8


def test_of_two_records_of_one_look_the_first_stays() -> None:
    snapshots = Snapshots()
    first = msgspec.json.decode(snapshot_value(7))
    again = msgspec.json.decode(snapshot_value(7))
    again["results"]["crossovers"] = 5

    assert snapshots.take(ID, msgspec.json.encode(first))
    assert not snapshots.take(ID, msgspec.json.encode(again))
    assert snapshots.get(ID).results["crossovers"] == 0  # type: ignore[union-attr,index]


def test_the_highest_tick_stays_in_any_order() -> None:
    rng = random.Random(7)
    for _ in range(20):
        ticks = [rng.randrange(50) for _ in range(10)]
        snapshots = Snapshots()
        for tick in ticks:
            snapshots.take(ID, snapshot_value(tick))

        assert tick_of(snapshots) == max(ticks)


def test_a_newer_definition_comes_with_an_older_look_and_both_newest_stay() -> None:
    snapshots = Snapshots()
    snapshots.take(ID, snapshot_value(7, version=4, status="paused"))

    assert snapshots.take(ID, snapshot_value(9, version=3))
    assert snapshots.get(ID).definition["status"] == "paused"  # type: ignore[union-attr]
    assert tick_of(snapshots) == 9


def test_a_draft_has_the_shape_of_results_without_a_look() -> None:
    snapshots = Snapshots()
    snapshots.take(ID, snapshot_value(None, status="draft", started_at=None))

    shown = current_results(snapshots.get(ID), now_ms=NOW_MS)  # type: ignore[arg-type]

    assert shown["look"] is None
    assert shown["metrics"] == []
    assert shown["status"] == "draft"
    assert [one["units"] for one in shown["variants"]] == [0, 0]


def test_age_is_measured_when_asked_and_numbers_are_copied() -> None:
    snapshots = Snapshots()
    snapshots.take(ID, snapshot_value(7))
    snapshot = snapshots.get(ID)
    assert snapshot is not None
    assert snapshot.results is not None

    shown = current_results(snapshot, now_ms=as_of_ms(7) + 84)

    assert shown["look"]["age_ms"] == 84
    assert snapshot.results["look"]["age_ms"] is None
    assert shown["metrics"] == snapshot.results["metrics"]


def test_who_holds_looks_back_is_taken_from_a_later_ledger() -> None:
    snapshots = Snapshots()
    snapshots.take(ID, snapshot_value(7))
    snapshot = snapshots.get(ID)
    assert snapshot is not None

    earlier = current_results(snapshot, now_ms=NOW_MS, ledger=ledger(6, {}) | {"behind": [3]})
    later = current_results(snapshot, now_ms=NOW_MS, ledger=ledger(9, {}) | {"behind": [3]})

    assert earlier["look"]["behind"] == []
    assert later["look"]["behind"] == [3]


def test_a_tombstone_removes_the_experiment() -> None:
    snapshots = Snapshots()
    snapshots.take(ID, snapshot_value(7))

    assert snapshots.take(ID, None)
    assert snapshots.get(ID) is None
    assert not snapshots.take(ID, None)


def test_how_far_settled_is_behind_is_taken_from_a_later_ledger() -> None:
    snapshots = Snapshots()
    snapshots.take(ID, snapshot_value(7))
    snapshot = snapshots.get(ID)
    assert snapshot is not None
    since = ledger(9, {}) | {"settled": format_time_ms(as_of_ms(9) - 9_000)}

    before = current_results(snapshot, now_ms=NOW_MS, ledger=ledger(6, {}))
    later = current_results(snapshot, now_ms=NOW_MS, ledger=since)

    assert before["look"]["settled_lag_ms"] == 400
    assert later["look"]["settled_lag_ms"] == 9_000


def test_the_age_of_what_is_served_is_that_of_the_newest_tick_known() -> None:
    snapshots = Snapshots()
    assert math.isnan(snapshots.age_s(NOW_MS))

    snapshots.take_ledger(msgspec.json.encode(ledger(40, {})))
    snapshots.take_ledger(msgspec.json.encode(ledger(39, {})))

    assert snapshots.age_s(as_of_ms(40) + 2_500) == 2.5
