"""Rows are judged as the gateway judges them, and batches depend on the files alone."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ingest_gateway.import_rows import sha256_of
from tools.errors import LitmusError
from tools.importing.reading import Found
from tools.importing.survey import BadRow, Span, batches, good_lines, survey

DAY_MS = 86_400_000
PLACE = Path("a.ndjson")


def row(number: int, **changed: Any) -> dict[str, Any]:
    fields = {
        "type": "metric",
        "unit_id": f"u-{number}",
        "metric": "buy",
        "value": float(number),
        "timestamp": (20_000 + number % 7) * DAY_MS,
    }
    return fields | changed


def found_in(rows: Iterable[dict[str, Any]]) -> list[Found]:
    return [Found(PLACE, number, one) for number, one in enumerate(rows, 1)]


def judged(rows: list[dict[str, Any]], span: Span | None = None) -> tuple[list[Any], list[BadRow]]:
    bad: list[BadRow] = []
    return list(good_lines(found_in(rows), span or Span(), bad.append)), bad


BAD: dict[str, dict[str, Any]] = {
    "unit_id": {"unit_id": ""},
    "value": {"value": float("nan")},
    "finite": {"value": float("inf")},
    "number": {"value": None},
    "metric": {"metric": "a b"},
    "RFC 3339": {"timestamp": "yesterday"},
    "string": {"unit_id": None},
    "1970": {"timestamp": -1},
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_row_is_told_with_its_place_and_what_is_wrong(message: str) -> None:
    lines, bad = judged([row(0), row(1, **BAD[message]), row(2)])

    assert [line.row.unit_id for line in lines] == ["u-0", "u-2"]
    assert [one.found.number for one in bad] == [2]
    assert message in str(bad[0])
    assert str(bad[0]).startswith("a.ndjson:2: ")


def test_days_that_were_not_asked_for_are_bad() -> None:
    lines, bad = judged([row(number) for number in range(7)], Span(20_001, 20_003))

    assert [line.row.day for line in lines] == [20_001, 20_002, 20_003]
    assert "2024-10-04 (UTC), must be of 2024-10-05 to 2024-10-07" in str(bad[0])


def test_a_survey_says_what_there_is() -> None:
    rows = [row(number, metric="ab"[number % 2]) for number in range(9)]
    lines, _ = judged(rows)
    found = survey(lines, None)

    assert (found.row_count, found.metrics) == (9, ["a", "b"])
    assert found.span == Span(20_000, 20_006)
    assert survey(lines, Span(1, 30_000)).span == Span(1, 30_000)
    assert survey(lines, None) == found
    assert survey(lines[::-1], None).sha256 != found.sha256
    with pytest.raises(LitmusError, match="no row"):
        survey([], None)


@pytest.mark.parametrize("seed", range(5))
def test_batches_are_the_same_wherever_bad_rows_fall(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    good = [row(number) for number in range(100)]
    mixed = list(good)
    for _ in range(20):
        mixed.insert(rng.randrange(len(mixed) + 1), row(0, **rng.choice(list(BAD.values()))))
    expected = [sha256_of([one.row for one in batch]) for batch in batches(judged(good)[0], 8)]
    for chunk_rows in (1, 7, 64, 1_000):
        monkeypatch.setattr("tools.importing.survey._CHUNK_ROWS", chunk_rows)
        lines, bad = judged(mixed)
        assert len(bad) == 20
        assert [sha256_of([one.row for one in batch]) for batch in batches(lines, 8)] == expected


def test_too_many_unit_types_stop_the_import() -> None:
    with pytest.raises(LitmusError, match="unit types"):
        judged([row(number, unit_type=f"t-{number}") for number in range(101)])
