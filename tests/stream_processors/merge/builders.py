"""Definitions, totals and partials with defaults; a test names only what it is about."""

from collections.abc import Sequence

import msgspec

from schemas.control import Change, Settings, Times
from schemas.definitions import Analysis, Definition, Interval, Metric, Variant
from schemas.partials import (
    STATE_VERSION,
    ExperimentSums,
    ImportCount,
    Ledger,
    Partial,
    integers_to_bytes,
)
from stream_processors.merge.look import Cut
from stream_processors.merge.totals import Totals
from stream_processors.stats.sums import MetricSums, Sums, joint_sums

START_MS = 1_795_284_000_123
CONVERSION = Metric("conversion", "conversion", "purchase", window_ms=72 * 3_600_000)
COUNT = Metric("orders", "count", "purchase", role="secondary", window_ms=3_600_000)
REVENUE = Metric("revenue", "sum", "purchase", role="secondary", precision=2)


NEXT_VERSION = STATE_VERSION + 1


def make_definition(
    experiment_id: str = "checkout-color",
    *,
    metrics: Sequence[Metric] = (CONVERSION,),
    started: bool = True,
    version: int = 3,
    weights: Sequence[float] = (0.5, 0.5),
    n_star: int = 5_000,
) -> Definition:
    ids = ["control", "treatment", *(f"arm-{index}" for index in range(2, len(weights)))]
    variants = [
        Variant(one, weight, is_control=one == "control")
        for one, weight in zip(ids, weights, strict=False)
    ]
    return Definition(
        id=experiment_id,
        ordinal=0,
        version=version,
        variants=variants,
        metrics=list(metrics),
        seed=experiment_id,
        analysis=Analysis(n_star=n_star),
        status="running" if started else "draft",
        started_at_ms=START_MS if started else None,
        intervals=[Interval(START_MS)] if started else [],
    )


def make_times(tick: int) -> Times:
    log_ms = START_MS + 200 * tick
    return Times(log_ms, log_ms, log_ms - 4_200_000)


def make_cut(tick: int = 1) -> Cut:
    return Cut("log-1", STATE_VERSION, tick, make_times(tick), {0: 10 * tick, 1: 11 * tick})


def rate(count: int, converted: int) -> Sums:
    return Sums(count, converted, converted)


def make_totals(*metrics: Sequence[Sums], is_final: bool = False) -> Totals:
    """Return totals whose matured and open sums are the same."""
    per_metric = tuple(tuple(MetricSums(joint_sums(one)) for one in metric) for metric in metrics)
    units = tuple(sums.unit_count for sums in metrics[0])
    return Totals(units, 0, per_metric, per_metric, (0,) * len(metrics), {}, is_final=is_final)


def words(sums: Sequence[Sums]) -> bytes:
    """Return sums as they stand in a partial."""
    return integers_to_bytes(number for one in sums for number in one)


def make_sums(experiment_id: str, *metrics: Sequence[Sums], final: bool = False) -> ExperimentSums:
    encoded = [words(metric) for metric in metrics]
    units = [sums.unit_count for sums in metrics[0]]
    overflowed = [0] * len(metrics)
    counts = [sum(sums.sum_q for sums in metrics[0]), 0, 0, 0]
    return ExperimentSums(experiment_id, units, 0, encoded, encoded, overflowed, counts, final)


def make_partial(
    partition: int,
    tick: int,
    *experiments: ExperimentSums,
    changes: Sequence[Change] = (),
    writer: str = "a",
    part: int = 0,
    parts: int = 1,
    state_version: int = STATE_VERSION,
    log_id: str = "log-1",
    imports: list[ImportCount] | None = None,
) -> Partial:
    return Partial(
        log_id=log_id,
        state_version=state_version,
        partition=partition,
        tick=tick,
        times=make_times(tick),
        next_offset=100 * tick + partition,
        writer=writer,
        part=part,
        parts=parts,
        ledger=Ledger(received=tick, fresh=tick),
        changes=list(changes),
        settings=Settings(),
        experiments=list(experiments),
        imports=imports,
    )


def finite_numbers_only(value: object) -> bool:
    """Return whether JSON gives back exactly ``value``: NaN and infinity would become null."""
    return bool(msgspec.json.decode(msgspec.json.encode(value)) == value)
