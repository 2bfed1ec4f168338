"""The thread that copies the log into ClickHouse; after any failure it resumes at its progress."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from query_api.history.database import connect, list_migrations, migrate
from query_api.history.writer import TOPICS, HistoryWriter, Position, stored_positions
from query_api.kafka_log import LogReader, Source
from query_api.metrics import SINK_FAILURES, SINK_INSERT_SECONDS, SINK_LAG, SINK_TRIMMED

_log = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 1.0
RECORDS_MAX = 200
POLL_S = 0.1
PROGRESS_INTERVAL_S = 30.0
"""Progress over ticks alone is recorded this often: reading some again is cheap."""

RETRY_S_MAX = 15.0

HEAD_START_S = 5.0
"""Opening ClickHouse takes a second of CPU; what people look at comes first, or has so long."""


class Sink:
    """Copies events, late events, dead letters and looks.

    Args:
        kafka: Address of the broker.
        dsn: Of ClickHouse.
        database: There.
        is_shown: Whether the newest looks are served: copying waits for it a while.
        flush_interval_s: Seconds between two inserts.

    Attributes:
        begun: How far every partition was stored when this process began.
        caught_up: Whether all that the log held at the start is stored.
        failure: What stopped the sink last; None while it runs.
        log_ends: Where every partition ended when last heard of.
    """

    def __init__(
        self,
        kafka: str,
        dsn: str,
        database: str,
        *,
        is_shown: Callable[[], bool],
        flush_interval_s: float = FLUSH_INTERVAL_S,
    ) -> None:
        self._kafka = kafka
        self._dsn = dsn
        self._database = database
        self._is_shown = is_shown
        self._flush_interval_s = flush_interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)
        self._writer: HistoryWriter | None = None
        self.begun: Mapping[Source, Position] = {}
        self.log_ends: Mapping[Source, int] = {}
        self.caught_up = False
        self.failure: str | None = None

    def start(self) -> None:
        """Start copying."""
        self._thread.start()

    def stop(self) -> None:
        """Store what was read and stop; returns when the thread has ended."""
        self._stop.set()
        self._thread.join()

    @property
    def stored(self) -> Mapping[Source, Position]:
        """Return how far every partition is stored; empty before the sink has opened."""
        writer = self._writer
        return writer.stored if writer else {}

    def _run(self) -> None:
        begins_s = time.monotonic() + HEAD_START_S
        while not self._is_shown() and time.monotonic() < begins_s:
            if self._stop.wait(POLL_S):
                return
        retry_s = 1.0
        while not self._stop.is_set():
            started_s = time.monotonic()
            try:
                self._copy()
            except Exception as error:  # noqa: BLE001  # any failure has one cure
                SINK_FAILURES.inc()
                self.failure = f"{type(error).__name__}: {error}"
                _log.warning("the sink starts again in %.0f s: %s", retry_s, self.failure)
                self._stop.wait(retry_s)
                ran_well = time.monotonic() - started_s > RETRY_S_MAX + retry_s
                retry_s = 1.0 if ran_well else min(RETRY_S_MAX, 2 * retry_s)

    def _copy(self) -> None:
        client = connect(self._dsn, self._database)
        try:
            for migration in migrate(client, list_migrations()):
                _log.info("migrated to %d, %s", migration.number, migration.name)
            writer = HistoryWriter(client, stored_positions(client))
            resume = {source: position.next_offset for source, position in writer.stored.items()}
            reader = LogReader(self._kafka, TOPICS, start=lambda _: resume)
            try:
                self._follow(reader, writer)
            finally:
                reader.close()
        finally:
            client.close()

    def _follow(self, reader: LogReader, writer: HistoryWriter) -> None:
        reader.open(self._stop)
        for source, offset in reader.positions.items():
            if offset != writer.stored.get(source, Position(-1, 0)).next_offset:
                writer.start_at(source, offset)
        if reader.trimmed_count:
            SINK_TRIMMED.inc(reader.trimmed_count)
            _log.warning("%d records left the log before they were stored", reader.trimmed_count)
        if self._writer is None:
            self.begun = dict(writer.stored)
        self._writer = writer
        flushed_s = recorded_s = time.monotonic()
        while not self._stop.is_set():
            for record in reader.read(RECORDS_MAX, POLL_S):
                writer.take(record)
                if writer.is_full:
                    self._flush(writer, record_progress=True)
            now_s = time.monotonic()
            if now_s - flushed_s < self._flush_interval_s:
                continue
            is_due = now_s - recorded_s > PROGRESS_INTERVAL_S
            self._flush(writer, record_progress=is_due)
            self._note_progress(reader)
            flushed_s = time.monotonic()
            recorded_s = flushed_s if is_due else recorded_s
        self._flush(writer, record_progress=True)

    def _flush(self, writer: HistoryWriter, *, record_progress: bool) -> None:
        with SINK_INSERT_SECONDS.time():
            writer.flush(record_progress=record_progress)
        self.failure = None

    def _note_progress(self, reader: LogReader) -> None:
        self.log_ends = reader.known_ends()
        for source, end in self.log_ends.items():
            SINK_LAG.labels(*source).set(end - self.stored[source].next_offset)
        if not self.caught_up:
            stored = self.stored
            self.caught_up = all(
                stored[source].next_offset >= end for source, end in reader.ends.items()
            )
