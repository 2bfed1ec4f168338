"""The catalogue: what is agreed for ever about the events of each metric name."""

import msgspec
from fastapi import APIRouter, Request, Response

from ingest_gateway.openapi import body_of
from ingest_gateway.routes_commands import command_id, json_answer
from ingest_gateway.routes_problems import ProblemError, problem
from ingest_gateway.routes_request import PartsOfApp, read_json
from schemas.control import CatalogueEntry, Command
from schemas.definitions import DEFAULT_PRECISION
from schemas.times import format_day

router = APIRouter(prefix="/v1/metrics", tags=["metrics"])


class EntryBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry as it is put: digits that count, and days of which unit totals are kept."""

    precision: int = DEFAULT_PRECISION
    keep_days: int = 0


@router.put("/{name}", openapi_extra=body_of(EntryBody))
async def put_metric(name: str, request: Request, parts: PartsOfApp) -> Response:
    """Make an entry: 201, 200 if it is there already, 409 if there is another one."""
    body = await read_json(request, EntryBody)
    fields = msgspec.to_builtins(body)
    identifier = command_id(request, parts, f"catalogue/{name}")
    outcome = await parts.commands.send(Command(identifier, "catalogue", name, body=fields))
    entry = None if outcome.entry is None else public_entry(outcome.entry)
    if outcome.status >= 400:
        more = {} if entry is None else {"entry": entry}
        return problem(
            outcome.status, outcome.code, outcome.detail, errors=outcome.errors, more=more
        )
    return json_answer(entry, outcome.status)


@router.get("")
async def list_metrics(parts: PartsOfApp) -> Response:
    """List every entry, by name."""
    entries = sorted(parts.view.usable.catalogue.values(), key=lambda entry: entry.name)
    return json_answer({"metrics": [public_entry(entry) for entry in entries]})


@router.get("/{name}")
async def get_metric(name: str, parts: PartsOfApp) -> Response:
    """Return one entry."""
    entry = parts.view.usable.catalogue.get(name)
    if entry is None:
        detail = f"no metric {name[:128]!r} in the catalogue: PUT here, or a definition, makes it"
        raise ProblemError(404, "unknown_metric", detail)
    return json_answer(public_entry(entry))


def public_entry(entry: CatalogueEntry) -> dict[str, object]:
    """Return an entry as it is shown."""
    return {
        "name": entry.name,
        "precision": entry.precision,
        "keep_days": entry.keep_days,
        "live_from": format_day(entry.live_from_day),
    }
