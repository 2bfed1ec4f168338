"""Group-sequential tests: published boundaries, what is spent, restarts, and what is reported."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from stream_processors.stats.group_sequential import (
    P_VALUE_MIN,
    Z_MAX,
    GroupLook,
    GroupPath,
    GroupPlan,
    boundaries,
    group_test,
    is_closed,
    is_due,
    next_information,
    planned_boundaries,
    repeated_p_value,
    stagewise,
    take_look,
)
from stream_processors.stats.spending import Spending, alpha_spent
from stream_processors.stats.sub_density import Region, exits, grids
from tests.stream_processors.stats.oracles import CASES, assert_matches, cases_of

SPENDINGS = [
    Spending("obrien_fleming"),
    Spending("obrien_fleming_total"),
    Spending("pocock"),
    Spending("power", 1.0),
    Spending("power", 2.5),
]

DESIGNS = {
    "gs-01": GroupPlan(0.05, Spending("obrien_fleming")),
    "gs-02": GroupPlan(0.05, Spending("obrien_fleming_total")),
    "gs-04": GroupPlan(0.05, Spending("obrien_fleming"), sides=1),
    "gs-05": GroupPlan(0.05, Spending("power", 2.0)),
    "gs-06": GroupPlan(0.05, Spending("power", 1.0), sides=1),
}

TIMES = st.lists(st.floats(0.03, 0.5), min_size=1, max_size=5).map(
    lambda steps: [min(1.0, time) for time in np.cumsum(steps).tolist()]
)


def type_one_error(times: list[float], critical: tuple[float, ...] | list[float]) -> float:
    path = [Region(time, -z, z) for time, z in zip(times, critical, strict=True)]
    return exits(path, list(grids(path))).total


def follow(times: list[float], z: list[float], plan: GroupPlan) -> GroupPath:
    path: GroupPath = ()
    for time, one in zip(times, z, strict=True):
        path = take_look(path, information=time, z=one, plan=plan)
    return path


@pytest.mark.parametrize(
    "case", [case for case in cases_of("group_sequential") if case.id in DESIGNS]
)
def test_reference_boundaries_are_met(case: dict[str, Any]) -> None:
    plan = DESIGNS[case["id"]]._replace(planned_looks=tuple(case["inputs"]["t"]))
    found = planned_boundaries(plan)
    assert tuple(time for time, _ in found) == plan.planned_looks
    assert_matches(case, z=tuple(z for _, z in found))
    path = follow(case["inputs"]["t"], [0.0] * len(found), plan)
    if "cum_alpha" in case["expected"]:
        assert_matches(case, cum_alpha=tuple(look.alpha_spent for look in path))
    if "spotify_z" in case["expected"]:
        # Another program's boundaries, on a coarser grid.
        assert [z for _, z in found] == pytest.approx(case["expected"]["spotify_z"], abs=1e-4)


@pytest.mark.parametrize(
    "case", [case for case in cases_of("group_sequential") if case.id == "gs-08"]
)
def test_pococks_constants_are_met(case: dict[str, Any]) -> None:
    constants = [
        optimize.brentq(
            lambda z, looks=looks: (
                type_one_error([(look + 1) / looks for look in range(looks)], [z] * looks) - 0.05
            ),
            1.5,
            3.5,
            xtol=1e-12,
        )
        for looks in case["inputs"]["K"]
    ]
    assert_matches(case, c=tuple(constants))


def test_every_group_sequential_case_is_checked() -> None:
    cases = {case["id"] for case in CASES if case["category"] == "group_sequential"}
    assert cases == {*DESIGNS, "gs-08"}


@pytest.mark.parametrize("case", cases_of("peeking_inflation"))
def test_plain_tests_under_peeking_reject_as_often_as_published(case: dict[str, Any]) -> None:
    z = -stats.norm.ppf(case["inputs"]["nominal_two_sided"] / 2)
    errors = [
        type_one_error([(look + 1) / looks for look in range(looks)], [z] * looks)
        for looks in case["inputs"]["K"]
    ]
    assert_matches(case, true_type_I=tuple(errors))


@pytest.mark.parametrize("case", cases_of("group_sequential_defect"))
def test_spending_increments_is_not_testing_at_the_cumulative_level(case: dict[str, Any]) -> None:
    times, plan = case["inputs"]["t"], GroupPlan(0.05, Spending("obrien_fleming_total"))
    cumulative = [alpha_spent(plan.spending, time, alpha=0.05) for time in times]
    wrong = [float(-stats.norm.ppf(spent / 2)) for spent in cumulative]
    assert wrong == pytest.approx(case["expected"]["z"], abs=1e-6)
    assert type_one_error(times, wrong) == pytest.approx(case["expected"]["true_type_I"], abs=1e-6)
    ours = boundaries(times, plan)
    assert all(mine > theirs for mine, theirs in zip(ours[1:], wrong[1:], strict=True))
    assert type_one_error(times, ours) == pytest.approx(0.05, abs=1e-9)


@given(TIMES, st.sampled_from(SPENDINGS), st.sampled_from([0.01, 0.05, 0.1]))
@settings(deadline=None, max_examples=50)
def test_any_looks_spend_what_the_function_says(
    times: list[float], spending: Spending, alpha: float
) -> None:
    plan = GroupPlan(alpha, spending)
    path: GroupPath = ()
    for time in times:
        path = take_look(path, information=time, z=0.0, plan=plan)
    seen = [look.information for look in path]
    error = type_one_error(seen, [look.boundary for look in path])
    assert error == pytest.approx(path[-1].alpha_spent, abs=1e-9)
    spent = alpha_spent(spending, seen[-1], alpha=alpha)
    assert path[-1].alpha_spent == pytest.approx(spent, abs=1e-13)


def test_a_restart_continues_with_the_same_bits() -> None:
    """The path is all there is: read back from text, it gives the same numbers."""
    plan = GroupPlan(0.05, Spending("pocock"))
    times, z = [0.21, 0.37, 0.66, 0.83, 1.04], [0.3, 1.1, 1.9, 2.0, 2.1]
    whole = follow(times, z, plan)
    path: GroupPath = ()
    for time, one in zip(times, z, strict=True):
        path = tuple(
            GroupLook(*(float.fromhex(value) for value in [number.hex() for number in look]))
            for look in path
        )
        path = take_look(path, information=time, z=one, plan=plan)
    assert path == whole
    assert group_test(path, estimate=1.0, std_error=0.5, plan=plan) == group_test(
        whole, estimate=1.0, std_error=0.5, plan=plan
    )


def test_too_much_information_spends_what_is_left_once() -> None:
    plan = GroupPlan()
    path = follow([0.4, 0.8, 1.3], [1.0, 1.5, 1.0], plan)
    assert path[-1].alpha_spent == plan.alpha
    assert is_closed(path, plan)
    assert take_look(path, information=1.6, z=9.0, plan=plan) == path
    # All of alpha, with the correlations of the real information.
    error = type_one_error([0.4, 0.8, 1.3], [look.boundary for look in path])
    assert error == pytest.approx(0.05, abs=1e-9)


def test_an_end_before_the_planned_information_spends_what_is_left() -> None:
    plan = GroupPlan()
    path = follow([0.4], [1.0], plan)
    path = take_look(path, information=0.7, z=2.1, plan=plan, is_final=True)
    error = type_one_error([0.4, 0.7], [look.boundary for look in path])
    assert error == pytest.approx(0.05, abs=1e-9)
    test = group_test(path, estimate=2.1, std_error=1.0, plan=plan)
    assert test is not None
    assert test.status == "rejected"
    assert test.p_value <= 0.05


def test_a_look_too_near_to_the_last_is_none() -> None:
    plan = GroupPlan()
    path = follow([0.4], [1.0], plan)
    assert take_look(path, information=0.400_009, z=5.0, plan=plan) == path
    assert take_look(path, information=0.3, z=5.0, plan=plan) == path
    assert len(take_look(path, information=0.400_011, z=1.0, plan=plan)) == 2


def test_a_look_with_nothing_to_spend_has_the_highest_boundary_and_spends_nothing() -> None:
    path = take_look((), information=0.02, z=5.0, plan=GroupPlan())
    assert path == (GroupLook(0.02, 5.0, 0.0, Z_MAX),)
    assert path[0].boundary == Z_MAX


def test_planned_looks_that_were_jumped_over_are_one_look() -> None:
    plan = GroupPlan()
    assert next_information((), plan) == 0.2
    assert not is_due((), 0.19, plan)
    assert is_due((), 0.55, plan)
    path = take_look((), information=0.55, z=0.0, plan=plan)
    assert next_information(path, plan) == 0.6
    assert not is_due(path, 0.59, plan)


def test_a_rejection_closes_the_path() -> None:
    plan = GroupPlan()
    path = follow([0.4], [-3.5], plan)
    assert is_closed(path, plan)
    assert next_information(path, plan) is None
    assert not is_due(path, 1.0, plan)
    assert take_look(path, information=0.6, z=0.0, plan=plan) == path
    assert planned_boundaries(plan, path) == ((0.4, path[0].boundary),)


@pytest.mark.parametrize(("information", "z"), [(0.0, 1.0), (math.inf, 1.0), (0.2, math.nan)])
def test_what_is_not_finite_is_refused(information: float, z: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        take_look((), information=information, z=z, plan=GroupPlan())


@given(TIMES, st.data(), st.sampled_from(SPENDINGS), st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=40)
def test_the_repeated_p_value_is_the_level_at_which_the_path_would_have_rejected(
    times: list[float], data: st.DataObject, spending: Spending, sides: Any
) -> None:
    plan = GroupPlan(0.05, spending, sides=sides)
    path: GroupPath = ()
    last = 1.0
    for time in times:
        z = data.draw(st.floats(-4, 4))
        before, path = path, take_look(path, information=time, z=z, plan=plan)
        p_value = repeated_p_value(path, plan)
        assert p_value <= last + 1e-9
        last = p_value
        if path == before:
            continue
        test = group_test(path, estimate=z, std_error=1.0, plan=plan)
        assert test is not None
        if abs(p_value - 0.05) > 1e-6:
            assert (test.status == "rejected") == (p_value < 0.05)
            excludes = test.low > 0 or (test.high is not None and test.high < 0)
            assert excludes == (test.status == "rejected")


def test_a_repeated_p_value_is_the_plain_one_at_a_first_and_only_look() -> None:
    plan = GroupPlan(planned_looks=(1.0,))
    path = follow([1.0], [2.3], plan)
    assert repeated_p_value(path, plan) == pytest.approx(2 * stats.norm.sf(2.3), rel=1e-8)


def test_a_repeated_p_value_is_not_followed_into_nothing() -> None:
    assert repeated_p_value(follow([0.2], [40.0], GroupPlan()), GroupPlan()) == P_VALUE_MIN


def test_a_first_look_that_ends_it_is_reported_as_if_it_were_the_only_one() -> None:
    found = stagewise(follow([0.4], [4.0], GroupPlan()), std_error=0.5, plan=GroupPlan())
    assert found.p_value == pytest.approx(2 * stats.norm.sf(4.0), rel=1e-9)
    assert found.estimate == pytest.approx(2.0, abs=1e-9)
    assert (found.low, found.high) == pytest.approx((2 - 1.959964 / 2, 2 + 1.959964 / 2), abs=1e-6)


@given(st.floats(-4, 4), st.floats(0.1, 3))
@settings(deadline=None, max_examples=25)
def test_reports_are_mirrored_and_scale_with_the_effect(z: float, std_error: float) -> None:
    plan = GroupPlan(0.05, Spending("pocock"))
    found = stagewise(follow([0.3, 1.0], [0.4, z], plan), std_error=std_error, plan=plan)
    mirrored = stagewise(follow([0.3, 1.0], [-0.4, -z], plan), std_error=1.0, plan=plan)
    assert found.p_value == pytest.approx(mirrored.p_value, abs=1e-9)
    assert (found.low, found.high) == pytest.approx(
        (-mirrored.high * std_error, -mirrored.low * std_error), abs=1e-8
    )
    assert found.low < found.estimate < found.high
    # The ordering's p-value and interval say the same.
    if abs(found.p_value - plan.alpha) > 1e-6:
        assert (found.p_value < plan.alpha) == (found.low > 0 or found.high < 0)


class Trials:
    """Experiments that follow one plan, for one true drift."""

    def __init__(self, drift: float, times: list[float], plan: GroupPlan, seed: int) -> None:
        rng = np.random.default_rng(seed)
        steps = np.diff([0.0, *times])
        scores = np.cumsum(
            rng.normal(drift * steps, np.sqrt(steps), size=(4_000, len(times))), axis=1
        )
        self.z = scores / np.sqrt(times)
        critical = np.array(boundaries(times, plan))
        crossed = np.abs(self.z) >= critical
        self.rejected = crossed.any(axis=1)
        self.stop = np.where(self.rejected, crossed.argmax(axis=1), len(times) - 1)


def test_reports_at_the_end_cover_and_are_median_unbiased_where_plain_ones_are_not() -> None:
    """A drift of 2.8 is found about 80 % of the time; stopping early makes plain estimates high."""
    plan, times, drift = GroupPlan(0.05, Spending("pocock")), [0.25, 0.5, 0.75, 1.0], 2.8
    trials = Trials(drift, times, plan, seed=11)
    covered, below, plain_below = 0, 0, 0
    count = 500
    for z, stop in zip(trials.z[:count], trials.stop[:count], strict=True):
        path = follow(times[: stop + 1], z[: stop + 1].tolist(), plan)
        # With a standard error of 1 / √t, effects are drifts.
        found = stagewise(path, std_error=1 / math.sqrt(times[stop]), plan=plan)
        covered += found.low <= drift <= found.high
        below += found.estimate < drift
        plain_below += z[stop] / math.sqrt(times[stop]) < drift
    # Four standard errors of a share of 500.
    assert covered / count == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / count))
    assert below / count == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / count))
    assert plain_below / count < 0.5 - 2 * math.sqrt(0.25 / count)


@pytest.mark.parametrize("times", [[0.2, 0.4, 0.6, 0.8, 1.0], [0.1, 0.35, 0.5, 0.97], [0.5, 1.2]])
@pytest.mark.parametrize("spending", SPENDINGS[:3])
def test_watched_null_experiments_are_rejected_as_often_as_was_spent(
    times: list[float], spending: Spending
) -> None:
    plan = GroupPlan(0.05, spending)
    rejected = np.mean([Trials(0.0, times, plan, seed).rejected.mean() for seed in range(5)])
    spent = alpha_spent(spending, times[-1], alpha=0.05)
    assert rejected == pytest.approx(spent, abs=4 * math.sqrt(0.05 * 0.95 / 20_000))


@pytest.mark.parametrize("spending", SPENDINGS)
def test_spending_ends_at_alpha_and_grows(spending: Spending) -> None:
    spent = [alpha_spent(spending, time, alpha=0.05) for time in np.linspace(0.01, 1.3, 50)]
    assert spent == sorted(spent)
    assert spent[-1] == 0.05
    assert alpha_spent(spending, 1 - 1e-12, alpha=0.05) == pytest.approx(0.05, abs=1e-12)


def test_spending_needs_information_and_an_exponent() -> None:
    with pytest.raises(ValueError, match="information"):
        alpha_spent(Spending(), 0.0, alpha=0.05)
    with pytest.raises(ValueError, match="exponent"):
        alpha_spent(Spending("power", 0.0), 0.5, alpha=0.05)


def test_no_look_is_no_test() -> None:
    assert group_test((), estimate=0.0, std_error=1.0, plan=GroupPlan()) is None
