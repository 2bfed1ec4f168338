"""One reading of an experiment, in plain words: decision metrics, guardrails, checks. Pure.

It reads a results object and nothing else, so whoever has the object can come to the same words.
Only matured units decide, only by the method of the definition, only what is left after the
correction for several comparisons; and nothing is a success while a check of the data fails.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from schemas.definitions import Definition, Metric
from stream_processors.merge import wording
from stream_processors.merge.waiting import fewest_units
from stream_processors.merge.wording import Reason
from stream_processors.stats.edges import BURN_IN_UNITS

CROSSOVERS_MAX = 0.001
"""Share of units that were in two variants from which the reader is told."""

CAP_IMBALANCE_ALPHA = 0.001
"""Level below which the reader is told that a cap hits the variants unequally."""

Entry = dict[str, Any]


class Reading(StrEnum):
    """What an experiment, or one treatment of it, says. A closed list; the order is the rank."""

    INVALID = "invalid"
    SAMPLE_RATIO_MISMATCH = "sample_ratio_mismatch"
    IMPROVEMENT = "improvement"
    IMPROVEMENT_GUARDRAILS_OPEN = "improvement_guardrails_open"
    GUARDRAIL_FAILED = "guardrail_failed"
    HARM = "harm"
    MIXED = "mixed"
    INCONSISTENT = "inconsistent"
    IMPROVEMENT_BELOW_MINIMUM = "improvement_below_minimum"
    SMALLER_THAN_MINIMUM = "smaller_than_minimum"
    STOPPED_BEFORE_LOOK = "stopped_before_look"
    NO_EFFECT_FOUND_AT_END = "no_effect_found_at_end"
    TOO_FEW_UNITS_AT_END = "too_few_units_at_end"
    NOT_TESTED_AT_END = "not_tested_at_end"
    RUNNING_NO_EVIDENCE = "running_no_evidence"
    WAITING_FOR_LOOK = "waiting_for_look"
    WARMING_UP = "warming_up"
    NO_DECISION_METRIC = "no_decision_metric"


FINDINGS = frozenset(
    {
        Reading.IMPROVEMENT,
        Reading.IMPROVEMENT_GUARDRAILS_OPEN,
        Reading.GUARDRAIL_FAILED,
        Reading.HARM,
        Reading.MIXED,
        Reading.INCONSISTENT,
        Reading.IMPROVEMENT_BELOW_MINIMUM,
    }
)
"""Readings that say that a treatment is not like the control."""

_RANK = {reading: rank for rank, reading in enumerate(Reading)}


class Side(StrEnum):
    """What one decision metric says of one treatment.

    Three are better for certain: by the minimum effect for all that is known (or none was agreed
    on), perhaps by less, certainly by less. ``SMALL`` is not known to be better at all.
    """

    BETTER = "better"
    PERHAPS = "better_perhaps_small"
    TOO_SMALL = "better_small"
    WORSE = "worse"
    NOTHING = "nothing"
    SMALL = "small"
    WAITING = "waiting"
    PLANNED = "planned"
    STOPPED = "stopped"
    INCONSISTENT = "inconsistent"
    INVALID = "invalid"


class _Treatment(NamedTuple):
    variant: str
    reading: Reading
    reasons: list[Reason]
    seen: wording.Seen


def verdict(definition: Definition, results: Entry) -> Entry:
    """Return the reading of a results object.

    Args:
        definition: Of the version that the results were computed with.
        results: The results object of the contract, without a verdict.

    Returns:
        ``reading`` (a ``Reading``), ``text`` for people, ``guarantee`` (how often a reading that
        names a difference is wrong), ``reasons`` (each ``code``, ``metric_id``, ``variant``,
        ``text``) and ``treatments`` (the reading of each one by itself).
    """
    entries = [entry for entry in results["metrics"] if entry["basis"] == "matured"]
    is_final = bool(results["final"])
    treatments = [
        _treatment(definition, entries, variant, is_final=is_final)
        for variant in definition.variant_ids
        if variant != definition.control
    ]
    alarms = list(_sample_ratio_alarms(results))
    reading = min((one.reading for one in treatments), key=_RANK.__getitem__)
    if alarms:
        reading = Reading.SAMPLE_RATIO_MISMATCH
    rough = _rough(definition, entries) if is_final else []
    reasons = [*alarms, *(reason for one in treatments for reason in one.reasons), *rough]
    text = wording.headline(_about(treatments, alarm=reading if alarms else None))
    if rough and reading in FINDINGS:
        text += wording.ROUGH_FINDING
    return {
        "reading": reading.value,
        "text": text,
        "guarantee": wording.guarantee(
            definition, without={one.metric_id for one in rough if one.metric_id is not None}
        ),
        "reasons": [reason._asdict() for reason in [*reasons, *_notes(results, entries)]],
        "treatments": [
            {"variant": one.variant, "reading": (reading if alarms else one.reading).value}
            for one in treatments
        ],
    }


def side_of(effect: Entry, metric: Metric, minimum_effect: float | None) -> Side:
    """Return what an effect on a decision metric says, by the method that decides."""
    decision, adjusted = effect["decision"], effect["adjusted"]
    if effect["status"] == "invalid_input":
        return Side.INVALID
    if decision["status"] != "ok":
        return _WITHOUT_NUMBERS.get(decision["status"], Side.WAITING)
    low, high = _wanted(decision["low"], decision["high"], metric)
    rejects = decision["rejects"] if adjusted is None else adjusted["rejects"]
    if rejects and low is not None and low > 0:
        return _size_of(effect, metric, minimum_effect)
    if rejects and high is not None and high < 0:
        return Side.WORSE
    is_small = _size_of(effect, metric, minimum_effect) is Side.TOO_SMALL
    return Side.SMALL if is_small else Side.NOTHING


_WITHOUT_NUMBERS = {
    "empty_intersection": Side.INCONSISTENT,
    "waiting_for_look": Side.PLANNED,
    "stopped_before_look": Side.STOPPED,
}


def _wanted(
    low: float | None, high: float | None, metric: Metric
) -> tuple[float | None, float | None]:
    """Return an interval of the improvement: of the effect, or of minus it."""
    if metric.direction == "increase":
        return low, high
    return (None if high is None else -high), (None if low is None else -low)


def _size_of(effect: Entry, metric: Metric, minimum_effect: float | None) -> Side:
    """Return where the relative interval lies against the smallest effect worth having.

    Without an interval on that scale nothing is known of it: it is as if it reached across.
    """
    if not minimum_effect:
        return Side.BETTER
    relative = effect["decision"]["relative"]
    low, high = _wanted(relative["low"], relative["high"], metric)
    if high is not None and high < minimum_effect:
        return Side.TOO_SMALL
    return Side.BETTER if low is not None and low >= minimum_effect else Side.PERHAPS


def _treatment(
    definition: Definition, entries: Sequence[Entry], variant: str, *, is_final: bool
) -> _Treatment:
    metrics = {metric.id: metric for metric in definition.metrics}
    sides: list[Side] = []
    reasons: list[Reason] = []
    guardrails: list[str] = []
    waits: set[str] = set()
    harmed: list[str] = []
    is_stopped = False
    for entry in entries:
        metric, effect = metrics[entry["metric_id"]], _effect_of(entry, variant)
        if metric.role == "decision":
            side = side_of(effect, metric, definition.minimum_effect)
            sides.append(side)
            is_stopped = is_stopped or wording.is_stopped_between_looks(effect)
            if side in _WITHOUT_TEST:
                waits.add(wording.wait_of(effect, metric, _pair_of(entry, effect)))
            reasons.append(_of_decision(definition, entry, effect, side))
        elif metric.role == "guardrail":
            pair = _pair_of(entry, effect)
            guardrails.append(_guardrail_state(effect, fewest_units(pair)))
            reasons.append(wording.of_guardrail(effect, metric, guardrails[-1], pair=pair))
            if wording.is_harmed(effect):
                harmed.append(metric.id)
    reading = _reading(sides, guardrails)
    is_worth_it = Side.BETTER in sides or Side.PERHAPS not in sides
    seen = wording.Seen(
        frozenset(waits), tuple(harmed), is_worth_it=is_worth_it, is_stopped=is_stopped
    )
    if is_final:
        reading = _at_end(reading, seen)
    return _Treatment(variant, reading, reasons, seen)


def _of_decision(definition: Definition, entry: Entry, effect: Entry, side: Side) -> Reason:
    metric = next(one for one in definition.metrics if one.id == entry["metric_id"])
    return wording.of_decision(
        effect,
        metric,
        side.value,
        minimum_effect=definition.minimum_effect,
        pair=_pair_of(entry, effect),
    )


def _pair_of(entry: Entry, effect: Entry) -> list[Entry]:
    """Return the two variants of an effect, of those of its metric."""
    pair = (effect["variant"], effect["control"])
    return [one for one in entry["variants"] if one["variant"] in pair]


def _about(
    treatments: Sequence[_Treatment], *, alarm: Reading | None = None
) -> list[wording.About]:
    """Return which treatments the same is said of, the most important reading first.

    A harm must not hide behind the success of another treatment, nor what got worse under one
    behind what did not under another. An alarm is about all of them.
    """
    groups: dict[tuple[Any, ...], list[_Treatment]] = {}
    for one in sorted(treatments, key=lambda one: _RANK[one.reading]):
        told = (one.seen.harmed, one.seen.is_worth_it) if one.reading in _BETTER else ()
        groups.setdefault(() if alarm else (one.reading, *told), []).append(one)
    return [
        wording.About((alarm or same[0].reading).value, [one.variant for one in same], _seen(same))
        for same in groups.values()
    ]


_BETTER = frozenset({Reading.IMPROVEMENT, Reading.IMPROVEMENT_GUARDRAILS_OPEN})
"""Whose headlines name what got worse within its margin, and say whether the size is settled."""


def _seen(treatments: Sequence[_Treatment]) -> wording.Seen:
    """Return what several treatments wait for, and what got worse in any of them."""
    waits = frozenset[str]().union(*(one.seen.waits for one in treatments))
    harmed = dict.fromkeys(metric_id for one in treatments for metric_id in one.seen.harmed)
    is_worth_it = all(one.seen.is_worth_it for one in treatments)
    return wording.Seen(waits, tuple(harmed), is_worth_it=is_worth_it)


def _guardrail_state(effect: Entry, fewest: int) -> str:
    """Return the status of a guardrail; harm only where it survives the correction.

    ``inconsistent`` where its looks contradict each other and neither failure nor harm is shown;
    ``untested`` where it is watched, and no test could be made yet.
    """
    if effect["status"] == "invalid_input":
        return "invalid"
    state = str(effect["guardrail"]["status"])
    adjusted = effect["adjusted"]
    if state == "harm" and adjusted is not None and not adjusted["rejects"]:
        state = "watched" if effect["guardrail"]["margin"] is None else "undecided"
    is_torn = effect["guardrail"]["reason"] == "empty_intersection"
    if is_torn and state not in ("fail", "harm"):
        return "inconsistent"
    return "untested" if state == "watched" and _is_untested(effect, fewest) else state


def _is_untested(effect: Entry, fewest: int) -> bool:
    """Return whether nothing was tested of a guardrail that is watched: no news, not good news.

    Where all units of both variants have the same value, there is nothing that a test could show.
    Of the first few units neither that nor an exact test without harm says anything.
    """
    rail = effect["guardrail"]
    if fewest < BURN_IN_UNITS:
        return rail["reason"] is not None and not rail["is_harmed"]
    is_same = rail["reason"] == "zero_variance" and effect["absolute"]["estimate"] == 0
    return rail["reason"] is not None and rail["harm_p_value"] is None and not is_same


def _reading(sides: Sequence[Side], guardrails: Sequence[str]) -> Reading:
    """Return what a treatment says, while the experiment goes on."""
    seen = set(sides)
    if Side.INVALID in seen or "invalid" in guardrails:
        return Reading.INVALID
    if "fail" in guardrails or "harm" in guardrails:
        return Reading.GUARDRAIL_FAILED
    if Side.WORSE in seen:
        return Reading.MIXED if seen & _CERTAINLY_BETTER else Reading.HARM
    if Side.INCONSISTENT in seen or "inconsistent" in guardrails:
        return Reading.INCONSISTENT
    if seen & {Side.BETTER, Side.PERHAPS}:
        is_open = any(state not in ("pass", "watched") for state in guardrails)
        return Reading.IMPROVEMENT_GUARDRAILS_OPEN if is_open else Reading.IMPROVEMENT
    return Reading.IMPROVEMENT_BELOW_MINIMUM if Side.TOO_SMALL in seen else _without_finding(seen)


_WITHOUT_TEST = frozenset({Side.WAITING, Side.PLANNED, Side.STOPPED})
_CERTAINLY_BETTER = frozenset({Side.BETTER, Side.PERHAPS, Side.TOO_SMALL})


def _without_finding(seen: set[Side]) -> Reading:
    if not seen:
        return Reading.NO_DECISION_METRIC
    if seen == {Side.SMALL}:
        return Reading.SMALLER_THAN_MINIMUM
    if seen == {Side.WAITING}:
        return Reading.WARMING_UP
    is_between_looks = seen <= _WITHOUT_TEST
    return Reading.WAITING_FOR_LOOK if is_between_looks else Reading.RUNNING_NO_EVIDENCE


def _at_end(reading: Reading, seen: wording.Seen) -> Reading:
    """Return what a reading of a running experiment is at its last look.

    Where nothing was tested, no effect was looked for: that is not the same as none found. Nor is
    a test that was broken off: its next look might have shown one.
    """
    if seen.is_stopped and reading in _NO_FINDING_YET:
        return Reading.STOPPED_BEFORE_LOOK
    if reading is Reading.RUNNING_NO_EVIDENCE:
        return Reading.NO_EFFECT_FOUND_AT_END
    if reading in (Reading.WAITING_FOR_LOOK, Reading.WARMING_UP):
        is_small = seen.waits <= wording.WAITS_FOR_UNITS
        return Reading.TOO_FEW_UNITS_AT_END if is_small else Reading.NOT_TESTED_AT_END
    return reading


_NO_FINDING_YET = frozenset(
    {Reading.RUNNING_NO_EVIDENCE, Reading.WAITING_FOR_LOOK, Reading.WARMING_UP}
)


def _rough(definition: Definition, entries: Sequence[Entry]) -> list[Reason]:
    """Return of which effects one fixed look errs more often than it is made for.

    A sequence waits, and so does a planned look, until a total's standard error is known; a single
    look is taken when it comes. Rates know theirs from the rate, and are as good as they say.
    """
    if definition.analysis.method != "fixed_horizon":
        return []
    metrics = {metric.id: metric for metric in definition.metrics}
    return [
        wording.of_rough_error(effect, metric, status, _pair_of(entry, effect))
        for entry in entries
        for effect in entry["effects"]
        if (metric := metrics[entry["metric_id"]]).role != "secondary"
        and metric.kind != "conversion"
        and (status := _status_of_error(effect)) is not None
    ]


def _status_of_error(effect: Entry) -> str | None:
    """Return what a sequence of the effect, or of the adjusted one, would wait for; or None."""
    told = (effect["status"], (effect.get("cuped") or {}).get("status"))
    return next((one for one in told if one in ("sparse", "warming_up")), None)


def _effect_of(entry: Entry, variant: str) -> Entry:
    found: Entry = next(effect for effect in entry["effects"] if effect["variant"] == variant)
    return found


def _sample_ratio_alarms(results: Entry) -> Iterable[Reason]:
    """Yield the alarms of the split: of all units, and of each segment after correction."""
    whole = results["sample_ratio"]
    if whole["mismatch"]:
        yield wording.of_sample_ratio(min(whole["sequential_p_value"], whole["p_value"]))
    for attribute, segments in results["sample_ratio_by_segment"].items():
        for segment in segments:
            if segment["mismatch"]:
                where = (attribute, segment["value"])
                yield wording.of_sample_ratio(segment["adjusted_p_value"], where)


def _notes(results: Entry, entries: Sequence[Entry]) -> Iterable[Reason]:
    """Yield what does not change the reading, but should be known."""
    units = sum(one["units"] for one in results["variants"])
    share = results["crossovers"] / max(1, units + results["crossovers"])
    if share > CROSSOVERS_MAX:
        yield wording.of_crossovers(results["crossovers"], share)
    for entry in entries:
        if entry["role"] == "secondary":
            continue
        if entry["overflowed"]:
            yield wording.of_overflow(entry["metric_id"], entry["overflowed"])
        moves = [one["decision"].get("cap_moved") for one in entry["effects"]]
        if any(moves):
            latest = max((one for one in moves if one), key=lambda one: int(one["tick"]))
            yield wording.of_cap_move(entry, latest, results["analysis"]["method"])
        imbalance = (entry.get("cap") or {}).get("imbalance_p_value")
        if imbalance is not None and imbalance < CAP_IMBALANCE_ALPHA:
            yield wording.of_cap(entry["metric_id"], imbalance)
