"""An experiment as it is defined: internal form and public form. Pure.

Inside, times and durations are integer milliseconds; outside they are RFC 3339 and "72h". What may
be posted, and its rules, are in ``schemas.posted``.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from schemas.posted import (
    DEFAULT_PRECISION,
    DEFAULT_WINDOW,
    KEEP_DAYS_MAX,
    OTHER_SEGMENT,
    PRECISION_MAX,
    Analysis,
    CapQuantile,
    DefinitionBody,
    FieldError,
    Hypothesis,
    Kind,
    MetricBody,
    Prior,
    Role,
    VariantBody,
    definition_errors,
    metric_errors,
)
from schemas.times import format_duration_ms, format_time_ms, parse_duration_ms

__all__ = [
    "DEFAULT_PRECISION",
    "DEFAULT_WINDOW",
    "KEEP_DAYS_MAX",
    "OTHER_SEGMENT",
    "PRECISION_MAX",
    "Analysis",
    "CapQuantile",
    "Definition",
    "DefinitionBody",
    "FieldError",
    "Hypothesis",
    "Interval",
    "InvalidDefinitionError",
    "Kind",
    "Metric",
    "MetricBody",
    "Prior",
    "Role",
    "Status",
    "Variant",
    "VariantBody",
    "define",
    "define_metric",
    "metric_errors",
    "public",
]

Status = Literal["draft", "running", "paused", "stopped", "archived"]


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
            events, ``sum`` the total of values, ``ratio`` the totals of numerator and
            denominator, ``mean`` the total and the number of values, ``quantile`` the total, or
            each value by itself.
        event: Name of the metric events it is made of; of a ratio the numerator's.
        role: ``decision`` and ``guardrail`` have a window; ``secondary`` may have one.
        direction: Where an improvement lies: ``increase`` or ``decrease``.
        window_ms: Events count while ``entry <= timestamp < entry + window_ms``. None: open.
        precision: Decimal digits kept of a value.
        cap: What a unit's total counts for at most: a number, or just above a quantile of the
            totals of all arms. None: no cap.
        covariate_days: Whole UTC days before the entry whose total is the covariate; 0: none.
        margin: Of a guardrail: how much worse it may get, ``absolute`` or ``relative``.
        added_at_ms: Units count whose entry is not before this.
        denominator: Of a ratio: name of the metric events whose total it divides by.
        quantile: Of a quantile: which one, in (0, 1).
        of: Of a quantile: over the ``units``' totals or over the single ``events``' values.
    """

    id: str
    kind: Kind
    event: str
    role: Role = "decision"
    direction: Literal["increase", "decrease"] = "increase"
    window_ms: int | None = None
    precision: int = DEFAULT_PRECISION
    cap: float | CapQuantile | None = None
    covariate_days: int = 0
    margin: dict[str, float] | None = None
    added_at_ms: int = 0
    denominator: str | None = None
    quantile: float | None = None
    of: Literal["units", "events"] | None = None

    @property
    def events(self) -> tuple[str, ...]:
        """Return the names of the metric events it is made of: numerator, then denominator."""
        return (self.event,) if self.denominator is None else (self.event, self.denominator)

    @property
    def numerator(self) -> str | None:
        """Return the name of the metric events whose total a ratio divides."""
        return self.event if self.kind == "ratio" else None


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
    def minimum_effect(self) -> float | None:
        """Return the smallest relative effect worth having; None where none was written down."""
        return (self.hypothesis or {}).get("minimum_effect")

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


class InvalidDefinitionError(ValueError):
    """A definition breaks rules; ``errors`` names each field, its value and the rule."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = list(errors)
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in self.errors))


def define(body: DefinitionBody, *, ordinal: int, version: int, created_at_ms: int) -> Definition:
    """Return the draft that a posted body describes.

    Raises:
        InvalidDefinitionError: If it breaks a rule; every broken rule is named at once.
    """
    errors = list(definition_errors(body))
    if errors:
        raise InvalidDefinitionError(errors)
    return Definition(
        id=body.id,
        ordinal=ordinal,
        version=version,
        name=body.name or body.id,
        unit_type=body.unit_type,
        hypothesis=None if body.hypothesis is None else msgspec.structs.asdict(body.hypothesis),
        variants=_normalised(body.variants),
        metrics=[define_metric(metric) for metric in body.metrics],
        seed=body.seed or body.id,
        coverage=body.coverage,
        allocation=body.allocation,
        crossover=body.crossover,  # type: ignore[arg-type]  # checked by definition_errors
        segments=body.segments,
        analysis=body.analysis,
        created_at_ms=created_at_ms,
    )


def define_metric(body: MetricBody, added_at_ms: int = 0) -> Metric:
    """Return the metric that a valid body describes."""
    window = body.window or (DEFAULT_WINDOW if body.role != "secondary" else None)
    return Metric(
        id=body.id,
        kind=body.kind,  # type: ignore[arg-type]  # checked by definition_errors
        event=body.numerator or body.event or body.id,
        role=body.role,  # type: ignore[arg-type]
        direction=body.direction,  # type: ignore[arg-type]
        window_ms=parse_duration_ms(window) if window else None,
        precision=DEFAULT_PRECISION if body.precision is None else body.precision,
        cap=body.cap,
        covariate_days=body.covariate_days,
        margin=body.margin,
        added_at_ms=added_at_ms,
        denominator=body.denominator,
        quantile=body.quantile,
        of=(body.of or "units") if body.kind == "quantile" else None,  # type: ignore[arg-type]
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
        "analysis": _public_analysis(definition.analysis),
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
        "event": None if metric.kind == "ratio" else metric.event,
        "numerator": metric.numerator,
        "denominator": metric.denominator,
        "quantile": metric.quantile,
        "of": metric.of,
        "role": metric.role,
        "direction": metric.direction,
        "window": format_duration_ms(metric.window_ms) if metric.window_ms else None,
        "precision": metric.precision,
        "cap": msgspec.to_builtins(metric.cap),
        "covariate_days": metric.covariate_days,
        "margin": metric.margin,
    }


def _public_analysis(analysis: Analysis) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(analysis)
    return shown | {"planned_looks": list(analysis.planned_looks)}


def _time_or_none(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else format_time_ms(milliseconds)


def _normalised(bodies: list[VariantBody]) -> list[Variant]:
    total = math.fsum(body.weight for body in bodies)
    control = next((i for i, body in enumerate(bodies) if body.is_control), 0)
    return [
        Variant(body.id, body.weight / total, is_control=index == control)
        for index, body in enumerate(bodies)
    ]
