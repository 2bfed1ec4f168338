"""A metric name is agreed on once: by command, or by the first definition that uses it."""

from typing import Any

import msgspec
import pytest

from schemas.control import CatalogueEntry
from schemas.definitions import MetricBody
from schemas.imports import DAY_MS
from stream_processors.control import catalogue
from stream_processors.control.refusals import RefusedError
from tests.stream_processors.control.operating import BODY, NOW_MS, Operator

TODAY = NOW_MS // DAY_MS


def metric(**fields: Any) -> dict[str, Any]:
    return {"id": "m", "kind": "sum", "event": "buy"} | fields


def create(operator: Operator, *metrics: dict[str, Any], experiment_id: str = "x") -> Any:
    body = BODY | {"id": experiment_id, "metrics": list(metrics)}
    return operator.send("create", experiment_id, **body)


def test_an_entry_is_made_once_and_never_changes() -> None:
    operator = Operator()
    made = operator.send("catalogue", "buy", precision=2, keep_days=14)
    again = operator.send("catalogue", "buy", precision=2, keep_days=14)
    other = operator.send("catalogue", "buy", precision=2, keep_days=15)

    entry = CatalogueEntry("buy", 2, 14, TODAY + 1)
    assert (made.status, made.entry) == (201, entry)
    assert (again.status, again.entry) == (200, entry)
    assert (other.status, other.code, other.entry) == (409, "entry_differs", entry)
    assert operator.state.catalogue == {"buy": entry}


@pytest.mark.parametrize(
    ("name", "body", "fields"),
    [
        ("a b", {}, {"name"}),
        ("buy", {"precision": 10, "keep_days": 91}, {"precision", "keep_days"}),
        ("buy", {"precision": "2", "keep_days": 1.5, "x": 1}, {"precision", "keep_days", "x"}),
    ],
)
def test_every_wrong_field_of_an_entry_is_named(
    name: str, body: dict[str, Any], fields: set[str]
) -> None:
    outcome = Operator().send("catalogue", name, **body)

    assert outcome.status == 422
    assert {error.field for error in outcome.errors} == fields


@pytest.mark.parametrize("into_the_day_ms", [0, 1, DAY_MS - 1])
def test_events_fill_whole_days_only_after_the_one_of_the_entry(into_the_day_ms: int) -> None:
    assert catalogue.first_live_day(TODAY * DAY_MS + into_the_day_ms) == TODAY + 1


def test_the_first_definition_makes_the_entries_of_its_names() -> None:
    operator = Operator()
    made = create(
        operator,
        metric(covariate_days=7),
        metric(id="n", covariate_days=14),
        metric(id="o", precision=2),
        metric(id="p", event="view"),
    )

    assert made.status == 201
    assert operator.state.catalogue == {
        "buy": CatalogueEntry("buy", 2, 14, TODAY + 1),
        "view": CatalogueEntry("view", 6, 0, TODAY + 1),
    }
    assert [one.precision for one in operator.x.metrics] == [2, 2, 2, 6]


def test_entries_stand_before_the_definition_that_made_them() -> None:
    operator = Operator()
    create(operator, metric())
    assert [type(change).__name__ for change in operator.changes] == [
        "CatalogueChange",
        "DefinitionChange",
    ]


def test_a_definition_takes_the_precision_of_the_catalogue() -> None:
    operator = Operator()
    operator.send("catalogue", "buy", precision=2)
    create(operator, metric())
    operator.send("start")
    more = [metric(), metric(id="n", event="view", precision=1, role="secondary")]
    grown = operator.send("patch", metrics=more)

    assert grown.status == 200, grown.detail
    assert [one.precision for one in operator.x.metrics] == [2, 1]
    assert operator.state.catalogue["view"].precision == 1


def test_another_precision_is_refused_and_both_are_named() -> None:
    operator = Operator()
    operator.send("catalogue", "buy", precision=2)
    refused = create(operator, metric(precision=3))
    within = create(operator, metric(event="new", precision=3), metric(id="n", event="new"))
    between = create(
        operator,
        metric(event="other", precision=3),
        metric(id="n", event="other", precision=4),
        experiment_id="y",
    )

    assert (refused.status, refused.code) == (422, "precision_differs")
    assert "== 3, must be 2" in refused.errors[0].message
    assert refused.errors[0].field == "metrics[0].precision"
    assert within.status == 201
    assert (between.status, between.code) == (422, "precision_differs")
    assert "other" not in operator.state.catalogue


@pytest.mark.parametrize("keep_days", [0, 7])
def test_a_covariate_reaches_no_further_back_than_days_are_kept(keep_days: int) -> None:
    operator = Operator()
    operator.send("catalogue", "buy", keep_days=keep_days)
    beyond = create(operator, metric(covariate_days=keep_days + 1))
    within = create(operator, metric(covariate_days=keep_days))

    assert (beyond.status, beyond.code) == (422, "keep_days_exceeded")
    assert "never changes" in beyond.errors[0].message
    assert f"keep_days {keep_days + 1}" in beyond.errors[0].message
    assert within.status == 201


def test_a_patch_without_metrics_makes_no_entries() -> None:
    operator = Operator()
    create(operator, metric())
    assert operator.send("patch", name="new").status == 200
    assert [type(change).__name__ for change in operator.changes] == ["DefinitionChange"]


def test_the_catalogue_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "ENTRIES_MAX", 2)
    operator = Operator()
    operator.send("catalogue", "a")
    full = create(operator, metric(), metric(id="n", event="view"))
    operator.send("catalogue", "b")
    by_command = operator.send("catalogue", "c")

    assert (full.status, full.code) == (409, "catalogue_full")
    assert (by_command.status, by_command.code) == (409, "catalogue_full")
    assert operator.send("catalogue", "b").status == 200


RATIO = {"id": "r", "kind": "ratio", "numerator": "spent", "denominator": "orders"}


def ratio(precision: int | None = None) -> MetricBody:
    return msgspec.convert(RATIO | {"precision": precision}, MetricBody)


def entry(name: str, precision: int) -> CatalogueEntry:
    return CatalogueEntry(name, precision, 0, TODAY + 1)


def test_a_ratio_makes_entries_of_numerator_and_denominator() -> None:
    made = catalogue.entered([ratio(precision=2)], {}, NOW_MS)

    assert made == [entry("spent", 2), entry("orders", 2)]


def test_a_ratio_takes_the_precision_that_one_of_its_names_has() -> None:
    known = {"orders": entry("orders", 3)}

    (settled,) = catalogue.with_precision([ratio()], known)
    made = catalogue.entered([ratio()], known, NOW_MS)

    assert settled.precision == 3
    assert made == [entry("spent", 3)]


def test_numerator_and_denominator_of_a_ratio_have_one_precision() -> None:
    known = {"spent": entry("spent", 2), "orders": entry("orders", 0)}

    with pytest.raises(RefusedError) as refused:
        catalogue.entered([ratio()], known, NOW_MS)

    (error,) = refused.value.errors
    assert (error.field, error.code) == ("metrics[0].precision", "precision_differs")
    assert "numerator and denominator" in error.message
