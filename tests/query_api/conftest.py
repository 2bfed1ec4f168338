"""chdb takes one engine per process: one path for all tests, and tables emptied for each."""

import uuid
from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from query_api.history.database import connect, list_migrations, migrate


@pytest.fixture(scope="session")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"chdb://{tmp_path_factory.mktemp('clickhouse')}"


@pytest.fixture
def fresh_database(dsn: str) -> Iterator[str]:
    """The name of a database that nobody else has."""
    name = f"test_{uuid.uuid4().hex}"
    yield name
    client = connect(dsn, name)
    client.command(f"DROP DATABASE {name}")
    client.close()


@pytest.fixture(scope="session")
def database(dsn: str) -> str:
    """The name of a database with all tables, shared by the tests that only fill them."""
    client = connect(dsn, "test_shared")
    migrate(client, list_migrations())
    client.close()
    return "test_shared"


@pytest.fixture
def client(dsn: str, database: str) -> Iterator[Client]:
    """A client of that database, with its tables empty."""
    client = connect(dsn, database)
    query = (
        "SELECT name FROM system.tables WHERE database = currentDatabase()"
        " AND total_rows > 0 AND name != 'migrations'"
    )
    for (table,) in client.query(query).result_rows:
        client.command(f"TRUNCATE TABLE {table}")
    yield client
    client.close()
