"""CUPED: reference cases, definitions in fractions, tea-tasting, and what must not come out."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import tea_tasting
from hypothesis import assume, given
from hypothesis import strategies as st

from stream_processors.stats.comparisons import Comparison, Kind, compare_all
from stream_processors.stats.cuped import NO_STRATUM, Adjustment, adjust
from stream_processors.stats.effects import CupedEffect, Effect
from stream_processors.stats.strata import strata_of
from stream_processors.stats.sums import JointSums, MetricSums
from tests.stream_processors.stats.oracles import assert_matches, cases_of
from tests.stream_processors.stats.test_ratio import aggregates_of
from tests.stream_processors.stats.units import (
    Row,
    covariance,
    linearised,
    mean,
    metric_sums_of,
    variance,
)

PAIRS = st.lists(st.tuples(st.integers(-60, 60), st.integers(-60, 60)), min_size=3, max_size=9)
FOURS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 9), st.integers(0, 60), st.integers(1, 9)),
    min_size=3,
    max_size=8,
)


def effect_of(
    control: MetricSums, treatment: MetricSums, kind: Kind = "sum", precision: int = 0
) -> Effect:
    return compare_all([Comparison(kind, control, treatment, precision=precision)])[0]


def cuped_of(*sides: MetricSums, kind: Kind = "sum") -> CupedEffect:
    effect = effect_of(*sides, kind=kind)
    assert effect.cuped is not None
    return effect.cuped


def scaled(value: float, precision: int) -> int:
    return round(value * 10**precision)


def sums_of(side: dict[str, float], precision: int) -> MetricSums:
    sums = scaled(side["sum_y"], precision), scaled(side["sum_x"], precision)
    products = (side["sum_yy"], side["sum_yx"], side["sum_xx"])
    covariates = JointSums(
        int(side["n"]), sums, tuple(scaled(value, 2 * precision) for value in products)
    )
    return MetricSums(covariates.of_first(1), covariates)


@pytest.mark.parametrize("case", cases_of("cuped"))
def test_reference_cases_are_met(case: dict[str, Any]) -> None:
    sides = [sums_of(case["inputs"][side], 3) for side in ("control", "treatment")]
    effect = effect_of(*sides, precision=3)
    cuped = effect.cuped
    assert cuped is not None
    assert cuped.fixed_horizon is not None
    assert cuped.variance_reduction is not None
    got = {
        "theta_total": cuped.theta,
        "adj_mean_control": cuped.control_mean,
        "adj_mean_treatment": cuped.treatment_mean,
        "diff": cuped.estimate,
        "se": cuped.std_error,
        "df": cuped.degrees_of_freedom,
        "p_value": cuped.fixed_horizon.p_value,
        "ci": (cuped.fixed_horizon.low, cuped.fixed_horizon.high),
        "unadjusted_diff": effect.estimate,
        "unadjusted_se": effect.std_error,
        "variance_ratio": 1 - cuped.variance_reduction,
        "relative_lift": cuped.relative.estimate,
        "relative_lift_se_delta_full": cuped.relative.std_error,
    }
    expected = case["expected"]
    wrong = expected.pop("WRONG_per_arm_centering", None)
    assert_matches(
        case, **{"theta": got["theta_total"]} if "theta" in expected else {},
        **{name: value for name, value in got.items() if name in expected},
    )  # fmt: skip
    if wrong is not None:
        assert cuped.estimate != pytest.approx(wrong["diff"], rel=1e-6)
        assert cuped.std_error != pytest.approx(wrong["se"], rel=1e-6)
        assert cuped.fixed_horizon.p_value != pytest.approx(wrong["p_value"], rel=1e-3)
        # The release of gbstats leaves the covariance out; its repository rounds the gradient.
        assert cuped.relative.std_error != pytest.approx(
            expected["relative_lift_se_growthbook_repo"], rel=1e-4
        )


@pytest.mark.parametrize("case", cases_of("cuped_ratio"))
def test_the_reference_case_of_ratios_is_met(case: dict[str, Any]) -> None:
    names = ("y", "d", "xy", "xd")
    sides = []
    for side in (case["inputs"]["control"], case["inputs"]["treatment"]):
        covariates = JointSums(
            int(side["n"]),
            tuple(int(side[f"sum_{name}"]) for name in names),
            tuple(
                int(side[f"sum_{one}*{other}"])
                for row, one in enumerate(names)
                for other in names[row:]
            ),
        )
        sides.append(MetricSums(covariates.of_first(2), covariates))
    effect = effect_of(*sides, kind="ratio")
    cuped = effect.cuped
    assert cuped is not None
    assert cuped.fixed_horizon is not None
    assert effect.fixed_horizon is not None
    assert_matches(
        case,
        adj_control=cuped.control_mean,
        adj_treatment=cuped.treatment_mean,
        diff=cuped.estimate,
        se=cuped.std_error,
        p_value=cuped.fixed_horizon.p_value,
        ci=(cuped.fixed_horizon.low, cuped.fixed_horizon.high),
        unadjusted_diff=effect.estimate,
        unadjusted_p=effect.fixed_horizon.p_value,
    )


def theta_of(y: list[Any], x: list[Any]) -> Fraction:
    return covariance(y, x) / variance(x) if variance(x) else Fraction(0)


@given(PAIRS, PAIRS)
def test_the_adjusted_effect_is_that_of_the_definition(
    control: list[Row], treatment: list[Row]
) -> None:
    """All of it in fractions from the units' values, then rounded once."""
    sides = [
        metric_sums_of([row[:1] for row in rows], covered=rows) for rows in (control, treatment)
    ]
    columns = [list(zip(*rows, strict=True)) for rows in (control, treatment)]
    both = [*control, *treatment]
    theta = theta_of([row[0] for row in both], [row[1] for row in both])
    adjusted = [
        [Fraction(y) - theta * x for y, x in zip(*sides_columns, strict=True)]
        for sides_columns in columns
    ]
    adjustment = adjust(*map(strata_of, sides), is_ratio=False, quanta=1)
    assert adjustment is not None
    assert adjustment.theta == float(theta)
    assert adjustment.difference == float(mean(adjusted[1]) - mean(adjusted[0]))
    stratum = adjustment.strata[0]
    got = stratum.control_variance, stratum.treatment_variance
    expected = [float(variance(values) / len(values)) for values in adjusted]
    assert got == pytest.approx(expected, rel=1e-14)
    assert stratum.covariance == pytest.approx(
        float(covariance(adjusted[0], columns[0][0]) / len(control)), rel=1e-14, abs=1e-300
    )


@given(PAIRS, PAIRS, st.lists(st.integers(-60, 60), min_size=2, max_size=6), PAIRS)
def test_units_without_a_past_are_a_stratum_of_their_own(
    control: list[Row], treatment: list[Row], control_rest: list[int], rest: list[Row]
) -> None:
    """Δ = Σ W_s Δ_s and Var = Σ W_s² Var_s, with the shares W_s of all units of both variants."""
    rests = [control_rest, [row[0] for row in rest]]
    covered = [control, treatment]
    sides = [
        metric_sums_of([*(row[:1] for row in rows), *((value,) for value in more)], covered=rows)
        for rows, more in zip(covered, rests, strict=True)
    ]
    cuped = cuped_of(*sides)
    both = [*control, *treatment]
    theta = theta_of([row[0] for row in both], [row[1] for row in both])
    adjusted = [[row[0] - theta * row[1] for row in rows] for rows in covered]
    weights = [Fraction(sum(map(len, some))) for some in (covered, rests)]
    shares = [weight / sum(weights) for weight in weights]
    difference = sum(
        share * (mean(two) - mean(one))
        for share, (one, two) in zip(shares, (adjusted, rests), strict=True)
    )
    error = sum(
        share**2 * variance(values) / len(values)
        for share, some in zip(shares, (adjusted, rests), strict=True)
        for values in some
    )
    if error == 0:
        assert cuped.status == "zero_variance"
        return
    assert cuped.estimate == float(difference)
    assert cuped.std_error == pytest.approx(math.sqrt(error), rel=1e-12)
    assert cuped.covered_share == pytest.approx(float(shares[0]))
    assert cuped.treatment_mean - cuped.control_mean == pytest.approx(
        float(difference), rel=1e-9, abs=1e-9
    )


@given(FOURS, FOURS)
def test_ratios_are_adjusted_by_their_linear_forms(
    control: list[Row], treatment: list[Row]
) -> None:
    sides = [
        metric_sums_of([row[:2] for row in rows], dimension=2, covered=rows)
        for rows in (control, treatment)
    ]
    adjustment = adjust(*map(strata_of, sides), is_ratio=True, quanta=1)
    assert adjustment is not None
    both = [*control, *treatment]
    theta = theta_of(linearised(both, 0, 1), linearised(both, 2, 3))
    assert adjustment.theta == float(theta)
    ratios = [
        [
            Fraction(sum(row[i] for row in rows), sum(row[i + 1] for row in rows))
            for rows in (control, treatment)
        ]
        for i in (0, 2)
    ]
    difference = ratios[0][1] - ratios[0][0] - theta * (ratios[1][1] - ratios[1][0])
    assert adjustment.difference == float(difference)
    for rows, got in (
        (control, adjustment.strata[0].control_variance),
        (treatment, adjustment.strata[0].treatment_variance),
    ):
        values = [
            one - theta * other
            for one, other in zip(linearised(rows, 0, 1), linearised(rows, 2, 3), strict=True)
        ]
        assert got == pytest.approx(float(variance(values) / len(values)), rel=1e-14, abs=1e-300)


def test_a_ratio_with_constant_denominators_is_the_mean_with_its_strata() -> None:
    """Also with units without a past: weights, θ and both scales are the same."""
    rng = np.random.default_rng(7)
    means, ratios = [], []
    for shift in (0, 2):
        x = rng.integers(20, 60, 300)
        y = x + rng.integers(0, 30, 300) + shift
        covered = [(int(a), int(b)) for a, b in zip(y[:200], x[:200], strict=True)]
        rows = [(int(a),) for a in y]
        means.append(metric_sums_of(rows, covered=covered))
        ratios.append(
            metric_sums_of(
                [(*row, 4) for row in rows], dimension=2, covered=[(a, 4, b, 4) for a, b in covered]
            )
        )
    plain, ratio = cuped_of(*means), cuped_of(*ratios, kind="ratio")
    assert ratio.theta == pytest.approx(plain.theta, rel=1e-12)
    assert ratio.estimate == pytest.approx(plain.estimate / 4, rel=1e-12)
    assert ratio.std_error == pytest.approx(plain.std_error / 4, rel=1e-12)
    assert ratio.degrees_of_freedom == pytest.approx(plain.degrees_of_freedom, rel=1e-12)
    assert ratio.variance_reduction == pytest.approx(plain.variance_reduction, rel=1e-9)
    assert ratio.relative.estimate == pytest.approx(plain.relative.estimate, rel=1e-12)
    assert ratio.relative.std_error == pytest.approx(plain.relative.std_error, rel=1e-12)
    assert ratio.relative.fixed_horizon == pytest.approx(plain.relative.fixed_horizon, rel=1e-12)


@given(PAIRS, PAIRS)
def test_means_agree_with_tea_tasting(control: list[Row], treatment: list[Row]) -> None:
    # Far above 0: tea-tasting leaves the floats where a mean may be 0.
    control, treatment = ([(y + 500, x) for y, x in rows * 5] for rows in (control, treatment))
    sides = [
        metric_sums_of([row[:1] for row in rows], covered=rows) for rows in (control, treatment)
    ]
    cuped = cuped_of(*sides)
    assume(cuped.fixed_horizon is not None and cuped.theta != 0)
    assert cuped.fixed_horizon is not None
    assert cuped.estimate is not None
    assume(cuped.std_error > 1e-6 * (1 + abs(cuped.estimate)))
    named = [[(y, 0, x) for y, x in rows] for rows in (control, treatment)]
    theirs = tea_tasting.Mean("y", "x").analyze_aggregates(*map(aggregates_of, named))
    ends = theirs.effect_size_ci_lower, theirs.effect_size_ci_upper
    assert cuped.estimate == pytest.approx(theirs.effect_size, rel=1e-6, abs=1e-9)
    assert (cuped.fixed_horizon.low, cuped.fixed_horizon.high) == pytest.approx(
        ends, rel=1e-5, abs=1e-7
    )
    assert cuped.fixed_horizon.p_value == pytest.approx(theirs.pvalue, rel=1e-4, abs=1e-9)


def test_a_covariate_that_says_all_leaves_no_variance_and_no_test() -> None:
    """y = 3x + 7 in both variants: the adjusted variance is 0, not a rounding error below it."""
    sides = []
    for start in (0, 5):
        rows = [(3 * x + 7, x) for x in range(start, start + 40)]
        sides.append(metric_sums_of([row[:1] for row in rows], covered=rows))
    cuped = cuped_of(*sides)
    assert cuped.status == "zero_variance"
    assert cuped.estimate == 0
    assert cuped.std_error == 0
    assert cuped.theta == 3
    assert cuped.variance_reduction == 1
    assert cuped.fixed_horizon is None


def test_a_covariate_that_does_not_vary_changes_nothing_and_says_so() -> None:
    rows = [[(y % 7, 4) for y in range(start, start + 300)] for start in (0, 3)]
    sides = [metric_sums_of([row[:1] for row in some], covered=some) for some in rows]
    effect = effect_of(*sides)
    assert effect.cuped is not None
    assert effect.cuped.theta == 0
    assert effect.cuped.flags == ("covariate_constant",)
    assert effect.cuped.estimate == effect.estimate
    assert effect.cuped.std_error == pytest.approx(effect.std_error, rel=1e-15)
    assert effect.cuped.variance_reduction == pytest.approx(0, abs=1e-15)


def test_a_ratio_without_denominators_before_the_entry_is_not_adjusted() -> None:
    rows = [[(y % 7, y % 3 + 1, 0, 0) for y in range(start, start + 300)] for start in (0, 3)]
    sides = [metric_sums_of([r[:2] for r in some], dimension=2, covered=some) for some in rows]
    cuped = cuped_of(*sides, kind="ratio")
    assert cuped.status == "ok"
    assert cuped.theta == 0
    assert cuped.flags == ("covariate_undefined",)


def with_covered(count: int, rows: list[Row]) -> MetricSums:
    return metric_sums_of([row[:1] for row in rows], covered=rows[:count])


ROWS = [(y % 11, y % 5) for y in range(400)]


@pytest.mark.parametrize(
    ("covered", "handling"),
    [
        ((400, 400), "one_stratum"),
        ((398, 398), "two_strata"),
        ((2, 2), "two_strata"),
        ((99, 300), "two_strata"),
        ((399, 400), "mean_past"),
        ((399, 200), "mean_past"),
        ((1, 400), "mean_past"),
        ((0, 200), "mean_past"),
        ((0, 0), "mean_past"),
    ],
)
@pytest.mark.parametrize("power", [1, 2])
def test_counts_alone_say_how_units_without_a_past_are_treated(
    covered: tuple[int, int], handling: str, power: int
) -> None:
    """And however few there are of either kind, there is an effect and its sequence."""
    rows = [(y**power, x) for y, x in ROWS]
    cuped = cuped_of(*(with_covered(count, rows) for count in covered))
    assert cuped.status == "ok"
    assert cuped.handling == handling
    assert cuped.covered_share == sum(covered) / 800
    assert cuped.sequence is not None


def test_where_nobody_has_a_past_the_adjusted_effect_is_the_unadjusted_one() -> None:
    effect = effect_of(with_covered(0, ROWS), with_covered(0, ROWS[7:]))
    cuped = effect.cuped
    assert cuped is not None
    assert cuped.flags == ("covariate_constant",)
    assert (cuped.theta, cuped.covered_share) == (0, 0)
    assert cuped.estimate == effect.estimate
    assert cuped.std_error == pytest.approx(effect.std_error, rel=1e-15)
    assert cuped.fixed_horizon is not None
    assert effect.fixed_horizon is not None
    assert cuped.fixed_horizon[1:] == pytest.approx(effect.fixed_horizon[1:], rel=1e-12)
    assert cuped.sequence == pytest.approx(effect.sequence, rel=1e-12)


def test_one_unit_without_a_past_hardly_moves_an_adjusted_effect() -> None:
    """Of 800 units one: no jump to the unadjusted effect, whose error is much larger."""
    rng = np.random.default_rng(3)
    sides = []
    for _ in range(2):
        x = rng.integers(0, 100, 400)
        y = x + rng.integers(0, 20, 400)
        sides.append([(int(a), int(b)) for a, b in zip(y, x, strict=True)])
    all_covered = cuped_of(with_covered(400, sides[0]), with_covered(400, sides[1]))
    without_one = effect_of(with_covered(399, sides[0]), with_covered(400, sides[1]))
    cuped = without_one.cuped
    assert cuped is not None
    assert all_covered.std_error is not None
    assert cuped.std_error == pytest.approx(all_covered.std_error, rel=0.05)
    assert cuped.std_error < 0.3 * without_one.std_error
    assert abs(cuped.estimate - all_covered.estimate) < 0.5 * all_covered.std_error


GAPS = st.lists(
    st.tuples(st.integers(-60, 60), st.one_of(st.none(), st.integers(-60, 60))),
    min_size=2,
    max_size=9,
)


@given(GAPS, GAPS)
def test_the_mean_past_is_the_regression_of_all_units_on_it(
    control: list[tuple[int, int | None]], treatment: list[tuple[int, int | None]]
) -> None:
    """Unit by unit, in fractions: who has no past gets the mean of those who have one."""
    arms = (control, treatment)
    sides = [
        metric_sums_of([(y,) for y, _ in arm], covered=[(y, x) for y, x in arm if x is not None])
        for arm in arms
    ]
    known = [x for arm in arms for _, x in arm if x is not None]
    adjustment = adjust(*map(strata_of, sides), is_ratio=False, quanta=1)
    assert adjustment is not None
    assume(adjustment.handling == "mean_past")
    centre = mean(known) if known else Fraction(0)
    pasts = [[Fraction(0) if x is None else x - centre for _, x in arm] for arm in arms]
    values = [[Fraction(y) for y, _ in arm] for arm in arms]
    theta = theta_of([y for arm in values for y in arm], [x for arm in pasts for x in arm])
    assert adjustment.theta == float(theta)
    assert adjustment.covered_share == len(known) / (len(control) + len(treatment))
    assert_adjusted_by_units(adjustment, values, pasts, theta)


RATIO_GAPS = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.integers(1, 9),
        st.one_of(st.none(), st.tuples(st.integers(0, 60), st.integers(1, 9))),
    ),
    min_size=2,
    max_size=8,
)


@given(RATIO_GAPS, RATIO_GAPS)
def test_the_mean_past_of_a_ratio_is_the_pooled_ratio_before(
    control: list[Any], treatment: list[Any]
) -> None:
    """A past of (R w, w) is 0 as a linear form, whatever w is: so is that of units without one."""
    arms = (control, treatment)
    sides = [
        metric_sums_of(
            [(y, d) for y, d, _ in arm],
            dimension=2,
            covered=[(y, d, *past) for y, d, past in arm if past is not None],
        )
        for arm in arms
    ]
    known = [past for arm in arms for *_, past in arm if past is not None]
    adjustment = adjust(*map(strata_of, sides), is_ratio=True, quanta=1)
    assert adjustment is not None
    assume(adjustment.handling == "mean_past" and known)
    before = Fraction(sum(x for x, _ in known), sum(w for _, w in known))
    scale = mean([w for _, w in known])
    pasts = [
        [Fraction(0) if past is None else (past[0] - before * past[1]) / scale for *_, past in arm]
        for arm in arms
    ]
    pooled = linearised([row[:2] for arm in arms for row in arm], 0, 1)
    theta = theta_of(pooled, [x for arm in pasts for x in arm])
    assert adjustment.theta == float(theta)
    # A linear form has mean 0: the ratio itself is added.
    values = [
        [
            Fraction(sum(row[0] for row in arm), sum(row[1] for row in arm)) + value
            for value in linearised([row[:2] for row in arm], 0, 1)
        ]
        for arm in arms
    ]
    assert_adjusted_by_units(adjustment, values, pasts, theta)


def assert_adjusted_by_units(
    adjustment: Adjustment,
    values: list[list[Fraction]],
    pasts: list[list[Fraction]],
    theta: Fraction,
) -> None:
    adjusted = [
        [y - theta * x for y, x in zip(*arm, strict=True)]
        for arm in zip(values, pasts, strict=True)
    ]
    assert adjustment.difference == float(mean(adjusted[1]) - mean(adjusted[0]))
    assert (adjustment.control_mean, adjustment.treatment_mean) == pytest.approx(
        [float(mean(arm)) for arm in adjusted], rel=1e-12, abs=1e-12
    )
    assert adjustment.baseline == float(mean(values[0]))
    stratum, without = adjustment.strata
    assert without == NO_STRATUM
    assert (stratum.control_variance, stratum.treatment_variance) == pytest.approx(
        [float(variance(arm) / len(arm)) for arm in adjusted], rel=1e-14, abs=1e-300
    )
    size = float(variance(values[0]) / len(values[0]))
    assert stratum.baseline_variance == pytest.approx(size, rel=1e-14)
    assert stratum.covariance == pytest.approx(
        float(covariance(adjusted[0], values[0]) / len(adjusted[0])), rel=1e-14, abs=1e-300
    )


@pytest.mark.parametrize("is_past_rare", [False, True])
def test_intervals_hold_on_both_sides_of_the_switch(is_past_rare: bool) -> None:
    """A/A, 100 units per variant of whom 2 in 100 differ by 2 standard deviations."""
    rng = np.random.default_rng(20_261_122)
    comparisons = []
    for _ in range(2_500):
        sides = []
        for _ in range(2):
            odd = rng.random(100) < 0.02
            x = rng.normal(0, 1_000, 100)
            y = 0.7 * x + rng.normal(0, 714, 100) + 2_000 * odd
            values = [np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)]
            has_past = odd == is_past_rare
            sides.append(
                MetricSums(_of_arrays(values[:1]), _of_arrays([one[has_past] for one in values]))
            )
        comparisons.append(Comparison("sum", *sides))
    held: dict[str | None, list[bool]] = {}
    narrower = []
    for effect in compare_all(comparisons):
        cuped = effect.cuped
        assert cuped is not None
        assert cuped.fixed_horizon is not None
        held.setdefault(cuped.handling, []).append(not cuped.fixed_horizon.rejects)
        if cuped.handling == "mean_past":
            narrower.append(cuped.std_error / effect.std_error)
    for handling in ("two_strata", "mean_past"):
        shown = held[handling]
        assert len(shown) > 500
        assert sum(shown) / len(shown) == pytest.approx(0.95, abs=0.02)
    assert np.mean(narrower) == pytest.approx(1 if is_past_rare else 0.74, abs=0.03)


def _of_arrays(columns: list[Any]) -> JointSums:
    return JointSums(
        len(columns[0]),
        tuple(int(column.sum()) for column in columns),
        tuple(int(one @ other) for row, one in enumerate(columns) for other in columns[row:]),
    )


def test_covariates_of_more_units_than_there_are_are_refused() -> None:
    rows = ROWS[:200]
    good = with_covered(200, rows)
    bad = good._replace(total=with_covered(150, rows[:150]).total)
    cuped = cuped_of(good, bad)
    assert cuped.status == "invalid_input"
    assert cuped.estimate is None


def test_centring_inside_each_arm_is_what_this_is_not() -> None:
    """A/A, correlation .9: centred in each arm, the effect stays as it is and its error shrinks."""
    rng = np.random.default_rng(20_261_122)
    rejected, wrongly = 0, 0
    replications = 1_000
    for _ in range(replications):
        sides = []
        for _ in range(2):
            x = rng.normal(100, 30, 120)
            y = x * 0.9 + rng.normal(0, 30 * math.sqrt(1 - 0.81), 120)
            rows = [(round(a), round(b)) for a, b in zip(y, x, strict=True)]
            sides.append(metric_sums_of([row[:1] for row in rows], covered=rows))
        effect = effect_of(*sides)
        assert effect.cuped is not None
        assert effect.cuped.fixed_horizon is not None
        assert effect.estimate is not None
        rejected += effect.cuped.fixed_horizon.rejects
        wrongly += abs(effect.estimate) > 1.97 * effect.cuped.std_error
    assert rejected / replications == pytest.approx(0.05, abs=0.025)
    assert wrongly / replications > 0.3
