"""Segments have results of their own, in a family of their own, and decide nothing."""

import json
from typing import Any

import msgspec
import pytest

from schemas.definitions import Analysis, Definition, Metric
from stream_processors.merge.look import Look, compute_look, recompute
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.totals import Totals
from stream_processors.stats.sums import Sums
from tests.stream_processors.merge.builders import (
    CONVERSION,
    finite_numbers_only,
    make_cut,
    make_definition,
    make_totals,
    rate,
)

SPENT = Metric("spent", "sum", "purchase", role="secondary")
VALUES = {"country": ["CA", "US"], "device": ["phone"]}


def define(method: Any = "always_valid") -> Definition:
    analysis = Analysis(method=method, units_max=50_000 if method == "group_sequential" else None)
    return msgspec.structs.replace(
        make_definition(metrics=[CONVERSION, SPENT]), segments=VALUES, analysis=analysis
    )


def within(control: Sums, treatment: Sums) -> Totals:
    spent = [Sums(one.unit_count, one.sum_q, one.sum_q) for one in (control, treatment)]
    return make_totals([control, treatment], spent)


EQUAL = within(rate(2_000, 200), rate(2_000, 204))


def totals_of(canada: Totals = EQUAL, phone: Totals = EQUAL, *, is_final: bool = False) -> Totals:
    nothing = within(Sums(), Sums())
    return within(rate(6_000, 600), rate(6_000, 612))._replace(
        segments={
            "country": {"CA": canada, "US": EQUAL, "other": EQUAL},
            "device": {"phone": phone, "other": nothing},
        },
        is_final=is_final,
    )


def look_at(
    totals: Totals, path: ExperimentPath | None = None, definition: Definition | None = None
) -> Look:
    return compute_look(
        definition or define(), totals, cut=make_cut(), path_before=path or ExperimentPath()
    )


def test_every_value_has_results_in_the_order_of_the_definition() -> None:
    record = look_at(totals_of()).record

    assert {
        name: [one["value"] for one in found] for name, found in record["segments"].items()
    } == {
        "country": ["CA", "US", "other"],
        "device": ["phone", "other"],
    }
    first = record["segments"]["country"][0]
    assert first["variants"] == [
        {"variant": "control", "units": 2_000},
        {"variant": "treatment", "units": 2_000},
    ]
    assert [(one["metric_id"], one["basis"]) for one in first["metrics"]] == [
        ("conversion", "matured"),
        ("spent", "open"),
    ]
    assert first["metrics"][0]["effects"][0]["absolute"]["always_valid"] is not None
    empty = record["segments"]["device"][1]["metrics"][0]["effects"][0]
    assert (empty["status"], empty["absolute"]["estimate"]) == ("no_units", None)


def test_results_by_default_have_no_segments_but_their_alarms() -> None:
    look = look_at(totals_of())

    assert "segments" not in look.results
    assert look.results["sample_ratio_by_segment"]["country"][0] == {
        "value": "CA",
        "mismatch": False,
        "adjusted_p_value": 1.0,
    }


def test_each_attribute_is_a_family_of_its_own() -> None:
    striking = within(rate(2_000, 200), rate(2_000, 400))
    look = look_at(totals_of(canada=striking))

    adjusted = {
        (attribute, segment["value"]): segment["metrics"][0]["effects"][0]["adjusted"]
        for attribute, segments in look.record["segments"].items()
        for segment in segments
    }
    canada = adjusted["country", "CA"]
    assert (canada["family"], canada["method"], canada["family_size"]) == (
        "segment:country", "e_bh", 3,
    )  # fmt: skip
    assert canada["rejects"] is True
    assert adjusted["country", "US"]["rejects"] is False
    assert adjusted["device", "phone"]["family"] == "segment:device"


def test_what_a_segment_finds_decides_nothing() -> None:
    striking = within(rate(2_000, 200), rate(2_000, 400))
    calm, told = look_at(totals_of()), look_at(totals_of(canada=striking))

    assert told.results["verdict"] == calm.results["verdict"]
    assert told.results["metrics"] == calm.results["metrics"]


def test_a_broken_split_within_a_segment_is_an_alarm_that_stays() -> None:
    broken = within(rate(2_000, 200), rate(3_000, 300))
    first = look_at(totals_of(canada=broken))
    later = look_at(totals_of(), first.path_after)

    for look in (first, later):
        alarms = look.results["sample_ratio_by_segment"]
        assert [one["mismatch"] for one in alarms["country"]] == [True, False, False]
        assert [one["mismatch"] for one in alarms["device"]] == [False, False]
        assert look.results["sample_ratio"]["mismatch"] is False
        assert look.results["verdict"]["reading"] == "sample_ratio_mismatch"
    assert first.record["segments"]["country"][0]["sample_ratio"]["mismatch"] is True


def test_alarms_of_segments_are_corrected_for_their_number() -> None:
    """A chi-square of p about 0.0005 at the end: an alarm for one experiment, not for five."""
    odd = within(rate(2_000, 200), rate(2_226, 222))
    look = look_at(totals_of(canada=odd, is_final=True))

    segment = look.record["segments"]["country"][0]
    assert segment["sample_ratio"]["p_value"] < 0.001
    assert segment["sample_ratio"]["mismatch"] is False


@pytest.mark.parametrize(
    "method", ["always_valid", "group_sequential", "fixed_horizon", "bayesian"]
)
def test_segments_can_be_computed_again_from_the_record(method: str) -> None:
    definition, path = define(method), ExperimentPath()
    for is_final in (False, True):
        look = look_at(totals_of(is_final=is_final), path, definition)
        published = json.loads(json.dumps(look.record, allow_nan=False))
        assert recompute(published, definition).record == look.record
        assert finite_numbers_only(look.record)
        path = look.path_after


def test_no_planned_look_is_taken_within_a_segment() -> None:
    """They are read, and corrected, as those of an always-valid experiment: by no other method."""
    striking = within(rate(2_000, 200), rate(2_000, 400))
    planned, watched = (
        look_at(totals_of(canada=striking), definition=define(method)).record["segments"]["country"]
        for method in ("group_sequential", "always_valid")
    )

    effect = planned[0]["metrics"][0]["effects"][0]
    assert effect["absolute"]["group_sequential"] is None
    assert "decision" not in effect
    assert (effect["adjusted"]["method"], effect["adjusted"]["rejects"]) == ("e_bh", True)
    assert effect["adjusted"]["e_value"] > 60
    assert planned == watched


@pytest.mark.parametrize(
    ("method", "read_by"),
    [
        ("always_valid", "always_valid"),
        ("group_sequential", "always_valid"),
        ("fixed_horizon", "fixed_horizon"),
        ("bayesian", "bayesian"),
    ],
)
def test_a_segment_names_the_method_that_it_is_read_by(method: str, read_by: str) -> None:
    segments = look_at(totals_of(), definition=define(method)).record["segments"]

    assert {one["method"] for found in segments.values() for one in found} == {read_by}
