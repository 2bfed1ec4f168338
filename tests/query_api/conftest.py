"""chdb takes one engine per process: one path for all tests, a database for each."""

import uuid
from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from query_api.history.database import connect, list_migrations, migrate


@pytest.fixture(scope="session")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"chdb://{tmp_path_factory.mktemp('clickhouse')}"


@pytest.fixture
def database() -> str:
    return f"test_{uuid.uuid4().hex}"


@pytest.fixture
def client(dsn: str, database: str) -> Iterator[Client]:
    """A client of an empty, migrated database."""
    client = connect(dsn, database)
    migrate(client, list_migrations())
    yield client
    client.command(f"DROP DATABASE {database}")
    client.close()
