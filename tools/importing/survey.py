"""What files hold, judged as the gateway judges it, before anything is sent; and their batches.

Batches are a function of the files and the options alone: whoever sends them, and whenever, a
number has the same rows.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import msgspec

from ingest_gateway.import_rows import Row, RowCode, read_rows
from ingest_gateway.validator import BodyForm
from schemas.control import Import
from tools.errors import LitmusError
from tools.importing.reading import Found

LAST_DAY = 2_932_896
"""The last of 9999."""

_CHUNK_ROWS = 5_000


class BadRow(NamedTuple):
    """A row that no gateway would take."""

    found: Found
    problem: str

    def __str__(self) -> str:
        """Return it for a person, its place first."""
        return f"{self.found.path}:{self.found.number}: {self.problem}"


class Line(NamedTuple):
    """A good row, and as the line that is sent."""

    row: Row
    line: bytes


class Span(NamedTuple):
    """Days that are imported, both included, in days since 1970-01-01."""

    first_day: int = 0
    last_day: int = LAST_DAY


class Survey(NamedTuple):
    """What the files hold.

    Attributes:
        row_count: Good rows.
        metrics: Their names.
        span: Days of the rows, or those that were asked for.
        sha256: Of the good rows in their order, in hex.
    """

    row_count: int
    metrics: list[str]
    span: Span
    sha256: str


OnBad = Callable[[BadRow], None]


def good_lines(rows: Iterable[Found], span: Span, on_bad: OnBad) -> Iterator[Line]:
    """Yield the rows that keep every rule; the others are told to ``on_bad``."""
    remaining = iter(rows)
    while chunk := list(islice(remaining, _CHUNK_ROWS)):
        yield from _good_of(chunk, span, on_bad)


def survey(lines: Iterable[Line], span: Span | None) -> Survey:
    """Return what good rows amount to.

    Raises:
        LitmusError: If there is none.
    """
    digest, metrics = hashlib.sha256(), set[str]()
    count, first_day, last_day = 0, LAST_DAY, 0
    for line in lines:
        digest.update(msgspec.json.encode(line.row))
        metrics.add(line.row.metric)
        first_day, last_day = min(first_day, line.row.day), max(last_day, line.row.day)
        count += 1
    if not count:
        raise LitmusError("The files hold no row to import.")
    found = span or Span(first_day, last_day)
    return Survey(count, sorted(metrics), found, digest.hexdigest())


def batches(lines: Iterable[Line], rows_per_batch: int) -> Iterator[list[Line]]:
    """Yield batch 1, 2, … of the rows; only the last may be smaller."""
    remaining = iter(lines)
    while batch := list(islice(remaining, rows_per_batch)):
        yield batch


def _good_of(chunk: list[Found], span: Span, on_bad: OnBad) -> list[Line]:
    """Return the good rows of a chunk: bad ones are left out until none is."""
    kept: list[tuple[Found, bytes]] = []
    for found in chunk:
        if found.row is None:
            on_bad(BadRow(found, found.problem))
        else:
            # Not msgspec: it writes NaN as null, and the row would be refused for another reason.
            kept.append((found, json.dumps(found.row, default=str).encode()))
    while kept:
        rows, problems = _judged(kept, span)
        if not problems:
            lines = [line for _, line in kept]
            return [Line(row, line) for row, line in zip(rows, lines, strict=True)]
        for index, problem in sorted(problems.items()):
            on_bad(BadRow(kept[index][0], problem))
        kept = [one for index, one in enumerate(kept) if index not in problems]
    return []


def _judged(kept: list[tuple[Found, bytes]], span: Span) -> tuple[list[Row], dict[int, str]]:
    """Return the rows as the gateway would take them, or what is wrong with which."""
    metrics = {found.row.get("metric") for found, _ in kept if found.row}
    names = [name for name in metrics if isinstance(name, str)]
    declared = Import("files", 0, names, span.first_day, span.last_day)
    body = b"\n".join(line for _, line in kept)
    rows, errors = read_rows(body, BodyForm.NDJSON, declared)
    for error in errors:
        if error.code == RowCode.TOO_MANY_UNIT_TYPES:
            raise LitmusError(f"{kept[error.index][0].path}: {error.message}, must be fewer")
    return rows, {error.index: error.message for error in errors}
