"""A look has a posterior, or says why it has none: never NaN, never a raise."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from schemas.definitions import Analysis, Metric, Prior
from stream_processors.merge.look import Asked, Look, compute_looks
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.totals import Totals
from stream_processors.stats.sums import JointSums, MetricSums, Sums
from tests.stream_processors.merge.builders import (
    finite_numbers_only,
    make_cut,
    make_definition,
    make_totals,
)

HOUR_MS = 3_600_000
REVENUE = Metric("revenue", "sum", "purchase", window_ms=HOUR_MS, precision=0)
ADJUSTED = msgspec.structs.replace(REVENUE, covariate_days=7)
PLAIN_TOTALS = make_totals((Sums(1_000, 50_000, 3_333_333), Sums(1_000, 60_000, 4_333_333)))


def look_of(metric: Metric, totals: Totals, prior: Prior | None) -> Look:
    """Return the look of an experiment beside a sound one, which is the same as without it."""
    definitions = [
        msgspec.structs.replace(
            make_definition(metrics=[one]), id=name, analysis=Analysis("bayesian", prior=its)
        )
        for name, one, its in (("tried", metric, prior), ("sound", REVENUE, None))
    ]
    asked = [
        Asked(one, sums, make_cut(1), ExperimentPath())
        for one, sums in zip(definitions, (totals, PLAIN_TOTALS), strict=True)
    ]
    tried, sound = compute_looks(asked)
    assert (sound,) == tuple(compute_looks(asked[1:]))
    assert finite_numbers_only(tried.record)
    return tried


def matured_effect(look: Look) -> Any:
    return next(one for one in look.results["metrics"] if one["basis"] == "matured")["effects"][0]


def with_newcomers(newcomers: Sequence[int]) -> MetricSums:
    """Return 1,000 units whose past explains them in part, and units without a past."""
    y, x = [index % 100 for index in range(1_000)], [index % 10 for index in range(1_000)]
    products = (
        sum(one * one for one in y),
        sum(one * other for one, other in zip(y, x, strict=True)),
        sum(one * one for one in x),
    )
    past = JointSums(len(y), (sum(y), sum(x)), products)
    squares = sum(spent * spent for spent in newcomers)
    total = past.of_first(1).plus(JointSums(len(newcomers), (sum(newcomers),), (squares,)))
    return MetricSums(total, past)


def totals_of(*arms: MetricSums) -> Totals:
    units = tuple(one.total.unit_count for one in arms)
    return Totals(units, 0, (arms,), (arms,), (0,), {})


@pytest.mark.parametrize("prior", [None, Prior(sd=1.0)], ids=["flat", "prior"])
def test_an_adjusted_effect_whose_error_is_one_units_waits_for_more(prior: Prior | None) -> None:
    totals = totals_of(with_newcomers([0, 3]), with_newcomers([0, 10**6]))

    look = look_of(ADJUSTED, totals, prior)

    effect = matured_effect(look)
    cuped, decision = effect["cuped"], effect["decision"]
    assert (cuped["handling"], cuped["status"]) == ("two_strata", "ok")
    assert cuped["estimate"] is not None
    assert (cuped["posterior"], cuped["relative"]["posterior"]) == (None, None)
    assert (decision["of"], decision["status"]) == ("cuped", "insufficient")
    assert (
        "one unit makes up most of the standard error"
        in look.results["verdict"]["reasons"][0]["text"]
    )


@pytest.mark.parametrize("prior", [None, Prior(sd=1.0)], ids=["flat", "prior"])
def test_an_adjusted_effect_of_two_strata_is_believed(prior: Prior | None) -> None:
    arms = [with_newcomers([lift + 7 * index % 50 for index in range(20)]) for lift in (0, 1)]

    effect = matured_effect(look_of(ADJUSTED, totals_of(*arms), prior))

    assert effect["cuped"]["handling"] == "two_strata"
    assert effect["cuped"]["posterior"]["model"] == "student"
    assert (effect["cuped"]["relative"]["posterior"] is None) == (prior is not None)
    assert effect["decision"]["status"] == "ok"


def test_two_units_have_no_relative_posterior_of_fewer_than_two_degrees_of_freedom() -> None:
    few = make_totals((Sums(1_000, 50_000, 3_333_333), Sums(2, 100, 9_000)))

    effect = matured_effect(look_of(REVENUE, few, None))

    assert effect["relative"]["estimate"] is not None
    assert effect["relative"]["posterior"] is None
    assert effect["decision"]["status"] == "insufficient"


@pytest.mark.parametrize(
    "prior",
    [Prior(1e-200), Prior(1e300), Prior(1.0, 1e200), Prior(1.0, -1e200), Prior(5e-324, 1.7e308)],
    ids=str,
)
def test_a_prior_of_an_older_definition_that_overflows_is_named(prior: Prior) -> None:
    look = look_of(REVENUE, PLAIN_TOTALS, prior)

    effect = matured_effect(look)
    assert (effect["status"], effect["absolute"]["estimate"]) == ("ok", 10.0)
    assert effect["absolute"]["posterior"] is None
    assert effect["decision"]["status"] == "invalid_prior"
    assert "another prior or without one" in look.results["verdict"]["reasons"][0]["text"]


@pytest.mark.parametrize("sd", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("mean", [-1e30, 0.0, 1e30])
def test_every_prior_that_may_be_posted_leaves_numbers(sd: float, mean: float) -> None:
    effect = matured_effect(look_of(REVENUE, PLAIN_TOTALS, Prior(sd, mean)))

    posterior = effect["absolute"]["posterior"]
    assert effect["decision"]["status"] == "ok"
    assert None not in posterior.values()
    assert posterior["low"] <= posterior["mean"] <= posterior["high"]
