"""A slope is found through noise and saws, and what exceeds a bound is named."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.soak.judging import (
    MB,
    Latency,
    Outcome,
    judge,
    slope_mb_per_minute,
    warm_up_s,
)
from tools.soak.sampling import DRIVER, Sample

LATENESS_MS = 300_000
STEADY_S = warm_up_s(LATENESS_MS)
GOOD = Outcome(
    sent=100,
    repeated=2,
    resent=0,
    refused=[],
    fresh=100,
    balanced=True,
    status="balanced",
    views_sent=[30, 20],
    views_counted={"soak-a": [30, 20]},
)


def sample(at_s: float, **fields: object) -> Sample:
    one = Sample(
        at_s=at_s,
        name="accumulate-0",
        pid=7,
        rss_bytes=300 * MB,
        uss_bytes=None,
        fds=20,
        threads=9,
        cpu_s=at_s / 10,
        held_files=0,
    )
    return one._replace(**fields)  # type: ignore[arg-type]


def verdict(samples: list[Sample], outcome: Outcome = GOOD, latencies=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    steady = [Latency(10.0 * number, 400.0) for number in range(360)]
    return judge(
        samples,
        steady if latencies is None else latencies,
        outcome,
        seconds=3_600,
        lateness_ms=LATENESS_MS,
    )


@given(
    slope=st.floats(-50, 50),
    noise_mb=st.floats(0, 5),
    start_mb=st.floats(1, 5_000),
    seed=st.integers(0, 1_000),
)
def test_the_slope_is_found_through_noise_and_outliers(
    slope: float, noise_mb: float, start_mb: float, seed: int
) -> None:
    """Forty minutes, a sample in five seconds, one in ten of them far above."""
    random = Random(seed)
    samples = []
    for number in range(480):
        size = start_mb + slope * number * 5 / 60 + random.uniform(-noise_mb, noise_mb)
        size += 500 if random.random() < 0.1 else 0
        samples.append((number * 5.0, size * MB))

    # Noise of ± n over 40 minutes moves a slope by far less than n / 40 a minute.
    assert slope_mb_per_minute(samples) == pytest.approx(slope, abs=noise_mb / 40 + 1e-6)


def test_a_saw_does_not_pass_for_growth() -> None:
    """Ids are forgotten in portions: memory goes up for five minutes and falls at once."""
    saw = [(5.0 * number, (300 + (number % 60) * 0.5) * MB) for number in range(480)]

    assert abs(slope_mb_per_minute(saw)) < 0.2


def test_growth_while_ids_have_not_expired_is_shown_and_not_judged() -> None:
    samples = [
        sample(at, rss_bytes=int((300 + min(at, STEADY_S) / 2) * MB)) for at in range(0, 3_600, 10)
    ]

    found = verdict(samples)

    assert found["passed"]
    figures = found["processes"]["accumulate-0"]
    assert figures["slope_mb_per_minute"] == pytest.approx(0)
    assert figures["rss_mb_last"] > figures["rss_mb_first"] + 500


def test_a_leak_fails_the_soak_and_is_named() -> None:
    samples = [sample(at, rss_bytes=int((300 + 1.2 * at / 60) * MB)) for at in range(0, 3_600, 10)]

    found = verdict(samples)

    assert not found["passed"]
    assert found["problems"] == ["accumulate-0: RSS grows 1.20 MB/min, must be <= 1"]


def test_the_makers_own_memory_is_shown_and_not_judged() -> None:
    samples = [
        sample(at, name=DRIVER, rss_bytes=int((300 + 9 * at / 60) * MB))
        for at in range(0, 3_600, 10)
    ]

    assert verdict(samples)["passed"]


def test_descriptors_that_stay_fail_and_the_brokers_log_files_do_not() -> None:
    leaking = [sample(at, fds=20 + at // 100) for at in range(0, 3_600, 10)]
    rolling = [
        sample(at, name="kafka", fds=100 + at // 100, held_files=at // 100)
        for at in range(0, 3_600, 10)
    ]

    assert verdict(leaking)["problems"] == [
        "accumulate-0: 12 more descriptors at the end, must be <= 8"
    ]
    assert verdict(rolling)["passed"]


def test_a_restart_fails_the_soak() -> None:
    samples = [sample(at, pid=7 if at < 1_000 else 8) for at in range(0, 3_600, 10)]

    assert verdict(samples)["problems"] == ["accumulate-0: was restarted 1 times"]


def test_too_short_a_run_judges_counts_and_says_so_of_memory() -> None:
    found = verdict([sample(at, rss_bytes=(300 + at) * MB) for at in range(60)])

    assert found["passed"]
    assert not found["memory_judged"]
    assert found["slope_mb_per_minute_max"] is None


def test_latency_that_drifts_is_named() -> None:
    samples = [sample(at) for at in range(0, 3_600, 10)]
    drifting = [Latency(10.0 * number, 400 + number**2 / 20) for number in range(360)]

    [problem] = verdict(samples, latencies=drifting)["problems"]

    assert problem.startswith("latency drifts from")


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (GOOD._replace(fresh=99), "fresh rows == 99, must be the 100 sent"),
        (GOOD._replace(balanced=False, status="unbalanced"), "does not balance: unbalanced"),
        (GOOD._replace(views_counted={"soak-a": [30, 19]}), "soak-a: views == [30, 19]"),
        (GOOD._replace(refused=["a record was not delivered"]), "refused: a record"),
    ],
)
def test_a_count_that_differs_fails_the_soak(wrong: Outcome, problem: str) -> None:
    [found] = verdict([sample(at) for at in range(0, 3_600, 10)], wrong)["problems"]

    assert problem in found


def test_no_probe_at_all_is_a_failure() -> None:
    assert not verdict([sample(at) for at in range(0, 3_600, 10)], latencies=[])["passed"]
