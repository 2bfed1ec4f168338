"""What is left of a backlog gives the snapshots that all of it gives."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.backlog import Backlog
from query_api.snapshots import Snapshots
from tests.query_api.builders import snapshot_value

KEYS = ("checkout-color", "free-shipping")

# Few ticks and versions, so that many are equal, and some come late.
RECORDS = st.lists(
    st.one_of(
        st.builds(
            lambda key, tick, version, name: (
                key,
                snapshot_value(tick, key, version=version, name=name),
            ),
            st.sampled_from(KEYS),
            st.one_of(st.none(), st.integers(1, 6)),
            st.integers(1, 3),
            st.sampled_from("ab"),
        ),
        st.sampled_from([(key, None) for key in KEYS]),
    ),
    max_size=25,
)


@given(RECORDS)
def test_reading_what_is_left_gives_what_reading_all_gives(
    records: list[tuple[str, bytes | None]],
) -> None:
    whole, backlog, short = Snapshots(), Backlog(), Snapshots()
    for key, value in records:
        whole.take(key, value)
        backlog.add(key, value)
    left = list(backlog.records())

    for key, value in left:
        short.take(key, value)

    assert [short.get(key) for key in KEYS] == [whole.get(key) for key in KEYS]
    held = [one for one in left if one[1] is not None]
    assert len(held) + backlog.left_out == len([one for one in records if one[1] is not None])


def test_of_records_that_grow_newer_the_last_is_left() -> None:
    backlog = Backlog()
    for tick in range(1, 100):
        backlog.add(KEYS[0], snapshot_value(tick, version=1 + tick // 50))

    assert list(backlog.records()) == [(KEYS[0], snapshot_value(99, version=2))]
    assert backlog.left_out == 98


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"definition":{}}', b'{"results":{}}'])
def test_what_is_no_snapshot_is_refused_and_replaces_nothing(value: bytes) -> None:
    backlog = Backlog()
    backlog.add(KEYS[0], snapshot_value(7))

    with pytest.raises(msgspec.MsgspecError):
        backlog.add(KEYS[0], value)

    assert list(backlog.records()) == [(KEYS[0], snapshot_value(7))]
