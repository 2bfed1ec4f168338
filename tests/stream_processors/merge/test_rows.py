"""Rows are flat, all with the same keys, and their floats have a decimal point."""

import json

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


def make_rows(*metric: Sums) -> list[Row]:
    look = compute_look(
        make_definition(metrics=(CONVERSION,)),
        make_totals(metric),
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
