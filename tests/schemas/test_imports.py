"""A part of an import batch is read as it was written, or not at all."""

import numpy as np
import pytest

from schemas.imports import IMPORT_COLUMNS, UnreadableImportError, read_import, write_import

ROWS = {
    "unit_high": [1, 2**64 - 1],
    "unit_low": [3, 4],
    "unit_type": [0, 0],
    "metric": [1, 0],
    "day": [20_000, -1],
    "value": [1.5, -2.25],
}


def written() -> bytes:
    columns = {name: np.array(ROWS[name], kind) for name, kind in IMPORT_COLUMNS.items()}
    return write_import(
        columns,
        import_id="history",
        number=3,
        sha256="ab",
        unit_types=["user"],
        metrics=["purchase", "refund"],
    )


def test_a_part_is_read_as_it_was_written() -> None:
    part, columns = read_import(written())

    assert (part.import_id, part.number, part.sha256) == ("history", 3, "ab")
    assert (part.unit_types, part.metrics) == (["user"], ["purchase", "refund"])
    assert {name: column.tolist() for name, column in columns.items()} == ROWS


@pytest.mark.parametrize("at", range(0, 200, 7))
def test_a_damaged_part_is_refused(at: int) -> None:
    value = bytearray(written())
    value[-1 - at % len(value)] ^= 0x41

    try:
        part, columns = read_import(bytes(value))
    except UnreadableImportError:
        return
    # What the checksum does not cover: names and numbers, which the engine holds to the log's.
    assert {name: column.tolist() for name, column in columns.items()} == ROWS
    assert part != read_import(written())[0]
