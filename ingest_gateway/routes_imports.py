"""Imports: history of units, from before the events themselves fill it, in numbered batches."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from ingest_gateway.body import form_of
from ingest_gateway.body import read_body as read_encoded_body
from ingest_gateway.import_rows import Row, RowError, read_rows
from ingest_gateway.openapi import body_of
from ingest_gateway.routes_commands import command_id, json_answer
from ingest_gateway.routes_problems import ProblemError, invalid_fields, problem
from ingest_gateway.routes_request import Parts, PartsOfApp, body_deadline, read_json
from schemas.control import Command, Import, Outcome
from schemas.definitions import FieldError
from schemas.imports import IMPORT_ROWS_MAX
from schemas.times import format_day, parse_day

router = APIRouter(prefix="/v1/imports", tags=["imports"])

ROW_ERRORS_MAX = 100
"""Shown of a batch; how many there are in all is in ``detail``."""

NUMBER_MAX = 2**31


_BATCH = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-ndjson": {"schema": {"type": "string", "description": "metric events"}}
        },
    }
}


class ImportBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An import as it is put: UTC days, both included."""

    metrics: list[str]
    first: str = msgspec.field(name="from")
    last: str = msgspec.field(name="to")


@router.put("/{import_id}", openapi_extra=body_of(ImportBody))
async def put_import(import_id: str, request: Request, parts: PartsOfApp) -> Response:
    """Declare an import: 201, 200 if it is there already, 409 if there is another one."""
    body = await read_json(request, ImportBody)
    days = {"from_day": _day("from", body.first), "to_day": _day("to", body.last)}
    fields = {"metrics": body.metrics} | days
    identifier = command_id(request, parts, f"import/{import_id}")
    outcome = await parts.commands.send(Command(identifier, "import", import_id, body=fields))
    return _answer(outcome)


@router.post("/{import_id}/{number}", status_code=202, openapi_extra=_BATCH)
async def post_batch(import_id: str, number: str, request: Request, parts: PartsOfApp) -> Response:
    """Take batch 1, 2, … of metric events, whole or not at all; plain, gzip or zstd.

    202 when it is in every partition, 200 if it was already. 422 with what is wrong with each row,
    409 if another number is next or this one was sent with other rows. After a 5xx, or no answer,
    send the same batch again.
    """
    form = form_of(request.headers.get("content-type"))
    batch_number = _number(number)
    with parts.room.hold() as held:
        async with body_deadline():
            encoding = request.headers.get("content-encoding")
            plain = await read_encoded_body(request.stream(), encoding, held)
        held.begin()
        declared = await _declared(import_id, parts)
        rows, errors = read_rows(plain, form, declared)
        _check_count(rows, errors)
        if errors:
            return _rows_answer(errors)
        taken = await parts.imports.take(import_id, batch_number, rows)
    if isinstance(taken, Outcome):
        return _answer(taken)
    content = {
        "import_id": import_id,
        "number": batch_number,
        "rows": len(rows),
        "already": taken.already,
        "next": taken.declared.done + 1,
    }
    return json_answer(content, 200 if taken.already else 202)


@router.get("")
async def list_imports(parts: PartsOfApp) -> Response:
    """List every import, in the order in which they were declared."""
    imports = sorted(parts.view.usable.imports.values(), key=lambda one: one.ordinal)
    return json_answer({"imports": [public_import(declared) for declared in imports]})


@router.get("/{import_id}")
async def get_import(import_id: str, parts: PartsOfApp) -> Response:
    """Return one import: which batch is next, how many rows are in."""
    return json_answer(public_import(await _declared(import_id, parts)))


def public_import(declared: Import) -> dict[str, Any]:
    """Return an import as it is shown."""
    return {
        "id": declared.id,
        "metrics": declared.metrics,
        "from": format_day(declared.from_day),
        "to": format_day(declared.to_day),
        "done": declared.done,
        "next": declared.done + 1,
        "rows": declared.row_count,
    }


async def _declared(import_id: str, parts: Parts) -> Import:
    """Return an import, also one that another gateway has declared just now."""
    known = parts.view.usable.imports.get(import_id)
    if known is None:
        known = (await parts.view.fresh()).imports.get(import_id)
    if known is None:
        detail = f"no import {import_id[:128]!r}: PUT /v1/imports/<id> declares one"
        raise ProblemError(404, "unknown_import", detail)
    return known


def _answer(outcome: Outcome) -> Response:
    declared = None if outcome.declared is None else public_import(outcome.declared)
    if outcome.status < 400:
        return json_answer(declared, outcome.status)
    more: dict[str, Any] = {}
    if declared is not None:
        more = {"import": declared, "next": declared["next"]}
    # Control counts days; the names of the fields are those of the body.
    errors = [
        FieldError(error.field.removesuffix("_day"), error.message, error.code)
        for error in outcome.errors
    ]
    return problem(outcome.status, outcome.code, outcome.detail, errors=errors, more=more)


def _rows_answer(errors: list[RowError]) -> Response:
    detail = (
        f"{len(errors)} errors in the rows, {min(len(errors), ROW_ERRORS_MAX)} of them below; no "
        "row of the batch was taken: mend them and send it again under the same number"
    )
    return problem(422, "rows_rejected", detail, more={"errors": errors[:ROW_ERRORS_MAX]})


def _check_count(rows: list[Row], errors: list[RowError]) -> None:
    if len(rows) > IMPORT_ROWS_MAX:
        detail = f"{len(rows)} rows, must be {IMPORT_ROWS_MAX} at most: send smaller batches"
        raise ProblemError(413, "too_many_rows", detail)
    if not rows and not errors:
        raise invalid_fields([FieldError("", "no row, must be one or more")])


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:12]) <= NUMBER_MAX):
        message = f"{text[:100]!r}, must be a whole number from 1 on"
        raise invalid_fields([FieldError("number", message)])
    return int(text)


def _day(field: str, text: str) -> int:
    try:
        return parse_day(text)
    except ValueError as error:
        raise invalid_fields([FieldError(field, str(error)[:300])]) from error
