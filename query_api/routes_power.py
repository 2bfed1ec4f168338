"""Planning: how many units, how much power, how small an effect, how many days."""

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from query_api.planning import InvalidQuestionError, answer, read_question
from query_api.problems import MEDIA_TYPE, ProblemError
from schemas.json_schema import schema_of
from schemas.planning import Answer, Question

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
}

_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": schema_of(Question), "examples": _EXAMPLES}},
    },
    "responses": {
        "200": {
            "description": "What was worked out, and by which formula.",
            "content": {"application/json": {"schema": schema_of(Answer)}},
        },
        "400": {"description": "No JSON.", "content": {MEDIA_TYPE: {}}},
        "413": {"description": "More than a question can hold.", "content": {MEDIA_TYPE: {}}},
        "422": {"description": "What is wrong, per field.", "content": {MEDIA_TYPE: {}}},
    },
}


@router.post("/power", openapi_extra=_OPENAPI)
async def post_power(request: Request) -> Response:
    """Work out sample size, power or the smallest effect, for every kind of metric and method."""
    body = await _read(request)
    try:
        question = read_question(body)
        # In a thread: the power of a sequential method is an integral, and live looks go on.
        found = await asyncio.to_thread(answer, question)
    except InvalidQuestionError as error:
        fields: list[dict[str, str]] = [msgspec.to_builtins(one) for one in error.errors]
        raise ProblemError(422, "invalid_plan", str(error), fields) from error
    return Response(msgspec.json.encode(found), media_type="application/json")


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
