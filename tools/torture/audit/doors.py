"""What producers were told, held to what stands in the log: nothing lost, nothing from nowhere."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from schemas.times import parse_time_ms
from tools.torture.audit.batches import fingerprint, known_id, place_id, rows_of
from tools.torture.audit.evidence import DeadLetter, LogMessage
from tools.torture.audit.findings import Findings
from tools.torture.journal import (
    ACCEPTED,
    ANY,
    LATE,
    Attempt,
    Delivery,
    Entry,
    Event,
    Hostile,
    Posting,
)

DOORS, LETTERS = "doors", "dead letters"

MUST, MUST_BE_LATE, MAY, REFUSED = 1, 2, 4, 8
"""What the log must or may hold of an event, given all that its producer was told."""

_BODY_REFUSED = (400, 413, 415)
"""Statuses of a request of which nothing was read as an event."""


class Told(NamedTuple):
    """What producers were told, all in all.

    Attributes:
        events: By fingerprint, MUST, MUST_BE_LATE, MAY and REFUSED together.
        refused: Raw bytes to how often they must at least be dead letters: 0 where they may be.
        events_refused: Fingerprints of valid events that a door said it refused.
        rejected_count: Refusals that producers were told of.
        unplaced: Of events without an id whose record may or may not be on its topic, nobody knows
            where: fingerprint without an id to how often.
    """

    events: dict[int, int]
    refused: dict[bytes, int]
    events_refused: set[int]
    rejected_count: int
    unplaced: dict[int, int]


@dataclass
class _Open:
    """A posting that is not answered yet; an attempt without an answer may have been done."""

    posting: Posting
    may_be_done: bool = False


def read_told(entries: Iterable[Entry], findings: Findings) -> Told:
    """Return what producers were told, and note answers that were not as they had to be."""
    told = _Telling(findings)
    for entry in entries:
        match entry:
            case Posting():
                told.post(entry)
            case Attempt():
                told.answer(entry)
            case Delivery():
                told.deliver(entry)
    told.close()
    return Told(told.events, told.refused, told.events_refused, told.rejected_count, told.unplaced)


class _Telling:
    """Folds a journal. A posting is kept until there is an answer to it."""

    def __init__(self, findings: Findings) -> None:
        self.events: dict[int, int] = {}
        self.refused: dict[bytes, int] = {}
        self.events_refused: set[int] = set()
        self.rejected_count = 0
        self.unplaced: Counter[int] = Counter()
        self._findings = findings
        self._open: dict[int, _Open] = {}

    def post(self, posting: Posting) -> None:
        self._open[posting.number] = _Open(posting)

    def answer(self, attempt: Attempt) -> None:
        """Note an HTTP answer; a 5xx or none says nothing."""
        known = self._open.get(attempt.number)
        if known is None:
            return
        if attempt.fate == "unknown":
            known.may_be_done = True
            return
        del self._open[attempt.number]
        where, posting = f"posting {attempt.number}", known.posting
        rejected, count = attempt.rejected, len(posting.items)
        if attempt.status in _BODY_REFUSED:
            rejected = dict.fromkeys(range(count), "malformed")
        elif attempt.accepted + attempt.late + len(rejected) != count:
            said = f"{attempt.accepted} accepted, {attempt.late} late, {len(rejected)} rejected"
            self._findings.differ(DOORS, f"{where}: {count} items, found {said}")
        for index, item in enumerate(posting.items):
            code = rejected.get(index)
            wanted = posting.wanted.get(index, ACCEPTED)
            self._judge(f"{where} item {index}", wanted, code)
            fate = REFUSED
            if code is None:
                fate = {LATE: MUST_BE_LATE}.get(wanted, MUST)
            elif attempt.status not in _BODY_REFUSED:
                self.rejected_count += 1
                self._await_letter(item)
            if known.may_be_done:
                fate |= MAY
            if isinstance(item, Event):
                self._note(item, fate, "")

    def deliver(self, delivery: Delivery) -> None:
        """Note what Kafka said of a record; the door's verdict is seen in the log alone."""
        known = self._open.pop(delivery.number, None)
        if known is None:
            return
        posting = known.posting
        [item] = posting.items
        wanted = posting.wanted.get(0, ACCEPTED)
        fate = MAY
        if not delivery.error:
            fate = {ACCEPTED: MUST, LATE: MUST_BE_LATE, ANY: MAY}.get(wanted, REFUSED)
            if fate == REFUSED:
                self.rejected_count += 1
                self._await_letter(item)
        if isinstance(item, Event) and delivery.error and item.event_id is None:
            self.unplaced[fingerprint_of(item, "")] += 1
        elif isinstance(item, Event):
            self._note(item, fate, place_id(delivery.partition, delivery.offset))
        elif fate != REFUSED:
            self.refused.setdefault(item.raw, 0)

    def close(self) -> None:
        """Note what never got an answer: it may be in the log."""
        for known in self._open.values():
            for item in known.posting.items:
                if isinstance(item, Event) and item.event_id is None:
                    self.unplaced[fingerprint_of(item, "")] += 1
                elif isinstance(item, Event):
                    self._note(item, MAY, "")
                else:
                    self.refused.setdefault(item.raw, 0)
        self._open.clear()

    def _judge(self, where: str, wanted: str, code: str | None) -> None:
        """Hold an answer to what had to become of the item."""
        self._findings.count("answers")
        if wanted == ANY or code == (None if wanted in (ACCEPTED, LATE) else wanted):
            return
        self._findings.differ(DOORS, f"{where}: expected {wanted}, found {code or ACCEPTED}")

    def _await_letter(self, item: Event | Hostile) -> None:
        if isinstance(item, Hostile):
            self.refused[item.raw] = 1
        else:
            self.events_refused.add(fingerprint_of(item, item.event_id or ""))

    def _note(self, event: Event, fate: int, substitute_id: str) -> None:
        key = fingerprint_of(event, event.event_id or substitute_id)
        self.events[key] = self.events.get(key, 0) | fate


def fingerprint_of(event: Event, event_id: str) -> int:
    """Return the fingerprint that the event's row in the log must have."""
    value = 0.0
    if event.metric is not None:
        value = 1.0 if event.value is None else float(event.value)
    attributes = None
    if event.attributes:
        attributes = msgspec.json.encode(event.attributes, order="sorted").decode()
    return fingerprint(
        event.unit_type,
        event.unit,
        event_id,
        event.experiment,
        event.variant,
        event.metric,
        value,
        event.timestamp,
        attributes,
    )


class Logged(NamedTuple):
    """What stands in the log.

    Attributes:
        events: Fingerprints of rows of ``litmus.events`` to where the first stands.
        late: The same of ``litmus.late``.
        anonymous: Of rows that are known by their place, to the fingerprint without it.
    """

    events: Mapping[int, tuple[int, int]]
    late: Mapping[int, tuple[int, int]]
    anonymous: Mapping[int, int]


def read_late(
    messages: Iterable[LogMessage], lateness_ms_min: int, floor_ms: int, findings: Findings
) -> Logged:
    """Return what stands in ``litmus.late``; each row must be late."""
    late: dict[int, tuple[int, int]] = {}
    anonymous: dict[int, int] = {}
    for message in messages:
        for number, row in enumerate(rows_of(message.value)):
            at = message.offset << 20 | number
            (_, unit_type, unit, _, _, event_id, _, _, experiment, variant, metric) = row[:11]
            attributes, value, timestamp, is_given, received_at = row[11:]
            findings.count("late rows")
            if received_at - timestamp <= lateness_ms_min and timestamp >= floor_ms:
                line = f"litmus.late, offset {message.offset} row {number}: received at "
                findings.differ("late rows", f"{line}{received_at}, timestamp {timestamp}")
            given = timestamp if is_given else None
            said = (experiment, variant, metric, value, given, attributes)
            told_id = known_id(event_id) if "/" in event_id else event_id
            key = fingerprint(unit_type, unit, told_id, *said)
            late.setdefault(key, (0, at))
            if told_id != event_id:
                anonymous[key] = fingerprint(unit_type, unit, "", *said)
    return Logged({}, late, anonymous)


def compare_doors(told: Told, logged: Logged, findings: Findings) -> list[int]:
    """Hold what producers were told to the log.

    Returns:
        Fingerprints of events that should be in the log and are not: the journal knows them.
    """
    missing = []
    for key, fate in told.events.items():
        in_events, in_late = key in logged.events, key in logged.late
        findings.count(DOORS)
        is_missing = fate & MUST and not in_events and not in_late
        if is_missing or (fate & MUST_BE_LATE and not in_late):
            missing.append(key)
        elif fate == REFUSED and (in_events or in_late):
            where = _place(logged, key)
            findings.differ(DOORS, f"{where}: refused by its door, expected not to be in the log")
        elif fate & ~REFUSED == MUST_BE_LATE and in_events:
            findings.differ(DOORS, f"{_place(logged, key)}: late, expected in litmus.late only")
    unplaced = Counter(told.unplaced)
    for key in logged.events.keys() | logged.late.keys():
        if key in told.events:
            continue
        nameless = logged.anonymous.get(key)
        if nameless is not None and unplaced[nameless] > 0:
            unplaced[nameless] -= 1
        else:
            findings.differ(DOORS, f"{_place(logged, key)}: expected nothing, nobody sent this")
    return missing


def _place(logged: Logged, key: int) -> str:
    if key in logged.events:
        partition, at = logged.events[key]
        return f"litmus.events/{partition}, offset {at >> 20} row {at & 0xFFFFF}"
    _, at = logged.late[key]
    return f"litmus.late, offset {at >> 20} row {at & 0xFFFFF}"


def name_missing(entries: Iterable[Entry], missing: Iterable[int], findings: Findings) -> None:
    """Note the events that should be in the log and are not, by what the journal says of them."""
    left = set(missing)
    waiting: dict[int, Event] = {}
    for entry in entries if left else ():
        if isinstance(entry, Posting):
            for item in entry.items:
                if isinstance(item, Event):
                    if item.event_id is None:
                        waiting[entry.number] = item
                    else:
                        _name(item, item.event_id, left, findings)
        elif isinstance(entry, Delivery) and entry.number in waiting:
            event = waiting.pop(entry.number)
            _name(event, place_id(entry.partition, entry.offset), left, findings)
    for key in left:
        findings.differ(DOORS, f"accepted, expected in the log, found nowhere: {key:016x}")


def _name(event: Event, event_id: str, left: set[int], findings: Findings) -> None:
    key = fingerprint_of(event, event_id)
    if key in left:
        left.remove(key)
        findings.differ(DOORS, f"accepted, expected in the log, found nowhere: {event}")


def compare_letters(told: Told, letters: Iterable[DeadLetter], findings: Findings) -> int:
    """Hold refusals to dead letters; return how many of these there are."""
    seen: set[bytes] = set()
    events_seen: set[int] = set()
    codes: Counter[str] = Counter()
    for letter in letters:
        codes[letter.code] += 1
        findings.count(LETTERS)
        if letter.raw in told.refused:
            seen.add(letter.raw)
            continue
        key = _fingerprint_of_raw(letter.raw)
        if key is None or not told.events.get(key, 0) & (REFUSED | MAY):
            findings.differ(LETTERS, f"{letter}: expected none, nobody was refused this")
        else:
            events_seen.add(key)
    for raw, times in told.refused.items():
        if times and raw not in seen:
            findings.differ(LETTERS, f"expected one of {raw!r}, found none")
    for key in told.events_refused - events_seen:
        findings.differ(LETTERS, f"expected one of event {key:016x}, found none")
    return codes.total()


def _fingerprint_of_raw(raw: bytes) -> int | None:
    """Return the fingerprint of an event as it was posted; None if it is none."""
    try:
        said = msgspec.json.decode(raw)
        timestamp = said.get("timestamp")
        event = Event(
            unit=said["unit_id"],
            event_id=said.get("event_id"),
            # One of the two forms in which producers write it.
            timestamp=parse_time_ms(timestamp) if isinstance(timestamp, str) else timestamp,
            experiment=said.get("experiment_id"),
            variant=said.get("variant"),
            metric=said.get("metric"),
            value=said.get("value"),
            unit_type=said.get("unit_type", "user"),
            attributes=said.get("attributes"),
        )
        return fingerprint_of(event, event.event_id or "")
    except (
        msgspec.MsgspecError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
    ):
        return None
