"""A gateway whose clock is not that of the log takes nothing; a record read late is no skew."""

import logging
import re
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_gateway.__main__ import wall_clock_ms
from ingest_gateway.clock_watch import DOUBT_S, SKEW_S_MAX, ClockWatch
from ingest_gateway.control_view import View
from ingest_gateway.reminder import REPEAT_S
from ingest_gateway.telemetry import REGISTRY
from schemas.topics import EVENTS
from tests.ingest_gateway.test_events_route import metric
from tests.ingest_gateway.worlds import World, memory_world, writer

DAY_S = 86_400
EPOCH_S = 1_795_284_000
TICK_S = 0.2

PATIENCE_S = 30
"""A record may be read so much later than it was appended, on a busy machine."""

SKEWS_S = st.one_of(
    st.floats(2 * SKEW_S_MAX, 366 * DAY_S), st.floats(-366 * DAY_S, -2 * SKEW_S_MAX)
)


def follow(
    watch: ClockWatch,
    delays_s: list[float],
    *,
    skew_s: Callable[[float], float],
    broker_s: Callable[[float], float] = lambda true_s: true_s,
    from_s: float = 0.0,
) -> list[bool]:
    """Append a record each fifth of a second, read each so much later; return where it is skewed.

    Of records that are read at one moment only the last one is the last of the log.
    """
    reads: list[tuple[float, float]] = []
    for number, delay_s in enumerate(delays_s):
        appended_s = from_s + number * TICK_S
        read_s = max(appended_s + delay_s, reads[-1][1] if reads else 0.0)
        reads.append((appended_s, read_s))
    found = []
    for index, (appended_s, read_s) in enumerate(reads):
        own_ms = round((EPOCH_S + read_s + skew_s(read_s)) * 1_000)
        if index + 1 == len(reads) or reads[index + 1][0] > read_s:
            watch.read(round((EPOCH_S + broker_s(appended_s)) * 1_000), own_ms, read_s)
        found.append(watch.problem(own_ms, read_s) is not None)
    return found


@given(
    delays_s=st.lists(st.floats(0, 20), min_size=1, max_size=60),
    skew_s=st.floats(-SKEW_S_MAX + 21, SKEW_S_MAX - 21),
)
def test_records_that_are_read_late_by_seconds_never_look_like_a_skew(
    delays_s: list[float], skew_s: float
) -> None:
    assert not any(follow(ClockWatch(), delays_s, skew_s=lambda _: skew_s))


@given(
    before=st.lists(st.floats(0, 0.1), min_size=10, max_size=20),
    frozen_s=st.floats(1, 3_600),
    after=st.lists(st.floats(0, 0.1), min_size=10, max_size=20),
)
def test_a_backlog_that_is_read_after_a_freeze_is_no_skew(
    before: list[float], frozen_s: float, after: list[float]
) -> None:
    """The last record that was on its way when the process froze is read when it wakes up."""
    assert not any(follow(ClockWatch(), [*before, frozen_s, *after], skew_s=lambda _: 0.0))


@given(
    delays_s=st.lists(st.floats(0, 0.1), min_size=6, max_size=30),
    skew_s=SKEWS_S,
)
def test_a_clock_that_is_two_minutes_off_from_the_start_is_found_within_a_second(
    delays_s: list[float], skew_s: float
) -> None:
    found = follow(ClockWatch(), delays_s, skew_s=lambda _: skew_s)

    assert all(found[round(1 / TICK_S) :])


@given(
    delays_s=st.lists(st.floats(0, 20), min_size=1, max_size=30),
    skew_s=SKEWS_S,
)
def test_a_clock_that_is_set_wrong_or_right_is_noticed_at_the_next_event(
    delays_s: list[float], skew_s: float
) -> None:
    watch = ClockWatch()
    follow(watch, delays_s, skew_s=lambda _: 0.0)
    now_s = len(delays_s) * TICK_S + 20
    right_ms = round((EPOCH_S + now_s) * 1_000)

    assert watch.problem(right_ms, now_s) is None
    assert watch.problem(right_ms + round(skew_s * 1_000), now_s) is not None


def test_a_broker_that_goes_a_day_ahead_is_noticed_at_once_and_log_time_that_waits_lasts() -> None:
    """The broker's clock leaps forward at 2 s, and back at 4 s, when log time has followed it."""

    def log_s(true_s: float) -> float:
        return true_s if true_s < 2 else max(true_s, DAY_S)

    watch = ClockWatch()
    found = follow(watch, [0.01] * 50, skew_s=lambda _: 0.0, broker_s=log_s)
    later = follow(
        watch, [0.01] * 50, skew_s=lambda _: 0.0, broker_s=log_s, from_s=DAY_S - SKEW_S_MAX + 2
    )

    assert found == [False] * 10 + [True] * 40
    # Once log time is less than a minute ahead; the readings must agree on that first.
    assert not any(later[10:])


def test_control_that_went_on_after_a_long_silence_is_no_skew() -> None:
    """Log time moves a minute with a tick; the broker's clock was right all the while."""
    view, control = View(), writer()
    control.begin()
    watch = ClockWatch()
    hour_s = 3_600.0
    lags_s = []
    for offset, true_s in enumerate([0.0, 0.2, hour_s, hour_s + 0.2, hour_s + 0.4, hour_s + 0.6]):
        sent = control.append_next()
        assert sent is not None
        appended_ms = round((EPOCH_S + true_s) * 1_000)
        for duty in control.read_control(offset, appended_ms, sent.value):
            control.acknowledge(duty)
        assert view.take(offset, appended_ms, sent.value)
        watch.read(view.log_now_ms, appended_ms, true_s)
        assert watch.problem(appended_ms, true_s) is None
        assert control.control.last is not None
        lags_s.append(true_s - (control.control.last.times.log_ms / 1_000 - EPOCH_S))

    assert max(lags_s) > 3_000


def test_after_a_start_an_old_last_record_is_doubted_for_a_moment_and_then_judges_nothing() -> None:
    watch = ClockWatch()
    hour_ms = 3_600_000
    watch.read(EPOCH_S * 1_000, EPOCH_S * 1_000 + hour_ms, 5.0)

    assert [watch.is_in_doubt(5.0 + age) for age in (0.0, DOUBT_S - 0.1, DOUBT_S)] == [
        True,
        True,
        False,
    ]
    assert not watch.is_known
    assert watch.problem(EPOCH_S * 1_000 + hour_ms, 7.0) is None


def test_a_recent_last_record_is_not_doubted_at_all() -> None:
    watch = ClockWatch()
    watch.read(EPOCH_S * 1_000, EPOCH_S * 1_000 + 300, 5.0)

    assert not watch.is_in_doubt(5.0)


def test_a_skew_is_said_at_once_and_each_minute_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = ClockWatch()
    own_ms = EPOCH_S * 1_000
    watch.read(own_ms, own_ms, 0.0)
    with caplog.at_level(logging.INFO):
        for second in range(2 * int(REPEAT_S)):
            watch.look(own_ms + 1_000 * second + 90_000, second)
        skewed = REGISTRY.get_sample_value("litmus_gateway_clock_skew_seconds")
        watch.look(own_ms + 1_000_000, 1_000.0)

    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR", "INFO"]
    assert "90 s ahead of the log" in caplog.records[0].message
    assert skewed == 90.0
    assert REGISTRY.get_sample_value("litmus_gateway_clock_skew_seconds") == 0.0


@pytest.mark.parametrize("offset_s", [120, -120, -7_200, 366 * DAY_S])
async def test_a_gateway_whose_clock_is_set_wrong_takes_no_event_until_it_is_right(
    offset_s: int,
) -> None:
    offset_ms = 0

    def own_clock_ms() -> int:
        return wall_clock_ms() + offset_ms

    async with memory_world(own_clock_ms) as world:
        before = await world.client.post("/v1/events", json=metric())
        written = rows_of(world)
        offset_ms = offset_s * 1_000
        refused = await world.client.post("/v1/events", json=metric(event_id="e-2"))
        unready = await world.client.get("/ready")
        decided = await world.client.post("/v1/decisions", json={"unit_id": "u"})
        written_skewed = rows_of(world)
        offset_ms = 50_000
        after = await world.client.post("/v1/events", json=metric(event_id="e-2"))
        ready = await world.client.get("/ready")

    problem = refused.json()
    assert (before.status_code, after.status_code, decided.status_code) == (202, 202, 200)
    assert (refused.status_code, problem["code"]) == (503, "clock_skewed")
    assert int(refused.headers["Retry-After"]) >= 1
    told = re.search(r"(\d+) s (ahead of|behind) the log", problem["detail"])
    assert told is not None
    assert int(told[1]) == pytest.approx(abs(offset_s), abs=PATIENCE_S)
    assert told[2] == ("ahead of" if offset_s > 0 else "behind")
    assert "must be 60 s at most" in problem["detail"]
    assert written_skewed == written
    assert unready.status_code == 503
    state = unready.json()
    assert (state["clock_in_step"], state["takes_events"]) == (False, False)
    assert state["clock_skew_s"] == pytest.approx(offset_s, abs=PATIENCE_S)
    assert "NTP" in state["clock_advice"]
    assert (ready.status_code, ready.json()["clock_in_step"]) == (200, True)
    assert msgspec.json.decode(after.content)["accepted"] == 1


def rows_of(world: World) -> int:
    return sum(map(len, world.read(EVENTS.name)))
