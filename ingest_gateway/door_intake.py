"""Records of the Kafka door become messages: judged and packed together."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from ingest_gateway.dead_letter_ceiling import bytes_of
from ingest_gateway.dead_letters import Source, dead_letter
from ingest_gateway.errors import CONTROL_CODES, Rejection
from ingest_gateway.events import Admitted
from ingest_gateway.group_commit import messages_of
from ingest_gateway.packer import pack, pack_late
from ingest_gateway.rules import Verdict
from ingest_gateway.sink import Message
from ingest_gateway.telemetry import Door, report_batch
from ingest_gateway.validator import Records, RejectedItem, admit_records
from schemas.control import ControlState
from schemas.topics import ASSIGNMENTS, EVENTS, LATE, METRICS

TOPIC_TYPES: Mapping[str, Literal["assignment", "metric"]] = {
    ASSIGNMENTS.name: "assignment",
    METRICS.name: "metric",
}


class Record(NamedTuple):
    """A producer's record.

    Attributes:
        topic: ``litmus.assignments`` or ``litmus.metrics``.
        partition: Its partition.
        offset: Its offset.
        key: Its key; no part of the event.
        value: One event as JSON.
        appended_ms: When the broker appended it: that is when it was received.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    appended_ms: int


class Outgoing(NamedTuple):
    """What records amount to.

    Attributes:
        messages: Every record is in one of them, as a row or as a dead letter.
        accepted: How many count.
        late: How many are too late to count.
        rejections: Why the others are refused.
        dead_letter_bytes: What of it is for ``litmus.dlq``.
    """

    messages: list[Message]
    accepted: int
    late: int
    rejections: list[Rejection]
    dead_letter_bytes: int


class DoorIntake:
    """Turns records into messages.

    Args:
        topic_ids: Topic -> its id: a record without an event id is known by where it stands.
        partition_count: Partitions of ``litmus.events``.
        usable: Returns the present view of the control log.
        fresh: Returns a view that holds every change answered before the call.
    """

    def __init__(
        self,
        *,
        topic_ids: Mapping[str, str],
        partition_count: int,
        usable: Callable[[], ControlState],
        fresh: Callable[[], ControlState],
    ) -> None:
        self._topic_ids = topic_ids
        self._partition_count = partition_count
        self._usable = usable
        self._fresh = fresh

    def take(self, records: Sequence[Record]) -> Outgoing:
        """Return the messages that ``records`` become."""
        verdicts: list[Verdict | RejectedItem] = self._judge(records, self._usable())
        doubtful = [row for row, verdict in enumerate(verdicts) if _depends_on_control(verdict)]
        if doubtful:
            again = self._judge([records[row] for row in doubtful], self._fresh())
            for row, verdict in zip(doubtful, again, strict=True):
                verdicts[row] = verdict
        accepted = [one.event for one in verdicts if isinstance(one, Verdict) and not one.is_late]
        late = [one.event for one in verdicts if isinstance(one, Verdict) and one.is_late]
        letters, rejections = _set_aside(records, verdicts)
        return Outgoing(
            [*self._packed(accepted, late), *letters],
            len(accepted),
            len(late),
            rejections,
            bytes_of(letters),
        )

    def _judge(
        self, records: Sequence[Record], control: ControlState
    ) -> list[Verdict | RejectedItem]:
        """Return a verdict for every record; those of a topic are judged together."""
        rows_of: defaultdict[str, list[int]] = defaultdict(list)
        for row, record in enumerate(records):
            rows_of[record.topic].append(row)
        verdicts: dict[int, Verdict | RejectedItem] = {}
        for topic, rows in rows_of.items():
            found = admit_records(self._records([records[row] for row in rows], topic), control)
            verdicts |= zip(rows, found, strict=True)
        return [verdicts[row] for row in range(len(records))]

    def _records(self, records: Sequence[Record], topic: str) -> Records:
        topic_id = self._topic_ids[topic]

        def id_of(row: int) -> str:
            return f"{topic_id}/{records[row].partition}/{records[row].offset}"

        return Records(
            [record.value for record in records],
            TOPIC_TYPES[topic],
            [record.appended_ms for record in records],
            id_of,
        )

    def _packed(self, accepted: list[Admitted], late: list[Admitted]) -> list[Message]:
        batches = pack(accepted, partition_count=self._partition_count, door=Door.KAFKA)
        for batch in batches:
            report_batch(Door.KAFKA, len(batch.rows))
        return [
            *messages_of(batches, EVENTS.name),
            *messages_of(pack_late(late, door=Door.KAFKA), LATE.name),
        ]


def _depends_on_control(verdict: Verdict | RejectedItem) -> bool:
    return isinstance(verdict, RejectedItem) and verdict.rejection.code in CONTROL_CODES


def _set_aside(
    records: Sequence[Record], verdicts: Sequence[Verdict | RejectedItem]
) -> tuple[list[Message], list[Rejection]]:
    letters, rejections = [], []
    for record, verdict in zip(records, verdicts, strict=True):
        if isinstance(verdict, Verdict):
            continue
        source = Source(record.topic, record.partition, record.offset, record.key)
        letter = dead_letter(verdict.rejection, record.value, source)
        letters.append(Message(letter.topic, letter.value, key=letter.key, headers=letter.headers))
        rejections.append(verdict.rejection)
    return letters, rejections
