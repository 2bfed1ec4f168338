"""The results object of the contract, from the answers to a look's questions. Pure."""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from schemas.definitions import Definition
from stream_processors.merge.effect_entries import EffectPaths, matured_effect, open_effect
from stream_processors.merge.entries import cap_entry, metric_head, variant_entry
from stream_processors.merge.path import ExperimentPath, Paths
from stream_processors.merge.questions import Question
from stream_processors.merge.totals import Totals
from stream_processors.stats.effects import Effect
from stream_processors.stats.families import GUARANTEES, Adjustment, Candidate, adjust_families
from stream_processors.stats.sample_ratio import (
    CONCENTRATION,
    sample_ratio_log_bayes_factor,
    sample_ratio_test,
    sequential_p_value,
)

Entry = dict[str, Any]

SAMPLE_RATIO_ALPHA = 0.001
"""Level of the alarm; Fabijan et al. (2019) use it."""

E_VALUE_LOG_MAX = 700.0
"""Beyond this, exp leaves the floats; the logarithm is shown beside it."""


class Answer(NamedTuple):
    """A question of a look and what the statistics say."""

    question: Question
    effect: Effect


class Metrics(NamedTuple):
    """The entries of all metrics, and what is remembered of their effects."""

    entries: list[Entry]
    comparisons: Paths
    adjusted: Paths


def metrics_of(
    definition: Definition, totals: Totals, answers: Iterable[Answer], before: ExperimentPath
) -> Metrics:
    """Return an entry per metric and basis, in the order of the questions.

    Path states advance on matured units only, and only past the burn-in.
    """
    places = {metric.id: index for index, metric in enumerate(definition.metrics)}
    comparisons, adjusted = dict(before.comparisons), dict(before.adjusted)
    entries: list[Entry] = []
    effects: list[Entry] = []
    candidates: list[Candidate] = []
    for (metric_id, basis), group in groupby(
        answers, lambda answer: (answer.question.metric.id, answer.question.basis)
    ):
        answered = list(group)
        entry = _metric_entry(definition, answered, totals.overflowed[places[metric_id]])
        entries.append(entry)
        if basis == "open":
            entry["effects"] = [
                open_effect(question, effect, definition.control) for question, effect in answered
            ]
            continue
        paths, adjusted_paths = (
            dict(comparisons.get(metric_id, {})),
            dict(adjusted.get(metric_id, {})),
        )
        for question, effect in answered:
            known = EffectPaths(
                before.of(metric_id, question.variant),
                before.adjusted_of(metric_id, question.variant),
            )
            told = matured_effect(definition, question, effect, known, final=totals.is_final)
            entry["effects"].append(told.entry)
            effects.append(told.entry)
            candidates.append(told.candidate)
            if told.paths.plain != known.plain:
                paths[question.variant] = told.paths.plain
            if told.paths.adjusted != known.adjusted:
                adjusted_paths[question.variant] = told.paths.adjusted
        comparisons[metric_id] = paths
        if adjusted_paths:
            adjusted[metric_id] = adjusted_paths
    _correct(definition, effects, candidates)
    return Metrics(entries, comparisons, adjusted)


def _metric_entry(definition: Definition, answered: Sequence[Answer], overflowed: int) -> Entry:
    question, effect = answered[0]
    entry = metric_head(question.metric, question.basis, overflowed)
    if question.basis == "open":
        entry["descriptive"] = True
    imbalance = None if question.imbalance is None else question.imbalance.p_value
    entry["cap"] = cap_entry(question.metric, effect.cap, imbalance)
    summaries = {definition.control: effect.control}
    summaries |= {one.question.variant: one.effect.treatment for one in answered}
    entry["variants"] = [
        variant_entry(variant, question, sums, summaries[variant])
        for variant, sums in zip(definition.variant_ids, question.arms, strict=True)
    ]
    entry["effects"] = []
    return entry


def _correct(
    definition: Definition, effects: Sequence[Entry], candidates: Sequence[Candidate]
) -> None:
    """Add to every effect what is left of it among the comparisons of its role."""
    analysis = definition.analysis
    adjustments = adjust_families(candidates, method=analysis.method, alpha=analysis.alpha)
    for effect, adjustment in zip(effects, adjustments, strict=True):
        effect["adjusted"] = adjusted_entry(adjustment)


def adjusted_entry(adjustment: Adjustment) -> Entry | None:
    """Return a correction for several comparisons; None where a method knows none."""
    if adjustment.method == "none":
        return None
    log_e_value = adjustment.log_e_value
    return {
        "method": adjustment.method,
        "family": adjustment.family,
        "family_size": adjustment.family_size,
        "p_value": adjustment.p_value,
        "e_value": None if log_e_value is None else math.exp(min(log_e_value, E_VALUE_LOG_MAX)),
        "log_e_value": log_e_value,
        "rejects": bool(adjustment.rejects),
        "guarantee": GUARANTEES[adjustment.guarantee],
    }


def sample_ratio_of(
    definition: Definition, units: Sequence[int], p_value_before: float, *, final: bool
) -> tuple[Entry, float]:
    """Return the check of the split, and the running p-value for the next look.

    While looks go on, the running sequential p-value alone raises the alarm. χ² may do so at
    the last look: that is the one planned look it is made for.
    """
    weights = [variant.weight for variant in definition.variants]
    test = sample_ratio_test(units, weights)
    log_bayes_factor = sample_ratio_log_bayes_factor(units, weights)
    running = min(p_value_before, sequential_p_value(log_bayes_factor))
    mismatch = running < SAMPLE_RATIO_ALPHA
    if final:
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
