"""A results object, field by field: what the query API answers and the looks' topics hold.

The types are the machine-readable schema (``schema_of``); nothing is decoded through them on the
way, so they cost nothing. A test holds real looks to them: no field without a description.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from schemas.shown_definition import ShownDefinition


def _field(description: str) -> Meta:
    return Meta(description=description)


Number = Annotated[float | None, _field("Null where the status says why.")]


class _Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fields are all named here; another one is an error of ours."""


class LookHead(_Shown, frozen=True, kw_only=True):
    """Which look it is and what it holds."""

    tick: Annotated[int, _field("Number of the tick at which it was taken.")]
    log_id: Annotated[str, _field("Of the control log: ticks of another log do not compare.")]
    as_of: Annotated[str, _field("When it was taken: RFC 3339, UTC, milliseconds.")]
    current_at: Annotated[
        str | None, _field("Last tick at which it was still the latest; null in the record.")
    ] = None
    age_ms: Annotated[
        int | None, _field("Milliseconds since current_at, when it was answered; null in a record.")
    ]
    settled_lag_ms: Annotated[
        int, _field("How far settled time, which closes windows, is behind log time.")
    ]
    offsets: Annotated[
        dict[str, int],
        _field("Per partition of litmus.events the first offset that is not in the numbers."),
    ]
    behind: Annotated[list[int], _field("Partitions that hold looks back.")]
    sha256: Annotated[
        str, _field("Identity: of the exact inputs, so equal inputs have the same one.")
    ]


class VariantUnits(_Shown, frozen=True, kw_only=True):
    """Units of a variant."""

    variant: Annotated[str, _field("Id of the variant.")]
    units: Annotated[int, _field("Exposed units that count, crossovers taken off.")]


class SampleRatio(_Shown, frozen=True, kw_only=True):
    """Whether the variants got the shares that they should."""

    chi_square: Annotated[float, _field("Pearson's chi-square against the weights.")]
    degrees_of_freedom: Annotated[int, _field("Variants with a weight above 0, less one.")]
    p_value: Annotated[float, _field("Of chi-square; right for one look that was planned.")]
    sequential_p_value: Annotated[
        float, _field("Smallest 1 / e-value so far; right at all looks together.")
    ]
    concentrations: Annotated[
        list[float],
        _field("Weights of the priors around the planned shares; the e-value is their mean's."),
    ]
    mismatch: Annotated[bool, _field("Alarm: below 0.001. Nothing else may be read then.")]


class Hypothesis(_Shown, frozen=True, kw_only=True):
    """What the experiment is to find out, as it was written down before the start."""

    null: Annotated[str, _field("What is so if the change does nothing.")] = ""
    alternative: Annotated[str, _field("What the change is expected to do.")] = ""
    minimum_effect: Annotated[
        float | None, _field("Smallest relative effect worth having: 0.02 is 2 %.")
    ] = None


class AnalysisHead(_Shown, frozen=True, kw_only=True):
    """How the results are read."""

    method: Annotated[
        Literal["always_valid", "group_sequential", "fixed_horizon", "bayesian"],
        _field("Whose numbers decide; see docs/statistics.md."),
    ]
    alpha: Annotated[float, _field("Error probability of each family of comparisons.")]


class FixedHorizon(_Shown, frozen=True, kw_only=True):
    """Test and interval for one look that was planned; not for watching."""

    test: Annotated[
        Literal["z", "welch", "woodruff", "ranks"],
        _field(
            "z of rates (pooled), Welch's t of totals and ratios, Woodruff's of quantiles; ranks: "
            "of quantiles with ties."
        ),
    ]
    statistic: Annotated[float, _field("z or t.")]
    p_value: Annotated[float, _field("Two-sided.")]
    low: Annotated[float, _field("Lower end of the interval: Newcombe's for rates, else t's.")]
    high: Annotated[float, _field("Its upper end.")]
    degrees_of_freedom: Annotated[float | None, _field("Satterthwaite's; missing for z.")] = None


class AlwaysValid(_Shown, frozen=True, kw_only=True):
    """Confidence sequence: right at all looks together, past the burn-in."""

    p_value: Annotated[
        float | None,
        _field("1 / e-value at this look, at most 1; null where this look has no sequence."),
    ]
    low: Annotated[float | None, _field("Lower end at this look; null as p_value is.")]
    high: Annotated[float | None, _field("Upper end at this look; null as p_value is.")]
    running_p_value: Annotated[float, _field("Smallest so far: never grows.")]
    running_low: Annotated[
        float | None, _field("Highest lower end so far; null where the intersection is empty.")
    ]
    running_high: Annotated[
        float | None, _field("Lowest upper end so far; null where the intersection is empty.")
    ]


class Stagewise(_Shown, frozen=True, kw_only=True):
    """What to report of a group-sequential test that is over: corrected for the looks before."""

    p_value: Annotated[float, _field("Of the stagewise ordering.")]
    estimate: Annotated[float, _field("Median-unbiased; the plain one overstates.")]
    low: Annotated[float, _field("Lower end of the interval that goes with the p-value.")]
    high: Annotated[float, _field("Its upper end.")]


class GroupSequential(_Shown, frozen=True, kw_only=True):
    """Group-sequential test as of its last official look."""

    status: Annotated[
        Literal["continue", "rejected", "accepted"],
        _field("rejected: a boundary was crossed; accepted: all was spent without."),
    ]
    look: Annotated[int, _field("Official looks so far.")]
    information: Annotated[float, _field("Matured units over units_max at that look.")]
    estimate: Annotated[float, _field("The effect at that look.")]
    std_error: Annotated[float, _field("Its standard error there.")]
    statistic: Annotated[float, _field("z there.")]
    boundary: Annotated[float, _field("What |z| has to reach there, taken alone.")]
    family_boundary: Annotated[
        float,
        _field("The same among all comparisons of the role: once crossed, the test is over."),
    ]
    alpha_spent: Annotated[float, _field("Error probability spent up to it, taken alone.")]
    p_value: Annotated[float, _field("Repeated p-value: right at all official looks together.")]
    low: Annotated[float, _field("Lower end of the repeated interval.")]
    high: Annotated[float | None, _field("Its upper end; null for a one-sided test.")]
    running_low: Annotated[
        float | None, _field("Highest lower end of all looks; null where they do not overlap.")
    ]
    running_high: Annotated[
        float | None, _field("Lowest upper end of all looks; null where they do not overlap.")
    ]
    next_information: Annotated[float | None, _field("When the next look is due; null when over.")]
    held_back: Annotated[
        str | None,
        _field(
            "Why the next look was not taken: what kept one that is due from being computed, or "
            "stopped_before_look; it spends nothing."
        ),
    ] = None
    stagewise: Annotated[Stagewise | None, _field("When the test is over; else null.")]


class Posterior(_Shown, frozen=True, kw_only=True):
    """Posterior of an effect; not protected against repeated looks."""

    model: Annotated[
        Literal["beta", "student", "normal"],
        _field("beta: of two rates; student: with estimated variances; normal: of a quantile."),
    ]
    mean: Annotated[float, _field("Posterior mean of the effect.")]
    sd: Annotated[
        float | None,
        _field("Its standard deviation; null: infinite (three units, flat prior)."),
    ]
    chance: Annotated[float, _field("Chance that the treatment is better, in the direction.")]
    loss_treatment: Annotated[
        float, _field("Expected loss of shipping the treatment, in metric units.")
    ]
    loss_control: Annotated[float, _field("Expected loss of keeping the control.")]
    low: Annotated[float, _field("Lower end of the credible interval.")]
    high: Annotated[float, _field("Its upper end.")]
    label: Annotated[str, _field("What a reader must know of it.")]


class RelativeFixed(_Shown, frozen=True, kw_only=True):
    """Relative interval for one planned look."""

    method: Annotated[
        Literal["log", "fieller"] | None,
        _field("log where both means are positive, else Fieller's; null: no interval."),
    ]
    low: Number
    high: Number


class RelativeAlways(_Shown, frozen=True, kw_only=True):
    """Relative interval for all looks."""

    low: Number
    high: Number
    running_low: Annotated[float | None, _field("Highest lower end so far; null as in status.")]
    running_high: Annotated[float | None, _field("Lowest upper end so far; null as in status.")]
    status: Annotated[
        str,
        _field(
            "ok, or why this look has none; empty_intersection: of the running interval, which "
            "stays where a later look has none."
        ),
    ]


class RelativeGroup(_Shown, frozen=True, kw_only=True):
    """Repeated relative interval as of the last official look."""

    estimate: Annotated[float, _field("Relative effect at that look.")]
    method: Annotated[Literal["delta"], _field("By the delta method.")]
    low: Annotated[float, _field("Lower end.")]
    high: Annotated[float, _field("Upper end.")]
    running_low: Annotated[
        float | None, _field("Highest lower end of all looks; null where they do not overlap.")
    ]
    running_high: Annotated[
        float | None, _field("Lowest upper end of all looks; null where they do not overlap.")
    ]


class Relative(_Shown, frozen=True, kw_only=True):
    """Effect as a share of the control's mean; its intervals are its own."""

    estimate: Annotated[float | None, _field("(treatment - control) / |control|.")]
    status: Annotated[str, _field("ok, or why there are no numbers; undefined: near 0.")]
    std_error: Annotated[float | None, _field("By the delta method.")]
    fixed_horizon: Annotated[RelativeFixed, _field("For one planned look.")]
    always_valid: Annotated[
        RelativeAlways | None, _field("For all looks; on matured units only.")
    ] = None
    group_sequential: Annotated[
        RelativeGroup | None, _field("For the official looks; of that method only.")
    ] = None
    posterior: Annotated[
        Posterior | None, _field("Of the Bayesian method only; null with a prior.")
    ] = None


class Absolute(_Shown, frozen=True, kw_only=True):
    """Effect in metric units per unit, by every method that has numbers."""

    estimate: Annotated[float | None, _field("Treatment - control.")]
    std_error: Annotated[float | None, _field("√ of the variances of both variants added up.")]
    fixed_horizon: Annotated[
        FixedHorizon | None, _field("For one planned look; pointwise on open units.")
    ]
    always_valid: Annotated[
        AlwaysValid | None, _field("For all looks; null before the burn-in, and on open units.")
    ] = None
    group_sequential: Annotated[
        GroupSequential | None, _field("Of that method only; null before its first look.")
    ] = None
    posterior: Annotated[Posterior | None, _field("Of the Bayesian method only.")] = None


class Cuped(Absolute, frozen=True, kw_only=True):
    """The effect with the part taken away that the units' own past explains."""

    status: Annotated[str, _field("ok, or why numbers are null.")]
    flags: Annotated[list[str], _field("What a reader should know besides.")]
    relative: Annotated[Relative, _field("Over the control's unadjusted mean.")]
    theta: Annotated[float | None, _field("How much a unit's value moves with its covariate.")]
    variance_reduction: Annotated[
        float | None, _field("1 - adjusted / unadjusted variance of the effect.")
    ]
    covered_share: Annotated[float | None, _field("Share of the units that have a past.")]
    handling: Annotated[
        Literal["one_stratum", "two_strata", "mean_past"] | None,
        _field(
            "How units without a past are treated, by counts of units alone. one_stratum: there"
            " are none; two_strata: estimated by themselves; mean_past: one stratum has fewer"
            " than two units in a variant, so they count with the mean past of all that have one."
        ),
    ]
    control_mean: Annotated[float | None, _field("The control's adjusted mean.")]
    treatment_mean: Annotated[float | None, _field("The treatment's adjusted mean.")]


class RelativeDecision(_Shown, frozen=True, kw_only=True):
    """The relative numbers that go with the decision."""

    estimate: Number
    low: Number
    high: Number


class CapMoved(_Shown, frozen=True, kw_only=True):
    """Since when numbers over several looks are of one cap: they began anew at that look."""

    tick: Annotated[int, _field("Of the look at which they did.")]
    cap_before: Annotated[float | None, _field("In metric units; null: totals were not capped.")]
    cap: Annotated[float | None, _field("The cap since; null: totals are not capped.")]


class Decision(_Shown, frozen=True, kw_only=True):
    """What decides: numbers of one method and of one estimate, copied together."""

    method: Annotated[str, _field("Of the definition.")]
    of: Annotated[Literal["absolute", "cuped"], _field("Which estimate: cuped with a covariate.")]
    status: Annotated[str, _field("ok, or why nothing is decided: warming_up, waiting_for_look …")]
    p_value: Annotated[float | None, _field("Running, repeated, or of the one look.")]
    estimate: Number
    low: Number
    high: Number
    rejects: Annotated[bool | None, _field("Whether no effect is ruled out, taken alone.")]
    relative: Annotated[RelativeDecision, _field("The same on the relative scale.")]
    cap_moved: Annotated[
        CapMoved | None,
        _field("The last time that a cap at a quantile moved, so that running numbers began anew."),
    ] = None


class Adjusted(_Shown, frozen=True, kw_only=True):
    """The comparison, corrected for the others of its family."""

    method: Annotated[
        Literal["holm", "benjamini_hochberg", "benjamini_yekutieli", "e_bh"],
        _field("Holm for decisions and harm; false discovery rate for the others."),
    ]
    family: Annotated[str, _field("decision, guardrail, secondary, or segment:<attribute>.")]
    family_size: Annotated[int, _field("Comparisons in it.")]
    p_value: Annotated[float | None, _field("Adjusted; null for e-BH.")]
    e_value: Annotated[float | None, _field("Adjusted, for e-BH; cut off at e^700.")]
    log_e_value: Annotated[float | None, _field("Its logarithm, not cut off.")]
    rejects: Annotated[bool, _field("Whether it is a finding.")]
    guarantee: Annotated[str, _field("What holds of all findings of the family.")]


class Guarded(_Shown, frozen=True, kw_only=True):
    """A guardrail: signed so that more is better."""

    status: Annotated[
        Literal["pass", "fail", "harm", "undecided", "watched"],
        _field("Within the margin, beyond it, worse at all, open; watched: no margin, no harm."),
    ]
    reason: Annotated[str | None, _field("Why nothing could be decided.")]
    is_harmed: Annotated[bool, _field("Worse at all, uncorrected.")]
    margin: Annotated[float | None, _field("How much worse it may get, in metric units.")]
    gain: Annotated[float | None, _field("Treatment - control towards what is better.")]
    low: Annotated[float | None, _field("One-sided lower bound of the gain.")]
    high: Annotated[float | None, _field("One-sided upper bound of the gain.")]
    room: Annotated[float | None, _field("How far from the margin: the contrast that is tested.")]
    room_low: Annotated[float | None, _field("Its lower bound; above 0: pass.")]
    room_high: Annotated[float | None, _field("Its upper bound; below 0: fail.")]
    p_value: Annotated[float | None, _field("Of “worse by the margin or more”.")]
    harm_p_value: Annotated[float | None, _field("Of “not worse”; smallest so far.")]
    chance_worse: Annotated[float | None, _field("Bayesian: chance of being worse at all.")] = None
    passed_room: Annotated[
        float | None,
        _field(
            "Where pass stands from an earlier look and this one alone does not show it: the "
            "highest lower bound of the room so far, which decides; else missing."
        ),
    ] = None
    converted: Annotated[
        list[int] | None,
        _field(
            "Always valid, of a rate: converted units of the control and of the treatment, which "
            "an exact test of harm compares from the first of them on."
        ),
    ] = None
    chance_within_margin: Annotated[
        float | None, _field("Bayesian: chance of being within the margin.")
    ] = None


class Effect(_Shown, frozen=True, kw_only=True):
    """A treatment against the control."""

    variant: Annotated[str, _field("Id of the treatment.")]
    control: Annotated[str, _field("Id of the control.")]
    status: Annotated[str, _field("ok, or the edge rule that hides numbers (docs/statistics.md).")]
    flags: Annotated[list[str], _field("What a reader should know besides.")]
    absolute: Annotated[Absolute, _field("In metric units.")]
    relative: Annotated[Relative, _field("As a share of the control's mean.")]
    cuped: Annotated[Cuped | None, _field("Adjusted by a covariate; null without one.")]
    decision: Annotated[
        Decision | None, _field("The numbers that decide; missing on open units.")
    ] = None
    adjusted: Annotated[
        Adjusted | None, _field("Corrected for several comparisons; null where nothing is.")
    ] = None
    guardrail: Annotated[Guarded | None, _field("Of guardrails only.")] = None


class MetricVariant(_Shown, frozen=True, kw_only=True):
    """A metric in one variant."""

    variant: Annotated[str, _field("Id of the variant.")]
    units: Annotated[int, _field("Units that count on this basis.")]
    total: Annotated[
        float, _field("Σ of unit totals (capped, where they are); units converted for conversion.")
    ]
    denominator: Annotated[
        float | None, _field("Of ratio and mean: Σ of the denominator, or the number of events.")
    ] = None
    mean: Annotated[float | None, _field("Per unit; the ratio of a ratio, the quantile of one.")]
    variance: Annotated[
        float | None, _field("Of one unit, n - 1; of a ratio linearised; null for quantiles.")
    ]
    std_error: Annotated[float | None, _field("Of the mean.")]
    status: Annotated[str, _field("ok, or why numbers are null.")]


class Cap(_Shown, frozen=True, kw_only=True):
    """The cap of unit totals."""

    status: Annotated[str, _field("ok, or why totals are not capped.")]
    cap: Annotated[float | None, _field("In metric units; the same for all variants.")]
    quantile: Annotated[float | None, _field("Which was asked for; null for a fixed cap.")]
    capped_units: Annotated[
        list[int] | None, _field("Units above it: the control's, the first treatment's.")
    ]
    imbalance_p_value: Annotated[float | None, _field("Of equal shares of capped units.")]


class Metric(_Shown, frozen=True, kw_only=True):
    """A metric on one basis."""

    metric_id: Annotated[str, _field("Its name.")]
    kind: Annotated[
        Literal["conversion", "count", "sum", "ratio", "mean", "quantile"],
        _field("What a unit counts for."),
    ]
    role: Annotated[Literal["decision", "guardrail", "secondary"], _field("Whether it decides.")]
    direction: Annotated[Literal["increase", "decrease"], _field("Where an improvement lies.")]
    basis: Annotated[
        Literal["matured", "open"],
        _field("matured: units whose window is over, which decide; open: all, descriptive."),
    ]
    window: Annotated[str | None, _field("How long a unit's events count; null: without end.")]
    status: Annotated[
        Literal["ok", "units_overflowed"], _field("units_overflowed: some units left it.")
    ]
    overflowed: Annotated[int, _field("Units whose totals are too large to be exact.")]
    descriptive: Annotated[bool, _field("True on open units: nothing may be decided on it.")] = (
        False
    )
    cap: Annotated[Cap | None, _field("Null for a metric without a cap.")] = None
    variants: Annotated[list[MetricVariant], _field("In the order of the definition.")]
    effects: Annotated[list[Effect], _field("One per treatment.")]


class Reason(_Shown, frozen=True, kw_only=True):
    """One thing that a verdict rests on."""

    code: Annotated[str, _field("What it is, for programs.")]
    metric_id: Annotated[str | None, _field("About which metric; null: the experiment.")]
    variant: Annotated[str | None, _field("About which treatment; null: all.")]
    text: Annotated[str, _field("The same for people.")]


class TreatmentReading(_Shown, frozen=True, kw_only=True):
    """One treatment, taken by itself."""

    variant: Annotated[str, _field("Id of the treatment.")]
    reading: Annotated[str, _field("What it says; see the table in docs/statistics.md.")]


class Verdict(_Shown, frozen=True, kw_only=True):
    """The experiment in plain language."""

    reading: Annotated[str, _field("What it says, of a closed list (docs/statistics.md).")]
    text: Annotated[str, _field("The same in one or two sentences.")]
    guarantee: Annotated[str, _field("How often a reading that names a difference is wrong.")]
    reasons: Annotated[list[Reason], _field("What it rests on, and what to know besides.")]
    treatments: Annotated[list[TreatmentReading], _field("The reading of each by itself.")]


class SegmentRatio(_Shown, frozen=True, kw_only=True):
    """The split within a segment."""

    value: Annotated[str, _field("Value of the attribute; other: missing or not declared.")]
    mismatch: Annotated[bool, _field("Alarm.")]
    adjusted_p_value: Annotated[float, _field("Smallest so far, corrected for the segments.")]


class Segment(_Shown, frozen=True, kw_only=True):
    """Results of the units whose first assignment had one value of an attribute."""

    value: Annotated[str, _field("Value of the attribute; other: missing or not declared.")]
    variants: Annotated[list[VariantUnits], _field("Units per variant.")]
    method: Annotated[
        Literal["always_valid", "fixed_horizon", "bayesian"],
        _field("Whose numbers are to be read here; always_valid for group_sequential, too."),
    ] = "always_valid"
    metrics: Annotated[list[Metric], _field("As in the results; a family of their own.")]
    sample_ratio: Annotated[SampleRatio, _field("The split within the segment.")]


class Results(_Shown, frozen=True, kw_only=True):
    """One look at an experiment: an aligned cut through all partitions at one tick."""

    experiment_id: Annotated[str, _field("Id of the experiment.")]
    version: Annotated[int, _field("Of the definition that it was computed with.")]
    status: Annotated[
        Literal["draft", "running", "paused", "stopped", "archived"],
        _field("Of the experiment at that tick."),
    ]
    final: Annotated[bool, _field("There will be no other look.")] = False
    look: Annotated[LookHead | None, _field("Which look it is; null before the first one.")]
    hypothesis: Annotated[Hypothesis | None, _field("As in the definition.")] = None
    analysis: Annotated[
        AnalysisHead | None, _field("How the results are read; missing before the first look.")
    ] = None
    variants: Annotated[list[VariantUnits], _field("In the order of the definition.")]
    crossovers: Annotated[int, _field("Units that were assigned two variants.")]
    sample_ratio: Annotated[
        SampleRatio | None, _field("The check of the split; null before the first look.")
    ]
    sample_ratio_by_segment: Annotated[
        dict[str, list[SegmentRatio]], _field("The same within segments, by attribute.")
    ] = msgspec.field(default_factory=dict)
    metrics: Annotated[list[Metric], _field("One per metric and basis; none before a look.")]
    verdict: Annotated[
        Verdict | None, _field("What all of it says; missing before the first look.")
    ] = None


class Record(Results, frozen=True, kw_only=True):
    """A record of ``litmus.looks``: the results and all that is needed to compute them again."""

    integers: Annotated[dict[str, Any], _field("The exact sums, in decimal.")]
    inputs: Annotated[dict[str, Any], _field("What the identity is made of.")]
    segments: Annotated[dict[str, list[Segment]], _field("Results by segment, by attribute.")] = (
        msgspec.field(default_factory=dict)
    )


class Snapshot(_Shown, frozen=True, kw_only=True):
    """A record of ``litmus.snapshots``: an experiment as it is, with its latest look."""

    definition: Annotated[ShownDefinition, _field("The public definition.")]
    results: Annotated[Results | None, _field("Of the latest look; null before the first one.")]
    segments: Annotated[
        dict[str, list[Segment]], _field("Results by segment of the same look, by attribute.")
    ] = msgspec.field(default_factory=dict)


class BySegment(_Shown, frozen=True, kw_only=True):
    """Results of each value of an attribute, of the same look."""

    experiment_id: Annotated[str, _field("Id of the experiment.")]
    attribute: Annotated[str, _field("Of the units' first assignment.")]
    look: Annotated[LookHead | None, _field("Which look it is; null before the first one.")]
    segments: Annotated[list[Segment], _field("In the order of the definition, other last.")]
