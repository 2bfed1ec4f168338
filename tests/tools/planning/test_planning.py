"""``litmus plan``: options become a question, a running experiment fills in what is not given."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from query_api.measuring import NotMeasuredError, UnknownMetricError, read
from query_api.planning import answer, read_question
from tests.page.stub import Experiment, StubServer, World
from tools.cli import app
from tools.errors import LitmusError
from tools.planning.command import answers_to

RATE = ("--kind", "conversion", "--baseline", "0.05", "--relative-effect", "0.1")


def litmus_plan(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["plan", *arguments])


def planned(*arguments: str) -> dict[str, Any]:
    result = litmus_plan(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def world() -> World:
    """A query API with an experiment that has run for a day: 0.8 of its units have matured."""
    world = World()
    world.add(Experiment("checkout-color", units=(24_000, 24_050), rates=(0.11, 0.112)))
    experiment = world.experiments["checkout-color"]
    experiment.started_ms -= 86_400_000 - 3_600_000
    world.advance("checkout-color")
    return world


@pytest.fixture
def query(world: World) -> Iterator[str]:
    server = StubServer(world)
    server.start()
    yield server.address
    server.stop()


def test_a_rate_at_one_look_needs_what_the_textbook_says() -> None:
    # statsmodels: samplesize_proportions_2indep_onetail(0.005, 0.05, 0.8) is 31,233.4.
    found = planned(*RATE, "--method", "fixed_horizon")
    assert found["units_by_variant"] == [31_234, 31_234]
    assert found["formula"]["name"] == "pooled"


def test_every_option_reaches_the_question() -> None:
    found = planned(
        "--kind", "sum", "--baseline", "10", "--sd", "20", "--effect", "0.5",
        "--units-per-day", "1000", "--window", "48h", "--weight", "0.5", "--weight", "0.25",
        "--weight", "0.25", "--decision-metrics", "2", "--alpha", "0.1", "--power", "0.9",
        "--method", "group_sequential", "--planned-look", "0.5", "--planned-look", "1",
        "--spending", "pocock", "--correlation", "0.5", "--correlation-share", "0.8",
    )  # fmt: skip
    question = {
        "kind": "sum",
        "baseline": 10.0,
        "sd": 20.0,
        "effect": {"absolute": 0.5},
        "units_per_day": 1_000.0,
        "window": "48h",
        "weights": [0.5, 0.25, 0.25],
        "decision_metrics": 2,
        "alpha": 0.1,
        "power": 0.9,
        "method": "group_sequential",
        "planned_looks": [0.5, 1.0],
        "spending": "pocock",
        "covariate_correlation": 0.5,
        "covariate_share": 0.8,
    }
    direct = answer(read_question(question))
    assert found["units"] == direct.units
    assert found["days"] == direct.days
    assert found["comparisons"] == 4
    assert len(found["boundaries"]) == 2


def test_a_person_sees_the_answer_and_by_what_it_was_computed() -> None:
    shown = litmus_plan(*RATE, "--method", "fixed_horizon", "--units-per-day", "8000").stdout
    assert "31,234, 31,234" in shown
    assert "days" in shown
    assert "Fleiss, Levin, Paik" in shown


def test_all_methods_stand_side_by_side() -> None:
    found = planned(*RATE, "--method", "all")
    assert [one["method"] for one in found] == [
        "always_valid",
        "group_sequential",
        "fixed_horizon",
        "bayesian",
    ]
    always_valid, group_sequential, fixed, _ = (one["units"] for one in found)
    assert fixed < group_sequential < always_valid
    shown = litmus_plan(*RATE, "--method", "all").stdout
    assert "group sequential" in shown
    assert f"{always_valid:,}" in shown


def test_a_curve_is_drawn() -> None:
    shown = litmus_plan(*RATE, "--method", "fixed_horizon", "--curve").stdout
    assert shown.count("█") > 100


def test_the_split_is_planned_too() -> None:
    found = planned("--kind", "sample_ratio", "--loss", "0.01")
    assert [one["check"] for one in found["checks"]] == ["sequential", "chi_square"]
    result = litmus_plan(
        "--kind", "sample_ratio", "--weight", "9", "--weight", "1", "--units", "9000"
    )
    assert result.exit_code == 0
    assert "sample_ratio_sequential" in result.stdout
    refused = litmus_plan("--kind", "sample_ratio", "--loss", "0.1", "--lost-variant", "2")
    assert refused.exit_code == 1
    assert "--lost-variant: 2, must be 0 to 1" in refused.output


def test_what_is_wrong_names_the_option() -> None:
    result = litmus_plan("--kind", "conversion", "--baseline", "1.5", "--effect", "0.1")
    assert result.exit_code == 1
    assert "--baseline: 1.5, must be a rate of" in result.output
    assert "--baseline: must be there" in litmus_plan("--kind", "sum").output
    assert "--correlation: " in litmus_plan(*RATE, "--correlation", "2").output
    assert "need --experiment" in litmus_plan(*RATE, "--metric", "purchase").output


def test_a_plan_that_cannot_be_met_is_no_success() -> None:
    guardrail = ("--kind", "sum", "--baseline", "10", "--sd", "5", "--margin", "0.1")
    result = litmus_plan(*guardrail, "--effect", "-0.2")
    assert result.exit_code == 2
    assert "not attainable" in result.stdout


def test_a_running_experiment_gives_baseline_traffic_and_method(query: str) -> None:
    found = planned("--experiment", "checkout-color", "--query", query, "--relative-effect", "0.1")
    assert found["baseline"] == pytest.approx(0.11, rel=1e-3)
    assert found["method"] == "always_valid"
    assert found["n_star"] == 5_000
    # 48,064 units entered in a day, and the last of them matures half an hour later.
    assert found["days"] == pytest.approx(found["units"] / 48_064 + 0.5 / 24, rel=1e-2)


def test_what_is_given_counts_more_than_what_is_measured(query: str) -> None:
    arguments = ("--experiment", "checkout-color", "--query", query, "--relative-effect", "0.1")
    assert planned(*arguments, "--baseline", "0.2")["baseline"] == 0.2
    assert planned(*arguments, "--method", "fixed_horizon")["method"] == "fixed_horizon"


def test_an_unknown_experiment_is_said(query: str) -> None:
    result = litmus_plan("--experiment", "nothing", "--query", query)
    assert result.exit_code == 1
    assert "404" in result.output


def test_without_a_stack_the_option_says_what_to_do(monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.setenv("LITMUS_HOME", str(tmp_path))
    result = litmus_plan("--experiment", "checkout-color")
    assert result.exit_code == 1
    assert "litmus up" in result.output


def definition(**changed: Any) -> dict[str, Any]:
    metric = {
        "id": "spend",
        "kind": "sum",
        "role": "decision",
        "direction": "increase",
        "window": "24h",
        "margin": None,
    }
    return {
        "id": "checkout-color",
        "variants": [
            {"id": "b", "weight": 0.25, "is_control": False},
            {"id": "a", "weight": 0.75, "is_control": True},
        ],
        "metrics": [metric | changed.pop("metric", {})],
        "hypothesis": {"minimum_effect": 0.02},
        "analysis": {"method": "always_valid", "alpha": 0.05, "n_star": 5_000},
        "started_at": "2026-11-01T00:00:00.000Z",
        "stopped_at": None,
        **changed,
    }


def results(**changed: Any) -> dict[str, Any]:
    control = {"variant": "a", "units": 400, "mean": 12.0, "std_error": 1.5, "status": "ok"}
    effect = {"variant": "b", "control": "a", "cuped": {"variance_reduction": 0.36}}
    entry = {"metric_id": "spend", "basis": "matured", "variants": [control], "effects": [effect]}
    return {
        "look": {"as_of": "2026-11-05T00:00:00.000Z"},
        "variants": [{"variant": "a", "units": 900}, {"variant": "b", "units": 300}],
        "metrics": [entry],
        **changed,
    }


def test_spread_covariate_and_hypothesis_come_from_the_look() -> None:
    measured = read(definition(), results(), None).question
    assert measured["sd"] == 1.5 * 20
    assert measured["covariate_correlation"] == pytest.approx(0.6)
    assert measured["effect"] == {"relative": 0.02}
    assert measured["weights"] == [0.75, 0.25]
    assert measured["units_per_day"] == 300
    assert answers_to({}, read(definition(), results(), None))[0].goal == "sample_size"


def test_a_guardrail_is_planned_with_its_margin() -> None:
    about = {"role": "guardrail", "margin": {"relative": 0.05}}
    measured = read(definition(metric=about), results(), "spend")
    assert measured.question["margin"] == {"relative": 0.05}
    assert not {"effect", "decision_metrics", "covariate_correlation"} & measured.question.keys()
    assert answers_to({}, measured)[0].goal == "sample_size"


def test_a_margin_that_is_given_leaves_out_what_is_of_decisions() -> None:
    measured = read(definition(), results(), None)
    assert {"decision_metrics", "covariate_correlation"} <= measured.question.keys()
    (found,) = answers_to({"margin": {"relative": 0.05}}, measured)
    assert found.alpha_per_comparison == 0.05
    with pytest.raises(LitmusError, match="--decision-metrics: 2, must not be given with a margin"):
        answers_to({"margin": {"relative": 0.05}, "decision_metrics": 2}, measured)


def test_a_quantile_is_planned_with_the_wait_of_its_rank() -> None:
    measured = read(definition(metric={"kind": "quantile", "quantile": 0.99}), results(), None)
    assert measured.question["quantile"] == 0.99
    (found,) = answers_to({"effect": {"relative": 3.0}}, measured)
    assert min(found.units_by_variant) >= 3_000


@pytest.mark.parametrize(
    ("answered", "metric", "says"),
    [
        (results(look=None), None, "no look yet"),
        (results(), "clicks", "no metric 'clicks'"),
        (
            results(
                metrics=[
                    {
                        "metric_id": "spend",
                        "basis": "open",
                        "effects": [],
                        "variants": [
                            {"variant": "a", "units": 1, "mean": 2.0, "std_error": None}
                            | {"status": "insufficient"}
                        ],
                    }
                ]
            ),
            None,
            "insufficient, 1 units",
        ),
    ],
)
def test_an_experiment_without_numbers_says_what_to_do(
    answered: dict[str, Any], metric: str | None, says: str
) -> None:
    with pytest.raises((NotMeasuredError, UnknownMetricError), match=says):
        read(definition(), answered, metric)
