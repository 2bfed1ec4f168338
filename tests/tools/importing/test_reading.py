"""Files of every kind become the same rows, each with its place."""

import csv
import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tools.importing.reading import Columns, UnreadableFileError, read_files

ROWS = [
    {"unit_id": "u-1", "metric": "buy", "value": 1.5, "timestamp": 1_760_000_000_000},
    {"unit_id": "ü", "metric": "buy", "value": -2.0, "timestamp": "2026-10-02T00:00:00Z"},
]


def rows_of(path: Path, **columns: Any) -> list[tuple[int, dict[str, Any] | None]]:
    return [(one.number, one.row) for one in read_files([path], Columns(**columns))]


def test_lines_and_tables_hold_the_same_rows(tmp_path: Path) -> None:
    lines, table = tmp_path / "a.ndjson", tmp_path / "a.csv"
    lines.write_text("\n\n".join(json.dumps(row | {"colour": "red"}) for row in ROWS))
    with table.open("w", newline="", encoding="utf-8-sig") as text:
        writer = csv.DictWriter(text, [*ROWS[0], "colour"])
        writer.writeheader()
        writer.writerows(row | {"colour": 'with, "quotes"\nand lines'} for row in ROWS)

    expected = [{"type": "metric"} | row for row in ROWS]
    assert rows_of(lines) == [(1, expected[0]), (3, expected[1])]
    assert [row for _, row in rows_of(table)] == expected


def test_parquet_brings_ids_times_and_numbers_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    naive = dt.datetime(2026, 10, 1, 12)  # noqa: DTZ001  # as files have it
    table = pa.table(
        {
            "customer": [7, 8],
            "day": [dt.date(2026, 10, 1), dt.date(2026, 10, 2)],
            "at": pa.array([naive, naive], pa.timestamp("ns")),
            "amount": [Decimal("1.50"), Decimal("2.00")],
            "more": ["x", None],
        }
    )
    pq.write_table(table, path)
    columns = {"unit": "customer", "value": "amount", "metric_name": "buy"}
    days = rows_of(path, timestamp="day", unit_type_name="household", **columns)
    times = rows_of(path, timestamp="at", **columns)

    assert days[0] == (
        1,
        {
            "type": "metric",
            "unit_id": "7",
            "unit_type": "household",
            "metric": "buy",
            "value": 1.5,
            "timestamp": "2026-10-01T00:00:00Z",
        },
    )
    assert times[1][1] is not None
    assert times[1][1]["timestamp"] == 1_790_856_000_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", r"must end in one of .ndjson, .jsonl, .csv, .parquet"),
        ("a.csv", "unit_id,when,metric\n", "--timestamp-column"),
        ("a.csv", "unit_id,timestamp\n", "--metric-column or --metric"),
        ("a.parquet", "no parquet", "cannot be read"),
        ("missing.csv", None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_what_to_do(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UnreadableFileError, match=message):
        rows_of(tmp_path / name)


def test_rows_that_cannot_be_read_have_their_place(tmp_path: Path) -> None:
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.csv"
    lines.write_text('{"a": \n[1]\n{"unit_id": 5}\n')
    table.write_text(
        "unit_id,timestamp,metric,value\nu,1,m\nu,1,m,2,3\nu,1,m,1_0\nu,1,m,\nu,1,m,2\n"
    )

    found = list(read_files([lines, table], Columns()))
    assert [(one.path.name, one.number, one.row is None) for one in found] == [
        ("a.jsonl", 1, True),
        ("a.jsonl", 2, True),
        ("a.jsonl", 3, False),
        ("a.csv", 2, True),
        ("a.csv", 3, True),
        ("a.csv", 4, True),
        ("a.csv", 5, True),
        ("a.csv", 6, False),
    ]
    assert all(one.problem for one in found if one.row is None)
