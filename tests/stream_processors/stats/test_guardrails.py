"""Guardrails: reference cases, margins and directions, states, and error rates under watching."""

import math
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stream_processors.stats.group_sequential import GroupPlan, boundaries
from stream_processors.stats.guardrails import (
    ArmMean,
    Guardrail,
    GuardrailTest,
    Margin,
    fixed_guardrail,
    gain_of,
    planned_guardrail,
    room_of,
    sequential_guardrail,
)
from tests.stream_processors.stats.oracles import assert_matches, cases_of

ABSOLUTE = Guardrail(Margin(0.5, "absolute"))
RELATIVE = Guardrail(Margin(0.05, "relative"))

ARMS = st.builds(ArmMean, st.integers(100, 10**6), st.floats(0.5, 100), st.floats(1e-3, 5))
DIRECTIONS = st.sampled_from(["increase", "decrease"])


def arm(mean: float, *, std_error: float = 0.1, unit_count: int = 10_000) -> ArmMean:
    return ArmMean(unit_count, mean, std_error)


@pytest.mark.parametrize(
    "case", [case for case in cases_of("noninferiority") if case.id == "noninf-03"]
)
def test_the_reference_case_of_means_is_met(case: dict[str, Any]) -> None:
    inputs = case["inputs"]
    arms = [
        ArmMean(one["n"], one["mean"], math.sqrt(one["var"] / one["n"]))
        for one in (inputs["control"], inputs["treatment"])
    ]
    guardrail = Guardrail(Margin(inputs["margin"], "absolute"), alpha=inputs["alpha"])
    test = fixed_guardrail(arms[0], arms[1], guardrail)
    room = room_of(arms[0], arms[1], guardrail)
    assert_matches(
        case, t=test.statistic, df=room.degrees_of_freedom, p=test.p_value, lower_bound=test.low
    )
    assert test.status == "undecided"


@pytest.mark.parametrize(
    "case", [case for case in cases_of("noninferiority") if case.id == "noninf-01"]
)
def test_the_reference_case_of_rates_is_met(case: dict[str, Any]) -> None:
    """By the plain contrast with p(1 - p) / n; the score test is 5e-4 off theirs, see
    ``test_rate_margins`` for whose the error is."""
    inputs = case["inputs"]
    arms = []
    for one in (inputs["control"], inputs["treatment"]):
        rate = one["conversions"] / one["n"]
        arms.append(ArmMean(one["n"], rate, math.sqrt(rate * (1 - rate) / one["n"])))
    guardrail = Guardrail(Margin(inputs["margin"], "absolute"), alpha=inputs["alpha"])
    room = room_of(arms[0], arms[1], guardrail)
    z = room.estimate / room.std_error
    gain = gain_of(arms[0], arms[1], "increase")
    assert_matches(
        case,
        z_wald=z,
        p_wald=float(stats.norm.sf(z)),
        lower_bound_95_one_sided=gain.estimate - float(stats.norm.isf(0.05)) * gain.std_error,
    )
    test = fixed_guardrail(arms[0], arms[1], guardrail, is_rate=True)
    assert test.status == "pass"
    assert test.statistic == pytest.approx(case["expected"]["z_score"], abs=6e-4)
    assert test.p_value == pytest.approx(case["expected"]["p_score"], abs=3e-5)


@pytest.mark.parametrize(
    ("treatment", "expected", "is_harmed"),
    [
        (10.0, "pass", False),
        (9.70, "pass", True),  # Worse for sure, and by less than the margin for sure.
        (9.60, "undecided", True),
        (9.40, "undecided", True),
        (9.20, "fail", True),
    ],
)
def test_states_follow_the_interval(treatment: float, expected: str, is_harmed: bool) -> None:
    """Margin 0.5, standard error 0.1 of the difference: bounds are 0.1645 away."""
    arms = arm(10.0, std_error=0.1 / math.sqrt(2)), arm(treatment, std_error=0.1 / math.sqrt(2))
    test = fixed_guardrail(*arms, ABSOLUTE)
    assert test.is_harmed == is_harmed
    assert test.status == ("harm" if expected == "undecided" and is_harmed else expected)
    assert test.low is not None
    assert test.low == pytest.approx(treatment - 10 - 0.16449, abs=1e-4)


def test_a_wide_interval_decides_nothing() -> None:
    test = fixed_guardrail(arm(10.0, std_error=1.0), arm(9.9, std_error=1.0), ABSOLUTE)
    assert (test.status, test.is_harmed, test.reason) == ("undecided", False, None)


@given(ARMS, ARMS, st.floats(0.01, 0.5))
def test_a_relative_margin_is_a_linear_contrast(
    control: ArmMean, treatment: ArmMean, size: float
) -> None:
    """Room above 0 is the same as a ratio of means above 1 - d, or below 1 + d."""
    for direction, share in (("increase", 1 - size), ("decrease", 1 + size)):
        room = room_of(control, treatment, Guardrail(Margin(size, "relative"), direction))
        is_better = treatment.mean > share * control.mean
        if direction == "decrease":
            is_better = treatment.mean < share * control.mean
        if abs(room.estimate) > 1e-9:
            assert (room.estimate > 0) == is_better
        assert room.std_error == pytest.approx(
            math.sqrt(treatment.std_error**2 + share**2 * control.std_error**2)
        )


@given(ARMS, ARMS, DIRECTIONS, st.floats(0.01, 0.5), st.sampled_from(["absolute", "relative"]))
def test_turning_the_sign_of_the_metric_turns_the_direction(
    control: ArmMean,
    treatment: ArmMean,
    direction: Literal["increase", "decrease"],
    size: float,
    scale: Literal["absolute", "relative"],
) -> None:
    """Less latency is more of minus latency; also for a margin that is a share of |mean|."""
    other: Literal["increase", "decrease"] = "decrease" if direction == "increase" else "increase"
    turned = [one._replace(mean=-one.mean) for one in (control, treatment)]
    there = fixed_guardrail(control, treatment, Guardrail(Margin(size, scale), direction))
    back = fixed_guardrail(*turned, Guardrail(Margin(size, scale), other))
    assert there == back


@given(ARMS, ARMS, DIRECTIONS)
def test_bounds_p_values_and_states_agree(
    control: ArmMean, treatment: ArmMean, direction: Literal["increase", "decrease"]
) -> None:
    guardrail = Guardrail(Margin(1.0, "absolute"), direction)
    for test in (
        fixed_guardrail(control, treatment, guardrail),
        sequential_guardrail(control, treatment, guardrail, n_star=5_000),
    ):
        _assert_consistent(test, guardrail.alpha)


def _assert_consistent(test: GuardrailTest, alpha: float) -> None:
    assert test.p_value is not None
    assert test.harm_p_value is not None
    assert test.low is not None
    assert test.high is not None
    if abs(test.p_value - alpha) > 1e-9:
        assert (test.status == "pass") == (test.p_value < alpha)
    if abs(test.harm_p_value - alpha) > 1e-9:
        assert test.is_harmed == (test.harm_p_value < alpha)
    assert (test.low > -test.margin) == (test.status == "pass")
    assert (test.high < -test.margin) == (test.status == "fail")


def test_sequential_bounds_are_wider_than_those_of_one_look() -> None:
    arms = arm(10.0), arm(9.9)
    fixed = fixed_guardrail(*arms, ABSOLUTE)
    watched = sequential_guardrail(*arms, ABSOLUTE, n_star=5_000)
    assert watched.low is not None
    assert fixed.low is not None
    assert watched.low < fixed.low


def test_bounds_of_planned_looks_are_their_boundaries() -> None:
    boundary = boundaries((0.5, 1.0), GroupPlan(0.05, sides=1))[0]
    arms = arm(10.0), arm(9.9)
    test = planned_guardrail(*arms, ABSOLUTE, boundary=boundary)
    assert test.critical_value == boundary
    assert test.low == pytest.approx(-0.1 - boundary * 0.1 * math.sqrt(2))
    assert test.p_value is test.harm_p_value is None


def test_without_any_variance_nothing_is_said() -> None:
    arms = arm(10.0, std_error=0.0), arm(9.0, std_error=0.0)
    for test in (
        fixed_guardrail(*arms, ABSOLUTE),
        sequential_guardrail(*arms, ABSOLUTE, n_star=5_000),
        planned_guardrail(*arms, ABSOLUTE, boundary=2.0),
    ):
        assert (test.status, test.reason) == ("undecided", "zero_variance")
        assert test.gain == -1.0
        assert test.low is test.p_value is None


def test_no_crash_in_either_arm_passes_a_guardrail_of_crashes() -> None:
    guardrail = Guardrail(Margin(0.001, "absolute"), "decrease")
    none = arm(0.0, std_error=0.0)
    assert fixed_guardrail(none, none, guardrail, is_rate=True).status == "pass"
    few = none._replace(unit_count=500)
    assert fixed_guardrail(few, few, guardrail, is_rate=True).status == "undecided"


@pytest.mark.parametrize("guardrail", [ABSOLUTE, RELATIVE])
def test_at_the_margin_it_passes_as_often_as_promised(guardrail: Guardrail) -> None:
    """True mean 10 against exactly 9.5: 5 % pass, 5 % fail; n = 200 an arm, sd 4."""
    rng = np.random.default_rng(8)
    replications, units = 6_000, 200
    means = [rng.normal(mean, 4 / math.sqrt(units), replications) for mean in (10.0, 9.5)]
    spreads = [
        4 * np.sqrt(rng.chisquare(units - 1, replications) / (units - 1) / units) for _ in range(2)
    ]
    states = [
        fixed_guardrail(
            ArmMean(units, means[0][one], spreads[0][one]),
            ArmMean(units, means[1][one], spreads[1][one]),
            guardrail,
        ).status
        for one in range(replications)
    ]
    error = 4 * math.sqrt(0.05 * 0.95 / replications)
    assert states.count("pass") / replications == pytest.approx(0.05, abs=error)
    assert states.count("fail") / replications == pytest.approx(0.05, abs=error)


def test_watched_all_the_time_it_passes_at_the_margin_seldom_and_far_from_it_always() -> None:
    rng = np.random.default_rng(9)
    looks, step, experiments = 25, 400, 150
    passed = {"at": 0, "far": 0}
    for gain, name in ((-0.5, "at"), (0.0, "far")):
        for _ in range(experiments):
            counts = step * np.arange(1, looks + 1)
            means = [
                np.cumsum(rng.normal(mean, 4 / math.sqrt(step), looks)) / np.arange(1, looks + 1)
                for mean in (10.0, 10.0 + gain)
            ]
            passed[name] += any(
                sequential_guardrail(
                    ArmMean(int(n), float(c), 4 / math.sqrt(n)),
                    ArmMean(int(n), float(t), 4 / math.sqrt(n)),
                    ABSOLUTE,
                    n_star=5_000,
                ).status
                == "pass"
                for n, c, t in zip(counts, *means, strict=True)
            )
    assert passed["at"] / experiments <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / experiments)
    assert passed["far"] / experiments > 0.95


@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_harm_of_a_rate_is_the_score_test_whatever_the_scale_of_its_margin(
    direction: Literal["increase", "decrease"],
) -> None:
    """4 of 200 beside 190 of 3,800: Wald's standard error of so few is too small by chance."""
    control, treatment = (
        ArmMean(units, rate, math.sqrt(rate * (1 - rate) / (units - 1)))
        for units, rate in ((3_800, 0.05), (200, 0.02))
    )
    found = [
        fixed_guardrail(control, treatment, Guardrail(Margin(size, scale), direction), is_rate=True)
        for size, scale in ((0.2, "relative"), (0.01, "absolute"))
    ]

    relative, absolute = found
    assert relative.harm_p_value == absolute.harm_p_value
    assert (relative.low, relative.high) == (absolute.low, absolute.high)
    # Pooled: z = (.02 - .05) / √(p (1 - p) (1/200 + 1/3,800)) with p = 194 / 4,000.
    p = 194 / 4_000
    z = -0.03 / math.sqrt(p * (1 - p) * (1 / 200 + 1 / 3_800))
    tail = 0.5 * math.erfc(-z / math.sqrt(2))
    assert absolute.harm_p_value == pytest.approx(
        tail if direction == "increase" else 1 - tail, rel=0.01
    )


def _exact_shares(
    units: tuple[int, int],
    rates: tuple[float, float],
    direction: Literal["increase", "decrease"],
) -> dict[str, float]:
    """Return how often a relative margin of 10 % has which status, by the binomials themselves.

    Of each binomial at most 12 counts are visited, at the middles of equal shares.
    """
    shares = (np.arange(12) + 0.5) / 12
    controls = stats.binom.ppf(shares, units[0], rates[0]).astype(int)
    treatments = np.arange(
        int(stats.binom.ppf(1e-4, units[1], rates[1])),
        int(stats.binom.ppf(1 - 1e-4, units[1], rates[1])) + 1,
    )
    chances = stats.binom.pmf(treatments, units[1], rates[1])
    guardrail = Guardrail(Margin(0.1, "relative"), direction)
    found = {"pass": 0.0, "fail": 0.0, "harm": 0.0, "undecided": 0.0}
    for control in controls:
        for treatment, chance in zip(treatments, chances, strict=True):
            arms = _rate_arm(units[0], int(control)), _rate_arm(units[1], int(treatment))
            test = fixed_guardrail(*arms, guardrail, is_rate=True)
            assert test.status != "fail" or test.is_harmed
            if test.p_value is not None and test.room_low is not None:
                assert (test.p_value < guardrail.alpha) == (test.room_low > 0)
            found[test.status] += chance / len(controls)
    return found


def _rate_arm(units: int, converted: int) -> ArmMean:
    rate = converted / units
    return ArmMean(units, rate, math.sqrt(rate * (1 - rate) / (units - 1)))


@pytest.mark.parametrize("rate", [0.05, 0.01])
@pytest.mark.parametrize("units", [(19_000, 1_000), (9_500, 200), (1_000, 1_000), (950, 50)])
def test_a_relative_margin_of_rates_errs_as_promised_with_small_variants_too(
    units: tuple[int, int], rate: float
) -> None:
    """Wald's z of 50 units beside 950, at 1 %, failed 63 % at the margin and 60 % of A/A."""
    most = 1.3 * 0.05
    assert _exact_shares(units, (rate, 1.1 * rate), "decrease")["pass"] <= most
    assert _exact_shares(units, (rate, 0.9 * rate), "increase")["fail"] <= most
    assert _exact_shares(units, (rate, rate), "increase")["fail"] <= most


def test_a_relative_margin_of_a_rate_is_the_score_test_at_its_most_likely_rates() -> None:
    """The likelihood along treatment == 0.9 * control, maximised over a fine grid."""
    test = fixed_guardrail(
        _rate_arm(9_500, 500),
        _rate_arm(500, 20),
        Guardrail(Margin(0.1, "relative")),
        is_rate=True,
    )
    grid = np.linspace(0.03, 0.08, 500_001)
    likelihood = stats.binom.logpmf(500, 9_500, grid) + stats.binom.logpmf(20, 500, 0.9 * grid)
    p = grid[likelihood.argmax()]
    q = 0.9 * p
    z = (0.04 - 0.9 * 500 / 9_500) / math.sqrt(0.81 * p * (1 - p) / 9_500 + q * (1 - q) / 500)
    assert test.statistic == pytest.approx(z, rel=1e-5)
    assert test.p_value == pytest.approx(stats.norm.sf(z), rel=1e-5)


@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_a_relative_margin_waits_for_events_to_expect_but_harm_does_not(
    direction: Literal["increase", "decrease"],
) -> None:
    guardrail = Guardrail(Margin(0.1, "relative"), direction)
    few = fixed_guardrail(_rate_arm(950, 50), _rate_arm(20, 0), guardrail, is_rate=True)
    assert (few.status, few.reason, few.is_harmed) == ("undecided", "few_expected", False)
    assert few.p_value is few.room_low is few.room_high is None
    assert few.harm_p_value is not None
    worse = _rate_arm(50, 0 if direction == "increase" else 40)
    control = _rate_arm(50, 40 if direction == "increase" else 0)
    many = fixed_guardrail(control, worse, guardrail, is_rate=True)
    assert many.is_harmed
    assert many.status in ("harm", "fail")
