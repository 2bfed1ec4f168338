"""Rows of a packed batch as Python values, and what an event is recognised by."""

from collections.abc import Iterator
from hashlib import blake2b
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

_TOPIC_ID_LENGTH = 22


def rows_of(value: bytes) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a batch, each the values of ``COLUMNS``."""
    with pa.ipc.open_stream(value) as reader:
        batch = reader.read_next_batch()
    return zip(*(_values(batch.column(name)) for name in COLUMNS), strict=True)


def _values(column: pa.Array) -> list[Any]:
    if isinstance(column, pa.DictionaryArray):
        # One string object per distinct name, not per row.
        names = [*column.dictionary.to_pylist(), None]
        return [names[code] for code in column.indices.fill_null(len(names) - 1).to_pylist()]
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
    if len(topic_id) == _TOPIC_ID_LENGTH and place.count("/") == 1:
        partition, _, offset = place.partition("/")
        if partition.isdecimal() and offset.isdecimal():
            return place_id(int(partition), int(offset))
    return event_id
