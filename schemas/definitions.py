"""An experiment as it is defined: internal form, public form, and the rules of both. Pure.

Inside, times and durations are integer milliseconds; outside they are RFC 3339 and "72h".
"""

import math
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from schemas.identifiers import NAME_RULE, is_name
from schemas.times import format_duration_ms, format_time_ms, parse_duration_ms

Status = Literal["draft", "running", "paused", "stopped", "archived"]
Kind = Literal["conversion", "count", "sum", "ratio", "mean", "quantile"]
Role = Literal["decision", "guardrail", "secondary"]

COMPUTED_KINDS = ("conversion", "count", "sum")
"""Kinds whose results this version computes; the others are refused on creation."""

DEFAULT_WINDOW = "24h"
DEFAULT_PRECISION = 6
PRECISION_MAX = 9
KEEP_DAYS_MAX = 90
"""Days before an entry that a covariate may reach back."""


class Interval(msgspec.Struct, frozen=True):
    """A span in which assignments count: ``start_ms <= timestamp < end_ms`` (None: open)."""

    start_ms: int
    end_ms: int | None = None

    def holds(self, timestamp_ms: int) -> bool:
        """Return whether an assignment of that timestamp counts."""
        return self.start_ms <= timestamp_ms and (self.end_ms is None or timestamp_ms < self.end_ms)


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An arm. ``weight`` is its share of the covered units; all weights add up to 1."""

    id: str
    weight: float
    is_control: bool = False


class Metric(msgspec.Struct, frozen=True, omit_defaults=True):
    """A metric of an experiment.

    Attributes:
        id: Its name in results.
        kind: What a unit's total is: ``conversion`` 1 if an event has a value above 0, ``count``
            events, ``sum`` the total of values.
        event: Name of the metric events it is made of.
        role: ``decision`` and ``guardrail`` have a window; ``secondary`` may have one.
        direction: Where an improvement lies: ``increase`` or ``decrease``.
        window_ms: Events count while ``entry <= timestamp < entry + window_ms``. None: open.
        precision: Decimal digits kept of a value.
        added_at_ms: Units count whose entry is not before this.
    """

    id: str
    kind: Kind
    event: str
    role: Role = "decision"
    direction: Literal["increase", "decrease"] = "increase"
    window_ms: int | None = None
    precision: int = DEFAULT_PRECISION
    cap: float | None = None
    covariate_days: int = 0
    margin: dict[str, float] | None = None
    added_at_ms: int = 0


class Analysis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the results are read.

    Attributes:
        method: Which interval decides.
        alpha: Error probability, in (0, 1).
        n_star: Units of a pair at which the confidence sequence is tightest.
    """

    method: Literal["always_valid", "fixed_horizon"] = "always_valid"
    alpha: float = 0.05
    n_star: int = 5_000


class Definition(msgspec.Struct, frozen=True):
    """An experiment.

    Attributes:
        ordinal: Its number in the order of creation: the same in every process.
        version: Offset of the command that it results from.
        seed: What units are hashed with, so that experiments are independent.
        intervals: Spans in which assignments count, oldest first; the last may be open.
        started_at_ms: First start; None before.
        stopped_at_ms: Events from then on do not count; None while it may go on.
    """

    id: str
    ordinal: int
    version: int
    variants: list[Variant]
    metrics: list[Metric]
    seed: str
    name: str = ""
    unit_type: str = "user"
    hypothesis: dict[str, Any] | None = None
    coverage: float = 1.0
    allocation: dict[str, Any] = msgspec.field(default_factory=lambda: {"policy": "fixed"})
    targeting: None = None
    crossover: Literal["exclude", "first"] = "exclude"
    segments: dict[str, list[str]] = msgspec.field(default_factory=dict)
    analysis: Analysis = Analysis()
    status: Status = "draft"
    created_at_ms: int = 0
    started_at_ms: int | None = None
    stopped_at_ms: int | None = None
    intervals: list[Interval] = msgspec.field(default_factory=list)

    @property
    def control(self) -> str:
        """Return the id of the control."""
        return next(variant.id for variant in self.variants if variant.is_control)

    @property
    def variant_ids(self) -> list[str]:
        """Return the ids of the variants, in the order of the definition."""
        return [variant.id for variant in self.variants]

    def counts_at(self, timestamp_ms: int) -> bool:
        """Return whether an assignment of that timestamp counts."""
        return any(interval.holds(timestamp_ms) for interval in self.intervals)


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field, for a program (``code``) and for a person (``message``)."""

    field: str
    message: str
    code: str = "invalid"


class InvalidDefinitionError(ValueError):
    """A definition breaks rules; ``errors`` names each field, its value and the rule."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = list(errors)
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in self.errors))


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
    cap: float | None = None
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
    hypothesis: dict[str, Any] | None = None
    coverage: float = 1.0
    allocation: dict[str, Any] = msgspec.field(default_factory=lambda: {"policy": "fixed"})
    targeting: Any = None
    crossover: str = "exclude"
    segments: dict[str, list[str]] = msgspec.field(default_factory=dict)
    analysis: Analysis = Analysis()
    seed: str | None = None


def define(body: DefinitionBody, *, ordinal: int, version: int, created_at_ms: int) -> Definition:
    """Return the draft that a posted body describes.

    Raises:
        InvalidDefinitionError: If it breaks a rule; every broken rule is named at once.
    """
    errors = list(_errors_of(body))
    if errors:
        raise InvalidDefinitionError(errors)
    return Definition(
        id=body.id,
        ordinal=ordinal,
        version=version,
        name=body.name or body.id,
        unit_type=body.unit_type,
        hypothesis=body.hypothesis,
        variants=_normalised(body.variants),
        metrics=[define_metric(metric) for metric in body.metrics],
        seed=body.seed or body.id,
        coverage=body.coverage,
        allocation=body.allocation,
        crossover=body.crossover,  # type: ignore[arg-type]  # checked by _errors_of
        segments=body.segments,
        analysis=body.analysis,
        created_at_ms=created_at_ms,
    )


def define_metric(body: MetricBody, added_at_ms: int = 0) -> Metric:
    """Return the metric that a valid body describes."""
    window = body.window or (DEFAULT_WINDOW if body.role != "secondary" else None)
    return Metric(
        id=body.id,
        kind=body.kind,  # type: ignore[arg-type]  # checked by _errors_of
        event=body.event or body.id,
        role=body.role,  # type: ignore[arg-type]
        direction=body.direction,  # type: ignore[arg-type]
        window_ms=parse_duration_ms(window) if window else None,
        precision=DEFAULT_PRECISION if body.precision is None else body.precision,
        covariate_days=body.covariate_days,
        margin=body.margin,
        added_at_ms=added_at_ms,
    )


def public(definition: Definition) -> dict[str, Any]:
    """Return a definition as the contract shows it."""
    return {
        "id": definition.id,
        "name": definition.name,
        "unit_type": definition.unit_type,
        "hypothesis": definition.hypothesis,
        "variants": [msgspec.structs.asdict(variant) for variant in definition.variants],
        "coverage": definition.coverage,
        "allocation": definition.allocation,
        "targeting": definition.targeting,
        "crossover": definition.crossover,
        "segments": definition.segments,
        "metrics": [_public_metric(metric) for metric in definition.metrics],
        "analysis": msgspec.structs.asdict(definition.analysis),
        "seed": definition.seed,
        "status": definition.status,
        "version": definition.version,
        "created_at": format_time_ms(definition.created_at_ms),
        "started_at": _time_or_none(definition.started_at_ms),
        "stopped_at": _time_or_none(definition.stopped_at_ms),
    }


def _public_metric(metric: Metric) -> dict[str, Any]:
    return {
        "id": metric.id,
        "kind": metric.kind,
        "event": metric.event,
        "role": metric.role,
        "direction": metric.direction,
        "window": format_duration_ms(metric.window_ms) if metric.window_ms else None,
        "precision": metric.precision,
        "cap": metric.cap,
        "covariate_days": metric.covariate_days,
        "margin": metric.margin,
    }


def _time_or_none(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else format_time_ms(milliseconds)


def _normalised(bodies: list[VariantBody]) -> list[Variant]:
    total = math.fsum(body.weight for body in bodies)
    control = next((i for i, body in enumerate(bodies) if body.is_control), 0)
    return [
        Variant(body.id, body.weight / total, is_control=index == control)
        for index, body in enumerate(bodies)
    ]


def _errors_of(body: DefinitionBody) -> Iterable[FieldError]:
    yield from _name_error("id", body.id)
    yield from _name_error("unit_type", body.unit_type)
    yield from _variant_errors(body.variants)
    if not body.metrics:
        yield FieldError("metrics", "0 metrics, must be one or more")
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
    if body.segments:
        yield _unsupported("segments", f"{body.segments}, must be {{}}")
    if not 0 < body.analysis.alpha < 0.5:
        yield FieldError("analysis.alpha", f"{body.analysis.alpha}, must be above 0, below 0.5")
    if not 2 <= body.analysis.n_star <= 10**12:
        yield FieldError("analysis.n_star", f"{body.analysis.n_star}, must be 2 to 10**12")


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


def metric_errors(metric: MetricBody, where: str) -> Iterable[FieldError]:
    """Yield what is wrong with a posted metric."""
    yield from _name_error(f"{where}.id", metric.id)
    yield from _name_error(f"{where}.event", metric.event or metric.id)
    if metric.kind not in COMPUTED_KINDS:
        supported = ", ".join(COMPUTED_KINDS)
        yield _unsupported(f"{where}.kind", f"{metric.kind!r}, must be one of {supported}")
    for name in ("numerator", "denominator", "quantile", "of"):
        if getattr(metric, name) is not None:
            yield FieldError(f"{where}.{name}", f"not a field of kind {metric.kind!r}")
    if metric.role not in ("decision", "guardrail", "secondary"):
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
    if metric.cap is not None:
        yield _unsupported(f"{where}.cap", f"{metric.cap}, must be null")
    if not 0 <= metric.covariate_days <= KEEP_DAYS_MAX:
        message = f"covariate_days == {metric.covariate_days}, must be 0 to {KEEP_DAYS_MAX}"
        yield FieldError(f"{where}.covariate_days", message)


def _margin_errors(metric: MetricBody, where: str) -> Iterable[FieldError]:
    if metric.margin is None:
        return
    if metric.role != "guardrail":
        yield FieldError(f"{where}.margin", f"{metric.margin}, only a guardrail has a margin")
    is_one = len(metric.margin) == 1 and set(metric.margin) <= {"absolute", "relative"}
    if not is_one or not all(0 < value < math.inf for value in metric.margin.values()):
        rule = 'must be {"absolute": number} or {"relative": number}, above 0 and finite'
        yield FieldError(f"{where}.margin", f"{metric.margin}, {rule}")


def _name_error(field: str, text: str) -> Iterable[FieldError]:
    if not is_name(text):
        yield FieldError(field, f"{text!r}, {NAME_RULE}", "id_invalid")


def _repeated(field: str, ids: list[str]) -> Iterable[FieldError]:
    for repeated in sorted({one for one in ids if ids.count(one) > 1}):
        yield FieldError(field, f"{repeated!r} stands there twice, ids must differ")


def _unsupported(field: str, message: str) -> FieldError:
    return FieldError(field, f"{message} (this version computes nothing else)", "not_supported")
