"""Ratio metrics by the delta method: reference cases, definitions in fractions, tea-tasting."""

import math
from fractions import Fraction
from typing import Any

import pytest
import tea_tasting
from hypothesis import assume, given
from hypothesis import strategies as st
from tea_tasting.aggr import Aggregates

from stream_processors.stats.comparisons import Comparison, Kind, compare_all, summarise
from stream_processors.stats.effects import Effect
from stream_processors.stats.ratio import exact_moments
from stream_processors.stats.sums import JointSums, MetricSums
from stream_processors.stats.tails import two_sided_normal_p_value
from tests.stream_processors.stats.oracles import assert_matches, cases_of
from tests.stream_processors.stats.units import (
    Row,
    joint_sums_of,
    linearised,
    mean,
    metric_sums_of,
    variance,
)

ROWS = st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 20)), min_size=2, max_size=12)


def sums_of(side: dict[str, float]) -> MetricSums:
    products = tuple(int(side[name]) for name in ("sum_yy", "sum_yd", "sum_dd"))
    return MetricSums(JointSums(int(side["n"]), (int(side["sum_y"]), int(side["sum_d"])), products))


def effect_of(control: MetricSums, treatment: MetricSums, kind: Kind = "ratio") -> Effect:
    return compare_all([Comparison(kind, control, treatment, precision=0)])[0]


@pytest.mark.parametrize("case", cases_of("ratio_delta"))
def test_reference_cases_are_met(case: dict[str, Any]) -> None:
    sides = [sums_of(case["inputs"][side]) for side in ("control", "treatment")]
    effect = effect_of(*sides)
    fixed = effect.fixed_horizon
    assert effect.status == "ok"
    assert fixed is not None
    assert effect.estimate is not None
    assert effect.std_error is not None
    assert_matches(
        case,
        ratio_control=effect.control.mean,
        ratio_treatment=effect.treatment.mean,
        unit_var_control=effect.control.variance,
        unit_var_treatment=effect.treatment.variance,
        diff=effect.estimate,
        se=effect.std_error,
        df=fixed.degrees_of_freedom,
        p_value_t=fixed.p_value,
        p_value_z=two_sided_normal_p_value(effect.estimate / effect.std_error),
        ci_t=(fixed.low, fixed.high),
        lift=effect.relative.estimate,
        lift_se_delta=effect.relative.std_error,
    )


def test_events_are_not_independent_units() -> None:
    """Case ratio-04: the variance of the ratio is 2.17 times that of independent events."""
    case = next(one.values[0] for one in cases_of("ratio_delta") if one.id == "ratio-04")
    sums = sums_of(case["inputs"]["control"]).total
    moments = exact_moments(sums, is_ratio=True, quanta=1)
    rate = sums.sums[0] / sums.sums[1]
    independent = rate * (1 - rate) / sums.sums[1]
    assert moments.mean_variance / independent == pytest.approx(
        case["expected"]["design_effect_control"], rel=1e-3
    )


@given(ROWS)
def test_a_ratio_and_its_variance_are_the_nearest_floats(rows: list[Row]) -> None:
    assume(sum(row[1] for row in rows) > 0)
    moments = exact_moments(joint_sums_of(rows, 2), is_ratio=True, quanta=100)
    ratio = Fraction(sum(row[0] for row in rows), 100 * sum(row[1] for row in rows))
    assert moments.mean == float(ratio)
    assert moments.variance == float(variance(linearised(rows, 0, 1)) / 100**2)


@given(ROWS, ROWS)
def test_the_difference_of_ratios_is_the_nearest_float(
    control: list[Row], treatment: list[Row]
) -> None:
    assume(all(sum(row[1] for row in rows) > 0 for rows in (control, treatment)))
    effect = effect_of(*(metric_sums_of(rows, dimension=2) for rows in (control, treatment)))
    shares = [
        Fraction(sum(row[0] for row in rows), sum(row[1] for row in rows))
        for rows in (control, treatment)
    ]
    assert effect.estimate == float(shares[1] - shares[0])


@given(st.lists(st.integers(-99, 99), min_size=3, max_size=20), st.integers(1, 9))
def test_a_constant_denominator_leaves_welchs_test_of_the_quotient(
    values: list[int], denominator: int
) -> None:
    rows = [(value, denominator) for value in values]
    more = [(value + 3, denominator) for value in values[:-1]]
    ratio = effect_of(*(metric_sums_of(some, dimension=2) for some in (rows, more)))
    # y/d has the sums of y and denominator · units: the same t, degrees of freedom and p-value.
    plain = effect_of(*(metric_sums_of(some) for some in (rows, more)), kind="sum")
    assert ratio.status == plain.status
    if plain.fixed_horizon is None or ratio.fixed_horizon is None:
        return
    assert ratio.fixed_horizon[1:3] == pytest.approx(plain.fixed_horizon[1:3], rel=1e-12)
    assert ratio.degrees_of_freedom == pytest.approx(plain.degrees_of_freedom, rel=1e-12)
    assert ratio.estimate == pytest.approx(plain.estimate / denominator, rel=1e-12)


def test_a_mean_counts_events_and_a_ratio_cancels_precision() -> None:
    """Values in thousandths over a number of events: 1.5 and 0.5 over three events are 2/3."""
    rows = [(1_500, 2), (500, 1)]
    sums = metric_sums_of(rows, dimension=2)
    assert summarise("mean", sums, precision=3).mean == pytest.approx(2 / 3)
    assert summarise("ratio", sums, precision=3).mean == pytest.approx(2_000 / 3)


def test_denominators_that_sum_to_nothing_are_undefined() -> None:
    nothing = metric_sums_of([(0, 0), (0, 0), (0, 0)], dimension=2)
    something = metric_sums_of([(1, 2), (0, 3), (4, 1)], dimension=2)
    for sides in ((nothing, something), (something, nothing)):
        effect = effect_of(*sides)
        assert effect.status == "undefined"
        assert effect.estimate is None
        assert effect.fixed_horizon is None
        assert effect.relative.status == "undefined"
    with pytest.raises(ValueError, match="sum to 0"):
        exact_moments(nothing.total, is_ratio=True, quanta=1)


def test_a_denominator_that_may_be_nothing_is_not_tested() -> None:
    """One event in a thousand units: the delta method does not hold there."""
    rare = metric_sums_of([(5, 1), *[(0, 0)] * 999], dimension=2)
    common = metric_sums_of([(5, 1), (4, 1), *[(3, 2)] * 998], dimension=2)
    effect = effect_of(rare, common)
    assert effect.status == "denominator_near_zero"
    assert effect.estimate is not None
    assert effect.fixed_horizon is None
    assert effect.sequence is None


@given(ROWS, ROWS)
def test_ratios_agree_with_tea_tasting(control: list[Row], treatment: list[Row]) -> None:
    control, treatment = control * 20, treatment * 20
    effect = effect_of(*(metric_sums_of(rows, dimension=2) for rows in (control, treatment)))
    assume(effect.fixed_horizon is not None)
    metric = tea_tasting.RatioOfMeans("y", "d")
    theirs = metric.analyze_aggregates(*(aggregates_of(rows) for rows in (control, treatment)))
    fixed = effect.fixed_horizon
    assert fixed is not None
    assert effect.estimate == pytest.approx(theirs.effect_size, rel=1e-7, abs=1e-12)
    assert fixed.p_value == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)
    ends = theirs.effect_size_ci_lower, theirs.effect_size_ci_upper
    assert (fixed.low, fixed.high) == pytest.approx(ends, rel=1e-6, abs=1e-9)
    if effect.relative.method == "log":
        relative = theirs.rel_effect_size_ci_lower, theirs.rel_effect_size_ci_upper
        assert effect.relative.fixed_horizon == pytest.approx(relative, rel=1e-6, abs=1e-9)


def aggregates_of(rows: list[Row]) -> Aggregates:
    names = ("y", "d", "x", "w")[: len(rows[0])]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    pairs = {
        (one, other): float(
            sum(
                (a - mean(columns[one])) * (b - mean(columns[other]))
                for a, b in zip(columns[one], columns[other], strict=True)
            )
            / (len(rows) - 1)
        )
        for one in names
        for other in names
    }
    return Aggregates(
        count_=len(rows),
        mean_={name: float(mean(columns[name])) for name in names},
        var_={name: pairs[name, name] for name in names},
        cov_={tuple(sorted(pair)): value for pair, value in pairs.items() if pair[0] != pair[1]},
    )


def test_the_sequence_of_a_ratio_is_that_of_its_estimate() -> None:
    rows = [(row % 7, row % 3 + 1) for row in range(400)]
    more = [(row % 7 + (row % 5 == 0), row % 3 + 1) for row in range(400)]
    effect = effect_of(*(metric_sums_of(some, dimension=2) for some in (rows, more)))
    assert effect.sequence is not None
    assert effect.estimate is not None
    assert effect.std_error is not None
    reach = effect.sequence.critical_value * effect.std_error
    assert effect.sequence.high - effect.sequence.low == pytest.approx(2 * reach)
    assert math.isfinite(effect.sequence.log_e_value)
