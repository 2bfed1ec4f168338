"""Runs whose history is in a ClickHouse of its own. chdb takes one path per process: run apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clickhouse_connect.driver.client import Client

from query_api.history.database import INSERT_SETTINGS, connect, list_migrations, migrate
from query_api.history.rows import PackedBatch, event_rows
from schemas.batch import read_batch
from schemas.topics import KIND_BATCH
from tests.tools.torture_audit.worlds import Outcome, make_world, run_world
from tools.torture.audit import audit

_NOW = {"mutations_sync": 1}


class _Stored:
    def __init__(self, client: Client) -> None:
        self._client = client

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._client.query(statement).result_rows]


@contextmanager
def _storing(client: Client, seed: int) -> Iterator[Outcome]:
    """Yield a run whose rows are stored."""
    outcome = run_world(make_world(seed))
    batches = [
        PackedBatch(number, message.offset, read_batch(message.value))
        for number in outcome.evidence.partitions()
        for message in outcome.evidence.events(number)
        if message.kind == KIND_BATCH
    ]
    client.insert_arrow("events", event_rows(batches), settings=INSERT_SETTINGS)
    yield Outcome(outcome.evidence, outcome.run._replace(history=_Stored(client)))
    client.command("TRUNCATE TABLE events")


def find(folder: str, seeds: list[int], statement: str) -> list[list[str]]:
    """Return the differences of runs after a statement has changed what is stored of them."""
    client = connect(f"chdb://{folder}")
    migrate(client, list_migrations())
    found, sums = [], 0
    for seed in seeds:
        with _storing(client, seed) as outcome:
            if statement:
                client.command(statement, settings=_NOW)
            report = audit(outcome.evidence, outcome.run, processes=1)
            assert report.compared["clickhouse"] > 50
            sums += report.compared.get("clickhouse sums", 0)
            found.append(report.differences)
    client.close()
    assert sums > 5
    return found
