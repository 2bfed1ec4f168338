"""Every impression happens once, in the dataset's order, through one door; 2 % are sent again."""

from collections import Counter
from itertools import pairwise

import pytest

from tests.tools.demo.builders import small_dataset
from tools.demo.campaigns import METRIC, UNIT_TYPE, WINDOW_MS
from tools.demo.schedule import CLICKED_AFTER_MS, REQUEST_MS, Event, Schedule, make_schedule

ROWS = 1_000
UNITS = 6 * ROWS
CLICKS = 6 * ROWS // 50


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    return make_schedule(small_dataset(ROWS), seconds=20)


def fresh(schedule: Schedule) -> tuple[list[Event], list[Event]]:
    http = [event for one in schedule.requests if not one.is_repeat for event in one.events]
    kafka = [one.event for one in schedule.records if not one.is_repeat]
    return http, kafka


def test_every_event_is_sent_once_before_it_is_repeated(schedule: Schedule) -> None:
    http, kafka = fresh(schedule)

    ids = [event.body(0)["event_id"] for event in http + kafka]

    assert len(set(ids)) == len(ids) == UNITS + CLICKS == schedule.fresh_count


def test_each_door_takes_half_of_the_impressions_with_their_clicks(schedule: Schedule) -> None:
    http, kafka = fresh(schedule)

    shown = [{e.unit_id for e in events if not e.is_click} for events in (http, kafka)]
    clicked = [{e.unit_id for e in events if e.is_click} for events in (http, kafka)]

    assert [len(units) for units in shown] == [UNITS // 2, UNITS // 2]
    assert clicked[0] <= shown[0]
    assert clicked[1] <= shown[1]


def test_the_week_is_mapped_onto_the_run(schedule: Schedule) -> None:
    """1,000 rows over 20 s: row 250 is due after 5 s."""
    shown = [e for events in fresh(schedule) for e in events if not e.is_click]

    due = {e.row: e.due_ms for e in shown}

    assert [due[row] for row in (0, 250, 500)] == [0, 5_000, 10_000]
    assert max(due.values()) < 20_000


def test_everything_is_sent_in_order_and_not_before_it_happened(schedule: Schedule) -> None:
    assert all(a.due_ms <= b.due_ms for a, b in pairwise(schedule.requests))
    assert all(a.due_ms <= b.due_ms for a, b in pairwise(schedule.records))
    for request in schedule.requests:
        assert all(event.due_ms < request.due_ms for event in request.events)
        if not request.is_repeat:
            assert request.due_ms - request.events[0].due_ms <= REQUEST_MS


def test_a_click_comes_within_the_window(schedule: Schedule) -> None:
    http, kafka = fresh(schedule)
    shown = {e.unit_id: e.due_ms for e in http + kafka if not e.is_click}

    delays = [e.due_ms - shown[e.unit_id] for e in http + kafka if e.is_click]

    low, high = CLICKED_AFTER_MS
    assert all(low <= delay < high for delay in delays)
    assert high < WINDOW_MS


def test_two_percent_are_sent_again_with_the_same_events(schedule: Schedule) -> None:
    first = Counter(len(r.events) for r in schedule.requests if not r.is_repeat)
    again = [request for request in schedule.requests if request.is_repeat]
    records_again = [record for record in schedule.records if record.is_repeat]

    assert len(again) == round(first.total() * 0.02)
    assert len(records_again) == round((UNITS + CLICKS) / 2 * 0.02)
    assert all(
        any(r.events == one.events and r.due_ms < one.due_ms for r in schedule.requests)
        for one in again
    )
    assert schedule.repeated_count == sum(len(r.events) for r in again) + len(records_again)


def test_two_runs_send_the_same(schedule: Schedule) -> None:
    assert make_schedule(small_dataset(ROWS), seconds=20) == schedule


def test_an_event_carries_its_own_id_and_time() -> None:
    shown = Event(5, "men", "treatment", 42, is_click=False)
    click = Event(700, "men", "treatment", 42, is_click=True)

    assert shown.body(1_000) == {
        "type": "assignment",
        "event_id": "shown-men-bts-00042",
        "experiment_id": "obd-men",
        "unit_id": "men-bts-00042",
        "unit_type": UNIT_TYPE,
        "variant": "treatment",
        "timestamp": 1_005,
    }
    assert click.body(1_000) == {
        "type": "metric",
        "event_id": "click-men-bts-00042",
        "experiment_id": "obd-men",
        "metric": METRIC,
        "unit_id": "men-bts-00042",
        "unit_type": UNIT_TYPE,
        "timestamp": 1_700,
    }
