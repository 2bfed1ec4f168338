"""The results object of the contract, from the answers to a look's questions. Pure."""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from schemas.definitions import Definition
from stream_processors.merge.effect_entries import EffectPaths, LookOf, matured_effect, open_effect
from stream_processors.merge.entries import cap_entry, metric_head, variant_entry
from stream_processors.merge.path import ExperimentPath, Paths
from stream_processors.merge.questions import Answer
from stream_processors.merge.totals import Totals
from stream_processors.stats.families import GUARANTEES, Adjustment, Candidate, adjust_families
from stream_processors.stats.sample_ratio import (
    CONCENTRATIONS,
    sample_ratio_log_e_value,
    sample_ratio_test,
    sequential_p_value,
)

Entry = dict[str, Any]

SAMPLE_RATIO_ALPHA = 0.001
"""Level of the alarm; Fabijan et al. (2019) use it."""

E_VALUE_LOG_MAX = 700.0
"""Beyond this, exp leaves the floats; the logarithm is shown beside it."""


class Metrics(NamedTuple):
    """The entries of all metrics, and what is remembered of their effects."""

    entries: list[Entry]
    comparisons: Paths
    adjusted: Paths


class _Book(NamedTuple):
    """What comes together over the metrics of a look: it is filled in as they are told."""

    comparisons: Paths
    adjusted: Paths
    effects: list[Entry]
    candidates: list[Candidate]


def metrics_of(
    definition: Definition,
    totals: Totals,
    answers: Iterable[Answer],
    *,
    before: ExperimentPath,
    tick: int,
) -> Metrics:
    """Return an entry per metric and basis, in the order of the questions.

    Path states advance on matured units only, and only past the burn-in.
    """
    places = {metric.id: index for index, metric in enumerate(definition.metrics)}
    control = definition.control
    book = _Book(dict(before.comparisons), dict(before.adjusted), [], [])
    entries: list[Entry] = []
    for (segment, metric_id, basis), group in groupby(answers, lambda one: one.question.place):
        if segment is not None:
            continue
        answered = list(group)
        entry = metric_entry(definition, answered, totals.overflowed[places[metric_id]])
        entries.append(entry)
        if basis == "open":
            entry["effects"] = [
                open_effect(question, effect, control) for question, effect in answered
            ]
        else:
            at = LookOf(tick, totals.is_final)
            entry["effects"] = _matured_effects(definition, answered, before, book, at)
    _correct(definition, book.effects, book.candidates)
    return Metrics(entries, book.comparisons, book.adjusted)


def _matured_effects(
    definition: Definition,
    answered: Sequence[Answer],
    before: ExperimentPath,
    book: _Book,
    at: LookOf,
) -> list[Entry]:
    """Return the effects on a metric; their paths and what they enter families with go to book."""
    metric_id = answered[0].question.metric.id
    paths = dict(book.comparisons.get(metric_id, {}))
    adjusted = dict(book.adjusted.get(metric_id, {}))
    entries: list[Entry] = []
    for question, effect in answered:
        variant = question.variant
        known = EffectPaths(before.of(metric_id, variant), before.adjusted_of(metric_id, variant))
        told = matured_effect(definition, question, effect, known, at)
        entries.append(told.entry)
        book.candidates.append(told.candidate)
        if told.paths.plain != known.plain:
            paths[variant] = told.paths.plain
        if told.paths.adjusted != known.adjusted:
            adjusted[variant] = told.paths.adjusted
    book.effects.extend(entries)
    book.comparisons[metric_id] = paths
    if adjusted:
        book.adjusted[metric_id] = adjusted
    return entries


def metric_entry(definition: Definition, answered: Sequence[Answer], overflowed: int) -> Entry:
    """Return a metric's entry without its effects; ``answered`` are those of all treatments."""
    question, effect = answered[0]
    basis = question.place.basis
    entry = metric_head(question.metric, basis, overflowed)
    if basis == "open":
        entry["descriptive"] = True
    entry["cap"] = cap_entry(question.metric, question.cap)
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
    log_e_value = sample_ratio_log_e_value(units, weights)
    running = min(p_value_before, sequential_p_value(log_e_value))
    mismatch = running < SAMPLE_RATIO_ALPHA
    if final:
        mismatch = mismatch or test.p_value < SAMPLE_RATIO_ALPHA
    entry = {
        "chi_square": test.chi_square,
        "degrees_of_freedom": test.degrees_of_freedom,
        "p_value": test.p_value,
        "sequential_p_value": running,
        "concentrations": list(CONCENTRATIONS),
        "mismatch": mismatch,
    }
    return entry, running
