"""Asks the brokers where partitions end.

With a client of its own: a consumer cannot be asked while another thread polls it. The client is
replaced after a failed answer, because it goes on asking under the leader epoch that it knew: a
broker that was killed and came back refuses that for ever.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from ingest_gateway.telemetry import report_end_question_failure

logger = logging.getLogger(__name__)

RENEWAL_INTERVAL_S = 1.0
"""A client is not replaced more often than this, however long the brokers stay away."""

RETIRED_S = 2.0
"""A replaced client is kept for so long after its last question had to be answered: with the client
the questions would go, and who waits for an answer would wait for ever."""

Answers = dict[TopicPartition, "Future[ListOffsetsResultInfo]"]


class LogEnds:
    """Questions about the ends of partitions.

    Args:
        config: How to connect.
        timeout_s: How long an answer may take.
    """

    def __init__(self, config: Mapping[str, object], *, timeout_s: float) -> None:
        self._config = dict(config)
        self._timeout_s = timeout_s
        self._admin = self._connect()
        self._renewed_at_s = time.monotonic()
        self._retired: list[tuple[float, AdminClient]] = []

    def ask(self, partitions: Iterable[TopicPartition]) -> Answers:
        """Ask; the answers are of a time after this call. Does not block."""
        answers: Answers = self._admin.list_offsets(
            {partition: OffsetSpec.latest() for partition in partitions},
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=self._timeout_s,
        )
        return answers

    def failed(self, error: Exception) -> None:
        """Say that an answer was an error: the next question goes out anew."""
        report_end_question_failure()
        now_s = time.monotonic()
        if now_s - self._renewed_at_s < RENEWAL_INTERVAL_S:
            return
        self._renewed_at_s = now_s
        kept_s = self._timeout_s + RETIRED_S
        self._retired = [one for one in self._retired if now_s - one[0] < kept_s]
        self._retired.append((now_s, self._admin))
        logger.warning("ends_unknown reason=%r; asking with a new connection", str(error))
        self._admin = self._connect()

    def _connect(self) -> AdminClient:
        return AdminClient(self._config, logger=logger)
