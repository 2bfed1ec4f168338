"""What ClickHouse holds is held to the log, row by row, and to the sums of every look."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.seeds import drawn
from tests.tools.torture_audit.stored import find

OF_WITNESS = "WHERE event_id = 'w-m'"


def differences(folder: Path, seeds: list[int], statement: str = "") -> list[list[str]]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        return apart.submit(find, str(folder), seeds, statement).result()


def test_a_history_that_is_whole_has_no_differences_and_sql_makes_the_same_sums(
    tmp_path: Path,
) -> None:
    found = differences(tmp_path, list(range(drawn(8))))

    assert found == [[]] * drawn(8)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (f"ALTER TABLE events DELETE {OF_WITNESS}", "rows: expected"),
        ("INSERT INTO events SELECT * REPLACE (row + 100 AS row) FROM events LIMIT 1", "rows:"),
        pytest.param(
            "INSERT INTO events SELECT * REPLACE (10000 AS kafka_offset) FROM events LIMIT 1",
            "expected none",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "ALTER TABLE events UPDATE timestamp = addMilliseconds(timestamp, 1) " + OF_WITNESS,
            "sums of timestamps",
            marks=pytest.mark.long,
        ),
        ("ALTER TABLE events UPDATE variant = 't' WHERE event_id = 'w-a'", "clickhouse sums: x"),
    ],
)
def test_a_history_that_lost_doubled_or_changed_a_row_is_found_out(
    tmp_path: Path, statement: str, says: str
) -> None:
    [found] = differences(tmp_path, [0], statement)

    assert any(says in line for line in found)
