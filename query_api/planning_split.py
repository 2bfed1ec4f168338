"""Answers what the check of the split would see. Pure.

The arithmetic is ``stream_processors.stats.planning_sample_ratio``.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from query_api.planning import InvalidQuestionError
from schemas.definitions import FieldError
from schemas.planning import Formula, SplitAnswer, SplitCheck, SplitQuestion
from schemas.shapes import shape_errors
from stream_processors.stats.planning_sample_ratio import (
    FORMULAS,
    UNITS_MAX,
    Check,
    sample_ratio_loss,
    sample_ratio_power,
    sample_ratio_units,
    with_loss,
)
from stream_processors.stats.sample_ratio import MISMATCH_ALPHA

POWER = 0.99
"""A broken split spoils everything, so it should hardly ever be missed."""

EXPECTED_MIN = 5
"""Units that every variant has to expect before counts are about normal."""

SHARE_MIN = 1e-6

NOTES = (
    (
        "the sequential check is shown at one look, when all these units are there; looking more "
        "often only adds to its power, and keeps its level"
    ),
    "chi_square raises an alarm at the last look of an experiment only",
)


def is_about_split(body: Any) -> bool:
    """Return whether decoded JSON asks about the split, and not about a metric."""
    return isinstance(body, dict) and body.get("kind") == "sample_ratio"


def read_split_question(body: Any) -> SplitQuestion:
    """Return the question that decoded JSON asks.

    Raises:
        InvalidQuestionError: If it is none, or contradicts itself; every wrong field is named.
    """
    errors = list(shape_errors(body, SplitQuestion))
    if not errors:
        question = msgspec.convert(body, SplitQuestion)
        errors = list(_errors_of(question))
        if not errors:
            return question
    raise InvalidQuestionError(errors)


def split_answer(question: SplitQuestion) -> SplitAnswer:
    """Return the answer to a question that was read."""
    goal = _goal(question)
    total = math.fsum(question.weights)
    checks: tuple[Check, ...] = ("sequential", "chi_square")
    return SplitAnswer(
        kind="sample_ratio",
        goal=goal,
        alpha=MISMATCH_ALPHA,
        wanted_power=None if goal == "power" else question.power or POWER,
        shares=[weight / total for weight in question.weights],
        variant=question.variant,
        checks=[_check(question, check) for check in checks],
        notes=list(NOTES),
    )


def _goal(question: SplitQuestion) -> Literal["sample_size", "power", "minimum_effect"]:
    if question.loss is None:
        return "minimum_effect"
    return "sample_size" if question.units is None else "power"


def _errors_of(question: SplitQuestion) -> Iterator[FieldError]:
    weights = question.weights
    if question.variant >= len(weights):
        rule = f"must be 0 to {len(weights) - 1}: there are {len(weights)} weights"
        yield FieldError("variant", f"{question.variant}, {rule}")
    share = min(weights) / math.fsum(weights)
    if share < SHARE_MIN:
        rule = f"each must be a share of {SHARE_MIN} or more of all of them"
        yield FieldError("weights", f"{weights}, {rule}")
    if question.loss is None and question.units is None:
        yield FieldError("units", "units or loss must be there, or both to know the power")
    if question.loss is not None and question.units is not None and question.power is not None:
        rule = "must not be given where the power is asked for: leave it out"
        yield FieldError("power", f"{question.power}, {rule}")
    if question.units is not None and share >= SHARE_MIN and question.units * share < EXPECTED_MIN:
        least = math.ceil(EXPECTED_MIN / share)
        rule = f"must be {least} or more: every variant has to expect {EXPECTED_MIN}"
        yield FieldError("units", f"{question.units}, {rule}")


def _check(question: SplitQuestion, check: Check) -> SplitCheck:
    weights, variant, wanted = question.weights, question.variant, question.power or POWER
    loss, units, power = question.loss, question.units, None
    if loss is None and units is not None:
        loss = sample_ratio_loss(units, weights, variant, power=wanted, check=check)
    elif loss is not None and units is None:
        actual = with_loss(weights, variant, loss)
        needed = sample_ratio_units(weights, actual, power=wanted, check=check)
        least = EXPECTED_MIN * math.fsum(weights) / min(weights)
        units = None if needed > UNITS_MAX else math.ceil(max(needed, least))
    if loss is not None and units is not None:
        actual = with_loss(weights, variant, loss)
        power = sample_ratio_power(units, weights, actual, check=check)
    return SplitCheck(
        check=check,
        status="not_attainable" if power is None else "ok",
        formula=Formula(*FORMULAS[check]),
        units=units,
        loss=loss,
        power=power,
    )
