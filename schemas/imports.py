"""A partition's part of an import batch: rows that fill day totals from before live events.

Every number goes to every partition, also where it has no rows: a partition takes only the number
after its last, so it must see them all.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

IMPORT_ROWS_MAX = 5_000
"""Rows of a batch in all partitions together: the message stays small wherever they all go."""

DAY_MS = 86_400_000

IMPORT_COLUMNS: Mapping[str, str] = {
    "unit_high": "<u8",
    "unit_low": "<u8",
    "unit_type": "<u2",
    "metric": "<u2",
    "day": "<i4",
    "value": "<f8",
}
"""``unit_type`` and ``metric`` count in the lists of names; ``day`` in days since 1970-01-01."""


class UnreadableImportError(ValueError):
    """The bytes are no part of an import batch."""


class ImportPart(msgspec.Struct, frozen=True):
    """What one partition gets of a batch.

    Attributes:
        import_id: The import.
        number: Of the batch, from 1.
        sha256: Of the content of the whole batch, in hex.
        unit_types: Names that ``unit_type`` counts in.
        metrics: Names that ``metric`` counts in.
        columns: Name of the column to its little-endian bytes, see ``IMPORT_COLUMNS``.
        checksum: CRC-32 of the columns in their order.
    """

    import_id: str
    number: int
    sha256: str
    unit_types: list[str]
    metrics: list[str]
    columns: dict[str, bytes]
    checksum: int


def write_import(
    columns: Mapping[str, NDArray[Any]],
    *,
    import_id: str,
    number: int,
    sha256: str,
    unit_types: list[str],
    metrics: list[str],
) -> bytes:
    """Return the message of a part; every column has shape (rows,)."""
    encoded = {
        name: np.ascontiguousarray(columns[name], kind).tobytes()
        for name, kind in IMPORT_COLUMNS.items()
    }
    part = ImportPart(
        import_id, number, sha256, unit_types, metrics, encoded, _checksum_of(encoded)
    )
    return msgspec.msgpack.encode(part)


def read_import(value: bytes) -> tuple[ImportPart, dict[str, NDArray[Any]]]:
    """Return a part and its columns.

    Raises:
        UnreadableImportError: If it is none, or damaged.
    """
    try:
        part = _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableImportError(f"{len(value)} bytes are no import: {error}") from error
    if set(part.columns) != set(IMPORT_COLUMNS) or part.checksum != _checksum_of(part.columns):
        raise UnreadableImportError(
            f"batch {part.number} of import {part.import_id!r} fails its checksum"
        )
    return part, {
        name: np.frombuffer(part.columns[name], kind) for name, kind in IMPORT_COLUMNS.items()
    }


def _checksum_of(columns: Mapping[str, bytes]) -> int:
    checksum = 0
    for name in IMPORT_COLUMNS:
        checksum = zlib.crc32(columns[name], checksum)
    return checksum


_decoder = msgspec.msgpack.Decoder(ImportPart)
