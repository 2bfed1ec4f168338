"""POST /v1/power: questions of planning, their answers, and what is wrong with a question.

The arithmetic has tests of its own beside it; here the shapes, the rules and the words.
"""

import dataclasses
import math
from collections.abc import AsyncIterator
from typing import Any, get_args

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query_api.planning import (
    InvalidQuestionError,
    answer,
    inputs_of,
    read_question,
    without_unread,
)
from query_api.planning_split import read_split_question, split_answer
from query_api.routes_power import _EXAMPLES
from schemas.planning import Answer, Question, SplitAnswer
from stream_processors.stats.planning import PlanInputs, PlanResult, plan
from stream_processors.stats.planning_inputs import Goal
from tests.page.stub import Experiment, RichExperiment
from tests.query_api.application import Application, serving

KINDS = ("conversion", "count", "sum", "mean", "ratio", "quantile")
METHODS = ("always_valid", "group_sequential", "fixed_horizon", "bayesian")
RATE = {"kind": "conversion", "baseline": 0.1, "effect": {"relative": 0.1}}
TOTAL = {"kind": "sum", "baseline": 10.0, "sd": 25.0, "effect": {"absolute": 0.5}}


@pytest.fixture
async def app(dsn: str, database: str) -> AsyncIterator[Application]:
    async with serving(dsn, database) as application:
        yield application


async def ask(app: Application, **question: Any) -> httpx.Response:
    return await app.http.post("/v1/power", json=question)


def answered(**question: Any) -> Answer:
    return answer(read_question(question))


def wrong_fields(**question: Any) -> dict[str, str]:
    with pytest.raises(InvalidQuestionError) as caught:
        answered(**question)
    return {error.field: error.message for error in caught.value.errors}


async def test_a_question_is_answered_with_its_formula(app: Application) -> None:
    response = await ask(app, **RATE, method="fixed_horizon")
    found = response.json()
    assert response.status_code == 200
    # Pooled, by statsmodels: samplesize_proportions_2indep_onetail(0.01, 0.1, 0.8) = 14750.79.
    assert found["units_by_variant"] == [14_751, 14_751]
    assert found["units"] == 29_502
    assert found["formula"]["name"] == "pooled"
    assert found["formula"]["source"]
    assert found["power"] == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("name", _EXAMPLES)
async def test_every_example_of_the_documentation_is_answered(app: Application, name: str) -> None:
    found = (await ask(app, **_EXAMPLES[name]["value"])).json()
    for one in found.get("checks", [found]):
        assert one["status"] == "ok", found
    assert found["goal"] == (name if name in get_args(Goal) else "sample_size")


async def test_the_documentation_describes_every_field(app: Application) -> None:
    document = (await app.http.get("/openapi.json")).json()
    route = document["paths"]["/v1/power"]["post"]
    assert "$ref" not in str(route["requestBody"])
    for schema in (
        route["requestBody"]["content"]["application/json"]["schema"],
        route["responses"]["200"]["content"]["application/json"]["schema"],
    ):
        assert len(schema["anyOf"]) == 2  # Of a metric, and of the split.
        for one in schema["anyOf"]:
            assert [n for n, field in one["properties"].items() if not described(field)] == []


def described(schema: dict[str, Any]) -> bool:
    return "description" in schema or any(map(described, schema.get("anyOf", ())))


async def test_what_is_wrong_is_said_per_field_and_all_at_once(app: Application) -> None:
    response = await ask(app, kind="clicks", baseline="much", alpha=0.7, effects=1)
    found = response.json()
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert found["code"] == "invalid_plan"
    assert {one["field"] for one in found["errors"]} == {"kind", "baseline", "alpha", "effects"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(b"{", 400, "malformed"), (b"", 400, "malformed"), (b" " * 70_000, 413, "too_large")],
)
async def test_what_is_no_question_is_refused(
    app: Application, body: bytes, status: int, code: str
) -> None:
    response = await app.http.post("/v1/power", content=body)
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_an_answer_that_does_not_exist_says_so(app: Application) -> None:
    """A guardrail whose true effect lies beyond its margin is never shown to be harmless."""
    guardrail = {**TOTAL, "margin": {"absolute": 0.4}, "effect": {"absolute": -0.5}}
    found = (await ask(app, **guardrail)).json()
    assert found["status"] == "not_attainable"
    assert found["units"] is None
    assert found["notes"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_and_method_answers_every_question(kind: str, method: str) -> None:
    about: dict[str, Any] = {"kind": kind, "baseline": 0.4, "method": method}
    if kind != "conversion":
        about["sd"] = 1.5
    size = answered(**about, effect={"relative": 0.1})
    assert size.goal == "sample_size"
    assert size.power == pytest.approx(0.8, abs=0.003)
    power = answered(**about, effect={"relative": 0.1}, units=size.units)
    assert power.goal == "power"
    assert power.power == pytest.approx(size.power, abs=0.003)
    smallest = answered(**about, units=size.units)
    assert smallest.goal == "minimum_effect"
    assert smallest.effect == pytest.approx(0.04, rel=0.02)


def test_answers_are_those_of_the_statistics() -> None:
    question = read_question({**TOTAL, "method": "fixed_horizon", "variants": 3, "alpha": 0.01})
    direct = plan(
        PlanInputs(
            kind="sum",
            baseline=10.0,
            deviation=25.0,
            effect=0.5,
            effect_scale="absolute",
            alpha=0.01,
            weights=(1.0, 1.0, 1.0),
        )
    )
    assert answer(question).units == direct.units
    assert answer(question).comparisons == direct.comparisons == 2


def test_an_answer_holds_all_that_was_worked_out() -> None:
    names = {field.name for field in dataclasses.fields(PlanResult)}
    assert names <= {field.name for field in msgspec.structs.fields(Answer)}


def test_every_input_of_the_arithmetic_can_be_asked() -> None:
    called_otherwise = {
        "deviation": "sd",
        "treatment_deviation": "treatment_sd",
        "effect_scale": "effect",
        "margin_scale": "margin",
        "prior_mean": "prior",
        "prior_deviation": "prior",
        "window_days": "window",
    }
    fields = {field.name for field in msgspec.structs.fields(Question)}
    names = {field.name for field in dataclasses.fields(PlanInputs)}
    assert {called_otherwise.get(name, name) for name in names} <= fields


def test_days_stand_for_the_units_that_mature_in_them() -> None:
    question = {**RATE, "days": 10, "units_per_day": 1_000, "window": "72h", "ramp": [0.5, 1.0]}
    # Seven days of entering, the first at half: 6,500 units.
    assert inputs_of(read_question(question)).units == 6_500
    assert answered(**question).goal == "power"


def test_days_of_an_answer_end_with_the_window() -> None:
    found = answered(**RATE, method="fixed_horizon", units_per_day=1_000, window="48h")
    assert found.units is not None
    assert found.days == pytest.approx(found.units / 1_000 + 2, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"effect": {}}, {"effect"}),
        ({"effect": {"absolute": 0.01, "relative": 0.1}}, {"effect"}),
        ({"effect": {"relative": 0}}, {"effect"}),
        ({"effect": {"absolute": 0.95}}, {"effect"}),
        ({"effect": None}, {"units"}),
        ({"goal": "power"}, {"units"}),
        ({"units": 100, "days": 3, "sd": 2}, {"days", "units_per_day", "sd"}),
        ({"units": 3}, {"units"}),
        ({"days": 2, "units_per_day": 10, "window": "72h"}, {"days"}),
        ({"window": "soon"}, {"window"}),
        ({"baseline": 1.2}, {"baseline"}),
        ({"power": 0.04}, {"power"}),
        ({"weights": [1]}, {"weights"}),
        ({"weights": [1, -1]}, {"weights[1]"}),
        ({"planned_looks": [0.5, 0.4, 1.0]}, {"planned_looks"}),
        ({"planned_looks": [0.5]}, {"planned_looks"}),
        ({"formula": "normal"}, {"formula"}),
        ({"kind": "sum"}, {"sd"}),
        ({"kind": "quantile"}, {"quantile"}),
        ({"kind": "quantile", "quantile": 0.5}, {"density"}),
        ({"covariate_correlation": 1.0}, {"covariate_correlation"}),
        ({"prior": {"sd": 0}}, {"prior.sd"}),
        ({"margin": {"absolute": -1}}, {"margin"}),
    ],
)
def test_a_question_that_contradicts_itself_names_the_field(
    change: dict[str, Any], fields: set[str]
) -> None:
    assert wrong_fields(**RATE | change).keys() == fields


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        (RATE | {"method": "fixed_horizon", "n_star": 500}, {"n_star"}),
        (RATE | {"method": "always_valid", "spending": "pocock"}, {"spending"}),
        (RATE | {"method": "bayesian", "formula": "pooled", "looks": 7}, {"formula", "looks"}),
        (RATE | {"prior": {"sd": 1.0}, "threshold": 0.9}, {"prior", "threshold"}),
        (RATE | {"method": "group_sequential", "spending_power": 2.0}, {"spending_power"}),
        (RATE | {"units": 1_000, "power": 0.9}, {"power"}),
        (RATE | {"goal": "sample_size", "units": 1_000}, {"units"}),
        (RATE | {"covariate_share": 0.5}, {"covariate_share"}),
        (RATE | {"ramp": [0.5, 1.0]}, {"ramp"}),
        (RATE | {"weights": [1, 1], "variants": 3}, {"variants"}),
        (TOTAL | {"quantile": 0.5, "density": 1.0}, {"quantile", "density"}),
    ],
)
def test_a_field_that_nothing_reads_is_refused(fields: dict[str, Any], wrong: set[str]) -> None:
    errors = wrong_fields(**fields)
    assert errors.keys() == wrong
    assert all("leave it out" in message for message in errors.values())


def test_a_default_that_is_written_out_says_nothing() -> None:
    written = {"method": "fixed_horizon", "spending": "obrien_fleming", "looks": 100, "tau": None}
    assert answered(**RATE | written) == answered(**RATE, method="fixed_horizon")


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        (TOTAL | {"sd": 1e308}, "sd"),
        (TOTAL | {"sd": 5e-324}, "sd"),
        (TOTAL | {"sd": math.inf}, "sd"),
        (TOTAL | {"baseline": 1e200, "effect": {"relative": 0.1}}, "baseline"),
        (TOTAL | {"effect": {"absolute": 1e-300}}, "effect"),
        (TOTAL | {"effect": {"absolute": math.nan}}, "effect"),
        (TOTAL | {"treatment_sd": 1e300}, "treatment_sd"),
        (RATE | {"baseline": 1e-320}, "baseline"),
        (RATE | {"weights": [1, 1e-300]}, "weights"),
        (RATE | {"weights": [1e308, 1e308, 1.0]}, "weights"),
        (RATE | {"alpha": 5e-324}, "alpha"),
        (RATE | {"power": 1 - 1e-16}, "power"),
        (RATE | {"tau": 1e300}, "tau"),
        (RATE | {"units": 2**53 + 1}, "units"),
        (RATE | {"days": 1e300, "units_per_day": 1e300}, "days"),
        (RATE | {"days": 30_000, "units_per_day": 1e12}, "days"),
        (RATE | {"window": "9" * 400 + "d"}, "window"),
        (RATE | {"method": "group_sequential", "planned_looks": [1e-300, 1]}, "planned_looks"),
        (RATE | {"method": "bayesian", "prior": {"sd": 1e-200}}, "prior.sd"),
    ],
)
def test_a_number_that_leaves_the_floats_is_refused(fields: dict[str, Any], wrong: str) -> None:
    assert wrong in wrong_fields(**fields)


NUMBERS = st.one_of(
    st.sampled_from([0.0, 5e-324, 1e-200, 1e-31, 1e-9, 0.5, 1.0, 1e9, 1e31, 1e200, 1.7e308]),
    st.sampled_from([1 - 1e-16, math.inf, math.nan, -1.0, -1e308, 2**53 + 1, 2**64, 10**400]),
    st.floats(allow_nan=True, allow_infinity=True),
)
SIZES = st.builds(
    lambda scale, one: {scale: one}, st.sampled_from(["absolute", "relative"]), NUMBERS
)
ANY_FIELD = st.one_of(
    st.tuples(
        st.sampled_from(
            [
                "baseline",
                "sd",
                "treatment_sd",
                "density",
                "quantile",
                "alpha",
                "power",
                "units",
                "days",
                "units_per_day",
                "n_star",
                "tau",
                "covariate_correlation",
                "threshold",
                "spending_power",
                "decision_metrics",
            ]
        ),
        NUMBERS,
    ),
    st.tuples(st.sampled_from(["effect", "margin"]), SIZES),
    st.tuples(st.just("weights"), st.lists(NUMBERS, min_size=1, max_size=3)),
    st.tuples(st.just("ramp"), st.lists(NUMBERS, min_size=1, max_size=2)),
    st.tuples(
        st.just("prior"), st.builds(lambda sd, mean: {"sd": sd, "mean": mean}, NUMBERS, NUMBERS)
    ),
    st.tuples(st.just("planned_looks"), st.lists(NUMBERS, max_size=2).map(lambda one: [*one, 1])),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    method=st.sampled_from(METHODS),
    goal=st.sampled_from(["sample_size", "power", "minimum_effect"]),
    extremes=st.lists(ANY_FIELD, min_size=1, max_size=2),
)
def test_whatever_is_asked_is_answered_in_finite_numbers_or_refused(
    kind: str, method: str, goal: str, extremes: list[tuple[str, Any]]
) -> None:
    base = {
        "conversion": {"baseline": 0.1},
        "quantile": {"baseline": 9, "quantile": 0.9, "density": 0.1},
    }
    question: dict[str, Any] = {"kind": kind, "method": method}
    question |= base.get(kind, {"baseline": 10, "sd": 25})
    question |= {} if goal == "minimum_effect" else {"effect": {"absolute": 0.02}}
    question |= {} if goal == "sample_size" else {"units": 20_000}
    question |= {"looks": 3} if method == "always_valid" else {}
    question = without_unread(question | dict(extremes))
    try:
        found = msgspec.to_builtins(answered(**question))
    except InvalidQuestionError as error:
        for one in error.errors:
            assert (bool(one.field), bool(one.message), one.code) == (True, True, "invalid")
        return
    numbers = [found, *found.values(), *found["boundaries"]]
    assert all(math.isfinite(one) for one in numbers if isinstance(one, float))
    assert found["power"] is None or 0 <= found["power"] <= 1 + 1e-9


SPLIT = {"kind": "sample_ratio"}


def split(**question: Any) -> SplitAnswer:
    return split_answer(read_split_question(SPLIT | question))


def test_the_power_of_the_split_is_answered_for_both_checks() -> None:
    watched, at_end = split(loss=0.01).checks
    assert (watched.check, at_end.check) == ("sequential", "chi_square")
    assert at_end.units is not None
    assert watched.units is not None
    assert 1_000_000 < at_end.units < watched.units < 1.6 * at_end.units
    assert watched.power == pytest.approx(0.99, abs=1e-4)
    again = split(units=watched.units).checks[0]
    assert again.loss == pytest.approx(0.01, rel=1e-3)
    assert split(units=1_000_000, loss=0.01).checks[0].power == pytest.approx(0.72, abs=0.01)
    assert split(units=20).checks[0].status == "not_attainable"


@pytest.mark.parametrize(
    ("question", "wrong"),
    [
        ({}, "units"),
        ({"loss": 0.1, "variant": 2}, "variant"),
        ({"loss": 0.1, "units": 1_000, "power": 0.9}, "power"),
        ({"units": 9}, "units"),
        ({"loss": 0.1, "weights": [1e9, 1e-9]}, "weights"),
        ({"loss": 0.1, "baseline": 1}, "baseline"),
    ],
)
def test_a_wrong_question_about_the_split_names_the_field(
    question: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(InvalidQuestionError) as caught:
        split(**question)
    assert [error.field for error in caught.value.errors] == [wrong]


async def test_the_split_is_asked_at_the_same_door(app: Application) -> None:
    found = (await ask(app, **SPLIT, units=100_000)).json()
    assert [one["check"] for one in found["checks"]] == ["sequential", "chi_square"]
    refused = await ask(app, **SPLIT)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "units")


def test_a_curve_rises_through_the_answer() -> None:
    found = answered(**RATE, method="fixed_horizon", curve=True)
    assert found.curve is not None
    powers = [point.power for point in found.curve]
    assert powers == sorted(powers)
    assert powers[0] < 0.3
    assert powers[-1] > 0.95
    nearest = min(found.curve, key=lambda point: abs(point.units - (found.units or 0)))
    assert nearest.power == pytest.approx(0.8, abs=0.03)
    assert answered(**RATE, method="fixed_horizon").curve is None


def test_no_number_of_an_answer_is_infinite() -> None:
    found = msgspec.to_builtins(answered(**TOTAL | {"sd": 1e9}, units_per_day=1))
    numbers = [value for value in found.values() if isinstance(value, float)]
    assert numbers
    assert all(map(math.isfinite, numbers))


def publish(app: Application, experiment: Experiment) -> None:
    """Publish what there is of an experiment."""
    results = experiment.results()
    if results["look"]:
        results["look"] |= {"log_id": "log-1", "sha256": "0" * 64}
    record = {
        "definition": experiment.definition(),
        "results": results if results["look"] else None,
    }
    app.parts.snapshots.take(experiment.experiment_id, msgspec.json.encode(record))


async def planned(app: Application, **query: Any) -> Any:
    response = await app.http.get("/v1/experiments/new-basket/plan", params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_running_experiment_is_planned_with_its_own_numbers(app: Application) -> None:
    experiment = RichExperiment("new-basket", size=2_000)
    experiment.advance()
    publish(app, experiment)
    [entry] = [
        one
        for one in experiment.results()["metrics"]
        if (one["metric_id"], one["basis"]) == ("spend", "matured")
    ]
    control, [effect] = entry["variants"][0], entry["effects"]

    found = await planned(app, metric="spend", relative_effect=0.1)

    assert found["metric_id"] == "spend"
    assert found["units"] == sum(one["units"] for one in entry["variants"])
    assert found["question"]["baseline"] == control["mean"]
    assert found["question"]["sd"] == pytest.approx(entry["variants"][0]["variance"] ** 0.5)
    correlation = found["question"]["covariate_correlation"]
    assert correlation**2 == pytest.approx(effect["cuped"]["variance_reduction"])
    assert found["question"]["decision_metrics"] == 2
    assert msgspec.convert(found["answer"], Answer) == answered(**found["question"], curve=True)
    assert len(found["answer"]["curve"]) > 10
    # The hypothesis of this experiment has a minimum effect of 2 %.
    assert (await planned(app))["answer"]["relative_effect"] == pytest.approx(0.02)
    assert (await planned(app, power=0.9))["answer"]["wanted_power"] == 0.9
    assert (await planned(app, method="fixed_horizon"))["answer"]["method"] == "fixed_horizon"
    guarded = await planned(app, metric="load_time")
    assert guarded["question"]["margin"] == {"relative": 0.05}


async def test_without_an_effect_the_smallest_is_worked_out(app: Application) -> None:
    experiment = Experiment("new-basket", units=(4_000, 4_000), rates=(0.1, 0.1))
    experiment.advance()
    publish(app, experiment)
    found = await planned(app)
    assert found["answer"]["goal"] == "minimum_effect"
    assert found["answer"]["units"] == pytest.approx(6_410, abs=4)


async def test_what_cannot_be_planned_yet_says_why(app: Application) -> None:
    draft = Experiment("new-basket", status="draft")
    publish(app, draft)
    path = "/v1/experiments/new-basket/plan"
    waiting = await app.http.get(path)
    assert (waiting.status_code, waiting.json()["code"]) == (409, "not_measured")
    draft.status = "running"
    draft.advance()
    publish(app, draft)
    unknown = await app.http.get(path, params={"metric": "clicks"})
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (422, "metric")
    nothing = await app.http.get("/v1/experiments/nothing/plan")
    assert nothing.status_code == 404
