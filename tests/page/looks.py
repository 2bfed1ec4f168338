"""Looks as the processors publish them, of sums that a test makes up: no number is invented."""

from collections.abc import Callable

from schemas.control import Times
from schemas.definitions import Definition, Metric
from schemas.partials import STATE_VERSION
from stream_processors.merge.look import Cut, Look, compute_look
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.totals import Totals
from stream_processors.stats.sums import MetricSums

SumsOf = Callable[[Metric, str], tuple[MetricSums, ...]]
"""Sums of a metric on a basis, per variant."""


def totals_of(
    definition: Definition,
    units: tuple[int, ...],
    sums: SumsOf,
    *,
    segments: dict[str, dict[str, Totals]] | None = None,
    is_final: bool = False,
) -> Totals:
    """Return the totals of an experiment: one of 400 units of the control was in two variants."""
    matured, of_open = (
        tuple(sums(metric, basis) for metric in definition.metrics) for basis in ("matured", "open")
    )
    none_overflowed = (0,) * len(definition.metrics)
    crossovers = units[0] // 400
    return Totals(units, crossovers, matured, of_open, none_overflowed, segments or {}, is_final)


def look_at(
    definition: Definition, totals: Totals, *, tick: int, now_ms: int, before: ExperimentPath
) -> Look:
    """Return the look at a tick whose log time is now."""
    times = Times(now_ms, now_ms - 300, now_ms - 4_200_000)
    cut = Cut("log-1", STATE_VERSION, tick, times, {0: tick})
    look = compute_look(definition, totals, cut=cut, path_before=before)
    look.results["look"]["age_ms"] = 84
    return look
