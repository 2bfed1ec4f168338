"""A packed batch: one Arrow record batch per message, decoded once, read as columns.

Nothing unvalidated is ever packed, so readers trust what rows say. They do not trust the bytes:
Arrow follows offsets of a damaged message out of its memory, and takes the process with it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

KIND_ASSIGNMENT = 0
KIND_METRIC = 1

_NAMES = pa.dictionary(pa.int32(), pa.string())

SCHEMA = pa.schema(
    [
        pa.field("kind", pa.uint8(), nullable=False),
        pa.field("unit_type", _NAMES, nullable=False),
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field("unit_hash_high", pa.uint64(), nullable=False),
        pa.field("unit_hash_low", pa.uint64(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("event_hash_high", pa.uint64(), nullable=False),
        pa.field("event_hash_low", pa.uint64(), nullable=False),
        pa.field("experiment_id", _NAMES),
        pa.field("variant", _NAMES),
        pa.field("metric", _NAMES),
        pa.field("attributes", _NAMES),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
        pa.field("timestamp_given", pa.bool_(), nullable=False),
        pa.field("received_at", pa.int64(), nullable=False),
        pa.field("allocation_version", pa.int64()),
    ]
)
"""Columns of a batch. ``timestamp`` and ``received_at`` are epoch milliseconds.

``event_hash`` covers the unit and the event id. ``value`` of an assignment is 0. The schema's
metadata says which ``door`` packed it.
"""

_PLACES = {name: place for place, name in enumerate(SCHEMA.names)}
_REQUIRED = [(name, place) for name, place in _PLACES.items() if not SCHEMA.field(name).nullable]

ROWS_MAX = 1 << 16
"""Rows of one batch: a position in a partition is offset * 2**20 + row."""


class UnreadableBatchError(ValueError):
    """The bytes are no packed batch."""


class Names(NamedTuple):
    """A dictionary column.

    Attributes:
        values: Distinct strings.
        codes: Shape (rows,), index into ``values``; -1 where the row has none.
    """

    values: list[str]
    codes: NDArray[np.int32]


class Batch(NamedTuple):
    """The columns of a batch that counting needs; every array has shape (rows,).

    ``attributes`` are JSON objects, left as Arrow holds them: few batches need them, and their
    distinct strings may be many. ``read_names`` makes names of them.
    """

    kind: NDArray[np.uint8]
    unit_type: Names
    unit_hash_high: NDArray[np.uint64]
    unit_hash_low: NDArray[np.uint64]
    event_hash_high: NDArray[np.uint64]
    event_hash_low: NDArray[np.uint64]
    experiment_id: Names
    variant: Names
    metric: Names
    attributes: pa.DictionaryArray
    value: NDArray[np.float64]
    timestamp: NDArray[np.int64]
    timestamp_given: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.kind)


def write_batch(batch: pa.RecordBatch) -> bytes:
    """Return the message of a record batch of ``SCHEMA``."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def read_batch(value: bytes) -> pa.RecordBatch:
    """Return the record batch of a message.

    Raises:
        UnreadableBatchError: If it is none, damaged, or of another schema.
    """
    return _read(value)[0]


def _read(value: bytes) -> tuple[pa.RecordBatch, list[pa.Array]]:
    """Return the record batch of a message, and its columns: making them takes as long again."""
    try:
        with pa.ipc.open_stream(value) as reader:
            batch = reader.read_next_batch()
        # Offsets, codes, UTF-8: about 13 ns a row.
        batch.validate(full=True)
    except (pa.ArrowException, StopIteration, OSError) as error:
        raise UnreadableBatchError(f"{len(value)} bytes are no packed batch: {error}") from error
    if not batch.schema.equals(SCHEMA, check_metadata=False):
        raise UnreadableBatchError(f"schema == {batch.schema}, must be that of litmus.events")
    columns = batch.columns
    for name, place in _REQUIRED:
        if columns[place].null_count:
            raise UnreadableBatchError(f"{name} is null in a row, must have a value")
    return batch, columns


def unpack(value: bytes) -> Batch:
    """Return the columns of a message; they share its memory.

    Raises:
        UnreadableBatchError: If it is no packed batch.
    """
    columns = _read(value)[1]
    return Batch(*(_READ[name](columns[_PLACES[name]]) for name in Batch._fields))


def read_names(column: pa.DictionaryArray) -> Names:
    """Return the names of a dictionary column."""
    indices = column.indices
    codes = _numbers(indices, np.int32)
    if not indices.null_count:
        return Names(column.dictionary.to_pylist(), codes)
    known = _bits(indices.buffers()[0], indices)
    return Names(column.dictionary.to_pylist(), np.where(known, codes, np.int32(-1)))


def _numbers(column: pa.Array, type_: type[np.generic]) -> NDArray[Any]:
    """Return the values in place. ``to_numpy`` takes twice as long, and imports pandas."""
    start = column.offset * np.dtype(type_).itemsize
    return np.frombuffer(column.buffers()[1], type_, len(column), start)


def _booleans(column: pa.BooleanArray) -> NDArray[np.bool_]:
    return _bits(column.buffers()[1], column).view(np.bool_)


def _bits(buffer: pa.Buffer, column: pa.Array) -> NDArray[np.uint8]:
    start, end = column.offset, column.offset + len(column)
    return np.unpackbits(np.frombuffer(buffer, np.uint8), bitorder="little")[start:end]


def _reader_of(type_: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_dictionary(type_):
        return read_names
    if pa.types.is_boolean(type_):
        return _booleans
    return partial(_numbers, type_=type_.to_pandas_dtype())


def _as_it_is(column: pa.Array) -> pa.Array:
    return column


_READ: Mapping[str, Callable[[Any], Any]] = {
    name: _reader_of(SCHEMA.field(name).type) for name in Batch._fields
} | {"attributes": _as_it_is}
"""How each column of a ``Batch`` is read: looked up once, small batches are many."""
