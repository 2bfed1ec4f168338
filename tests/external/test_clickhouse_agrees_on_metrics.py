"""Ratios, covariates, caps and quantiles: ClickHouse computes them from raw units, by its own test.

Welch's test in ClickHouse takes one number per unit. So SQL linearises ratios, subtracts what the
past explains and cuts off totals, each as the textbook writes it, and its t and p must be ours.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from schemas.definitions import CapQuantile, Metric
from stream_processors.stats.comparisons import Comparison, compare_all
from stream_processors.stats.effects import CupedEffect, Effect
from tests.external.clickhouse import ClickHouse
from tests.page.crowd import PRECISION, SHARDS, Crowd

CLOSE = 1e-8
"""ClickHouse adds up in floats, and a linearised ratio takes differences of large numbers."""

CROWDS = (Crowd.drawn(3_100, seed=11), Crowd.drawn(3_300, seed=12, lift=0.15))

COVERED = tuple(crowd._replace(has_past=crowd.has_past | True) for crowd in CROWDS)
"""The same units, all of them with a past."""


@pytest.fixture(scope="module")
def clickhouse() -> Iterator[ClickHouse]:
    with ClickHouse() as engine:
        rows = [
            (arm, *(int(one) for one in unit))
            for arm, crowd in enumerate(CROWDS)
            for unit in zip(crowd.orders, crowd.spend_q, crowd.past_q, crowd.has_past, strict=True)
        ]
        columns = "arm UInt8, orders Int64, spend_q Int64, past_q Int64, has_past UInt8"
        engine.fill("units", columns, rows)
        loads = [
            (arm, number % SHARDS, int(load))
            for arm, crowd in enumerate(CROWDS)
            for number, of_unit in enumerate(crowd.loads_q)
            for load in of_unit
        ]
        engine.fill("loads", "arm UInt8, shard UInt8, value_q Int64", loads)
        engine.ask(
            "CREATE OR REPLACE VIEW amounts AS SELECT arm, orders, has_past,"
            f" spend_q / {10**PRECISION} AS spend, past_q / {10**PRECISION} AS past FROM units"
        )
        yield engine


def effect_of(metric: Metric, crowds: tuple[Crowd, Crowd] = CROWDS, **about: Any) -> Effect:
    """Return our effect, from exact sums."""
    control, treatment = (crowd.sums(metric) for crowd in crowds)
    [effect] = compare_all(
        [Comparison(metric.kind, control, treatment, precision=metric.precision, **about)]
    )
    return effect


def assert_welch(ours: Effect | CupedEffect, theirs: dict[str, float]) -> None:
    fixed = ours.fixed_horizon
    assert fixed is not None
    expected = {
        "t_statistic": fixed.statistic,
        "p_value": fixed.p_value,
        "confidence_interval_low": fixed.low,
        "confidence_interval_high": fixed.high,
    }
    assert theirs == {name: pytest.approx(value, rel=CLOSE) for name, value in expected.items()}


def welch_of(clickhouse: ClickHouse, values: str, source: str = "amounts") -> dict[str, float]:
    """Return Welch's test of one number per unit, treatment less control."""
    [row] = clickhouse.ask(f"SELECT welchTTest(0.95)({values}, 1 - arm) AS answer FROM {source}")
    answer: dict[str, float] = row["answer"]
    return answer


def test_a_ratio_is_welch_of_its_linearised_units(clickhouse: ClickHouse) -> None:
    """e = R + (y - R d) / d̄ has the ratio's mean and the delta method's variance."""
    source = """(
        SELECT u.arm AS arm, r.ratio + (u.spend - r.ratio * u.orders) / r.per_unit AS linear
        FROM amounts u JOIN (
            SELECT arm, sum(spend) / sum(orders) AS ratio, avg(orders) AS per_unit
            FROM amounts GROUP BY arm) r ON u.arm = r.arm)"""
    theirs = welch_of(clickhouse, "linear", source)
    mean = Metric("basket", "mean", "order", precision=PRECISION)
    ratio = Metric("value", "ratio", "order", precision=PRECISION, denominator="orders")
    assert_welch(effect_of(mean), theirs)
    assert_welch(effect_of(ratio), theirs)


def test_an_adjusted_effect_is_welch_of_what_the_past_leaves(clickhouse: ClickHouse) -> None:
    """Where all units have a past: y - θ (x - x̄), θ and x̄ over both variants."""
    source = """(
        SELECT arm, spend - theta * (past - middle) AS rest FROM amounts, (
            SELECT covarSamp(spend, past) / varSamp(past) AS theta, avg(past) AS middle
            FROM amounts) AS pooled)"""
    metric = Metric("spend", "sum", "order", precision=PRECISION, covariate_days=14)
    effect = effect_of(metric, COVERED)
    assert effect.cuped is not None
    assert_welch(effect.cuped, welch_of(clickhouse, "rest", source))
    [row] = clickhouse.ask("SELECT covarSamp(spend, past) / varSamp(past) AS theta FROM amounts")
    assert effect.cuped.theta == pytest.approx(row["theta"], rel=CLOSE)


def test_units_without_a_past_are_a_stratum_of_their_own(clickhouse: ClickHouse) -> None:
    """Effect and standard error of both strata, weighted by their shares of all units."""
    statement = """
        WITH (SELECT covarSamp(spend, past) / varSamp(past) FROM amounts WHERE has_past) AS theta,
             (SELECT avg(past) FROM amounts WHERE has_past) AS middle,
             (SELECT count() FROM amounts) AS everyone
        SELECT sum(weight * (means[2] - means[1])) AS estimate,
               sqrt(sum(weight * weight * (errors[1] + errors[2]))) AS std_error
        FROM (
            SELECT has_past, sum(n) / everyone AS weight,
                   arraySort((one, at) -> at, groupArray(mean), groupArray(arm)) AS means,
                   arraySort((one, at) -> at, groupArray(error), groupArray(arm)) AS errors
            FROM (
                SELECT has_past, arm, count() AS n, avg(rest) AS mean,
                       varSamp(rest) / count() AS error
                FROM (SELECT arm, has_past, if(has_past, spend - theta * (past - middle), spend)
                             AS rest FROM amounts)
                GROUP BY has_past, arm)
            GROUP BY has_past)"""
    [theirs] = clickhouse.ask(statement)
    metric = Metric("spend", "sum", "order", precision=PRECISION, covariate_days=14)
    cuped = effect_of(metric).cuped
    assert cuped is not None
    assert cuped.estimate == pytest.approx(theirs["estimate"], rel=CLOSE)
    assert cuped.std_error == pytest.approx(theirs["std_error"], rel=CLOSE)


def test_a_cap_is_welch_of_totals_that_are_cut_off(clickhouse: ClickHouse) -> None:
    metric = Metric("spend", "sum", "order", precision=PRECISION, cap=CapQuantile(0.99))
    effect = effect_of(metric, cap=0.99)
    assert effect.cap is not None
    cap = effect.cap.cap
    assert_welch(effect, welch_of(clickhouse, f"least(spend, {cap})"))
    [counted] = clickhouse.ask(
        f"SELECT toInt32(countIf(arm = 0 AND spend > {cap})) AS control,"
        f" toInt32(countIf(arm = 1 AND spend > {cap})) AS treatment,"
        f" quantileExact(0.99)(spend) AS quantile FROM amounts"
    )
    assert effect.cap.capped_units == (counted["control"], counted["treatment"])
    assert cap is not None
    assert cap / 2 <= counted["quantile"] <= cap


@pytest.mark.parametrize("quantile", [0.25, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("of", ["units", "events"])
def test_quantiles_are_those_of_the_raw_values_to_a_bucket(
    clickhouse: ClickHouse, quantile: float, of: Any
) -> None:
    table, value = ("units", "spend_q") if of == "units" else ("loads", "value_q")
    rows = clickhouse.ask(
        f"SELECT arm, quantileExact({quantile})({value}) / {10**PRECISION} AS exact"
        f" FROM {table} GROUP BY arm ORDER BY arm"
    )
    event = "order" if of == "units" else "load"
    metric = Metric("q", "quantile", event, precision=PRECISION, quantile=quantile, of=of)
    effect = effect_of(metric, quantile=quantile, of=of)
    for ours, theirs in zip((effect.control, effect.treatment), rows, strict=True):
        # A bucket is one percent wide, and the value's place in it is not kept.
        assert ours.mean == pytest.approx(theirs["exact"], rel=0.01)
