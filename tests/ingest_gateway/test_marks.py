"""A mark never claims a record that is not acknowledged, whatever happens in whatever order."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest_gateway.marks import Hand, SourceProgress


class Door:
    """A door as far as marks go: it may freeze, die, and be replaced while it still writes."""

    def __init__(self, position: int, low_water_ms: int) -> None:
        self.progress = SourceProgress(position, low_water_ms)
        self.under_way: list[tuple[Hand, range]] = []
        self.stamp_ms: int | None = None
        self.end: tuple[int, int] | None = None


class MarkProtocol(RuleBasedStateMachine):
    """One source partition, a broker with one clock, and doors that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000
        self.source: list[int] = []
        self.acknowledged: set[int] = set()
        self.committed = 0
        self.marks: list[int] = []
        self.doors = [Door(0, 0)]

    def some_door(self, data: Any) -> Door:
        return data.draw(st.sampled_from(self.doors))

    @rule(by_ms=st.integers(0, 3))
    def time_passes(self, by_ms: int) -> None:
        self.now_ms += by_ms

    @rule(count=st.integers(1, 3))
    def a_producer_writes(self, count: int) -> None:
        self.source.extend([self.now_ms] * count)

    @rule(data=st.data(), count=st.integers(1, 4))
    def a_door_takes_records_in_hand(self, data: Any, count: int) -> None:
        door = self.some_door(data)
        start = door.progress.position
        offsets = range(start, min(start + count, len(self.source)))
        if offsets:
            earliest_ms = min(self.source[offset] for offset in offsets)
            hand = door.progress.take(next_offset=offsets.stop, earliest_ms=earliest_ms)
            door.under_way.append((hand, offsets))

    @rule(data=st.data())
    def the_broker_acknowledges_in_any_order(self, data: Any) -> None:
        door = self.some_door(data)
        if door.under_way:
            index = data.draw(st.integers(0, len(door.under_way) - 1))
            hand, offsets = door.under_way.pop(index)
            self.acknowledged.update(offsets)
            door.progress.acknowledge(hand)

    @rule(data=st.data())
    def a_door_commits(self, data: Any) -> None:
        self.committed = self.some_door(data).progress.committable
        assert self.acknowledged >= set(range(self.committed))

    @rule(data=st.data())
    def a_door_asks_for_the_end(self, data: Any) -> None:
        door = self.some_door(data)
        if door.stamp_ms is not None:
            door.end = (door.stamp_ms, len(self.source))

    @rule(data=st.data())
    def a_door_writes_its_mark(self, data: Any) -> None:
        door = self.some_door(data)
        mark_ms = door.progress.low_water_ms
        if door.end is not None:
            stamp_ms, end_offset = door.end
            mark_ms = door.progress.mark(asked_after_ms=stamp_ms, end_offset=end_offset)
        self.marks.append(mark_ms)
        door.stamp_ms = self.now_ms

    @precondition(lambda self: len(self.doors) < 3)
    @rule()
    def another_door_starts_from_what_was_committed(self) -> None:
        self.doors.append(Door(self.committed, max(self.marks, default=0)))

    @precondition(lambda self: len(self.doors) > 1)
    @rule(data=st.data())
    def a_door_dies_and_what_it_sent_may_arrive(self, data: Any) -> None:
        door = self.some_door(data)
        self.doors.remove(door)
        for _, offsets in door.under_way:
            if data.draw(st.booleans()):
                self.acknowledged.update(offsets)

    @invariant()
    def no_record_before_a_mark_is_unacknowledged(self) -> None:
        mark_ms = max(self.marks, default=0)
        for offset, appended_ms in enumerate(self.source):
            assert appended_ms >= mark_ms or offset in self.acknowledged


MarkProtocol.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, derandomize=True
)
TestMarkProtocol = MarkProtocol.TestCase


def test_a_source_read_to_its_end_is_marked_with_the_time_before_it_was_asked_for() -> None:
    progress = SourceProgress(position=7)

    assert progress.mark(asked_after_ms=1_500, end_offset=7) == 1_500
    assert progress.mark(asked_after_ms=1_700, end_offset=7) == 1_700


def test_records_under_way_hold_the_mark_at_the_earliest_of_them() -> None:
    progress = SourceProgress(position=0)
    first = progress.take(next_offset=2, earliest_ms=1_000)
    second = progress.take(next_offset=5, earliest_ms=1_100)

    progress.acknowledge(second)
    assert progress.mark(asked_after_ms=2_000, end_offset=5) == 1_000
    assert progress.committable == 0

    progress.acknowledge(first)
    assert progress.mark(asked_after_ms=2_000, end_offset=5) == 2_000
    assert progress.committable == 5


def test_records_that_lie_unread_hold_the_last_mark() -> None:
    progress = SourceProgress(position=0, low_water_ms=900)

    assert progress.mark(asked_after_ms=2_000, end_offset=1) == 900


def test_a_transaction_marker_at_the_end_does_not_hold_the_mark() -> None:
    progress = SourceProgress(position=0)
    hand = progress.take(next_offset=3, earliest_ms=1_000)
    progress.acknowledge(hand)

    progress.skip_to(4)

    assert progress.mark(asked_after_ms=2_000, end_offset=4) == 2_000
    assert progress.committable == 4


def test_a_mark_never_goes_back() -> None:
    progress = SourceProgress(position=0)
    progress.mark(asked_after_ms=2_000, end_offset=0)

    progress.take(next_offset=1, earliest_ms=1_900)

    assert progress.mark(asked_after_ms=2_100, end_offset=1) == 2_000
