"""A definition as it is shown, field by field: what ``schemas.definitions.public`` returns.

As in ``schemas.results`` the types are the published schema, and tests hold real ones to it.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta


def _field(description: str) -> Meta:
    return Meta(description=description)


class _Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fields are all named here; another one is an error of ours."""


class ShownHypothesis(_Shown, frozen=True, kw_only=True):
    """What the experiment is to find out, written down before it starts."""

    null: Annotated[str, _field("What is so if the change does nothing.")]
    alternative: Annotated[str, _field("What the change is expected to do.")]
    minimum_effect: Annotated[
        float | None, _field("Smallest relative effect worth having: 0.02 is 2 %.")
    ]


class ShownVariant(_Shown, frozen=True, kw_only=True):
    """An arm."""

    id: Annotated[str, _field("Its name.")]
    weight: Annotated[float, _field("Share of the covered units; all add up to 1.")]
    is_control: Annotated[bool, _field("Whether the others are compared with it.")]


class ShownCapQuantile(_Shown, frozen=True, kw_only=True):
    """A cap that is chosen by the totals of all variants together."""

    quantile: Annotated[float, _field("Share of all units whose totals stay as they are.")]


class ShownMetric(_Shown, frozen=True, kw_only=True):
    """A metric."""

    id: Annotated[str, _field("Its name in results.")]
    kind: Annotated[
        Literal["conversion", "count", "sum", "ratio", "mean", "quantile"],
        _field("What a unit counts for; see docs/statistics.md."),
    ]
    event: Annotated[str | None, _field("Metric events it is made of; null for a ratio.")]
    numerator: Annotated[str | None, _field("Of a ratio: metric events above the line.")]
    denominator: Annotated[str | None, _field("Of a ratio: metric events below the line.")]
    quantile: Annotated[float | None, _field("Of a quantile: which one, in (0, 1).")]
    of: Annotated[
        Literal["units", "events"] | None,
        _field("Of a quantile: over the units' totals or over single values."),
    ]
    role: Annotated[
        Literal["decision", "guardrail", "secondary"],
        _field("decision: decides; guardrail: must not get worse; secondary: to look at."),
    ]
    direction: Annotated[Literal["increase", "decrease"], _field("Where an improvement lies.")]
    window: Annotated[
        str | None, _field("How long after a unit's entry its events count; null: without end.")
    ]
    precision: Annotated[int, _field("Decimal digits kept of a value.")]
    cap: Annotated[
        float | ShownCapQuantile | None, _field("What a unit's total counts for at most.")
    ]
    covariate_days: Annotated[
        int, _field("UTC days before the entry whose total is the covariate; 0: none.")
    ]
    margin: Annotated[
        dict[str, float] | None,
        _field("Of a guardrail, how much worse it may get: absolute or relative."),
    ]


class ShownPrior(_Shown, frozen=True, kw_only=True):
    """A normal prior of the absolute effect."""

    sd: Annotated[float, _field("Standard deviation, in metric units per unit.")]
    mean: Annotated[float, _field("Mean, in metric units per unit.")]


class ShownAnalysis(_Shown, frozen=True, kw_only=True):
    """How the results are read; fixed when the experiment starts."""

    method: Annotated[
        Literal["always_valid", "group_sequential", "fixed_horizon", "bayesian"],
        _field("Whose numbers decide."),
    ]
    alpha: Annotated[float, _field("Error probability of each family of comparisons.")]
    n_star: Annotated[int, _field("Always valid: units of a pair at which it is tightest.")]
    tuning: Annotated[
        Literal["n_star", "mixture"], _field("Always valid: by n_star, or by tau (mSPRT).")
    ]
    tau: Annotated[
        float | None, _field("Of mixture: standard deviation of the effects that are expected.")
    ]
    spending: Annotated[
        Literal["obrien_fleming", "pocock", "power"],
        _field("Group sequential: how the error probability is spent."),
    ]
    spending_power: Annotated[float | None, _field("Exponent of the spending power.")]
    units_max: Annotated[
        int | None, _field("Group sequential: planned matured units of a pair, both arms.")
    ]
    planned_looks: Annotated[
        list[float], _field("Group sequential: information fractions of the looks.")
    ]
    prior: Annotated[ShownPrior | None, _field("Bayesian: null is flat.")]


class ShownDefinition(_Shown, frozen=True, kw_only=True):
    """An experiment as it is defined."""

    id: Annotated[str, _field("Its name in every other place.")]
    name: Annotated[str, _field("For people.")]
    unit_type: Annotated[str, _field("What is randomised.")]
    hypothesis: Annotated[ShownHypothesis | None, _field("Null where none was written down.")]
    variants: Annotated[list[ShownVariant], _field("In the order in which they were posted.")]
    coverage: Annotated[float, _field("Share of all units that are in the experiment.")]
    allocation: Annotated[dict[str, Any], _field("How variants are chosen: a policy.")]
    targeting: Annotated[Any, _field("Which units may be in it; null: all.")]
    crossover: Annotated[
        Literal["exclude", "first"],
        _field("A unit with two variants leaves all of them, or keeps the first."),
    ]
    segments: Annotated[
        dict[str, list[str]], _field("Attributes of the first assignment, and their values.")
    ]
    metrics: Annotated[list[ShownMetric], _field("In the order of their families.")]
    analysis: Annotated[ShownAnalysis, _field("How the results are read.")]
    seed: Annotated[str, _field("What units are hashed with.")]
    status: Annotated[
        Literal["draft", "running", "paused", "stopped", "archived"],
        _field("Where it stands in its life."),
    ]
    version: Annotated[int, _field("Grows with every change; If-Match takes it.")]
    created_at: Annotated[str, _field("RFC 3339, UTC.")]
    started_at: Annotated[str | None, _field("First start; null before.")]
    stopped_at: Annotated[str | None, _field("Events from then on do not count; null: open.")]
