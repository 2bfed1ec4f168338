"""The page on results explains every field that a look can have."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from stream_processors.merge.look import compute_look
from stream_processors.merge.path import ExperimentPath
from tests.stream_processors.merge.builders import make_cut
from tests.stream_processors.merge.test_kinds import REVENUE, TAIL, grid_sums
from tests.stream_processors.merge.test_methods import (
    ADJUSTED,
    CONVERSION,
    METHODS,
    REFUNDS,
    Method,
    adjusted_totals,
    define,
    totals_with,
)
from tests.stream_processors.merge.test_segments import define as define_segments
from tests.stream_processors.merge.test_segments import totals_of

PAGE = (Path(__file__).parents[3] / "docs" / "results.md").read_text()
EXPLAINED = set(re.findall(r"`([a-z0-9_]+)`", PAGE)) | {"basis"}

OF_VALUES = {"sample_ratio_by_segment", "segments", "offsets"}
"""Objects whose keys are names that users chose."""


def fields_of(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from fields_of(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            if name in OF_VALUES and isinstance(one, dict):
                for inner in one.values():
                    yield from fields_of(inner)
            elif name not in ("integers", "inputs"):
                yield from fields_of(one)


@pytest.mark.parametrize("method", METHODS)
def test_every_field_of_a_look_is_on_the_page(method: Method) -> None:
    definition = define(method, ADJUSTED, CONVERSION, REFUNDS, REVENUE, TAIL)
    adjusted = adjusted_totals(7, lift=1)
    arms = adjusted.matured[0]
    rates = [
        one._replace(covariates=None, total=one.total._replace(sums=(300,), products=(300,)))
        for one in arms
    ]
    values = [grid_sums(_values(shift)) for shift in (0, 3)]
    capped = [one._replace(caps=one.caps[:1] if one.caps else None) for one in values]
    totals = totals_with(arms, rates, rates, capped, values, is_final=True)

    look = compute_look(definition, totals, cut=make_cut(), path_before=ExperimentPath())

    assert set(fields_of(msgspec.to_builtins(look.record))) <= EXPLAINED


def test_every_field_of_a_segment_is_on_the_page() -> None:
    look = compute_look(
        define_segments(), totals_of(), cut=make_cut(), path_before=ExperimentPath()
    )

    assert set(fields_of(look.record)) <= EXPLAINED


def _values(shift: int) -> Any:
    return np.random.default_rng(3).poisson(20, 1_000) + shift
