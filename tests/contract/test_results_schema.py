"""The published schema of a look: every field is described, and real looks have no other ones."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from query_api.routes import router
from query_api.snapshots import by_segment, empty_results
from schemas.definitions import Analysis, DefinitionBody, Prior, define, public
from schemas.json_schema import schema_of
from schemas.results import BySegment, Record, Results, Segment, Snapshot
from schemas.shown_definition import ShownDefinition
from stream_processors.merge.look import compute_look
from stream_processors.merge.path import ExperimentPath
from tests.page.stub import Experiment, RichExperiment
from tests.stream_processors.merge.builders import (
    CONVERSION,
    COUNT,
    REVENUE,
    make_cut,
    make_definition,
    make_totals,
    rate,
)
from tools.topics import describe_topics

METHODS = {
    "always_valid": Analysis(),
    "mixture": Analysis(tuning="mixture", tau=0.01),
    "group_sequential": Analysis(method="group_sequential", units_max=4_000),
    "fixed_horizon": Analysis(method="fixed_horizon"),
    "bayesian": Analysis(method="bayesian", prior=Prior(sd=1.0)),
}


def properties_of(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, one in schema.get("properties", {}).items():
        yield f"{path}.{name}", one
        yield from properties_of(one, f"{path}.{name}")
    for inner in (
        *schema.get("anyOf", ()),
        schema.get("items"),
        schema.get("additionalProperties"),
    ):
        if isinstance(inner, dict):
            yield from properties_of(inner, path)


def is_described(schema: dict[str, Any]) -> bool:
    return bool(schema.get("description")) or any(map(is_described, schema.get("anyOf", ())))


@pytest.mark.parametrize("published", [Results, Record, Segment, Snapshot, ShownDefinition])
def test_every_field_is_described(published: type) -> None:
    properties = dict(properties_of(schema_of(published)))
    assert len(properties) > 50
    assert [path for path, one in properties.items() if not is_described(one)] == []


@pytest.mark.parametrize("is_final", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_looks_of_every_kind_and_method_have_the_fields_of_the_schema(
    method: str, is_final: bool
) -> None:
    experiment = RichExperiment("new-basket", analysis=METHODS[method], size=2_000)
    experiment.final = is_final
    for _ in range(2):
        results = experiment.advance()
        assert msgspec.convert(results, Results).experiment_id == "new-basket"
    for segment in experiment.by_attribute["country"]:
        assert msgspec.convert(segment, Segment).value == segment["value"]


@pytest.mark.parametrize("method", METHODS)
def test_definitions_have_the_fields_of_the_schema(method: str) -> None:
    shown = RichExperiment("new-basket", analysis=METHODS[method], size=10).definition()
    assert msgspec.convert(shown, ShownDefinition).id == "new-basket"
    posted = {
        "id": "least",
        "variants": [{"id": "a"}, {"id": "b"}],
        "metrics": [{"id": "purchase", "kind": "conversion"}],
    }
    body = msgspec.convert(posted, DefinitionBody)
    defined = define(body, ordinal=0, version=1, created_at_ms=0)
    msgspec.convert(public(defined), ShownDefinition)


def test_looks_before_there_are_numbers_have_them_too() -> None:
    for units in ((0, 0), (1, 1), (3, 0), (40, 40)):
        results = Experiment("new-signup", units=units, step=(0, 0), guardrail=True).advance()
        msgspec.convert(results, Results)


def test_what_is_answered_before_the_first_look_has_them_too() -> None:
    definition = Experiment("new-signup", status="draft").definition()
    assert msgspec.convert(empty_results(definition), Results).look is None
    found = by_segment(empty_results(definition), {}, "country")
    assert msgspec.convert(found, BySegment).segments == []


def test_a_computed_look_and_its_record_are_what_the_schema_says() -> None:
    look = compute_look(
        make_definition(metrics=[CONVERSION, COUNT, REVENUE]),
        make_totals(
            *[[rate(1_000, 80), rate(1_010, 99)]] * 3,
        ),
        cut=make_cut(),
        path_before=ExperimentPath(),
    )
    msgspec.convert(look.results, Results)
    msgspec.convert(look.record, Record)
    definition = public(make_definition())
    msgspec.convert({"definition": definition, "results": look.results}, Snapshot)


def test_a_field_that_nobody_described_is_noticed() -> None:
    results = Experiment("new-signup", units=(400, 400)).advance()
    results["metrics"][0]["effects"][0]["absolute"]["surprise"] = 1
    with pytest.raises(msgspec.ValidationError, match="surprise"):
        msgspec.convert(results, Results)


def test_topics_of_results_are_described_with_their_schema() -> None:
    schemas = {one["name"]: one["value_schema"] for one in describe_topics(8)}
    assert schemas["litmus.looks"] == schema_of(Record)
    assert schemas["litmus.snapshots"] == schema_of(Snapshot)
    assert schemas["litmus.events"] is None


def test_openapi_describes_the_answer_of_results() -> None:
    routes = {getattr(one, "path", ""): one for one in router.routes}
    responses = routes["/v1/experiments/{experiment_id}/results"].responses  # type: ignore[attr-defined]
    [look, by_segment] = responses[200]["content"]["application/json"]["schema"]["oneOf"]
    assert look == schema_of(Results)
    assert by_segment == schema_of(BySegment)
