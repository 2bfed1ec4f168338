"""A definition as it is posted, and the rules that it must keep. Pure.

``schemas.definitions`` makes the internal form of it, and hands these names on.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import msgspec

from schemas.identifiers import NAME_RULE, is_external_id, is_name
from schemas.look_size import ESTIMATED_BYTES_MAX, look_bytes, metric_bytes
from schemas.times import parse_duration_ms

Kind = Literal["conversion", "count", "sum", "ratio", "mean", "quantile"]
Role = Literal["decision", "guardrail", "secondary"]
Method = Literal["always_valid", "group_sequential", "fixed_horizon", "bayesian"]

DEFAULT_WINDOW = "24h"
DEFAULT_PRECISION = 6
PRECISION_MAX = 9
KEEP_DAYS_MAX = 90
"""Days before an entry that a covariate may reach back."""

PRIOR_SIZE_MIN, PRIOR_SIZE_MAX = 1e-30, 1e30
"""Of a prior's numbers, in size: squares and their ratios stay within floats."""

CAP_QUANTA_MAX = 2**62
"""A unit's total beyond this leaves the metric, so a cap there caps nothing."""

METRICS_MAX = 100
"""Of a definition; each is counted and compared at every look."""

SEGMENT_ATTRIBUTES_MAX = 4
SEGMENT_VALUES_MAX = 32
SEGMENT_ENTRIES_MAX = 600
"""Values (``other`` included) times metrics times variants: each is a comparison at every look."""

OTHER_SEGMENT = "other"
"""Segment of units whose attribute is missing or not among the values."""

ALPHA_MIN = 1e-9
TAU_MIN, TAU_MAX = 1e-12, 1e15
"""Beyond them a quantile or a square leaves what a float can hold."""

BURN_IN_UNITS = 100
"""Units of every variant before a test among looks starts; as in ``stats.edges``."""

BURN_IN_RANK = 30
"""Of a quantile: units of every variant on either side of it; as in ``stats.quantiles``."""

PLANNED_LOOKS_MAX = 100
DEFAULT_LOOKS = (0.2, 0.4, 0.6, 0.8, 1.0)


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field, for a program (``code``) and for a person (``message``)."""

    field: str
    message: str
    code: str = "invalid"


class Prior(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A normal prior of an absolute effect, in metric units per unit."""

    sd: float
    mean: float = 0.0


class CapQuantile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cap just above this quantile of the unit totals of all arms together."""

    quantile: float


class Hypothesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the experiment is to find out, written down before it starts.

    Attributes:
        null: What is so if the change does nothing, in words.
        alternative: What the change is expected to do, in words.
        minimum_effect: Smallest relative effect worth having, 0.02 for 2 % of the control's mean.
    """

    null: str = ""
    alternative: str = ""
    minimum_effect: float | None = None


class Analysis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the results are read. Fixed when the experiment starts.

    Attributes:
        method: Which numbers decide.
        alpha: Error probability, in (0, 1).
        n_star: Units of a pair at which the confidence sequence is tightest.
        tuning: What the confidence sequence is tuned by: ``n_star``, or a normal ``mixture``.
        tau: Of ``mixture``: standard deviation of the absolute effects that are expected.
        spending: Of group_sequential: how the error probability is spent.
        spending_power: Exponent of the spending ``power``.
        units_max: Of group_sequential: planned units of a pair, both arms; information is matured
            units over this.
        planned_looks: Of group_sequential: information fractions of the looks.
        prior: Of bayesian: prior of the absolute effect on the only decision metric, in its own
            units; None: flat. Rates, guardrails and secondary metrics never have one.
    """

    method: Method = "always_valid"
    alpha: float = 0.05
    n_star: int = 5_000
    tuning: Literal["n_star", "mixture"] = "n_star"
    tau: float | None = None
    spending: Literal["obrien_fleming", "pocock", "power"] = "obrien_fleming"
    spending_power: float | None = None
    units_max: int | None = None
    planned_looks: tuple[float, ...] = DEFAULT_LOOKS
    prior: Prior | None = None


class MetricBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric as it is posted."""

    id: str
    kind: str
    event: str | None = None
    numerator: str | None = None
    denominator: str | None = None
    quantile: float | None = None
    of: str | None = None
    role: str = "decision"
    direction: str = "increase"
    window: str | None = None
    precision: int | None = None
    cap: float | CapQuantile | None = None
    covariate_days: int = 0
    margin: dict[str, float] | None = None


class VariantBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variant as it is posted; weights need not add up to 1."""

    id: str
    weight: float = 1.0
    is_control: bool = False


class DefinitionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A definition as it is posted. Fields that Litmus sets itself are not among them."""

    id: str
    variants: list[VariantBody]
    metrics: list[MetricBody]
    name: str = ""
    unit_type: str = "user"
    hypothesis: Hypothesis | None = None
    coverage: float = 1.0
    allocation: dict[str, Any] = msgspec.field(default_factory=lambda: {"policy": "fixed"})
    targeting: Any = None
    crossover: str = "exclude"
    segments: dict[str, list[str]] = msgspec.field(default_factory=dict)
    analysis: Analysis = Analysis()
    seed: str | None = None


def definition_errors(body: DefinitionBody) -> Iterable[FieldError]:
    """Yield what is wrong with a posted definition."""
    yield from _name_error("id", body.id)
    yield from _name_error("unit_type", body.unit_type)
    yield from _hypothesis_errors(body.hypothesis)
    yield from _variant_errors(body.variants)
    if not body.metrics:
        yield FieldError("metrics", "0 metrics, must be one or more")
    if len(body.metrics) > METRICS_MAX:
        message = (
            f"{len(body.metrics)} metrics, must be {METRICS_MAX} at most: split them among several "
            "experiments over the same units, or leave out those that nobody decides by"
        )
        yield FieldError("metrics", message, "too_many_metrics")
    yield from _repeated("metrics", [metric.id for metric in body.metrics])
    for index, metric in enumerate(body.metrics):
        yield from metric_errors(metric, f"metrics[{index}]")
    if not 0 < body.coverage <= 1:
        yield FieldError("coverage", f"coverage == {body.coverage}, must be above 0 and at most 1")
    if body.crossover not in ("exclude", "first"):
        yield FieldError("crossover", f"{body.crossover!r}, must be exclude or first")
    if body.allocation != {"policy": "fixed"}:
        yield _unsupported("allocation", f'{body.allocation}, must be {{"policy": "fixed"}}')
    if body.targeting is not None:
        yield _unsupported("targeting", f"{body.targeting}, must be null")
    yield from _segment_errors(body.segments)
    yield from _segment_size_errors(body)
    yield from _look_size_errors(body)
    yield from _analysis_errors(body.analysis)
    yield from _prior_errors(body)
    yield from _units_max_errors(body)


def metric_errors(metric: MetricBody, where: str) -> Iterable[FieldError]:
    """Yield what is wrong with a posted metric; ``where`` is its path."""
    yield from _name_error(f"{where}.id", metric.id)
    kinds = get_args(Kind)
    if metric.kind not in kinds:
        yield FieldError(f"{where}.kind", f"{metric.kind!r}, must be one of {', '.join(kinds)}")
    else:
        yield from _kind_errors(metric, where)
        yield from _cap_errors(metric, where)
    if metric.role not in get_args(Role):
        message = f"{metric.role!r}, must be decision, guardrail or secondary"
        yield FieldError(f"{where}.role", message)
    if metric.direction not in ("increase", "decrease"):
        message = f"{metric.direction!r}, must be increase or decrease"
        yield FieldError(f"{where}.direction", message)
    if metric.precision is not None and not 0 <= metric.precision <= PRECISION_MAX:
        message = f"precision == {metric.precision}, must be 0 to {PRECISION_MAX}"
        yield FieldError(f"{where}.precision", message)
    if metric.window is not None:
        try:
            parse_duration_ms(metric.window)
        except ValueError as error:
            yield FieldError(f"{where}.window", str(error))
    yield from _margin_errors(metric, where)
    if not 0 <= metric.covariate_days <= KEEP_DAYS_MAX:
        message = f"covariate_days == {metric.covariate_days}, must be 0 to {KEEP_DAYS_MAX}"
        yield FieldError(f"{where}.covariate_days", message)


_OWN_FIELDS: dict[str, frozenset[str]] = {
    "conversion": frozenset({"event"}),
    "count": frozenset({"event"}),
    "sum": frozenset({"event"}),
    "mean": frozenset({"event"}),
    "ratio": frozenset({"numerator", "denominator"}),
    "quantile": frozenset({"event", "quantile", "of"}),
}
"""Per kind: fields of its own among ``event numerator denominator quantile of``."""


def _kind_errors(metric: MetricBody, where: str) -> Iterable[FieldError]:
    own = _OWN_FIELDS[metric.kind]
    for name in ("event", "numerator", "denominator", "quantile", "of"):
        if name not in own and getattr(metric, name) is not None:
            yield FieldError(f"{where}.{name}", f"not a field of kind {metric.kind!r}")
    if metric.kind == "ratio":
        yield from _ratio_errors(metric, where)
    else:
        yield from _name_error(f"{where}.event", metric.event or metric.id)
    if metric.kind == "quantile":
        yield from _quantile_errors(metric, where)


def _ratio_errors(metric: MetricBody, where: str) -> Iterable[FieldError]:
    for name in ("numerator", "denominator"):
        event = getattr(metric, name)
        if event is None:
            message = "is missing, must be the name of the metric events whose total it is"
            yield FieldError(f"{where}.{name}", message)
        else:
            yield from _name_error(f"{where}.{name}", event)
    if metric.numerator is not None and metric.numerator == metric.denominator:
        message = f"{metric.denominator!r}, must be other events than the numerator's"
        yield FieldError(f"{where}.denominator", message)


def _quantile_errors(metric: MetricBody, where: str) -> Iterable[FieldError]:
    if metric.quantile is None:
        yield FieldError(f"{where}.quantile", "is missing, must be above 0 and below 1, as 0.9")
    elif not 0 < metric.quantile < 1:
        message = f"quantile == {metric.quantile}, must be above 0 and below 1"
        yield FieldError(f"{where}.quantile", message)
    of = metric.of or "units"
    if of not in ("units", "events"):
        message = f"{of!r}, must be units (of unit totals) or events (of single values)"
        yield FieldError(f"{where}.of", message)
    if metric.covariate_days:
        message = f"covariate_days == {metric.covariate_days}, must be 0 for a quantile"
        yield FieldError(f"{where}.covariate_days", message)


def _cap_errors(metric: MetricBody, where: str) -> Iterable[FieldError]:
    cap, field = metric.cap, f"{where}.cap"
    if cap is None:
        return
    if metric.kind not in ("count", "sum"):
        yield FieldError(field, f"must be null for kind {metric.kind!r}: only totals are capped")
        return
    if isinstance(cap, CapQuantile):
        if not 0.5 <= cap.quantile < 1:
            message = f"quantile == {cap.quantile}, must be at least 0.5 and below 1, as 0.999"
            yield FieldError(field, message)
        if metric.covariate_days:
            message = (
                "a quantile cap cannot go with a covariate; take a number as cap, or "
                "covariate_days 0"
            )
            yield FieldError(field, message)
        return
    precision = 0
    if metric.kind == "sum":
        precision = DEFAULT_PRECISION if metric.precision is None else metric.precision
    if not 1 <= cap * 10.0 ** min(max(precision, 0), PRECISION_MAX) < CAP_QUANTA_MAX:
        message = f"cap == {cap}, must be 1 quantum (10**-{precision}) or more, below 2**62 quanta"
        yield FieldError(field, message)
    elif metric.kind == "count" and cap != int(cap):
        yield FieldError(field, f"cap == {cap}, must be a whole number of events")


def _margin_errors(metric: MetricBody, where: str) -> Iterable[FieldError]:
    if metric.margin is None:
        return
    if metric.role != "guardrail":
        yield FieldError(f"{where}.margin", f"{metric.margin}, only a guardrail has a margin")
    is_one = len(metric.margin) == 1 and set(metric.margin) <= {"absolute", "relative"}
    if not is_one or not all(0 < value < math.inf for value in metric.margin.values()):
        rule = 'must be {"absolute": number} or {"relative": number}, above 0 and finite'
        yield FieldError(f"{where}.margin", f"{metric.margin}, {rule}")
    elif metric.margin.get("relative", 0) >= 1:
        rule = "a relative margin is a share of the control's mean, must be below 1, as 0.02"
        yield FieldError(f"{where}.margin", f"{metric.margin}, {rule}")
    elif metric.kind == "conversion" and metric.margin.get("absolute", 0) >= 1:
        rule = "an absolute margin of a rate must be below 1: 5 points are 0.05"
        yield FieldError(f"{where}.margin", f"{metric.margin}, {rule}")


def _segment_errors(segments: dict[str, list[str]]) -> Iterable[FieldError]:
    if len(segments) > SEGMENT_ATTRIBUTES_MAX:
        message = f"{len(segments)} attributes, must be {SEGMENT_ATTRIBUTES_MAX} at most"
        yield FieldError("segments", message)
    for attribute, values in segments.items():
        where = f"segments.{attribute[:128]}"
        yield from _name_error(where, attribute)
        if not 1 <= len(values) <= SEGMENT_VALUES_MAX:
            message = f"{len(values)} values, must be 1 to {SEGMENT_VALUES_MAX}"
            yield FieldError(where, message)
        yield from _repeated(where, values)
        if OTHER_SEGMENT in values:
            message = f"{OTHER_SEGMENT!r} is where all other values go, must not be among them"
            yield FieldError(where, message)
        for value in values:
            if not is_external_id(value):
                message = f"{value[:200]!r}, must be 1 to 256 bytes without control characters"
                yield FieldError(where, message)


def _segment_size_errors(body: DefinitionBody) -> Iterable[FieldError]:
    values = sum(len(values) + 1 for values in body.segments.values())
    count = values * len(body.metrics) * len(body.variants)
    if count > SEGMENT_ENTRIES_MAX:
        message = (
            f"{values} values with other, times {len(body.metrics)} metrics, times "
            f"{len(body.variants)} variants == {count}, must be {SEGMENT_ENTRIES_MAX} at most: "
            "list the values that matter, all others are counted as other"
        )
        yield FieldError("segments", message)


def _look_size_errors(body: DefinitionBody) -> Iterable[FieldError]:
    """Yield an error where a look would not fit into a message once there are enough data."""
    if len(body.metrics) > METRICS_MAX:
        return
    variants = [one.id for one in body.variants]
    size = look_bytes(body.metrics, variants, body.segments)
    if size <= ESTIMATED_BYTES_MAX:
        return
    groups = sum(len(values) + 1 for values in body.segments.values())
    largest = max(body.metrics, key=metric_bytes)
    message = (
        f"a look may get {size} bytes, must be {ESTIMATED_BYTES_MAX} at most: {len(body.metrics)} "
        f"metrics times {len(variants)} variants times {1 + groups} groups of units; the largest "
        f"metric is {largest.id[:128]!r} ({largest.kind}{f' of {largest.of}' if largest.of else ''}"
        f"), about {metric_bytes(largest)} bytes of each on each basis. Take fewer segment values "
        "or variants, leave out quantiles of events, or make another experiment for some metrics"
    )
    yield FieldError("metrics", message, "look_too_large")


def _hypothesis_errors(hypothesis: Hypothesis | None) -> Iterable[FieldError]:
    effect = None if hypothesis is None else hypothesis.minimum_effect
    if effect is not None and not 0 <= effect < math.inf:
        message = (
            f"minimum_effect == {effect}, must be 0 or more and finite: a share of the control's "
            "mean, as 0.02; the direction is the metric's"
        )
        yield FieldError("hypothesis.minimum_effect", message)


def _analysis_errors(analysis: Analysis) -> Iterable[FieldError]:
    if not ALPHA_MIN <= analysis.alpha < 0.5:
        message = f"{analysis.alpha}, must be {ALPHA_MIN} or more, and below 0.5"
        yield FieldError("analysis.alpha", message)
    if not 2 <= analysis.n_star <= 10**12:
        yield FieldError("analysis.n_star", f"{analysis.n_star}, must be 2 to 10**12")
    yield from _tuning_errors(analysis)
    yield from _group_sequential_errors(analysis)
    prior = analysis.prior
    if prior is None:
        return
    if analysis.method != "bayesian":
        yield _of_other("analysis.prior", "method", "bayesian")
    if not is_prior(prior):
        message = (
            f"mean == {prior.mean}, sd == {prior.sd}, must be sd {PRIOR_SIZE_MIN} to "
            f"{PRIOR_SIZE_MAX} and mean at most {PRIOR_SIZE_MAX} in size, both in metric units; "
            "leave the prior out for a flat one"
        )
        yield FieldError("analysis.prior", message)


def is_prior(prior: Prior) -> bool:
    """Return whether posteriors can be computed with a prior: those of older definitions too."""
    return abs(prior.mean) <= PRIOR_SIZE_MAX and PRIOR_SIZE_MIN <= prior.sd <= PRIOR_SIZE_MAX


def _prior_errors(body: DefinitionBody) -> Iterable[FieldError]:
    """Yield an error where a prior would be read of no metric, or of metrics of several scales."""
    prior = body.analysis.prior
    if prior is None or body.analysis.method != "bayesian" or not is_prior(prior):
        return  # What is wrong with the prior itself is said elsewhere.
    deciding = [metric for metric in body.metrics if metric.role == "decision"]
    value, code = f"mean == {prior.mean}, sd == {prior.sd}", "prior_not_applicable"
    if len(deciding) != 1:
        names = ", ".join(repr(metric.id[:128]) for metric in deciding[:5]) or "none"
        message = (
            f"{value}, with {len(deciding)} decision metrics ({names}): must be null unless there "
            "is exactly one, because a prior is in the units of one metric; make the others "
            "secondary, or leave the prior out"
        )
        yield FieldError("analysis.prior", message, code)
    elif deciding[0].kind == "conversion" and not deciding[0].covariate_days:
        message = (
            f"{value}, and {deciding[0].id[:128]!r} is a conversion: must be null, because rates "
            "have uniform priors of their own; leave the prior out, or take the metric as kind "
            "count, or with covariate_days"
        )
        yield FieldError("analysis.prior", message, code)


def _tuning_errors(analysis: Analysis) -> Iterable[FieldError]:
    tau = analysis.tau
    if analysis.tuning == "mixture":
        if tau is None or not TAU_MIN <= tau <= TAU_MAX:
            message = f"tau == {tau}, must be {TAU_MIN} to {TAU_MAX} where tuning is mixture"
            yield FieldError("analysis.tau", message)
    elif tau is not None:
        yield _of_other("analysis.tau", "tuning", "mixture")


def _group_sequential_errors(analysis: Analysis) -> Iterable[FieldError]:
    power = analysis.spending_power
    if analysis.spending == "power":
        if power is None or not 0 < power <= 100:
            message = f"spending_power == {power}, must be above 0 and at most 100"
            yield FieldError("analysis.spending_power", message)
    elif power is not None:
        yield _of_other("analysis.spending_power", "spending", "power")
    units = analysis.units_max
    if analysis.method == "group_sequential":
        if units is None or not 2 <= units <= 10**12:
            message = (
                f"units_max == {units}, must be 2 to 10**12: the planned units of a pair, both "
                "arms together"
            )
            yield FieldError("analysis.units_max", message)
    else:
        if units is not None:
            yield _of_other("analysis.units_max", "method", "group_sequential")
        yield from _unread_plan_errors(analysis)
    if not _are_fractions(analysis.planned_looks):
        message = (
            f"must be 1 to {PLANNED_LOOKS_MAX} increasing numbers above 0, the last 1: shares of "
            "units_max, as [0.5, 1]"
        )
        yield FieldError("analysis.planned_looks", message)


def _unread_plan_errors(analysis: Analysis) -> Iterable[FieldError]:
    """Yield what is planned of looks that nobody takes. A default that is written out says nothing.

    ``n_star`` and ``tau`` are not among it: always-valid numbers are shown with every method.
    """
    posted = {"spending": analysis.spending, "planned_looks": list(analysis.planned_looks)}
    defaults = {"spending": "obrien_fleming", "planned_looks": list(DEFAULT_LOOKS)}
    for name, value in posted.items():
        if value != defaults[name]:
            message = (
                f"{value}, must be left out unless method is group_sequential, and method is "
                f"{analysis.method}: nothing else reads it; leave it out, or take that method with "
                "a units_max"
            )
            yield FieldError(f"analysis.{name}", message)


_UNITS_LIMIT = 10**12
"""Largest units_max."""


def _units_max_errors(body: DefinitionBody) -> Iterable[FieldError]:
    """Yield an error where no planned look could ever be taken: all of them are in the burn-in."""
    units = body.analysis.units_max
    if body.analysis.method != "group_sequential" or units is None or not body.variants:
        return
    control = next((one for one in body.variants if one.is_control), body.variants[0])
    weights = [one.weight for one in body.variants if one is not control]
    # Weights that break their own rule are said elsewhere; one of 0 gets no units at all.
    if not all(0 < weight < math.inf for weight in [control.weight, max(weights, default=0.0)]):
        return
    pairs = [(weight, control.weight) for weight in weights if weight > 0]
    share = min(min(pair) / sum(pair) for pair in pairs)
    in_each, why = _most_units(body.metrics)
    if share * _UNITS_LIMIT < in_each:
        message = (
            f"units_max == {units}, but none would do: a look {why}needs {in_each} units in each "
            f"arm, and a variant that is to get {share:.3g} of its pair has fewer of 10**12 units; "
            "give the variants weights that are nearer to each other"
        )
        yield FieldError("analysis.units_max", message)
        return
    needed = math.ceil(in_each / share - 1e-9)
    if 2 <= units < needed:
        message = (
            f"units_max == {units}, must be {needed} or more: these are the units of a pair, "
            f"both arms together, and a look {why}needs {in_each} in each, of which the smaller "
            f"gets {share:.3g} of the pair"
        )
        yield FieldError("analysis.units_max", message)


def _most_units(metrics: Sequence[MetricBody]) -> tuple[int, str]:
    """Return the longest burn-in of all metrics with planned looks, and whose it is.

    Of a quantile of events only the events count, and how many a unit brings is not known.
    """
    found = BURN_IN_UNITS, ""
    for metric in metrics:
        is_read = metric.role in ("decision", "guardrail") and metric.of != "events"
        if metric.kind != "quantile" or not is_read or metric.quantile is None:
            continue
        # Outside it is said elsewhere; nearer to 0 or 1 no number of units is a plan.
        if not 1e-9 <= metric.quantile <= 1 - 1e-9:
            continue
        in_each = math.ceil(BURN_IN_RANK / min(metric.quantile, 1 - metric.quantile))
        if in_each > found[0]:
            found = in_each, f"at quantile {metric.quantile} of {metric.id} "
    return found


def _are_fractions(looks: Sequence[float]) -> bool:
    return (
        1 <= len(looks) <= PLANNED_LOOKS_MAX
        and looks[0] > 0
        and looks[-1] == 1
        and all(before < after for before, after in itertools.pairwise(looks))
    )


def _variant_errors(variants: list[VariantBody]) -> Iterable[FieldError]:
    if not 2 <= len(variants) <= 64:
        yield FieldError("variants", f"{len(variants)} variants, must be 2 to 64")
    yield from _repeated("variants", [variant.id for variant in variants])
    if sum(variant.is_control for variant in variants) > 1:
        yield FieldError("variants", "several are controls, must be one at most")
    for index, variant in enumerate(variants):
        yield from _name_error(f"variants[{index}].id", variant.id)
        if not 0 <= variant.weight < math.inf:
            message = f"weight == {variant.weight}, must be 0 or more and finite"
            yield FieldError(f"variants[{index}].weight", message)
    weights = [variant.weight for variant in variants]
    # Where one breaks its own rule, the total says nothing more.
    if weights and all(0 <= weight < math.inf for weight in weights):
        total = sum(weights)
        if not 0 < total < math.inf:
            yield FieldError("variants", f"weights add up to {total}, must be above 0 and finite")
        elif sum(weight > 0 for weight in weights) == 1 < len(weights):
            yield FieldError("variants", f"weights == {weights}, must be above 0 for two or more")


def _name_error(field: str, text: str) -> Iterable[FieldError]:
    if not is_name(text):
        yield FieldError(field, f"{text!r}, {NAME_RULE}", "id_invalid")


def _repeated(field: str, ids: list[str]) -> Iterable[FieldError]:
    for repeated in sorted({one for one in ids if ids.count(one) > 1}):
        yield FieldError(field, f"{repeated!r} stands there twice, ids must differ")


def _of_other(field: str, name: str, value: str) -> FieldError:
    return FieldError(field, f"must be null unless {name} is {value}: nothing else reads it")


def _unsupported(field: str, message: str) -> FieldError:
    return FieldError(field, f"{message} (this version computes nothing else)", "not_supported")
