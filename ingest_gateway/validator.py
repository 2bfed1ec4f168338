"""What the doors accept, and why they refuse. Pure: no Kafka, no clock, no framework.

Two ways through the same rules: ``columns`` proves most events good at once, ``rules`` judges
every other one by itself and says what is wrong with it. A bad event never costs its neighbours.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from ingest_gateway import columns
from ingest_gateway.columns import Candidates, Receipts
from ingest_gateway.errors import CONTROL_CODES, MalformedBodyError, Rejection
from ingest_gateway.events import Admitted
from ingest_gateway.rules import EVENT_BYTES_MAX, Refusal, Terms, Verdict, judge
from ingest_gateway.splitting import EVENTS_MAX, BodyForm, Split, split
from schemas.control import ControlState, Settings
from schemas.identifiers import EXTERNAL_ID_RULE, is_external_id
from schemas.times import TIMESTAMP_MS_MAX

__all__ = [
    "Admission",
    "BodyForm",
    "Records",
    "RejectedItem",
    "admit",
    "admit_history",
    "admit_records",
]


_TO_BE_MADE = ""
"""Stands for an id until it is made; no event can bring it along."""

_HISTORY = Terms(
    TIMESTAMP_MS_MAX,
    ControlState(settings=Settings(lateness_ms=TIMESTAMP_MS_MAX)),
    topic_type="metric",
    substitute_id=_TO_BE_MADE,
)
"""Terms under which nothing is late or ahead of its time, and no experiment exists."""


class RejectedItem(NamedTuple):
    """A refused event: the answer about it, and its bytes for the dead letter."""

    rejection: Rejection
    raw: bytes


class Admission(NamedTuple):
    """A request, sorted out: each of its events is in one of the three lists, in its order.

    Attributes:
        accepted: What goes to ``litmus.events``.
        late: What breaks no rule but is older than the lateness: it goes to ``litmus.late``.
        rejected: What is refused.
        depends_on_control: Whether a newer view of the control log might accept more: then the
            door reads the log to its present end and asks again before it refuses.
    """

    accepted: list[Admitted]
    late: list[Admitted]
    rejected: list[RejectedItem]
    depends_on_control: bool


def admit(
    body: bytes,
    *,
    form: BodyForm,
    received_at_ms: int,
    control: ControlState,
    idempotency_key: str | None = None,
) -> Admission:
    """Sort the events of a request out.

    Args:
        body: The request, no longer compressed.
        form: How it holds its events.
        received_at_ms: When it came, in epoch milliseconds.
        control: What the door knows of experiments and settings.
        idempotency_key: Stands for the ids of events without one. The same key and events give
            the same ids again.

    Raises:
        MalformedBodyError: If the body cannot be split into events; lines always can.
        TooManyEventsError: If it holds more than 10,000.
    """
    if idempotency_key is not None and not is_external_id(idempotency_key):
        raise MalformedBodyError(f"Idempotency-Key == {idempotency_key!r}, {EXTERNAL_ID_RULE}")
    substitute_id = None if idempotency_key is None else _TO_BE_MADE
    terms = Terms(received_at_ms, control, substitute_id=substitute_id)
    admission = _sort_out(body, split(body, form), terms, form)
    if idempotency_key is None:
        return admission
    return admission._replace(
        accepted=_with_ids(admission.accepted, idempotency_key),
        late=_with_ids(admission.late, idempotency_key),
    )


def admit_history(body: bytes, *, form: BodyForm) -> Admission:
    """Sort the rows of an import out: metric events of any time, of no experiment.

    Ids are not needed: a batch has its number.

    Raises:
        MalformedBodyError: If the body cannot be split into rows.
        TooManyEventsError: If it holds more than 10,000.
    """
    return _sort_out(body, split(body, form), _HISTORY, form)


class Records(NamedTuple):
    """Records of one topic, as they were read.

    Attributes:
        values: One event as JSON each.
        topic_type: What the topic holds; an event need not say it, nor contradict it.
        received_at_ms: When the broker appended each.
        id_of: Given a record, the id of its event if it has none, made from where it stands.
    """

    values: Sequence[bytes]
    topic_type: Literal["assignment", "metric"]
    received_at_ms: Sequence[int]
    id_of: Callable[[int], str]


def admit_records(records: Records, control: ControlState) -> list[Verdict | RejectedItem]:
    """Sort Kafka records out: for each an event, or why it is refused.

    Records that can stand in one line each are proven good together, every other is judged.
    """
    verdicts: list[Verdict | RejectedItem | None] = [None] * len(records.values)
    together = [
        row
        for row, value in enumerate(records.values)
        if len(value) <= EVENT_BYTES_MAX and b"\n" not in value and not value.isspace() and value
    ]
    for start in range(0, len(together), EVENTS_MAX):
        _prove_together(records, together[start : start + EVENTS_MAX], control, verdicts)
    return [
        _judge_record(records, row, control) if verdict is None else verdict
        for row, verdict in enumerate(verdicts)
    ]


def _prove_together(
    records: Records,
    rows: Sequence[int],
    control: ControlState,
    verdicts: list[Verdict | RejectedItem | None],
) -> None:
    """Fill in the verdicts of the records that are proven good."""
    body = b"\n".join([records.values[row] for row in rows])
    found = split(body, BodyForm.NDJSON)
    if len(found.spans) != len(rows):
        return
    received_at_ms = np.array([records.received_at_ms[row] for row in rows], np.int64)
    proven = columns.prove(
        _candidates(body, found, BodyForm.NDJSON),
        Terms(0, control, records.topic_type),
        Receipts(received_at_ms, lambda index: records.id_of(rows[index])),
    )
    for row, event, is_late in zip(rows, proven.events, proven.is_late.tolist(), strict=True):
        if event is not None:
            verdicts[row] = Verdict(event, is_late)


def _judge_record(records: Records, row: int, control: ControlState) -> Verdict | RejectedItem:
    raw = records.values[row]
    terms = Terms(records.received_at_ms[row], control, records.topic_type, records.id_of(row))
    try:
        return judge(raw, terms)
    except Refusal as refusal:
        return _rejected(0, refusal, raw)


def _sort_out(body: bytes, found: Split, terms: Terms, form: BodyForm) -> Admission:
    view = memoryview(body)
    proven = columns.prove(_candidates(body, found, form), terms)
    if not proven.doubtful and not proven.is_late.any():
        return Admission(proven.events, [], [], depends_on_control=False)  # type: ignore[arg-type]
    accepted: list[Admitted] = []
    late: list[Admitted] = []
    rejected: list[RejectedItem] = []
    for row, (start, end) in enumerate(found.spans.tolist()):
        event, is_late = proven.events[row], bool(proven.is_late[row])
        if event is None:
            try:
                event, is_late = judge(view[start:end], terms)
            except Refusal as refusal:
                rejected.append(_rejected(row, refusal, body[start:end]))
                continue
        (late if is_late else accepted).append(event)
    depends_on_control = any(item.rejection.code in CONTROL_CODES for item in rejected)
    return Admission(accepted, late, rejected, depends_on_control)


def _candidates(body: bytes, found: Split, form: BodyForm) -> Candidates:
    """Decode what can be decoded at all, at once if that is everything."""
    count = len(found.spans)
    sizes = found.spans[:, 1] - found.spans[:, 0]
    is_hopeful = ~found.suspects & (sizes <= EVENT_BYTES_MAX)
    if is_hopeful.all():
        events = columns.decode_all(body, count, is_array=found.is_array, form=form)
        if events is not None:
            return Candidates(range(count), events, count, found.is_plain, found.longest_string)
    view = memoryview(body)
    decoded = [
        (row, event)
        for row, (start, end) in enumerate(found.spans.tolist())
        if is_hopeful[row] and (event := columns.decode_one(view[start:end])) is not None
    ]
    rows, events = [row for row, _ in decoded], [event for _, event in decoded]
    return Candidates(rows, events, count, found.is_plain, found.longest_string)


def _rejected(index: int, refusal: Refusal, raw: bytes) -> RejectedItem:
    rejection = Rejection(index, refusal.code, refusal.field, refusal.message)
    return RejectedItem(rejection, raw)


def _with_ids(events: list[Admitted], idempotency_key: str) -> list[Admitted]:
    """Give events without an id one that the same request gives them again.

    Equal events of a request differ by which of them they are. Equal ones are accepted or late
    alike, so counting within either list is counting within the request.
    """
    occurrences: Counter[bytes] = Counter()
    identified = []
    for event in events:
        if event.event_id == _TO_BE_MADE:
            content = _content(event)
            number = occurrences[content]
            occurrences[content] += 1
            made = _id_of(idempotency_key, content, number)
            identified.append(msgspec.structs.replace(event, event_id=made))
        else:
            identified.append(event)
    return identified


def _content(event: Admitted) -> bytes:
    """Return what makes two events the same: all but their ids and what the door added."""
    given_ms = event.timestamp_ms if event.timestamp_given else None
    bare = msgspec.structs.replace(
        event, event_id=_TO_BE_MADE, timestamp_ms=given_ms or 0, received_at_ms=0
    )
    return msgspec.json.encode(bare)


def _id_of(idempotency_key: str, content: bytes, occurrence: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (idempotency_key.encode(), content, str(occurrence).encode()):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
