"""NDJSON, CSV and Parquet as rows of an import, each with the place that it comes from."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tools.errors import LitmusError

_EPOCH_MS = re.compile(r"-?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

Fields = dict[str, Any]


class UnreadableFileError(LitmusError):
    """A file is none of those that can be read, or is damaged."""


class Columns(NamedTuple):
    """Where a row's fields come from.

    Attributes:
        unit: Column of the unit's id.
        timestamp: Column of the time, or of the UTC day.
        value: Column of the value; a file without it has rows of value 1.
        metric: Column of the metric's name, unless it is given.
        unit_type: Column of the unit's type, unless it is given; a file may lack it.
        metric_name: Metric of every row; None: the column says it.
        unit_type_name: Type of every unit; None: the column says it, or it is ``user``.
    """

    unit: str = "unit_id"
    timestamp: str = "timestamp"
    value: str = "value"
    metric: str = "metric"
    unit_type: str = "unit_type"
    metric_name: str | None = None
    unit_type_name: str | None = None

    def row_of(self, found: Mapping[str, Any]) -> Fields:
        """Return a row of a file as the metric event that it stands for."""
        row: Fields = {"type": "metric"}
        if self.unit in found:
            row["unit_id"] = _unit_id(found[self.unit])
        if self.timestamp in found:
            row["timestamp"] = _timestamp(found[self.timestamp])
        if self.value in found:
            row["value"] = _value(found[self.value])
        for field, column, constant in (
            ("metric", self.metric, self.metric_name),
            ("unit_type", self.unit_type, self.unit_type_name),
        ):
            if constant is not None:
                row[field] = constant
            elif column in found:
                row[field] = found[column]
        return row


class Found(NamedTuple):
    """A row and where it stands.

    Attributes:
        path: File.
        number: Line of the file, from 1; of Parquet the row.
        row: What it says; None if it cannot be read, then ``problem`` says why.
        problem: What is wrong with it, for a person.
    """

    path: Path
    number: int
    row: Fields | None
    problem: str = ""


def read_files(paths: Sequence[Path], columns: Columns) -> Iterator[Found]:
    """Yield every row of every file, in their order.

    Raises:
        UnreadableFileError: If one cannot be opened, or is of another kind.
    """
    for path in paths:
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            kinds = ", ".join(_READERS)
            raise UnreadableFileError(f"{path}: the name must end in one of {kinds}")
        try:
            yield from reader(path, columns)
        except (OSError, pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
            raise UnreadableFileError(f"{path} cannot be read: {error}") from error


def _read_lines(path: Path, columns: Columns) -> Iterator[Found]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Found(path, number, None, f"not JSON: {error}"[:200])
                continue
            if isinstance(found, dict):
                yield Found(path, number, columns.row_of(found))
            else:
                yield Found(path, number, None, "not an object")


def _read_csv(path: Path, columns: Columns) -> Iterator[Found]:
    with path.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text, strict=True)
        _check_columns(path, rows.fieldnames or [], columns)
        for found in rows:
            number = rows.line_num
            if None in found or None in found.values():
                width = len(rows.fieldnames or [])
                yield Found(path, number, None, f"must have {width} fields, as the first line has")
                continue
            row = columns.row_of(found)
            problem = _read_number(row)
            yield Found(path, number, None if problem else row, problem)


def _read_number(row: Fields) -> str:
    """Turn the text of a value into a number; return what is wrong with it."""
    text = row.get("value")
    if text is None:
        return ""
    if not _NUMBER.fullmatch(text):
        return f"value == {text[:50]!r}, must be a number"
    row["value"] = float(text)
    return ""


def _read_parquet(path: Path, columns: Columns) -> Iterator[Found]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        _check_columns(path, names, columns)
        wanted = [name for name in names if name in columns]
        number = 0
        for batch in file.iter_batches(10_000, columns=wanted):
            for found in _in_milliseconds(batch, columns.timestamp).to_pylist():
                number += 1
                yield Found(path, number, columns.row_of(found))


def _in_milliseconds(batch: pa.RecordBatch, name: str) -> pa.RecordBatch:
    """Return ``batch`` with finer digits of its times cut off."""
    at = batch.schema.names.index(name)
    kind = batch.schema.types[at]
    if not pa.types.is_timestamp(kind):
        return batch
    milliseconds = pa.timestamp("ms", kind.tz)
    return batch.set_column(at, name, batch.column(at).cast(milliseconds, safe=False))


def _check_columns(path: Path, names: Sequence[str], columns: Columns) -> None:
    needed = [("unit", columns.unit), ("timestamp", columns.timestamp)]
    if columns.metric_name is None:
        needed.append(("metric", columns.metric))
    for field, name in needed:
        if name not in names:
            constant = " or --metric" if field == "metric" else ""
            raise UnreadableFileError(
                f"{path} has no column {name!r}; it has {', '.join(names)}: "
                f"--{field}-column{constant} says which"
            )


def _unit_id(found: Any) -> Any:
    """Return a unit's id as text: columns of numbers hold ids as well."""
    return str(found) if isinstance(found, int) and not isinstance(found, bool) else found


def _value(found: Any) -> Any:
    return float(found) if isinstance(found, Decimal) else found


def _timestamp(found: Any) -> Any:
    """Return a time as an event has it; a day stands for its first moment, in UTC."""
    match found:
        case datetime():
            aware = found if found.tzinfo else found.replace(tzinfo=UTC)
            return round(aware.timestamp() * 1_000)
        case date():
            return f"{found.isoformat()}T00:00:00Z"
        case str() if _EPOCH_MS.fullmatch(found):
            return int(found)
        case str() if _DAY.fullmatch(found):
            return f"{found}T00:00:00Z"
        case _:
            return found


_READERS: dict[str, Callable[[Path, Columns], Iterator[Found]]] = {
    ".ndjson": _read_lines,
    ".jsonl": _read_lines,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
