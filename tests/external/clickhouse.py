"""ClickHouse in a process of its own, asked in SQL: chdb takes one engine per process.

``python -m tests.external.clickhouse`` answers JSON lines on stdin, each a statement, with JSON
lines, each the rows of the answer.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

CHECKOUT = Path(__file__).parents[2]


class RefusedError(Exception):
    """ClickHouse does not understand a statement, or cannot carry it out."""


class ClickHouse:
    """An engine that is asked; use it as a context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=CHECKOUT,
            text=True,
        )
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate(timeout=60)

    def ask(self, statement: str) -> list[dict[str, Any]]:
        """Return the rows of the answer, by column."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(statement)}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if isinstance(answer, str):
            raise RefusedError(answer)
        rows: list[dict[str, Any]] = answer
        return rows

    def fill(self, table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
        """Make a table of these rows; text in them must hold no quotes."""
        self.ask(f"CREATE OR REPLACE TABLE {table} ({columns}) ENGINE = Memory")
        values = ", ".join(f"({', '.join(map(repr, row))})" for row in rows)
        self.ask(f"INSERT INTO {table} VALUES {values}")


def main() -> None:
    """Answer until stdin ends."""
    from chdb.session import Session  # only the child may open an engine

    session = Session()
    for line in sys.stdin:
        try:
            answer = session.query(json.loads(line), "JSONEachRow")
        except RuntimeError as error:
            sys.stdout.write(f"{json.dumps(str(error))}\n")
        else:
            rows = [json.loads(row) for row in str(answer).splitlines() if row]
            sys.stdout.write(f"{json.dumps(rows)}\n")
        sys.stdout.flush()
    session.close()


if __name__ == "__main__":
    main()
