"""Which comparisons share an error probability, by role, and what is promised of each family."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from stream_processors.stats.multiplicity import AdjustedP, adjust_e_values, adjust_p_values

AnalysisMethod = Literal["fixed_horizon", "always_valid", "group_sequential", "bayesian"]
Role = Literal["decision", "guardrail", "secondary"]
AdjustmentMethod = Literal["holm", "benjamini_hochberg", "benjamini_yekutieli", "e_bh", "none"]
Guarantee = Literal[
    "family_wise_at_all_looks",
    "family_wise_at_one_look",
    "false_discovery_at_any_look",
    "false_discovery_at_one_look",
    "none",
]

DECISION = "decision"
GUARDRAIL = "guardrail"
SECONDARY = "secondary"

GUARANTEES: dict[Guarantee, str] = {
    "family_wise_at_all_looks": (
        "the chance of any false claim in this family, at any look, is at most alpha"
    ),
    "family_wise_at_one_look": (
        "the chance of any false claim in this family, at the one planned look, is at most alpha"
    ),
    "false_discovery_at_any_look": (
        "of the claims shown at a look, whenever one stops, an expected share of at most alpha is"
        " false"
    ),
    "false_discovery_at_one_look": (
        "of the claims at the one planned look an expected share of at most alpha is false, if"
        " the comparisons are independent or positively dependent"
    ),
    "none": "nothing is promised: these are not corrected for their number",
}


class Candidate(NamedTuple):
    """One comparison as it enters its family.

    Attributes:
        family: Of ``family_of``.
        p_value: Of the experiment's own method: the fixed-horizon one; the *running* always-valid
            one; the repeated one of a group-sequential test; for a guardrail that of harm. None
            where it is undefined, or not defined yet.
        log_e_value: Always valid: of *this look*, not its running maximum.
    """

    family: str
    p_value: float | None
    log_e_value: float | None = None


class Adjustment(NamedTuple):
    """One comparison, corrected for the others of its family.

    Attributes:
        method: By what. Decisions and harm by Holm; secondary metrics and segments by BH at a
            fixed horizon, by e-BH on the always-valid e-values, by Benjamini-Yekutieli on
            repeated p-values; a Bayesian posterior by nothing.
        family: Its name.
        family_size: Comparisons that count.
        undefined_count: Those without a value. At a fixed horizon they are no part of the family.
            Where one looks repeatedly they count, as 1: a family that grew from look to look
            would have spent too much on the first ones.
        p_value: Adjusted; None for e-BH and where undefined.
        log_e_value: Adjusted, for e-BH: a claim needs 1 / alpha; None for the others.
        rejects: Whether there is a claim; None where it is undefined or nothing is promised.
        interval_alpha: Level for an interval that goes with it: alpha / m holds for all intervals
            of the family together; for BH, BY and e-BH alpha R / m, with R claims, bounds the
            expected share of wrong intervals among the claims. None without a claim to protect.
        guarantee: Key of ``GUARANTEES``.
    """

    method: AdjustmentMethod
    family: str
    family_size: int
    undefined_count: int
    p_value: float | None
    log_e_value: float | None
    rejects: bool | None
    interval_alpha: float | None
    guarantee: Guarantee


def family_of(role: Role, segment: str | None = None) -> str:
    """Return the family of a comparison.

    All variants and metrics of a role are one family; results by an attribute of the units are
    one of their own each, over metrics, variants and values.
    """
    return role if segment is None else f"segment:{segment}"


def adjust_families(
    candidates: Sequence[Candidate], *, method: AnalysisMethod, alpha: float
) -> list[Adjustment]:
    """Return every comparison corrected within its family, in the order given.

    Args:
        candidates: Of one experiment, at one look.
        method: How its results are read.
        alpha: Level of each family.

    References:
        Holm on p-values of group-sequential tests: Maurer, Bretz (2013), Statistics in
        Biopharmaceutical Research 5(4). Intervals of selected effects: Benjamini, Yekutieli
        (2005), JASA 100; with e-values Xu, Wang, Ramdas (2024), "Post-selection inference for
        e-value based confidence intervals", EJS 18.
    """
    members: dict[str, list[int]] = {}
    for index, candidate in enumerate(candidates):
        members.setdefault(candidate.family, []).append(index)
    adjusted: dict[int, Adjustment] = {}
    for family, indices in members.items():
        group = [candidates[index] for index in indices]
        rows = _adjust(family, group, method=method, alpha=alpha)
        adjusted.update(zip(indices, rows, strict=True))
    return [adjusted[index] for index in range(len(candidates))]


def _adjust(
    family: str, group: Sequence[Candidate], *, method: AnalysisMethod, alpha: float
) -> list[Adjustment]:
    if method == "bayesian":
        return [Adjustment("none", family, len(group), 0, None, None, None, None, "none")] * len(
            group
        )
    p_values = [candidate.p_value for candidate in group]
    if method != "fixed_horizon":
        p_values = [1.0 if p_value is None else p_value for p_value in p_values]
    if family in (DECISION, GUARDRAIL):
        found = adjust_p_values(p_values, procedure="holm", alpha=alpha)
        guarantee: Guarantee = "family_wise_at_all_looks"
        if method == "fixed_horizon":
            guarantee = "family_wise_at_one_look"
        level = alpha / max(1, found.family_size)
        return _of_p_values(group, found, method="holm", level=level, guarantee=guarantee)
    if method == "always_valid":
        return _of_e_values(group, alpha=alpha)
    procedure: Literal["benjamini_hochberg", "benjamini_yekutieli"] = "benjamini_hochberg"
    guarantee = "false_discovery_at_one_look"
    if method == "group_sequential":
        procedure, guarantee = "benjamini_yekutieli", "false_discovery_at_any_look"
    found = adjust_p_values(p_values, procedure=procedure, alpha=alpha)
    level = alpha * max(1, sum(found.rejects)) / max(1, found.family_size)
    return _of_p_values(group, found, method=procedure, level=level, guarantee=guarantee)


def _of_p_values(
    group: Sequence[Candidate],
    found: AdjustedP,
    *,
    method: AdjustmentMethod,
    level: float,
    guarantee: Guarantee,
) -> list[Adjustment]:
    undefined_count = sum(candidate.p_value is None for candidate in group)
    return [
        Adjustment(
            method=method,
            family=candidate.family,
            family_size=found.family_size,
            undefined_count=undefined_count,
            p_value=None if candidate.p_value is None else p_value,
            log_e_value=None,
            rejects=None if candidate.p_value is None else rejects,
            interval_alpha=None if candidate.p_value is None else level,
            guarantee=guarantee,
        )
        for candidate, p_value, rejects in zip(group, found.p_values, found.rejects, strict=True)
    ]


def _of_e_values(group: Sequence[Candidate], *, alpha: float) -> list[Adjustment]:
    log_e_values = [candidate.log_e_value for candidate in group]
    found = adjust_e_values([one if one is not None else 0.0 for one in log_e_values], alpha=alpha)
    level = alpha * max(1, sum(found.rejects)) / max(1, found.family_size)
    undefined_count = sum(one is None for one in log_e_values)
    return [
        Adjustment(
            method="e_bh",
            family=candidate.family,
            family_size=found.family_size,
            undefined_count=undefined_count,
            p_value=None,
            log_e_value=None if candidate.log_e_value is None else log_e_value,
            rejects=None if candidate.log_e_value is None else rejects,
            interval_alpha=None if candidate.log_e_value is None else level,
            guarantee="false_discovery_at_any_look",
        )
        for candidate, log_e_value, rejects in zip(
            group, found.log_e_values, found.rejects, strict=True
        )
    ]
