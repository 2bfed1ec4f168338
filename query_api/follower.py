"""The thread that reads ``litmus.snapshots`` and ``litmus.ledger``, from their beginning."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import msgspec
from confluent_kafka import KafkaException, Message

from query_api.backlog import Backlog
from query_api.kafka_log import LogReader, LogTruncatedError
from query_api.metrics import EXPERIMENTS, SNAPSHOT_RECORDS
from query_api.snapshots import Snapshots
from schemas.topics import LEDGER, SNAPSHOTS

_log = logging.getLogger(__name__)

RECORDS_MAX = 1_000
POLL_S = 0.2
RETRY_S = 1.0


class Follower:
    """Keeps ``snapshots`` current and says what changed. Kafka may come and go."""

    def __init__(
        self, kafka: str, snapshots: Snapshots, publish: Callable[[Iterable[str]], None]
    ) -> None:
        self._kafka = kafka
        self._snapshots = snapshots
        self._publish = publish
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; returns when the thread has ended."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            reader = LogReader(self._kafka, (SNAPSHOTS.name, LEDGER.name), start=lambda _: {})
            try:
                self._follow(reader)
            except (KafkaException, LogTruncatedError) as error:
                _log.warning("snapshots cannot be read, trying again: %s", error)
                self._stop.wait(RETRY_S)
            finally:
                reader.close()

    def _follow(self, reader: LogReader) -> None:
        reader.open(self._stop)
        backlog: Backlog | None = Backlog()  # until all that was there at the start is read
        while not self._stop.is_set():
            changed: dict[str, None] = {}
            if backlog is not None and _is_read(reader):
                for key, value in backlog.records():
                    with _unreadable_counted(f"the snapshot of {key}"):
                        self._take(key, value, changed)
                SNAPSHOT_RECORDS.labels("superseded").inc(backlog.left_out)
                backlog = None
                self._snapshots.caught_up = True
            for record in reader.read(RECORDS_MAX, POLL_S):
                place = f"{record.topic()}/{record.partition()} offset {record.offset()}"
                with _unreadable_counted(place):
                    self._read(record, backlog, changed)
            EXPERIMENTS.set(len(self._snapshots))
            self._publish(changed)

    def _read(self, record: Message, backlog: Backlog | None, changed: dict[str, None]) -> None:
        if record.topic() == LEDGER.name:
            self._snapshots.take_ledger(record.value())
            return
        experiment_id = (record.key() or b"").decode()
        if backlog is None:
            self._take(experiment_id, record.value(), changed)
        else:
            backlog.add(experiment_id, record.value())

    def _take(self, experiment_id: str, value: bytes | None, changed: dict[str, None]) -> None:
        is_news = self._snapshots.take(experiment_id, value)
        SNAPSHOT_RECORDS.labels("news" if is_news else "repeat").inc()
        if is_news:
            changed[experiment_id] = None


def _is_read(reader: LogReader) -> bool:
    """Return whether all that was there when the reader opened has been read."""
    return all(reader.positions[source] >= end for source, end in reader.ends.items())


@contextmanager
def _unreadable_counted(what: str) -> Iterator[None]:
    """Leave out what is no record of ours: count it, and say where it was."""
    try:
        yield
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError) as error:
        SNAPSHOT_RECORDS.labels("unreadable").inc()
        _log.warning("%s is unreadable: %s", what, error)
