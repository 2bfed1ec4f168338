"""Reference cases of ``tests/oracles/stat_oracles.json`` and their rule of comparison."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

_FILE = Path(__file__).parents[2] / "oracles" / "stat_oracles.json"
CASES: list[dict[str, Any]] = json.loads(_FILE.read_text())["cases"]

SMALL_PROBABILITY = 1e-9
SMALL_PROBABILITY_LOG_TOLERANCE = 1e-6


def cases_of(*categories: str) -> list[Any]:
    """Return the cases of some categories, as parameters named by their id."""
    found = [case for case in CASES if case["category"] in categories]
    assert found
    return [pytest.param(case, id=case["id"]) for case in found]


def assert_matches(case: dict[str, Any], **got: float | tuple[float, ...] | None) -> None:
    """Assert that every value equals the expected one within the case's tolerance."""
    for name, value in got.items():
        expected = case["expected"][name]
        assert value is not None, name
        pairs = (
            zip(value, expected, strict=True) if isinstance(value, tuple) else [(value, expected)]
        )
        for one, other in pairs:
            assert is_close(one, other, case["tolerance"]), (name, one, other)
    for name, wrong in case["expected"].items():
        if name.startswith("WRONG_"):
            values = [value for value in got.values() if isinstance(value, float)]
            assert not any(math.isclose(value, wrong, rel_tol=1e-6) for value in values), name


def is_close(got: float, expected: float, tolerance: dict[str, float]) -> bool:
    if 0 < abs(expected) < SMALL_PROBABILITY:
        return abs(math.log(got) - math.log(expected)) <= SMALL_PROBABILITY_LOG_TOLERANCE
    return abs(got - expected) <= max(tolerance["abs"], tolerance["rel"] * abs(expected))
