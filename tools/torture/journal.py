"""What the producers know: an append-only record on disk of all that was sent and answered.

A run of an hour sends millions of events, so nothing of it stays in memory. Every entry is a
MessagePack frame behind its length; a frame that was cut off by a kill of the writer is the last
one and is left out when the journal is read.

An event may be sent several times, by a retry (another ``Attempt`` of the same ``Posting``) or as
a duplicate (in another ``Posting``). What its fate was is the sum of what all attempts say.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

import msgspec

Door = Literal["http", "kafka"]
Fate = Literal["accepted", "rejected", "unknown"]

ACCEPTED = "accepted"
LATE = "late"
ANY = "any"
"""Wanted of an event whose fate is a race, as that of an assignment while a pause begins."""

_LENGTH = struct.Struct("<I")


class Event(msgspec.Struct, frozen=True, array_like=True, tag=0, order=True):
    """A valid event; an assignment has a variant, a metric event a metric.

    Attributes:
        unit: Id of the unit.
        event_id: The event's own id; None where the door makes one (a Kafka record's position).
        timestamp: The event's own time in ms; None where the door gives it the time of receipt.
        experiment: The experiment; None for a metric event of all experiments.
        variant: Of an assignment.
        metric: Of a metric event.
        value: Of a metric event; None where it was left out (and is 1).
        unit_type: Type of the unit.
        attributes: Of an assignment.
    """

    unit: str
    event_id: str | None
    timestamp: int | None
    experiment: str | None = None
    variant: str | None = None
    metric: str | None = None
    value: float | None = None
    unit_type: str = "user"
    attributes: dict[str, str] | None = None


class Hostile(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Bytes that break a rule.

    Attributes:
        raw: As they were sent: one line, one element of an array, one Kafka record's value.
        code: With which the door must refuse them.
    """

    raw: bytes
    code: str


class Posting(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Something is about to be sent: one HTTP request, or one Kafka record.

    Attributes:
        number: Of the posting.
        at_ms: When it was first sent.
        door: Through which.
        topic: Of a Kafka record; empty for HTTP.
        items: What it holds, in order; of a Kafka record one item.
        wanted: What must become of an item, by its index: ``late``, the code of a refusal, or
            ``any``. Items that are not named must be accepted.
    """

    number: int
    at_ms: int
    door: Door
    topic: str
    items: list[Event | Hostile]
    wanted: dict[int, str] = {}


class Attempt(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """What became of one attempt to send an HTTP request.

    Attributes:
        number: Of the posting.
        at_ms: When it ended.
        status: Of the answer; 0: none came.
        error: Why none came.
        accepted: Items accepted, as the answer says.
        late: Items that were late, as the answer says.
        rejected: Codes of refused items, by index.
        log: Events partition to offset, as the answer says.
    """

    number: int
    at_ms: int
    status: int
    error: str = ""
    accepted: int = 0
    late: int = 0
    rejected: dict[int, str] = {}
    log: dict[int, int] = {}

    @property
    def fate(self) -> Fate:
        """Return what the client may conclude."""
        if self.status == 202:
            return "accepted"
        return "rejected" if 400 <= self.status < 500 else "unknown"


class Delivery(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """What Kafka said of a record; accepted unless there is an error.

    Attributes:
        number: Of the posting.
        at_ms: When the broker's answer came.
        partition: Of the source topic.
        offset: In the source topic; -1 with an error.
        error: Why it may not be there.
    """

    number: int
    at_ms: int
    partition: int
    offset: int
    error: str = ""

    @property
    def fate(self) -> Fate:
        """Return what the client may conclude."""
        return "unknown" if self.error else "accepted"


class Command(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """A command is about to be sent to the gateway."""

    number: int
    at_ms: int
    method: str
    path: str
    body: bytes = b""


class CommandAttempt(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """What became of one attempt to send a command; ``status`` 0: no answer came."""

    number: int
    at_ms: int
    status: int
    body: bytes = b""

    @property
    def fate(self) -> Fate:
        """Return what the client may conclude."""
        if 200 <= self.status < 300:
            return "accepted"
        return "rejected" if 400 <= self.status < 500 else "unknown"


class FaultNote(msgspec.Struct, frozen=True, array_like=True, tag=30):
    """Something was broken (``began``), mended, or is seen to be well again (``recovered``)."""

    number: int
    at_ms: int
    phase: str
    kind: str
    target: str


Entry = Posting | Attempt | Delivery | Command | CommandAttempt | FaultNote


class Journal:
    """Writes a journal; numbers are given here.

    Attributes:
        path: Of the file.
        events_sent: Valid events in postings so far.
        postings: Postings so far.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.events_sent = 0
        self.postings = 0
        self._commands = 0
        self._encoder = msgspec.msgpack.Encoder()
        self._file: BinaryIO = path.open("ab")

    def post(
        self,
        door: Door,
        items: list[Event | Hostile],
        *,
        at_ms: int,
        topic: str = "",
        wanted: dict[int, str] | None = None,
    ) -> int:
        """Note what will be sent; return the posting's number."""
        self.postings += 1
        self.events_sent += sum(isinstance(item, Event) for item in items)
        self.append(Posting(self.postings, at_ms, door, topic, items, wanted or {}))
        return self.postings

    def command(self, method: str, path: str, body: bytes, *, at_ms: int) -> int:
        """Note a command that will be sent; return its number."""
        self._commands += 1
        self.append(Command(self._commands, at_ms, method, path, body))
        return self._commands

    def append(self, entry: Entry) -> None:
        """Write one entry."""
        frame = self._encoder.encode(entry)
        self._file.write(_LENGTH.pack(len(frame)) + frame)

    def flush(self) -> None:
        """Hand all that was written to the system, for readers in other processes."""
        self._file.flush()

    def close(self) -> None:
        """Write all and close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


def read_journal(path: Path) -> Iterator[Entry]:
    """Yield the entries of a journal in order; a last one that was cut off is left out."""
    decode = msgspec.msgpack.Decoder(Entry).decode
    with path.open("rb") as file:
        while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
            (length,) = _LENGTH.unpack(head)
            frame = file.read(length)
            if len(frame) < length:
                return
            yield decode(frame)
