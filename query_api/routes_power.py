"""Planning: how many units, how much power, how small an effect, how many days."""

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response

from query_api.measuring import NotMeasuredError, UnknownMetricError, read
from query_api.planning import InvalidQuestionError, answer, read_question, without_unread
from query_api.planning_split import is_about_split, read_split_question, split_answer
from query_api.problems import MEDIA_TYPE, ProblemError, invalid_parameter
from query_api.routes import PartsOf, SnapshotOf
from query_api.snapshots import current_results
from schemas.json_schema import schema_of
from schemas.planning import Answer, MeasuredPlan, Question, SplitAnswer, SplitQuestion

router = APIRouter(prefix="/v1")

BODY_BYTES_MAX = 64_000

_EXAMPLES: dict[str, Any] = {
    "sample_size": {
        "summary": "How many units find a lift of 10 % on a rate of 5 %, watched all the time?",
        "value": {
            "kind": "conversion",
            "baseline": 0.05,
            "effect": {"relative": 0.1},
            "units_per_day": 8_000,
            "window": "72h",
        },
    },
    "power": {
        "summary": "What is the power of two weeks, at one planned look, with a covariate?",
        "value": {
            "kind": "sum",
            "baseline": 12.5,
            "sd": 40.0,
            "effect": {"absolute": 0.5},
            "days": 14,
            "units_per_day": 5_000,
            "covariate_correlation": 0.6,
            "method": "fixed_horizon",
        },
    },
    "minimum_effect": {
        "summary": "Which effect do 100,000 units find, in three variants and five looks?",
        "value": {
            "kind": "ratio",
            "baseline": 1.8,
            "sd": 2.2,
            "units": 100_000,
            "variants": 3,
            "method": "group_sequential",
        },
    },
    "guardrail": {
        "summary": "How many units show that latency is not 2 % worse?",
        "value": {
            "kind": "mean",
            "baseline": 210.0,
            "sd": 90.0,
            "direction": "decrease",
            "margin": {"relative": 0.02},
            "method": "fixed_horizon",
        },
    },
    "sample_ratio": {
        "summary": "After how many units is it seen that 1 % of the treatment's are lost?",
        "value": {"kind": "sample_ratio", "weights": [1, 1], "loss": 0.01},
    },
}

_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [schema_of(Question), schema_of(SplitQuestion)]},
                "examples": _EXAMPLES,
            }
        },
    },
    "responses": {
        "200": {
            "description": "What was worked out, and by which formula.",
            "content": {
                "application/json": {
                    "schema": {"anyOf": [schema_of(Answer), schema_of(SplitAnswer)]}
                }
            },
        },
        "400": {"description": "No JSON.", "content": {MEDIA_TYPE: {}}},
        "413": {"description": "More than a question can hold.", "content": {MEDIA_TYPE: {}}},
        "422": {"description": "What is wrong, per field.", "content": {MEDIA_TYPE: {}}},
    },
}


@router.post("/power", openapi_extra=_OPENAPI)
async def post_power(request: Request) -> Response:
    """Work out sample size, power or the smallest effect, for every kind of metric and method.

    Of kind sample_ratio: which broken split the checks of it see.
    """
    body = await _read(request)
    return _json(await (_split_answered(body) if is_about_split(body) else _answered(body)))


_MEASURED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The plan, and what of the look it rests on.",
        "content": {"application/json": {"schema": schema_of(MeasuredPlan)}},
    },
    409: {"description": "The look does not say enough yet.", "content": {MEDIA_TYPE: {}}},
}


@router.get("/experiments/{experiment_id}/plan", responses=_MEASURED)  # noqa: FAST003  # of SnapshotOf
async def get_plan(
    snapshot: SnapshotOf,
    parts: PartsOf,
    metric: Annotated[str | None, Query(description="else the first that decides")] = None,
    relative_effect: Annotated[
        float | None, Query(description="else the minimum effect of the hypothesis")
    ] = None,
    power: Annotated[float | None, Query(gt=0, lt=1)] = None,
    method: Annotated[
        Literal["always_valid", "group_sequential", "fixed_horizon", "bayesian"] | None, Query()
    ] = None,
) -> Response:
    """Plan with what the present look says: the control's numbers, traffic, alpha, method.

    Without an effect, and without a hypothesis that has one, the smallest that is found with the
    units that count by now.
    """
    results = current_results(snapshot, now_ms=parts.clock_ms(), ledger=parts.snapshots.ledger)
    try:
        measured = read(snapshot.definition, results, metric)
    except UnknownMetricError as error:
        raise invalid_parameter("metric", str(error)) from error
    except NotMeasuredError as error:
        raise ProblemError(409, "not_measured", str(error)) from error
    given = {"power": power, "method": method}
    question = measured.question | {name: one for name, one in given.items() if one is not None}
    if relative_effect is not None:
        question["effect"] = {"relative": relative_effect}
    if "effect" not in question and "margin" not in question:
        question["units"] = max(measured.all_units, 2 * len(question["weights"]))
    # Another method than the definition's reads nothing of what the definition says of its own.
    question = without_unread(question)
    found = await _answered(question | {"curve": True})
    plan = MeasuredPlan(
        metric_id=measured.metric_id,
        as_of=measured.as_of,
        units=measured.all_units,
        question=question,
        answer=found,
    )
    return _json(plan)


async def _answered(body: Any) -> Answer:
    """Return the answer to decoded JSON.

    Raises:
        ProblemError: If it is no question, or contradicts itself.
    """
    try:
        question = read_question(body)
        # In a thread: the power of a sequential method is an integral, and live looks go on.
        return await asyncio.to_thread(answer, question)
    except InvalidQuestionError as error:
        raise _problem(error) from error


async def _split_answered(body: Any) -> SplitAnswer:
    """Return the answer to decoded JSON about the split.

    Raises:
        ProblemError: If it is no question, or contradicts itself.
    """
    try:
        return split_answer(read_split_question(body))
    except InvalidQuestionError as error:
        raise _problem(error) from error


def _problem(error: InvalidQuestionError) -> ProblemError:
    fields: list[dict[str, str]] = [msgspec.to_builtins(one) for one in error.errors]
    return ProblemError(422, "invalid_plan", str(error), fields)


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")


async def _read(request: Request) -> Any:
    """Return the decoded body.

    Raises:
        ProblemError: If it is too large, or no JSON.
    """
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > BODY_BYTES_MAX:
            message = f"the body must be at most {BODY_BYTES_MAX} bytes"
            raise ProblemError(413, "too_large", message)
    try:
        return msgspec.json.decode(bytes(raw))
    except msgspec.DecodeError as error:
        raise ProblemError(400, "malformed", f"the body must be JSON: {error}") from error
