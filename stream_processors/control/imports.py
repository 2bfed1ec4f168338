"""Imports: who may fill which days of which metric, and which batch is next. Pure.

The fold is what makes a batch exactly once: a number is reserved for one content before anything
of it is written, and the next is free only when every partition has acknowledged it. So gateways
that crash, resend or race can only ever write the same rows again, which the engine knows.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from schemas.control import RECENT_BATCHES, CatalogueEntry, Import, ImportBatch
from schemas.definitions import FieldError
from schemas.identifiers import NAME_RULE, is_name
from schemas.imports import IMPORT_ROWS_MAX
from schemas.times import format_day
from stream_processors.control.catalogue import Catalogue
from stream_processors.control.refusals import RefusedError, invalid, shaped

IMPORTS_MAX = 500
METRICS_MAX = 100
RECENT_HEX_DIGITS = 16

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)

Imports = Mapping[str, Import]


class ImportBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An import as it is declared: days since 1970-01-01, both included."""

    metrics: list[str]
    from_day: int
    to_day: int


class DoneBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which batch every partition has acknowledged."""

    number: int


def declare(
    import_id: str, body: dict[str, Any], imports: Imports, entries: Catalogue
) -> Import | None:
    """Return the import that a command declares; None if it is there already.

    Raises:
        RefusedError: 422 if it breaks a rule, 409 if there is another one or no room.
    """
    posted = shaped(body, ImportBody)
    known = imports.get(import_id)
    if known is not None:
        asked = (sorted(posted.metrics), posted.from_day, posted.to_day)
        if asked == (sorted(known.metrics), known.from_day, known.to_day):
            return None
        detail = f"import {import_id!r} is {_shown(known)}, and never changes; choose another id"
        raise RefusedError(409, "import_differs", detail, declared=known)
    errors = list(_errors_of(import_id, posted, imports, entries))
    if errors:
        raise invalid(errors)
    if len(imports) >= IMPORTS_MAX:
        detail = f"there are {len(imports)} imports, must be {IMPORTS_MAX} at most"
        raise RefusedError(409, "too_many_imports", detail)
    return Import(import_id, len(imports), posted.metrics, posted.from_day, posted.to_day)


def reserve(import_id: str, body: dict[str, Any], imports: Imports) -> Import | None:
    """Return the import with its next batch reserved for one content; None if nothing changes.

    Nothing changes if the same content is reserved already, or done: then ``done`` of the import
    says so. Either way it is no harm to write it.

    Raises:
        RefusedError: 404, 409 if it is not its turn or has other content, 422.
    """
    current = _known(import_id, imports)
    batch = shaped(body, ImportBatch)
    errors = list(_batch_errors(batch))
    if errors:
        raise invalid(errors)
    if batch.number <= current.done:
        _check_done(current, batch)
        return None
    expected = current.done + 1
    if batch.number != expected:
        detail = f"batch {batch.number} of import {import_id!r} is out of order: {expected} is next"
        raise RefusedError(409, "import_out_of_order", detail, declared=current)
    if current.reserved is None:
        return msgspec.structs.replace(current, reserved=batch)
    if current.reserved != batch:
        detail = (
            f"batch {batch.number} of import {import_id!r} was sent with other rows, which may be "
            "counted in part: send the same rows in the same order again"
        )
        raise RefusedError(409, "import_batch_differs", detail, declared=current)
    return None


def finish(import_id: str, body: dict[str, Any], imports: Imports) -> Import | None:
    """Return the import with its reserved batch done; None if it was done already.

    Raises:
        RefusedError: 404, 409 if the batch was not reserved, 422.
    """
    current = _known(import_id, imports)
    number = shaped(body, DoneBody).number
    if 1 <= number <= current.done:
        return None
    reserved = current.reserved
    if reserved is None or reserved.number != number:
        detail = f"batch {number} of import {import_id!r} was not reserved"
        raise RefusedError(409, "import_out_of_order", detail, declared=current)
    recent = [*current.recent, reserved.sha256[:RECENT_HEX_DIGITS]]
    return msgspec.structs.replace(
        current,
        done=number,
        reserved=None,
        row_count=current.row_count + reserved.row_count,
        recent=recent[-RECENT_BATCHES:],
    )


def _known(import_id: str, imports: Imports) -> Import:
    current = imports.get(import_id)
    if current is None:
        detail = f"there is no import {import_id[:128]!r}: PUT /v1/imports/<id> declares one"
        raise RefusedError(404, "unknown_import", detail)
    return current


def _check_done(current: Import, batch: ImportBatch) -> None:
    """Check that a batch which is done is the one that is sent again."""
    age = current.done - batch.number
    if age >= len(current.recent):
        detail = (
            f"batch {batch.number} of import {current.id!r} was done too long ago to be compared: "
            f"go on with {current.done + 1}"
        )
        raise RefusedError(409, "import_batch_done", detail, declared=current)
    if current.recent[-1 - age] != batch.sha256[:RECENT_HEX_DIGITS]:
        detail = (
            f"batch {batch.number} of import {current.id!r} was done with other rows; "
            f"go on with {current.done + 1}"
        )
        raise RefusedError(409, "import_batch_differs", detail, declared=current)


def _batch_errors(batch: ImportBatch) -> Iterable[FieldError]:
    if batch.number < 1:
        yield FieldError("number", f"number == {batch.number}, must be 1 or more")
    if not _SHA256.fullmatch(batch.sha256):
        yield FieldError("sha256", "must be 64 hex digits")
    if not 1 <= batch.row_count <= IMPORT_ROWS_MAX:
        message = f"row_count == {batch.row_count}, must be 1 to {IMPORT_ROWS_MAX}"
        yield FieldError("row_count", message)


def _errors_of(
    import_id: str, posted: ImportBody, imports: Imports, entries: Catalogue
) -> Iterable[FieldError]:
    if not is_name(import_id):
        yield FieldError("id", f"{import_id[:200]!r}, {NAME_RULE}", "id_invalid")
    if not 1 <= len(posted.metrics) <= METRICS_MAX:
        yield FieldError("metrics", f"{len(posted.metrics)} metrics, must be 1 to {METRICS_MAX}")
        return
    if len(set(posted.metrics)) < len(posted.metrics):
        yield FieldError("metrics", "one stands there twice, they must differ")
    if not 0 <= posted.from_day <= posted.to_day:
        yield FieldError("from", "must not be after to, nor before 1970")
    for index, name in enumerate(posted.metrics):
        field = f"metrics[{index}]"
        entry = entries.get(name)
        if entry is None:
            message = f"{name[:128]!r} is not in the catalogue: PUT /v1/metrics/<name> first"
            yield FieldError(field, message, "unknown_metric")
        else:
            yield from _metric_errors(field, entry, posted, imports)


def _metric_errors(
    field: str, entry: CatalogueEntry, posted: ImportBody, imports: Imports
) -> Iterable[FieldError]:
    if entry.keep_days == 0:
        message = f"of {entry.name!r} no days are kept: its catalogue entry has keep_days 0"
        yield FieldError(field, message, "keep_days_exceeded")
    elif posted.to_day >= entry.live_from_day:
        message = (
            f"to == {_day(posted.to_day)}, must be before {format_day(entry.live_from_day)}: from "
            f"that day on the events of {entry.name!r} themselves fill its days"
        )
        yield FieldError("to", message, "import_overlaps_live")
    for other in imports.values():
        if entry.name not in other.metrics:
            continue
        if posted.from_day <= other.to_day and other.from_day <= posted.to_day:
            message = (
                f"{entry.name!r} has days of import {other.id!r}, {_shown(other)}, among these; a "
                "day's total has one source"
            )
            yield FieldError(field, message, "import_overlaps")


def _shown(declared: Import) -> str:
    metrics = ", ".join(declared.metrics[:10])
    return f"{format_day(declared.from_day)} to {format_day(declared.to_day)} of {metrics}"


def _day(days: int) -> str:
    try:
        return format_day(days)
    except OverflowError:
        return f"day {days}"
