"""Questions of planning as they are posted, and the shape of their answers."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

UNITS_MAX = 10**12

Share = Annotated[float, Meta(gt=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Chance = Annotated[float, Meta(gt=0, lt=1)]
SplitWeight = Annotated[float, Meta(ge=1e-9, le=1e9)]


class Size(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How large something is: exactly one of the two."""

    absolute: Annotated[
        float | None, Meta(description="In metric units per unit; 0.01 is one point of a rate.")
    ] = None
    relative: Annotated[
        float | None, Meta(description="As a share of the control's mean: 0.05 is 5 %.")
    ] = None


class Prior(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A normal prior of the absolute effect, in metric units per unit."""

    sd: Annotated[Positive, Meta(description="Its standard deviation.")]
    mean: Annotated[float, Meta(description="Its mean.")] = 0.0


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be planned. What is wanted is what is left out, unless ``goal`` says it.

    Without ``effect`` the smallest effect that is found is asked for, with ``units`` or ``days``
    the power, and otherwise the number of units.
    """

    kind: Annotated[
        Literal["conversion", "count", "sum", "mean", "ratio", "quantile"],
        Meta(description="Kind of the metric, as in a definition."),
    ]
    baseline: Annotated[
        float, Meta(description="The control's rate, mean, ratio or quantile, in metric units.")
    ]
    goal: Annotated[
        Literal["sample_size", "power", "minimum_effect"] | None,
        Meta(description="What is wanted; null: what the other fields leave open."),
    ] = None
    sd: Annotated[
        Positive | None,
        Meta(
            description="Standard deviation of one unit's total (count, sum); of one unit's part "
            "in a ratio or mean, √(units) times its standard error; of a quantile the same. Not "
            "for conversions, whose rate says it. A running experiment's std_error · √units."
        ),
    ] = None
    treatment_sd: Annotated[
        Positive | None, Meta(description="The treatment's, where it differs from the control's.")
    ] = None
    quantile: Annotated[
        Chance | None,
        Meta(description="Of kind quantile: which one. With sd, too: a rare one waits longer."),
    ] = None
    density: Annotated[
        Positive | None,
        Meta(description="Density of the unit totals at the quantile, in 1 / metric units."),
    ] = None
    effect: Annotated[
        Size | None, Meta(description="True effect to be found, signed; null: the smallest one.")
    ] = None
    direction: Annotated[
        Literal["increase", "decrease"], Meta(description="Where an improvement lies.")
    ] = "increase"
    margin: Annotated[
        Size | None,
        Meta(
            description="Of a guardrail: how much worse it may get. The plan is then for showing "
            "that it is not; the effect is what is true, 0 without one."
        ),
    ] = None
    sides: Annotated[
        Literal[1, 2], Meta(description="1: only an effect in the direction is looked for.")
    ] = 2
    alpha: Annotated[
        Annotated[float, Meta(gt=0, lt=0.5)],
        Meta(description="Error probability of all comparisons together."),
    ] = 0.05
    power: Annotated[Chance, Meta(description="Wanted probability to find the effect.")] = 0.8
    units: Annotated[
        Annotated[int, Meta(ge=4, le=UNITS_MAX)] | None,
        Meta(description="Units of all variants together that there will be."),
    ] = None
    days: Annotated[
        Positive | None,
        Meta(description="Instead of units: how long it may take, the window included."),
    ] = None
    variants: Annotated[
        Annotated[int, Meta(ge=2, le=64)],
        Meta(description="Number of variants, the control included, where there are no weights."),
    ] = 2
    weights: Annotated[
        Annotated[list[Positive], Meta(min_length=2, max_length=64)] | None,
        Meta(description="Shares of the variants, the control's first, in any scale."),
    ] = None
    decision_metrics: Annotated[
        Annotated[int, Meta(ge=1, le=100)],
        Meta(
            description="Metrics that decide; with the variants they make the family. Not with a "
            "margin: passing is not corrected."
        ),
    ] = 1
    correction: Annotated[
        Literal["bonferroni", "none"],
        Meta(description="How alpha is shared in the family; Holm's first step is Bonferroni's."),
    ] = "bonferroni"
    covariate_correlation: Annotated[
        Annotated[float, Meta(gt=-1, lt=1)],
        Meta(
            description="Correlation of a unit's total with its value before the entry: CUPED "
            "leaves one less its square of the variance."
        ),
    ] = 0.0
    covariate_share: Annotated[
        Annotated[float, Meta(ge=0, le=1)],
        Meta(description="Share of the units that have a value before their entry."),
    ] = 1.0
    method: Annotated[
        Literal["always_valid", "group_sequential", "fixed_horizon", "bayesian"],
        Meta(description="How the results will be read, as in a definition."),
    ] = "always_valid"
    formula: Annotated[
        Literal["pooled", "unpooled", "evan_miller", "arcsine", "normal", "noncentral_t"] | None,
        Meta(
            description="Of a fixed horizon. Rates: pooled (default), unpooled, evan_miller, "
            "arcsine; with a margin the score test's (default) or unpooled. Others: noncentral_t "
            "(default), normal."
        ),
    ] = None
    n_star: Annotated[
        Annotated[int, Meta(ge=2, le=UNITS_MAX)] | None,
        Meta(
            description="Always valid: units of a pair at which the sequence is tightest; null: "
            "the planned ones."
        ),
    ] = None
    tau: Annotated[
        Positive | None,
        Meta(
            description="Always valid, instead of n_star: standard deviation of the effects that "
            "the sequence is mixed over, in metric units (tuning mixture)."
        ),
    ] = None
    looks: Annotated[
        Annotated[int, Meta(ge=1, le=200)],
        Meta(description="Always valid: equally spaced looks of a whole run."),
    ] = 100
    planned_looks: Annotated[
        Annotated[list[Share], Meta(min_length=1, max_length=100)],
        Meta(description="Group sequential: increasing information fractions, the last one 1."),
    ] = msgspec.field(default_factory=lambda: [0.2, 0.4, 0.6, 0.8, 1.0])
    spending: Annotated[
        Literal["obrien_fleming", "pocock", "power"],
        Meta(description="Group sequential: how alpha is spent over the planned looks."),
    ] = "obrien_fleming"
    spending_power: Annotated[
        Positive, Meta(description="Group sequential: exponent of the spending `power`.")
    ] = 1.0
    prior: Annotated[
        Prior | None,
        Meta(
            description="Bayesian: null is a flat prior; must be null for a conversion without a "
            "covariate, and with a margin: the results take none there."
        ),
    ] = None
    threshold: Annotated[
        Annotated[float, Meta(gt=0.5, lt=1)] | None,
        Meta(
            description="Bayesian: chance to be better at which one decides; null: that of the "
            "verdict, 1 - alpha / 2, and 1 - alpha with a margin."
        ),
    ] = None
    units_per_day: Annotated[
        Positive | None,
        Meta(description="New units a day of the whole experiment; null: no days are worked out."),
    ] = None
    ramp: Annotated[
        Annotated[list[Share], Meta(min_length=1, max_length=366)],
        Meta(description="Shares of that traffic on the first days; the last one stays."),
    ] = msgspec.field(default_factory=lambda: [1.0])
    window: Annotated[
        str | None, Meta(description="How long a unit's total takes to mature, as 72h.")
    ] = None
    curve: Annotated[
        bool, Meta(description="Whether to answer with power against units as well.")
    ] = False


class SplitQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How broken a split must be to be seen, by the check that every look makes of it.

    Without ``loss`` the smallest loss that is seen is asked for, with ``loss`` and ``units`` the
    power, with ``loss`` alone the number of units.
    """

    kind: Annotated[Literal["sample_ratio"], Meta(description="The split, and no metric.")]
    weights: Annotated[
        Annotated[list[SplitWeight], Meta(min_length=2, max_length=64)],
        Meta(description="Planned shares of the variants, the control's first, in any scale."),
    ] = msgspec.field(default_factory=lambda: [1.0, 1.0])
    variant: Annotated[
        Annotated[int, Meta(ge=0, le=63)],
        Meta(description="Which one loses units, from 0; 1 is the first treatment."),
    ] = 1
    loss: Annotated[
        Annotated[float, Meta(ge=1e-6, le=1)] | None,
        Meta(description="Share of that variant's units that are lost: 0.01 is 1 %."),
    ] = None
    units: Annotated[
        Annotated[int, Meta(ge=4, le=UNITS_MAX)] | None,
        Meta(description="Units of all variants that there will be; with loss, those that come."),
    ] = None
    power: Annotated[
        Annotated[float, Meta(gt=0.001, le=0.999999)] | None,
        Meta(description="Wanted probability of the alarm; null: 0.99."),
    ] = None


class Formula(msgspec.Struct, frozen=True):
    """By what the numbers were computed."""

    name: Annotated[str, Meta(description="Short and stable.")]
    expression: Annotated[str, Meta(description="The formula itself.")]
    source: Annotated[str, Meta(description="Where it is from.")]


class CurvePoint(msgspec.Struct, frozen=True):
    """Power at a number of units."""

    units: Annotated[int, Meta(description="Of all variants together.")]
    power: Annotated[float, Meta(description="Probability to find the effect with them.")]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was worked out. What is null is not asked for, or so for the reason in a status."""

    status: Annotated[
        Literal["ok", "not_attainable"],
        Meta(description="not_attainable: no number of units, or no effect, would do."),
    ]
    goal: Annotated[
        Literal["sample_size", "power", "minimum_effect"], Meta(description="What was asked for.")
    ]
    kind: Annotated[str, Meta(description="Kind of the metric, as asked.")]
    baseline: Annotated[float, Meta(description="The control's value, as asked.")]
    method: Annotated[str, Meta(description="How the results will be read, as asked.")]
    formula: Annotated[Formula, Meta(description="By what all this was computed.")]
    alpha: Annotated[float, Meta(description="Error probability of the whole family, as asked.")]
    comparisons: Annotated[int, Meta(description="Size of the family; 1 with a margin.")]
    alpha_per_comparison: Annotated[float, Meta(description="Level of each comparison.")]
    wanted_power: Annotated[
        float | None, Meta(description="The power that was asked for; null where it is the answer.")
    ]
    units: Annotated[int | None, Meta(description="Of all variants together.")]
    units_by_variant: Annotated[
        list[int], Meta(description="The control first; rounded up for each.")
    ]
    units_control_exact: Annotated[
        float | None, Meta(description="The control's units before they were rounded up.")
    ]
    power: Annotated[
        float | None,
        Meta(description="Attained with these units; of sequential methods over the whole run."),
    ]
    power_single_look: Annotated[
        float | None, Meta(description="Always valid: at one look, when all units are there.")
    ]
    effect: Annotated[
        float | None,
        Meta(
            description="In metric units, signed: the one planned for, or the smallest one that "
            "is found. With a margin: the true one."
        ),
    ]
    relative_effect: Annotated[
        float | None, Meta(description="The effect as a share of the baseline's size.")
    ]
    relative_minimum_effect: Annotated[
        float | None,
        Meta(description="Smallest relative effect that its own interval tells from 0."),
    ]
    relative_status: Annotated[
        Literal["ok", "undefined", "not_attainable"],
        Meta(
            description="undefined: no baseline to divide by; not_attainable: the control is too "
            "noisy for any relative effect to be found."
        ),
    ]
    inflation: Annotated[
        float | None,
        Meta(description="Units of this method over those of one fixed look of equal power."),
    ]
    expected_units: Annotated[
        float | None, Meta(description="Units at the stop, on average, if the effect is true.")
    ]
    expected_units_null: Annotated[
        float | None, Meta(description="The same if there is no effect.")
    ]
    days: Annotated[
        float | None, Meta(description="Until the last unit has entered and its window closed.")
    ]
    expected_days: Annotated[float | None, Meta(description="The same at expected_units.")]
    n_star: Annotated[int | None, Meta(description="Always valid: the tuning that was used.")]
    boundaries: Annotated[
        list[float], Meta(description="Group sequential: |z| to exceed at each planned look.")
    ]
    assurance: Annotated[
        float | None,
        Meta(description="Bayesian with a prior: chance of the decision, averaged over it."),
    ]
    notes: Annotated[list[str], Meta(description="What a reader should know besides.")]
    curve: Annotated[
        list[CurvePoint] | None,
        Meta(description="Power against units, where it was asked for; else null."),
    ] = None


class SplitCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What one check of the split sees."""

    check: Annotated[
        Literal["sequential", "chi_square"],
        Meta(description="sequential: at every look; chi_square: at the last one."),
    ]
    status: Annotated[
        Literal["ok", "not_attainable"],
        Meta(description="not_attainable: no number of units, or no loss, would be seen."),
    ]
    formula: Annotated[Formula, Meta(description="By what it was computed.")]
    units: Annotated[int | None, Meta(description="Of all variants, those that come.")]
    loss: Annotated[
        float | None, Meta(description="Share of the variant's units: asked for, or the smallest.")
    ]
    power: Annotated[float | None, Meta(description="Probability of the alarm, at one look.")]


class SplitAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks of the split see, each by its own formula."""

    kind: Annotated[Literal["sample_ratio"], Meta(description="As asked.")]
    goal: Annotated[
        Literal["sample_size", "power", "minimum_effect"], Meta(description="What was asked for.")
    ]
    alpha: Annotated[float, Meta(description="Level of the alarm.")]
    wanted_power: Annotated[
        float | None, Meta(description="That was asked for; null where it is the answer.")
    ]
    shares: Annotated[list[float], Meta(description="As planned.")]
    variant: Annotated[int, Meta(description="Which one loses units, as asked.")]
    checks: Annotated[list[SplitCheck], Meta(description="What is watched, and what ends.")]
    notes: Annotated[list[str], Meta(description="What a reader should know besides.")]


class MeasuredPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan with what a running experiment's look says."""

    metric_id: Annotated[str, Meta(description="Whose numbers they are.")]
    as_of: Annotated[str, Meta(description="Of the look.")]
    units: Annotated[int, Meta(description="Units of all variants that count by now.")]
    question: Annotated[
        dict[str, Any], Meta(description="What was asked, as POST /v1/power takes it.")
    ]
    answer: Annotated[Answer, Meta(description="The answer to it, with a curve.")]
