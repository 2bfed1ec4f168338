"""A look that no message takes is skipped with its reason; what may get so large is not defined.

The estimate of ``schemas.look_size`` is held to looks at sums as large as they realistically get.
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas.control import DefinitionChange
from schemas.definitions import Analysis, CapQuantile, Definition, Metric, Prior
from schemas.look_size import (
    ESTIMATED_BYTES_MAX,
    HEAD_BYTES,
    LOOK_BYTES_MAX,
    look_bytes,
    metric_bytes,
)
from schemas.partials import ExperimentSums, histogram_to_bytes
from schemas.topics import LOOKS, SNAPSHOTS
from stream_processors.merge.look import compute_look
from stream_processors.merge.merging import Limits, MergedTick, Merger, SkipCode
from stream_processors.merge.metric_sums import no_metric_sums
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.totals import Totals
from stream_processors.stats.sums import CapSums, JointSums, MetricSums
from stream_processors.worker import CHANGELOG_RECORD_BYTES_MAX
from tests.stream_processors.merge.builders import (
    CONVERSION,
    make_cut,
    make_definition,
    make_partial,
    make_sums,
    rate,
)

UNITS = 10**9
HOUR_MS = 3_600_000
NAME = "m" * 24
ANALYSES = [
    Analysis(),
    Analysis("group_sequential", units_max=2 * UNITS),
    Analysis("fixed_horizon"),
    Analysis("bayesian", prior=Prior(1.0)),
]
MARGIN: dict[str, Any] = {"role": "guardrail", "margin": {"relative": 0.02}}
METRICS = [
    Metric(NAME, "conversion", "e", window_ms=HOUR_MS, **MARGIN),
    Metric(NAME, "conversion", "e", window_ms=HOUR_MS, covariate_days=7, **MARGIN),
    Metric(NAME, "sum", "e", window_ms=HOUR_MS, **MARGIN),
    Metric(NAME, "sum", "e", window_ms=HOUR_MS, covariate_days=7, **MARGIN),
    Metric(NAME, "sum", "e", window_ms=HOUR_MS, cap=CapQuantile(0.99), **MARGIN),
    Metric(NAME, "ratio", "e", window_ms=HOUR_MS, denominator="f", covariate_days=7, **MARGIN),
    Metric(NAME, "mean", "e", window_ms=HOUR_MS, **MARGIN),
    Metric(NAME, "quantile", "e", window_ms=HOUR_MS, quantile=0.5, of="units"),
]
EVENTS = Metric(NAME, "quantile", "e", window_ms=HOUR_MS, quantile=0.9, of="events")


def joint(dimension: int, variant: int) -> JointSums:
    """Return sums over a billion units whose totals are about a billion quanta each."""
    count = UNITS + 12_345 * variant
    means = [10**9 + 7 * place for place in range(dimension)]
    products = tuple(
        count * (one * other + (10**16 if at == to else 10**15))
        for (at, one), (to, other) in combinations_with_replacement(enumerate(means), 2)
    )
    return JointSums(count, tuple(count * (one + variant) for one in means), products)


def arms_of(metric: Metric, variants: int) -> tuple[MetricSums, ...]:
    found = []
    for variant in range(variants):
        empty = no_metric_sums(metric)
        total = joint(empty.total.dimension, variant)
        caps, covariates = empty.caps, empty.covariates
        found.append(
            empty._replace(
                total=total,
                covariates=None if covariates is None else joint(covariates.dimension, variant),
                caps=None
                if caps is None
                else tuple(
                    CapSums(total.unit_count - at, total.sums[0] - at, total.products[0] - at)
                    for at in range(len(caps))
                ),
                # Lognormal with a standard deviation of 2, a billion units: 2,189 buckets.
                histogram=None
                if empty.histogram is None
                else {bucket: 10**6 + bucket for bucket in range(1_000, 3_189)},
                # With 1, ten million events: 948 buckets, of which the outer third is thin.
                shards=None
                if empty.shards is None
                else tuple(
                    {bucket: 300 + bucket for bucket in range(1_400 + shard % 2, 2_150)}
                    for shard in range(64)
                ),
            )
        )
    return tuple(found)


def size_of_look(definition: Definition) -> int:
    """Return the bytes of the third look at the largest realistic sums."""
    variants = len(definition.variants)
    per_metric = tuple(arms_of(metric, variants) for metric in definition.metrics)
    overflowed = (0,) * len(per_metric)
    units = (UNITS,) * variants
    totals = Totals(units, 0, per_metric, per_metric, overflowed, {})
    totals = totals._replace(
        segments={
            attribute: dict.fromkeys([*values, "other"], totals)
            for attribute, values in definition.segments.items()
        }
    )
    path = ExperimentPath()
    for tick in (1, 2, 3):
        look = compute_look(definition, totals, cut=make_cut(tick), path_before=path)
        path = look.path_after
    return len(msgspec.json.encode(look.record))


def estimate(definition: Definition) -> int:
    return look_bytes(definition.metrics, definition.variant_ids, definition.segments)


def defined(metrics: Sequence[Metric], *, arms: int, **fields: Any) -> Definition:
    made = make_definition(metrics=metrics, weights=(1 / arms,) * arms)
    return msgspec.structs.replace(made, **fields)


@pytest.mark.parametrize("metric", METRICS, ids=range(len(METRICS)))
def test_the_estimate_holds_for_every_kind_under_every_method(metric: Metric) -> None:
    per_arm = []
    for analysis in ANALYSES:
        few, many = (defined([metric], arms=arms, analysis=analysis) for arms in (2, 4))
        sizes = size_of_look(few), size_of_look(many)
        assert sizes[0] <= estimate(few)
        assert sizes[1] <= estimate(many)
        per_arm.append((sizes[1] - sizes[0]) / 2 / 2)
    assert max(per_arm) <= metric_bytes(metric) + 2 * len(NAME) + 200
    assert metric_bytes(metric) <= 2 * max(per_arm)


def test_the_estimate_holds_for_quantiles_of_events() -> None:
    one = defined([EVENTS], arms=2)

    assert size_of_look(one) <= estimate(one) <= 1.3 * size_of_look(one)


def test_the_estimate_holds_within_segments_and_for_the_longest_names() -> None:
    metrics = [
        msgspec.structs.replace(one, id=str(at) + "m" * 127) for at, one in enumerate(METRICS[:-1])
    ]
    values = [str(at) + "ü" * 120 for at in range(6)]
    one = defined(metrics, arms=3, segments={"country": values}, analysis=ANALYSES[3])

    size = size_of_look(one)
    assert size <= estimate(one) <= 2.5 * size


def test_what_may_be_defined_fits_and_what_is_sent_fits_what_takes_it() -> None:
    assert ESTIMATED_BYTES_MAX + 4 * 90_000 <= LOOK_BYTES_MAX
    for topic in (LOOKS, SNAPSHOTS):
        taken = int(topic.broker_config()["max.message.bytes"])
        assert min(taken, CHANGELOG_RECORD_BYTES_MAX) >= LOOK_BYTES_MAX + 100_000
    three = [msgspec.structs.replace(EVENTS, id=f"p{at}") for at in (50, 90, 99)]
    assert HEAD_BYTES < estimate(defined(three, arms=2)) <= ESTIMATED_BYTES_MAX


# --- a look that is too large all the same ---

LATENCY = Metric("latency", "quantile", "load", window_ms=HOUR_MS, quantile=0.9, of="units")
TIGHT = Limits(look_bytes=20_000)


def sums_of(experiment_id: str, buckets: int, units: int) -> ExperimentSums:
    sums = make_sums(experiment_id, *[[rate(units, units // 2), rate(units, units // 3)]] * 2)
    histograms: list[list[bytes]] = [
        [],
        [histogram_to_bytes(np.full((buckets, 1), 9, np.int64), 500)] * 2,
    ]
    return msgspec.structs.replace(sums, matured_histograms=histograms, open_histograms=histograms)


def tick_of(merger: Merger, *sums: ExperimentSums, **changed: Definition) -> MergedTick:
    changes = [DefinitionChange(one) for one in changed.values()]
    partial = make_partial(0, merger.tick + 1, *sums, changes=changes)
    [tick] = merger.take(merger.next_offset, partial)
    return tick


def begun() -> Merger:
    merger = Merger(1, TIGHT)
    large, small = (make_definition(one, metrics=[CONVERSION, LATENCY]) for one in ("l", "s"))
    tick_of(merger, sums_of("l", 5, 1_000), sums_of("s", 5, 1_000), large=large, small=small)
    return merger


def test_a_look_that_is_too_large_is_skipped_and_the_others_go_on() -> None:
    merger = begun()

    tick = tick_of(merger, sums_of("l", 3_000, 2_000), sums_of("s", 5, 2_000))

    assert [one for one, _ in tick.looks] == [one for one, _ in tick.snapshots] == ["s"]
    assert {row.key.split("|")[0] for row in tick.rows} == {"s"}
    [skipped] = tick.skipped
    assert (skipped.experiment_id, skipped.tick, skipped.code) == ("l", 2, SkipCode.TOO_LARGE)
    assert skipped.reason.startswith("a look of ")
    assert skipped.reason.endswith(" bytes, must be 20000 at most")
    assert tick.ledger["skipped"] == {"l": skipped.reason}


def test_it_is_not_computed_again_before_something_changes() -> None:
    merger = begun()
    large = sums_of("l", 3_000, 2_000)
    tick_of(merger, large)

    assert not tick_of(merger).skipped
    assert not tick_of(merger, large).skipped
    assert tick_of(merger).ledger["skipped"].keys() == {"l"}
    assert tick_of(merger, sums_of("l", 3_000, 2_001)).skipped


def test_it_is_made_up_for_once_it_fits_as_if_the_others_had_not_been_due() -> None:
    merger, undisturbed = begun(), begun()
    tick_of(merger, sums_of("l", 3_000, 2_000))
    tick_of(undisturbed)

    looks = [tick_of(one, sums_of("l", 7, 3_000)) for one in (merger, undisturbed)]

    assert looks[0].looks == looks[1].looks
    assert len(looks[0].looks) == 1
    assert looks[0].ledger["skipped"] == {}


def test_after_a_restart_it_is_tried_once_more_and_skipped_with_its_reason() -> None:
    merger = begun()
    records = merger.records()
    tick_of(merger, sums_of("l", 3_000, 2_000))
    records |= merger.records()
    loaded = Merger.load(records, 1, TIGHT)

    [skipped] = tick_of(loaded).skipped

    assert (skipped.experiment_id, skipped.code) == ("l", SkipCode.TOO_LARGE)
    assert not tick_of(loaded).skipped
    roomy = Merger.load(records, 1)
    assert [one for one, _ in tick_of(roomy).looks] == ["l"]


def test_a_definition_that_changes_is_shown_although_its_look_is_too_large() -> None:
    merger = begun()
    tick_of(merger, sums_of("l", 3_000, 2_000))
    metrics = [CONVERSION, LATENCY]
    stopped = msgspec.structs.replace(
        make_definition("l", metrics=metrics, version=9), status="stopped"
    )

    tick = tick_of(merger, stopped=stopped)

    [(experiment_id, snapshot)] = tick.snapshots
    assert (experiment_id, snapshot["definition"]["status"]) == ("l", "stopped")
    assert snapshot["results"] is None
    assert not tick.looks
