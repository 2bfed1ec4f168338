"""Every due and changed (experiment, tick) has exactly one look, whatever happens on the way.

Streams of partials with repeats, frozen and replaced writers and restarts that lose the newest
state give the looks of an undisturbed run; running intervals never widen.
"""

import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.control import DefinitionChange, Settings, SettingsChange
from schemas.definitions import Analysis
from schemas.partials import STATE_VERSION, ImportCount, Partial
from stream_processors.merge.assembly import PartialGapError
from stream_processors.merge.changelog import PROGRESS, Key
from stream_processors.merge.merging import LogMismatchError, MergedTick, Merger
from tests.seeds import examples
from tests.stream_processors.merge.builders import (
    CONVERSION,
    COUNT,
    NEXT_VERSION,
    make_definition,
    make_partial,
    make_sums,
    rate,
)
from tests.stream_processors.merge.changelogs import as_before_ticks_were_in_keys
from tests.stream_processors.merge.streams import (
    clean_stream,
    expected_looks,
    make_world,
    rough_stream,
)

Looks = dict[tuple[str, int], set[str]]

OTHER = ImportCount("other", 1, 0)


class Changelog:
    """A compacted topic whose newest writes a crash may lose: always a suffix, never a middle."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, bytes | None]] = []

    def lose(self, count: int) -> None:
        if count:
            del self.writes[-count:]

    def records(self) -> dict[str, bytes | None]:
        return dict(self.writes)


def run(stream: list[Partial], partitions: int) -> list[MergedTick]:
    merger = Merger(partitions)
    return [tick for offset, part in enumerate(stream) for tick in merger.take(offset, part)]


def run_with_crashes(
    stream: list[Partial], partitions: int, rng: random.Random
) -> list[MergedTick]:
    """Return all ticks that were published, those that were published again too."""
    changelog, merger = Changelog(), Merger(partitions)
    published: list[MergedTick] = []
    crashes = rng.randint(1, 4)
    # Seldom written records cover many ticks: then some are far ahead of the progress.
    write_chance = rng.choice([1.0, 0.3, 0.1])
    offset = 0
    while offset < len(stream):
        published += merger.take(offset, stream[offset])
        offset += 1
        if rng.random() < write_chance:
            changelog.writes += merger.records().items()
        if crashes and rng.random() < 0.15:
            crashes -= 1
            lost_max = rng.choice([2, len(changelog.writes)])
            changelog.lose(rng.randint(0, min(lost_max, len(changelog.writes))))
            merger = Merger.load(changelog.records(), partitions)
            offset = merger.next_offset
    return published


def identities(ticks: list[MergedTick]) -> Looks:
    found: Looks = {}
    for tick in ticks:
        for experiment_id, record in tick.looks:
            found.setdefault((experiment_id, tick.tick), set()).add(record["look"]["sha256"])
    return found


def assert_running_intervals_never_widen(ticks: list[MergedTick]) -> None:
    before: dict[tuple[str, str, str], tuple[float, float, float]] = {}
    for tick in sorted(ticks, key=lambda one: one.tick):
        for experiment_id, record in tick.looks:
            for metric_id, effect in _matured_effects(record):
                key = (experiment_id, metric_id, effect["variant"])
                p_value, low, high = _running(effect, before.get(key))
                assert p_value <= before.get(key, (1.0, 0.0, 0.0))[0]
                if key in before:
                    assert before[key][1] <= low
                    assert high <= before[key][2]
                before[key] = (p_value, low, high)


def _matured_effects(record: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (metric["metric_id"], effect)
        for metric in record["metrics"]
        if metric["basis"] == "matured"
        for effect in metric["effects"]
    ]


def _running(
    effect: dict[str, Any], before: tuple[float, float, float] | None
) -> tuple[float, float, float]:
    shown = effect["absolute"]["always_valid"]
    if shown is None:
        return before or (1.0, -math.inf, math.inf)
    if shown["running_low"] is None:
        # Empty once, empty for good; the effect's own status is that of this look.
        assert effect["status"] == "empty_intersection" or (before and before[1] == math.inf)
        return shown["running_p_value"], math.inf, -math.inf
    return shown["running_p_value"], shown["running_low"], shown["running_high"]


def start(definition_id: str = "x", partitions: int = 2) -> tuple[Merger, list[MergedTick]]:
    """Return a merger after tick 1, at which an experiment was created and started."""
    merger = Merger(partitions)
    change = DefinitionChange(make_definition(definition_id))
    ticks = []
    for partition in range(partitions):
        changes = [change] if partition == 0 else []
        ticks += merger.take(merger.next_offset, make_partial(partition, 1, changes=changes))
    return merger, ticks


def feed(merger: Merger, *partials: Partial) -> list[MergedTick]:
    return [tick for one in partials for tick in merger.take(merger.next_offset, one)]


@given(st.integers(0, 2**32))
@examples(150)
def test_an_undisturbed_stream_has_every_look_once(seed: int) -> None:
    world = make_world(random.Random(seed))
    ticks = run(clean_stream(world), world.partition_count)
    assert [tick.tick for tick in ticks] == list(range(1, world.tick_count + 1))
    listed = [(one, tick.tick) for tick in ticks for one, _ in tick.looks]
    assert len(listed) == len(set(listed))
    assert set(listed) == expected_looks(world)
    assert_running_intervals_never_widen(ticks)


@given(st.integers(0, 2**32))
@examples(200)
def test_repeats_and_frozen_writers_change_nothing(seed: int) -> None:
    rng = random.Random(seed)
    world = make_world(rng)
    clean = run(clean_stream(world), world.partition_count)
    rough = run(rough_stream(world, rng), world.partition_count)
    assert [tick._replace(looks=[], snapshots=[]) for tick in rough] == [
        tick._replace(looks=[], snapshots=[]) for tick in clean
    ]
    assert identities(rough) == identities(clean)


@given(st.integers(0, 2**32))
@examples(300)
def test_restarts_that_lose_writes_repeat_looks_and_change_none(seed: int) -> None:
    rng = random.Random(seed)
    world = make_world(rng)
    stream = rough_stream(world, rng)
    undisturbed = identities(run(stream, world.partition_count))
    published = run_with_crashes(stream, world.partition_count, rng)
    assert identities(published) == undisturbed
    assert set(undisturbed) == expected_looks(world)
    assert_running_intervals_never_widen(published)


@given(st.integers(0, 2**32))
@examples(200)
def test_an_upgrade_amid_crashes_mixes_no_rules_and_leaves_no_look_out(seed: int) -> None:
    rng = random.Random(seed)
    world = make_world(rng)
    stream = rough_stream(world, rng, upgrade=True)
    undisturbed = run(stream, world.partition_count)
    published = run_with_crashes(stream, world.partition_count, rng)
    assert identities(published) == identities(undisturbed)
    skipped = {(one.experiment_id, tick.tick) for tick in undisturbed for one in tick.skipped}
    assert set(identities(undisturbed)) | skipped >= expected_looks(world)
    assert not set(identities(undisturbed)) & skipped
    assert_running_intervals_never_widen(published)


@given(st.integers(0, 2**32))
@examples(60)
def test_state_after_a_restart_is_the_state_before_it(seed: int) -> None:
    rng = random.Random(seed)
    world = make_world(rng)
    stream = clean_stream(world)
    cut = rng.randint(0, len(stream))
    merger = Merger(world.partition_count)
    records: dict[str, bytes | None] = {}
    for offset, part in enumerate(stream[:cut]):
        merger.take(offset, part)
        records |= merger.records()
    loaded = Merger.load(records, world.partition_count)
    for offset, part in enumerate(stream[loaded.next_offset :], loaded.next_offset):
        loaded.take(offset, part)
    for offset, part in enumerate(stream[cut:], cut):
        merger.take(offset, part)
    for experiment_id, experiment in merger.experiments.items():
        assert loaded.experiments[experiment_id].to_record() == experiment.to_record()


def test_a_tick_is_merged_when_all_partitions_reported_it() -> None:
    merger, _ = start()
    assert not feed(merger, make_partial(1, 2), make_partial(1, 3))
    assert [tick.tick for tick in feed(merger, make_partial(0, 2))] == [2]
    assert [tick.tick for tick in feed(merger, make_partial(0, 3))] == [3]


def test_sums_of_partitions_are_added_and_kept_until_replaced() -> None:
    merger, _ = start()
    sums = [
        make_sums("x", [rate(100, 40), rate(100, 50)]),
        make_sums("x", [rate(7, 1), rate(8, 2)]),
    ]
    feed(merger, make_partial(0, 2, sums[0]), make_partial(1, 2, sums[1]))
    newer = make_sums("x", [rate(9, 3), rate(8, 2)])
    (tick,) = feed(merger, make_partial(0, 3), make_partial(1, 3, newer))
    ((_, record),) = tick.looks
    # 100 + 9 units with 40 + 3 conversions; 100 + 8 with 50 + 2.
    assert record["integers"]["matured"] == [[["109", "43", "43"], ["108", "52", "52"]]]
    assert record["look"]["offsets"] == {"0": 300, "1": 301}


def test_what_did_not_change_has_no_look() -> None:
    merger, _ = start()
    sums = make_sums("x", [rate(100, 40), rate(100, 50)])
    (first,) = feed(merger, make_partial(0, 2, sums), make_partial(1, 2))
    (again,) = feed(merger, make_partial(0, 3, sums), make_partial(1, 3))
    assert len(first.looks) == len(first.snapshots) == 1
    assert not again.looks
    assert not again.snapshots
    assert again.ledger["tick"] == 3


def test_a_draft_has_a_snapshot_without_results_and_a_start_the_first_look() -> None:
    merger = Merger(1)
    draft, started = make_definition("x", started=False, version=1), make_definition("x")
    (tick,) = feed(merger, make_partial(0, 1, changes=[DefinitionChange(draft)]))
    ((_, snapshot),) = tick.snapshots
    assert snapshot["definition"]["status"] == "draft"
    assert snapshot["results"] is None
    assert not tick.looks
    (tick,) = feed(merger, make_partial(0, 2, changes=[DefinitionChange(started)]))
    ((_, snapshot),) = tick.snapshots
    assert snapshot["results"]["metrics"][0]["effects"][0]["status"] == "no_units"
    assert "integers" not in snapshot["results"]


def test_created_and_started_at_one_tick_has_one_snapshot() -> None:
    _, (tick,) = start()
    assert [one for one, _ in tick.snapshots] == ["x"]
    assert [one for one, _ in tick.looks] == ["x"]


def test_an_added_metric_counts_from_its_own_tick() -> None:
    merger, _ = start()
    sums = make_sums("x", [rate(100, 40), rate(100, 50)])
    feed(merger, make_partial(0, 2, sums), make_partial(1, 2, sums))
    grown = DefinitionChange(make_definition("x", metrics=(CONVERSION, COUNT), version=4))
    (tick,) = feed(merger, make_partial(0, 3, changes=[grown]), make_partial(1, 3))
    ((_, record),) = tick.looks
    assert record["version"] == 4
    assert record["integers"]["matured"][1] == [["0", "0", "0"], ["0", "0", "0"]]


def test_the_last_look_is_made_even_if_nothing_changed() -> None:
    merger, _ = start()
    metric = [rate(100, 40), rate(100, 50)]
    feed(merger, *[make_partial(one, 2, make_sums("x", metric)) for one in (0, 1)])
    last = make_sums("x", metric, final=True)
    (tick,) = feed(merger, make_partial(0, 3, last), make_partial(1, 3))
    assert [record["final"] for _, record in tick.looks] == [True]
    (tick,) = feed(merger, make_partial(0, 4, last), make_partial(1, 4))
    assert not tick.looks


def test_mixed_state_versions_are_skipped_with_the_reason_and_made_up_for() -> None:
    merger, _ = start()
    sums = make_sums("x", [rate(100, 40), rate(100, 50)])
    (tick,) = feed(
        merger, make_partial(0, 2, sums, state_version=NEXT_VERSION), make_partial(1, 2, sums)
    )
    assert not tick.looks
    assert [(one.experiment_id, one.tick) for one in tick.skipped] == [("x", 2)]
    assert tick.skipped[0].reason == f"mixed state versions: {STATE_VERSION}, {NEXT_VERSION}"
    merger = Merger.load(merger.records(), 2)
    parts = [make_partial(one, 3, sums, state_version=NEXT_VERSION) for one in (0, 1)]
    (tick,) = feed(merger, *parts)
    assert [record["inputs"]["state_version"] for _, record in tick.looks] == [NEXT_VERSION]
    assert not tick.skipped


def test_an_owed_look_needs_no_report() -> None:
    merger, _ = start()
    sums = make_sums("x", [rate(100, 40), rate(100, 50)])
    feed(merger, make_partial(0, 2, sums), make_partial(1, 2, state_version=NEXT_VERSION))
    (tick,) = feed(merger, make_partial(0, 3), make_partial(1, 3))
    assert [one for one, _ in tick.looks] == ["x"]


def test_an_owed_look_is_not_made_at_a_tick_that_the_record_contains() -> None:
    merger, _ = start()
    lost = merger.records()
    sums = make_sums("x", [rate(100, 40), rate(100, 50)])
    newer = make_sums("x", [rate(200, 80), rate(200, 90)])
    replayed = [make_partial(0, 2, sums), make_partial(1, 2)]
    feed(
        merger, *replayed, make_partial(0, 3, newer), make_partial(1, 3, state_version=NEXT_VERSION)
    )
    newest = {
        key: value for key, value in merger.records().items() if not key.startswith("at/progress/")
    }
    merger = Merger.load(lost | newest, 2)
    (tick,) = feed(merger, *replayed)
    assert tick.tick == 2
    assert not tick.looks


def test_parts_of_a_report_that_was_begun_again_are_not_mixed() -> None:
    merger, _ = start(partitions=1)
    old = [make_partial(0, 2, part=part, parts=2) for part in range(2)]
    new = [make_partial(0, 2, part=part, parts=3) for part in range(3)]
    assert not feed(merger, old[0], new[0], old[1], *new[1:2])
    assert [tick.tick for tick in feed(merger, new[2])] == [2]


def test_the_ledger_adds_partitions_and_shows_attribution() -> None:
    merger, _ = start()
    sums = make_sums("x", [rate(100, 40), rate(100, 50)])
    (tick,) = feed(merger, make_partial(0, 2, sums), make_partial(1, 2, sums))
    assert tick.ledger["rows"] == {
        "received": 4, "fresh": 4, "duplicate": 0, "conflict": 0, "stale": 0, "refused": 0,
    }  # fmt: skip
    assert [one["offset"] for one in tick.ledger["partitions"]] == [200, 201]
    assert tick.ledger["experiments"]["x"] == {
        "counted": 180, "outside_window": 0, "excluded": 0, "no_assignment": 0,
    }  # fmt: skip


def test_the_ledger_adds_what_partitions_took_of_imports_and_keeps_it_until_they_say_more() -> None:
    merger, _ = start()
    (none,) = feed(merger, make_partial(0, 2, imports=[]), make_partial(1, 2))
    spend = [ImportCount("spend", 3, 70)]
    (first,) = feed(
        merger, make_partial(0, 3, imports=spend), make_partial(1, 3, imports=[*spend, OTHER])
    )
    merger = Merger.load(merger.records(), 2)
    (same,) = feed(merger, make_partial(0, 4), make_partial(1, 4))
    more = [ImportCount("spend", 4, 71)]
    (later,) = feed(merger, make_partial(0, 5, imports=more), make_partial(1, 5))

    assert none.ledger["imports"] is None, "partition 1 has not said"
    assert first.ledger["imports"] == same.ledger["imports"] == {
        "spend": {"parts": 6, "rows": 140}, "other": {"parts": 1, "rows": 0},
    }  # fmt: skip
    assert later.ledger["imports"] == {
        "spend": {"parts": 7, "rows": 141}, "other": {"parts": 1, "rows": 0},
    }  # fmt: skip


def test_a_merger_from_before_imports_were_counted_waits_until_partitions_say() -> None:
    merger, _ = start()
    feed(merger, make_partial(0, 2, imports=[OTHER]), make_partial(1, 2, imports=[]))
    records = as_before_ticks_were_in_keys(merger.records())
    progress = msgspec.msgpack.decode(records["progress"])
    del progress["imports"]

    merger = Merger.load(records | {"progress": msgspec.msgpack.encode(progress)}, 2)

    (unknown,) = feed(merger, make_partial(0, 3, imports=[OTHER]), make_partial(1, 3))
    (known,) = feed(merger, make_partial(0, 4), make_partial(1, 4, imports=[]))
    assert unknown.ledger["imports"] is None
    assert known.ledger["imports"] == {"other": {"parts": 1, "rows": 0}}


def test_settings_are_those_of_the_tick() -> None:
    merger, _ = start(partitions=1)
    feed(merger, make_partial(0, 2, changes=[SettingsChange(Settings(stride=2))]))
    assert merger.settings == Settings()  # what counts is what the partial itself carries
    assert Merger.load(merger.records(), 1).settings == merger.settings


def test_a_partition_far_behind_is_named() -> None:
    merger, _ = start()
    feed(merger, *[make_partial(0, tick) for tick in range(2, 12)])
    assert merger.behind() == []
    feed(merger, make_partial(0, 12), make_partial(0, 13))
    assert merger.behind() == [1]
    sums = make_sums("x", [rate(100, 40), rate(100, 50)])
    (tick,) = feed(merger, make_partial(1, 2, sums))
    assert [record["look"]["behind"] for _, record in tick.looks] == [[1]]


def test_resuming_reads_what_is_not_merged_again() -> None:
    merger, _ = start()
    feed(merger, make_partial(1, 2), make_partial(1, 3, part=0, parts=2))
    assert merger.next_offset == 4
    assert merger.resume_offset == 2
    assert Merger.load(merger.records(), 2).next_offset == 2


def test_a_message_delivered_again_does_not_begin_its_report_again() -> None:
    merger, _ = start(partitions=1)
    parts = [make_partial(0, 2, part=part, parts=3) for part in range(3)]
    feed(merger, *parts[:2])
    assert not merger.take(1, parts[0])
    assert [tick.tick for tick in feed(merger, parts[2])] == [2]


def test_the_progress_is_written_last() -> None:
    merger, _ = start()
    assert [Key.decode(key).name for key in merger.records()] == [("experiment", "x"), PROGRESS]
    assert [Key.decode(key).name for key in merger.records()] == [PROGRESS]


@pytest.mark.parametrize(
    ("partial", "error"),
    [
        (make_partial(0, 3), PartialGapError),
        (make_partial(2, 2), LogMismatchError),
        (make_partial(0, 2, log_id="another"), LogMismatchError),
    ],
)
def test_what_does_not_continue_the_log_stops_merging(
    partial: Partial, error: type[Exception]
) -> None:
    merger, _ = start()
    with pytest.raises(error):
        feed(merger, partial)


def test_a_tick_that_is_missing_is_said_with_what_to_do() -> None:
    merger, _ = start()
    with pytest.raises(PartialGapError, match=r"`litmus down`.*`litmus recount`.*`litmus up`"):
        feed(merger, make_partial(0, 3))


def test_sums_of_an_unknown_experiment_stop_merging() -> None:
    merger, _ = start(partitions=1)
    with pytest.raises(LogMismatchError, match="'y', never defined"):
        feed(merger, make_partial(0, 2, make_sums("y", [rate(1, 0), rate(1, 0)])))


def test_records_of_another_partition_count_are_refused() -> None:
    merger, _ = start()
    with pytest.raises(LogMismatchError, match="records of 2 partitions"):
        Merger.load(merger.records(), 3)


def test_a_snapshot_has_the_results_by_segment_of_its_look() -> None:
    definition = msgspec.structs.replace(make_definition(), segments={"country": ["CA"]})
    sums = make_sums(definition.id, [rate(1_000, 100), rate(1_000, 120)])
    changes = [DefinitionChange(definition)]

    [merged] = run([make_partial(0, 1, sums, changes=changes)], 1)

    [(_, snapshot)], [(_, record)] = merged.snapshots, merged.looks
    assert snapshot["segments"] == record["segments"]
    assert [one["value"] for one in snapshot["segments"]["country"]] == ["CA", "other"]
    assert "segments" not in snapshot["results"]


@pytest.mark.parametrize("method", ["always_valid", "group_sequential"])
def test_a_restart_between_any_two_ticks_forgets_nothing_of_the_path(method: Any) -> None:
    """Planned looks and guardrails included: all that later looks build on is in the records."""
    guard = msgspec.structs.replace(
        CONVERSION, id="guard", role="guardrail", margin={"absolute": 0.05}
    )
    units_max = 2_000 if method == "group_sequential" else None
    definition = msgspec.structs.replace(
        make_definition(metrics=(CONVERSION, guard)),
        analysis=Analysis(method=method, units_max=units_max),
    )
    stream = []
    for tick in range(1, 8):
        units = 150 * tick
        sums = [rate(units, units // 4), rate(units, units // 4 + 9 * (tick % 3))]
        changes = [DefinitionChange(definition)] if tick == 1 else []
        stream.append(make_partial(0, tick, make_sums(definition.id, sums, sums), changes=changes))
    undisturbed = [tick.looks for tick in run(stream, 1)]

    records: dict[str, bytes | None] = {}
    restarted = []
    for offset, partial in enumerate(stream):
        merger = Merger.load(records, 1)
        restarted += [tick.looks for tick in merger.take(offset, partial)]
        records |= merger.records()

    assert restarted == undisturbed
    last = undisturbed[-1][0][1]["metrics"][0]["effects"][0]
    assert (last["absolute"]["group_sequential"] is not None) == (method == "group_sequential")
