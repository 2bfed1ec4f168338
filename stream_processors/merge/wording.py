"""What a verdict says in words, for somebody who decides and is no statistician. Pure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from schemas.definitions import Definition, Metric

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


_HEADLINES = {
    "invalid": (
        "Nothing can be concluded: the sums contradict each other. Look at the ledger and the logs."
    ),
    "sample_ratio_mismatch": (
        "Do not read this result: units are not split as planned, so the variants may not be "
        "comparable. Find out where assignments are lost or made twice."
    ),
    "improvement": "{variants} did better than the control, and nothing that is guarded got worse.",
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
    "smaller_than_minimum": (
        "{variants} made no difference worth having: any improvement is smaller than the minimum "
        "that was agreed on."
    ),
    "no_effect_found_at_end": (
        "No difference was shown by the end. That is no proof that there is none: the intervals "
        "say which effects are still possible."
    ),
    "too_few_units_at_end": "The experiment ended with too few units to conclude anything.",
    "running_no_evidence": "No difference shown so far. The experiment goes on.",
    "waiting_for_look": "Not to be read yet: the next planned look has not come.",
    "warming_up": "Too few units so far. The first numbers come by themselves.",
    "no_decision_metric": "No metric of this experiment decides, so there is nothing to conclude.",
}
"""By reading; ``{variants}`` are the treatments that it is about."""

_GUARDRAILS = {
    "pass": "stays within its margin",
    "fail": "is worse by more than its margin",
    "harm": "got worse",
    "undecided": "is not settled yet",
    "watched": "is watched for harm, and none was shown",
    "invalid": "has sums that contradict each other",
}

_PROMISES = {
    "always_valid": "however often you look and whenever you stop",
    "group_sequential": "over all planned looks together",
    "fixed_horizon": "at the last look, the only one that was planned",
}


def headline(reading: str, variants: Sequence[str]) -> str:
    """Return the verdict in one or two sentences."""
    return _HEADLINES[reading].format(variants=_listed(variants))


def guarantee(definition: Definition) -> str:
    """Return how often a reading that names a difference may be wrong."""
    analysis = definition.analysis
    if analysis.method == "bayesian":
        return (
            "No error rate is guaranteed: a posterior is not protected against repeated looks, nor "
            "against reading several metrics or variants."
        )
    deciding = sum(metric.role == "decision" for metric in definition.metrics)
    comparisons = deciding * (len(definition.variants) - 1)
    several = f", all {comparisons} comparisons that decide together" if comparisons > 1 else ""
    return (
        "If no treatment differed from the control, this would name a difference in at most "
        f"{_percent(analysis.alpha, signed=False)} of experiments, {_PROMISES[analysis.method]}"
        f"{several}. Guardrails have the same allowance of their own."
    )


def of_decision(effect: Entry, metric: Metric, side: str, minimum_effect: float | None) -> Reason:
    """Return what a deciding metric says of one treatment."""
    variant, control = effect["variant"], effect["control"]
    about = f"{metric.id}: {variant}"
    match side:
        case "better" | "worse":
            higher = (side == "better") == (metric.direction == "increase")
            text = f"{about} is {'higher' if higher else 'lower'} than {control}{_size(effect)}"
            text += _against_minimum(effect, metric, minimum_effect) if side == "better" else ""
        case "small":
            text = f"{about} is not better by the minimum effect{_size(effect)}"
        case "nothing":
            text = f"{about} shows no difference{_size(effect)}"
        case "inconsistent":
            text = f"{about} has looks that contradict each other"
        case "planned":
            text = f"{about} is read at the next planned look"
        case "invalid":
            text = f"{about} has sums that contradict each other"
        case _:
            text = f"{about} has too few units yet"
    return Reason(f"decision_{side}", metric.id, variant, text + ".")


def of_guardrail(effect: Entry, metric: Metric, state: str) -> Reason:
    """Return what a guardrail says of one treatment."""
    text = f"{metric.id}: {effect['variant']} {_GUARDRAILS[state]}{_size(effect)}."
    return Reason(f"guardrail_{state}", metric.id, effect["variant"], text)


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


def of_cap(metric_id: str, p_value: float) -> Reason:
    """Return the note that the cap hits the variants unequally."""
    text = (
        f"{metric_id}: the cap cuts off more units in one variant than in another"
        f"{_p(p_value)}: it hides a part of the effect."
    )
    return Reason("cap_imbalance", metric_id, None, text)


def _against_minimum(effect: Entry, metric: Metric, minimum_effect: float | None) -> str:
    relative = effect["decision"]["relative"]
    if not minimum_effect or relative["low"] is None or relative["high"] is None:
        return ""
    low, high = relative["low"], relative["high"]
    if metric.direction == "decrease":
        low, high = -high, -low
    if low >= minimum_effect:
        return ", at least the minimum effect"
    if high < minimum_effect:
        return ", but by less than the minimum effect"
    return ", perhaps by less than the minimum effect"


def _size(effect: Entry) -> str:
    """Return the estimate and the interval that decides, relative where there is one."""
    decision, relative = effect["decision"], effect["decision"]["relative"]
    if relative["estimate"] is not None and relative["low"] is not None:
        if relative["high"] is None:
            return ""
        shown = [_percent(relative[name]) for name in ("estimate", "low", "high")]
    elif decision["estimate"] is not None and decision["low"] is not None:
        shown = [f"{decision[name]:+.4g}" for name in ("estimate", "low", "high")]
    else:
        return ""
    return f": {shown[0]} ({shown[1]} to {shown[2]})"


def _percent(share: float, *, signed: bool = True) -> str:
    return f"{100 * share:+.3g} %" if signed else f"{100 * share:.3g} %"


def _p(p_value: float) -> str:
    return f" (p {p_value:.2g})"


def _listed(variants: Sequence[str]) -> str:
    if len(variants) < 2:
        return "".join(variants)
    return f"{', '.join(variants[:-1])} and {variants[-1]}"
