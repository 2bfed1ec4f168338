"""Flat rows of looks hold what decides: its method's interval, of its estimate."""

from typing import Any

import msgspec
import pytest

from query_api.history.rows import Look, effect_rows
from schemas.definitions import Analysis, Metric, Prior
from stream_processors.merge.look import compute_look
from stream_processors.merge.path import ExperimentPath
from stream_processors.stats.sums import Sums
from tests.page.stub import RichExperiment
from tests.query_api.builders import results
from tests.stream_processors.merge.builders import make_cut, make_definition, make_totals

METHODS = {
    "always_valid": Analysis(),
    "group_sequential": Analysis(method="group_sequential", units_max=2_000),
    "fixed_horizon": Analysis(method="fixed_horizon"),
    "bayesian": Analysis(method="bayesian", prior=Prior(sd=1.0)),
}


def rows_of(look: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the treatment's rows by metric and basis."""
    table = effect_rows([Look(look, msgspec.json.encode(look))])
    assert table is not None
    return {
        (row["metric_id"], row["basis"]): row
        for row in table.to_pylist()
        if row["variant"] == "treatment"
    }


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_matured_units_are_of_the_method_and_the_estimate_that_decide(method: str) -> None:
    look = RichExperiment("new-basket", analysis=METHODS[method], size=2_000).advance()
    rows = rows_of(look)
    field = "posterior" if method == "bayesian" else method
    for metric in look["metrics"]:
        [effect] = metric["effects"]
        row = rows[metric["metric_id"], metric["basis"]]
        source = effect["absolute"]
        if metric["basis"] == "open":
            assert row["interval"] == "fixed_horizon"
            assert row["low"] == row["fixed_horizon_low"] == source["fixed_horizon"]["low"]
            assert (row["p_value"], row["fixed_horizon_p_value"]) == (None, None)
            continue
        if metric["metric_id"] == "spend":
            source = effect["cuped"]
        assert row["interval"] == method
        shown = source[field]
        assert row["effect"] == shown.get("estimate", shown.get("mean", source["estimate"]))
        assert (row["low"], row["high"]) == (shown["low"], shown["high"])
        assert row["low"] <= row["effect"] <= row["high"]
        is_early = method == "fixed_horizon"
        assert row["p_value"] == (None if is_early else shown.get("p_value"))
        assert all(row[name] == wanted for name, wanted in running_of(method, shown).items())


def running_of(method: str, shown: dict[str, Any]) -> dict[str, float | None]:
    """Return what a row holds over all looks, and of one: of the method and of no other."""
    ends = {name: shown.get(name) for name in ("running_low", "running_high")}
    p_values = {"always_valid": "running_p_value", "group_sequential": "p_value"}
    fixed = {f"fixed_horizon_{name}": None for name in ("low", "high", "p_value")}
    if method == "fixed_horizon":
        fixed |= {f"fixed_horizon_{name}": shown[name] for name in ("low", "high")}
    return {**ends, "running_p_value": shown.get(p_values.get(method, "")), **fixed}


@pytest.mark.parametrize("method", METHODS)
def test_no_row_holds_a_p_value_of_a_method_beside_that_of_another(method: str) -> None:
    """By value: no number of another method's test is in a row of matured units."""
    look = RichExperiment("new-basket", analysis=METHODS[method], size=2_000).advance()
    rows = rows_of(look)
    field = "posterior" if method == "bayesian" else method
    seen: set[float] = set()
    for metric in look["metrics"]:
        if metric["basis"] == "open":
            continue
        [effect] = metric["effects"]
        row = rows[metric["metric_id"], "matured"]
        source = effect[effect["decision"]["of"]]
        others = {
            source[other][name]
            for other in ("always_valid", "group_sequential", "fixed_horizon")
            if other != field and source[other] is not None
            for name in ("p_value", "running_p_value")
            if source[other].get(name) is not None
        } - {1.0}
        seen |= others
        shown = {value for name, value in row.items() if "p_value" in name}
        assert not others & shown
        if method in ("fixed_horizon", "bayesian"):
            assert shown == {None}
    assert seen or method == "fixed_horizon"


def test_looks_of_before_there_were_methods_are_read_as_always_valid() -> None:
    look = results(7)
    [row] = [one for (_, basis), one in rows_of(look).items() if basis == "matured"]
    always = look["metrics"][0]["effects"][0]["absolute"]["always_valid"]
    assert (row["interval"], row["low"]) == ("always_valid", always["low"])


def test_a_fixed_horizon_has_a_p_value_at_its_one_look_only_however_sparse_its_totals() -> None:
    orders = Metric("orders", "count", "purchase", window_ms=3_600_000)
    definition = make_definition(metrics=(orders,), weights=(0.9, 0.1))
    definition = msgspec.structs.replace(definition, analysis=METHODS["fixed_horizon"])
    sparse = [Sums(9_000, 180, 180), Sums(1_000, 45, 45)]
    found = []
    for is_final in (False, True):
        look = compute_look(
            definition,
            make_totals(sparse, is_final=is_final),
            cut=make_cut(),
            path_before=ExperimentPath(),
        ).results
        [effect] = look["metrics"][0]["effects"]
        row = rows_of(look)["orders", "matured"]
        assert row["status"] == effect["status"] == "sparse"
        assert row["p_value"] == row["fixed_horizon_p_value"] == effect["decision"]["p_value"]
        found.append(row["p_value"])
        effect["decision"]["status"] = "sparse"  # as looks of an earlier version say it
        assert rows_of(look)["orders", "matured"]["p_value"] is None

    assert found[0] is None
    assert found[1] < 0.001
