"""Experiments: operators' commands, and the definitions as this gateway uses them.

What a body must look like is checked here, before anything is sent; what may be done is decided
by control alone, and answered from its outcome.
"""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import UNSET, UnsetType

from ingest_gateway.errors import BodyTooLargeError
from ingest_gateway.openapi import body_of
from ingest_gateway.routes_commands import command_id, json_answer
from ingest_gateway.routes_problems import ProblemError, invalid_fields, problem, unknown_experiment
from ingest_gateway.routes_request import (
    JSON_BODY_BYTES_MAX,
    Parts,
    PartsOfApp,
    read_json,
)
from schemas.control import Command, Outcome
from schemas.definitions import (
    Analysis,
    Definition,
    DefinitionBody,
    FieldError,
    Hypothesis,
    InvalidDefinitionError,
    MetricBody,
    VariantBody,
    define,
    public,
)
from schemas.identifiers import is_name
from schemas.times import TIMESTAMP_MS_MAX, parse_time_ms

router = APIRouter(prefix="/v1/experiments", tags=["experiments"])


class PatchBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of a definition to change, and the version that they are based on."""

    version: int | UnsetType = UNSET
    variants: list[VariantBody] | UnsetType = UNSET
    metrics: list[MetricBody] | UnsetType = UNSET
    name: str | UnsetType = UNSET
    unit_type: str | UnsetType = UNSET
    hypothesis: Hypothesis | UnsetType | None = UNSET
    coverage: float | UnsetType = UNSET
    allocation: dict[str, Any] | UnsetType = UNSET
    targeting: Any = UNSET
    crossover: str | UnsetType = UNSET
    segments: dict[str, list[str]] | UnsetType = UNSET
    analysis: Analysis | UnsetType = UNSET
    seed: str | UnsetType = UNSET


class TransitionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a transition may say."""

    version: int | None = None


class StartBody(TransitionBody, frozen=True, forbid_unknown_fields=True):
    """What a start may say: ``at`` is RFC 3339 or integer epoch milliseconds."""

    at: str | int | None = None


_EXAMPLE = {
    "id": "checkout-color",
    "variants": [{"id": "control", "is_control": True}, {"id": "treatment"}],
    "metrics": [{"id": "conversion", "kind": "conversion", "event": "purchase", "window": "72h"}],
}
_TRANSITION = body_of(TransitionBody)


@router.post("", status_code=201, openapi_extra=body_of(DefinitionBody, example=_EXAMPLE))
async def create_experiment(request: Request, parts: PartsOfApp) -> Response:
    """Create a draft. 409 if the id is known, 422 with ``errors`` per field."""
    body = await read_json(request, DefinitionBody)
    try:
        define(body, ordinal=0, version=0, created_at_ms=0)
    except InvalidDefinitionError as error:
        raise invalid_fields(error.errors) from error
    return await _carry_out(request, parts, "create", body.id, None, msgspec.to_builtins(body))


@router.patch("/{experiment_id}", openapi_extra=body_of(PatchBody))
async def patch_experiment(experiment_id: str, request: Request, parts: PartsOfApp) -> Response:
    """Change fields of a definition; 412 if it has changed since the version that is given."""
    _check_name(experiment_id)
    body = await read_json(request, PatchBody)
    version = None if body.version is UNSET else body.version
    expected_version = _expected_version(request, version)
    if expected_version is None:
        message = "If-Match: <version>, or version in the body, must be there"
        raise ProblemError(428, "version_missing", message)
    fields = msgspec.to_builtins(body)
    fields.pop("version", None)
    if not fields:
        raise invalid_fields([FieldError("", "no field to change, must be one or more")])
    return await _carry_out(request, parts, "patch", experiment_id, expected_version, fields)


@router.post("/{experiment_id}/start", openapi_extra=body_of(StartBody))
async def start_experiment(experiment_id: str, request: Request, parts: PartsOfApp) -> Response:
    """Start a draft, now or ``at`` a time not longer ago than the lateness."""
    body = await read_json(request, StartBody)
    fields = {} if body.at is None else {"at_ms": _time_ms(body.at)}
    return await _transition(experiment_id, request, parts, "start", body.version, fields)


@router.post("/{experiment_id}/pause", openapi_extra=_TRANSITION)
async def pause_experiment(experiment_id: str, request: Request, parts: PartsOfApp) -> Response:
    """Pause: assignments with a timestamp from now on do not count."""
    body = await read_json(request, TransitionBody)
    return await _transition(experiment_id, request, parts, "pause", body.version)


@router.post("/{experiment_id}/resume", openapi_extra=_TRANSITION)
async def resume_experiment(experiment_id: str, request: Request, parts: PartsOfApp) -> Response:
    """Go on after a pause."""
    body = await read_json(request, TransitionBody)
    return await _transition(experiment_id, request, parts, "resume", body.version)


@router.post("/{experiment_id}/stop", openapi_extra=_TRANSITION)
async def stop_experiment(experiment_id: str, request: Request, parts: PartsOfApp) -> Response:
    """Stop for good: events with a timestamp from now on do not count."""
    body = await read_json(request, TransitionBody)
    return await _transition(experiment_id, request, parts, "stop", body.version)


@router.post("/{experiment_id}/archive", openapi_extra=_TRANSITION)
async def archive_experiment(experiment_id: str, request: Request, parts: PartsOfApp) -> Response:
    """Put a stopped experiment away."""
    body = await read_json(request, TransitionBody)
    return await _transition(experiment_id, request, parts, "archive", body.version)


@router.get("")
async def list_experiments(parts: PartsOfApp) -> Response:
    """List every definition, in the order of creation."""
    definitions = sorted(parts.view.usable.definitions.values(), key=lambda one: one.ordinal)
    return json_answer({"experiments": [public(definition) for definition in definitions]})


@router.get("/{experiment_id}")
async def get_experiment(experiment_id: str, parts: PartsOfApp) -> Response:
    """Return one definition."""
    definition = parts.view.usable.definitions.get(experiment_id)
    if definition is None:
        raise unknown_experiment(experiment_id)
    return _definition_answer(definition, 200)


async def _transition(
    experiment_id: str,
    request: Request,
    parts: Parts,
    action: str,
    version: int | None,
    fields: dict[str, Any] | None = None,
) -> Response:
    _check_name(experiment_id)
    expected_version = _expected_version(request, version)
    return await _carry_out(request, parts, action, experiment_id, expected_version, fields or {})


async def _carry_out(
    request: Request,
    parts: Parts,
    action: str,
    experiment_id: str,
    expected_version: int | None,
    body: dict[str, Any],
) -> Response:
    identifier = command_id(request, parts, f"{action}/{experiment_id}")
    command = Command(identifier, action, experiment_id, expected_version, body)
    if len(msgspec.json.encode(command)) > JSON_BODY_BYTES_MAX:
        message = f"the command is longer than {JSON_BODY_BYTES_MAX} bytes with its defaults"
        raise BodyTooLargeError(message)
    return _answer(await parts.commands.send(command))


def _answer(outcome: Outcome) -> Response:
    if outcome.definition is None:
        return problem(outcome.status, outcome.code, outcome.detail, errors=outcome.errors)
    return _definition_answer(outcome.definition, outcome.status)


def _definition_answer(definition: Definition, status: int) -> Response:
    headers = {"ETag": f'"{definition.version}"'}
    if status == 201:
        headers["Location"] = f"/v1/experiments/{definition.id}"
    return json_answer(public(definition), status, headers)


def _expected_version(request: Request, in_body: int | None) -> int | None:
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return in_body
    text = header.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdecimal()):
        message = f"{header[:100]!r}, must be the version, a whole number"
        raise invalid_fields([FieldError("If-Match", message)])
    if in_body is not None and in_body != int(text):
        message = f"{header[:100]} is not version == {in_body} of the body"
        raise invalid_fields([FieldError("If-Match", message)])
    return int(text)


def _time_ms(at: str | int) -> int:
    try:
        at_ms = parse_time_ms(at) if isinstance(at, str) else at
    except ValueError as error:
        raise invalid_fields([FieldError("at", str(error)[:300])]) from error
    if not 0 <= at_ms <= TIMESTAMP_MS_MAX:
        raise invalid_fields([FieldError("at", f"at == {at_ms}, must lie between 1970 and 9999")])
    return at_ms


def _check_name(experiment_id: str) -> None:
    if not is_name(experiment_id):
        raise unknown_experiment(experiment_id)
