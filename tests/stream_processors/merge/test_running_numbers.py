"""What was shown to hold at all looks is shown at every later look, whatever comes after it."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.definitions import Definition, Metric
from stream_processors.merge.look import Look, compute_look
from stream_processors.merge.path import ExperimentPath
from stream_processors.stats.buckets import bucket_of
from stream_processors.stats.sums import JointSums, MetricSums, Sums
from tests.seeds import examples
from tests.stream_processors.merge.builders import (
    CONVERSION,
    make_cut,
    make_definition,
    make_totals,
)
from tests.stream_processors.merge.test_kinds import (
    BASKET,
    HOUR_MS,
    PRICE,
    TAIL,
    TYPICAL,
    Integers,
    grid_sums,
    joint,
    totals_with,
)

REVENUE = Metric("revenue", "sum", "purchase", window_ms=HOUR_MS, precision=0)
ORDERS = Metric("orders", "count", "purchase", window_ms=HOUR_MS)
ADJUSTED = Metric("adjusted", "sum", "purchase", window_ms=HOUR_MS, precision=0, covariate_days=7)
KINDS = (CONVERSION, ORDERS, REVENUE, BASKET, PRICE, TAIL, TYPICAL, ADJUSTED)


def define(*metrics: Metric, treatment_share: float = 0.1) -> Definition:
    weights = (1 - treatment_share, treatment_share)
    return make_definition(metrics=metrics, weights=weights)


def look_at(
    definition: Definition, path: ExperimentPath, tick: int, *metrics: Sequence[MetricSums]
) -> Look:
    return compute_look(definition, totals_with(*metrics), cut=make_cut(tick), path_before=path)


def effect_of(look: Look) -> Any:
    return look.results["metrics"][0]["effects"][0]


# --- a look that is sparse again ---

FIRST = Sums(18_000, 3_600 * 50, 3_600 * 50**2), Sums(2_000, 400 * 80, 400 * 80**2)
"""One in five units has an order: of 50 in the control, of 80 in the treatment."""

ORDER = 15_000
"""Of one more unit of the control: with it totals are sparse for the treatment's 2,000 units."""

SPARSE = Sums(18_001, FIRST[0].sum_q + ORDER, FIRST[0].sum_squares_q + ORDER**2), FIRST[1]


@pytest.mark.parametrize("is_final", [False, True])
def test_one_large_order_takes_no_finding_back(is_final: bool) -> None:
    definition = define(REVENUE)
    first = compute_look(
        definition, make_totals(FIRST), cut=make_cut(1), path_before=ExperimentPath()
    )
    sparse = make_totals(SPARSE, is_final=is_final)
    later = compute_look(definition, sparse, cut=make_cut(2), path_before=first.path_after)
    alone = compute_look(definition, sparse, cut=make_cut(2), path_before=ExperimentPath())
    before, now = effect_of(first), effect_of(later)

    assert now["status"] == effect_of(alone)["status"] == "sparse"
    assert effect_of(alone)["absolute"]["always_valid"] is None
    assert now["decision"]["status"] == "ok"
    for name in ("p_value", "low", "high", "rejects"):
        assert now["decision"][name] == before["decision"][name]
    assert now["adjusted"] == before["adjusted"]
    assert now["adjusted"]["rejects"] is True
    assert later.results["verdict"]["reading"] == "improvement"
    shown = now["absolute"]["always_valid"]
    assert [shown[name] for name in ("p_value", "low", "high")] == [None] * 3
    assert shown["running_low"] == before["absolute"]["always_valid"]["running_low"]
    relative = now["relative"]["always_valid"]
    assert (relative["low"], relative["status"]) == (None, "sparse")
    assert relative["running_low"] == before["relative"]["always_valid"]["running_low"]
    assert now["decision"]["relative"]["low"] == relative["running_low"]
    assert later.path_after == first.path_after


def test_looks_that_contradict_each_other_still_do_at_one_that_is_sparse() -> None:
    """The 900 units that come to the treatment have no order; then one of the control is large."""
    control, orders = 26_100, 26_100 // 5
    treatment, large = Sums(2_900, *FIRST[1][1:]), 30_000
    fewer = Sums(control, orders * 50, orders * 50**2), treatment
    sparse = Sums(control + 1, orders * 50 + large, orders * 50**2 + large**2), treatment
    definition, path = define(REVENUE), ExperimentPath()
    for tick, arms in enumerate((FIRST, fewer, sparse), 1):
        look = compute_look(definition, make_totals(arms), cut=make_cut(tick), path_before=path)
        path = look.path_after

    assert effect_of(look)["status"] == "sparse"
    assert effect_of(look)["decision"]["status"] == "empty_intersection"
    assert look.results["verdict"]["reading"] == "inconsistent"


def test_sums_that_contradict_each_other_show_nothing_of_the_looks_before() -> None:
    definition = define(REVENUE)
    first = compute_look(
        definition, make_totals(FIRST), cut=make_cut(1), path_before=ExperimentPath()
    )
    broken = make_totals([FIRST[0], Sums(2_000, 400 * 80, 1)])
    later = compute_look(definition, broken, cut=make_cut(2), path_before=first.path_after)

    assert effect_of(later)["absolute"]["always_valid"] is None
    assert effect_of(later)["decision"]["p_value"] is None
    assert later.results["verdict"]["reading"] == "invalid"


# --- any growing totals ---


class World(NamedTuple):
    """Random units: their past, their orders and what these were worth."""

    seed: int
    treatment_share: float
    buying_share: float
    sigma: float
    lift: float
    added: list[int]
    outliers: list[int]


WORLDS = st.builds(
    World,
    seed=st.integers(0, 2**32 - 1),
    treatment_share=st.sampled_from([0.05, 0.1, 0.3, 0.5]),
    buying_share=st.sampled_from([0.02, 0.2, 0.6, 1.0]),
    sigma=st.sampled_from([0.5, 1.2, 2.0]),
    lift=st.sampled_from([0.0, 1.0, 4.0]),
    added=st.lists(st.integers(0, 3_000), min_size=5, max_size=5),
    outliers=st.lists(st.sampled_from([0, 0, 10**4, 10**6]), min_size=5, max_size=5),
)


def units_of(world: World) -> Iterator[list[tuple[Integers, Integers, Integers]]]:
    """Yield past, orders and values of the units of both variants, of all looks so far."""
    rng = np.random.default_rng(world.seed)
    arms = [(np.zeros(0, np.int64),) * 3] * 2
    shares = 1 - world.treatment_share, world.treatment_share
    for added, outlier in zip(world.added, world.outliers, strict=True):
        for index, share in enumerate(shares):
            count = round(added * share)
            orders = rng.poisson(1, count) + 1
            orders[rng.random(count) >= world.buying_share] = 0
            worth = np.exp(rng.normal(3 + world.lift * index / 4, world.sigma, count))
            new = rng.poisson(5, count), orders, np.rint(worth).astype(np.int64) * orders
            if outlier and index == 0:
                one = (np.array([value]) for value in (5, 1, outlier))
                new = tuple(map(np.append, new, one))  # type: ignore[assignment]
            past, bought, spent = map(np.append, arms[index], new)
            arms[index] = (past, bought, spent)
        yield list(arms)


def histogram_sums(values: Integers) -> MetricSums:
    buckets: dict[int, int] = {}
    for value, count in zip(*np.unique(values, return_counts=True), strict=True):
        bucket = bucket_of(int(value))
        buckets[bucket] = buckets.get(bucket, 0) + int(count)
    return MetricSums(joint(values), histogram=buckets)


def adjusted_sums(values: Integers, past: Integers) -> MetricSums:
    covariates: JointSums = joint(values, past)
    return MetricSums(covariates.of_first(1), covariates)


def sums_of(arm: tuple[Integers, Integers, Integers]) -> list[MetricSums]:
    """Return the sums of a variant, in the order of ``KINDS``."""
    past, orders, spent = arm
    return [
        MetricSums(joint((orders > 0).astype(np.int64))),
        MetricSums(joint(orders)),
        MetricSums(joint(spent)),
        MetricSums(joint(spent, 100 * orders)),
        MetricSums(joint(spent, orders)),
        grid_sums(spent),
        histogram_sums(spent),
        adjusted_sums(spent, past),
    ]


Shown = dict[tuple[str, str], tuple[float | None, dict[str, Any]]]


def shown_in(look: Look) -> Shown:
    """Return the cap and the running numbers that a look shows, by metric and scale."""
    shown: Shown = {}
    for metric in look.results["metrics"]:
        if metric["basis"] != "matured":
            continue
        [effect] = metric["effects"]
        cap = (metric["cap"] or {}).get("cap")
        scales = {"absolute": effect["absolute"], "relative": effect["relative"]}
        if effect["cuped"] is not None:
            scales |= {"cuped": effect["cuped"], "cuped/relative": effect["cuped"]["relative"]}
        for name, scale in scales.items():
            if scale["always_valid"] is not None:
                shown[metric["metric_id"], name] = cap, scale["always_valid"]
    return shown


def is_kept(before: dict[str, Any], now: dict[str, Any] | None) -> bool:
    """Return whether running numbers are shown again, and not wider: an empty one stays so."""
    if now is None or now.get("running_p_value", 1) > before.get("running_p_value", 1):
        return False
    if before["running_low"] is None:
        was_empty = before.get("status", "empty_intersection") == "empty_intersection"
        return not was_empty or now["running_low"] is None
    if now["running_low"] is None:
        return bool(now.get("status", "empty_intersection") == "empty_intersection")
    return bool(
        now["running_low"] >= before["running_low"]
        and now["running_high"] <= before["running_high"]
    )


@given(world=WORLDS)
@examples(100)
def test_what_runs_is_shown_at_every_later_look_and_never_widens(world: World) -> None:
    definition = define(*KINDS, treatment_share=world.treatment_share)
    path, known = ExperimentPath(), Shown()
    for tick, arms in enumerate(units_of(world), 1):
        look = look_at(definition, path, tick, *zip(*map(sums_of, arms), strict=True))
        path, shown = look.path_after, shown_in(look)
        caps = {one["metric_id"]: (one["cap"] or {}).get("cap") for one in look.results["metrics"]}
        for place, (cap, before) in known.items():
            if cap == caps[place[0]]:
                assert is_kept(before, shown.get(place, (cap, None))[1]), (place, tick)
        known = shown
        for metric in look.results["metrics"]:
            decision = metric["effects"][0].get("decision")
            numbers = shown.get((metric["metric_id"], (decision or {}).get("of", "")))
            if decision and numbers:
                assert decision["p_value"] == numbers[1]["running_p_value"]
                assert decision["low"] == numbers[1]["running_low"]
