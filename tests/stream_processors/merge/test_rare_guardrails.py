"""Guardrails that have no burn-in behind them: rare events, and variants that say nothing yet."""

from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.definitions import Metric, Variant
from stream_processors.merge.look import Asked, Look, compute_looks
from stream_processors.merge.path import ExperimentPath
from stream_processors.stats.sums import Sums
from tests.seeds import examples
from tests.stream_processors.merge.builders import (
    finite_numbers_only,
    make_cut,
    make_totals,
    rate,
)
from tests.stream_processors.merge.test_methods import (
    CONVERSION,
    define,
    effect_of,
    look_at,
)
from tests.stream_processors.merge.test_methods import (
    METHODS as ALL_METHODS,
)
from tests.stream_processors.merge.test_methods import (
    Method as AnyMethod,
)

HOUR_MS = 3_600_000
BETTER = [rate(10_000, 1_000), rate(10_000, 2_000)]
Method = Literal["always_valid", "fixed_horizon", "bayesian"]
Margins = dict[Literal["absolute", "relative"], float]


def crash(kind: Literal["conversion", "count"] = "conversion", **fields: Any) -> Metric:
    return Metric(
        "crash", kind, "crash", role="guardrail", direction="decrease", window_ms=HOUR_MS, **fields
    )


def look_with(metric: Metric, *arms: Sums, method: Method = "always_valid", **more: Any) -> Look:
    totals = make_totals(BETTER, list(arms), is_final=method == "fixed_horizon")
    return look_at(define(method, CONVERSION, metric), totals, **more)


def reading_of(look: Look) -> tuple[str, str]:
    verdict = look.results["verdict"]
    return verdict["reading"], verdict["reasons"][-1]["text"]


@pytest.mark.parametrize("margin", [None, {"absolute": 0.001}])
def test_crashes_that_the_control_hardly_has_are_harm_without_a_burn_in(
    margin: Margins | None,
) -> None:
    look = look_with(crash(margin=margin), rate(10_000, 5), rate(10_000, 1_500))
    rail = effect_of(look, "crash")["guardrail"]
    assert (rail["status"], rail["is_harmed"], rail["converted"]) == ("harm", True, [5, 1_500])
    reading, text = reading_of(look)
    assert reading == "guardrail_failed"
    assert "by the exact test of its 1,500 converted units against 5" in text


def test_a_few_crashes_more_are_no_harm_and_the_text_says_what_was_tested() -> None:
    look = look_with(crash(), rate(10_000, 5), rate(10_000, 7))
    reading, text = reading_of(look)
    assert effect_of(look, "crash")["guardrail"]["status"] == "watched"
    assert reading == "improvement"
    assert "none was shown by the exact test of its 7 converted units" in text


def test_a_margin_waits_for_conversions_not_for_units() -> None:
    look = look_with(crash(margin={"absolute": 0.01}), rate(10_000, 5), rate(10_000, 7))
    reading, text = reading_of(look)
    assert reading == "improvement_guardrails_open"
    assert "too few converted units" in text
    assert "too few units" not in text


def test_exact_harm_outlives_later_looks_and_the_burn_in() -> None:
    first = look_with(crash(), rate(10_000, 0), rate(10_000, 25))
    later = look_with(crash(), rate(10_000, 40), rate(10_000, 41), path=first.path_after)
    fresh = look_with(crash(), rate(10_000, 40), rate(10_000, 41), path=ExperimentPath())
    rails = [effect_of(look, "crash")["guardrail"] for look in (first, later, fresh)]
    assert [rail["status"] for rail in rails] == ["harm", "harm", "watched"]
    assert rails[1]["harm_p_value"] == rails[0]["harm_p_value"] < 0.05


METHODS: tuple[Method, ...] = ("always_valid", "fixed_horizon", "bayesian")


@pytest.mark.parametrize("method", METHODS)
def test_what_could_not_be_tested_is_open_and_not_all_clear(method: Method) -> None:
    """No crash in 101 units, where 1 in 50 has one: their variance of 0 is chance."""
    look = look_with(crash("count"), rate(9_999, 200), rate(101, 0), method=method)
    reading, text = reading_of(look)
    assert effect_of(look, "crash")["status"] == "one_variance_zero"
    assert reading == "improvement_guardrails_open"
    assert "is not tested yet: it has the same value for every unit of one variant" in text


@pytest.mark.parametrize("method", METHODS)
def test_no_crash_at_all_leaves_nothing_to_test(method: Method) -> None:
    look = look_with(crash("count"), rate(10_000, 0), rate(10_000, 0), method=method)
    assert reading_of(look)[0] == "improvement"


@pytest.mark.parametrize("method", METHODS)
def test_a_variant_without_orders_by_chance_decides_nothing(method: Method) -> None:
    orders = Metric("orders", "count", "purchase", window_ms=HOUR_MS)
    is_final = method == "fixed_horizon"
    totals = make_totals(BETTER, [rate(9_999, 200), rate(101, 0)], is_final=is_final)
    decision = effect_of(look_at(define(method, CONVERSION, orders), totals), "orders")["decision"]
    assert decision["status"] == "one_variance_zero"
    assert (decision["p_value"], decision["rejects"]) == (None, None)


WEIGHTS = st.sampled_from([0.0, 5e-324, 1e-300, 1e-17, 1e-9, 0.05, 1.0])


@pytest.mark.parametrize("method", ALL_METHODS)
@given(data=st.data())
@examples(100)
def test_units_where_none_were_planned_end_no_look(method: AnyMethod, data: Any) -> None:
    """A weight may be 0, or far below the others; a client that assigns anyway stops nobody."""
    weights = data.draw(st.tuples(WEIGHTS, WEIGHTS, WEIGHTS).filter(any))
    made = define(method, CONVERSION, crash(), variants=3)
    variants = [
        Variant(one.id, weight / sum(weights), is_control=one.is_control)
        for one, weight in zip(made.variants, weights, strict=True)
    ]
    units = data.draw(st.tuples(*[st.sampled_from([1, 2, 150, 2_000])] * 3))
    arms = [rate(count, data.draw(st.integers(0, count))) for count in units]
    definition = msgspec.structs.replace(made, variants=variants)
    path = ExperimentPath()
    for tick, is_final in enumerate((False, True), 1):
        look = look_at(definition, make_totals(arms, arms, is_final=is_final), path, tick)
        assert finite_numbers_only(look.record)
        path = look.path_after
        if 0.0 in weights:
            assert look.results["verdict"]["reading"] == "sample_ratio_mismatch"


@pytest.mark.parametrize("weights", [(0.5, 0.5, 0.0), (0.0, 0.5, 0.5), (1.0, 1e-17, 1e-17)])
def test_a_unit_in_a_variant_without_a_weight_is_a_broken_split(
    weights: tuple[float, ...],
) -> None:
    made = define("always_valid", CONVERSION, crash(), variants=3)
    variants = [
        Variant(one.id, weight, is_control=one.is_control)
        for one, weight in zip(made.variants, weights, strict=True)
    ]
    arms = [rate(1_000, 100)] * 3
    definition = msgspec.structs.replace(made, variants=variants)
    look = look_at(definition, make_totals(arms, arms))
    assert look.results["verdict"]["reading"] == "sample_ratio_mismatch"
    entry = next(one for one in look.results["metrics"] if one["metric_id"] == "crash")
    assert "converted" not in entry["effects"][-1]["guardrail"]


def kept(**fields: Any) -> Metric:
    return Metric("keep", "conversion", "keep", role="guardrail", window_ms=HOUR_MS, **fields)


def test_a_planned_look_of_a_guardrail_waits_for_the_burn_in_and_spends_nothing() -> None:
    """38 of 1,900 against 0 of 100: Wald's standard error of the treatment is 0."""
    definition = define("group_sequential", CONVERSION, kept())
    first = look_at(
        definition, make_totals([rate(1_900, 570), rate(100, 30)], [rate(1_900, 38), rate(100, 0)])
    )
    later = [rate(2_000, 600), rate(2_000, 600)], [rate(2_000, 40), rate(2_000, 41)]
    taken = look_at(definition, make_totals(*later), first.path_after, 2)
    straight = look_at(definition, make_totals(*later), tick=2)

    effect = effect_of(first, "keep")
    rail = effect["guardrail"]
    assert rail["reason"] == effect["decision"]["status"] == "warming_up"
    assert (rail["status"], rail["is_harmed"], rail["harm_p_value"]) == ("watched", False, None)
    assert first.path_after.of("keep", "treatment").guard is None
    guards = [look.path_after.of("keep", "treatment").guard for look in (taken, straight)]
    assert guards[0] == guards[1]
    assert guards[0] is not None


def test_planned_looks_of_a_small_variant_seldom_show_harm_that_is_none() -> None:
    """A/A, 95:5, 2 % of units convert; with looks before the burn-in it was one in four."""
    rng, experiments, alpha = np.random.default_rng(20_261_122), 100, 0.05
    definition = define("group_sequential", CONVERSION, kept(), spending="pocock")
    units = np.array([[1_900, 100]]) * np.arange(1, 6)[:, None]
    converted = rng.binomial((1_900, 100), 0.02, size=(experiments, 5, 2)).cumsum(axis=1)
    paths = [ExperimentPath()] * experiments
    shown = np.zeros(experiments, dtype=bool)
    for index, (control, treatment) in enumerate(units.tolist()):
        sold = [rate(control, 3 * control // 10), rate(treatment, 3 * treatment // 10)]
        asked = [
            Asked(
                definition,
                make_totals(
                    sold,
                    [rate(control, int(row[0])), rate(treatment, int(row[1]))],
                    is_final=index == 4,
                ),
                make_cut(index + 1),
                path,
            )
            for row, path in zip(converted[:, index], paths, strict=True)
        ]
        looks = compute_looks(asked)
        paths = [look.path_after for look in looks]
        shown |= [effect_of(look, "keep")["guardrail"]["is_harmed"] for look in looks]
    assert shown.mean() <= alpha


@pytest.mark.parametrize("kind", ["conversion", "count"])
@pytest.mark.parametrize(("units", "is_tested"), [(1, False), (2, False), (99, False), (100, True)])
def test_the_first_units_of_a_guardrail_are_no_good_news(
    kind: Literal["conversion", "count"], units: int, *, is_tested: bool
) -> None:
    """No crash among a handful of units is what a treatment that crashes has, too."""
    look = look_with(crash(kind), rate(units, 0), rate(units, 0))
    said, text = reading_of(look)
    assert said == ("improvement" if is_tested else "improvement_guardrails_open")
    assert ("is not tested yet" in text) is not is_tested


def test_harm_among_the_first_units_counts_all_the_same() -> None:
    look = look_with(crash(), rate(60, 0), rate(60, 40))
    assert reading_of(look)[0] == "guardrail_failed"


MARGINS: tuple[Margins | None, ...] = (None, {"absolute": 0.01}, {"relative": 0.3})


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("direction", ["increase", "decrease"])
@pytest.mark.parametrize("arms", [((1_900, 24), (100, 0)), ((200, 1), (200, 9)), ((40, 9), (9, 0))])
def test_a_believed_guardrail_of_a_rate_has_the_chances_of_its_posteriors(
    arms: tuple[tuple[int, int], tuple[int, int]],
    direction: Literal["increase", "decrease"],
    margin: Margins | None,
) -> None:
    """Against draws of both Beta posteriors, and the posterior that stands beside it."""
    metric = kept(direction=direction, margin=margin)
    effect = effect_of(look_with(metric, *(rate(*arm) for arm in arms), method="bayesian"), "keep")
    rail, posterior = effect["guardrail"], effect["absolute"]["posterior"]
    rng = np.random.default_rng(20_261_122)
    control, treatment = (rng.beta(1 + k, 1 + n - k, 400_000) for n, k in arms)
    gain = treatment - control if direction == "increase" else control - treatment
    assert rail["chance_worse"] == pytest.approx(1 - posterior["chance"], abs=1e-9)
    assert rail["chance_worse"] == pytest.approx(np.mean(gain < 0), abs=4e-3)
    assert np.mean(gain < rail["low"]) == pytest.approx(0.05, abs=2e-3)
    assert np.mean(gain > rail["high"]) == pytest.approx(0.05, abs=2e-3)
    if margin is not None:
        room = margin.get("absolute", margin.get("relative", 0.0) * control)
        assert rail["chance_within_margin"] == pytest.approx(np.mean(gain > -room), abs=4e-3)


def test_a_small_variant_without_conversions_is_not_believed_to_be_harmed() -> None:
    """Student's t of it was certain; the posterior says 0.73."""
    look = look_with(kept(), rate(1_900, 24), rate(100, 0), method="bayesian")
    rail = effect_of(look, "keep")["guardrail"]
    assert (rail["status"], rail["is_harmed"]) == ("watched", False)
    assert rail["chance_worse"] == pytest.approx(0.728, abs=1e-3)


@pytest.mark.parametrize("margin", [None, {"absolute": 1e-4}])
def test_a_prior_alone_shows_no_harm(margin: Margins | None) -> None:
    """A uniform prior expects more crashes of few units: it has none to show for it."""
    look = look_with(crash(margin=margin), rate(10_000, 0), rate(100, 0), method="bayesian")
    rail = effect_of(look, "crash")["guardrail"]
    assert rail["chance_worse"] > 0.98
    assert rail["status"] == ("watched" if margin is None else "undecided")
    assert rail["is_harmed"] is False
