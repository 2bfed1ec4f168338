"""A look has the shape of the contract, an identity that any program can check, and a path."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_processors.merge.look import compute_look, recompute
from stream_processors.merge.path import ComparisonPath, ExperimentPath
from stream_processors.merge.totals import Totals
from stream_processors.stats.sums import Sums
from tests.stream_processors.merge.builders import (
    CONVERSION,
    COUNT,
    NEXT_VERSION,
    REVENUE,
    finite_numbers_only,
    make_cut,
    make_definition,
    make_totals,
    rate,
)

ONE_LOOK = make_totals([rate(10_000, 38), rate(10_000, 42)])


def look_at(totals: Totals, path: ExperimentPath | None = None, **definition: Any) -> Any:
    return compute_look(
        make_definition(**definition),
        totals,
        cut=make_cut(),
        path_before=path or ExperimentPath(),
    )


def entry_of(results: dict[str, Any], metric_id: str, basis: str) -> dict[str, Any]:
    return next(
        metric
        for metric in results["metrics"]
        if (metric["metric_id"], metric["basis"]) == (metric_id, basis)
    )


def test_it_is_the_example_of_the_contract() -> None:
    results = look_at(ONE_LOOK).results
    assert results["experiment_id"] == "checkout-color"
    assert results["look"]["as_of"] == "2026-11-21T18:00:00.323Z"
    assert results["look"]["age_ms"] is None
    assert results["sample_ratio"]["sequential_p_value"] == 1.0
    matured = entry_of(results, "conversion", "matured")
    assert matured["window"] == "72h"
    control = matured["variants"][0]
    assert (control["units"], control["total"], control["mean"]) == (10_000, 38, 0.0038)
    assert control["variance"] == pytest.approx(0.003786, abs=5e-7)
    assert control["std_error"] == pytest.approx(0.000615, abs=5e-7)
    (effect,) = matured["effects"]
    assert effect["status"] == "ok"
    absolute = effect["absolute"]
    assert absolute["estimate"] == 0.0004
    assert absolute["std_error"] == pytest.approx(0.000893, abs=5e-7)
    fixed = absolute["fixed_horizon"]
    assert (fixed["test"], round(fixed["statistic"], 6)) == ("z", 0.448111)
    assert (round(fixed["low"], 4), round(fixed["high"], 4)) == (-0.0014, 0.0022)
    valid = absolute["always_valid"]
    assert (round(valid["low"], 6), round(valid["high"], 6)) == (-0.002392, 0.003192)
    assert (valid["running_low"], valid["running_high"]) == (valid["low"], valid["high"])
    relative = effect["relative"]
    assert round(relative["estimate"], 3) == 0.105
    assert round(relative["fixed_horizon"]["low"], 2) == -0.29
    assert round(relative["fixed_horizon"]["high"], 2) == 0.71
    assert effect["cuped"] is None


def test_the_open_basis_is_descriptive() -> None:
    entry = entry_of(look_at(ONE_LOOK).results, "conversion", "open")
    assert entry["descriptive"] is True
    (effect,) = entry["effects"]
    assert "always_valid" not in effect["absolute"]
    assert "always_valid" not in effect["relative"]


def test_a_metric_without_window_is_open_only_and_has_no_path() -> None:
    totals = make_totals([Sums(1_000, 50_000, 9_000_000), Sums(1_000, 52_000, 9_000_000)])
    look = look_at(totals, metrics=(REVENUE,))
    assert [metric["basis"] for metric in look.results["metrics"]] == ["open"]
    # Σq 50,000 at precision 2 is a total of 500.00.
    assert look.results["metrics"][0]["variants"][0]["total"] == 500.0
    assert look.path_after.comparisons == {}


def test_counts_are_compared_by_welch() -> None:
    totals = make_totals([Sums(1_000, 500, 900), Sums(1_000, 520, 900)])
    (effect,) = entry_of(look_at(totals, metrics=(COUNT,)).results, "orders", "matured")["effects"]
    fixed = effect["absolute"]["fixed_horizon"]
    assert fixed["test"] == "welch"
    assert fixed["degrees_of_freedom"] == pytest.approx(1_998, abs=1)


def test_before_the_burn_in_there_is_no_sequence_and_no_path() -> None:
    look = look_at(make_totals([rate(99, 40), rate(99, 45)]))
    (effect,) = entry_of(look.results, "conversion", "matured")["effects"]
    assert effect["status"] == "warming_up"
    assert effect["absolute"]["always_valid"] is None
    assert effect["relative"]["always_valid"] == {
        "low": None, "high": None, "running_low": None, "running_high": None,
        "status": "warming_up",
    }  # fmt: skip
    assert look.path_after.of("conversion", "treatment") == ComparisonPath()
    (effect,) = entry_of(look.results, "conversion", "open")["effects"]
    assert effect["status"] == "ok"


def test_running_numbers_only_narrow() -> None:
    first = look_at(make_totals([rate(1_000, 100), rate(1_000, 160)]))
    second = look_at(make_totals([rate(1_100, 130), rate(1_100, 150)]), first.path_after)
    shown = [
        entry_of(look.results, "conversion", "matured")["effects"][0]["absolute"]["always_valid"]
        for look in (first, second)
    ]
    assert shown[1]["p_value"] > shown[0]["p_value"]
    assert shown[1]["running_p_value"] == shown[0]["p_value"]
    assert shown[1]["running_low"] == max(shown[0]["low"], shown[1]["low"])
    assert shown[1]["running_high"] == min(shown[0]["high"], shown[1]["high"])


def test_the_relative_interval_that_decides_only_narrows_too() -> None:
    looks = [look_at(make_totals([rate(1_000, 100), rate(1_000, 160)]))]
    for converted in (150, 170, 140):
        totals = make_totals([rate(1_050, 105), rate(1_050, converted)])
        looks.append(look_at(totals, looks[-1].path_after))

    effects = [entry_of(look.results, "conversion", "matured")["effects"][0] for look in looks]
    decided = [effect["decision"]["relative"] for effect in effects]
    alone = [effect["relative"]["always_valid"] for effect in effects]
    assert [one["low"] for one in decided] == [
        max(one["low"] for one in alone[: count + 1]) for count in range(len(alone))
    ]
    assert [one["high"] for one in decided] == [
        min(one["high"] for one in alone[: count + 1]) for count in range(len(alone))
    ]


def test_an_empty_intersection_is_named_and_shows_the_current_interval() -> None:
    first = look_at(make_totals([rate(5_000, 500), rate(5_000, 1_500)]))
    second = look_at(make_totals([rate(5_000, 500), rate(5_000, 500)]), first.path_after)
    third = look_at(make_totals([rate(5_000, 500), rate(5_000, 1_500)]), second.path_after)
    for look in (second, third):
        (effect,) = entry_of(look.results, "conversion", "matured")["effects"]
        valid = effect["absolute"]["always_valid"]
        assert effect["status"] == "empty_intersection"
        assert valid["low"] < valid["high"]
        assert valid["running_low"] is None
        assert valid["running_high"] is None


def test_every_treatment_is_compared_with_the_control() -> None:
    totals = make_totals([rate(1_000, 100), rate(1_000, 110), rate(1_000, 120)])
    results = look_at(totals, weights=(1 / 3, 1 / 3, 1 / 3)).results
    effects = entry_of(results, "conversion", "matured")["effects"]
    assert [(one["variant"], one["control"]) for one in effects] == [
        ("treatment", "control"),
        ("arm-2", "control"),
    ]


def test_a_broken_split_is_told_and_stays_told() -> None:
    broken = look_at(make_totals([rate(20_000, 100), rate(22_000, 100)]))
    assert broken.results["sample_ratio"]["mismatch"] is True
    healed = look_at(make_totals([rate(22_000, 100), rate(22_000, 100)]), broken.path_after)
    assert healed.results["sample_ratio"]["p_value"] == 1.0
    assert healed.results["sample_ratio"]["mismatch"] is True


def test_chi_square_raises_the_alarm_at_the_last_look_only() -> None:
    metric = [rate(1_000, 100), rate(1_200, 100)]
    live, last = look_at(make_totals(metric)), look_at(make_totals(metric, is_final=True))
    assert live.results["sample_ratio"]["p_value"] < 0.001
    assert live.results["sample_ratio"]["mismatch"] is False
    assert last.results["sample_ratio"]["mismatch"] is True


def test_any_program_can_check_the_identity() -> None:
    record = look_at(ONE_LOOK).record
    canonical = json.dumps(record["inputs"], sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == record["look"]["sha256"]
    assert record["inputs"]["integers"] == record["integers"]


def test_every_input_changes_the_identity_and_what_holds_looks_back_does_not() -> None:
    definition, path = make_definition(), ExperimentPath()
    base = compute_look(definition, ONE_LOOK, cut=make_cut(), path_before=path).sha256
    others = [
        compute_look(make_definition(version=4), ONE_LOOK, cut=make_cut(), path_before=path),
        compute_look(
            definition,
            make_totals([rate(10_000, 38), rate(10_000, 43)]),
            cut=make_cut(),
            path_before=path,
        ),
        compute_look(
            definition, ONE_LOOK._replace(is_final=True), cut=make_cut(), path_before=path
        ),
        compute_look(definition, ONE_LOOK._replace(crossovers=1), cut=make_cut(), path_before=path),
        compute_look(definition, ONE_LOOK, cut=make_cut(2), path_before=path),
        compute_look(
            definition,
            ONE_LOOK,
            cut=make_cut()._replace(state_version=NEXT_VERSION),
            path_before=path,
        ),
        compute_look(definition, ONE_LOOK, cut=make_cut(), path_before=ExperimentPath({}, 0.5)),
    ]
    assert len({base, *(look.sha256 for look in others)}) == 1 + len(others)
    behind = make_cut()._replace(behind=(1,))
    assert compute_look(definition, ONE_LOOK, cut=behind, path_before=path).sha256 == base


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=4),
    st.integers(-(2**62), 2**62),
)
def test_a_published_look_can_be_computed_again_from_its_record(
    looks: list[tuple[int, int]], total: int
) -> None:
    definition = make_definition(metrics=(CONVERSION, REVENUE))
    path = ExperimentPath()
    for control, treatment in looks:
        totals = make_totals(
            [rate(400, control), rate(400, treatment)],
            [Sums(2, total, total**2), Sums(3, control, 10 * control**2)],
        )
        look = compute_look(definition, totals, cut=make_cut(), path_before=path)
        published = json.loads(json.dumps(look.record, allow_nan=False))
        assert recompute(published, definition).record == look.record
        assert finite_numbers_only(look.record)
        path = look.path_after


def test_another_definition_is_no_basis_to_compute_it_again() -> None:
    record = look_at(ONE_LOOK).record
    with pytest.raises(ValueError, match="is another one"):
        recompute(record, make_definition(version=9))


def test_overflowed_units_are_told() -> None:
    entry = entry_of(look_at(ONE_LOOK._replace(overflowed=(2,))).results, "conversion", "matured")
    assert (entry["status"], entry["overflowed"]) == ("units_overflowed", 2)


@pytest.mark.parametrize(
    ("sums", "status"),
    [
        (Sums(), "no_units"),
        (rate(1, 1), "insufficient"),
        (Sums(5, 6, 6), "invalid_input"),
        (rate(2, 1), "ok"),
    ],
)
def test_a_variant_says_why_it_has_no_numbers(sums: Sums, status: str) -> None:
    results = look_at(make_totals([sums, rate(100, 50)])).results
    variant = entry_of(results, "conversion", "matured")["variants"][0]
    assert variant["status"] == status
    assert (variant["variance"] is None) == (status != "ok")
