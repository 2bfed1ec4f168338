"""What a verdict says in words, for somebody who decides and is no statistician. Pure."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from schemas.definitions import Definition, Metric
from stream_processors.merge.waiting import fewest_units, so_far
from stream_processors.stats.edges import BURN_IN_UNITS

Entry = dict[str, Any]


class Reason(NamedTuple):
    """One thing that a verdict rests on, or that its reader should know.

    Attributes:
        code: What it is, for programs.
        metric_id: About which metric; None: about the experiment.
        variant: About which treatment; None: about all.
        text: The same for people.
    """

    code: str
    metric_id: str | None
    variant: str | None
    text: str


class Seen(NamedTuple):
    """What a headline has to mention besides the reading.

    Attributes:
        waits: Why deciding metrics have no numbers: of ``wait_of``.
        harmed: Ids of guardrails that got worse, after the correction, within their margin or not.
        is_worth_it: False where an improvement may be smaller than the minimum effect.
        is_stopped: Whether the test of a deciding metric was broken off before a planned look.
    """

    waits: frozenset[str] = frozenset()
    harmed: tuple[str, ...] = ()
    is_worth_it: bool = True
    is_stopped: bool = False


_HEADLINES = {
    "invalid": (
        "Nothing can be concluded: the sums contradict each other. Look at the ledger and the logs."
    ),
    "sample_ratio_mismatch": (
        "Do not read this result: units are not split as planned, so the variants may not be "
        "comparable. Find out where assignments are lost or made twice."
    ),
    "improvement": (
        "{variants} did better than the control, and nothing that is guarded was shown to get "
        "worse."
    ),
    "improvement_guardrails_open": (
        "{variants} did better than the control, but it is not settled yet that everything that "
        "is guarded stays within its margin."
    ),
    "guardrail_failed": "{variants} made something worse that is guarded: do not ship it as it is.",
    "harm": "{variants} did worse than the control.",
    "mixed": "{variants} did better on one deciding metric and worse on another: weigh them.",
    "inconsistent": (
        "The effect of {variants} changed while the experiment ran: its looks contradict each "
        "other, so no single number describes it."
    ),
    "improvement_below_minimum": (
        "{variants} did better than the control, but by less than the minimum effect that was "
        "agreed on wherever a difference was shown: an improvement, though not one worth having."
    ),
    "smaller_than_minimum": (
        "{variants} made no difference worth having: any improvement is smaller than the minimum "
        "that was agreed on, and none was shown."
    ),
    "stopped_before_look": (
        "The experiment was stopped before its next planned look, and no planned look showed a "
        "difference. What came after the last one decides nothing: the time to stop may have been "
        "chosen by it."
    ),
    "no_effect_found_at_end": (
        "No difference was shown by the end. That is no proof that there is none: the intervals "
        "say which effects are still possible."
    ),
    "too_few_units_at_end": "The experiment ended with too few units to conclude anything.",
    "not_tested_at_end": (
        "The experiment ended without a test: the reasons say what was missing. Nothing can be "
        "concluded, not even that there is no difference."
    ),
    "running_no_evidence": "No difference shown so far. The experiment goes on.",
    "waiting_for_look": "Not to be read yet: the next planned look has not come.",
    "warming_up": "Too few units so far. The first numbers come by themselves.",
    "no_decision_metric": "No metric of this experiment decides, so there is nothing to conclude.",
}
"""By reading; ``{variants}`` are the treatments that it is about."""

_OF_SOME = {
    "invalid": (
        "{variants}: nothing can be concluded, the sums contradict each other. Look at the ledger "
        "and the logs."
    ),
    "improvement": (
        "{variants} did better than the control, and for {variants} nothing that is guarded was "
        "shown to get worse."
    ),
    "improvement_guardrails_open": (
        "{variants} did better than the control, but it is not settled yet that for {variants} "
        "everything that is guarded stays within its margin."
    ),
    "stopped_before_look": (
        "{variants}: no planned look showed a difference before the experiment was stopped."
    ),
    "no_effect_found_at_end": "{variants}: no difference was shown by the end.",
    "too_few_units_at_end": "{variants}: too few units to conclude anything.",
    "not_tested_at_end": "{variants}: not tested, the reasons say what was missing.",
    "running_no_evidence": "{variants}: no difference shown so far.",
    "waiting_for_look": "{variants}: not to be read before the next planned look.",
    "warming_up": "{variants}: not enough data so far.",
}
"""The same where it holds for some treatments only, and others read otherwise."""

_HARM_WITHIN = (
    "{variants} did better than the control. For {variants} every guardrail stayed within its "
    "margin, but {harmed} got worse within it."
)
"""An improvement with harm that the margins allow."""

_WAITS = {
    "warming_up": "has too few units yet",
    "warming_up_rate": (
        "has too few units yet: it waits for 100 in each variant, 30 of them converted and 30 not"
    ),
    "few_conversions": (
        "has too few converted units in a variant, or too few others: it waits for 30 of both in "
        "each"
    ),
    "few_expected": (
        "has too few units for its margin: it waits until 5 converted ones and 5 others are to be "
        "expected in each variant if the treatment is at the margin"
    ),
    "no_units": "waits for the first units of both variants",
    "insufficient": (
        "waits for two units in each variant; a posterior for three, and for more where one unit "
        "makes up most of the standard error"
    ),
    "invalid_prior": (
        "has a prior whose size no posterior can be computed with: post the definition anew, with "
        "another prior or without one"
    ),
    "zero_variance": (
        "has the same value for every unit of a variant, in both, so there is nothing to test"
    ),
    "one_variance_zero": (
        "has the same value for every unit of one variant, which has too few units for that to "
        "mean anything: it waits until 30 of them could be expected to differ"
    ),
    "sparse": (
        "has too few units with a value of their own in the smaller variant to know its error: it "
        "waits for about 60 of them, or for 3,000 units"
    ),
    "ties": (
        "has many equal values at its quantile, or none around it, and so no standard error, which "
        "this test needs"
    ),
    "denominator_near_zero": "waits for a denominator that is clearly not 0",
    "undefined": "has nothing to divide by yet, so it waits for more events",
    "stopped_before_look": (
        "was not tested, because the experiment was stopped before the first planned look"
    ),
}
"""By the status of a decision without numbers."""

_WAITING_HEADLINES = {
    ("warming_up", True): (
        "Not enough data so far: the reasons say what is waited for. The first numbers come by "
        "themselves."
    ),
    ("warming_up", False): (
        "Nothing to test so far: all units of a variant have the same value, in both."
    ),
    ("not_tested_at_end", False): (
        "The experiment ended with nothing to test: all units of a variant have the same value, "
        "in both."
    ),
}
"""By reading, and whether anything but a spread is missing; where units are not what is."""

_GUARDRAILS = {
    "pass": "stays within its margin",
    "fail": "is worse by more than its margin",
    "harm": "got worse",
    "undecided": "is not settled yet",
    "watched": "is watched for harm, and none was shown",
    "untested": "is not tested yet",
    "invalid": "has sums that contradict each other",
    "inconsistent": "has looks that contradict each other, so it is not settled",
}

_PROMISES = {
    "always_valid": "however often you look and whenever you stop",
    "group_sequential": "over all planned looks together, whenever you stop",
    "fixed_horizon": (
        "at the last look, the only one that was planned (so long as its time was not chosen by "
        "what was seen before)"
    ),
}


class About(NamedTuple):
    """Treatments of which the same is said.

    Attributes:
        reading: A ``verdict.Reading``.
        variants: Their ids, at least one.
        seen: Of them together.
    """

    reading: str
    variants: Sequence[str]
    seen: Seen


def headline(about: Sequence[About]) -> str:
    """Return the verdict in a few sentences: what holds for whom, where that differs."""
    if len(about) == 1:
        return _sentence(about[0], _HEADLINES[about[0].reading])
    return " ".join(
        _sentence(one, _OF_SOME.get(one.reading, _HEADLINES[one.reading])) for one in about
    )


def _sentence(about: About, text: str) -> str:
    reading, variants, seen = about
    is_of_all = text == _HEADLINES[reading]
    if reading == "improvement" and seen.harmed:
        text = _HARM_WITHIN
    if reading in ("improvement", "improvement_guardrails_open") and not seen.is_worth_it:
        text += _PERHAPS_SMALL
    if reading == "no_effect_found_at_end" and seen.waits and is_of_all:
        text += _NOT_ALL_TESTED
    if seen.waits - WAITS_FOR_UNITS and is_of_all:
        text = _WAITING_HEADLINES.get((reading, seen.waits != {"zero_variance"}), text)
    return text.format(variants=_listed(variants), harmed=_listed(seen.harmed))


WAITS_FOR_UNITS = frozenset({"warming_up", "warming_up_rate", "no_units", "insufficient"})
"""What more units alone would end."""

_PERHAPS_SMALL = " Whether by the minimum effect that was agreed on is not settled: it may be less."

_NOT_ALL_TESTED = " Not every deciding metric could be tested: the reasons say which, and why."


def wait_of(effect: Entry, metric: Metric, pair: Sequence[Entry]) -> str:
    """Return why an effect has no numbers: the status, rates that warm up by themselves.

    Args:
        effect: Without numbers that decide.
        metric: Its metric.
        pair: Control and treatment, of ``metrics[].variants``.
    """
    return _wait(effect["decision"]["status"], metric, pair)


def _wait(status: str, metric: Metric, pair: Sequence[Entry]) -> str:
    if metric.kind != "conversion" or status != "warming_up":
        return status
    return "few_conversions" if fewest_units(pair) >= BURN_IN_UNITS else "warming_up_rate"


def _waits(status: str, metric: Metric, pair: Sequence[Entry]) -> str:
    """Return what is waited for, and how much of it has come."""
    wait = _wait(status, metric, pair)
    return _WAITS.get(wait, f"has no number yet ({wait})") + so_far(wait, pair)


def is_harmed(effect: Entry) -> bool:
    """Return whether a guardrail got worse, after the correction where there is one."""
    adjusted = effect["adjusted"]
    return bool(effect["guardrail"]["is_harmed"]) and (adjusted is None or adjusted["rejects"])


def is_stopped_between_looks(effect: Entry) -> bool:
    """Return whether the experiment ended before the next planned look of what decides."""
    decision = effect["decision"]
    if decision["status"] == "stopped_before_look":
        return True
    numbers = effect.get(decision.get("of"), {}).get("group_sequential")
    return bool(numbers) and numbers["held_back"] == "stopped_before_look"


def guarantee(definition: Definition, *, without: Collection[str] = ()) -> str:
    """Return how often a reading that names a difference may be wrong.

    Args:
        definition: Of the experiment.
        without: Ids of metrics that have too few units for any such promise.
    """
    analysis = definition.analysis
    if analysis.method == "bayesian":
        return (
            "No error rate is guaranteed: a posterior is not protected against repeated looks, nor "
            "against reading several metrics or variants."
        )
    rough = [metric.id for metric in definition.metrics if metric.id in without]
    deciding = [metric.id for metric in definition.metrics if metric.role == "decision"]
    if rough:
        about = f"No error rate is guaranteed for {_listed(rough)}: too few units for one to hold."
        if set(deciding) <= set(rough):
            return about
        return f"{about} For what else is tested: {_promise(definition, len(deciding))}"
    return _promise(definition, len(deciding))


def _promise(definition: Definition, deciding: int) -> str:
    """Return the error rate of the method, over all ``deciding`` metrics and treatments."""
    analysis = definition.analysis
    comparisons = deciding * (len(definition.variants) - 1)
    several = f", all {comparisons} comparisons that decide together" if comparisons > 1 else ""
    return (
        "If no treatment differed from the control, this would name a difference in at most "
        f"{_percent(analysis.alpha, signed=False)} of experiments, {_PROMISES[analysis.method]}"
        f"{several}. Guardrails have the same allowance of their own."
    )


def of_decision(
    effect: Entry,
    metric: Metric,
    side: str,
    *,
    minimum_effect: float | None,
    pair: Sequence[Entry],
) -> Reason:
    """Return what a deciding metric says of one treatment.

    Args:
        effect: Its entry.
        metric: The metric.
        side: A ``verdict.Side``.
        minimum_effect: Smallest relative effect worth having.
        pair: Control and treatment, of ``metrics[].variants``.
    """
    variant, control = effect["variant"], effect["control"]
    about = f"{metric.id}: {variant}"
    match side:
        case "better" | "better_perhaps_small" | "better_small" | "worse":
            higher = (side != "worse") == (metric.direction == "increase")
            text = f"{about} is {'higher' if higher else 'lower'} than {control}{_size(effect)}"
            text += _AGAINST_MINIMUM[side] if minimum_effect else ""
            text += _relative_size(effect) if side == "better_small" else ""
        case "small":
            text = f"{about} is not better by the minimum effect{_relative_size(effect)}"
        case "nothing":
            text = f"{about} shows no difference{_after_correction(effect)}{_size(effect)}"
            text += _since_last_look(effect, metric, pair)
        case "inconsistent":
            text = f"{about} has looks that contradict each other"
        case "planned":
            text = f"{about} is read at the next planned look"
            if effect["status"] == "warming_up" and effect["decision"]["method"] != "fixed_horizon":
                text = f"{about} {_waits('warming_up', metric, pair)}"
        case "invalid":
            text = f"{about} has sums that contradict each other"
        case _:
            text = f"{about} {_waits(effect['decision']['status'], metric, pair)}"
    # Programs know it as better: by how much is in the numbers and in the reading.
    code = "better" if side == "better_perhaps_small" else side
    return Reason(f"decision_{code}", metric.id, variant, text + ".")


def of_guardrail(effect: Entry, metric: Metric, state: str, *, pair: Sequence[Entry]) -> Reason:
    """Return what a guardrail says of one treatment; ``pair``: see ``of_decision``."""
    said, rail = _GUARDRAILS[state], effect["guardrail"]
    if rail["is_harmed"] and state in ("pass", "watched", "undecided"):
        said += ", but it got worse" if is_harmed(effect) else ", but taken alone it got worse"
    elif state in ("undecided", "untested") and rail["reason"] in _WAITS:
        said += f": it {_waits(rail['reason'], metric, pair)}"
    said += _by_exact_test(rail, state)
    text = f"{metric.id}: {effect['variant']} {said}{_guarded_size(rail, metric, state)}."
    # Programs know it as open: that is what it is.
    code = "undecided" if state == "inconsistent" else state
    return Reason(f"guardrail_{code}", metric.id, effect["variant"], text)


def _guarded_size(rail: Entry, metric: Metric, state: str) -> str:
    """Return the difference that is guarded with the one-sided bound that decides, if one does.

    Not the interval of ``decision``: that has two ends, and may be adjusted by a covariate.
    """
    kept = rail.get("passed_room") if state == "pass" else None
    passed = "" if kept is None else f": passed at an earlier look with room of at least {kept:.4g}"
    if rail["gain"] is None:
        return passed
    sign = 1 if metric.direction == "increase" else -1
    shown, low, high = f": {sign * rail['gain'] + 0.0:+.4g}", rail["low"], rail["high"]
    room_low, room_high = rail["room_low"], rail["room_high"]
    if passed:
        shown = f"{passed}; at this one {sign * rail['gain'] + 0.0:+.4g}"
    if state == "pass" and room_low is not None and room_low > 0:
        return f"{shown}, with room to the margin of at least {room_low:.4g}"
    if state == "fail" and room_high is not None and room_high < 0:
        return f"{shown}, beyond the margin by at least {-room_high:.4g}"
    within = rail.get("chance_within_margin")
    if state in ("pass", "fail") and within is not None:
        return f"{shown}, within the margin with a chance of {_percent(within, signed=False)}"
    if state == "harm" and high is not None and high < 0:
        return f"{shown} (at {'most' if sign > 0 else 'least'} {sign * high + 0.0:+.4g})"
    if low is None or high is None:
        return shown
    ends = sorted((sign * low + 0.0, sign * high + 0.0))
    return f"{shown} (one-sided bounds {ends[0]:+.4g} and {ends[1]:+.4g})"


def _by_exact_test(rail: Entry, state: str) -> str:
    """Return what a rate of rare events was tested by, where its sequence has not started."""
    if "converted" not in rail or rail["gain"] is not None or state not in ("harm", "watched"):
        return ""
    control, treatment = rail["converted"]
    return (
        f" by the exact test of its {treatment:,} converted units against {control:,} of the "
        "control's: there are too few of them, or too few others, for an interval"
    )


def of_sample_ratio(p_value: float, where: tuple[str, str] | None = None) -> Reason:
    """Return the alarm of the split, of all units or of those with (attribute, value)."""
    if where is None:
        return Reason(
            "sample_ratio_mismatch", None, None, f"Units are not split as planned{_p(p_value)}."
        )
    text = f"Units with {where[0]} {where[1]} are not split as planned{_p(p_value)}."
    return Reason("segment_sample_ratio_mismatch", None, None, text)


def of_crossovers(count: int, share: float) -> Reason:
    """Return the note that units were in two variants."""
    shown = _percent(share, signed=False)
    text = f"{count} units ({shown}) were assigned two variants: check how variants are assigned."
    return Reason("many_crossovers", None, None, text)


def of_overflow(metric_id: str, count: int) -> Reason:
    """Return the note that units left a metric because their totals are too large."""
    text = f"{metric_id}: {count} units with very large totals are left out."
    return Reason("units_overflowed", metric_id, None, text)


ROUGH_FINDING = " Too few units for its error rate to hold: the reasons say of what."
"""What a headline adds to a finding; see ``of_rough_error``."""


def of_rough_error(effect: Entry, metric: Metric, status: str, pair: Sequence[Entry]) -> Reason:
    """Return the note that a single look errs more often than it says.

    Args:
        effect: Its entry.
        metric: The metric; no rate.
        status: ``sparse`` or ``warming_up``: what a sequence would wait for.
        pair: Control and treatment, of ``metrics[].variants``.
    """
    variant = effect["variant"]
    needs = "100 units in each variant"
    if metric.kind == "quantile":
        needs += ", and 30 units or events on either side of the quantile"
    if status == "sparse":
        needs = "about 60 units with a value of their own in the smaller variant, or 3,000 units"
    text = (
        f"{metric.id}: {variant} has too few units for the error rate to hold: it takes {needs}"
        f"{so_far(status, pair)}. A difference may be chance more often than its p-value says."
    )
    return Reason("error_rate_not_held", metric.id, variant, text)


def of_cap_move(entry: Entry, moved: Entry, method: str) -> Reason:
    """Return the note that numbers over several looks began anew, because the cap moved.

    Args:
        entry: Of the metric.
        moved: ``decision.cap_moved`` of a treatment.
        method: Of the definition.
    """
    before, now = (
        "none" if cap is None else f"{cap:.15g}" for cap in (moved["cap_before"], moved["cap"])
    )
    kept = "; what was spent of the error probability stays spent"
    kept = kept if method == "group_sequential" else ""
    if entry["role"] == "guardrail":
        kept += "; a failure or harm that was shown before stays shown"
    text = (
        f"{entry['metric_id']}: the cap moved from {before} to {now} at tick {moved['tick']}. An "
        "effect at another cap is another effect, so running numbers began anew there"
        f"{kept}."
    )
    return Reason("cap_moved", entry["metric_id"], None, text)


def of_cap(metric_id: str, p_value: float) -> Reason:
    """Return the note that the cap hits the variants unequally."""
    text = (
        f"{metric_id}: the cap cuts off more units in one variant than in another"
        f"{_p(p_value)}: it hides a part of the effect."
    )
    return Reason("cap_imbalance", metric_id, None, text)


_AGAINST_MINIMUM = {
    "better": ", at least the minimum effect",
    "better_perhaps_small": ", perhaps by less than the minimum effect",
    "better_small": ", but by less than the minimum effect",
    "worse": "",
}


def _size(effect: Entry) -> str:
    """Return the estimate with the interval that decides, in metric units.

    The relative estimate follows without an interval: the absolute one decides, and the two may
    disagree about 0 at the edge. The estimate is of this look, and a running interval may have
    left it behind; then it is said to be of this look.
    """
    decision = effect["decision"]
    estimate, low, high = (decision[name] for name in ("estimate", "low", "high"))
    if estimate is None or (low is None and high is None):
        return ""
    if low is None or high is None:
        return f": at most {high:+.4g}" if low is None else f": at least {low:+.4g}"
    interval = f"{low:+.4g} to {high:+.4g}"
    if not low <= estimate <= high:
        return f": {interval} by all looks together, {estimate:+.4g} at this one"
    relative = decision["relative"]["estimate"]
    share = "" if relative is None else f", {_percent(relative)}"
    return f": {estimate:+.4g} ({interval}){share}"


def _relative_size(effect: Entry) -> str:
    """Return the relative interval: it is what a minimum effect is held against."""
    relative = effect["decision"]["relative"]
    low, high = relative["low"], relative["high"]
    if low is None or high is None:
        return ""
    return f": {_percent(low)} to {_percent(high)}"


def _after_correction(effect: Entry) -> str:
    """Return what an interval without 0 needs beside it where nothing is claimed."""
    low, high = effect["decision"]["low"], effect["decision"]["high"]
    excludes_zero = (low is not None and low > 0) or (high is not None and high < 0)
    if not excludes_zero:
        return ""
    return " that the correction for several comparisons leaves; taken alone, it would"


def _since_last_look(effect: Entry, metric: Metric, pair: Sequence[Entry]) -> str:
    """Return what holds back a planned look that is due, while an earlier one stands."""
    decision = effect["decision"]
    numbers = effect.get(decision.get("of"), {}).get("group_sequential")
    held = numbers and numbers["held_back"]
    if not held:
        return ""
    if held == "stopped_before_look":
        return " at its last planned look; the experiment was stopped before the next one"
    return f" at its last planned look; the one that is due {_waits(held, metric, pair)}"


def _percent(share: float, *, signed: bool = True) -> str:
    return f"{100 * share:+.3g} %" if signed else f"{100 * share:.3g} %"


def _p(p_value: float) -> str:
    return f" (p {p_value:.2g})"


def _listed(variants: Sequence[str]) -> str:
    if len(variants) < 2:
        return "".join(variants)
    return f"{', '.join(variants[:-1])} and {variants[-1]}"
