"""The entry of one effect: both scales, every method that has numbers, and which one decides. Pure.

``fixed_horizon`` and ``always_valid`` are there for every experiment, ``group_sequential`` and
``posterior`` where the definition says so. What decides is copied to ``decision``: numbers of one
method only, of the adjusted effect where the metric has a covariate.
"""

from typing import Any, NamedTuple

import msgspec

from schemas.definitions import Analysis, CapQuantile, Definition, Metric
from stream_processors.merge.entries import (
    absolute_entry,
    always_valid_entry,
    cap_move_entry,
    cuped_entry,
    relative_always_valid,
    relative_entry,
)
from stream_processors.merge.guarding import guarded
from stream_processors.merge.path import NO_LOOK, ComparisonPath
from stream_processors.merge.planned import (
    Information,
    Plans,
    group_after,
    group_entry,
    held_back,
    plans_of,
    relative_group_entry,
)
from stream_processors.merge.posteriors import (
    is_of_rates,
    leans_on_prior,
    posterior_entry,
    posterior_status,
)
from stream_processors.merge.questions import Question
from stream_processors.stats.edges import OF_SEQUENCES
from stream_processors.stats.effects import CupedEffect, Effect
from stream_processors.stats.families import Candidate, family_of

Entry = dict[str, Any]

DECIDING_FIELDS = {
    "always_valid": "always_valid",
    "group_sequential": "group_sequential",
    "fixed_horizon": "fixed_horizon",
    "bayesian": "posterior",
}
"""Field of ``absolute`` and ``relative`` that decides, by the method of the definition."""


class EffectPaths(NamedTuple):
    """What looks remember of an effect as it is, and of the adjusted one."""

    plain: ComparisonPath = NO_LOOK
    adjusted: ComparisonPath = NO_LOOK


class LookOf(NamedTuple):
    """Which look an effect is of.

    Attributes:
        tick: Number of its tick.
        is_final: Whether there will be no other.
    """

    tick: int
    is_final: bool


class Told(NamedTuple):
    """An effect at a look.

    Attributes:
        entry: For the results object; ``adjusted`` is still null.
        candidate: As it enters the family of its role.
        paths: After this look.
    """

    entry: Entry
    candidate: Candidate
    paths: EffectPaths


def open_effect(question: Question, effect: Effect, control: str) -> Entry:
    """Return an effect on all units with totals to date: pointwise, nothing to decide on."""
    entry = _head(question, effect, control)
    if entry["status"] in OF_SEQUENCES:
        entry["status"] = "ok"
    if effect.cuped is not None:
        entry["cuped"] = cuped_entry(effect.cuped)
        if entry["cuped"]["status"] in OF_SEQUENCES:
            entry["cuped"]["status"] = "ok"
    return entry


def matured_effect(
    definition: Definition, question: Question, effect: Effect, before: EffectPaths, at: LookOf
) -> Told:
    """Return an effect on matured units; its paths move by this look."""
    final, cap = at.is_final, question.chosen_cap_q
    metric, method, held = question.metric, definition.analysis.method, None
    units = effect.control.unit_count + effect.treatment.unit_count
    information = Information(units, final, at.tick, cap)
    entry = _head(question, effect, definition.control)
    paths = _add_sequences(entry, effect, _at_cap(before, effect, cap, at.tick), cap)
    decides_on, deciding = _deciding(metric, effect)
    if method == "group_sequential":
        field = "adjusted" if decides_on == "cuped" else "plain"
        plans, path = plans_of(definition, metric), getattr(paths, field)
        held = held_back(path.group, deciding, information, plans)
        path = _group_moved(path, deciding, information, plans)
        _add_group(entry, decides_on, path, plans, held)
        paths = paths._replace(**{field: path})
    elif method == "bayesian":
        held = _add_posterior(entry, question, effect, definition.analysis)
    entry["decision"] = _decision(definition, entry, decides_on, final=final, held=held)
    if isinstance(metric.cap, CapQuantile):
        path = paths.adjusted if decides_on == "cuped" else paths.plain
        entry["decision"]["cap_moved"] = _cap_moved(method, metric, path)
    candidate = _candidate(definition, metric, entry["decision"], deciding)
    if metric.role == "guardrail":
        rail = guarded(definition, question, effect, paths.plain, information)
        entry["guardrail"], paths = rail.entry, paths._replace(plain=rail.path)
        candidate = Candidate(family_of("guardrail"), rail.entry["harm_p_value"])
    return Told(entry, candidate, paths)


def _deciding(metric: Metric, effect: Effect) -> tuple[str, Effect | CupedEffect | None]:
    """Return which estimate decides: the definition says it, the data have no say."""
    return ("cuped", effect.cuped) if metric.covariate_days else ("absolute", effect)


def _cap_moved(method: str, metric: Metric, path: ComparisonPath) -> Entry | None:
    """Return when what decides began anew at another cap; null where it remembers no looks."""
    if method == "group_sequential" and path.group is not None:
        return cap_move_entry(metric, path.group.cap, path.group.moved)
    return cap_move_entry(metric, path.cap, path.moved) if method == "always_valid" else None


def _at_cap(paths: EffectPaths, effect: Effect, cap: int | None, tick: int) -> EffectPaths:
    """Return the paths that this look goes on with: those of its cap, or new ones.

    A look without a sequence is no step on any path.
    """
    plain, adjusted = paths
    if effect.sequence is not None:
        plain = plain.at_cap(cap, tick)
    if effect.cuped is not None and effect.cuped.sequence is not None:
        adjusted = adjusted.at_cap(cap, tick)
    return EffectPaths(plain, adjusted)


def _add_sequences(
    entry: Entry, effect: Effect, before: EffectPaths, cap: int | None = None
) -> EffectPaths:
    """Add the always-valid numbers of both estimates; return their paths after this look."""
    plain, adjusted = _sequence_after(before.plain, effect), before.adjusted
    if effect.sequence is not None and plain.is_empty:
        entry["status"] = "empty_intersection"
    _add_always_valid(entry["absolute"], entry["relative"], effect, _shown(plain, effect, cap))
    cuped = effect.cuped
    if cuped is not None:
        adjusted = _sequence_after(adjusted, cuped)
        told = entry["cuped"] = cuped_entry(cuped)
        if cuped.sequence is not None and adjusted.is_empty:
            told["status"] = "empty_intersection"
        _add_always_valid(told, told["relative"], cuped, _shown(adjusted, cuped, cap))
    return EffectPaths(plain, adjusted)


def segment_effect(
    definition: Definition, question: Question, effect: Effect, *, method: str, final: bool
) -> tuple[Entry, Candidate]:
    """Return an effect within a segment, and as it enters the family of its attribute.

    Running numbers are those of this look: it is valid whenever one looks, and no path is kept.
    ``method`` is the one by which segments are read.
    """
    segment, basis = question.place.segment, question.place.basis
    family = family_of(question.metric.role, None if segment is None else segment.attribute)
    if basis == "open":
        return open_effect(question, effect, definition.control), Candidate(family, None)
    entry = _head(question, effect, definition.control)
    _add_sequences(entry, effect, EffectPaths())
    _, deciding = _deciding(question.metric, effect)
    if method == "bayesian":
        _add_posterior(entry, question, effect, definition.analysis)
    p_value = log_e_value = None
    if deciding is not None and method == "always_valid" and deciding.sequence is not None:
        p_value, log_e_value = deciding.sequence.p_value, deciding.sequence.log_e_value
    if deciding is not None and method == "fixed_horizon" and final and deciding.fixed_horizon:
        p_value = deciding.fixed_horizon.p_value
    return entry, Candidate(family, p_value, log_e_value)


def _head(question: Question, effect: Effect, control: str) -> Entry:
    return {
        "variant": question.variant,
        "control": control,
        "status": effect.status,
        "flags": list(effect.flags),
        "absolute": absolute_entry(effect),
        "relative": relative_entry(effect.relative),
        "cuped": None,
    }


def _sequence_after(path: ComparisonPath, effect: Effect | CupedEffect) -> ComparisonPath:
    sequence = effect.sequence
    if sequence is None:
        return path
    return path.after(sequence.p_value, sequence.low, sequence.high, effect.relative.sequence)


def _shown(path: ComparisonPath, effect: Effect | CupedEffect, cap: int | None) -> ComparisonPath:
    """Return the path whose running numbers a look shows: all that was found at its cap.

    A rule may hold back the sequence of this look (one large order, and totals are sparse again).
    The looks before hold all the same, and what they found is not taken back. Only sums that
    contradict each other show nothing.
    """
    if effect.sequence is None and (path.cap != cap or effect.status == "invalid_input"):
        return NO_LOOK
    return path


def _add_always_valid(
    absolute: Entry, relative: Entry, effect: Effect | CupedEffect, path: ComparisonPath
) -> None:
    absolute["always_valid"] = always_valid_entry(effect.sequence, path)
    relative["always_valid"] = relative_always_valid(effect.relative.sequence, effect.status, path)
    absolute["group_sequential"] = absolute["posterior"] = None


def _group_moved(
    path: ComparisonPath,
    effect: Effect | CupedEffect | None,
    information: Information,
    plans: Plans,
) -> ComparisonPath:
    if effect is None:
        return path
    state = group_after(path.group, effect, information, plans)
    return msgspec.structs.replace(path, group=state)


def _add_group(
    entry: Entry, decides_on: str, path: ComparisonPath, plans: Plans, held: str | None
) -> None:
    source = entry[decides_on]
    if source is None:
        return
    source["group_sequential"] = group_entry(path.group, plans, held)
    relative = source["relative"] if decides_on == "cuped" else entry["relative"]
    relative["group_sequential"] = relative_group_entry(path.group, plans)


def _add_posterior(
    entry: Entry, question: Question, effect: Effect, analysis: Analysis
) -> str | None:
    """Add the posteriors of the effect that decides; return why nothing is decided, if so."""
    metric = question.metric
    if _deciding(metric, effect)[0] == "cuped":
        if effect.cuped is None:
            return effect.status if effect.status != "ok" else "undefined"
        source, relative, its = entry["cuped"], entry["cuped"]["relative"], effect.cuped.relative
        source["posterior"] = posterior_entry(effect.cuped)
        status = posterior_status(metric, effect.cuped, analysis)
    else:
        source, relative, its = entry["absolute"], entry["relative"], effect.relative
        source["posterior"] = posterior_entry(effect, of_rates=is_of_rates(metric))
        status = posterior_status(metric, effect, analysis)
    relative["posterior"] = posterior_entry(its, of_rates=is_of_rates(metric))
    if source["posterior"] is None:
        return status
    return "warming_up" if is_of_rates(metric) and leans_on_prior(effect) else None


def _decision(
    definition: Definition, entry: Entry, decides_on: str, *, final: bool, held: str | None
) -> Entry:
    """Return the numbers that decide, all of one method and of one estimate.

    Looks that were taken stand, planned ones and those of a sequence, whatever the sums have
    become since; before the first planned one, what holds back one that is due is named (``held``),
    and what holds back a decision by a posterior that is shown.
    """
    method = definition.analysis.method
    is_cuped = decides_on == "cuped"
    source = entry[decides_on] or {}
    status = str(source["status"] if is_cuped and source else entry["status"])
    relative = source.get("relative", {}) if is_cuped else entry["relative"]
    field = DECIDING_FIELDS[method]
    numbers = source.get(field)
    if method != "always_valid" and status in _OF_SEQUENCES:
        status = "ok"
    if (method == "fixed_horizon" and not final) or (method == "bayesian" and held is not None):
        numbers = None
    if numbers is None and status == "ok":
        status = _WITHOUT_NUMBERS[method]
    if method in ("group_sequential", "always_valid") and numbers is not None:
        status = "ok" if numbers["running_low"] is not None else "empty_intersection"
    elif method == "bayesian" and numbers is not None:
        status = "ok"  # A belief needs no test: rates have one also where no test is possible.
    elif held is not None:
        status = held
    decision: Entry = {
        "method": method,
        "of": decides_on,
        "status": status,
        "p_value": None,
        "estimate": None,
        "low": None,
        "high": None,
        "rejects": None,
        "relative": {"estimate": None, "low": None, "high": None},
    }
    if numbers is not None:
        decision |= _numbers_of(method, numbers, source["estimate"], definition.analysis.alpha)
        decision["relative"] = _relative_of(relative, field)
    return decision


_OF_SEQUENCES = OF_SEQUENCES | {"empty_intersection"}
"""Statuses of the always-valid numbers; what else decides does not mind them."""

_WITHOUT_NUMBERS = {
    "always_valid": "warming_up",
    "group_sequential": "waiting_for_look",
    "fixed_horizon": "waiting_for_look",
    "bayesian": "undefined",
}


def _numbers_of(method: str, numbers: Entry, estimate: float, alpha: float) -> Entry:
    """Return p-value, estimate, interval and claim of the method, before any correction."""
    low, high, p_value = numbers["low"], numbers["high"], numbers.get("p_value")
    match method:
        case "always_valid":
            low, high = numbers["running_low"], numbers["running_high"]
            p_value = numbers["running_p_value"]
            rejects = p_value <= alpha
        case "group_sequential":
            low, high = numbers["running_low"], numbers["running_high"]
            estimate, rejects = numbers["estimate"], numbers["p_value"] <= alpha
        case "bayesian":
            estimate, rejects = numbers["mean"], low > 0 or high < 0
        case _:
            rejects = low > 0 or high < 0
    return {
        "p_value": p_value,
        "estimate": estimate,
        "low": low,
        "high": high,
        "rejects": rejects,
    }


def _relative_of(relative: Entry, field: str) -> Entry:
    """Return the relative numbers; over all looks where the absolute ones are."""
    interval = relative.get(field) or {}
    if field == "posterior":
        # Of one posterior, or of none: what was seen is another number than what is believed.
        return {"estimate": interval.get("mean"), **{end: interval.get(end) for end in _ENDS}}
    return {
        "estimate": interval.get("estimate", relative.get("estimate")),
        "low": interval.get("running_low", interval.get("low")),
        "high": interval.get("running_high", interval.get("high")),
    }


_ENDS = ("low", "high")


def _candidate(
    definition: Definition, metric: Metric, decision: Entry, deciding: Effect | CupedEffect | None
) -> Candidate:
    sequence = None if deciding is None else deciding.sequence
    log_e_value = None
    if definition.analysis.method == "always_valid" and sequence is not None:
        log_e_value = sequence.log_e_value
    return Candidate(family_of(metric.role), decision["p_value"], log_e_value)
