"""Quantiles from buckets, against the raw values that the buckets were made of."""

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng
from numpy.typing import NDArray
from scipy import stats

from stream_processors.stats.buckets import BUCKET_MAX, bucket_edges, bucket_of, buckets_of
from stream_processors.stats.comparisons import Comparison, compare_all
from stream_processors.stats.effects import Plan
from stream_processors.stats.quantiles import (
    ArmQuantile,
    event_quantile,
    order_statistic_ranks,
    random_group_std_error,
    unit_quantile,
)
from stream_processors.stats.sums import JointSums, MetricSums, Moments
from stream_processors.stats.tails import normal_critical_value
from stream_processors.stats.welch import welch_test
from tests.seeds import Draw
from tests.stream_processors.stats.oracles import CASES, assert_matches, cases_of, is_close

QUANTILES = (0.01, 0.5, 0.9, 0.99)
SHARDS = 64


def case_of(identity: str) -> dict[str, Any]:
    (case,) = (case for case in CASES if case["id"] == identity)
    return case


def histogram_of(values: NDArray[np.float64], precision: int) -> dict[int, int]:
    buckets = buckets_of(np.rint(values * 10.0**precision).astype(np.int64))
    return dict(Counter(buckets.tolist()))


def shards_of(
    values: NDArray[np.float64], unit: NDArray[np.int64], precision: int
) -> list[dict[int, int]]:
    return [histogram_of(values[unit % SHARDS == shard], precision) for shard in range(SHARDS)]


def inverted_cdf(ordered: Sequence[int], quantile: float) -> int:
    """Return the smallest value with at least the share ``quantile`` at or below it."""
    return ordered[math.ceil(Fraction(str(quantile)) * len(ordered)) - 1]


def raw_of(case: dict[str, Any]) -> NDArray[np.float64]:
    """Return the values that a case describes in words of numpy."""
    seed = {"quant-01": 401, "quant-02": 402, "quant-04": 404}[case["id"]]
    values = np.round(default_rng(seed).lognormal(3, 1, case["inputs"]["n"]), 3)
    assert values.sum() == pytest.approx(case["expected"]["checksum_sum"], rel=1e-12)
    return values


@pytest.mark.parametrize("case", cases_of("quantile_one_sample"))
def test_intervals_have_the_ranks_of_the_reference(case: dict[str, Any]) -> None:
    n, nu, expected = case["inputs"]["n"], case["inputs"]["nu"], case["expected"]
    ordered = [*np.sort(raw_of(case)).tolist(), math.inf]

    ranks = order_statistic_ranks(n, quantile=nu, alpha=0.05)

    assert list(ranks) == expected["order_stat_indices_1based"]
    values = [ordered[rank - 1] for rank in ranks]
    assert values == [float(end) for end in expected["order_stat_ci95"]]
    if expected["exact_coverage"] is not None:
        law = stats.binom(n, nu)
        coverage = law.cdf(ranks.high - 1) - law.cdf(ranks.low - 1)
        assert_matches(case, exact_coverage=coverage)


@pytest.mark.parametrize("case", cases_of("quantile_one_sample"))
def test_buckets_lose_no_more_than_their_width(case: dict[str, Any]) -> None:
    expected = case["expected"]

    arm = unit_quantile(
        histogram_of(raw_of(case), 3), quantile=case["inputs"]["nu"], precision=3, alpha=0.05
    )

    low, high = (float(end) for end in expected["order_stat_ci95"])
    assert arm.estimate == pytest.approx(expected["inverted_cdf"], rel=2 / 199)
    assert arm.low is not None
    assert low * 199 / 201 - 0.001 <= arm.low <= low
    if math.isinf(high):
        assert (arm.status, arm.high, arm.std_error) == ("unbounded", None, None)
    else:
        assert arm.high is not None
        assert high <= arm.high <= high * 201 / 199 + 0.001
        assert arm.status == "ok"


def test_a_million_totals_in_sixteen_parts_keep_the_promise_of_their_buckets() -> None:
    case = case_of("quant-08")
    values = np.round(default_rng(405).lognormal(3, 1, 1_000_000), 6)
    merged: Counter[int] = Counter()
    for part in np.array_split(values, 16)[::-1]:
        merged.update(histogram_of(part, 6))

    for nu, exact in zip(case["inputs"]["nu"], case["expected"]["exact_inverted_cdf"], strict=True):
        arm = unit_quantile(merged, quantile=nu, precision=6, alpha=0.05)

        assert arm.estimate is not None
        promised = case["expected"]["max_rel_value_error"]["ddsketch_alpha_0_005"]
        assert abs(arm.estimate / exact - 1) <= promised
        # Within a bucket the values are nearly uniform, so the error is far below that.
        assert abs(arm.estimate / exact - 1) <= promised / 5


@pytest.mark.parametrize("quantile", [0.001, 0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("n", [1, 2, 7, 40, 999, 12_345, 3_000_000])
@pytest.mark.parametrize("alpha", [0.01, 0.2])
def test_ranks_are_the_tightest_that_keep_both_tails(quantile: float, n: int, alpha: float) -> None:
    law = stats.binom(n, quantile)

    low, high = order_statistic_ranks(n, quantile=quantile, alpha=alpha)

    assert law.cdf(low - 1) <= alpha / 2 < law.cdf(low)
    assert law.sf(high - 1) <= alpha / 2 < law.sf(high - 2)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_intervals_are_those_of_scipy(quantile: float) -> None:
    values = default_rng(17).normal(size=501)
    expected = stats.quantile_test(values, p=quantile).confidence_interval(0.95)
    ordered = np.sort(values)

    low, high = order_statistic_ranks(501, quantile=quantile, alpha=0.05)

    assert (ordered[low - 1], ordered[high - 1]) == (expected.low, expected.high)


totals = st.lists(st.integers(-(10**12), 10**12), min_size=2, max_size=200)


@given(totals, st.sampled_from(QUANTILES))
def test_an_estimate_lies_in_the_bucket_of_the_samples_quantile(
    values: list[int], quantile: float
) -> None:
    exact = inverted_cdf(sorted(values), quantile)
    low, high = bucket_edges(bucket_of(exact))
    histogram = dict(Counter(map(bucket_of, values)))

    arm = unit_quantile(histogram, quantile=quantile, precision=0, alpha=0.05)

    assert arm.estimate is not None
    # An integer stands for all that is rounded to it, so the edges are half a quantum out.
    assert low - 0.5 <= arm.estimate <= high + 0.5
    if low == high:
        assert arm.estimate == exact


@given(totals, st.sampled_from(QUANTILES))
def test_an_interval_holds_the_order_statistics_and_reaches_to_their_buckets_only(
    values: list[int], quantile: float
) -> None:
    ordered = sorted(values)
    ranks = order_statistic_ranks(len(values), quantile=quantile, alpha=0.05)

    arm = unit_quantile(
        dict(Counter(map(bucket_of, values))), quantile=quantile, precision=0, alpha=0.05
    )

    low = bucket_edges(bucket_of(ordered[ranks.low - 1])).low if ranks.low else None
    high = None
    if ranks.high <= len(values):
        high = bucket_edges(bucket_of(ordered[ranks.high - 1])).high
    assert (arm.low, arm.high) == (low, high)


@given(totals, st.integers(0, 10**9))
def test_estimates_move_up_with_the_values(values: list[int], step: int) -> None:
    below, above = (
        unit_quantile(
            dict(Counter(bucket_of(value + shift) for value in values)),
            quantile=0.5,
            precision=0,
            alpha=0.05,
        )
        for shift in (0, step)
    )

    assert below.estimate is not None
    assert above.estimate is not None
    assert below.estimate <= above.estimate


@given(totals)
def test_estimates_rise_with_the_quantile(values: list[int]) -> None:
    histogram = dict(Counter(map(bucket_of, values)))
    estimates = [
        unit_quantile(histogram, quantile=nu, precision=0, alpha=0.05).estimate for nu in QUANTILES
    ]

    assert estimates == sorted(estimates, key=float)


def test_a_quantile_is_read_as_a_decimal() -> None:
    # 0.7 · 10 is a little above 7 in floats; the seventh value has the share 0.7 below it.
    histogram = dict.fromkeys(range(1, 11), 1)

    assert unit_quantile(histogram, quantile=0.7, precision=0, alpha=0.05).estimate == 7


def test_equal_arms_on_either_side_of_an_edge_do_not_differ_by_a_bucket() -> None:
    # A million units; the median of one arm ends a bucket, that of the other starts the next.
    edge = bucket_of(5 * 10**7)
    arms = [
        {edge - 1: 480_000, edge: 20_000 + more, edge + 1: 500_000 - more} for more in (10, -10)
    ]
    control, treatment = (unit_quantile(arm, quantile=0.5, precision=6, alpha=0.05) for arm in arms)

    assert control.estimate is not None
    assert treatment.estimate is not None
    assert control.std_error is not None
    assert abs(treatment.estimate - control.estimate) < 0.1 * control.std_error


def test_a_standard_error_is_never_below_what_a_bucket_allows() -> None:
    bucket = bucket_of(10**9)
    low, high = bucket_edges(bucket)

    arm = unit_quantile({bucket: 10**6}, quantile=0.5, precision=6, alpha=0.05)

    assert arm.is_bucket_limited
    assert arm.std_error == pytest.approx((high - low + 1) / 1e6 / (2 * 1.959963984540054))
    assert arm.low == low / 1e6
    assert arm.high == high / 1e6


def test_a_single_total_has_no_standard_error_to_test_with() -> None:
    arm = unit_quantile({0: 1_000}, quantile=0.9, precision=6, alpha=0.05)

    assert (arm.status, arm.estimate, arm.std_error) == ("ok", 0.0, 0.0)


@pytest.mark.parametrize(
    ("histogram", "expected"),
    [
        ({}, ("no_units", 0, None)),
        ({5: 0}, ("no_units", 0, None)),
        ({5: 1}, ("insufficient", 1, 5.0)),
        ({5: 4, 6: -1}, ("invalid_input", 3, None)),
        ({BUCKET_MAX + 1: 4}, ("invalid_input", 4, None)),
        ({5: 3, 6: 2}, ("unbounded", 5, 5.0)),
    ],
)
def test_too_little_or_impossible_counts_have_a_status(
    histogram: dict[int, int], expected: tuple[str, int, float | None]
) -> None:
    arm = unit_quantile(histogram, quantile=0.5, precision=0, alpha=0.05)

    assert (arm.status, arm.size, arm.estimate) == expected
    assert arm.std_error is None
    assert not arm.is_warm


@pytest.mark.parametrize(
    ("units", "quantile", "is_warm"), [(99, 0.5, False), (100, 0.5, True), (299, 0.9, False)]
)
def test_sequences_wait_for_units_on_both_sides(units: int, quantile: float, is_warm: bool) -> None:
    histogram = dict.fromkeys(range(1, units + 1), 1)

    arm = unit_quantile(histogram, quantile=quantile, precision=0, alpha=0.05)

    assert arm.is_warm is is_warm


@pytest.mark.parametrize(("quantile", "alpha"), [(0.0, 0.05), (1.0, 0.05), (0.5, 0.0), (0.5, 1.0)])
def test_numbers_out_of_range_are_refused(quantile: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="must be > 0 and < 1"):
        unit_quantile({1: 1}, quantile=quantile, precision=0, alpha=alpha)
    with pytest.raises(ValueError, match="must be > 0 and < 1"):
        event_quantile([{}] * 64, unit_count=1, quantile=quantile, precision=0, alpha=alpha)


def clustered_case() -> tuple[dict[str, Any], NDArray[np.float64], NDArray[np.int64]]:
    case = case_of("quant-06")
    rng = default_rng(411)
    counts = rng.geometric(0.2, 3000)
    level = np.repeat(rng.normal(0, 1, 3000), counts)
    values = np.round(np.exp(level + 0.5 * rng.normal(size=level.size)), 6)
    assert len(values) == case["expected"]["n_events"]
    return case, values, np.repeat(np.arange(3000), counts)


def test_variances_between_groups_are_those_of_the_reference() -> None:
    case, values, unit = clustered_case()
    is_below = values <= inverted_cdf(np.sort(values).tolist(), 0.5)

    for name, group, groups in (
        ("se_F_random_groups64", unit % 64, 64),
        ("se_F_cluster", unit, 3000),
    ):
        std_error = random_group_std_error(
            np.bincount(group, is_below, groups), np.bincount(group, minlength=groups).astype(float)
        )

        assert is_close(std_error, case["expected"][name], case["tolerance"])


def test_clustered_events_have_the_wide_interval_of_their_clusters() -> None:
    case, values, unit = clustered_case()
    expected = case["expected"]

    arm = event_quantile(
        shards_of(values, unit, 6), unit_count=3000, quantile=0.5, precision=6, alpha=0.05
    )

    assert arm.estimate == pytest.approx(expected["quantile"], rel=1e-3)
    iid_variance = expected["se_F_iid"] ** 2
    in_groups = expected["se_F_random_groups64"] ** 2 / iid_variance
    assert arm.design_effect == pytest.approx(in_groups, rel=0.02)
    # By raw values: Woodruff's ranks with t of 63 degrees and the groups' standard error.
    reach = stats.t.ppf(0.975, 63) * expected["se_F_random_groups64"]
    low, high = np.quantile(values, [0.5 - reach, 0.5 + reach], method="inverted_cdf")
    assert arm.low is not None
    assert arm.high is not None
    assert low * 0.98 <= arm.low <= low
    assert high <= arm.high <= high * 1.02
    assert arm.std_error == pytest.approx((high - low) / (2 * stats.t.ppf(0.975, 63)), rel=0.05)
    assert arm.degrees_of_freedom == 63


def test_the_interval_of_events_taken_as_independent_is_far_too_narrow() -> None:
    _, values, unit = clustered_case()
    shards = shards_of(values, unit, 6)
    pooled = sum((Counter(shard) for shard in shards), start=Counter[int]())

    clustered = event_quantile(shards, unit_count=3000, quantile=0.5, precision=6, alpha=0.05)
    independent = unit_quantile(pooled, quantile=0.5, precision=6, alpha=0.05)

    assert clustered.estimate == independent.estimate
    assert clustered.std_error is not None
    assert independent.std_error is not None
    assert clustered.std_error > 1.7 * independent.std_error


def test_intervals_of_clustered_events_cover_as_often_as_they_say() -> None:
    """The small form of case quant-09; its full size is a protocol of ``make trust``."""
    case, replications = case_of("quant-09"), 100 if Draw.are_few else 200
    rng = default_rng(20_261_122)
    covered = {name: np.zeros(3) for name in ("shards", "edges", "independent")}
    for _ in range(replications):
        counts = rng.geometric(0.2, 4_000)
        unit = np.repeat(np.arange(4_000), counts)
        level = np.repeat(rng.normal(0, 1, 4_000), counts)
        values = np.exp(level + 0.5 * rng.normal(size=level.size))
        shards = shards_of(values, unit, 6)
        pooled = sum((Counter(shard) for shard in shards), start=Counter[int]())
        for index, nu in enumerate(case["inputs"]["nu"]):
            truth = math.exp(math.sqrt(1.25) * stats.norm.ppf(nu))
            arm = event_quantile(shards, unit_count=4_000, quantile=nu, precision=6, alpha=0.05)
            naive = unit_quantile(pooled, quantile=nu, precision=6, alpha=0.05)
            assert arm.low is not None
            assert arm.high is not None
            covered["shards"][index] += is_within(arm, truth, stats.t.ppf(0.975, 63))
            covered["edges"][index] += arm.low <= truth <= arm.high
            covered["independent"][index] += is_within(naive, truth, 1.96)
    shares = {name: counts / replications for name, counts in covered.items()}

    for name, reference in (
        ("shards", case["expected"]["coverage_random_groups64_t63"]),
        ("independent", case["expected"]["coverage_iid"]),
    ):
        for share, target in zip(shares[name], reference, strict=True):
            spread = math.sqrt(target * (1 - target) * (1 / 2000 + 1 / replications))
            assert abs(share - target) <= 4 * spread, name
    # Outwards to the edges of buckets: never less.
    assert np.all(shares["edges"] >= 0.93)


def is_within(arm: ArmQuantile, truth: float, critical: float) -> bool:
    assert arm.estimate is not None
    assert arm.std_error is not None
    return abs(arm.estimate - truth) <= critical * arm.std_error


@given(
    st.lists(
        st.tuples(st.integers(0, 63), st.integers(-(10**9), 10**9), st.integers(1, 4)),
        min_size=80,
        max_size=200,
    )
)
def test_events_of_shards_are_the_events_of_their_sum(
    rows: list[tuple[int, int, int]],
) -> None:
    shards: list[Counter[int]] = [Counter() for _ in range(64)]
    for shard, value, count in rows:
        shards[shard][bucket_of(value)] += count
    pooled = sum(shards, start=Counter[int]())

    events = event_quantile(shards, unit_count=len(rows), quantile=0.5, precision=0, alpha=0.05)
    units = unit_quantile(pooled, quantile=0.5, precision=0, alpha=0.05)

    assert (events.size, events.estimate) == (units.size, units.estimate)


@pytest.mark.parametrize(
    ("shards", "status", "size"),
    [
        ([{}] * 64, "no_units", 0),
        ([{5: 1}] * 31 + [{}] * 33, "insufficient", 31),
        ([{5: 1}] * 63 + [{5: -1}], "invalid_input", 62),
        ([{5: 1}] * 63 + [{-BUCKET_MAX - 1: 1}], "invalid_input", 64),
        ([{5: 1}] * 64, "ok", 64),
    ],
)
def test_few_or_impossible_events_have_a_status(
    shards: list[dict[int, int]], status: str, size: int
) -> None:
    arm = event_quantile(shards, unit_count=size, quantile=0.5, precision=0, alpha=0.05)

    assert (arm.status, arm.size) == (status, size)


def test_a_variance_between_groups_needs_two_of_them() -> None:
    with pytest.raises(ValueError, match=r"len\(shards\) == 1"):
        event_quantile([{1: 1}], unit_count=1, quantile=0.5, precision=0, alpha=0.05)


def metric_sums(histogram: dict[int, int]) -> MetricSums:
    units = sum(histogram.values())
    # Quantiles do not look at the totals' sums, only at how many units there are.
    return MetricSums(JointSums(units, (0,), (0,)), histogram=histogram)


def test_two_arms_compare_as_estimates_with_standard_errors() -> None:
    rng = default_rng(5)
    control, treatment = (histogram_of(rng.lognormal(mean, 1, 20_000), 6) for mean in (3.0, 3.1))
    arms = [
        unit_quantile(histogram, quantile=0.9, precision=6, alpha=0.05)
        for histogram in (control, treatment)
    ]

    (effect,) = compare_all(
        [
            Comparison(
                "quantile",
                metric_sums(control),
                metric_sums(treatment),
                plan=Plan(alpha=0.05),
                precision=6,
                quantile=0.9,
            )
        ]
    )

    (q_c, q_t), (se_c, se_t) = (
        [float(arm.estimate or 0) for arm in arms],
        [float(arm.std_error or 0) for arm in arms],
    )
    assert effect.estimate == pytest.approx(q_t - q_c, rel=1e-12)
    assert effect.std_error == pytest.approx(math.hypot(se_c, se_t), rel=1e-12)
    assert effect.relative.estimate == pytest.approx(q_t / q_c - 1, rel=1e-12)
    assert effect.fixed_horizon is not None
    assert effect.fixed_horizon.low < math.expm1(0.1) * q_c < effect.fixed_horizon.high
    assert effect.sequence is not None


@pytest.mark.parametrize("case", cases_of("quantile_two_sample"))
def test_two_arms_compare_as_in_the_reference(case: dict[str, Any]) -> None:
    # The reference's variance of a unit is (n - 1) s², s half an interval over its critical value.
    z = normal_critical_value(0.05)
    control, treatment = (
        Moments(arm["n"], arm["q"], (arm["n"] - 1) * ((arm["hi"] - arm["lo"]) / (2 * z)) ** 2)
        for arm in (case["inputs"]["control"], case["inputs"]["treatment"])
    )

    test = welch_test(control, treatment, alpha=0.05)

    assert_matches(
        case,
        var_control=control.variance,
        var_treatment=treatment.variance,
        diff=test.difference,
        se=test.std_error,
        p_value=test.p_value,
        ci_t=(test.low, test.high),
    )
    # The reference gives 0 here, the tail of its 1 - cdf.
    assert 0 < test.p_value < 1e-38
    reach = z * test.std_error
    assert_matches(case, ci_normal_published=(test.difference - reach, test.difference + reach))
