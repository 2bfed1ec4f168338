"""An answered request is readable once every experiment of it has a look past all its offsets."""

import pytest

from tools.demo.latency import Latency, LatencyMeter


def test_a_request_is_visible_when_the_look_is_past_its_offsets() -> None:
    meter = LatencyMeter()

    meter.answered({"3": 10, "4": 7}, ["men"], now_s=1.0)
    meter.looked("men", {"3": 11, "4": 7}, now_s=1.1)  # 4 is not past 7
    meter.looked("men", {"3": 10, "4": 8}, now_s=1.2)  # another look, 3 is not past 10
    assert meter.latency == Latency(0, None, None)
    meter.looked("men", {"3": 12, "4": 8}, now_s=1.3)

    assert meter.latency.requests == 1
    assert meter.latency.p50 == pytest.approx(300)


def test_a_request_of_several_experiments_waits_for_the_slowest() -> None:
    meter = LatencyMeter()

    meter.answered({"0": 1}, ["men", "women", "men"], now_s=0.0)
    meter.looked("men", {"0": 2}, now_s=0.2)
    meter.looked("all", {"0": 2}, now_s=0.3)
    assert meter.latency.requests == 0
    meter.looked("women", {"0": 2}, now_s=0.5)
    meter.looked("women", {"0": 3}, now_s=0.9)

    assert meter.latency == Latency(1, 500.0, 500.0)


def test_a_look_may_come_before_the_answer_is_read() -> None:
    meter = LatencyMeter()

    meter.looked("men", {"0": 5}, now_s=0.9)
    meter.answered({"0": 4}, ["men"], now_s=1.0)

    assert meter.latency == Latency(1, 0.0, 0.0)


def test_percentiles_are_of_all_requests() -> None:
    meter = LatencyMeter()
    for number in range(101):
        meter.answered({"0": number}, ["men"], now_s=0.0)
        meter.looked("men", {"0": number + 1}, now_s=number / 1_000)

    assert meter.latency == Latency(101, 50.0, 99.0)
