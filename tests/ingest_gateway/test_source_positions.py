"""Where a door starts in a source partition, and when it must not: records are gone."""

import pytest
from confluent_kafka import OFFSET_INVALID, TopicPartition

from ingest_gateway.source_positions import Positions, committed_positions
from schemas.topics import METRICS

SOURCE = (METRICS.name, 0)


class Log:
    """What a broker says of a partition: the group's commit, where it begins, where it ends."""

    def __init__(self, committed: int, low: int, end: int) -> None:
        self._committed, self._low, self._end = committed, low, end

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout > 0
        return [TopicPartition(one.topic, one.partition, self._committed) for one in partitions]

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        assert (partition.topic, partition.partition) == SOURCE
        assert timeout > 0
        return self._low, self._end


def positions(log: Log, *, is_marked: bool = True, accepts_gaps: bool = False) -> Positions:
    marked = {SOURCE} if is_marked else set()
    partitions = [TopicPartition(*SOURCE)]
    return committed_positions(log, partitions, marked=marked, accepts_gaps=accepts_gaps)  # type: ignore[arg-type]  # as much of a consumer as it needs


@pytest.mark.parametrize(
    ("committed", "low", "start"), [(6_000, 5_000, 6_000), (5_000, 5_000, 5_000), (9_000, 0, 9_000)]
)
def test_a_commit_that_the_log_still_holds_is_where_a_door_starts(
    committed: int, low: int, start: int
) -> None:
    assert positions(Log(committed, low, 9_000)) == ({SOURCE: start}, None, {SOURCE: committed})


def test_a_commit_outside_the_log_is_a_gap() -> None:
    before, behind = positions(Log(1_000, 5_000, 9_000)), positions(Log(9_500, 5_000, 9_000))
    assert "litmus.metrics/0 lost the records 1000 to 4999" in str(before.gap)
    assert "litmus.metrics/0 ends at 9000, 9500 was taken already" in str(behind.gap)


def test_without_a_commit_a_partition_that_a_door_has_held_and_that_was_cut_is_a_gap() -> None:
    found = positions(Log(OFFSET_INVALID, 5_000, 9_000))
    assert "litmus.metrics/0 begins at 5000, and may have lost records" in str(found.gap)
    assert "offsets.retention.minutes" in str(found.gap)
    assert "LITMUS_SOURCE_GAPS=accept" in str(found.gap)


def test_without_a_commit_a_partition_that_is_whole_or_new_is_read_from_its_start() -> None:
    assert positions(Log(OFFSET_INVALID, 0, 9_000)) == ({SOURCE: 0}, None, {})
    new = positions(Log(OFFSET_INVALID, 5_000, 9_000), is_marked=False)
    assert new == ({SOURCE: 5_000}, None, {})


@pytest.mark.parametrize("committed", [1_000, OFFSET_INVALID])
def test_what_is_accepted_starts_where_there_are_records_and_is_yet_to_be_committed(
    committed: int,
) -> None:
    found = positions(Log(committed, 5_000, 5_000), accepts_gaps=True)
    assert (found.starts, found.gap) == ({SOURCE: 5_000}, None)
    assert found.committed.get(SOURCE) != 5_000
