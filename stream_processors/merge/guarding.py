"""Guardrails of a look: within the margin, beyond it, or worse at all; by the method. Pure.

They are read on the effect as it is, not as a covariate adjusts it.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
from scipy import special

from schemas.definitions import Definition, Metric
from stream_processors.merge.path import ComparisonPath, GuardedArm, GuardState
from stream_processors.merge.planned import (
    STOPPED_BEFORE_LOOK,
    Information,
    Plans,
    boundary_alone,
    is_look_due,
    is_stopped_between,
    path_after,
    plans_of,
)
from stream_processors.merge.posteriors import UNITS_MIN
from stream_processors.merge.questions import Question
from stream_processors.stats.bayes_beta import beta_posterior, compare_rates
from stream_processors.stats.bayes_rate_intervals import chances_at_most, difference_intervals
from stream_processors.stats.effects import Effect, Summary
from stream_processors.stats.group_sequential import repeated_p_value
from stream_processors.stats.guardrails import (
    ArmMean,
    Contrast,
    Guardrail,
    GuardrailTest,
    Margin,
    fixed_guardrail,
    gain_of,
    planned_guardrail,
    room_of,
    sequential_guardrail,
)
from stream_processors.stats.rare_rates import RARE_SHARE, RareCounts, harm_p_value

Entry = dict[str, Any]


class Guarded(NamedTuple):
    """A guardrail at a look, and what is remembered of it.

    Attributes:
        entry: For the results object.
        path: With what has to be remembered.
    """

    entry: Entry
    path: ComparisonPath


class _Arms(NamedTuple):
    control: ArmMean
    treatment: ArmMean


def guarded(
    definition: Definition,
    question: Question,
    effect: Effect,
    before: ComparisonPath,
    information: Information,
) -> Guarded:
    """Return a guardrail of one treatment, by the method of the definition.

    The entry's ``status`` is ``pass``, ``fail``, ``harm`` or ``undecided``; ``watched`` where
    there is no margin, so that only harm can be told. Where looks may be repeated, ``harm_p_value``
    is the smallest so far, and what was shown once stays shown: see ``_remembered``. Rates that
    are watched have ``converted``, of control and treatment: see ``_watched_rate``.
    """
    metric, analysis = question.metric, definition.analysis
    rail = guardrail_of(metric, analysis.alpha)
    arms = _arms(effect)
    if analysis.method == "group_sequential":
        found = _planned(definition, metric, effect, before, information)
        return _remembered(found, analysis.alpha, analysis.method)
    if analysis.method == "always_valid":
        if metric.kind == "conversion":
            found = _watched_rate(definition, question, effect, before)
        else:
            found = _watched(metric, rail, effect, before, n_star=analysis.n_star)
        found = _still_passing(found, information.cap)
        return _remembered(found, analysis.alpha, analysis.method)
    if arms is None:
        return _undecided(metric, _status_of(effect), before)
    if analysis.method == "bayesian":
        return Guarded(_believed(metric, rail, effect, arms), before)
    if not information.is_final:
        return _undecided(metric, "waiting_for_look", before)
    test = fixed_guardrail(*arms, rail, is_rate=metric.kind == "conversion")
    return Guarded(_entry(metric, test, test.harm_p_value), before)


def guardrail_of(metric: Metric, alpha: float) -> Guardrail:
    """Return what is guarded; without a margin, anything worse than the control."""
    for size in (metric.margin or {}).values():
        scale = "relative" if "relative" in (metric.margin or {}) else "absolute"
        return Guardrail(Margin(size, scale), metric.direction, alpha)  # type: ignore[arg-type]
    return Guardrail(Margin(0.0, "absolute"), metric.direction, alpha)


def _watched(
    metric: Metric, rail: Guardrail, effect: Effect, before: ComparisonPath, *, n_star: float
) -> Guarded:
    """Return the guardrail by confidence sequences, at a look like any other."""
    arms = _arms(effect)
    if arms is None or effect.sequence is None:
        return _undecided(metric, _status_of(effect), before)
    test = sequential_guardrail(*arms, rail, n_star=n_star)
    harm = before.harm_p_value
    if test.harm_p_value is not None:
        harm = min(harm, test.harm_p_value)
    path = msgspec.structs.replace(before, harm_p_value=harm)
    return Guarded(_entry(metric, test, harm), path)


def _watched_rate(
    definition: Definition, question: Question, effect: Effect, before: ComparisonPath
) -> Guarded:
    """Return a rate's guardrail: its sequences, and harm by an exact test that needs no burn-in.

    A sequence waits for conversions of both variants, and a control without crashes has none. Each
    test has its share of alpha, so both together err with alpha at most.
    """
    metric, analysis = question.metric, definition.analysis
    rail = guardrail_of(metric, analysis.alpha * (1 - RARE_SHARE))
    anew = msgspec.structs.replace(before, harm_p_value=1.0)
    found = _watched(metric, rail, effect, anew, n_star=analysis.n_star)
    p_values, counts = [before.harm_p_value], _counts(effect)
    if found.entry["harm_p_value"] is not None:
        p_values.append(found.entry["harm_p_value"] / (1 - RARE_SHARE))
    entry = dict(found.entry)
    share = _treatment_share(definition, question.variant)
    if counts is not None and share is not None:
        control, treatment = counts
        exact = harm_p_value(
            control,
            treatment,
            treatment_share=share,
            is_more_better=metric.direction == "increase",
        )
        p_values.append(exact / RARE_SHARE)
        entry["converted"] = [control.conversion_count, treatment.conversion_count]
    if len(p_values) > 1:
        entry["harm_p_value"] = min(1.0, *p_values)
    path = msgspec.structs.replace(before, harm_p_value=min(1.0, *p_values))
    return Guarded(entry, path)


def _counts(effect: Effect) -> tuple[RareCounts, RareCounts] | None:
    """Return units and converted ones of both variants; None where there are none to count."""
    control, treatment = effect.control, effect.treatment
    if effect.status == "invalid_input" or control.mean is None or treatment.mean is None:
        return None
    return (
        RareCounts(control.unit_count, round(control.mean * control.unit_count)),
        RareCounts(treatment.unit_count, round(treatment.mean * treatment.unit_count)),
    )


def _treatment_share(definition: Definition, variant: str) -> float | None:
    """Return what share of the pair's units the treatment was planned to have.

    None where a float cannot tell it, or the control's, from 0: such as of a variant of weight 0,
    whose units are a sample-ratio mismatch. No test can go by such a plan.
    """
    weights = {one.id: one.weight for one in definition.variants}
    treatment, control = weights[variant], weights[definition.control]
    if treatment + control <= 0:
        return None
    share = treatment / (treatment + control)
    return share if share > 0 and 0 < 1 - share < 1 else None


def _still_passing(found: Guarded, cap: int | None) -> Guarded:
    """Return a guardrail that forgets no pass of the looks before, at the cap of this look.

    A look without a sequence, or with a wide one, takes it no more back than a failure; what
    contradicts it does: see ``_remembered``. Such a look has ``passed_room``, the bound that
    stands.
    """
    entry, path = found
    if entry["status"] == "pass":
        room = max(path.passed_room, entry["room_low"])
        return Guarded(entry, msgspec.structs.replace(path, passed_room=room))
    is_readable = path.cap == cap and entry["reason"] != "invalid_input"
    if is_readable and path.passed_room > 0 and entry["status"] != "fail":
        return Guarded(entry | {"status": "pass", "passed_room": path.passed_room}, path)
    return found


def _remembered(found: Guarded, alpha: float, method: str) -> Guarded:
    """Return a guardrail that forgets no failure and no harm of the looks before.

    All statements of all looks hold together, so a later look takes none of them back; and where
    the looks contradict each other, none of them can say that all is well.
    """
    path, entry = found.path, dict(found.entry)
    if entry["status"] == "fail":
        path = msgspec.structs.replace(path, failed_room=min(path.failed_room, entry["room_high"]))
    if entry["harm_p_value"] is None and path.harm_p_value < 1:
        entry["harm_p_value"] = path.harm_p_value
    harm = entry["harm_p_value"]
    entry["is_harmed"] = entry["is_harmed"] or (harm is not None and harm <= alpha)
    is_torn = path.is_empty
    if method == "group_sequential":  # What comes between planned looks has no say.
        is_torn = path.group is not None and path.group.low > path.group.high
    if is_torn:
        entry["reason"] = "empty_intersection"
    if path.failed_room < 0:
        entry["status"] = "fail"
    elif entry["is_harmed"] and (is_torn or entry["status"] != "pass"):
        entry["status"] = "harm"
    elif is_torn:
        entry["status"] = "undecided"
    if entry["status"] != "pass":
        entry.pop("passed_room", None)
    return Guarded(entry, path)


def _arms(effect: Effect) -> _Arms | None:
    control, treatment = _arm(effect.control), _arm(effect.treatment)
    if effect.status == "one_variance_zero":
        # One variant's error is 0 by chance (``stats.edges``): no method may take it for known.
        return None
    if control is None or treatment is None:
        return None
    return _Arms(control, treatment)


def _status_of(effect: Effect) -> str:
    """Return why there is nothing to judge by: quantiles with ties have no standard errors."""
    return "ties" if "ties" in effect.flags else effect.status


def _arm(summary: Summary) -> ArmMean | None:
    if summary.status != "ok" or summary.mean is None or summary.std_error is None:
        return None
    return ArmMean(summary.unit_count, summary.mean, summary.std_error)


def _planned(
    definition: Definition,
    metric: Metric,
    effect: Effect,
    before: ComparisonPath,
    information: Information,
) -> Guarded:
    """Return the guardrail as of the last official look, whatever came after it.

    A look before the burn-in is none: it spends nothing, and is taken as soon as it can be.
    """
    arms = _arms(effect)
    plans = plans_of(definition, metric, one_sided=True)
    rail = guardrail_of(metric, definition.analysis.alpha)
    state = before.guard
    if arms is not None and effect.status == "ok":
        state = _guard_after(plans, rail, arms, state, information)
    if state is None:
        return _undecided(metric, _held_back(effect, information, plans), before)
    at_look = [
        ArmMean(round(one.units), one.mean, one.std_error)
        for one in (state.control, state.treatment)
    ]
    test = planned_guardrail(
        at_look[0], at_look[1], rail, boundary=boundary_alone(state.looks, plans)
    )
    path = msgspec.structs.replace(before, guard=state)
    return Guarded(_entry(metric, test, repeated_p_value(state.looks, plans.among_others)), path)


def _held_back(effect: Effect, information: Information, plans: Plans) -> str:
    """Return why no official look was taken yet: none was due, or what one that is lacks."""
    if is_stopped_between((), information, plans):
        return STOPPED_BEFORE_LOOK
    if not is_look_due((), information, plans):
        return "waiting_for_look"
    status = _status_of(effect)
    return status if status != "ok" else "zero_variance"


def _guard_after(
    plans: Plans,
    rail: Guardrail,
    arms: _Arms,
    before: GuardState | None,
    information: Information,
) -> GuardState | None:
    gain = gain_of(*arms, rail.direction)
    if gain.std_error == 0:
        return before
    looks = before.looks if before is not None else ()
    after = path_after(looks, information, -gain.estimate / gain.std_error, plans)
    if after == looks:
        return before
    control, treatment = (GuardedArm(float(arm.unit_count), *arm[1:]) for arm in arms)
    return GuardState(after, control, treatment)


def _entry(metric: Metric, test: GuardrailTest, harm_p_value: float | None) -> Entry:
    has_margin = metric.margin is not None
    status: str = test.status
    if not has_margin:
        status = "harm" if test.is_harmed else "watched"
    return {
        "status": status,
        "reason": test.reason,
        "is_harmed": test.is_harmed,
        "margin": test.margin if has_margin else None,
        "gain": test.gain,
        "low": test.low,
        "high": test.high,
        "room": test.room if has_margin else None,
        "room_low": test.room_low if has_margin else None,
        "room_high": test.room_high if has_margin else None,
        "p_value": test.p_value if has_margin else None,
        "harm_p_value": harm_p_value,
    }


def _undecided(metric: Metric, reason: str, before: ComparisonPath) -> Guarded:
    entry: Entry = dict.fromkeys(_FIELDS)
    entry["status"] = "undecided" if metric.margin is not None else "watched"
    entry["reason"], entry["is_harmed"] = reason, False
    return Guarded(entry, before)


_FIELDS = (
    *("status", "reason", "is_harmed", "margin", "gain", "low", "high"),
    *("room", "room_low", "room_high", "p_value", "harm_p_value"),
)


class _Belief(NamedTuple):
    """Chances to be worse and within the margin, and both one-sided bounds of the gain."""

    worse: float
    within: float
    low: float
    high: float


def _believed(metric: Metric, rail: Guardrail, effect: Effect, arms: _Arms) -> Entry:
    """Return the guardrail by flat priors: chances in place of p-values.

    A prior alone says nothing: with a uniform one, no crash among few units looks worse than none
    among many. So whatever is said, the estimate has to be on the same side.
    """
    room, gain = room_of(*arms, rail), gain_of(*arms, rail.direction)
    entry = _undecided(metric, "zero_variance", ComparisonPath()).entry
    counts = _counts(effect) if metric.kind == "conversion" else None
    if counts is not None:
        belief = _belief_of_rates(counts, rail)
    elif min(arm.unit_count for arm in arms) < UNITS_MIN:
        return entry | {"reason": "insufficient"}
    elif room.std_error == 0 or gain.std_error == 0:
        return entry
    else:
        belief = _belief_of_means(room, gain, rail.alpha)
    entry |= {
        "reason": None,
        "gain": gain.estimate,
        "low": belief.low,
        "high": belief.high,
        "is_harmed": belief.worse >= 1 - rail.alpha and gain.estimate < 0,
        "chance_worse": belief.worse,
    }
    if metric.margin is not None:
        entry |= {"room": room.estimate, "chance_within_margin": belief.within}
        if belief.within >= 1 - rail.alpha and room.estimate > 0:
            entry["status"] = "pass"
        elif belief.within <= rail.alpha and room.estimate < 0:
            entry["status"] = "fail"
    if entry["is_harmed"] and entry["status"] in ("undecided", "watched"):
        entry["status"] = "harm"
    return entry


def _belief_of_means(room: Contrast, gain: Contrast, alpha: float) -> _Belief:
    """Return it of Student's t with Satterthwaite's degrees: variances were estimated, too."""
    reach = -float(special.stdtrit(gain.degrees_of_freedom, alpha)) * gain.std_error
    return _Belief(
        worse=float(special.stdtr(gain.degrees_of_freedom, -gain.estimate / gain.std_error)),
        within=float(special.stdtr(room.degrees_of_freedom, room.estimate / room.std_error)),
        low=gain.estimate - reach,
        high=gain.estimate + reach,
    )


def _belief_of_rates(counts: tuple[RareCounts, RareCounts], rail: Guardrail) -> _Belief:
    """Return it of two rates with uniform priors, by the integrals that their posteriors have."""
    control, treatment = (
        beta_posterior(np.array([float(one.unit_count)]), np.array([float(one.conversion_count)]))
        for one in counts
    )
    low, high = difference_intervals(control, treatment, np.array([2 * rail.alpha]))
    higher = float(compare_rates(control, treatment).chance_to_beat[0])
    size, is_relative = rail.margin.size, rail.margin.scale == "relative"
    if rail.direction == "decrease":
        within = chances_at_most(control, treatment, np.array([size]), is_relative=is_relative)
        return _Belief(higher, float(within[0]), -float(high[0]), -float(low[0]))
    below = np.zeros(1)
    if not is_relative or size < 1:  # No rate is lower by more than all of the other.
        below = chances_at_most(control, treatment, np.array([-size]), is_relative=is_relative)
    return _Belief(1 - higher, 1 - float(below[0]), float(low[0]), float(high[0]))
