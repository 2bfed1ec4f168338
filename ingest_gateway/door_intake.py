"""Records of the Kafka door become messages: judged one by one, packed together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from ingest_gateway.dead_letter_ceiling import bytes_of
from ingest_gateway.dead_letters import Source, dead_letter
from ingest_gateway.errors import Rejection
from ingest_gateway.events import Admitted
from ingest_gateway.group_commit import messages_of
from ingest_gateway.packer import pack, pack_late
from ingest_gateway.sink import Message
from ingest_gateway.telemetry import Door, report_batch
from ingest_gateway.validator import Admission, admit_record
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
        control = self._usable()
        admissions = [self._admit(record, control) for record in records]
        if any(admission.depends_on_control for admission in admissions):
            control = self._fresh()
            for index, admission in enumerate(admissions):
                if admission.depends_on_control:
                    admissions[index] = self._admit(records[index], control)
        accepted = [event for admission in admissions for event in admission.accepted]
        late = [event for admission in admissions for event in admission.late]
        letters, rejections = _set_aside(records, admissions)
        return Outgoing(
            [*self._packed(accepted, late), *letters],
            len(accepted),
            len(late),
            rejections,
            bytes_of(letters),
        )

    def _admit(self, record: Record, control: ControlState) -> Admission:
        place = f"{self._topic_ids[record.topic]}/{record.partition}/{record.offset}"
        return admit_record(
            record.value,
            topic_type=TOPIC_TYPES[record.topic],
            received_at_ms=record.appended_ms,
            control=control,
            position_id=place,
        )

    def _packed(self, accepted: list[Admitted], late: list[Admitted]) -> list[Message]:
        batches = pack(accepted, partition_count=self._partition_count, door=Door.KAFKA)
        for batch in batches:
            report_batch(Door.KAFKA, len(batch.rows))
        return [
            *messages_of(batches, EVENTS.name),
            *messages_of(pack_late(late, door=Door.KAFKA), LATE.name),
        ]


def _set_aside(
    records: Sequence[Record], admissions: Sequence[Admission]
) -> tuple[list[Message], list[Rejection]]:
    letters, rejections = [], []
    for record, admission in zip(records, admissions, strict=True):
        for rejection, _ in admission.rejected:
            source = Source(record.topic, record.partition, record.offset, record.key)
            letter = dead_letter(rejection, record.value, source)
            letters.append(
                Message(letter.topic, letter.value, key=letter.key, headers=letter.headers)
            )
            rejections.append(rejection)
    return letters, rejections
