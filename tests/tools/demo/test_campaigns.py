"""The experiments of the demo are valid, and what it expects of them is right."""

import msgspec
import pytest

from schemas.definitions import DefinitionBody, define
from tests.tools.demo.builders import small_dataset
from tools.demo.campaigns import (
    METRIC,
    WINDOW_MS,
    Arm,
    critical_value,
    definition_of,
    reading_of,
    truth_of,
)
from tools.demo.dataset import CAMPAIGNS

COUNTS = {"all": (38, 42), "men": (46, 69), "women": (46, 46)}
READINGS = {
    "all": (0.448111, None, -0.002392, 0.003192),
    "men": (2.150954, 0.0314798, -0.001044, 0.005644),
    "women": (0.0, 1.0, -0.002993, 0.002993),
}


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_a_definition_is_one_that_the_platform_takes(campaign: str) -> None:
    body = msgspec.convert(definition_of(campaign), DefinitionBody)

    definition = define(body, ordinal=0, version=0, created_at_ms=0)

    assert definition.control == "control"
    assert [(m.id, m.event, m.window_ms) for m in definition.metrics] == [
        (METRIC, METRIC, WINDOW_MS)
    ]


def test_the_truth_is_what_the_files_say() -> None:
    truth = truth_of(small_dataset(rows=100))

    assert truth == {c: {"control": Arm(100, 2), "treatment": Arm(100, 2)} for c in CAMPAIGNS}


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_the_readings_are_those_of_the_dataset(campaign: str) -> None:
    control, treatment = COUNTS[campaign]
    z, p_value, low, high = READINGS[campaign]

    reading = reading_of({"control": Arm(10_000, control), "treatment": Arm(10_000, treatment)})

    assert reading.z == pytest.approx(z, abs=5e-7)
    assert reading.low == pytest.approx(low, abs=5e-7)
    assert reading.high == pytest.approx(high, abs=5e-7)
    if p_value is not None:
        assert reading.p_value == pytest.approx(p_value, abs=5e-8)


def test_always_valid_intervals_are_wider_at_any_count_than_fixed_ones() -> None:
    assert all(critical_value(count) > 2.8 for count in (200, 2_000, 5_000, 20_000, 10**7))
    assert critical_value(5_000) == pytest.approx(3.035, abs=5e-4)
