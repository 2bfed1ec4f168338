"""Rows of an import batch: judged by the rules of metric events, hashed, cut by partition. Pure.

A batch is taken whole or not at all, so that its number stands for one content, wherever it comes
from and however often.
"""

import hashlib
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest_gateway.errors import Rejection, RejectionCode
from ingest_gateway.events import Admitted
from ingest_gateway.splitting import BodyForm
from ingest_gateway.validator import admit_history
from schemas.control import Import
from schemas.hashing import UNIT_KEY_SEPARATOR, partitions_of, unit_hashes
from schemas.imports import DAY_MS, write_import
from schemas.times import format_day

UNIT_TYPES_MAX = 100
"""Of one batch: their names go along with it."""


class RowCode(StrEnum):
    """Why a row is no row of its import, beside the codes that every event may have."""

    TIMESTAMP_MISSING = "timestamp_missing"
    METRIC_NOT_IMPORTED = "metric_not_imported"
    DAY_NOT_IMPORTED = "day_not_imported"
    EXPERIMENT_NOT_ALLOWED = "experiment_not_allowed"
    TOO_MANY_UNIT_TYPES = "too_many_unit_types"


class RowError(msgspec.Struct, frozen=True):
    """What is wrong with one row.

    Attributes:
        index: Its place in the batch, from 0.
        code: Why, for a program.
        field: Which field; None when it is the row as a whole.
        message: Why, for a person.
    """

    index: int
    code: str
    field: str | None
    message: str


class Row(NamedTuple):
    """What counts of a row; ``day`` in days since 1970-01-01."""

    unit_type: str
    unit_id: str
    metric: str
    day: int
    value: float


def read_rows(body: bytes, form: BodyForm, declared: Import) -> tuple[list[Row], list[RowError]]:
    """Return the rows of a batch, and what is wrong with each that is bad.

    Raises:
        MalformedBodyError: If the body cannot be split into rows.
        TooManyEventsError: If there are far too many.
    """
    admission = admit_history(body, form=form)
    errors = [_told(item.rejection) for item in admission.rejected]
    if errors:
        return [], errors
    rows = [_row(event) for event in admission.accepted]
    errors = list(_errors_of(admission.accepted, rows, declared))
    return ([], errors) if errors else (rows, [])


def sha256_of(rows: Sequence[Row]) -> str:
    """Return the hash of a batch's content, in hex: what counts of its rows, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(msgspec.json.encode(row))
        digest.update(b"\n")
    return digest.hexdigest()


def parts_of(
    rows: Sequence[Row], *, import_id: str, number: int, sha256: str, partition_count: int
) -> list[bytes]:
    """Return what every partition gets of a batch, also where that is no row.

    Args:
        rows: The batch.
        import_id: The import.
        number: Of the batch.
        sha256: Of its content.
        partition_count: Partitions of ``litmus.events``.
    """
    unit_keys = pa.array(
        [row.unit_type + UNIT_KEY_SEPARATOR + row.unit_id for row in rows], pa.string()
    )
    high, low = unit_hashes(unit_keys)
    unit_types, unit_type = _numbered([row.unit_type for row in rows])
    metrics, metric = _numbered([row.metric for row in rows])
    columns = {
        "unit_high": high,
        "unit_low": low,
        "unit_type": unit_type,
        "metric": metric,
        "day": np.array([row.day for row in rows]),
        "value": np.array([row.value for row in rows]),
    }
    partitions = partitions_of(unit_keys, partition_count)
    return [
        write_import(
            {name: column[partitions == partition] for name, column in columns.items()},
            import_id=import_id,
            number=number,
            sha256=sha256,
            unit_types=unit_types,
            metrics=metrics,
        )
        for partition in range(partition_count)
    ]


def _numbered(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names that there are, and for each of ``names`` which of them it is."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return list(numbers), np.array([numbers[name] for name in names])


def _row(event: Admitted) -> Row:
    assert event.metric is not None
    # 0.0 and -0.0 count alike and must hash alike.
    value = event.value or 0.0
    day = event.timestamp_ms // DAY_MS
    return Row(event.unit_type, event.unit_id, event.metric, day, value)


def _told(rejection: Rejection) -> RowError:
    index, field = rejection.index, rejection.field
    if rejection.code is RejectionCode.UNKNOWN_EXPERIMENT:
        message = "rows of an import belong to no experiment: leave experiment_id out"
        return RowError(index, RowCode.EXPERIMENT_NOT_ALLOWED, field, message)
    return RowError(index, rejection.code, field, rejection.message)


def _errors_of(
    events: Sequence[Admitted], rows: Sequence[Row], declared: Import
) -> Iterator[RowError]:
    metrics, span = frozenset(declared.metrics), range(declared.from_day, declared.to_day + 1)
    unit_types: set[str] = set()
    for index, (event, row) in enumerate(zip(events, rows, strict=True)):
        unit_types.add(row.unit_type)
        if not event.timestamp_given:
            message = "timestamp is missing, must be there: it says which day the row is of"
            yield RowError(index, RowCode.TIMESTAMP_MISSING, "timestamp", message)
        elif row.day not in span:
            first, last = format_day(declared.from_day), format_day(declared.to_day)
            message = (
                f"timestamp is of {format_day(row.day)} (UTC), must be of {first} to {last}, the "
                f"days of import {declared.id!r}"
            )
            yield RowError(index, RowCode.DAY_NOT_IMPORTED, "timestamp", message)
        if row.metric not in metrics:
            known = ", ".join(declared.metrics[:10])
            message = f"metric == {row.metric!r}, must be one that is imported: {known}"
            yield RowError(index, RowCode.METRIC_NOT_IMPORTED, "metric", message)
        if len(unit_types) > UNIT_TYPES_MAX:
            message = f"more than {UNIT_TYPES_MAX} unit types in one batch"
            yield RowError(index, RowCode.TOO_MANY_UNIT_TYPES, "unit_type", message)
            return
