"""Rows are flat, all with the same keys, and their floats have a decimal point."""

import json

import msgspec

from schemas.definitions import Analysis
from stream_processors.merge.look import compute_look
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.rows import ROW_KEYS, Row, rows_of
from stream_processors.stats.sums import Sums
from tests.stream_processors.merge.builders import (
    CONVERSION,
    START_MS,
    make_cut,
    make_definition,
    make_totals,
    rate,
)


def make_rows(*metric: Sums, analysis: Analysis | None = None, is_final: bool = False) -> list[Row]:
    definition = make_definition(metrics=(CONVERSION,))
    if analysis is not None:
        definition = msgspec.structs.replace(definition, analysis=analysis)
    look = compute_look(
        definition,
        make_totals(metric, is_final=is_final),
        cut=make_cut(),
        path_before=ExperimentPath(),
    )
    return rows_of(look.results, START_MS)


def test_there_is_one_for_every_metric_basis_and_variant() -> None:
    rows = make_rows(rate(10_000, 38), rate(10_000, 42))
    assert [(row.key, row.value["basis"]) for row in rows] == [
        ("checkout-color|conversion|control", "matured"),
        ("checkout-color|conversion|treatment", "matured"),
        ("checkout-color|conversion|control", "open"),
        ("checkout-color|conversion|treatment", "open"),
    ]
    assert all(row.timestamp_ms == row.value["as_of_ms"] == START_MS for row in rows)


def test_keys_are_the_same_whatever_is_known() -> None:
    for rows in (make_rows(Sums(), Sums()), make_rows(rate(10_000, 38), rate(10_000, 42))):
        assert all(tuple(row.value) == ROW_KEYS for row in rows)
        assert not any(isinstance(one, dict | list) for row in rows for one in row.value.values())


def test_matured_rows_carry_the_always_valid_numbers_and_open_ones_no_p_value() -> None:
    _, matured, _, opened = (row.value for row in make_rows(rate(10_000, 38), rate(10_000, 42)))
    assert (round(matured["effect_low"], 6), matured["p_value"]) == (-0.002392, 1.0)
    assert (round(opened["effect_low"], 4), opened["p_value"]) == (-0.0014, None)


def test_whole_numbers_of_metric_units_keep_their_decimal_point() -> None:
    text = json.dumps(make_rows(rate(10_000, 38), rate(10_000, 42))[0].value)
    assert '"total": 38.0' in text
    assert '"units": 10000,' in text


def test_a_row_says_which_method_its_interval_is_of() -> None:
    arms = (rate(10_000, 300), rate(10_000, 420))
    planned = Analysis(method="group_sequential", units_max=20_000)

    for analysis in (planned, Analysis(), Analysis(method="bayesian")):
        matured = make_rows(*arms, analysis=analysis)[1].value
        assert matured["interval"] == analysis.method
        assert matured["effect_low"] > 0
        assert (matured["p_value"] is None) == (analysis.method == "bayesian")
        assert matured["rejects"] == (None if analysis.method == "bayesian" else 1)
        assert matured["verdict"] == "improvement"
        assert (matured["kind"], matured["role"]) == ("conversion", "decision")


def test_a_fixed_horizon_has_no_p_value_before_its_look() -> None:
    arms, analysis = (rate(10_000, 300), rate(10_000, 420)), Analysis(method="fixed_horizon")

    early = make_rows(*arms, analysis=analysis)[1].value
    last = make_rows(*arms, analysis=analysis, is_final=True)[1].value

    assert (early["p_value"], early["adjusted_p_value"]) == (None, None)
    assert last["p_value"] < 0.001
    assert last["adjusted_p_value"] == last["p_value"]
