"""A partition's state from the records of its changelog. Pure.

Any mix of old and new records is a valid state, because each is complete up to its own offset.
Reading resumes at the end of a chunk at or below the least of those offsets, such that all chunks
that a look-up from there may need are there too; if there is no such chunk, at the beginning.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from schemas.control import ControlState
from stream_processors.accumulate.checkpoints import load_chunk, load_segment
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.records import (
    CHUNK,
    MANIFEST,
    SEGMENT,
    ChunkRecord,
    CorruptRecordError,
    Key,
    Manifest,
    Record,
    SegmentRecord,
    check_home,
    decode_key,
    encode_key,
    read_record,
)
from stream_processors.accumulate.state import RECENT_END, SEGMENTS
from stream_processors.accumulate.writing import NO_RECORD, StoredChunk

logger = logging.getLogger(__name__)


class RecordParts:
    """The parts of one record that the changelog holds."""

    def __init__(self, keys: Key) -> None:
        self.key = keys
        self.values: dict[int, bytes] = {}

    @property
    def keys(self) -> list[bytes]:
        """Return the keys of all its parts."""
        return [encode_key(self.key._replace(part=part)) for part in range(self.key.parts)]

    def read(self, kind: type[Record]) -> Record | None:
        """Return the record, or None if parts are missing or damaged; damage is said so."""
        if len(self.values) != self.key.parts:
            return None
        try:
            return read_record([self.values[part] for part in range(self.key.parts)], kind)
        except CorruptRecordError as error:
            logger.warning(
                "checkpoint_damaged key=%s: %s; reading more of the log", self.key, error
            )
            return None


ByOffset = dict[int, RecordParts]


class Recovered(NamedTuple):
    """A partition as recovery found it.

    Attributes:
        partition: Its state; reading resumes at its cursor.
        superseded: Keys of records that newer ones replaced.
    """

    partition: Partition
    superseded: list[bytes]


class Found:
    """What the changelog holds of one partition, before its state is built.

    Attributes:
        start: Where reading resumes: the tick that ends the last chunk needed; None: at the
            beginning of the log.
        proofs: Headers of all that is used: the log must hold these ticks at these offsets.
    """

    def __init__(
        self, number: int, records: Iterable[tuple[bytes, bytes]], *, log_id: str | None
    ) -> None:
        """Read the records of partition ``number``.

        Args:
            number: Which partition.
            records: Its keys and values in the changelog.
            log_id: The control log's id; None while it has no record.

        Raises:
            ForeignRecordError: If a record is of another log or state version.
        """
        self._number, self._log_id = number, log_id
        self._stored = stored = _by_record(records)
        self._segments = {
            segment: _newest(stored[SEGMENT, segment], SegmentRecord) for segment in range(SEGMENTS)
        }
        manifest = self._manifest = _newest(stored[MANIFEST, 0], Manifest)
        self.proofs = [one.header for one in self._segments.values() if one is not None]
        if manifest is not None:
            self.proofs.append(manifest.base)
        for header in self.proofs:
            check_home(header, log_id)
        self._valid = [
            _valid_offset(segment, record, manifest) for segment, record in self._segments.items()
        ]
        self._chunks = _chunks_before(min(self._valid), stored, log_id)
        self.start = self._chunks[-1][1].header if self._chunks else None

    def build(self, control: ControlState | None, *, writer: str) -> Recovered:
        """Return the partition, given definitions and settings as of the tick of ``start``."""
        partition = Partition(
            self._number, writer=writer, control=control, start=self.start, log_id=self._log_id
        )
        records = {segment: one for segment, one in self._segments.items() if one is not None}
        ends = _load(partition, self._chunks, records)
        partition.state.segments["offset"] = self._valid
        partition.checkpoints.resume(
            recorded=[one.header.offset if one else NO_RECORD for one in self._segments.values()],
            keys=[
                self._stored[SEGMENT, segment][one.header.offset].keys if one else []
                for segment, one in self._segments.items()
            ],
            manifest_keys=self._manifest_keys(),
            chunks=[
                StoredChunk(
                    number,
                    chunk.header,
                    end,
                    chunk.timestamp_through_max,
                    self._stored[CHUNK, number][chunk.header.offset].keys,
                )
                for (number, chunk), end in zip(self._chunks, ends, strict=True)
            ],
            start=partition.cursor,
            first=int(partition.state.counts[RECENT_END]),
        )
        superseded = [
            key
            for offset, parts in self._stored[MANIFEST, 0].items()
            if self._manifest is not None and offset < self._manifest.base.offset
            for key in parts.keys
        ]
        superseded += [
            key
            for segment, record in records.items()
            for offset, parts in self._stored[SEGMENT, segment].items()
            if offset < record.header.offset
            for key in parts.keys
        ]
        return Recovered(partition, superseded)

    def _manifest_keys(self) -> list[bytes]:
        if self._manifest is None:
            return []
        return self._stored[MANIFEST, 0][self._manifest.base.offset].keys


def recover(
    number: int,
    records: Iterable[tuple[bytes, bytes]],
    *,
    state_at: Callable[[int], ControlState],
    log_id: str | None,
    writer: str,
) -> Recovered:
    """Return the partition that its records amount to; ``state_at`` knows every tick."""
    found = Found(number, records, log_id=log_id)
    control = state_at(found.start.tick) if found.start else None
    return found.build(control, writer=writer)


def _valid_offset(segment: int, record: SegmentRecord | None, manifest: Manifest | None) -> int:
    own = record.header.offset if record else NO_RECORD
    if manifest is not None and own == manifest.expected[segment]:
        return max(manifest.base.offset, own)
    return max(own, 0)


def _by_record(records: Iterable[tuple[bytes, bytes]]) -> dict[tuple[int, int], ByOffset]:
    """Return the records by (kind, number), then offset."""
    stored: dict[tuple[int, int], ByOffset] = defaultdict(dict)
    for encoded, value in records:
        key = decode_key(encoded)
        by_offset = stored[key.kind, key.number]
        parts = by_offset.setdefault(key.offset, RecordParts(key))
        parts.values[key.part] = value
    return stored


def _newest(by_offset: ByOffset, kind: type[Record]) -> Record | None:
    """Return the newest record that is whole."""
    for offset in sorted(by_offset, reverse=True):
        record = by_offset[offset].read(kind)
        if record is not None:
            return record
    return None


def _chunks_before(
    offset: int, stored: dict[tuple[int, int], ByOffset], log_id: str | None
) -> list[tuple[int, ChunkRecord]]:
    """Return the chunks that reading from the end of the last of them needs, oldest first.

    That end is at or below ``offset``. Empty: read from the beginning.
    """
    known: dict[int, ChunkRecord] = {}
    for (kind, number), by_offset in list(stored.items()):
        chunk = _newest(by_offset, ChunkRecord) if kind == CHUNK else None
        if chunk is not None:
            check_home(chunk.header, log_id)
            known[number] = chunk
    for last in sorted(known, reverse=True):
        if known[last].header.offset <= offset:
            needed = _needed(known, last)
            if needed is not None:
                return needed
    return []


def _needed(known: dict[int, ChunkRecord], last: int) -> list[tuple[int, ChunkRecord]] | None:
    """Return the chunks up to ``last`` that hold what is not beyond its horizon; None: a gap."""
    horizon = known[last].header.times.horizon_ms
    needed: list[tuple[int, ChunkRecord]] = []
    number = last
    while True:
        chunk = known.get(number)
        if chunk is None:
            return None
        needed.insert(0, (number, chunk))
        if chunk.timestamp_through_max < horizon or chunk.start == 0:
            return needed
        number -= 1


def _load(
    partition: Partition,
    chunks: list[tuple[int, ChunkRecord]],
    segments: dict[int, SegmentRecord],
) -> list[int]:
    """Load all records; return, per chunk, the number of the first recent row after it."""
    ends = []
    for _, chunk in chunks:
        partition.state = load_chunk(
            partition.state, chunk, metrics=partition.metrics, unit_types=partition.unit_types
        )
        ends.append(int(partition.state.counts[RECENT_END]))
    for segment, record in segments.items():
        partition.state = load_segment(
            partition.state,
            segment,
            record,
            metrics=partition.metrics,
            unit_types=partition.unit_types,
        )
    partition.plan_anew()
    return ends
