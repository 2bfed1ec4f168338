"""The same rules over columns: quickly proves that most events of a request keep all of them.

A row that is not proven good here is doubtful, no more: ``rules.judge`` reads it again and has the
last word. So this module knows no codes and no messages, and whatever it cannot decide at once it
leaves.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from ingest_gateway import rules
from ingest_gateway.events import KIND_ASSIGNMENT, KIND_METRIC, Admitted
from ingest_gateway.rules import Refusal, Terms
from ingest_gateway.splitting import BodyForm
from ingest_gateway.timestamps import NOT_A_TIME, parse_times_ms
from schemas.identifiers import is_external_id, is_name

ID_BYTES_MAX = 256
_FOR_EVER = 2**63 - 1
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


_NO_ATTRIBUTES = Raw(b"")


class _Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An event as it is sent; fields that are not there have values that none can have."""

    type: str | UnsetType = UNSET
    unit_type: str = rules.DEFAULT_UNIT_TYPE
    experiment_id: str | None = None
    variant: str | UnsetType = UNSET
    metric: str | UnsetType = UNSET
    unit_id: str = ""
    event_id: str | UnsetType = UNSET
    attributes: Raw = _NO_ATTRIBUTES
    value: float = math.nan
    timestamp: int | str | UnsetType = UNSET
    allocation_version: int | UnsetType | None = UNSET


class Proven(NamedTuple):
    """Rows that were proven good.

    Attributes:
        events: Shape (rows,); None where a row is doubtful.
        is_late: Shape (rows,); whether the event comes too late to count.
        doubtful: Rows to be judged one by one.
    """

    events: Sequence[Admitted | None]
    is_late: NDArray[np.bool_]
    doubtful: list[int]


class Receipts(NamedTuple):
    """What differs from row to row where each row came by itself, as records of a topic do.

    Attributes:
        received_at_ms: Shape (rows,); when each was received.
        id_of: Given a row, the id of its event if it brought none.
    """

    received_at_ms: NDArray[np.int64]
    id_of: Callable[[int], str]


class Candidates(NamedTuple):
    """Decoded events and their rows.

    Attributes:
        rows: Shape (decoded,); which rows could be decoded.
        events: Shape (decoded,).
        row_count: Number of rows, decoded or not.
        is_plain: Whether no string can hold a control character.
        longest_string: Bytes of the longest string at most.
    """

    rows: Sequence[int]
    events: list[_Event]
    row_count: int
    is_plain: bool
    longest_string: int


_event_decoder = msgspec.json.Decoder(_Event)
_array_decoder = msgspec.json.Decoder(list[_Event])


def decode_all(body: bytes, count: int, *, is_array: bool, form: BodyForm) -> list[_Event] | None:
    """Return all events at once; None if one cannot be decoded, or they are not ``count``."""
    try:
        if is_array:
            events = _array_decoder.decode(body)
        elif form is BodyForm.NDJSON:
            # Lines mean nothing to it; but every line holds one balanced value, or is a suspect.
            events = _event_decoder.decode_lines(body)
        else:
            events = [_event_decoder.decode(body)]
    except _UNDECODABLE:
        return None
    return events if len(events) == count else None


def decode_one(raw: memoryview) -> _Event | None:
    """Return one event, None if it cannot be decoded."""
    try:
        return _event_decoder.decode(raw)
    except _UNDECODABLE:
        return None


def prove(candidates: Candidates, terms: Terms, receipts: Receipts | None = None) -> Proven:
    """Return the events that keep every rule, and the rows that might not.

    Args:
        candidates: What could be decoded.
        terms: What an event is held against.
        receipts: Stand for the terms' time of receipt and id.
    """
    proven: list[Admitted | None] = [None] * candidates.row_count
    late = np.zeros(candidates.row_count, np.bool_)
    if candidates.events:
        events, is_good, is_late = _prove_decoded(candidates, terms, receipts)
        if is_good.all() and len(events) == candidates.row_count:
            return Proven(events, is_late, [])
        for row, event, good in zip(candidates.rows, events, is_good.tolist(), strict=True):
            proven[row] = event if good else None
        late[np.asarray(candidates.rows)] = is_late
    doubtful = [row for row, event in enumerate(proven) if event is None]
    return Proven(proven, late, doubtful)


def _prove_decoded(
    candidates: Candidates, terms: Terms, receipts: Receipts | None
) -> tuple[list[Admitted], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return an event for every decoded row, which of them are proven good, and which are late."""
    given = _Columns(*zip(*map(msgspec.structs.astuple, candidates.events), strict=True))
    shapes = _Shapes(terms)
    codes = np.array([shapes[shape] for shape in zip(*given[:5], strict=True)], np.intp)
    is_metric = np.array(shapes.is_metric)[codes]
    is_good = np.array(shapes.is_good)[codes]
    received_at_ms = _received_at_ms(candidates, terms, receipts)
    timestamp_ms = _timestamps_ms(given.timestamp, received_at_ms)
    since_ms = received_at_ms - timestamp_ms
    is_late = _check_times(is_good, timestamp_ms, since_ms, (shapes, codes), terms)
    value = np.array(given.value, np.float64)
    has_no_value = np.isnan(value)
    is_good &= has_no_value | (is_metric & (np.abs(value) <= rules.VALUE_MAX))
    versions = _versions(given.allocation_version, is_metric, is_good)
    _check_ids(is_good, given.unit_id, candidates, may_lack=False)
    may_lack = receipts is not None or terms.substitute_id is not None
    _check_ids(is_good, given.event_id, candidates, may_lack=may_lack)
    kind, unit_type, experiment_id, variant, metric = (
        np.array(column, object)[codes].tolist() for column in zip(*shapes.named, strict=True)
    )
    events = map(
        Admitted,
        kind,
        unit_type,
        given.unit_id,
        _event_ids(given.event_id, candidates, terms, receipts),
        experiment_id,
        variant,
        metric,
        _attributes(given.attributes, is_good),
        np.where(has_no_value, is_metric, value).tolist(),
        timestamp_ms.tolist(),
        [one is not UNSET for one in given.timestamp],
        received_at_ms.tolist(),
        versions,
    )
    return list(events), is_good, is_late


class _Columns(NamedTuple):
    """The fields of ``_Event``, each over all rows."""

    type: tuple[Any, ...]
    unit_type: tuple[Any, ...]
    experiment_id: tuple[Any, ...]
    variant: tuple[Any, ...]
    metric: tuple[Any, ...]
    unit_id: tuple[Any, ...]
    event_id: tuple[Any, ...]
    attributes: tuple[Any, ...]
    value: tuple[Any, ...]
    timestamp: tuple[Any, ...]
    allocation_version: tuple[Any, ...]


class _Shapes(dict[tuple[Any, ...], int]):
    """Numbers the combinations of type and names, of which there are few, and judges each once.

    Attributes:
        named: Per combination: kind, unit type, experiment, variant, metric.
        is_good: Whether the names keep the rules.
        is_metric: Whether it is a metric event.
        start_ms: First timestamp that counts for sure.
        end_ms: The one after the last.
    """

    def __init__(self, terms: Terms) -> None:
        super().__init__()
        self._terms = terms
        self.named: list[tuple[int, str, str | None, str | None, str | None]] = []
        self.is_good: list[bool] = []
        self.is_metric: list[bool] = []
        self.start_ms: list[int] = []
        self.end_ms: list[int] = []

    def __missing__(self, shape: tuple[Any, ...]) -> int:
        given_type, unit_type, experiment_id, variant, metric = shape
        topic_type = self._terms.topic_type
        if given_type is UNSET:
            given_type = topic_type
        kind = rules.TYPES.get(given_type) if topic_type in (None, given_type) else None
        self.named.append(
            (
                KIND_ASSIGNMENT if kind is None else kind,
                unit_type,
                experiment_id,
                None if variant is UNSET else variant,
                None if metric is UNSET else metric,
            )
        )
        span = None if kind is None else self._span(kind, shape)
        self.is_good.append(span is not None)
        self.is_metric.append(kind == KIND_METRIC)
        start_ms, end_ms = span or (0, 0)
        self.start_ms.append(start_ms)
        self.end_ms.append(end_ms)
        code = self[shape] = len(self.named) - 1
        return code

    def _span(self, kind: int, shape: tuple[Any, ...]) -> tuple[int, int] | None:
        """Return from when to when such events count for sure, None if one may be refused."""
        _, unit_type, experiment_id, variant, metric = shape
        needed, foreign = (variant, metric) if kind == KIND_ASSIGNMENT else (metric, variant)
        if foreign is not UNSET or needed is UNSET or not is_name(needed):
            return None
        if not is_name(unit_type):
            return None
        if experiment_id is None:
            return (0, _FOR_EVER) if kind == KIND_METRIC else None
        named_variant = variant if kind == KIND_ASSIGNMENT else None
        try:
            definition = rules.experiment_of(
                self._terms.control, experiment_id, unit_type, named_variant
            )
        except Refusal:
            return None
        if kind == KIND_METRIC:
            return 0, _FOR_EVER
        if not definition.intervals:
            return 0, 0
        last = definition.intervals[-1]
        return last.start_ms, _FOR_EVER if last.end_ms is None else last.end_ms


def _check_times(
    is_good: NDArray[np.bool_],
    timestamp_ms: NDArray[np.int64],
    since_ms: NDArray[np.int64],
    shaped: tuple[_Shapes, NDArray[np.intp]],
    terms: Terms,
) -> NDArray[np.bool_]:
    """Doubt rows whose time may be wrong; return which come too late to count."""
    shapes, codes = shaped
    settings = terms.control.settings
    is_late = (since_ms > settings.lateness_ms) | (timestamp_ms < settings.floor_ms)
    counts = np.array(shapes.start_ms)[codes] <= timestamp_ms
    counts &= timestamp_ms < np.array(shapes.end_ms)[codes]
    is_good &= timestamp_ms != NOT_A_TIME
    is_good &= since_ms >= -rules.TIMESTAMP_AHEAD_MS_MAX
    is_good &= is_late | counts
    return is_late


def _versions(
    given: tuple[Any, ...], is_metric: NDArray[np.bool_], is_good: NDArray[np.bool_]
) -> Sequence[int | None]:
    """Return the allocation versions; doubt rows whose is out of range, or not theirs to have."""
    if given.count(UNSET) == len(given):
        return [None] * len(given)
    is_good &= [
        version is UNSET
        or (not metric and (version is None or 0 <= version <= rules.ALLOCATION_VERSION_MAX))
        for version, metric in zip(given, is_metric.tolist(), strict=True)
    ]
    return [None if version is UNSET else version for version in given]


def _received_at_ms(
    candidates: Candidates, terms: Terms, receipts: Receipts | None
) -> NDArray[np.int64]:
    if receipts is None:
        return np.full(len(candidates.events), terms.received_at_ms, np.int64)
    return receipts.received_at_ms[np.asarray(candidates.rows)]


def _timestamps_ms(given: tuple[Any, ...], received_at_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the time of every row, ``NOT_A_TIME`` where it is none."""
    if set(map(type, given)) == {str}:
        return parse_times_ms(list(given))
    texts = [one for one in given if isinstance(one, str)]
    parsed = iter(parse_times_ms(texts).tolist() if texts else ())
    times = [
        (one if 0 <= one < _FOR_EVER else NOT_A_TIME)
        if isinstance(one, int)
        else (received_ms if one is UNSET else next(parsed))
        for one, received_ms in zip(given, received_at_ms.tolist(), strict=True)
    ]
    return np.array(times, np.int64)


def _check_ids(
    is_good: NDArray[np.bool_], ids: Sequence[Any], candidates: Candidates, *, may_lack: bool
) -> None:
    if candidates.is_plain and candidates.longest_string <= ID_BYTES_MAX:
        if all(ids) and UNSET not in ids:
            return
        is_good &= [may_lack if one is UNSET else bool(one) for one in ids]
    else:
        is_good &= [may_lack if one is UNSET else is_external_id(one) for one in ids]


def _event_ids(
    given: tuple[Any, ...], candidates: Candidates, terms: Terms, receipts: Receipts | None
) -> Sequence[Any]:
    if UNSET not in given:
        return given
    if receipts is None:
        substitute = UNSET if terms.substitute_id is None else terms.substitute_id
        return [substitute if one is UNSET else one for one in given]
    return [
        receipts.id_of(row) if one is UNSET else one
        for row, one in zip(candidates.rows, given, strict=True)
    ]


def _attributes(raws: tuple[Raw, ...], is_good: NDArray[np.bool_]) -> Sequence[str | None]:
    """Return the canonical attributes of every row; rows whose are bad become doubtful."""
    if raws.count(_NO_ATTRIBUTES) == len(raws):
        return [None] * len(raws)
    known: dict[bytes, str | None] = {b"": None}
    canonical: list[str | None] = []
    for row, raw in enumerate(raws):
        text = bytes(raw)
        if text not in known:
            known[text] = _canonical(text)
        found = known[text]
        if found == "":
            is_good[row] = False
        canonical.append(found)
    return canonical


def _canonical(raw: bytes) -> str | None:
    """Return the canonical text of attributes, an empty one if they break a rule."""
    try:
        return rules.canonical_attributes(None if raw == b"null" else rules.parse_object(raw))
    except Refusal:
        return ""
