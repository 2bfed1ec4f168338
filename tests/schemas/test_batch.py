"""A packed batch comes back as it was; bytes that are none are refused, whatever they are."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import (
    KIND_ASSIGNMENT,
    KIND_METRIC,
    SCHEMA,
    Batch,
    Names,
    UnreadableBatchError,
    read_batch,
    unpack,
    write_batch,
)
from schemas.hashing import unit_hashes
from tests.stream_processors.accumulate.builders import T0, Event, assignment, batch, measured

events = st.lists(
    st.builds(
        Event,
        unit=st.text(min_size=1, max_size=8),
        event_id=st.text(min_size=1, max_size=8),
        timestamp=st.integers(-(2**63), 2**63 - 1),
        experiment=st.none() | st.sampled_from(["x", "y"]),
        variant=st.none() | st.sampled_from(["c", "t"]),
        metric=st.none() | st.sampled_from(["buy", "view"]),
        value=st.floats(),
        unit_type=st.sampled_from(["user", "session"]),
        timestamp_given=st.booleans(),
    ),
    max_size=20,
)
MESSAGE = batch([assignment("u1", "e1", T0), measured("u2", "e2", T0 + 1)]).value


def names(column: Names) -> list[str | None]:
    return [column.values[code] if code >= 0 else None for code in column.codes.tolist()]


@given(events)
def test_every_column_comes_back_as_it_was_packed(events: list[Event]) -> None:
    found = unpack(batch(events).value)

    assert len(found) == len(events)
    assert found.kind.tolist() == [KIND_METRIC if one.metric else KIND_ASSIGNMENT for one in events]
    assert names(found.unit_type) == [one.unit_type for one in events]
    assert names(found.experiment_id) == [one.experiment for one in events]
    assert names(found.variant) == [one.variant for one in events]
    assert names(found.metric) == [one.metric for one in events]
    assert found.timestamp.tolist() == [one.timestamp for one in events]
    assert found.timestamp_given.tolist() == [one.timestamp_given for one in events]
    values = np.array([one.value for one in events], np.float64)
    assert found.value.tobytes() == values.tobytes()
    keys = pa.array([f"{one.unit_type}/{one.unit}" for one in events], pa.string())
    high, low = unit_hashes(keys)
    assert found.unit_hash_high.tolist() == high.tolist()
    assert found.unit_hash_low.tolist() == low.tolist()


@given(events)
def test_a_batch_is_the_same_after_reading_and_writing_it_again(events: list[Event]) -> None:
    message = batch(events).value

    assert write_batch(read_batch(message)) == message


@given(st.binary(max_size=200))
def test_bytes_that_are_no_batch_are_refused(value: bytes) -> None:
    with pytest.raises(UnreadableBatchError):
        unpack(value)


@given(st.integers(0, len(MESSAGE) - 1))
def test_a_batch_that_was_cut_is_refused_or_whole(length: int) -> None:
    """Arrow ends a stream with a mark of 8 bytes, which nothing depends on."""
    if length >= len(MESSAGE) - 8:
        assert read_batch(MESSAGE[:length]).equals(read_batch(MESSAGE))
    else:
        with pytest.raises(UnreadableBatchError):
            unpack(MESSAGE[:length])


places = st.integers(0, len(MESSAGE) - 1)


@given(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_batch_is_refused_or_read_but_never_fatal(damage: list[tuple[int, int]]) -> None:
    damaged = bytearray(MESSAGE)
    for place, octet in damage:
        damaged[place] = octet

    assert_refused_or_consistent(bytes(damaged))


def test_no_single_flipped_bit_is_fatal() -> None:
    for place in range(len(MESSAGE)):
        damaged = bytearray(MESSAGE)
        damaged[place] ^= 1 << place % 8

        assert_refused_or_consistent(bytes(damaged))


def assert_refused_or_consistent(message: bytes) -> None:
    try:
        found = unpack(message)
    except UnreadableBatchError:
        return
    for name in ("unit_type", "experiment_id", "variant", "metric"):
        column: Names = getattr(found, name)
        assert len(column.codes) == len(found)
        assert all(-1 <= code < len(column.values) for code in column.codes.tolist())
    assert {len(column) for column in arrays_of(found)} == {len(found)}


def arrays_of(found: Batch) -> list[np.ndarray]:
    return [column for column in found if isinstance(column, np.ndarray)]


def test_a_batch_without_a_column_is_refused() -> None:
    without = read_batch(MESSAGE).drop_columns(["received_at"])

    with pytest.raises(UnreadableBatchError, match=r"must be that of litmus\.events"):
        read_batch(write_batch(without))


def test_a_batch_of_another_column_type_is_refused() -> None:
    whole = read_batch(MESSAGE)
    at = SCHEMA.get_field_index("timestamp")
    column = whole.column("timestamp").cast(pa.float64())
    other = whole.set_column(at, pa.field("timestamp", pa.float64(), nullable=False), column)

    with pytest.raises(UnreadableBatchError, match=r"must be that of litmus\.events"):
        read_batch(write_batch(other))


@pytest.mark.parametrize("name", [column.name for column in SCHEMA if not column.nullable])
def test_a_row_without_a_required_value_is_refused(name: str) -> None:
    whole = read_batch(MESSAGE)
    at = SCHEMA.get_field_index(name)
    nothing = pa.nulls(len(whole), SCHEMA.field(at).type)
    columns = [nothing if place == at else column for place, column in enumerate(whole.columns)]

    with pytest.raises(UnreadableBatchError, match=f"{name} is null"):
        read_batch(write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA)))


def test_metadata_is_the_packers_own_business() -> None:
    labelled = read_batch(MESSAGE).replace_schema_metadata({"door": "http"})

    assert len(unpack(write_batch(labelled))) == 2
