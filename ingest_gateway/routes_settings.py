"""Settings that are part of the log, because results depend on them."""

from collections.abc import Iterator
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import UNSET, UnsetType

from ingest_gateway.openapi import body_of
from ingest_gateway.routes_commands import command_id, json_answer
from ingest_gateway.routes_problems import invalid_fields, problem
from ingest_gateway.routes_request import PartsOfApp, read_json
from schemas.control import Command, Outcome, Settings
from schemas.definitions import FieldError
from schemas.times import format_duration_ms, parse_duration_ms

router = APIRouter(prefix="/v1/settings", tags=["settings"])


class SettingsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to change: only the fields that are given."""

    lateness: str | UnsetType = UNSET
    stride: int | UnsetType | None = UNSET
    retire_sources: list[str] = []
    add_sources: list[str] = []


@router.get("")
async def get_settings(parts: PartsOfApp) -> Response:
    """Return the settings as this gateway uses them."""
    return json_answer(public_settings(parts.view.usable.settings))


@router.patch("", openapi_extra=body_of(SettingsBody))
async def patch_settings(request: Request, parts: PartsOfApp) -> Response:
    """Change settings. The answer says what that does, and is given when it is in use here."""
    body = await read_json(request, SettingsBody)
    fields = _fields_of(body)
    if not fields:
        message = "no field to change, must be one or more"
        raise invalid_fields([FieldError("", message)])
    identifier = command_id(request, parts, "settings")
    outcome = await parts.commands.send(Command(identifier, "settings", body=fields))
    if outcome.status >= 400 or outcome.settings is None:
        errors = [
            FieldError(error.field.removesuffix("_ms"), error.message, error.code)
            for error in outcome.errors
        ]
        return problem(outcome.status, outcome.code, outcome.detail, errors=errors)
    content = public_settings(outcome.settings) | {"effects": list(_effects(body, outcome))}
    return json_answer(content)


def public_settings(settings: Settings) -> dict[str, Any]:
    """Return settings as they are shown."""
    return {
        "lateness": format_duration_ms(settings.lateness_ms),
        "stride": settings.stride,
        "sources": settings.sources,
    }


def _fields_of(body: SettingsBody) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if body.lateness is not UNSET:
        try:
            fields["lateness_ms"] = parse_duration_ms(body.lateness)
        except ValueError as error:
            raise invalid_fields([FieldError("lateness", str(error)[:300])]) from error
    if body.stride is not UNSET:
        fields["stride"] = body.stride
    for name in ("retire_sources", "add_sources"):
        if sources := getattr(body, name):
            fields[name] = sources
    return fields


def _effects(body: SettingsBody, outcome: Outcome) -> Iterator[str]:
    if body.lateness is not UNSET:
        yield (
            f"From tick {outcome.tick} on an event may be received up to {body.lateness} after its "
            "timestamp; later ones are kept in litmus.late and not counted. After a longer one, "
            "what was too late by the former one stays late: ids that old were forgotten. After a "
            "shorter one, what was accepted before still counts: ids are kept for ten minutes as "
            "before. Ids and recent events are held in memory for the lateness."
        )
    if body.stride is not UNSET:
        every = "as many ticks as keep looks under 200 a second"
        if body.stride is not None:
            every = f"{body.stride} ticks"
        yield f"An experiment that changes gets a look every {every}."
    for source in body.retire_sources:
        yield (
            f"Nothing waits for {source} any more: what is still in it, or comes into it, is "
            "counted only as far as it is not older than the horizon when a door takes it."
        )
    for source in body.add_sources:
        yield f"Windows close only up to where a Kafka door has taken {source} in."
