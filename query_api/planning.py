"""Answers questions of planning. Pure.

The arithmetic is ``stream_processors.stats.planning``.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from schemas.definitions import FieldError
from schemas.planning import UNITS_MAX, Answer, CurvePoint, Question, Size
from schemas.shapes import shape_errors
from schemas.times import parse_duration_ms
from stream_processors.stats.planning import PlanError, PlanInputs, PlanResult, plan
from stream_processors.stats.planning_days import units_entered
from stream_processors.stats.planning_inputs import DAILY_MAX, DAILY_MIN, SHARE_MIN

DAY_MS = 86_400_000
DAYS_MAX = 36_500
CURVE_POINTS = 16
CURVE_REACH = 2.0
"""A curve goes from few units to this many times those of the answer."""


_READ_BY = {
    "n_star": "always_valid",
    "tau": "always_valid",
    "looks": "always_valid",
    "planned_looks": "group_sequential",
    "spending": "group_sequential",
    "spending_power": "group_sequential",
    "formula": "fixed_horizon",
    "prior": "bayesian",
    "threshold": "bayesian",
}
"""Fields that one method reads, and no other."""


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
    if question.days is not None and (_units(question, window_days) or 0) > UNITS_MAX:
        message = f"{question.days}, must not be more than bring {UNITS_MAX:,} units"
        raise InvalidQuestionError([FieldError("days", message)])
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


def without_unread(body: dict[str, Any]) -> dict[str, Any]:
    """Return a question without the fields that only other methods than its own read."""
    method = body.get("method", "always_valid")
    return {name: one for name, one in body.items() if _READ_BY.get(name, method) == method}


def _unread_errors(question: Question) -> Iterator[FieldError]:
    """Yield every field that was set, and that nothing reads; a default that is posted is none."""
    defaults = {one.encode_name: _default(one) for one in msgspec.structs.fields(Question)}
    posted = {
        name for name, default in defaults.items() if getattr(question, name) != default
    }  # A field that must be there has no default, and is read.
    goal = question.goal or _goal(question)
    unread = {
        name: f"is read by method {method} alone, and method is {question.method}"
        for name, method in _READ_BY.items()
        if method != question.method
    }
    if question.spending != "power":
        unread["spending_power"] = f"is read where spending is power, and it is {question.spending}"
    if question.kind != "quantile":
        unread["quantile"] = "is read of kind quantile alone"
    if question.kind != "quantile" or question.sd is not None:
        unread["density"] = "is read of kind quantile without sd alone"
    if question.kind == "conversion":
        unread["treatment_sd"] = "must not be given for a conversion: its rates say it"
    if question.weights is not None:
        unread["variants"] = "must not be given together with weights, which say how many there are"
    if question.units_per_day is None:
        unread["ramp"] = "is read together with units_per_day alone"
    if question.covariate_correlation == 0:
        unread["covariate_share"] = "is read together with covariate_correlation alone"
    if question.margin is not None:
        for name in ("decision_metrics", "correction"):
            unread[name] = "must not be given with a margin: passing is not corrected"
        why = "must not be given with a margin: a guardrail is read without a covariate"
        unread["covariate_correlation"] = why
    if goal == "sample_size":
        unread["units"] = unread["days"] = "must not be given where the units are asked for"
    if goal == "power":
        unread["power"] = "must not be given where the power is asked for"
    if goal == "minimum_effect":
        unread["effect"] = "must not be given where the smallest effect is asked for"
    for name in posted & unread.keys():
        value = msgspec.to_builtins(getattr(question, name))
        yield FieldError(name, f"{value}, {unread[name]}: leave it out")


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _traffic_errors(question: Question) -> Iterator[FieldError]:
    days, daily = question.days, question.units_per_day
    if days is not None and not 0 < days <= DAYS_MAX:
        yield FieldError("days", f"{days}, must be above 0 and at most {DAYS_MAX}")
    if daily is not None and not DAILY_MIN <= daily <= DAILY_MAX:
        rule = f"must be {DAILY_MIN} to {DAILY_MAX:g}"
        yield FieldError("units_per_day", f"{daily}, {rule}")
    if not all(SHARE_MIN <= share <= 1 for share in question.ramp):
        yield FieldError("ramp", f"{question.ramp}, must be shares of {SHARE_MIN} to 1")


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
        message = f"{question.sd}, must not be given for a conversion: its rate says it"
        yield FieldError("sd", message)
    is_known = question.units is not None or question.days is not None
    if (question.goal or _goal(question)) != "sample_size" and not is_known:
        yield FieldError("units", "units or days must be there, or an effect to find")
    yield from _unread_errors(question)
    yield from _traffic_errors(question)
    if question.window is None:
        return
    try:
        window_ms = parse_duration_ms(question.window)
    except ValueError as error:
        yield FieldError("window", str(error))
        return
    if window_ms > DAYS_MAX * DAY_MS:
        yield FieldError("window", f"{question.window!r}, must be {DAYS_MAX}d at most")
        return
    window_days = window_ms / DAY_MS
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
