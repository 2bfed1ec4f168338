"""Flat rows of looks hold what decides: its method's interval, of its estimate."""

from typing import Any

import msgspec
import pytest

from query_api.history.rows import Look, effect_rows
from schemas.definitions import Analysis, Prior
from tests.page.stub import RichExperiment
from tests.query_api.builders import results

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
            assert row["low"] == source["fixed_horizon"]["low"]
            continue
        if metric["metric_id"] == "spend":
            source = effect["cuped"]
        assert row["interval"] == method
        assert row["effect"] == source["estimate"]
        assert (row["low"], row["high"]) == (source[field]["low"], source[field]["high"])
        assert row["p_value"] == source[field].get("p_value")
        assert row["running_p_value"] == source["always_valid"]["running_p_value"]


def test_looks_of_before_there_were_methods_are_read_as_always_valid() -> None:
    look = results(7)
    [row] = [one for (_, basis), one in rows_of(look).items() if basis == "matured"]
    always = look["metrics"][0]["effects"][0]["absolute"]["always_valid"]
    assert (row["interval"], row["low"]) == ("always_valid", always["low"])
