"""Tables are made by numbered files, each applied once, in order, and never changed afterwards."""

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from query_api.history.database import (
    Migration,
    SchemaMismatchError,
    connect,
    list_migrations,
    migrate,
)


@pytest.fixture
def client(dsn: str, fresh_database: str) -> Iterator[Client]:
    """A client of a migrated database that a test may spoil."""
    client = connect(dsn, fresh_database)
    migrate(client, list_migrations())
    yield client
    client.close()


def test_every_migration_is_applied_once(dsn: str, client: Client, fresh_database: str) -> None:
    again = connect(dsn, fresh_database)

    assert migrate(again, list_migrations()) == []
    tables = {name for (name,) in client.query("SHOW TABLES").result_rows}
    assert {"events", "late", "batches", "dead_letters", "looks", "progress"} <= tables


def test_migrations_are_numbered_without_a_gap() -> None:
    numbers = [migration.number for migration in list_migrations()]

    assert numbers == list(range(1, len(numbers) + 1))


def test_a_crash_between_a_statement_and_its_note_is_mended(client: Client) -> None:
    client.command("ALTER TABLE migrations DELETE WHERE number = 3 SETTINGS mutations_sync = 1")

    assert [migration.number for migration in migrate(client, list_migrations())] == [3]


def test_a_migration_changed_after_it_was_applied_is_refused(client: Client) -> None:
    first, *rest = list_migrations()
    changed = Migration(first.number, first.name, first.statement + "-- changed")

    with pytest.raises(SchemaMismatchError, match="migration 1 'events' was changed"):
        migrate(client, [changed, *rest])


def test_tables_of_a_newer_version_are_refused(client: Client) -> None:
    with pytest.raises(SchemaMismatchError, match="newer version"):
        migrate(client, list_migrations()[:-1])
