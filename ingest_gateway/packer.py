"""Admitted events become the messages of ``litmus.events`` and ``litmus.late``. Pure.

Columns are built once for all events, sorted by partition, and cut.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingest_gateway.events import Admitted
from schemas.batch import ROWS_MAX, SCHEMA, write_batch
from schemas.hashing import UNIT_KEY_SEPARATOR, hash128, partitions_of, unit_hashes
from schemas.topics import MESSAGE_BYTES_MAX

_DICTIONARIES = frozenset(field.name for field in SCHEMA if pa.types.is_dictionary(field.type))

_SHARED_NAMES_BYTES_MAX = 2_000
"""Dictionaries up to this size go along whole with the messages of every partition."""


class Packed(NamedTuple):
    """One message.

    Attributes:
        partition: Where it belongs.
        value: The packed batch.
        rows: Shape (rows of the batch,): index of each in the events that were packed.
    """

    partition: int
    value: bytes
    rows: NDArray[np.int64]


def pack(events: Sequence[Admitted], *, partition_count: int, door: str) -> list[Packed]:
    """Return the messages that bring ``events`` to the partitions of their units.

    Within a partition events keep their order. No message is larger than 512 kB.

    Args:
        events: What was accepted, in the order of its acceptance.
        partition_count: Partitions of ``litmus.events``.
        door: Who packs, for people.
    """
    if not events:
        return []
    columns, unit_keys = _columns(events)
    partitions = partitions_of(unit_keys, partition_count)
    order = np.argsort(partitions, kind="stable")
    ends = np.cumsum(np.bincount(partitions, minlength=partition_count))
    batch = _batch(columns, order, SCHEMA.with_metadata({"door": door}))
    shares_names = _names_bytes(batch) <= _SHARED_NAMES_BYTES_MAX
    return [
        Packed(partition, value, order[start:end])
        for partition, (first, last) in enumerate(pairwise([0, *ends.tolist()]))
        if first < last
        for value, start, end in _messages(batch, first, last, shares_names=shares_names)
    ]


def pack_late(events: Sequence[Admitted], *, door: str) -> list[Packed]:
    """Return the messages that bring late events to ``litmus.late``, in their order.

    Args:
        events: What came too late to count.
        door: Who packs, for people.
    """
    return pack(events, partition_count=1, door=door)


def _columns(events: Sequence[Admitted]) -> tuple[dict[str, pa.Array], pa.StringArray]:
    """Return the columns of a batch, names not yet as dictionaries, and the key of every unit."""
    given = dict(
        zip(
            Admitted.__struct_fields__,
            zip(*map(msgspec.structs.astuple, events), strict=True),
            strict=True,
        )
    )
    columns = {name: pa.array(given[source], type_) for name, source, type_ in _SOURCES}
    unit_keys = pc.binary_join_element_wise(
        columns["unit_type"], columns["unit_id"], UNIT_KEY_SEPARATOR
    )
    unit_high, unit_low = unit_hashes(unit_keys)
    event_high, event_low = hash128(columns["event_id"], unit_high, unit_low)
    columns["unit_hash_high"], columns["unit_hash_low"] = pa.array(unit_high), pa.array(unit_low)
    columns["event_hash_high"] = pa.array(event_high)
    columns["event_hash_low"] = pa.array(event_low)
    return columns, unit_keys


_SOURCES = tuple(
    (name, {"timestamp": "timestamp_ms", "received_at": "received_at_ms"}.get(name, name), type_)
    for name, type_ in (
        (field.name, pa.string() if field.name in _DICTIONARIES else field.type) for field in SCHEMA
    )
    if "hash" not in name
)


def _batch(
    columns: dict[str, pa.Array], order: NDArray[np.int64], schema: pa.Schema
) -> pa.RecordBatch:
    """Return all events as one batch, its rows in ``order``."""
    rows = pa.array(order)
    encoded = (
        columns[name].dictionary_encode() if name in _DICTIONARIES else columns[name]
        for name in schema.names
    )
    return pa.RecordBatch.from_arrays([column.take(rows) for column in encoded], schema=schema)


def _messages(
    batch: pa.RecordBatch, start: int, end: int, *, shares_names: bool
) -> Iterator[tuple[bytes, int, int]]:
    """Yield messages of the rows from ``start`` to ``end``, each small enough, and their rows.

    A slice keeps every name of the whole batch. Names are few, unless a client makes them up:
    then, unless ``shares_names``, each message gets those that its own rows need.
    """
    part = batch.slice(start, end - start)
    value = write_batch(part if shares_names else _with_own_names(part))
    if end - start == 1 or (len(value) <= MESSAGE_BYTES_MAX and end - start <= ROWS_MAX):
        yield value, start, end
    else:
        middle = (start + end) // 2
        yield from _messages(batch, start, middle, shares_names=shares_names)
        yield from _messages(batch, middle, end, shares_names=shares_names)


def _with_own_names(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        column.dictionary_decode().dictionary_encode() if name in _DICTIONARIES else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _names_bytes(batch: pa.RecordBatch) -> int:
    return sum(batch.column(name).dictionary.nbytes for name in _DICTIONARIES)
