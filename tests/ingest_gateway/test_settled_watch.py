"""A Kafka door that is down for long: first it is said, then the HTTP door stops. Never wrong."""

import logging
import time
from pathlib import Path

import msgspec
import pytest

from ingest_gateway.__main__ import wall_clock_ms
from ingest_gateway.clock_watch import SKEW_S_MAX
from ingest_gateway.control_follower import ControlFollower
from ingest_gateway.control_view import View
from ingest_gateway.reminder import REPEAT_S
from ingest_gateway.settled_watch import Settled, SettledWatch
from ingest_gateway.telemetry import REGISTRY
from schemas.control import Mark
from schemas.topics import EVENTS
from stream_processors.control.writing import Writer
from tests.ingest_gateway.test_events_route import metric
from tests.ingest_gateway.worlds import LATENESS_MS, PARTITIONS, World, control_on
from tests.stack import create_fresh_topics, wait_until
from tools.broker import EmbeddedBroker

SOURCE = "litmus.metrics/0"


def test_an_alert_is_said_at_once_and_again_each_minute_until_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = SettledWatch(alert_s=10, stop_s=100)
    with caplog.at_level(logging.INFO):
        states = [watch.look(lag_ms, now_s) for lag_ms, now_s in [(9_999, 0), (10_000, 1)]]
        states += [watch.look(50_000, second) for second in range(2, 2 + 3 * int(REPEAT_S))]
        states.append(watch.look(100_000, 200))
        states.append(watch.look(1_000, 201))

    assert set(states[1:-2]) == {Settled.BEHIND}
    assert (states[0], *states[-2:]) == (Settled.CURRENT, Settled.STOPPED, Settled.CURRENT)
    assert [record.levelname for record in caplog.records] == [
        *["WARNING"] * 4,
        "ERROR",
        "INFO",
    ]
    assert "litmus_gateway_low_water_seconds" in caplog.records[0].message
    assert REGISTRY.get_sample_value("litmus_gateway_settled_lag_seconds") == 1.0


def test_the_lag_is_that_of_the_log_not_of_any_clock() -> None:
    """A writer whose source stands at 5,000 while log time goes on to 65,000."""
    view = View()
    control = Writer(
        name="test", log_id="log", partition_count=1, lateness_ms=LATENESS_MS, sources=(SOURCE,)
    )
    control.begin()
    lags = []
    for offset, appended_ms in enumerate([1_000, 5_000, 35_000, 65_000]):
        control.read_mark(msgspec.json.encode(Mark(SOURCE, min(appended_ms, 5_000))))
        sent = control.append_next()
        assert sent is not None
        for duty in control.read_control(offset, appended_ms, sent.value):
            control.acknowledge(duty)
        view.take(offset, appended_ms, sent.value)
        lags.append(view.settled_lag_ms)

    assert lags[-1] == 60_000


async def test_far_behind_the_http_door_takes_no_events_and_says_why(memory: World) -> None:
    settled = memory.parts.view.settled
    behind = settled.look(1_000_000, 0.0)
    warned = await memory.client.get("/ready")
    still_taken = await memory.client.post("/v1/events", json=metric())
    settled.look(3_600_000, 0.0)
    stopped = await memory.client.get("/ready")
    refused = await memory.client.post("/v1/events", json=metric())
    decided = await memory.client.post("/v1/decisions", json={"unit_id": "u"})
    settled.look(0, 0.0)
    taken = await memory.client.post("/v1/events", json=metric())

    assert behind is Settled.BEHIND
    assert (warned.status_code, warned.json()["settled"]) == (200, "behind")
    assert "Kafka doors" in warned.json()["settled_advice"]
    assert still_taken.status_code == 202
    assert (stopped.status_code, stopped.json()["settled"]) == (503, "stopped")
    assert (refused.status_code, refused.json()["code"]) == (503, "settled_behind")
    assert refused.headers["Retry-After"] == "30"
    assert decided.status_code == 200
    assert taken.status_code == 202
    assert sum(map(len, memory.read(EVENTS.name))) >= 2


def test_while_control_is_silent_the_lag_grows_with_the_clock_until_the_door_stops(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = SettledWatch(alert_s=900, stop_s=86_400)
    assert watch.pass_time(50.0) is Settled.CURRENT  # nothing was read: nothing is known
    watch.look(100, 100.0)
    seen = [(second, watch.pass_time(100.0 + second)) for second in range(0, 90_000, 60)]

    first = {state: next(s for s, found in seen if found is state) for state in Settled}
    assert first == {Settled.CURRENT: 0, Settled.BEHIND: 900, Settled.STOPPED: 86_400}
    assert "no record of litmus.control" in caplog.records[0].message
    assert REGISTRY.get_sample_value("litmus_gateway_settled_lag_seconds") == watch.lag_s
    assert watch.look(200, 90_200.0) is Settled.CURRENT
    assert watch.lag_s == 0.2


def test_a_gateway_that_starts_while_control_is_silent_counts_the_silence_before_it() -> None:
    watch = SettledWatch(alert_s=900, stop_s=86_400)
    at_start = watch.look(0, 5.0, silent_s=80_000)

    assert at_start is Settled.BEHIND
    assert watch.pass_time(6_404.0) is Settled.BEHIND
    assert watch.pass_time(6_405.0) is Settled.STOPPED


def test_on_a_broker_the_lag_grows_once_control_is_gone_and_the_clock_is_known(
    tmp_path: Path,
) -> None:
    # Of its own: on the shared one another control ticks for the whole folder.
    with EmbeddedBroker(tmp_path / "broker") as broker:
        create_fresh_topics(broker.bootstrap, PARTITIONS)
        hold_the_lag(broker.bootstrap)


def hold_the_lag(bootstrap: str) -> None:
    failures: list[Exception] = []
    settled = SettledWatch(alert_s=1, stop_s=2)
    follower = ControlFollower(
        bootstrap, partition_count=PARTITIONS, on_failure=failures.append, settled=settled
    )
    try:
        with control_on(bootstrap):
            follower.start()
            wait_until(lambda: follower.is_caught_up, "the control log is read")
            wait_until(
                lambda: settled.state is Settled.CURRENT, "it is current while control ticks"
            )
        wait_until(lambda: settled.state is Settled.STOPPED, "the lag grows")
        skew_s = follower.clock.skew_s(wall_clock_ms(), time.monotonic())
        with control_on(bootstrap):
            wait_until(lambda: settled.state is Settled.CURRENT, "control is back")
    finally:
        follower.stop()

    assert not failures
    assert skew_s is not None
    assert abs(skew_s) < SKEW_S_MAX / 2
