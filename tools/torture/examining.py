"""Audits what a run left: a broker alone on its data, ClickHouse opened by us, and the auditor."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from query_api.history.database import connect
from tools.broker import EmbeddedBroker
from tools.settings import Settings
from tools.torture.audit import Report, Run, audit
from tools.torture.audit.evidence import KafkaEvidence


class _Stored:
    """The history of a home. One process at a time may have it open."""

    def __init__(self, dsn: str) -> None:
        self._client = connect(dsn)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of an answer."""
        rows: Sequence[Sequence[Any]] = self._client.query(statement).result_rows
        return [tuple(row) for row in rows]

    def close(self) -> None:
        """Let go of it."""
        self._client.close()


def examine_run(
    settings: Settings, journal: Path, ledger: dict[str, Any], console: Console
) -> Report:
    """Return what the audit of a stopped stack finds."""
    stored = _Stored(settings.clickhouse_dsn)
    try:
        with EmbeddedBroker(settings.home / "kafka") as broker:
            run = Run(journal, ledger, stored)
            return audit(KafkaEvidence(broker.bootstrap), run, console=console)
    finally:
        stored.close()
