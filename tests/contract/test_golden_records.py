"""What was stored once stays readable, and nobody changes a format without noticing.

The files hold records as they were written first. State that is read by other rules than it was
written by would give wrong numbers, so a change here is the moment to think of STATE_VERSION.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from schemas.batch import read_batch
from schemas.control import DefinitionChange, SettingsChange, decode_record, decode_tick
from schemas.imports import DAY_MS
from schemas.partials import STATE_VERSION, ImportCount, decode_partial, sums_from_bytes
from stream_processors.accumulate.records import (
    CHUNK_COLUMNS,
    DAY_COLUMNS,
    SEGMENT_COLUMNS,
    ChunkRecord,
    ForeignRecordError,
    Manifest,
    SegmentRecord,
    decode_columns,
    read_record,
)
from stream_processors.merge.merging import Merger
from stream_processors.merge.records import (
    decode_experiment,
    decode_imports,
    decode_progress,
)
from tests.contract.golden import DEFINITION, FOLDER, SETTINGS, make_all
from tests.stream_processors.accumulate.builders import T0
from tests.stream_processors.merge.builders import (
    CONVERSION,
    COUNT,
    make_definition,
    make_partial,
    make_sums,
    rate,
)

READERS: dict[str, Callable[[bytes], Any]] = {
    "control-record": decode_record,
    "tick": decode_tick,
    "batch": read_batch,
    "partial": decode_partial,
    "segment": lambda value: read_record([value], SegmentRecord),
    "chunk": lambda value: read_record([value], ChunkRecord),
    "manifest": lambda value: read_record([value], Manifest),
    "merge-progress": decode_progress,
    "merge-experiment": decode_experiment,
    "merge-imports": decode_imports,
}


OLD = {
    "control-record-1",
    "control-record-2",
    "merge-experiment-2",
    "merge-experiment-3",
    "merge-progress-3",
    "merge-progress-4",
    "partial-3",
    "segment-2",
    "segment-3",
}
"""Records of versions before, under the number of the version."""


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    """The same records as they are written now."""
    return make_all()


def golden(name: str) -> bytes:
    return (FOLDER / f"{name}.bin").read_bytes()


def test_every_stored_format_has_a_record_here(made: dict[str, bytes]) -> None:
    stored = {path.stem for path in FOLDER.glob("*.bin")}

    assert stored - OLD == set(READERS) == set(made)


def test_a_control_record_from_before_the_catalogue_stays_readable() -> None:
    record = decode_record(golden("control-record-1"))

    assert record.snapshot is not None
    assert set(record.snapshot.definitions) == {"x"}
    assert record.snapshot.catalogue == {}


def test_a_control_record_from_before_ratios_and_segments_stays_readable() -> None:
    record = decode_record(golden("control-record-2"))

    assert record.snapshot is not None
    assert record.snapshot.definitions == {"x": DEFINITION}


@pytest.mark.parametrize("version", [2, 3])
def test_a_segment_that_was_counted_by_the_rules_of_before_is_refused_and_not_misread(
    version: int,
) -> None:
    with pytest.raises(ForeignRecordError, match="another format"):
        read_record([golden(f"segment-{version}")], SegmentRecord)


def test_a_partial_from_before_imports_were_counted_stays_readable() -> None:
    partial, new = decode_partial(golden("partial-3")), decode_partial(golden("partial"))

    assert (partial.state_version, partial.imports) == (3, None)
    assert msgspec.structs.replace(partial, state_version=STATE_VERSION) == new


def test_a_merger_from_before_imports_were_counted_stays_readable() -> None:
    progress, new = decode_progress(golden("merge-progress-3")), golden("merge-progress")

    assert progress.imports == []
    assert msgspec.structs.replace(progress, imports_tick=2) == decode_progress(new)


def test_a_merger_from_before_imports_had_a_record_of_their_own_stays_readable() -> None:
    progress = decode_progress(golden("merge-progress-4"))
    experiment = golden("merge-experiment")
    stored = {"progress": golden("merge-progress-4"), "experiment/checkout-color": experiment}

    assert (progress.imports, progress.imports_tick) == ([None, None], 0)
    assert Merger.load(stored, 2).next_offset == 4


def test_sums_that_cannot_be_read_any_more_make_no_look_until_all_are_reported_anew() -> None:
    stored = {
        "progress": golden("merge-progress-4"),
        "experiment/checkout-color": golden("merge-experiment-2"),
    }
    merger = Merger.load(stored, 2)
    path = merger.experiments["checkout-color"].to_record().path
    sums = make_sums("checkout-color", [rate(900, 40), rate(910, 61)], [rate(9, 4), rate(9, 6)])
    changed = DefinitionChange(make_definition(version=4, metrics=[CONVERSION, COUNT]))

    merger.take(4, make_partial(0, 3, changes=[changed]))
    [unread] = merger.take(5, make_partial(1, 3))
    merger.take(6, make_partial(0, 4, sums))
    [mixed] = merger.take(7, make_partial(1, 4))
    merger.take(8, make_partial(0, 5))
    [whole] = merger.take(9, make_partial(1, 5, sums))

    assert [one.looks for one in (unread, mixed)] == [[], []]
    assert [one.reason for one in unread.skipped + mixed.skipped] == [
        "sums of state version 2, must be 3 at least",
        "mixed state versions: 2, 4",
    ]
    [(_, look)] = whole.looks
    assert look["variants"] == [
        {"variant": "control", "units": 1_800},
        {"variant": "treatment", "units": 1_820},
    ]
    assert look["inputs"]["path"] == path.exact()


def test_the_running_p_values_of_a_split_judged_by_a_single_prior_are_not_continued() -> None:
    """Its 1.0 could be any value below: a minimum over two statistics would be no p-value."""
    old = msgspec.msgpack.decode(golden("merge-experiment-3"))
    old["path"] |= {"sample_ratio_p_value": 0.5, "segment_sample_ratios": {"country": {"CA": 0.5}}}
    experiment = decode_experiment(msgspec.msgpack.encode(old))

    assert experiment.path.split_p_value == 1.0
    assert experiment.path.segment_split_p_values == {}
    new = decode_experiment(golden("merge-experiment"))
    assert (experiment.tick, experiment.sums) == (new.tick, new.sums)
    assert experiment.definition == new.definition


@pytest.mark.parametrize("name", READERS)
def test_a_stored_record_says_what_it_said_when_it_was_written(
    name: str, made: dict[str, bytes]
) -> None:
    read = READERS[name]

    assert read(golden(name)) == read(made[name])


@pytest.mark.parametrize("name", sorted(READERS.keys() - {"batch"}))
def test_a_record_is_still_written_as_it_was(name: str, made: dict[str, bytes]) -> None:
    """A batch is not among them: its bytes are Arrow's business, its columns are ours."""
    assert made[name] == golden(name), (
        f"The format of {name!r} changed. Does the version before read what is written now, and "
        "count it the same? If not, raise STATE_VERSION. Then keep the old file under its version "
        "as one that must stay readable, and write the new one with "
        "`python -m tests.contract.golden`."
    )


@pytest.mark.parametrize("name", ["segment", "chunk", "manifest", "partial"])
def test_state_says_by_which_rules_it_was_made(name: str) -> None:
    record = READERS[name](golden(name))
    header = getattr(record, "header", getattr(record, "base", record))

    assert header.state_version == STATE_VERSION == 4


# The contents once more, by hand: a builder and its reader could go wrong together.


def test_the_stored_imports_are_those_of_both_partitions() -> None:
    assert golden("merge-imports") == (
        b"\x82\xaaimport_ids\x91\xa5spend\xa6counts\x92\x93\x00\x03F\x93\x00\x03G"
    )
    assert decode_imports(golden("merge-imports")) == [
        [ImportCount("spend", 3, 70)], [ImportCount("spend", 3, 71)],
    ]  # fmt: skip


def test_the_stored_control_record_holds_definitions_settings_and_outcomes() -> None:
    record = decode_record(golden("control-record"))

    assert record.snapshot is not None
    assert record.snapshot.definitions == {"x": DEFINITION}
    assert record.changes[1] == SettingsChange(SETTINGS)
    assert [(one.command_id, one.status) for one in record.outcomes] == [("c-1", 201), ("c-2", 409)]


def test_the_stored_tick_has_its_three_times() -> None:
    """Settled stands at the doors' low-water mark; the horizon a minute and ten behind."""
    times = decode_tick(golden("tick")).times

    assert (times.log_ms, times.settled_ms, times.horizon_ms) == (T0, T0 - 5, T0 - 5 - 660_000)


def test_the_stored_batch_holds_four_events() -> None:
    rows = read_batch(golden("batch")).to_pylist()

    assert [row["event_id"] for row in rows] == ["a-1", "a-2", "m-1", "m-2"]
    assert [row["unit_id"] for row in rows] == ["u-1", "ü", "u-1", "ü"]
    assert [row["variant"] for row in rows] == ["t", "c", None, None]
    assert [row["value"] for row in rows] == [0.0, 0.0, -2.5, 49.9]
    assert [row["experiment_id"] for row in rows] == ["x", "x", "x", None]


def test_the_stored_partial_holds_exact_sums() -> None:
    (experiment,) = decode_partial(golden("partial")).experiments

    sums = [[one.sum_q for one in sums_from_bytes(metric)] for metric in experiment.matured]
    assert sums == [[3, 2**40], [0, 1]]
    assert experiment.final


def test_the_stored_chunk_holds_the_four_rows() -> None:
    record = read_record([golden("chunk")], ChunkRecord)
    columns = decode_columns(record.columns, CHUNK_COLUMNS)

    assert (columns["stamp"] >> 2).tolist() == [T0 + 1, T0 + 2, T0 + 3, T0 + 4]
    assert columns["value"].tolist()[2:] == [-2.5, 49.9]
    # Assignments carry their places: without attributes both are after the two declared values.
    assert [int(value) % 2**24 for value in columns["value"].tolist()[:2]] == [2, 2]
    assert [record.metrics[code] for code in columns["code"][2:].tolist()] == ["buy", "buy"]


def test_the_stored_segment_holds_an_exposed_unit() -> None:
    record = read_record([golden("segment")], SegmentRecord)
    columns = decode_columns(record.columns, SEGMENT_COLUMNS)

    assert record.unit_types == ["user"]
    assert set(columns["experiment"].tolist()) == {0}
    assert set(columns["entry"].tolist()) <= {T0 + 1, T0 + 2}
    assert record.metrics == ["buy"]
    days = decode_columns(record.days, DAY_COLUMNS)
    assert set(days["day"].tolist()) == {T0 // DAY_MS}


def test_the_stored_merger_is_after_its_second_tick() -> None:
    progress = decode_progress(golden("merge-progress"))
    experiment = decode_experiment(golden("merge-experiment"))

    assert (progress.tick, progress.resume_offset, progress.offsets) == (2, 4, [200, 201])
    assert (experiment.tick, sorted(experiment.sums)) == (2, [0, 1])
    assert len(experiment.sha256) == 64
