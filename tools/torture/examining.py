"""Audits what a run left: a broker alone on its data, ClickHouse opened by us, and the auditor."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from rich.console import Console
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from query_api.history.database import connect
from tools.broker import EmbeddedBroker, client_settings
from tools.settings import Settings
from tools.topics import partition_counts
from tools.torture.audit import Report, Run, audit
from tools.torture.audit.evidence import KafkaEvidence

LEADER_SECONDS_MAX = 60.0


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
    settings: Settings, journal: Path, ledger: dict[str, Any] | None, console: Console
) -> Report:
    """Return what the audit of a stopped stack finds."""
    stored = _Stored(settings.clickhouse_dsn)
    try:
        with EmbeddedBroker(settings.home / "kafka") as broker:
            _await_leaders(broker.bootstrap)
            run = Run(journal, ledger, stored)
            return audit(KafkaEvidence(broker.bootstrap), run, console=console)
    finally:
        stored.close()


def _await_leaders(bootstrap: str) -> None:
    """Wait until the broker leads all its partitions: it answers before it has loaded them."""
    consumer = Consumer(client_settings(bootstrap) | {"group.id": "litmus-torture-audit"})
    try:
        for topic, count in partition_counts(bootstrap).items():
            for number in range(count):
                for attempt in Retrying(
                    retry=retry_if_exception_type(KafkaException),
                    stop=stop_after_delay(LEADER_SECONDS_MAX),
                    wait=wait_fixed(0.1),
                    reraise=True,
                ):
                    with attempt:
                        consumer.get_watermark_offsets(TopicPartition(topic, number), 10)
    finally:
        consumer.close()
