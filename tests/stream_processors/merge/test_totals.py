"""Totals over partitions are sums of what partitions said, however it was sent and written down."""

import msgspec
import numpy as np
import pytest

from schemas.definitions import CapQuantile, Metric
from schemas.partials import (
    ExperimentSums,
    SegmentSums,
    decode_partial,
    encode_partial,
    histogram_to_bytes,
    in_parts,
    integers_to_bytes,
)
from stream_processors.merge.assembly import PartitionReports
from stream_processors.merge.totals import totals_from_strings, totals_of
from stream_processors.stats.sums import CapSums, JointSums, MetricSums
from tests.stream_processors.merge.builders import make_definition, make_partial

METRICS = [
    Metric("r", "ratio", "a", denominator="b", covariate_days=7),
    Metric("capped", "count", "a", cap=5.0),
    Metric("wide", "sum", "a", precision=0, cap=CapQuantile(0.99)),
    Metric("median", "quantile", "a", quantile=0.5, of="units"),
    Metric("slow", "quantile", "a", quantile=0.9, of="events"),
]
DEFINITION = msgspec.structs.replace(
    make_definition(metrics=METRICS), segments={"country": ["CA", "US"]}
)
PAIR = [3, 10, 4, 40, 15, 6]
CLASSES = 33


def reported(scale: int) -> dict[str, list]:
    """Return the fields of a report in which everything is ``scale`` times as much."""

    def both(integers: list[int]) -> bytes:
        return integers_to_bytes([scale * one for one in integers + [0] * len(integers)])

    four = [2, *range(1, 5), *range(1, 11)]
    # Totals 1 and 6: up to cap 1, and between caps 4 and 8.
    classes = [1, 1, 1] + [0] * 6 + [1, 6, 36] + [0] * 3 * (CLASSES - 4)
    units, shards = np.zeros((3, 1), np.int64), np.zeros((2, 64), np.int64)
    units[[0, 2], 0], shards[1, 63] = (scale, 2 * scale), scale
    nothing = histogram_to_bytes(units[:0], 0)
    return {
        "totals": [
            both(PAIR),
            both([3, 9, 29]),
            both([2, 7, 37]),
            both([3, 5, 9]),
            both([1, 1, 1]),
        ],
        "covariates": [both(four), b"", b"", b"", b""],
        "capped": [b"", both([2]), both(classes), b"", b""],
        "histograms": [
            [],
            [],
            [],
            [histogram_to_bytes(units, -1), nothing],
            [histogram_to_bytes(shards, 40), histogram_to_bytes(shards[:0], 0)],
        ],
    }


def sums(scale: int) -> ExperimentSums:
    columns = reported(scale)
    fields = {
        f"{basis}{suffix}": columns[name]
        for basis in ("matured", "open")
        for suffix, name in (
            ("", "totals"),
            ("_covariates", "covariates"),
            ("_capped", "capped"),
            ("_histograms", "histograms"),
        )
    }
    counts = {"units": [3 * scale, 0], "crossovers": scale, "overflowed": [scale] * 5}
    segment = SegmentSums(group=2, **counts, **fields)
    return ExperimentSums(
        "checkout-color", attribution=[0, 0, 0, 0], segments=[segment], **counts, **fields
    )


def expected(scale: int) -> list[MetricSums]:
    """Return what the control's sums are, by hand."""
    n, y, d, yy, yd, dd = (scale * one for one in PAIR)
    caps = [2**step for step in range(32)]
    wide = tuple(
        CapSums(
            scale * sum(q > cap for q in (1, 6)),
            scale * sum(min(q, cap) for q in (1, 6)),
            scale * sum(min(q, cap) ** 2 for q in (1, 6)),
        )
        for cap in caps
    )
    shards: list[dict[int, int]] = [{} for _ in range(64)]
    shards[63] = {41: scale}
    four = JointSums(
        2 * scale,
        tuple(scale * one for one in range(1, 5)),
        tuple(scale * one for one in range(1, 11)),
    )
    return [
        MetricSums(JointSums(n, (y, d), (yy, yd, dd)), four),
        MetricSums(
            JointSums(3 * scale, (9 * scale,), (29 * scale,)),
            caps=(CapSums(2 * scale, 9 * scale, 29 * scale),),
        ),
        MetricSums(JointSums(2 * scale, (7 * scale,), (37 * scale,)), caps=wide),
        MetricSums(
            JointSums(3 * scale, (5 * scale,), (9 * scale,)),
            histogram={-1: scale, 1: 2 * scale},
        ),
        MetricSums(JointSums(scale, (scale,), (scale,)), shards=tuple(shards)),
    ]


def test_what_partitions_report_adds_up_in_every_shape() -> None:
    totals = totals_of([sums(scale) for scale in (1, 10)], DEFINITION)

    for found in (totals, totals.segments["country"]["US"]):
        assert [metric[0] for metric in found.matured] == expected(11)
        assert found.open == found.matured
        assert all(metric[1].total.unit_count == 0 for metric in found.open)
        assert (found.units, found.crossovers, found.overflowed) == ((33, 0), 11, (11,) * 5)
    assert list(totals.segments["country"]) == ["CA", "US", "other"]
    assert not totals.segments["country"]["CA"].any()


def test_totals_come_back_from_what_a_look_writes_down() -> None:
    totals = totals_of([sums(7)], DEFINITION)

    written = msgspec.json.decode(msgspec.json.encode(totals.as_strings()))

    assert totals_from_strings(written, is_final=False) == totals


@pytest.mark.parametrize("count", range(6))
def test_a_metric_that_a_partition_has_not_heard_of_is_zero_there(count: int) -> None:
    whole = sums(3)
    older = msgspec.structs.replace(
        whole,
        **{
            name: getattr(whole, name)[:count]
            for name in whole.__struct_fields__
            if name.startswith(("matured", "open", "overflowed"))
        },
    )

    totals = totals_of([whole, older], DEFINITION)

    twice = expected(6)[:count] + expected(3)[count:]
    assert [metric[0] for metric in totals.matured] == twice
    assert totals.overflowed == (6,) * count + (3,) * (5 - count)


def test_without_any_report_all_is_zero_in_the_shapes_of_the_metrics() -> None:
    totals = totals_of([], DEFINITION)

    empty = totals_of([sums(1)], DEFINITION).emptied()
    assert totals._replace(segments={}) == empty
    assert totals.segments == {"country": dict.fromkeys(["CA", "US", "other"], empty)}


def test_sums_of_another_number_of_variants_are_refused() -> None:
    three = msgspec.structs.replace(sums(1), matured=[integers_to_bytes([1, 1, 1] * 3)] * 5)

    with pytest.raises(ValueError, match="variants"):
        totals_of([three], DEFINITION)


def test_an_experiment_whose_sums_come_in_pieces_is_whole_in_the_report() -> None:
    large = msgspec.structs.replace(sums(1), experiment_id="y", open=[b"\0" * 700_000])
    reported = [sums(2), large, msgspec.structs.replace(sums(3), experiment_id="z")]
    parts = in_parts(reported, 256_000)
    reports = PartitionReports(0)

    for number, (experiments, pieces) in enumerate(parts):
        one = make_partial(0, 1, *experiments, part=number, parts=len(parts))
        sent = encode_partial(msgspec.structs.replace(one, pieces=pieces))
        reports.take(number, decode_partial(sent), len(sent))

    [report] = reports.complete
    assert len(parts) > 2
    assert sorted(report.experiments, key=lambda one: one.experiment_id) == reported
