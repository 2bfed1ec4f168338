"""Every kind of metric has an entry: its totals, its effect, its cap, and its record."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.definitions import CapQuantile, Definition, Metric
from stream_processors.merge.look import Look, compute_look, recompute
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.totals import Totals
from stream_processors.stats.buckets import bucket_of
from stream_processors.stats.caps import cap_grid
from stream_processors.stats.sums import CapSums, JointSums, MetricSums, joint_sums
from tests.stream_processors.merge.builders import (
    finite_numbers_only,
    make_cut,
    make_definition,
    rate,
)

Integers = NDArray[np.int64]
HOUR_MS = 3_600_000
BASKET = Metric("basket", "ratio", "spent", window_ms=HOUR_MS, precision=2, denominator="orders")
PRICE = Metric("price", "mean", "spent", window_ms=HOUR_MS, precision=2)
REVENUE = Metric("revenue", "sum", "spent", window_ms=HOUR_MS, precision=0, cap=50.0)
TAIL = Metric("tail", "sum", "spent", window_ms=HOUR_MS, precision=0, cap=CapQuantile(0.99))
TYPICAL = Metric(
    "typical", "quantile", "spent", window_ms=HOUR_MS, precision=0, quantile=0.5, of="units"
)
SLOWEST = Metric(
    "slowest", "quantile", "load", window_ms=HOUR_MS, precision=0, quantile=0.9, of="events"
)


def joint(*columns: Integers) -> JointSums:
    products = [
        int((one * other).sum()) for at, one in enumerate(columns) for other in columns[at:]
    ]
    return JointSums(len(columns[0]), tuple(int(one.sum()) for one in columns), tuple(products))


def totals_with(*metrics: Sequence[MetricSums], is_final: bool = False) -> Totals:
    per_metric = tuple(map(tuple, metrics))
    units = tuple(one.total.unit_count for one in per_metric[0])
    return Totals(units, 0, per_metric, per_metric, (0,) * len(metrics), {}, is_final)


def look_at(metric: Metric, *arms: MetricSums) -> tuple[Look, Definition]:
    definition = make_definition(metrics=[metric], weights=(1 / len(arms),) * len(arms))
    totals = totals_with(arms)
    look = compute_look(definition, totals, cut=make_cut(), path_before=ExperimentPath())
    return look, definition


def entry_of(look: Look) -> dict[str, Any]:
    found: dict[str, Any] = look.results["metrics"][0]
    assert found["basis"] == "matured"
    return found


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_261_122)


def test_a_ratio_shows_both_totals_and_compares_total_by_total(rng: np.random.Generator) -> None:
    orders = rng.poisson(2, (2, 1_000)) * 100
    spent = orders * 10 + rng.poisson(50, (2, 1_000))
    look, _ = look_at(BASKET, *(MetricSums(joint(*one)) for one in zip(spent, orders, strict=True)))

    entry = entry_of(look)
    ratios = spent.sum(axis=1) / orders.sum(axis=1)
    for variant, total, denominator, ratio in zip(
        entry["variants"], spent.sum(axis=1), orders.sum(axis=1), ratios, strict=True
    ):
        assert (variant["total"], variant["denominator"]) == (total / 100, denominator / 100)
        assert variant["mean"] == pytest.approx(ratio, rel=1e-12)
    effect = entry["effects"][0]
    assert effect["absolute"]["estimate"] == pytest.approx(ratios[1] - ratios[0], rel=1e-9)
    assert effect["absolute"]["fixed_horizon"]["test"] == "welch"


def test_a_mean_divides_by_the_number_of_events(rng: np.random.Generator) -> None:
    events = rng.poisson(3, (2, 1_000))
    values = events * 250 + rng.poisson(9, (2, 1_000))
    look, _ = look_at(PRICE, *(MetricSums(joint(*one)) for one in zip(values, events, strict=True)))

    control = entry_of(look)["variants"][0]
    assert control["denominator"] == int(events[0].sum())
    assert control["total"] == values[0].sum() / 100
    assert control["mean"] == pytest.approx(values[0].sum() / 100 / events[0].sum(), rel=1e-12)


def test_a_fixed_cap_says_how_many_units_it_cuts(rng: np.random.Generator) -> None:
    values = rng.poisson(40, (2, 1_000))
    arms = []
    for one in values:
        capped = np.minimum(one, 50)
        total = joint(capped)
        above = int((one > 50).sum())
        arms.append(MetricSums(total, caps=(CapSums(above, total.sums[0], total.products[0]),)))
    look, _ = look_at(REVENUE, *arms)

    entry = entry_of(look)
    assert entry["cap"]["cap"] == 50.0
    assert entry["cap"]["capped_units"] == [int((one > 50).sum()) for one in values]
    assert 0 < entry["cap"]["imbalance_p_value"] <= 1
    assert entry["variants"][0]["mean"] == pytest.approx(np.minimum(values[0], 50).mean())


def grid_sums(values: Integers) -> MetricSums:
    caps = []
    for cap in cap_grid(0):
        capped = np.minimum(values, cap)
        above = int((values > cap).sum())
        caps.append(CapSums(above, int(capped.sum()), int((capped * capped).sum())))
    return MetricSums(joint(values), caps=tuple(caps))


def test_a_cap_at_a_quantile_is_one_for_all_variants(rng: np.random.Generator) -> None:
    values = rng.poisson(20, (3, 1_000)) + 1
    values[1, :5] = 10_000
    look, _ = look_at(TAIL, *map(grid_sums, values))

    entry = entry_of(look)
    chosen = next(
        cap for cap in cap_grid(0) if (values > cap).sum() <= 3_000 - np.ceil(0.99 * 3_000)
    )
    assert entry["cap"]["cap"] == chosen
    assert entry["cap"]["capped_units"] == [int((one > chosen).sum()) for one in values]
    for variant, one in zip(entry["variants"], values, strict=True):
        assert variant["total"] == np.minimum(one, chosen).sum()
        assert variant["mean"] == pytest.approx(np.minimum(one, chosen).mean(), rel=1e-12)


def test_quantiles_of_units_and_of_events_have_intervals(rng: np.random.Generator) -> None:
    values = rng.integers(100, 1_000, (2, 2_000))
    by_unit = []
    for one in values:
        buckets: dict[int, int] = {}
        for value in one.tolist():
            bucket = bucket_of(value)
            buckets[bucket] = buckets.get(bucket, 0) + 1
        by_unit.append(MetricSums(joint(one), histogram=buckets))
    look, _ = look_at(TYPICAL, *by_unit)

    entry = entry_of(look)
    for variant, one in zip(entry["variants"], values, strict=True):
        assert variant["mean"] == pytest.approx(np.median(one), rel=0.02)
        assert variant["variance"] is None
    assert entry["effects"][0]["absolute"]["fixed_horizon"]["low"] is not None

    by_event = []
    for one in values:
        shards: list[dict[int, int]] = [{} for _ in range(64)]
        for unit, value in enumerate(one.tolist()):
            shard, bucket = shards[unit % 64], bucket_of(value)
            shard[bucket] = shard.get(bucket, 0) + 1
        by_event.append(MetricSums(joint(one), shards=tuple(shards)))
    look, _ = look_at(SLOWEST, *by_event)

    for variant, one in zip(entry_of(look)["variants"], values, strict=True):
        assert variant["mean"] == pytest.approx(np.quantile(one, 0.9), rel=0.02)


def test_every_kind_can_be_computed_again_from_its_record(rng: np.random.Generator) -> None:
    def unit_histogram(values: Integers) -> MetricSums:
        buckets: dict[int, int] = {}
        for value in values.tolist():
            buckets[bucket_of(value)] = buckets.get(bucket_of(value), 0) + 1
        return MetricSums(joint(values), histogram=buckets)

    for metric, make in (
        (BASKET, lambda v: MetricSums(joint(v, v // 3 + 1))),
        (PRICE, lambda v: MetricSums(joint(v, v // 3 + 1))),
        (TAIL, grid_sums),
        (TYPICAL, unit_histogram),
    ):
        look, definition = look_at(metric, *(make(rng.integers(1, 900, 500)) for _ in range(2)))

        published = json.loads(json.dumps(look.record, allow_nan=False))

        assert recompute(published, definition).record == look.record
        assert finite_numbers_only(look.record)


def test_a_metric_that_must_have_caps_and_has_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="sums without caps"):
        look_at(TAIL, *(MetricSums(joint_sums(rate(100, 50))) for _ in range(2)))
