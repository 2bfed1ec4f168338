"""What is waited for is said with how much of it has come, and in which variant."""

import msgspec
import pytest

from schemas.definitions import Analysis, Definition, Metric
from stream_processors.merge.look import compute_look
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.waiting import so_far
from stream_processors.stats.sums import Sums
from tests.stream_processors.merge.builders import (
    CONVERSION,
    make_cut,
    make_definition,
    make_totals,
    rate,
)

HOUR_MS = 3_600_000
SPEND = Metric("spend", "sum", "spent", window_ms=HOUR_MS, precision=0)
SENTENCE_OF_FEW = (
    "conversion: treatment has too few converted units in a variant, or too few others: it waits "
    "for 30 of both in each"
)
SENTENCE_OF_UNITS = (
    "conversion: treatment has too few units yet: it waits for 100 in each variant, 30 of them "
    "converted and 30 not"
)


def define(metric: Metric, method: str = "always_valid", variants: int = 2) -> Definition:
    definition = make_definition(metrics=[metric], weights=(1.0,) * variants)
    return msgspec.structs.replace(definition, analysis=Analysis(method=method))  # type: ignore[arg-type]


def sentences(definition: Definition, *arms: Sums) -> list[str]:
    look = compute_look(definition, make_totals(arms), cut=make_cut(), path_before=ExperimentPath())
    return [one["text"] for one in look.results["verdict"]["reasons"] if one["metric_id"]]


@pytest.mark.parametrize("method", ["always_valid", "bayesian"])
@pytest.mark.parametrize(
    ("control", "treatment", "told"),
    [
        ((1_000, 40), (1_000, 17), "17 of 30 converted in treatment"),
        ((1_000, 983), (1_000, 900), "17 of 30 not converted in control"),
        ((1_000, 0), (100, 99), "0 of 30 converted in control, 1 of 30 not converted in treatment"),
    ],
)
def test_too_few_conversions_are_counted(
    control: tuple[int, int], treatment: tuple[int, int], told: str, method: str
) -> None:
    texts = sentences(define(CONVERSION, method), rate(*control), rate(*treatment))
    assert texts[0] == f"{SENTENCE_OF_FEW} ({told} so far)."


def test_too_few_units_are_counted_with_their_conversions() -> None:
    texts = sentences(define(CONVERSION), rate(120, 60), rate(95, 17))
    told = "95 of 100 units in treatment, 17 of 30 converted in treatment so far"
    assert texts[0] == f"{SENTENCE_OF_UNITS} ({told})."


def test_what_waits_for_units_alone_counts_them_alone() -> None:
    texts = sentences(define(SPEND), Sums(99, 400, 2_000), Sums(120, 400, 2_000))
    assert texts[0] == "spend: treatment has too few units yet (99 of 100 units in control so far)."


def test_the_units_that_end_a_wait_for_values_are_counted() -> None:
    definition = define(SPEND)
    control, treatment = Sums(18_000, 3_600, 400_000), Sums(2_000, 400, 4_000)
    texts = sentences(definition, control, treatment)
    assert texts[0] == (
        "spend: treatment has too few units with a value of their own in the smaller variant to "
        "know its error: it waits for about 60 of them, or for 3,000 units (2,000 of 3,000 units "
        "in treatment so far)."
    )


def test_a_treatment_counts_what_it_and_the_control_lack_and_no_other_does() -> None:
    arms = rate(1_000, 40), rate(1_000, 17), rate(50, 5)
    first, second = sentences(define(CONVERSION, variants=3), *arms)[:2]
    assert first == f"{SENTENCE_OF_FEW} (17 of 30 converted in treatment so far)."
    assert second.startswith(SENTENCE_OF_UNITS.replace("treatment", "arm-2"))
    assert second.endswith("(50 of 100 units in arm-2, 5 of 30 converted in arm-2 so far).")


def test_a_guardrail_counts_too() -> None:
    guard = msgspec.structs.replace(CONVERSION, role="guardrail", margin={"absolute": 0.01})
    [text] = sentences(define(guard), rate(1_000, 40), rate(1_000, 17))
    assert text.endswith("waits for 30 of both in each (17 of 30 converted in treatment so far).")


def test_what_cannot_be_counted_is_not() -> None:
    pair = [{"variant": one, "units": 500, "total": 40} for one in ("control", "treatment")]
    for wait in ("ties", "zero_variance", "warming_up", "few_conversions", "no_units"):
        assert so_far(wait, pair) == ""
