"""Quantiles with ties: tests hold without an effect, find one, and agree with their intervals."""

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from stream_processors.stats.buckets import buckets_of
from stream_processors.stats.comparisons import Comparison, compare_all
from stream_processors.stats.effects import Effect, Plan
from stream_processors.stats.quantiles import unit_quantile
from stream_processors.stats.sums import JointSums, MetricSums
from stream_processors.stats.tied_quantiles import (
    RankCurve,
    fixed_reach,
    has_ties,
    tied_sequence,
    tied_test,
)

Values = NDArray[np.int64]
Draw = Callable[[Generator, int], Values]

SHARDS = 64
SIZES = (200, 500, 1_000, 2_000)
PAIRS = 150


def zeros_and(share: float, rest: Draw) -> Draw:
    return lambda rng, n: np.where(rng.random(n) < share, 0, rest(rng, n))


def lognormal(rng: Generator, n: int) -> Values:
    return np.rint(np.exp(rng.normal(7, 1, n))).astype(np.int64)


LAWS: dict[str, tuple[Draw, float]] = {
    "zeros up to p90": (zeros_and(0.9, lambda rng, n: rng.poisson(3, n) + 1), 0.9),
    "89 % zeros": (zeros_and(0.89, lognormal), 0.9),
    "halves": (lambda rng, n: rng.integers(0, 2, n), 0.5),
    "49 % zeros": (zeros_and(0.49, lognormal), 0.5),
    "Poisson": (lambda rng, n: rng.poisson(2, n), 0.5),
    "far modes": (
        lambda rng, n: np.where(
            rng.random(n) < 0.5, rng.integers(8, 12, n), rng.integers(900, 1_100, n)
        ),
        0.5,
    ),
}


def sums_of(values: Values) -> MetricSums:
    total = JointSums(len(values), (int(values.sum()),), (int((values * values).sum()),))
    return MetricSums(total, histogram=dict(Counter(buckets_of(values).tolist())))


def sharded(values: Values, units: int) -> MetricSums:
    shards = tuple(
        dict(Counter(buckets_of(values[shard::SHARDS]).tolist())) for shard in range(SHARDS)
    )
    return MetricSums(JointSums(units, (0,), (0,)), shards=shards)


def effect_of(control: Values, treatment: Values, quantile: float = 0.5) -> Effect:
    sides = sums_of(control), sums_of(treatment)
    (effect,) = compare_all([Comparison("quantile", *sides, quantile=quantile)])
    return effect


def curve_of(values: Values, quantile: float) -> RankCurve:
    histogram = Counter(buckets_of(values).tolist())
    buckets = np.array(sorted(histogram))
    shares = np.cumsum([histogram[bucket] for bucket in buckets.tolist()]) / len(values)
    error = math.sqrt(quantile * (1 - quantile) / len(values))
    return RankCurve(buckets, shares, quantile, error, len(values))


@pytest.mark.parametrize("law", LAWS)
def test_without_an_effect_ties_show_none_however_often_one_looks(law: str) -> None:
    draw, quantile = LAWS[law]
    rng = default_rng(51)
    pairs = [(draw(rng, SIZES[-1]), draw(rng, SIZES[-1])) for _ in range(PAIRS)]
    ever, at_one_look = np.zeros(PAIRS, dtype=bool), []
    for size in SIZES:
        comparisons = [
            Comparison("quantile", sums_of(one[:size]), sums_of(other[:size]), quantile=quantile)
            for one, other in pairs
        ]
        effects = compare_all(comparisons)
        ever |= [e.sequence is not None and e.sequence.p_value <= 0.05 for e in effects]
        tested = [e.fixed_horizon for e in effects if e.fixed_horizon is not None]
        at_one_look.append(sum(test.p_value <= 0.05 for test in tested) / PAIRS)

    assert ever.mean() <= 0.05
    assert max(at_one_look) <= 0.05


def test_a_plain_difference_of_counts_is_found() -> None:
    rng = default_rng(52)

    effect = effect_of(rng.poisson(5, 3_000), rng.poisson(8, 3_000))

    assert (effect.status, effect.flags, effect.estimate) == ("ok", ("ties",), 3)
    assert effect.fixed_horizon is not None
    assert effect.fixed_horizon.test == "ranks"
    assert (effect.fixed_horizon.low, effect.fixed_horizon.high) == (3, 3)
    assert effect.fixed_horizon.p_value < 1e-9
    assert effect.sequence is not None
    assert effect.sequence.low > 0
    assert effect.sequence.p_value < 1e-6


def test_nothing_that_needs_a_standard_error_has_numbers() -> None:
    rng = default_rng(53)

    effect = effect_of(rng.poisson(5, 3_000), rng.poisson(8, 3_000))

    assert (effect.std_error, effect.degrees_of_freedom) == (None, None)
    assert (effect.relative.status, effect.relative.estimate) == ("ties", None)
    assert {(one.status, one.std_error) for one in (effect.control, effect.treatment)} == {
        ("ties", None)
    }


def test_only_units_that_are_all_alike_have_no_variance() -> None:
    same = np.full(3_000, 7, dtype=np.int64)

    assert effect_of(same, same).status == "zero_variance"
    tied = effect_of(same, default_rng(54).poisson(8, 3_000))
    assert (tied.status, tied.flags) == ("ok", ("ties",))


@pytest.mark.parametrize("quantile", [0.5, 0.9])
@pytest.mark.parametrize("scale", [1_000, 20_000])
def test_smooth_totals_keep_their_standard_error(quantile: float, scale: int) -> None:
    rng = default_rng(55)
    control, treatment = (
        np.rint(rng.lognormal(0, 1, 4_000) * scale).astype(np.int64) for _ in range(2)
    )

    effect = effect_of(control, treatment, quantile)

    assert effect.flags == ()
    assert effect.fixed_horizon is not None
    assert effect.fixed_horizon.test == "woodruff"
    assert effect.std_error


def test_an_atom_within_a_wide_bucket_and_a_gap_are_ties() -> None:
    rng = default_rng(56)
    smooth = np.rint(rng.normal(200_000, 20_000, 4_000)).astype(np.int64)
    atom = np.where(rng.random(4_000) < 0.6, 200_000, smooth)
    gap = smooth + np.where(smooth > 200_000, 5_000, 0)

    assert not has_ties(curve_of(smooth, 0.5))
    assert has_ties(curve_of(atom, 0.5))
    assert has_ties(curve_of(gap, 0.5))
    assert not has_ties(curve_of(gap, 0.9))


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
@pytest.mark.parametrize("freedom", [math.inf, 63])
def test_tests_and_intervals_agree(alpha: float, freedom: float) -> None:
    rng = default_rng(57)
    verdicts = set()
    for _ in range(60):
        control = curve_of(rng.poisson(4, 400), 0.5)._replace(freedom=freedom)
        treatment = curve_of(rng.poisson(4 + rng.random() * 1.5, 400), 0.5)

        fixed = tied_test(control, treatment, alpha=alpha)
        always = tied_sequence(control, treatment, alpha=alpha, n_star=2_000)

        for test in (fixed, always):
            assert (test.p_value <= alpha) == (test.low > 0 or test.high < 0)
        verdicts.add(fixed.p_value <= alpha)
    assert verdicts == {True, False}


def test_swapped_variants_mirror_the_interval() -> None:
    rng = default_rng(58)
    one, other = curve_of(rng.poisson(4, 900), 0.5), curve_of(lognormal(rng, 700), 0.5)

    there = tied_test(one, other, alpha=0.05)
    back = tied_test(other, one, alpha=0.05)

    assert (there.low, there.high) == (-back.high, -back.low)
    assert (there.statistic, there.p_value) == (-back.statistic, back.p_value)


def test_the_interval_of_smooth_quantiles_is_a_fourth_wider_and_no_more() -> None:
    rng = default_rng(59)
    control, treatment = (rng.normal(10**9, 10**8, 40_000).astype(np.int64) for _ in range(2))

    ranks = tied_test(curve_of(control, 0.5), curve_of(treatment, 0.5), alpha=0.05)

    smooth = effect_of(control, treatment).fixed_horizon
    assert smooth is not None
    wider = (ranks.high - ranks.low) / (smooth.high - smooth.low)
    # The square root of χ² with two degrees over that with one, and a bucket at both ends.
    buckets = 4 * 10**7 / (smooth.high - smooth.low)
    assert fixed_reach(0.05) / 1.96 - 0.1 < wider < fixed_reach(0.05) / 1.96 + buckets


def test_too_few_totals_for_two_ends_are_no_test() -> None:
    few = np.array([0] * 18 + [5] * 2)
    curve = curve_of(few, 0.9)

    assert tied_test(curve, curve, alpha=0.05).high == math.inf
    arm = unit_quantile(
        dict(Counter(buckets_of(few).tolist())), quantile=0.9, precision=0, alpha=0.05
    )
    assert (arm.status, arm.is_tied) == ("unbounded", False)


def test_ties_of_events_are_tested_by_groups_of_units() -> None:
    rng = default_rng(60)
    sides = [sharded(rng.poisson(level, 6_000), 2_000) for level in (5, 5, 8)]
    plan = Plan()
    same, other = compare_all(
        Comparison("quantile", sides[0], side, plan, quantile=0.5, of="events")
        for side in sides[1:]
    )

    assert (same.flags, other.flags) == (("ties",), ("ties",))
    assert same.fixed_horizon is not None
    assert other.fixed_horizon is not None
    assert same.fixed_horizon.p_value > 0.05
    assert (other.estimate, other.fixed_horizon.low > 0) == (3, True)
