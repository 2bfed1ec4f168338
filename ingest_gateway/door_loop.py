"""The loop of the Kafka door: one thread takes, sends, commits and marks.

An offset is committed only when every record below it is acknowledged as a row, a late row or a
dead letter. A delivery that fails ends the process; the next one starts at the last commit. Rows
that it sends again are known by their ids; late rows and dead letters may then stand there twice.

Where going on would lose something, the door halts: it lives, holds its partitions, takes nothing,
is not ready, and says why until an operator has done something about it. A process that ended
instead would only be started again, and at last take the whole stack with it.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage

from ingest_gateway.control_follower import ControlFollower, connection_config
from ingest_gateway.dead_letter_ceiling import DeadLetterCeiling
from ingest_gateway.door_intake import DoorIntake, Outgoing, Record
from ingest_gateway.errors import ViewUnavailableError
from ingest_gateway.log_ends import LogEnds
from ingest_gateway.mark_rounds import ASK_TIMEOUT_S, MarkRounds, Source
from ingest_gateway.marks import Hand, SourceProgress
from ingest_gateway.offset_commits import OffsetCommits
from ingest_gateway.producer import producer_config
from ingest_gateway.settings import KafkaDoorSettings
from ingest_gateway.sink import Message
from ingest_gateway.source_positions import committed_positions, last_marks
from ingest_gateway.telemetry import (
    Door,
    Halt,
    report_dead_letters,
    report_door_halted,
    report_events,
    report_queued_rows,
)
from schemas.control import ControlState
from schemas.topics import DEAD_LETTERS, DOOR_GROUP, SOURCES

logger = logging.getLogger(__name__)

RECORDS_PER_BATCH = 5_000
GATHER_S = 0.025
"""How long records are gathered for a batch, unless there are many."""

RECORDS_UNDER_WAY_MAX = 50_000
MARK_AGE_S_MAX = 10.0
"""Without answers for longer than this the door is not ready: windows stay open meanwhile."""

COMMIT_INTERVAL_S = 0.2
COMMIT_ANSWER_S = 2.0
"""A commit that is not answered, or failed, is sent again after this."""

FRESH_SECONDS_MAX = 60.0

HALT_POLL_S = 0.1
HALT_REPEAT_S = 30.0
"""A door that stands still says so this often."""


class DoorFailedError(Exception):
    """The door cannot go on; a new process starts from the last commit."""


class _Waiting(NamedTuple):
    """What was read and may not be sent yet."""

    record_count: int
    outgoing: Outgoing
    hands: Sequence[tuple[SourceProgress, Hand]]


class KafkaDoor:
    """The loop of the door.

    Args:
        settings: Settings.
        follower: Follows the control log, and is caught up.
        topic_ids: Topic -> its id.
        on_assigned: Called when the group has given partitions to this door, perhaps none.
        on_marks: Told whether marks move.
        on_halt: Told why the door stands still; None when it goes on.
    """

    def __init__(
        self,
        settings: KafkaDoorSettings,
        *,
        follower: ControlFollower,
        topic_ids: Mapping[str, str],
        on_assigned: Callable[[], None],
        on_marks: Callable[[bool], None],
        on_halt: Callable[[str | None], None],
    ) -> None:
        self._on_assigned = on_assigned
        self._on_marks = on_marks
        self._on_halt = on_halt
        self._ceiling = DeadLetterCeiling(settings.dead_letter_bytes_per_hour)
        self._waiting: _Waiting | None = None
        self._halted: Halt | None = None
        self._halt_said_at_s = 0.0
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
        self._gap: str | None = None
        self._commits = OffsetCommits()
        self._records_under_way = 0
        self._failure: str | None = None
        self._next_commit_s = 0.0
        self._consumer = Consumer(
            _consumer_config(settings) | {"on_commit": self._on_commit}, logger=logger
        )

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
        if self._waiting is not None:  # it is not committed: the next process reads it again
            self._count(-self._waiting.record_count)
            self._waiting = None
        self._consumer.close()

    def _step(self) -> None:
        self._poll_producer(0)
        if self._halted is not None:
            self._stand_still()
        elif self._records_under_way < RECORDS_UNDER_WAY_MAX:
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
        self._count(len(records))
        self._waiting = _Waiting(len(records), outgoing, hands)
        self._send_waiting()

    def _send_waiting(self) -> None:
        """Send what was read, if its dead letters fit; else stand still until they do."""
        assert self._waiting is not None
        record_count, outgoing, hands = self._waiting
        now_s = time.monotonic()
        if not self._ceiling.has_room(outgoing.dead_letter_bytes, now_s):
            self._halt(Halt.DEAD_LETTERS, _dead_letters_full(self._ceiling, outgoing))
            return
        if outgoing.dead_letter_bytes:
            self._ceiling.add(outgoing.dead_letter_bytes, now_s)
            report_dead_letters(Door.KAFKA, outgoing.dead_letter_bytes)
        self._waiting = None
        self._go_on(Halt.DEAD_LETTERS)
        pending = len(outgoing.messages)

        def acknowledged(_stamp_ms: int) -> None:
            nonlocal pending
            pending -= 1
            if pending:
                return
            for progress, hand in hands:
                progress.acknowledge(hand)
            self._count(-record_count)
            report_events(
                Door.KAFKA,
                accepted=outgoing.accepted,
                late=outgoing.late,
                rejections=outgoing.rejections,
            )

        for message in outgoing.messages:
            self._send(message, acknowledged)

    def _halt(self, why: Halt, text: str) -> None:
        """Take nothing more; say why, now and every half minute."""
        now_s = time.monotonic()
        if self._halted is None:
            self._halted = why
            self._halt_said_at_s = now_s - HALT_REPEAT_S
            report_door_halted(why, is_halted=True)
            self._on_halt(text)
            self._consumer.pause([TopicPartition(*source) for source in self._sources])
        if now_s - self._halt_said_at_s >= HALT_REPEAT_S:
            self._halt_said_at_s = now_s
            logger.error("kafka_door_halted reason=%s %s", why, text)

    def _go_on(self, after: Halt) -> None:
        if self._halted is after:
            self._halted = None
            report_door_halted(after, is_halted=False)
            self._on_halt(None)
            self._consumer.resume([TopicPartition(*source) for source in self._sources])
            logger.info("kafka_door_goes_on after=%s", after)

    def _stand_still(self) -> None:
        """Stay in the group, and look whether it can go on."""
        if (message := self._consumer.poll(HALT_POLL_S)) is not None and message.error() is None:
            text = f"{message.topic()}/{message.partition()} was read while the door stood still"
            raise DoorFailedError(text)
        if self._waiting is not None:
            self._send_waiting()
        elif self._gap is not None:
            self._halt(Halt.SOURCE_GAP, self._gap)

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
        """Wait until nothing is under way but what may not be sent, then commit."""
        held = self._waiting.record_count if self._waiting is not None else 0
        while self._records_under_way > held:
            self._poll_producer(GATHER_S)
        self._commit(asynchronous=False)

    def _commit(self, *, asynchronous: bool) -> None:
        offsets = {source: progress.committable for source, progress in self._sources.items()}
        due = self._commits.due(offsets)
        if not due:
            return
        self._next_commit_s = time.monotonic() + COMMIT_ANSWER_S
        try:
            answered = self._consumer.commit(offsets=due, asynchronous=asynchronous)
        except KafkaException as error:
            # The next commit holds it too; until then a restart sends a little more again.
            logger.warning("commit_failed reason=%r", error.args[0].str())
        else:
            if answered is not None:
                self._commits.answered(None, answered)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._commits.answered(error, partitions)
        if error is None:
            self._next_commit_s = time.monotonic() + COMMIT_INTERVAL_S

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        marks = last_marks(self._settings.kafka)
        starts, self._gap, committed = committed_positions(
            consumer,
            partitions,
            marked=marks,
            accepts_gaps=self._settings.source_gaps == "accept",
        )
        if self._gap is not None:
            consumer.assign([])
            self._on_assigned()
            self._halt(Halt.SOURCE_GAP, self._gap)
            return
        for source, start in starts.items():
            self._sources[source] = SourceProgress(start, marks.get(source, 0))
            self._commits.begin(source, committed.get(source))
        consumer.assign([TopicPartition(*source, at) for source, at in starts.items()])
        self._go_on(Halt.SOURCE_GAP)
        self._on_assigned()
        logger.info("partitions_assigned sources=%s", sorted(self._sources))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._settle()
        self._forget(partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget(partitions)

    def _forget(self, partitions: list[TopicPartition]) -> None:
        if self._waiting is not None:
            # Its records may be another door's now; the next process reads them where they stand.
            raise DoorFailedError("partitions were taken away while records waited to be sent")
        for one in partitions:
            self._sources.pop((one.topic, one.partition), None)
            self._commits.forget((one.topic, one.partition))
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


def _dead_letters_full(ceiling: DeadLetterCeiling, outgoing: Outgoing) -> str:
    first = outgoing.rejections[0]
    return (
        f"more than {ceiling.bytes_per_hour_max} bytes would go to {DEAD_LETTERS.name} within an "
        f"hour, the next {len(outgoing.rejections)} records for {first.code}: {first.message}. "
        "Nothing is lost: records stay on their topics, windows stay open. Stop who sends them, "
        "or raise LITMUS_DEAD_LETTER_BYTES_PER_HOUR; the door goes on by itself when there is room"
    )


# A consumer that was fenced says so in every poll as the first of these, and ``fatal()`` is false.
_LASTING = (KafkaError._FATAL, KafkaError._AUTO_OFFSET_RESET, KafkaError._MAX_POLL_EXCEEDED)  # noqa: SLF001  # public names


def _raise_if_lasting(error: KafkaError) -> None:
    if error.fatal() or error.code() in _LASTING:
        raise KafkaException(error)
    logger.warning("consumer_error code=%s reason=%r", error.name(), error.str())


def _consumer_config(settings: KafkaDoorSettings) -> dict[str, Any]:
    return connection_config(settings.kafka) | {
        "client.id": "litmus-kafka-door",
        "group.id": DOOR_GROUP,
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
