"""Imports in the log: what control agreed on, and what stands in the partitions of it.

Rows of imports are no events: they fill day totals, and are not copied. What is stored of them are
counts, so that the ledger can hold what was agreed on to what the log has.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from schemas.control import ImportChange, decode_tick
from schemas.imports import read_import


class ImportState(NamedTuple):
    """What control said of an import at a tick; field names are those of the table."""

    import_id: str
    tick: int
    place: int
    done: int
    row_count: int
    reserved_number: int
    reserved_sha256: str
    reserved_rows: int


class ImportPart(NamedTuple):
    """A partition's part of a batch; field names are those of the table."""

    kafka_partition: int
    kafka_offset: int
    import_id: str
    number: int
    sha256: str
    rows: int


class ImportAccount(NamedTuple):
    """One import, counted twice.

    Attributes:
        import_id: The import.
        batches: That are done: every partition has them, as control was told.
        rows: Of these.
        reserved_rows: Of the batch that is agreed on and not done.
        parts: Of the batches that are done, parts that the log holds; each partition has one.
        log_rows: Rows of these parts, those sent again left out.
        parts_to_take: Parts that the log holds below the engine's offsets, and those of batches
            that were done before anything was stored of the import.
        rows_to_take: Rows of these.
    """

    import_id: str
    batches: int
    rows: int
    reserved_rows: int
    parts: int
    log_rows: int
    parts_to_take: int
    rows_to_take: int


def states_of(value: bytes) -> list[ImportState]:
    """Return what a tick says of imports."""
    tick = decode_tick(value)
    return [
        ImportState(
            one.declared.id,
            tick.number,
            place,
            one.declared.done,
            one.declared.row_count,
            *(
                (reserved.number, reserved.sha256, reserved.row_count)
                if (reserved := one.declared.reserved)
                else (0, "", 0)
            ),
        )
        for place, one in enumerate(tick.changes)
        if isinstance(one, ImportChange)
    ]


def part_of(partition: int, offset: int, value: bytes) -> ImportPart:
    """Return what a part's message is.

    Raises:
        schemas.imports.UnreadableImportError: If it is none, or damaged.
    """
    part, columns = read_import(value)
    rows = len(columns["day"])
    return ImportPart(partition, offset, part.import_id, part.number, part.sha256, rows)


_TYPES = {
    "import_id": pa.string(),
    "reserved_sha256": pa.string(),
    "sha256": pa.string(),
    "tick": pa.uint64(),
    "row_count": pa.uint64(),
    "kafka_offset": pa.uint64(),
}


def as_columns(rows: Sequence[ImportState] | Sequence[ImportPart]) -> pa.Table:
    """Return rows of one table as columns."""
    names = rows[0]._fields
    return pa.table(
        {
            name: pa.array(column, _TYPES.get(name, pa.uint32()))
            for name, column in zip(names, zip(*rows, strict=True), strict=True)
        }
    )


def read_accounts(
    client: Client, tick: int, offsets: Mapping[int, int], settings: Mapping[str, float]
) -> list[ImportAccount]:
    """Return the counts of every import as of a tick that all partitions are stored beyond.

    What came before the tables were there is left out of what control and the log say; the engine
    has taken it, so what it has to take begins with it.

    Args:
        client: Of the history.
        tick: The engine's last.
        offsets: Per partition of litmus.events, the first offset that the engine has not read.
        settings: Of the query.
    """
    parameters = {
        "tick": tick,
        "partitions": list(offsets) or [0],
        "offsets": list(offsets.values()) or [0],
    }
    found = client.query(_ACCOUNTS, parameters=parameters, settings=dict(settings))
    return [ImportAccount(name, *map(int, counts)) for name, *counts in found.result_rows]


_ACCOUNTS = """
WITH
    states AS
    (
        SELECT
            import_id,
            argMinIf((done, row_count), (tick, place), reserved_number = 0) AS first,
            argMax((done, row_count), (tick, place)) AS last,
            argMax(reserved_rows, (tick, place)) AS reserved_rows
        FROM import_states
        WHERE tick <= {tick:UInt64}
        GROUP BY import_id
        HAVING countIf(reserved_number = 0) > 0
    ),
    agreed AS
    (
        SELECT DISTINCT import_id, reserved_number AS number, reserved_sha256 AS sha256
        FROM import_states
        WHERE reserved_number > 0
    ),
    parts AS
    (
        SELECT
            import_id, number, kafka_partition,
            any(rows) AS rows,
            min(kafka_offset) < transform(
                toInt64(kafka_partition), {partitions:Array(Int64)}, {offsets:Array(Int64)}, 0
            ) AS is_read
        FROM import_parts
        INNER JOIN agreed USING (import_id, number, sha256)
        GROUP BY import_id, number, kafka_partition
    ),
    counted AS
    (
        SELECT
            import_id,
            countIf(number <= last.1) AS parts_done,
            sumIf(rows, number <= last.1) AS rows_done,
            countIf(is_read) AS parts_read,
            sumIf(rows, is_read) AS rows_read
        FROM parts
        INNER JOIN states USING (import_id)
        WHERE number > first.1
        GROUP BY import_id
    )
SELECT
    states.import_id, last.1 - first.1, last.2 - first.2, reserved_rows,
    counted.parts_done, counted.rows_done,
    first.1 * length({partitions:Array(Int64)}) + counted.parts_read, first.2 + counted.rows_read
FROM states
LEFT JOIN counted ON counted.import_id = states.import_id
ORDER BY states.import_id"""
