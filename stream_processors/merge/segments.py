"""Results by segment: the units of one value of an attribute of their first assignment. Pure.

Who looks at many segments finds something in one of them, so each attribute's comparisons are a
family of their own, and they decide nothing. No look is remembered but those at the split:
within a segment the running numbers are those of this look.

Planned looks are those of all units together: a segment reaches its share of the planned units at
another time, or never. So segments of a group-sequential experiment are read by the always-valid
numbers, which need no plan, and so is their correction; ``method`` says it beside them.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from schemas.definitions import Definition
from stream_processors.merge.effect_entries import segment_effect
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.questions import Answer, Segment
from stream_processors.merge.results import (
    SAMPLE_RATIO_ALPHA,
    adjusted_entry,
    metric_entry,
    sample_ratio_of,
)
from stream_processors.merge.totals import Totals
from stream_processors.stats.families import AnalysisMethod, Candidate, adjust_families
from stream_processors.stats.multiplicity import adjust_p_values

Entry = dict[str, Any]


class Segments(NamedTuple):
    """What a look says of all segments.

    Attributes:
        results: By attribute, in the order of the definition, ``other`` last: ``value``,
            ``method``, ``variants``, ``metrics`` and ``sample_ratio`` of each segment.
        sample_ratios: By attribute: ``value``, ``mismatch`` and ``adjusted_p_value`` of each.
        p_values: By attribute, then value: the running p-values of the split, to be remembered.
    """

    results: dict[str, list[Entry]]
    sample_ratios: dict[str, list[Entry]]
    p_values: dict[str, dict[str, float]]


def segments_of(
    definition: Definition, totals: Totals, answers: Iterable[Answer], before: ExperimentPath
) -> Segments:
    """Return the results of every segment of a definition.

    Args:
        definition: As of the tick.
        totals: Its sums.
        answers: Those to the questions about segments, in their order.
        before: What the looks so far left behind.
    """
    if not definition.segments:
        return Segments({}, {}, {})
    metrics = _metrics(definition, totals, answers)
    results: dict[str, list[Entry]] = {}
    p_values: dict[str, dict[str, float]] = {}
    for attribute, values in totals.segments.items():
        known = before.segment_split_p_values.get(attribute, {})
        results[attribute], p_values[attribute] = [], {}
        for value, within in values.items():
            ratio, running = sample_ratio_of(
                definition, within.units, known.get(value, 1.0), final=totals.is_final
            )
            p_values[attribute][value] = running
            results[attribute].append(
                {
                    "value": value,
                    "method": method_within(definition),
                    "variants": [
                        {"variant": variant, "units": count}
                        for variant, count in zip(definition.variant_ids, within.units, strict=True)
                    ],
                    "metrics": metrics[Segment(attribute, value)],
                    "sample_ratio": ratio,
                }
            )
    return Segments(results, _alarms(results, final=totals.is_final), p_values)


def method_within(definition: Definition) -> AnalysisMethod:
    """Return the method by which segments are read, their intervals and corrections alike."""
    method = definition.analysis.method
    return "always_valid" if method == "group_sequential" else method


def _metrics(
    definition: Definition, totals: Totals, answers: Iterable[Answer]
) -> dict[Segment, list[Entry]]:
    places = {metric.id: index for index, metric in enumerate(definition.metrics)}
    found: dict[Segment, list[Entry]] = {}
    effects: list[Entry] = []
    candidates: list[Candidate] = []
    for (segment, metric_id, basis), group in groupby(answers, lambda one: one.question.place):
        if segment is None:
            continue
        answered = list(group)
        within = totals.segments[segment.attribute][segment.value]
        entry = metric_entry(definition, answered, within.overflowed[places[metric_id]])
        found.setdefault(segment, []).append(entry)
        for question, effect in answered:
            told, candidate = segment_effect(
                definition,
                question,
                effect,
                method=method_within(definition),
                final=totals.is_final,
            )
            entry["effects"].append(told)
            if basis == "matured":
                effects.append(told)
                candidates.append(candidate)
    analysis = definition.analysis
    method = method_within(definition)
    adjustments = adjust_families(candidates, method=method, alpha=analysis.alpha)
    for told, adjustment in zip(effects, adjustments, strict=True):
        told["adjusted"] = adjusted_entry(adjustment)
    return found


def _alarms(results: dict[str, list[Entry]], *, final: bool) -> dict[str, list[Entry]]:
    """Return the alarms of the split, corrected for the number of segments.

    A segment's own ``mismatch`` gives way to it: of many segments one is off by chance.
    """
    entries = [one for segments in results.values() for one in segments]
    adjusted = _adjusted([one["sample_ratio"]["sequential_p_value"] for one in entries])
    if final:
        at_end = _adjusted([one["sample_ratio"]["p_value"] for one in entries])
        adjusted = [min(pair) for pair in zip(adjusted, at_end, strict=True)]
    for entry, p_value in zip(entries, adjusted, strict=True):
        entry["sample_ratio"]["mismatch"] = p_value < SAMPLE_RATIO_ALPHA
        entry["adjusted_p_value"] = p_value
    return {
        attribute: [
            {
                "value": one["value"],
                "mismatch": one["sample_ratio"]["mismatch"],
                "adjusted_p_value": one.pop("adjusted_p_value"),
            }
            for one in segments
        ]
        for attribute, segments in results.items()
    }


def _adjusted(p_values: Sequence[float]) -> list[float]:
    found = adjust_p_values(p_values, procedure="holm", alpha=SAMPLE_RATIO_ALPHA)
    return [1.0 if one is None else one for one in found.p_values]
