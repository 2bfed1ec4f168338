"""A look: sums in, the results object of the contract out. Pure.

A look's identity is the SHA-256 of its inputs, which are integers and strings only. Ages and
floats stay outside, so that every machine and every replay gets the same one.
"""

import hashlib
from typing import Any, NamedTuple

import msgspec

from schemas.control import Times
from schemas.definitions import Definition, Metric
from schemas.times import format_duration_ms, format_time_ms
from stream_processors.merge.path import ComparisonPath, ExperimentPath
from stream_processors.merge.totals import Totals, totals_from_strings
from stream_processors.stats.comparisons import compare
from stream_processors.stats.edges import is_possible
from stream_processors.stats.effects import Effect, Plan, RelativeEffect
from stream_processors.stats.relative import Interval
from stream_processors.stats.sample_ratio import (
    CONCENTRATION,
    sample_ratio_log_bayes_factor,
    sample_ratio_test,
    sequential_p_value,
)
from stream_processors.stats.sums import Sums, moments, quanta, sample_mean

SAMPLE_RATIO_ALPHA = 0.001
"""Level of the alarm; Fabijan et al. (2019) use it."""


class Cut(NamedTuple):
    """Where in the log a look is taken.

    Attributes:
        log_id: Which control log.
        state_version: Rules under which its sums were counted.
        tick: Number of the tick.
        times: Its times.
        offsets: Per partition, the first offset that is not in the sums.
        behind: Partitions that hold looks back; no part of the identity.
    """

    log_id: str
    state_version: int
    tick: int
    times: Times
    offsets: dict[int, int]
    behind: tuple[int, ...] = ()


class Look(NamedTuple):
    """A look that was computed.

    Attributes:
        results: The results object of the contract.
        record: The same with ``integers`` and ``inputs``: enough to compute it again.
        path_after: Path state for the next look.
        sha256: Its identity.
    """

    results: dict[str, Any]
    record: dict[str, Any]
    path_after: ExperimentPath
    sha256: str


def compute_look(
    definition: Definition, totals: Totals, *, cut: Cut, path_before: ExperimentPath
) -> Look:
    """Return the look at an experiment at a tick.

    Path states advance on matured units only, and only past the burn-in.
    """
    inputs = look_inputs(definition, totals, cut=cut, path_before=path_before)
    sha256 = identity(inputs)
    comparisons = dict(path_before.comparisons)
    metrics: list[dict[str, Any]] = []
    for index, metric in enumerate(definition.metrics):
        if metric.window_ms is not None:
            paths = dict(comparisons.get(metric.id, {}))
            metrics.append(_matured(definition, metric, totals, index, paths))
            comparisons[metric.id] = paths
        metrics.append(_open(definition, metric, totals, index))
    sample_ratio, sample_ratio_p_value = _sample_ratio(
        definition, totals, path_before.sample_ratio_p_value
    )
    results = {
        "experiment_id": definition.id,
        "version": definition.version,
        "status": definition.status,
        "final": totals.is_final,
        "look": _look_head(cut, sha256),
        "variants": [
            {"variant": variant_id, "units": count}
            for variant_id, count in zip(definition.variant_ids, totals.units, strict=True)
        ],
        "crossovers": totals.crossovers,
        "sample_ratio": sample_ratio,
        "metrics": metrics,
    }
    record = results | {"integers": inputs["integers"], "inputs": inputs}
    return Look(results, record, ExperimentPath(comparisons, sample_ratio_p_value), sha256)


def look_inputs(
    definition: Definition, totals: Totals, *, cut: Cut, path_before: ExperimentPath
) -> dict[str, Any]:
    """Return all that a look depends on. Integers and strings: equal inputs are equal bytes."""
    return {
        "experiment_id": definition.id,
        "log_id": cut.log_id,
        "state_version": cut.state_version,
        "tick": cut.tick,
        "times": [cut.times.log_ms, cut.times.settled_ms, cut.times.horizon_ms],
        "offsets": {str(partition): offset for partition, offset in sorted(cut.offsets.items())},
        "definition": identity(definition),
        "integers": totals.as_strings(),
        "final": totals.is_final,
        "path": path_before.exact(),
    }


def identity(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON: sorted keys, no spaces, UTF-8."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def recompute(record: dict[str, Any], definition: Definition) -> Look:
    """Return the look that a record of ``litmus.looks`` says was computed.

    Raises:
        ValueError: If the definition is not the one that the record was computed with.
    """
    inputs = record["inputs"]
    if identity(definition) != inputs["definition"]:
        raise ValueError(f"definition {definition.version} of {definition.id} is another one")
    cut = Cut(
        inputs["log_id"],
        inputs["state_version"],
        inputs["tick"],
        Times(*inputs["times"]),
        {int(partition): offset for partition, offset in inputs["offsets"].items()},
    )
    return compute_look(
        definition,
        totals_from_strings(record["integers"], is_final=inputs["final"]),
        cut=cut,
        path_before=ExperimentPath.from_exact(inputs["path"]),
    )


def _look_head(cut: Cut, sha256: str) -> dict[str, Any]:
    return {
        "tick": cut.tick,
        "log_id": cut.log_id,
        "as_of": format_time_ms(cut.times.log_ms),
        "settled_lag_ms": cut.times.log_ms - cut.times.settled_ms,
        "age_ms": None,
        "offsets": {str(partition): offset for partition, offset in sorted(cut.offsets.items())},
        "behind": list(cut.behind),
        "sha256": sha256,
    }


def _matured(
    definition: Definition,
    metric: Metric,
    totals: Totals,
    index: int,
    paths: dict[str, ComparisonPath],
) -> dict[str, Any]:
    """Return the entry on matured units; ``paths`` of the metric move on."""
    sums = totals.matured[index]
    effects = []
    for variant_id, effect in _effects(definition, metric, sums):
        path = paths.get(variant_id, ComparisonPath())
        if effect.sequence is not None:
            sequence = effect.sequence
            path = paths[variant_id] = path.after(sequence.p_value, sequence.low, sequence.high)
        entry = _effect_entry(variant_id, definition.control, effect)
        if path.is_empty and effect.sequence is not None:
            entry["status"] = "empty_intersection"
        entry["absolute"]["always_valid"] = _always_valid(effect, path)
        entry["relative"]["always_valid"] = _relative_always_valid(effect)
        effects.append(entry)
    head = _metric_head(metric, "matured", totals.overflowed[index])
    return head | {"variants": _variants(definition, metric, sums), "effects": effects}


def _open(definition: Definition, metric: Metric, totals: Totals, index: int) -> dict[str, Any]:
    """Return the entry on all units with totals to date: pointwise, without path."""
    sums = totals.open[index]
    effects = []
    for variant_id, effect in _effects(definition, metric, sums):
        entry = _effect_entry(variant_id, definition.control, effect)
        if entry["status"] == "warming_up":
            entry["status"] = "ok"
        effects.append(entry)
    head = _metric_head(metric, "open", totals.overflowed[index]) | {"descriptive": True}
    return head | {"variants": _variants(definition, metric, sums), "effects": effects}


def _effects(
    definition: Definition, metric: Metric, sums: tuple[Sums, ...]
) -> list[tuple[str, Effect]]:
    by_variant = dict(zip(definition.variant_ids, sums, strict=True))
    control_id = definition.control
    plan = Plan(definition.analysis.alpha, definition.analysis.n_star)
    return [
        (
            variant_id,
            compare(
                by_variant[control_id],
                by_variant[variant_id],
                precision=_precision(metric),
                is_rate=metric.kind == "conversion",
                plan=plan,
            ),
        )
        for variant_id in definition.variant_ids
        if variant_id != control_id
    ]


def _precision(metric: Metric) -> int:
    return metric.precision if metric.kind == "sum" else 0


def _metric_head(metric: Metric, basis: str, overflowed: int) -> dict[str, Any]:
    return {
        "metric_id": metric.id,
        "kind": metric.kind,
        "role": metric.role,
        "direction": metric.direction,
        "basis": basis,
        "window": None if metric.window_ms is None else format_duration_ms(metric.window_ms),
        "status": "units_overflowed" if overflowed else "ok",
        "overflowed": overflowed,
    }


def _variants(
    definition: Definition, metric: Metric, sums: tuple[Sums, ...]
) -> list[dict[str, Any]]:
    return [
        _variant_entry(variant_id, metric, one)
        for variant_id, one in zip(definition.variant_ids, sums, strict=True)
    ]


def _variant_entry(variant_id: str, metric: Metric, sums: Sums) -> dict[str, Any]:
    precision = _precision(metric)
    entry = {
        "variant": variant_id,
        "units": sums.unit_count,
        "total": sums.sum_q / quanta(precision) if metric.kind == "sum" else sums.sum_q,
        "mean": None,
        "variance": None,
        "std_error": None,
        "status": "ok",
    }
    if not is_possible(sums, is_rate=metric.kind == "conversion"):
        return entry | {"status": "invalid_input"}
    if sums.unit_count < 1:
        return entry | {"status": "no_units"}
    if sums.unit_count < 2:
        return entry | {"mean": sample_mean(sums, precision), "status": "insufficient"}
    arm = moments(sums, precision)
    return entry | {"mean": arm.mean, "variance": arm.variance, "std_error": arm.std_error}


def _effect_entry(variant_id: str, control_id: str, effect: Effect) -> dict[str, Any]:
    fixed = effect.fixed_horizon
    fixed_entry: dict[str, Any] | None = None
    if fixed is not None:
        fixed_entry = {
            "test": fixed.test,
            "statistic": fixed.statistic,
            "p_value": fixed.p_value,
            "low": fixed.low,
            "high": fixed.high,
        }
        if fixed.degrees_of_freedom is not None:
            fixed_entry["degrees_of_freedom"] = fixed.degrees_of_freedom
    return {
        "variant": variant_id,
        "control": control_id,
        "status": effect.status,
        "flags": list(effect.flags),
        "absolute": {
            "estimate": effect.estimate,
            "std_error": effect.std_error,
            "fixed_horizon": fixed_entry,
        },
        "relative": _relative_entry(effect.relative),
        "cuped": None,
    }


def _relative_entry(relative: RelativeEffect) -> dict[str, Any]:
    return {
        "estimate": relative.estimate,
        "status": relative.status,
        "fixed_horizon": {"method": relative.method} | _ends(relative.fixed_horizon),
    }


def _always_valid(effect: Effect, path: ComparisonPath) -> dict[str, Any] | None:
    sequence = effect.sequence
    if sequence is None:
        return None
    return {
        "p_value": sequence.p_value,
        "low": sequence.low,
        "high": sequence.high,
        "running_p_value": path.p_value,
        "running_low": None if path.is_empty else path.low,
        "running_high": None if path.is_empty else path.high,
    }


def _relative_always_valid(effect: Effect) -> dict[str, Any]:
    interval = effect.relative.sequence
    if interval is not None:
        return _ends(interval) | {"status": "ok"}
    return _ends(None) | {"status": "undefined" if effect.status == "ok" else effect.status}


def _ends(interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {"low": None, "high": None}
    return {"low": interval.low, "high": interval.high}


def _sample_ratio(
    definition: Definition, totals: Totals, p_value_before: float
) -> tuple[dict[str, Any], float]:
    """Return the check of the split, and the running p-value for the next look.

    While looks go on, the running sequential p-value alone raises the alarm. χ² may do so at
    the last look: that is the one planned look it is made for.
    """
    weights = [variant.weight for variant in definition.variants]
    test = sample_ratio_test(totals.units, weights)
    log_bayes_factor = sample_ratio_log_bayes_factor(totals.units, weights)
    running = min(p_value_before, sequential_p_value(log_bayes_factor))
    mismatch = running < SAMPLE_RATIO_ALPHA
    if totals.is_final:
        mismatch = mismatch or test.p_value < SAMPLE_RATIO_ALPHA
    entry = {
        "chi_square": test.chi_square,
        "degrees_of_freedom": test.degrees_of_freedom,
        "p_value": test.p_value,
        "sequential_p_value": running,
        "concentration": CONCENTRATION,
        "mismatch": mismatch,
    }
    return entry, running
