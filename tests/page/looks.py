"""Results objects as the processors publish them, of sums that a test makes up.

What is shown was computed by the very functions that compute looks: no number is made up here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from schemas.definitions import Definition, Metric
from schemas.times import format_time_ms
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.questions import _questions
from stream_processors.merge.results import Answer, metrics_of, sample_ratio_of
from stream_processors.merge.verdict import verdict
from stream_processors.stats.comparisons import compare_all
from stream_processors.stats.sums import MetricSums

Json = dict[str, Any]

SumsOf = Callable[[Metric, str], tuple[MetricSums, ...]]
"""Sums of a metric on a basis, per variant."""


class Numbers(NamedTuple):
    """What a look is made of.

    Attributes:
        units: Exposed units per variant.
        sums: Of every metric and basis.
        is_final: Whether it is the last look.
    """

    units: tuple[int, ...]
    sums: SumsOf
    is_final: bool = False

    @property
    def overflowed(self) -> "_Nothing":
        """Return that no unit left a metric."""
        return _Nothing()


class _Nothing:
    def __getitem__(self, _index: int) -> int:
        return 0


def look_at(
    definition: Definition, numbers: Numbers, *, tick: int, now_ms: int, before: ExperimentPath
) -> tuple[Json, ExperimentPath]:
    """Return the results object, and what the next look remembers."""
    questions = [
        question
        for metric in definition.metrics
        for basis in (("matured", "open") if metric.window_ms else ("open",))
        for question in _questions(
            definition, metric, basis=basis, arms=numbers.sums(metric, basis)
        )
    ]
    effects = compare_all([question.comparison for question in questions])
    answers = [Answer(*one) for one in zip(questions, effects, strict=True)]
    metrics = metrics_of(definition, numbers, answers, before)  # type: ignore[arg-type]
    sample_ratio, running = sample_ratio_of(
        definition, numbers.units, before.sample_ratio_p_value, final=numbers.is_final
    )
    results: Json = {
        "experiment_id": definition.id,
        "version": definition.version,
        "status": definition.status,
        "final": numbers.is_final,
        "look": {
            "tick": tick,
            "as_of": format_time_ms(now_ms),
            "age_ms": 84,
            "behind": [],
            "offsets": {"0": tick},
        },
        "hypothesis": definition.hypothesis,
        "analysis": {"method": definition.analysis.method, "alpha": definition.analysis.alpha},
        "variants": [
            {"variant": variant, "units": units}
            for variant, units in zip(definition.variant_ids, numbers.units, strict=True)
        ],
        "crossovers": numbers.units[0] // 400,
        "sample_ratio": sample_ratio,
        "sample_ratio_by_segment": {},
        "metrics": metrics.entries,
    }
    results["verdict"] = verdict(definition, results)
    return results, ExperimentPath(metrics.comparisons, running, metrics.adjusted)
