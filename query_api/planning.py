"""Answers questions of planning. Pure.

The arithmetic is ``stream_processors.stats.planning``.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from schemas.definitions import FieldError
from schemas.planning import Answer, CurvePoint, Question, Size
from schemas.shapes import shape_errors
from schemas.times import parse_duration_ms
from stream_processors.stats.planning import PlanError, PlanInputs, PlanResult, plan
from stream_processors.stats.planning_days import units_entered

DAY_MS = 86_400_000
CURVE_POINTS = 16
CURVE_REACH = 2.0
"""A curve goes from few units to this many times those of the answer."""


class InvalidQuestionError(ValueError):
    """A question breaks rules; ``errors`` names each field and the rule."""

    def __init__(self, errors: list[FieldError]) -> None:
        """Keep the errors; the message lists them."""
        self.errors = errors
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))


_FIELDS = {"deviation": "sd", "treatment_deviation": "treatment_sd", "window_days": "window"}
_FIELDS |= {"prior_mean": "prior.mean", "prior_deviation": "prior.sd"}
"""Fields of the arithmetic that are called otherwise in a question."""


def read_question(body: Any) -> Question:
    """Return the question that decoded JSON asks.

    Raises:
        InvalidQuestionError: If it is none; every wrong field is named at once.
    """
    errors = list(shape_errors(body, Question))
    if errors:
        raise InvalidQuestionError(errors)
    return msgspec.convert(body, Question)


def answer(question: Question) -> Answer:
    """Return the answer to a question.

    Raises:
        InvalidQuestionError: If the question contradicts itself.
    """
    inputs = inputs_of(question)
    try:
        result = plan(inputs)
        curve = _curve(inputs, result) if question.curve else None
    except PlanError as error:
        field = _FIELDS.get(error.field, error.field)
        message = str(error).removeprefix(f"{error.field}: ")
        raise InvalidQuestionError([FieldError(field, message)]) from error
    return _shown(inputs, result, curve)


def inputs_of(question: Question) -> PlanInputs:
    """Return a question as the arithmetic takes it.

    Raises:
        InvalidQuestionError: If fields contradict each other; all of them are named.
    """
    errors = list(_errors_of(question))
    if errors:
        raise InvalidQuestionError(errors)
    effect, effect_scale = _size(question.effect)
    margin, margin_scale = _size(question.margin)
    window_days = parse_duration_ms(question.window) / DAY_MS if question.window else 0.0
    prior = question.prior
    return PlanInputs(
        kind=question.kind,
        baseline=question.baseline,
        goal=question.goal or _goal(question),
        deviation=question.sd,
        treatment_deviation=question.treatment_sd,
        quantile=question.quantile,
        density=question.density,
        effect=effect,
        effect_scale=effect_scale,
        direction=question.direction,
        margin=margin,
        margin_scale=margin_scale,
        sides=question.sides,
        alpha=question.alpha,
        power=question.power,
        units=_units(question, window_days),
        weights=tuple(question.weights or [1.0] * question.variants),
        decision_metrics=question.decision_metrics,
        correction=question.correction,
        covariate_correlation=question.covariate_correlation,
        covariate_share=question.covariate_share,
        method=question.method,
        formula=question.formula,
        n_star=question.n_star,
        tau=question.tau,
        looks=question.looks,
        planned_looks=tuple(question.planned_looks),
        spending=question.spending,
        spending_power=question.spending_power,
        prior_mean=0.0 if prior is None else prior.mean,
        prior_deviation=None if prior is None else prior.sd,
        threshold=question.threshold,
        units_per_day=question.units_per_day,
        ramp=tuple(question.ramp),
        window_days=window_days,
    )


def _goal(question: Question) -> Literal["sample_size", "power", "minimum_effect"]:
    if question.effect is None and question.margin is None:
        return "minimum_effect"
    has_units = question.units is not None or question.days is not None
    return "power" if has_units else "sample_size"


def _errors_of(question: Question) -> Iterator[FieldError]:
    for name, size in (("effect", question.effect), ("margin", question.margin)):
        if size is not None and (size.absolute is None) == (size.relative is None):
            yield FieldError(name, "must say absolute or relative, and only one of them")
    if question.units is not None and question.days is not None:
        yield FieldError("days", "must not be given together with units")
    if question.days is not None and question.units_per_day is None:
        yield FieldError("units_per_day", "must be there where days are given")
    if question.kind == "conversion" and question.sd is not None:
        yield FieldError("sd", "must not be given for a conversion: its rate says it")
    is_known = question.units is not None or question.days is not None
    if (question.goal or _goal(question)) != "sample_size" and not is_known:
        yield FieldError("units", "units or days must be there, or an effect to find")
    if question.window is None:
        return
    try:
        window_days = parse_duration_ms(question.window) / DAY_MS
    except ValueError as error:
        yield FieldError("window", str(error))
        return
    if question.days is not None and question.days <= window_days:
        yield FieldError("days", f"{question.days:g}, must be longer than the window")


def _size(size: Size | None) -> tuple[float | None, Literal["absolute", "relative"]]:
    if size is None:
        return None, "relative"
    if size.absolute is not None:
        return size.absolute, "absolute"
    return size.relative, "relative"


def _units(question: Question, window_days: float) -> int | None:
    if question.days is None or question.units_per_day is None:
        return question.units
    entered = units_entered(
        question.days - window_days,
        units_per_day=question.units_per_day,
        ramp=tuple(question.ramp),
    )
    return math.floor(entered)


def _shown(inputs: PlanInputs, result: PlanResult, curve: list[CurvePoint] | None) -> Answer:
    """Return a result as it is shown; numbers that are not finite are null."""
    fields = dataclasses.asdict(result) | {
        "formula": result.formula._asdict(),
        "kind": inputs.kind,
        "baseline": inputs.baseline,
        "alpha": inputs.alpha,
        "wanted_power": None if inputs.goal == "power" else inputs.power,
        "curve": curve,
    }
    for name, value in fields.items():
        if isinstance(value, float) and not math.isfinite(value):
            fields[name] = None
    return msgspec.convert(fields, Answer, from_attributes=True)


def _curve(inputs: PlanInputs, result: PlanResult) -> list[CurvePoint]:
    """Return power at numbers of units around those of the answer.

    For a minimum effect it is the power to find that effect.
    """
    if result.units is None or result.effect is None:
        return []
    asked = dataclasses.replace(inputs, goal="power", effect=result.effect, effect_scale="absolute")
    fewest = 2 * len(inputs.weights)
    points = []
    for step in range(1, CURVE_POINTS + 1):
        units = max(fewest, round(result.units * CURVE_REACH * step / CURVE_POINTS))
        power = plan(dataclasses.replace(asked, units=units)).power
        if power is not None:
            points.append(CurvePoint(units, power))
    return points
