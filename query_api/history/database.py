"""Opens ClickHouse, a server or chdb in this process, and brings its tables up to date."""

import hashlib
import threading
from pathlib import Path
from typing import NamedTuple

import clickhouse_connect
from clickhouse_connect.driver.client import Client

DATABASE = "litmus"
MIGRATIONS = Path(__file__).with_name("migrations")

INSERT_SETTINGS = {"async_insert": 0, "insert_deduplicate": 0}
"""Acknowledged means stored, and two equal inserts are two: keys tell repeats, not blocks."""

_opening = threading.Lock()

_APPLIED = """
CREATE TABLE IF NOT EXISTS migrations
(number UInt32, name String, sha256 String, applied_at DateTime DEFAULT now())
ENGINE = ReplacingMergeTree ORDER BY number
"""


class SchemaMismatchError(RuntimeError):
    """The tables are not those that this version makes."""


class Migration(NamedTuple):
    """One change of the tables."""

    number: int
    name: str
    statement: str

    @property
    def sha256(self) -> str:
        """Return what tells whether the file was changed after it was applied."""
        return hashlib.sha256(self.statement.encode()).hexdigest()


def connect(dsn: str, database: str = DATABASE) -> Client:
    """Return a client of ``database``, made if it is not there. One client per thread.

    chdb takes one process per path, and must not be open when a process forks.
    """
    with _opening:
        client = clickhouse_connect.get_client(dsn=dsn)
        client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
        client.database = database
        return client


def list_migrations(directory: Path = MIGRATIONS) -> list[Migration]:
    """Return the migrations in the order in which they apply: ``0001_name.sql`` and so on."""
    return [
        Migration(int(path.stem[:4]), path.stem[5:], path.read_text())
        for path in sorted(directory.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    ]


def migrate(client: Client, migrations: list[Migration]) -> list[Migration]:
    """Apply the migrations that were not, and return them.

    A crash in between is harmless: a statement applied twice changes nothing.

    Raises:
        SchemaMismatchError: If an applied one was changed, or is unknown to this version.
    """
    client.command(_APPLIED)
    rows = client.query("SELECT number, name, sha256 FROM migrations FINAL").result_rows
    applied = {number: (name, sha256) for number, name, sha256 in rows}
    known = {migration.number: migration for migration in migrations}
    for number, (name, sha256) in sorted(applied.items()):
        if number not in known:
            raise SchemaMismatchError(f"migration {number} {name!r} is of a newer version")
        if known[number].sha256 != sha256:
            raise SchemaMismatchError(f"migration {number} {name!r} was changed since")
    new = [migration for migration in migrations if migration.number not in applied]
    for migration in new:
        client.command(migration.statement)
        row = [migration.number, migration.name, migration.sha256]
        columns = ["number", "name", "sha256"]
        client.insert("migrations", [row], column_names=columns, settings=INSERT_SETTINGS)
    return new
