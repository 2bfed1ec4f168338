"""What is packed is what was admitted: nothing lost, nothing moved to another unit's partition."""

import random
from collections.abc import Sequence

import mmh3
import numpy as np
import pyarrow as pa
import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_gateway import packer
from ingest_gateway.events import KIND_ASSIGNMENT, KIND_METRIC, Admitted
from ingest_gateway.packer import Packed, pack, pack_late
from schemas.batch import ROWS_MAX, SCHEMA, read_batch, unpack
from schemas.hashing import hash128, unit_key
from schemas.topics import MESSAGE_BYTES_MAX
from tests.ingest_gateway.builders import NOW_MS, admitted

names = st.sampled_from(["a", "b", "checkout-color", "m" * 128])
maybe_names = st.none() | names
ids = st.text(
    st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8
) | st.sampled_from(["u-1", "u-2", "é", "x" * 256])
events = st.builds(
    Admitted,
    kind=st.sampled_from([KIND_ASSIGNMENT, KIND_METRIC]),
    unit_type=names,
    unit_id=ids,
    event_id=ids,
    experiment_id=maybe_names,
    variant=maybe_names,
    metric=maybe_names,
    attributes=st.none() | st.sampled_from(['{"a":1}', '{"country":"CÄ"}']),
    value=st.floats(-1e12, 1e12),
    timestamp_ms=st.integers(0, NOW_MS),
    timestamp_given=st.booleans(),
    received_at_ms=st.integers(0, NOW_MS),
    allocation_version=st.none() | st.integers(0, 2**63 - 1),
)


def unpacked(packed: Packed) -> list[Admitted]:
    """Read a message back, row by row."""
    columns = read_batch(packed.value).to_pydict()
    return [
        Admitted(
            kind=columns["kind"][row],
            unit_type=columns["unit_type"][row],
            unit_id=columns["unit_id"][row],
            event_id=columns["event_id"][row],
            experiment_id=columns["experiment_id"][row],
            variant=columns["variant"][row],
            metric=columns["metric"][row],
            attributes=columns["attributes"][row],
            value=columns["value"][row],
            timestamp_ms=columns["timestamp"][row],
            timestamp_given=columns["timestamp_given"][row],
            received_at_ms=columns["received_at"][row],
            allocation_version=columns["allocation_version"][row],
        )
        for row in range(len(columns["kind"]))
    ]


def check(packed: Sequence[Packed], given: Sequence[Admitted]) -> None:
    for message in packed:
        assert len(message.value) <= MESSAGE_BYTES_MAX
        assert 0 < len(message.rows) <= ROWS_MAX
        assert unpacked(message) == [given[row] for row in message.rows.tolist()]
    every_row = [row for message in packed for row in message.rows.tolist()]
    assert sorted(every_row) == list(range(len(given)))


@settings(max_examples=200)
@given(st.lists(events, max_size=20), st.integers(1, 9), st.booleans())
def test_every_event_comes_back_once_and_in_order(
    given: list[Admitted], partition_count: int, shares: bool
) -> None:
    before = packer._SHARED_NAMES_BYTES_MAX
    packer._SHARED_NAMES_BYTES_MAX = before if shares else 0
    try:
        packed = pack(given, partition_count=partition_count, door="http")
    finally:
        packer._SHARED_NAMES_BYTES_MAX = before

    check(packed, given)
    for partition in range(partition_count):
        rows = [row for one in packed if one.partition == partition for row in one.rows.tolist()]
        assert rows == sorted(rows)


@settings(max_examples=200)
@given(st.lists(events, min_size=1, max_size=10), st.integers(1, 12))
def test_a_unit_goes_where_the_default_partitioner_sends_its_key(
    given: list[Admitted], partition_count: int
) -> None:
    partitions = list(range(partition_count))
    default = DefaultPartitioner()

    for message in pack(given, partition_count=partition_count, door="http"):
        for row in message.rows.tolist():
            key = unit_key(given[row].unit_type, given[row].unit_id).encode()
            assert message.partition == default(key, partitions, partitions)


@settings(max_examples=200)
@given(st.lists(events, min_size=1, max_size=10))
def test_hashes_cover_the_unit_and_then_the_event_id(given: list[Admitted]) -> None:
    (message,) = pack(given, partition_count=1, door="http")
    batch = unpack(message.value)

    for row, event in enumerate(given):
        key = unit_key(event.unit_type, event.unit_id).encode()
        low, high = mmh3.hash64(key, 0, signed=False)
        assert (batch.unit_hash_high[row], batch.unit_hash_low[row]) == (high, low)
    same_id = np.array([[one.event_id == two.event_id for one in given] for two in given])
    same_unit = np.array(
        [
            [unit_key(a.unit_type, a.unit_id) == unit_key(b.unit_type, b.unit_id) for a in given]
            for b in given
        ]
    )
    event_hashes = list(
        zip(batch.event_hash_high.tolist(), batch.event_hash_low.tolist(), strict=True)
    )
    same_hash = np.array([[one == two for one in event_hashes] for two in event_hashes])
    assert (same_hash == (same_id & same_unit)).all()


def test_the_event_hash_starts_from_the_halves_of_the_unit_hash_in_their_order() -> None:
    (message,) = pack([admitted()], partition_count=1, door="http")
    batch = unpack(message.value)

    high, low = hash128(pa.array(["m-1"]), batch.unit_hash_high, batch.unit_hash_low)

    assert (batch.event_hash_high[0], batch.event_hash_low[0]) == (high[0], low[0])


def test_equal_ids_of_two_units_are_two_events() -> None:
    given = [admitted(unit_id="u-1"), admitted(unit_id="u-2"), admitted(unit_id="u-1")]

    (message,) = pack(given, partition_count=1, door="http")

    low = unpack(message.value).event_hash_low
    assert low[0] == low[2] != low[1]


def test_the_schema_says_who_packed() -> None:
    (message,) = pack([admitted()], partition_count=8, door="kafka-door-0")
    schema = read_batch(message.value).schema

    assert schema.metadata == {b"door": b"kafka-door-0"}
    assert schema.equals(SCHEMA, check_metadata=False)


def test_nothing_packs_to_nothing() -> None:
    assert pack([], partition_count=8, door="http") == []
    assert pack_late([], door="http") == []


def test_messages_stay_small_however_large_the_events_are() -> None:
    """2,000 events of about 5 kB are 10 MB."""
    rng = random.Random(20_261_121)
    given = [
        admitted(
            event_id=f"{row}-" + "e" * 200,
            unit_id=f"{rng.randrange(500)}-" + "u" * 200,
            metric=f"metric-{row}",
            attributes=f'{{"a":"{row:04000d}"}}',
        )
        for row in range(2_000)
    ]

    packed = pack(given, partition_count=3, door="http")

    check(packed, given)
    assert sum(len(message.value) for message in packed) < 1.2 * 2_000 * 4_700


def test_a_message_carries_no_other_partition_s_attributes() -> None:
    """Two partitions, 1,000 distinct attributes of 1 kB: about half of them in each message."""
    given = [
        admitted(unit_id=f"u-{row}", attributes=f'{{"a":"{row:01000d}"}}') for row in range(100)
    ]

    packed = pack(given, partition_count=2, door="http")

    assert len(packed) == 2
    for message in packed:
        attributes = read_batch(message.value).column("attributes").dictionary
        assert len(attributes) == len(message.rows)


def test_late_events_go_to_one_partition_in_their_order() -> None:
    given = [admitted(unit_id=f"u-{row}") for row in range(50)]

    (message,) = pack_late(given, door="http")

    assert message.partition == 0
    assert unpacked(message) == given


def test_many_late_events_are_cut_into_messages() -> None:
    given = [admitted(unit_id=f"u-{row}" + "x" * 200) for row in range(5_000)]

    packed = pack_late(given, door="http")

    check(packed, given)
    assert len(packed) > 1
    assert [row for message in packed for row in message.rows.tolist()] == list(range(5_000))


@pytest.mark.parametrize("value", [0.1 + 0.2, 5e-324, -0.0, 1e12])
def test_values_keep_every_bit(value: float) -> None:
    (message,) = pack([admitted(value=value)], partition_count=1, door="http")

    assert unpack(message.value).value.tobytes() == np.float64(value).tobytes()
