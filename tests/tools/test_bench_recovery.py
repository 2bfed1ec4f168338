"""What the benchmark of recovery times is right before it is fast."""

from tools.bench.recovery import Restored, measure_recovery, slope, total_s


def test_all_that_was_written_comes_back_and_its_cost_is_known() -> None:
    [restored] = measure_recovery([8_000], cycles=2, seed=1, compaction_s=0.0)

    assert restored.units == 8_000
    assert 0 < restored.live_bytes < restored.written_bytes
    assert restored.live_bytes <= restored.read_bytes <= restored.written_bytes
    assert total_s(restored) > 0


def test_the_slope_is_of_a_million_units() -> None:
    small, large = (
        Restored(
            units=units,
            live_bytes=1,
            written_bytes=1,
            read_bytes=1,
            read_s=seconds,
            decode_s=0.5,
            build_s=0.5,
            rocksdb_write_s=None,
            rocksdb_read_s=None,
        )
        for units, seconds in ((100_000, 1.0), (600_000, 2.0))
    )

    assert slope([small, large]) == 2.0
    assert slope([small]) is None
