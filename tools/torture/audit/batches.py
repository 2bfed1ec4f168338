"""Rows of a packed batch as Python values, and what an event is recognised by."""

from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any

import msgspec
import pyarrow as pa

_encode = msgspec.msgpack.Encoder().encode

COLUMNS = (
    "kind",
    "unit_type",
    "unit_id",
    "unit_hash_high",
    "unit_hash_low",
    "event_id",
    "event_hash_high",
    "event_hash_low",
    "experiment_id",
    "variant",
    "metric",
    "attributes",
    "value",
    "timestamp",
    "timestamp_given",
    "received_at",
)

_TOPIC_ID_DIGITS = 32


Rows = Iterator[tuple[Any, ...]]


def rows_of(value: bytes) -> Rows:
    """Yield the rows of a batch, each the values of ``COLUMNS``."""
    return _rows(pa.Table.from_batches([_batch_of(value)]))


def rows_of_all(values: list[bytes]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of each batch; unpacked together, which takes a fraction of the time."""
    batches = [_batch_of(value) for value in values]
    if batches:
        rows = _rows(pa.Table.from_batches(batches).unify_dictionaries().combine_chunks())
        for batch in batches:
            yield list(islice(rows, batch.num_rows))


def _batch_of(value: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(value) as reader:
        return reader.read_next_batch().replace_schema_metadata(None)


def _rows(table: pa.Table) -> Rows:
    columns = [table.column(name) for name in COLUMNS]
    return zip(*(_values(one.chunk(0)) if one.num_chunks else [] for one in columns), strict=True)


def _values(column: pa.Array) -> list[Any]:
    if isinstance(column, pa.DictionaryArray):
        # One string object per distinct name, not per row.
        names = column.dictionary.to_pylist()
        return [None if code is None else names[code] for code in column.indices.to_pylist()]
    values: list[Any] = column.to_pylist()
    return values


def fingerprint(
    unit_type: str,
    unit: str,
    event_id: str,
    experiment: str | None,
    variant: str | None,
    metric: str | None,
    value: float,
    given: int | None,
    attributes: str | None,
) -> int:
    """Return 64 bits by which an event is recognised: all that its producer said."""
    said = (
        unit_type,
        unit,
        event_id,
        experiment,
        variant,
        metric,
        value + 0.0,  # both zeros are one
        given,
        attributes,
    )
    return int.from_bytes(blake2b(_encode(said), digest_size=8).digest(), "little")


def place_id(partition: int, offset: int) -> str:
    """Return what stands for the id of an event that is known by its place on a Kafka topic."""
    return f"@{partition}/{offset}"


def known_id(event_id: str) -> str:
    """Return an event's id; of one that a door made of a record's place, without the topic's id."""
    topic_id, _, place = event_id.partition("/")
    if len(topic_id) == _TOPIC_ID_DIGITS and place.count("/") == 1:
        partition, _, offset = place.partition("/")
        if partition.isdecimal() and offset.isdecimal():
            return place_id(int(partition), int(offset))
    return event_id
