"""Many comparisons at once are those one by one; and whatever the sums, no NaN comes out."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_processors.stats.buckets import bucket_of
from stream_processors.stats.caps import CapChoice, cap_grid, choose_cap
from stream_processors.stats.comparisons import Comparison, Kind, compare_all, summarise
from stream_processors.stats.effects import Effect, Plan
from stream_processors.stats.sums import JointSums, MetricSums
from tests.stream_processors.stats.oracles import assert_matches, cases_of
from tests.stream_processors.stats.units import (
    Row,
    cap_sums_of,
    joint_sums_of,
    metric_sums_of,
)
from tools.bench.looks import sample_comparisons

CONVERSIONS = ((1,), (0,))
NO_PAST = JointSums(0, (0, 0), (0, 0, 0))


def effect_of(kind: Kind, *sides: MetricSums, **options: Any) -> Effect:
    return compare_all([Comparison(kind, *sides, **options)])[0]


def numbers_of(value: Any) -> list[float]:
    if isinstance(value, tuple):
        return [number for one in value for number in numbers_of(one)]
    return [value] if isinstance(value, int | float) else []


def assert_sound(effect: Effect) -> None:
    """All numbers finite, all p-values in [0, 1], and encodable as they are."""
    assert all(map(math.isfinite, numbers_of(effect)))
    for one in (effect, effect.cuped):
        for test in (one and one.fixed_horizon, one and one.sequence):
            if test:
                assert 0 <= test.p_value <= 1
                assert test.low <= test.high
    msgspec.json.encode(effect)


def test_no_comparisons_have_no_effects() -> None:
    assert compare_all([]) == []


def test_together_is_one_by_one() -> None:
    """Also what a rule hides, whose places the arrays have to leave out."""
    comparisons = sample_comparisons(3, rng=np.random.default_rng(5))
    few = metric_sums_of([(1,), (0,)])
    none = metric_sums_of([])
    hidden = [
        Comparison("conversion", few, none),
        Comparison("conversion", few, few, Plan(alpha=0.2)),
        Comparison("sum", none, few),
        Comparison("sum", few, metric_sums_of([(-9,), (-8,), (-9,)]), precision=2),
        Comparison("ratio", *[metric_sums_of([(0, 0), (0, 0)], dimension=2)] * 2),
        Comparison("sum", MetricSums(few.total, NO_PAST), MetricSums(few.total, NO_PAST)),
    ]
    mixed = [one for pair in zip(comparisons, hidden * 9, strict=False) for one in pair]
    assert compare_all(mixed) == [compare_all([one])[0] for one in mixed]


def test_plans_are_each_comparisons_own() -> None:
    comparison = sample_comparisons(1, rng=np.random.default_rng(6))[4]
    plans = [Plan(), Plan(alpha=0.01), Plan(n_star=500), Plan(tau=0.5), Plan(tau=5.0)]
    effects = compare_all([comparison._replace(plan=plan) for plan in plans])
    criticals = [effect.sequence.critical_value for effect in effects if effect.sequence]
    assert len(set(criticals)) == 5
    widths = [effect.fixed_horizon.high for effect in effects if effect.fixed_horizon]
    assert widths[1] > widths[0] == widths[2] == widths[3]


def test_the_tuning_by_effects_uses_the_variance_of_the_estimate() -> None:
    comparison = sample_comparisons(1, rng=np.random.default_rng(6))[4]
    effect = effect_of(*comparison[:3], plan=Plan(tau=0.25), precision=6)
    assert effect.sequence is not None
    assert effect.std_error is not None
    assert effect.estimate is not None
    k = (0.25 / effect.std_error) ** 2
    z = effect.estimate / effect.std_error
    expected = k / (1 + k) * z * z / 2 - math.log1p(k) / 2
    assert effect.sequence.log_e_value == pytest.approx(expected, rel=1e-12)


def test_an_effect_tells_both_variants() -> None:
    control, treatment = metric_sums_of([(100,), (300,)]), metric_sums_of([(200,), (500,), (200,)])
    effect = effect_of("sum", control, treatment, precision=2)
    assert effect.control == ("ok", 2, 2.0, 2.0, 1.0)
    assert effect.treatment.mean == 3.0
    assert effect.treatment.variance == 3.0
    assert effect.treatment.std_error == 1.0
    assert effect.control == summarise("sum", control, precision=2)
    assert effect.degrees_of_freedom == pytest.approx(4 / (1 / 1 + 1 / 2))


@pytest.mark.parametrize(
    ("rows", "status", "mean"),
    [
        ([], "no_units", None),
        ([(5, 2)], "insufficient", 2.5),
        ([(5, 0), (1, 0)], "undefined", None),
    ],
)
def test_a_variant_by_itself_has_a_status(rows: list[Row], status: str, mean: float | None) -> None:
    summary = summarise("ratio", metric_sums_of(rows, dimension=2))
    assert (summary.status, summary.unit_count, summary.mean) == (status, len(rows), mean)
    assert summary.variance is None


# --- what cannot be


IMPOSSIBLE = [
    JointSums(2, (3, 3), (1, 5, 9)),
    JointSums(2, (1, 1), (1, 2, 1)),
    JointSums(0, (1, 0), (0, 0, 0)),
    JointSums(-1, (0, 0), (0, 0, 0)),
    JointSums(3, (0, 0), (1, 0, -1)),
    JointSums(3, (0, 0), (0, 1, 4)),
    JointSums(3, (0,), (1, 0, 4)),
]


@pytest.mark.parametrize("total", IMPOSSIBLE)
def test_sums_that_no_units_have_give_no_numbers(total: JointSums) -> None:
    good = metric_sums_of([(1, 2), (0, 3), (4, 1)], dimension=2)
    for sides in ((good, MetricSums(total)), (MetricSums(total), good)):
        effect = effect_of("ratio", *sides)
        assert effect.status == "invalid_input"
        assert effect.relative.status == "invalid_input"
        assert not any(numbers_of(effect[2:6]))


@given(st.lists(st.tuples(*[st.integers(-9, 9)] * 4), max_size=7))
def test_sums_of_units_are_possible_and_one_less_square_is_not(rows: list[Row]) -> None:
    sums = joint_sums_of(rows, 4)
    assert sums.checked_spread() is not None
    spread = sums.spread
    if rows and spread.products[0] < sums.unit_count:
        # Σy² is as small as it can be: one less and the variance is negative.
        less = sums._replace(products=(sums.products[0] - 1, *sums.products[1:]))
        assert less.checked_spread() is None


def test_a_correlation_beyond_one_is_refused() -> None:
    """Each variance is possible by itself; together they are not."""
    sums = joint_sums_of([(1, 2), (2, 4), (3, 7)], 2)
    yy, yd, dd = sums.products
    assert sums._replace(products=(yy, yd + 1, dd)).checked_spread() is None


# --- extremes


def copies(rows: list[Row], times: int) -> JointSums:
    sums = joint_sums_of(rows, len(rows[0]))
    return JointSums(
        sums.unit_count * times,
        tuple(one * times for one in sums.sums),
        tuple(one * times for one in sums.products),
    )


@pytest.mark.parametrize("offset", [10**9, 10**12])
def test_values_far_from_nothing_keep_their_variance(offset: int) -> None:
    """Precision 6: floats of such values have lost all their digits, integers none."""
    rows = [((offset * 10**6) + value,) for value in (0, 1, 2, 3)] * 50
    more = [(row[0] + 2,) for row in rows]
    effect = effect_of("sum", metric_sums_of(rows), metric_sums_of(more), precision=6)
    assert effect.estimate == 2e-6
    assert effect.control.variance == pytest.approx(250 / 199 * 1e-12, rel=1e-12)
    assert_sound(effect)


def test_tiny_values_keep_their_effect() -> None:
    rows = [(value,) for value in (1, 2, 3, 4)] * 60
    more = [(value,) for value in (2, 3, 4, 5)] * 60
    effect = effect_of("sum", metric_sums_of(rows), metric_sums_of(more), precision=9)
    assert effect.estimate == 1e-9
    assert effect.relative.estimate == pytest.approx(0.4)
    assert_sound(effect)


def test_half_a_billion_units_are_compared() -> None:
    control = MetricSums(copies([(10**12,), (3 * 10**12,)], 250_000_000))
    treatment = MetricSums(copies([(10**12,), (3 * 10**12 + 10**8,)], 250_000_000))
    effect = effect_of("sum", control, treatment, precision=6)
    assert effect.estimate == pytest.approx(50)
    assert effect.fixed_horizon is not None
    assert 0 < effect.fixed_horizon.p_value < 1
    assert_sound(effect)
    rates = [MetricSums(copies([(1,), (0,), (0,)], 10**8 + more)) for more in (0, 17)]
    assert_sound(effect_of("conversion", *rates))


def test_refunds_may_make_totals_negative() -> None:
    control, treatment = (
        [(-500 - value,) for value in range(start, start + 200)] for start in (50, 0)
    )
    effect = effect_of("sum", metric_sums_of(control), metric_sums_of(treatment), precision=2)
    assert effect.flags == ("control_negative",)
    assert effect.estimate == 0.5
    assert effect.relative.estimate is not None
    assert effect.relative.estimate > 0
    assert effect.relative.method == "fieller"
    assert_sound(effect)


@pytest.mark.parametrize("kind", ["conversion", "count", "sum"])
def test_an_arm_of_nothing_but_zeros_is_compared_but_divides_nothing(kind: Kind) -> None:
    nothing = metric_sums_of([(0,)] * 300)
    something = metric_sums_of([(0,), (1,), (1,)] * 100)
    effect = effect_of(kind, nothing, something)
    assert "one_variance_zero" in effect.flags
    assert effect.relative.status == "undefined"
    assert effect.fixed_horizon is not None
    assert effect.fixed_horizon.low > 0
    assert_sound(effect)
    back = effect_of(kind, something, nothing)
    assert back.relative.status == ("undefined" if kind == "conversion" else "ok")
    assert_sound(back)
    assert effect_of(kind, nothing, nothing).status == "zero_variance"


def test_one_unit_has_a_mean_and_no_effect() -> None:
    effect = effect_of("count", metric_sums_of([(3,)]), metric_sums_of([(1,)] * 9))
    assert effect.status == "insufficient"
    assert effect.estimate is None
    assert effect.control.mean == 3


ANY_INTEGER = st.one_of(st.integers(-3, 3), st.integers(-(2**100), 2**100))


def joints(dimension: int) -> st.SearchStrategy[JointSums]:
    """Sums of units, of many copies of them, and integers that no units have."""
    products = dimension * (dimension + 1) // 2
    values = st.one_of(st.integers(0, 1), st.integers(-(2**61), 2**61), st.just(10**12))
    rows = st.lists(st.tuples(*[values] * dimension), max_size=4)
    possible = st.builds(
        lambda rows, times: copies([*rows, *rows[:1]] or [(0,) * dimension], times),
        rows,
        st.sampled_from([1, 60, 5 * 10**8]),
    )
    arbitrary = st.builds(
        JointSums,
        st.integers(-2, 10**9),
        st.tuples(*[ANY_INTEGER] * dimension),
        st.tuples(*[ANY_INTEGER] * products),
    )
    return st.one_of(possible, possible, arbitrary)


@st.composite
def any_comparison(draw: st.DrawFn) -> Comparison:
    kind: Kind = draw(st.sampled_from(["conversion", "count", "sum", "ratio", "mean"]))
    dimension = 2 if kind in ("ratio", "mean") else 1
    sides = []
    for _ in range(2):
        total = draw(joints(dimension))
        covariates = draw(st.one_of(st.none(), joints(2 * dimension)))
        if covariates is not None and draw(st.booleans()):
            total = covariates.of_first(dimension)
        elif covariates is not None and draw(st.booleans()):
            total = total.plus(covariates.of_first(dimension))
        sides.append(MetricSums(total, covariates))
    plan = Plan(
        draw(st.sampled_from([1e-12, 0.001, 0.05, 0.49])),
        draw(st.sampled_from([2, 5_000, 10**12])),
        draw(st.sampled_from([None, 1e-9, 1.0, 1e9])),
    )
    return Comparison(kind, *sides, plan, draw(st.integers(0, 9)))


@given(st.lists(any_comparison(), max_size=6))
def test_no_number_that_comes_out_is_nan_or_infinite(comparisons: list[Comparison]) -> None:
    for comparison, effect in zip(comparisons, compare_all(comparisons), strict=True):
        assert_sound(effect)
        if effect.status == "ok":
            assert effect.fixed_horizon is not None
            assert effect.sequence is not None
        has_both = comparison.control.covariates and comparison.treatment.covariates
        assert (effect.cuped is not None) == bool(has_both)


# --- caps


@pytest.mark.parametrize("case", cases_of("winsor_fixed_cap"))
def test_a_cap_is_of_the_units_total(case: dict[str, Any]) -> None:
    """The engine caps totals; the grid's sums for the same cap are the same numbers."""
    totals = [round(value * 100) for value in case["inputs"]["unit_totals"]]
    capped = cap_sums_of(totals, case["inputs"]["cap"] * 100)
    assert_matches(
        case, n=len(totals), sum=capped.sum_q / 100, sum_sq=capped.sum_squares_q / 100**2
    )
    assert capped.capped_units == 3


def with_caps(totals: list[int], precision: int) -> MetricSums:
    caps = tuple(cap_sums_of(totals, cap) for cap in cap_grid(precision))
    return metric_sums_of([(total,) for total in totals])._replace(caps=caps)


def test_a_cap_at_a_quantile_is_the_grids_and_the_same_for_both() -> None:
    rng = np.random.default_rng(11)
    sides = [
        with_caps([int(value) for value in np.rint(rng.lognormal(mean, 1.5, 2_000) * 100)], 2)
        for mean in (1.0, 1.1)
    ]
    effect = effect_of("sum", *sides, precision=2, cap=0.99)
    choice = choose_cap(
        [2_000, 2_000],
        [[one.capped_units for one in side.caps or ()] for side in sides],
        precision=2,
        quantile=0.99,
    )
    assert choice.cap_index is not None
    assert effect.cap is not None
    assert effect.cap.status == "ok"
    assert effect.cap.cap == cap_grid(2)[choice.cap_index] / 100
    chosen = [side.caps[choice.cap_index] for side in sides if side.caps]
    assert effect.cap.capped_units == tuple(one.capped_units for one in chosen)
    assert 0 < sum(effect.cap.capped_units) <= 40
    means = [one.sum_q / 2_000 / 100 for one in chosen]
    assert (effect.control.mean, effect.treatment.mean) == pytest.approx(means)
    assert effect == effect_of("sum", *sides, precision=2, cap=choice)
    assert effect.std_error < effect_of("sum", *sides, precision=2).std_error
    assert_sound(effect)


def test_where_the_grid_has_no_cap_totals_stay_as_they_are_and_it_is_said() -> None:
    sides = [with_caps([0] * 50, 0), with_caps([0, 0, 0, 1] * 20, 0)]
    effect = effect_of("count", *sides, cap=0.5)
    assert effect.cap == ("below_grid", None, (0, 0))
    assert effect._replace(cap=None) == effect_of("count", *sides)
    empty = with_caps([], 0)
    effect = effect_of("count", empty, empty, cap=0.5)
    assert effect.cap == ("no_units", None, (0, 0))
    assert effect.status == "no_units"


def test_a_capped_total_is_checked_like_any_other() -> None:
    good = with_caps([0, 5, 900] * 40, 0)
    assert good.caps is not None
    bad = good._replace(caps=tuple(one._replace(sum_squares_q=-1) for one in good.caps))
    effect = effect_of("count", good, bad, cap=CapChoice("ok", 3, cap_grid(0)[3]))
    assert effect.status == "invalid_input"
    assert effect.estimate is None


# --- quantiles


def with_histogram(totals: list[int]) -> MetricSums:
    histogram: dict[int, int] = {}
    for total in totals:
        histogram[bucket_of(total)] = histogram.get(bucket_of(total), 0) + 1
    return metric_sums_of([(total,) for total in totals])._replace(histogram=histogram)


def test_quantiles_are_compared_by_the_same_rules() -> None:
    rng = np.random.default_rng(12)
    sides = [
        with_histogram([int(value) for value in np.rint(rng.lognormal(5, 1, 4_000) * scale)])
        for scale in (100, 120)
    ]
    effect = effect_of("quantile", *sides, precision=2, quantile=0.5)
    assert effect.status == "ok"
    assert effect.fixed_horizon is not None
    assert effect.fixed_horizon.test == "woodruff"
    assert effect.estimate == pytest.approx(0.2 * math.exp(5), rel=0.2)
    assert effect.relative.estimate == pytest.approx(0.2, abs=0.08)
    assert effect.relative.method == "log"
    assert effect.control.mean == pytest.approx(math.exp(5), rel=0.06)
    assert effect.control.variance is None
    assert effect.sequence is not None
    assert effect.sequence.low < effect.fixed_horizon.low
    assert_sound(effect)


def test_quantiles_of_events_come_from_shards_of_units() -> None:
    rng = np.random.default_rng(13)
    sides = []
    for scale in (100, 130):
        shards: list[dict[int, int]] = [{} for _ in range(64)]
        for unit in range(1_500):
            level = rng.normal(3, 0.5)
            for value in np.rint(rng.lognormal(level, 0.7, rng.poisson(3)) * scale):
                bucket = bucket_of(int(value))
                shards[unit % 64][bucket] = shards[unit % 64].get(bucket, 0) + 1
        total = JointSums(1_500, (0,), (0,))
        sides.append(MetricSums(total, shards=tuple(shards)))
    effect = effect_of("quantile", *sides, precision=2, quantile=0.9, of="events")
    assert effect.status == "ok"
    assert effect.relative.estimate == pytest.approx(0.3, abs=0.15)
    assert effect.degrees_of_freedom is not None
    assert effect.degrees_of_freedom <= 126
    assert_sound(effect)


@pytest.mark.parametrize(
    ("totals", "status"),
    [([], "no_units"), ([7], "insufficient"), ([7] * 300, "ok"), ([1, 2, 3], "insufficient")],
)
def test_quantiles_have_the_statuses_of_the_table(totals: list[int], status: str) -> None:
    other = with_histogram([int(value) for value in range(1, 500)])
    effect = effect_of("quantile", with_histogram(totals), other, quantile=0.5)
    assert effect.status == status
    assert_sound(effect)


def test_a_histogram_of_other_units_is_refused() -> None:
    good = with_histogram(list(range(200)))
    bad = good._replace(total=good.total._replace(unit_count=199))
    assert effect_of("quantile", good, bad, quantile=0.5).status == "invalid_input"
    negative = good._replace(histogram={5: -1, 6: 201})
    assert effect_of("quantile", good, negative, quantile=0.5).status == "invalid_input"


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("quantile", {}, "quantile is None"),
        ("quantile", {"quantile": 0.5}, "histogram is None"),
        ("quantile", {"quantile": 0.5, "of": "events"}, "shards is None"),
        ("sum", {"cap": 0.99}, "caps is None"),
    ],
)
def test_what_a_kind_lacks_is_an_error_of_the_caller(
    kind: Kind, options: dict[str, Any], message: str
) -> None:
    sums = metric_sums_of([(1,), (2,)])
    with pytest.raises(ValueError, match=message):
        effect_of(kind, sums, sums, **options)
