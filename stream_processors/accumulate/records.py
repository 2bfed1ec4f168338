"""What a partition keeps in its changelog: segments, chunks, a manifest. Bytes, and their keys.

Every record says what it is a record of: log, state version, offsets. A record that is damaged,
cut, or of another log or version is never read by halves: it is refused.
"""

import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.control import Times
from schemas.partials import STATE_VERSION

PART_BYTES_MAX = 900_000
"""No record is larger; what is larger is written in parts under one offset."""

_KEY = struct.Struct(">HBIqHH")
_CHECKSUM = struct.Struct("<I")

MANIFEST, SEGMENT, CHUNK = range(3)

_ADVICE = (
    "start with the version of Litmus that wrote it, or count anew: litmus down, litmus recount, "
    "litmus up"
)


class CorruptRecordError(Exception):
    """The bytes of a record are not those that were written; restore the changelog or replay."""


class ForeignRecordError(Exception):
    """A record is of another log or another state version than this worker reads."""


class Key(NamedTuple):
    """Key of a record.

    Attributes:
        partition: Source partition; the memory store keeps all partitions in one dict.
        kind: MANIFEST, SEGMENT or CHUNK.
        number: Of the segment or chunk; 0 for the manifest.
        offset: First source offset that is not in the record; of a manifest, its base's. So what
            a frozen owner writes late stands beside what its successor wrote, and is the older.
        part: From 0.
        parts: How many parts make the record.
    """

    partition: int
    kind: int
    number: int
    offset: int
    part: int
    parts: int


class Header(msgspec.Struct, frozen=True):
    """What every record begins with.

    Attributes:
        log_id: Log of control.
        state_version: Rules and format.
        offset: First source offset not contained; the message before it is a tick.
        tick: Number of that tick.
        times: Its times.
        tick_hash: CRC-32 of its bytes: a recreated log has another.
    """

    log_id: str
    state_version: int
    offset: int
    tick: int
    times: Times
    tick_hash: int


class Manifest(msgspec.Struct, frozen=True):
    """Which record of each segment is its newest, as of a cycle that began at ``base``."""

    base: Header
    expected: list[int]


class SegmentRecord(msgspec.Struct, frozen=True):
    """A segment, in an order that makes equals equal bytes.

    Cells are ordered by (unit hash, experiment), day totals by (unit hash, metric, day).

    Attributes:
        unit_types: Names that ``unit_type`` counts in.
        metrics: Names that ``metric`` counts in.
        ledger: Rows of its units by what became of them.
        no_assignment: Per experiment.
        imported: Per import, number of the last batch applied.
        import_rows: Per import, rows of its units in the batches up to that one.
        columns: Cells, name of the column to little-endian bytes.
        days: Day totals, likewise.
        nodes: Events by the bucket of their value, likewise: of each cell as many as its column
            ``nodes`` says, by the word of their head, then by bucket.
    """

    header: Header
    unit_types: list[str]
    metrics: list[str]
    ledger: list[int]
    no_assignment: list[int]
    imported: list[int]
    import_rows: list[int]
    columns: dict[str, bytes]
    days: dict[str, bytes]
    nodes: dict[str, bytes]


class ChunkRecord(msgspec.Struct, frozen=True):
    """The fresh rows between two ticks: ids and recent events. It never changes.

    Attributes:
        header: Of the tick that ends it.
        start: First source offset in it.
        timestamp_through_max: Latest timestamp in this or any earlier chunk of the partition.
        metrics: Names that the codes of metric events count in.
        unit_types: Names that ``unit_type`` counts in.
        columns: Rows, name of the column to little-endian bytes.
    """

    header: Header
    start: int
    timestamp_through_max: int
    metrics: list[str]
    unit_types: list[str]
    columns: dict[str, bytes]


Record = TypeVar("Record", Manifest, SegmentRecord, ChunkRecord)

SEGMENT_COLUMNS = {
    "unit_high": "<u8",
    "unit_low": "<u8",
    "unit_type": "<u4",
    "experiment": "<i4",
    "variant": "<i2",
    "entry": "<i8",
    "entry_hash": "<u8",
    "other": "<i8",
    "counted": "<i4",
    "outside": "<i4",
    "places": "<u4",
    "totals": "<i2",
    "nodes": "<i4",
    "total": "<i8",
}
"""``total`` holds the words of all cells, ``totals`` of each; heads of nodes are 0."""

NODE_COLUMNS = {"word": "<i2", "bucket": "<i2", "count": "<i4"}

DAY_COLUMNS = {
    "unit_high": "<u8",
    "unit_low": "<u8",
    "unit_type": "<u4",
    "metric": "<u4",
    "day": "<i4",
    "total": "<i8",
    "magnitude": "<i8",
    "rows": "<i4",
    "positives": "<i4",
}
CHUNK_COLUMNS = {
    "unit_high": "<u8",
    "unit_low": "<u8",
    "unit_type": "<u4",
    "hash": "<u8",
    "stamp": "<i8",
    "experiment": "<i4",
    "code": "<i4",
    "value": "<f8",
}


def encode_key(key: Key) -> bytes:
    """Return the key as it stands in the changelog."""
    return _KEY.pack(*key)


def decode_key(value: bytes) -> Key:
    """Return a key of the changelog."""
    return Key._make(_KEY.unpack(value))


def partition_of(key: bytes) -> int:
    """Return the partition that a key of the changelog belongs to."""
    return int.from_bytes(key[:2], "big")


def encode_columns(
    columns: Mapping[str, NDArray[np.generic]], types: Mapping[str, str]
) -> dict[str, bytes]:
    """Return the bytes of every column, in the types of the format.

    Raises:
        OverflowError: If a value does not fit: a smaller one must never be stored in its place.
    """
    return {name: _encoded(name, columns[name], kind) for name, kind in types.items()}


def _encoded(name: str, column: NDArray[np.generic], kind: str) -> bytes:
    stored = np.ascontiguousarray(column, kind)
    if stored.dtype.itemsize < column.dtype.itemsize and not np.array_equal(stored, column):
        raise OverflowError(f"a value of column {name!r} does not fit {kind}")
    return stored.tobytes()


def decode_columns(
    columns: Mapping[str, bytes], types: Mapping[str, str]
) -> dict[str, NDArray[np.generic]]:
    """Return the columns of a record."""
    return {name: np.frombuffer(columns[name], kind) for name, kind in types.items()}


def write_record(
    key: Key, record: Manifest | SegmentRecord | ChunkRecord
) -> list[tuple[bytes, bytes]]:
    """Return the keys and values of a record; ``key`` says nothing of parts yet."""
    body = msgspec.msgpack.encode(record)
    body = _CHECKSUM.pack(zlib.crc32(body)) + body
    parts = range(0, len(body), PART_BYTES_MAX)
    return [
        (
            encode_key(key._replace(part=part, parts=len(parts))),
            body[start : start + PART_BYTES_MAX],
        )
        for part, start in enumerate(parts)
    ]


def read_record(values: Iterable[bytes], kind: type[Record]) -> Record:
    """Return the record of all its parts, in order.

    Raises:
        CorruptRecordError: If the bytes are damaged.
    """
    joined = b"".join(values)
    body = joined[_CHECKSUM.size :]
    if joined[: _CHECKSUM.size] != _CHECKSUM.pack(zlib.crc32(body)):
        raise CorruptRecordError(f"{len(joined)} bytes of a {kind.__name__} fail their checksum")
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ForeignRecordError(
            f"a {kind.__name__} of another format ({error}): {_ADVICE}"
        ) from error


def check_home(header: Header, log_id: str | None) -> None:
    """Refuse a record of another log or state version.

    Raises:
        ForeignRecordError: If it is.
    """
    if header.state_version != STATE_VERSION:
        raise ForeignRecordError(
            f"state version == {header.state_version}, must be {STATE_VERSION}: {_ADVICE}"
        )
    if log_id is not None and header.log_id != log_id:
        raise ForeignRecordError(
            f"log == {header.log_id!r}, must be {log_id!r}: the changelog belongs to another log"
        )
