"""Memory and checkpoint traffic are measured on answers that are right."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from schemas.batch import KIND_ASSIGNMENT, unpack
from stream_processors.accumulate.partition import Ticked
from stream_processors.accumulate.records import CHUNK, Key, encode_key
from stream_processors.accumulate.writing import Write
from tools.bench import memory
from tools.bench.checkpoints import Traffic, measure_checkpoints
from tools.bench.growth import PARTITIONS, PURCHASE, START_MS, Load, Truth, pack, rows_of
from tools.bench.memory import Worker, measure_memory, require_truth
from tools.cli import app
from tools.errors import WrongAnswerError

SMALL = Load(units_per_block=200, rows_per_message=50)


def test_a_block_is_packed_row_by_row_as_it_was_drawn() -> None:
    rows = rows_of(SMALL, 3)

    packed = pack(SMALL, 3, START_MS)

    batches = [unpack(one.value) for one in packed]
    assert sum(one.rows for one in packed) == len(rows.unit) == 600
    assert {one.partition for one in packed} == set(range(PARTITIONS))
    values = np.concatenate([one.value for one in batches])
    assert sorted(values) == sorted(np.where(rows.kind == KIND_ASSIGNMENT, 0, rows.steps / 4))
    assert sorted(rows.unit[:200]) == list(range(600, 800))
    assert rows.unit.max() < 800


def test_units_stop_coming_when_there_are_enough() -> None:
    enough = SMALL._replace(units_max=500)

    assigned = [int((rows_of(enough, block).kind == KIND_ASSIGNMENT).sum()) for block in range(5)]

    assert assigned == [200, 200, 100, 0, 0]
    assert all(len(rows_of(enough, block).unit) == 600 for block in range(5))


def test_numpys_sums_are_those_of_plain_python() -> None:
    truth, steps, seen = Truth(400), {}, set()
    for block in range(2):
        rows = rows_of(SMALL, block)
        truth.add(rows)
        for unit, kind, name, step in zip(*(one.tolist() for one in rows[:4]), strict=True):
            if kind != KIND_ASSIGNMENT and name == PURCHASE:
                steps[unit] = steps.get(unit, 0) + step * 250_000
                seen.add(unit)

    conversion, _, revenue = truth.sums()

    for variant in range(2):
        mine = [steps.get(unit, 0) for unit in range(variant, 400, 2)]
        assert revenue[variant].sum_q == sum(mine)
        assert revenue[variant].sum_squares_q == sum(one * one for one in mine)
        assert conversion[variant].sum_q == sum(unit % 2 == variant for unit in seen)
        assert conversion[variant].unit_count == 200


def test_memory_is_measured_once_the_sums_are_right() -> None:
    figures = measure_memory([400, 1_000], load=SMALL, horizon_events=1_000, keeps_records=True)

    assert [point["units"] for point in figures["points"]] == [400, 1_000]
    assert figures["batch"]["p99_ms"] <= figures["batch"]["max_ms"]
    last = figures["points"][-1]
    assert 0 < last["events_within"] <= 1_000 + SMALL.rows_per_block
    assert last["record_bytes"] > 1_000 * 16


@pytest.mark.parametrize(
    ("blocks", "load", "problem"),
    [(2, SMALL, "fresh rows == "), (1, SMALL._replace(seed=2), "sums == ")],
)
def test_no_figure_is_given_for_wrong_answers(blocks: int, load: Load, problem: str) -> None:
    """One block too few, or the values of another seed."""
    worker = Worker(SMALL, span_ms=60_000, keeps_records=False)
    for packed in pack(SMALL, 0, START_MS):
        worker.take(packed)
    worker.tick()
    require_truth(worker, SMALL, 1)

    with pytest.raises(WrongAnswerError, match=problem):
        require_truth(worker, load, blocks)


def test_traffic_is_told_by_kind_and_ids_are_written_once() -> None:
    small, large = measure_checkpoints([4_000, 40_000], seconds=10, seed=1)

    assert small.bytes_per_second["chunks"] == pytest.approx(
        large.bytes_per_second["chunks"], rel=0.1
    )
    assert large.bytes_per_second["segments"] > 4 * small.bytes_per_second["segments"]
    assert small.cycle_s == 3.0
    assert small.rows == pytest.approx(10 * 10_000 / PARTITIONS, rel=0.1)


def test_an_id_that_is_written_twice_is_noticed() -> None:
    kept: list[Write] = []

    class Kept(Traffic):
        def take(self, ticked: Ticked) -> None:
            kept.extend(one for one in ticked.writes if one.value)
            super().take(ticked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tools.bench.checkpoints.Traffic", Kept)
        measure_checkpoints([1_000], seconds=5, seed=1)
    chunk = next(one for one in kept if one.key[2] == CHUNK)
    traffic = Traffic()
    ticked = Ticked(1, [], [chunk])
    traffic.take(ticked)

    with pytest.raises(WrongAnswerError, match="written twice"):
        traffic.take(ticked)


def test_bounds_that_are_exceeded_are_named_and_fail_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "STATE_BYTES_PER_UNIT_MAX", 1)

    run = CliRunner().invoke(app, ["bench", "memory", "--units", "0.02", "--json"])

    assert run.exit_code == 1
    exceeded = json.loads(run.stdout)["exceeded"]
    assert any(one.startswith("state_bytes_per_unit == ") for one in exceeded)


def test_sizes_must_grow() -> None:
    run = CliRunner().invoke(app, ["bench", "memory", "--units", "2,1"])

    assert run.exit_code == 2
    assert "must grow" in run.output


def test_keys_of_chunks_stand_where_the_test_looks() -> None:
    assert encode_key(Key(0, CHUNK, 7, 9, 0, 1))[2] == CHUNK
