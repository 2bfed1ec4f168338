"""The Kafka door: plain JSON records in, packed batches out.

Run it with ``python -m ingest_gateway.kafka_door``.

An offset is committed only when every record below it is acknowledged as a row, a late row or a
dead letter. A delivery that fails ends the process; the next one starts at the last commit, and
what it sends again is known by its ids.
"""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient
from prometheus_client import generate_latest

from ingest_gateway.control_follower import ControlFollower, connection_config
from ingest_gateway.door_intake import DoorIntake, Record
from ingest_gateway.errors import ViewUnavailableError
from ingest_gateway.log_ends import LogEnds
from ingest_gateway.mark_rounds import ASK_TIMEOUT_S, MarkRounds, Source
from ingest_gateway.marks import Hand, SourceProgress
from ingest_gateway.producer import producer_config
from ingest_gateway.settings import KafkaDoorSettings
from ingest_gateway.sink import Message
from ingest_gateway.source_positions import committed_positions, last_marks, topic_ids_of
from ingest_gateway.telemetry import REGISTRY, Door, report_events, report_queued_rows
from ingest_gateway.warm_up import compile_kernels
from schemas.control import ControlState
from schemas.probe import serve_probe
from schemas.topics import SOURCES

logger = logging.getLogger(__name__)

GROUP = "litmus-kafka-door"
RECORDS_PER_BATCH = 5_000
GATHER_S = 0.025
"""How long records are gathered for a batch, unless there are many."""

RECORDS_UNDER_WAY_MAX = 50_000
MARK_AGE_S_MAX = 10.0
"""Without answers for longer than this the door is not ready: windows stay open meanwhile."""

COMMIT_INTERVAL_S = 0.2
FRESH_SECONDS_MAX = 60.0


class DoorFailedError(Exception):
    """The door cannot go on; a new process starts from the last commit."""


class KafkaDoor:
    """The loop of the door: one thread takes, sends, commits and marks.

    Args:
        settings: Settings.
        follower: Follows the control log, and is caught up.
        admin: Is asked for the ends of the sources.
        topic_ids: Topic -> its id.
        on_assigned: Called when the group has given partitions to this door, perhaps none.
    """

    def __init__(
        self,
        settings: KafkaDoorSettings,
        *,
        follower: ControlFollower,
        topic_ids: Mapping[str, str],
        on_assigned: Callable[[], None],
        on_marks: Callable[[bool], None],
    ) -> None:
        self._on_assigned = on_assigned
        self._on_marks = on_marks
        self._settings = settings
        self._follower = follower
        self._intake = DoorIntake(
            topic_ids=topic_ids,
            partition_count=settings.partitions,
            usable=lambda: follower.usable,
            fresh=self._fresh,
        )
        self._producer = Producer(
            producer_config(
                settings.kafka,
                client_id="litmus-kafka-door",
                message_timeout_ms=settings.delivery_timeout_ms,
            )
            | {"error_cb": self._on_producer_error},
            logger=logger,
        )
        self._marks = MarkRounds(
            self._send,
            LogEnds(connection_config(settings.kafka), timeout_s=ASK_TIMEOUT_S),
            interval_s=settings.mark_interval_ms / 1_000,
            clock_skew_ms=settings.clock_skew_ms,
        )
        self._sources: dict[Source, SourceProgress] = {}
        self._committed: dict[Source, int] = {}
        self._records_under_way = 0
        self._failure: str | None = None
        self._next_commit_s = 0.0
        self._consumer = Consumer(_consumer_config(settings), logger=logger)

    def run(self, is_stopping: threading.Event) -> None:
        """Take records until told to stop.

        Raises:
            DoorFailedError: If a delivery failed, or the view is not to be had.
            KafkaException: If reading cannot go on.
        """
        self._consumer.subscribe(
            [topic.name for topic in SOURCES],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        while not is_stopping.is_set():
            self._step()
        self._settle()
        self._consumer.close()

    def _step(self) -> None:
        self._poll_producer(0)
        if self._records_under_way < RECORDS_UNDER_WAY_MAX:
            self._take(self._consumer.consume(RECORDS_PER_BATCH, GATHER_S))
        else:
            self._poll_producer(GATHER_S)
        now_s = time.monotonic()
        self._marks.step(now_s, self._sources)
        moving = not self._sources or now_s - self._marks.answered_at_s < MARK_AGE_S_MAX
        self._on_marks(moving)
        if now_s >= self._next_commit_s:
            self._next_commit_s = now_s + COMMIT_INTERVAL_S
            self._commit(asynchronous=True)

    def _take(self, found: Sequence[KafkaMessage]) -> None:
        """Send what a run of records becomes, and note them as under way until acknowledged."""
        records, ends = self._sort_out(found)
        earliest_ms: dict[Source, int] = {}
        for record in records:
            source = (record.topic, record.partition)
            known_ms = earliest_ms.get(source, record.appended_ms)
            earliest_ms[source] = min(known_ms, record.appended_ms)
        hands = []
        for source, end in ends.items():
            progress = self._sources[source]
            if source in earliest_ms:
                hand = progress.take(next_offset=end, earliest_ms=earliest_ms[source])
                hands.append((progress, hand))
            else:
                progress.skip_to(end)
        if records:
            self._forward(records, hands)

    def _sort_out(self, found: Sequence[KafkaMessage]) -> tuple[list[Record], dict[Source, int]]:
        """Return the records, and where each source stands after them."""
        records: list[Record] = []
        ends: dict[Source, int] = {}
        for message in found:
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
                _raise_if_lasting(error)
                continue
            source = (message.topic(), message.partition())
            if source not in self._sources:
                continue  # read before the partition was taken away
            if error is None:
                records.append(_record(message))
                ends[source] = message.offset() + 1
            else:
                ends[source] = max(message.offset(), self._sources[source].position)
        return records, ends

    def _forward(
        self, records: Sequence[Record], hands: Sequence[tuple[SourceProgress, Hand]]
    ) -> None:
        outgoing = self._intake.take(records)
        pending = len(outgoing.messages)
        self._count(len(records))

        def acknowledged(_stamp_ms: int) -> None:
            nonlocal pending
            pending -= 1
            if pending:
                return
            for progress, hand in hands:
                progress.acknowledge(hand)
            self._count(-len(records))
            report_events(
                Door.KAFKA,
                accepted=outgoing.accepted,
                late=outgoing.late,
                rejections=outgoing.rejections,
            )

        for message in outgoing.messages:
            self._send(message, acknowledged)

    def _send(self, message: Message, acknowledged: Callable[[int], None]) -> None:
        def on_delivery(error: KafkaError | None, delivered: KafkaMessage) -> None:
            if error is not None:
                self._failure = f"{message.topic} did not take a message: {error.str()}"
            else:
                acknowledged(delivered.timestamp()[1])

        while True:
            try:
                self._producer.produce(
                    message.topic,
                    message.value,
                    message.key,
                    message.partition,
                    on_delivery,
                    headers=list(message.headers),
                )
            except BufferError:
                self._poll_producer(GATHER_S)
            else:
                return

    def _poll_producer(self, timeout_s: float) -> None:
        self._producer.poll(timeout_s)
        if self._failure is not None:
            raise DoorFailedError(self._failure)

    def _settle(self) -> None:
        """Wait until nothing is under way, then commit."""
        while not all(progress.is_settled for progress in self._sources.values()):
            self._poll_producer(GATHER_S)
        self._commit(asynchronous=False)

    def _commit(self, *, asynchronous: bool) -> None:
        offsets = {source: progress.committable for source, progress in self._sources.items()}
        changed = [
            TopicPartition(*source, offset)
            for source, offset in offsets.items()
            if offset != self._committed.get(source)
        ]
        if not changed:
            return
        try:
            self._consumer.commit(offsets=changed, asynchronous=asynchronous)
            self._committed.update(offsets)
        except KafkaException as error:
            # The next commit holds it too; until then a restart sends a little more again.
            logger.warning("commit_failed reason=%r", error.args[0].str())

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        positions = committed_positions(consumer, partitions)
        marks = last_marks(self._settings.kafka)
        for source, position in positions.items():
            self._sources[source] = SourceProgress(position, marks.get(source, 0))
            self._committed[source] = position
        consumer.assign([TopicPartition(*source, at) for source, at in positions.items()])
        self._on_assigned()
        logger.info("partitions_assigned sources=%s", sorted(self._sources))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._settle()
        self._forget(partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget(partitions)

    def _forget(self, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            self._sources.pop((one.topic, one.partition), None)
        logger.info("partitions_left sources=%s", sorted(self._sources))

    def _on_producer_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._failure = error.str()

    def _fresh(self) -> ControlState:
        """Return a fresh view; nothing is refused without one, however long that takes."""
        deadline_s = time.monotonic() + FRESH_SECONDS_MAX
        while True:
            try:
                return self._follower.fresh_blocking()
            except ViewUnavailableError as error:
                if time.monotonic() > deadline_s:
                    raise DoorFailedError(str(error)) from error
                logger.warning("view_unavailable reason=%r", str(error))

    def _count(self, records: int) -> None:
        self._records_under_way += records
        report_queued_rows(Door.KAFKA, self._records_under_way)


def _record(message: KafkaMessage) -> Record:
    kind, appended_ms = message.timestamp()
    if kind != TIMESTAMP_LOG_APPEND_TIME:
        text = f"{message.topic()} has message.timestamp.type CreateTime, must be LogAppendTime"
        raise DoorFailedError(text)
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value() or b"",
        appended_ms,
    )


def _raise_if_lasting(error: KafkaError) -> None:
    lasting = (KafkaError._AUTO_OFFSET_RESET, KafkaError._MAX_POLL_EXCEEDED)  # noqa: SLF001  # public names
    if error.fatal() or error.code() in lasting:
        raise KafkaException(error)
    logger.warning("consumer_error code=%s reason=%r", error.name(), error.str())


def _consumer_config(settings: KafkaDoorSettings) -> dict[str, Any]:
    return connection_config(settings.kafka) | {
        "client.id": "litmus-kafka-door",
        "group.id": GROUP,
        "group.instance.id": settings.instance,
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 1_000,
        "enable.auto.commit": False,
        # Where to start is decided on assignment; to jump later would be to skip records.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "queued.max.messages.kbytes": 32_768,
    }


def main() -> int:
    """Run the door until SIGTERM; return the exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(levelname)s %(name)s %(message)s", stream=sys.stdout
    )
    settings = KafkaDoorSettings()
    is_stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: is_stopping.set())
    state = {"control_log_read": False, "group_joined": False, "marks_move": False}
    serve_probe(
        settings.probe_port,
        readiness=lambda: {"ready": all(state.values())} | state,
        metrics=lambda: generate_latest(REGISTRY),
        host=settings.bind,
    )
    compile_kernels()
    try:
        run_door(settings, state, is_stopping)
    except (DoorFailedError, KafkaException):
        logger.exception("kafka_door_failed")
        return 1
    return 0


def run_door(
    settings: KafkaDoorSettings, state: dict[str, bool], is_stopping: threading.Event
) -> None:
    """Run the door until told to stop, noting in ``state`` how far its start got."""
    failures: list[Exception] = []

    def on_failure(error: Exception) -> None:
        failures.append(error)
        is_stopping.set()

    admin = AdminClient(connection_config(settings.kafka), logger=logger)
    follower = ControlFollower(settings.kafka, on_failure=on_failure)
    follower.start()
    try:
        topic_ids = _await_topic_ids(admin, is_stopping)
        while not follower.is_caught_up and not is_stopping.wait(0.05):
            pass
        state["control_log_read"] = follower.is_caught_up
        if not is_stopping.is_set():
            door = KafkaDoor(
                settings,
                follower=follower,
                topic_ids=topic_ids,
                on_assigned=lambda: state.update(group_joined=True),
                on_marks=lambda moving: state.update(marks_move=moving),
            )
            door.run(is_stopping)
    finally:
        follower.stop()
    if failures:
        raise DoorFailedError("the control log cannot be followed") from failures[0]


def _await_topic_ids(admin: AdminClient, is_stopping: threading.Event) -> dict[str, str]:
    while not is_stopping.is_set():
        try:
            return topic_ids_of(admin)
        except KafkaException as error:
            logger.info("topics_awaited reason=%r", error.args[0].str())
            is_stopping.wait(0.2)
    return {}


if __name__ == "__main__":
    sys.exit(main())
