"""A look: sums in, the results object of the contract out. Pure.

A look's identity is the SHA-256 of its inputs: integers, strings, and what earlier looks left, its
floats bit for bit. Ages and estimates stay outside, so that every replay gets the same one.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from schemas.control import Times
from schemas.definitions import Definition
from schemas.times import format_time_ms
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.posteriors import believed
from stream_processors.merge.questions import Answer, questions_of
from stream_processors.merge.results import metrics_of, sample_ratio_of
from stream_processors.merge.segments import segments_of
from stream_processors.merge.totals import Totals, totals_from_strings
from stream_processors.merge.verdict import verdict
from stream_processors.stats.comparisons import compare_all


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
        record: The same with ``segments``, and with ``integers`` and ``inputs``: enough to compute
            it again.
        path_after: Path state for the next look.
        sha256: Its identity.
    """

    results: dict[str, Any]
    record: dict[str, Any]
    path_after: ExperimentPath
    sha256: str


class Asked(NamedTuple):
    """A look to be computed.

    Attributes:
        definition: As of the tick.
        totals: Sums over all partitions.
        cut: Where in the log.
        path_before: What the looks so far left behind.
    """

    definition: Definition
    totals: Totals
    cut: Cut
    path_before: ExperimentPath


def compute_look(
    definition: Definition, totals: Totals, *, cut: Cut, path_before: ExperimentPath
) -> Look:
    """Return the look at an experiment at a tick."""
    return compute_looks([Asked(definition, totals, cut, path_before)])[0]


def compute_looks(asked: Sequence[Asked]) -> list[Look]:
    """Return the looks at several experiments; all their comparisons are computed together."""
    questions = [questions_of(one.definition, one.totals) for one in asked]
    all_questions = [
        (one.definition.analysis, question)
        for one, of_look in zip(asked, questions, strict=True)
        for question in of_look
    ]
    compared = compare_all([question.comparison for _, question in all_questions])
    effects = iter(believed(all_questions, compared))
    return [
        _look(one, [Answer(question, next(effects)) for question in of_look])
        for one, of_look in zip(asked, questions, strict=True)
    ]


def _look(asked: Asked, answers: Sequence[Answer]) -> Look:
    definition, totals, cut, path_before = asked
    inputs = look_inputs(definition, totals, cut=cut, path_before=path_before)
    sha256 = identity(inputs)
    metrics = metrics_of(definition, totals, answers, before=path_before, tick=cut.tick)
    segments = segments_of(definition, totals, answers, path_before)
    sample_ratio, running = sample_ratio_of(
        definition, totals.units, path_before.split_p_value, final=totals.is_final
    )
    results = {
        "experiment_id": definition.id,
        "version": definition.version,
        "status": definition.status,
        "final": totals.is_final,
        "look": _look_head(cut, sha256),
        "hypothesis": definition.hypothesis,
        "analysis": {"method": definition.analysis.method, "alpha": definition.analysis.alpha},
        "variants": [
            {"variant": variant_id, "units": count}
            for variant_id, count in zip(definition.variant_ids, totals.units, strict=True)
        ],
        "crossovers": totals.crossovers,
        "sample_ratio": sample_ratio,
        "sample_ratio_by_segment": segments.sample_ratios,
        "metrics": metrics.entries,
    }
    results["verdict"] = verdict(definition, results)
    record = results | {
        "segments": segments.results,
        "integers": inputs["integers"],
        "inputs": inputs,
    }
    path_after = ExperimentPath(metrics.comparisons, running, metrics.adjusted, segments.p_values)
    return Look(results, record, path_after, sha256)


def look_inputs(
    definition: Definition, totals: Totals, *, cut: Cut, path_before: ExperimentPath
) -> dict[str, Any]:
    """Return all that a look depends on. No float is rounded: equal inputs are equal bytes."""
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
