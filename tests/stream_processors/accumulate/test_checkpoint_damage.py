"""Checkpoints that are cut, damaged, gone in part, or of another version: never a wrong number.

What is damaged is as good as absent, and more of the log is read. What another version wrote is
refused with what to do. A crash between any two writes of a tick leaves a mix that is valid.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec
import pytest

from schemas.control import ControlState, DefinitionChange
from schemas.definitions import Metric
from schemas.partials import STATE_VERSION, decode_partial
from stream_processors.accumulate.partition import Partition, Ticked
from stream_processors.accumulate.records import (
    CHUNK,
    MANIFEST,
    SEGMENT,
    ChunkRecord,
    ForeignRecordError,
    Manifest,
    SegmentRecord,
    decode_key,
    read_record,
    write_record,
)
from stream_processors.accumulate.recovery import recover
from stream_processors.accumulate.writing import Write
from tests.stream_processors.accumulate.builders import (
    LOG_ID,
    T0,
    Event,
    Message,
    assignment,
    batch,
    definition,
    measured,
    tick,
)

Changelog = dict[bytes, bytes]

KINDS = {MANIFEST: Manifest, SEGMENT: SegmentRecord, CHUNK: ChunkRecord}
EXPERIMENT = definition(
    metrics=[
        Metric("bought", "conversion", "buy", window_ms=10_000),
        Metric("paid", "sum", "buy", window_ms=5_000, precision=2),
        Metric("seen", "count", "view", window_ms=30_000),
    ]
)


def a_log(*, ticks: int = 90, seed: int = 1) -> list[Message]:
    """A tick a second, a few events between two; the horizon is 20 s behind, a chunk 25 ticks."""
    random = Random(seed)
    log = [tick(1, T0, DefinitionChange(EXPERIMENT))]
    for second in range(1, ticks):
        now = T0 + 1_000 * second
        events = [_event(random, second * 10 + place, now) for place in range(random.randint(0, 4))]
        if events:
            log.append(batch([*events, *random.choices(events, k=1)]))
        log.append(tick(second + 1, now, horizon=now - 20_000))
    return log


def _event(random: Random, number: int, now: int) -> Event:
    unit, at = f"u{random.randint(0, 30)}", now - random.randint(0, 15_000)
    if random.random() < 0.5:
        return assignment(unit, f"e{number}", at, variant=random.choice("ccct"))
    metric, value = random.choice(["buy", "view"]), random.choice([0.25, 1.0, 7.5])
    return measured(unit, f"e{number}", at, metric=metric, value=value)


def applied(partition: Partition, log: list[Message], until: int) -> Iterator[Ticked]:
    for offset in range(partition.cursor, until):
        ticked = partition.apply(offset, *log[offset])
        if ticked is not None:
            yield ticked


def make(changelog: Changelog, writes: list[Write]) -> None:
    for key, value in writes:
        if value is None:
            changelog.pop(key, None)
        else:
            changelog[key] = value


def written(log: list[Message]) -> Changelog:
    changelog: Changelog = {}
    for ticked in applied(Partition(0, writer="w"), log, len(log)):
        make(changelog, ticked.writes)
    return changelog


def state_at(number: int) -> ControlState:
    return ControlState().after([DefinitionChange(EXPERIMENT)] if number else [])


def recovered(changelog: Changelog) -> Partition:
    return recover(0, changelog.items(), state_at=state_at, log_id=LOG_ID, writer="w").partition


def numbers(partition: Partition, log: list[Message]) -> tuple[Any, ...]:
    """Everything that a reader may be told, at the end of the log."""
    *_, last = applied(partition, log, len(log))
    [partial] = [decode_partial(one) for one in last.partials]
    return partial.ledger, partition.experiment_sums(EXPERIMENT, final=False)


LOG = a_log()
END = tick(91, T0 + 95_000, horizon=T0 + 75_000)
WHOLE = [*LOG, END]


@pytest.fixture(scope="module")
def changelog() -> Changelog:
    return written(LOG)


@pytest.fixture(scope="module")
def truth() -> tuple[Any, ...]:
    return numbers(Partition(0, writer="w"), WHOLE)


def test_the_log_is_worth_the_trouble(changelog: Changelog, truth: tuple[Any, ...]) -> None:
    ledger, sums = truth

    assert {decode_key(key).kind for key in changelog} == set(KINDS)
    assert min(ledger.fresh, ledger.duplicate) > 30
    assert min(sums.units) > 0
    assert sums.crossovers > 0
    assert recovered(changelog).cursor > len(LOG) // 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_a_record_that_was_cut_is_as_good_as_absent(
    changelog: Changelog, truth: tuple[Any, ...], kind: int, seed: int
) -> None:
    random = Random(seed)
    key = random.choice([one for one in sorted(changelog) if decode_key(one).kind == kind])
    value = changelog[key]
    cut = (
        value[: [0, 3, 4, len(value) - 1][seed]]
        if seed < 4
        else value[: random.randrange(len(value))]
    )

    assert numbers(recovered(changelog | {key: cut}), WHOLE) == truth


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_many_damaged_records_only_mean_more_to_read(
    changelog: Changelog, truth: tuple[Any, ...], share: float, seed: int
) -> None:
    random = Random(seed)
    damaged = dict(changelog)
    for key, value in changelog.items():
        if random.random() < share:
            octets = bytearray(value)
            octets[random.randrange(len(octets))] ^= random.randint(1, 255)
            damaged[key] = bytes(octets)

    partition = recovered(damaged)

    assert partition.cursor == 0 or share < 1
    assert numbers(partition, WHOLE) == truth


def test_a_value_under_the_key_of_another_is_noticed_by_what_it_says_of_itself(
    changelog: Changelog, truth: tuple[Any, ...]
) -> None:
    """Each kind's bytes under a key of each other kind: they pass their checksum."""
    by_kind = {decode_key(key).kind: key for key in sorted(changelog)}
    for place, key in by_kind.items():
        for other in (one for kind, one in by_kind.items() if kind != place):
            with pytest.raises(ForeignRecordError, match="of another format"):
                recovered(changelog | {key: changelog[other]})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [STATE_VERSION - 1, STATE_VERSION + 1])
def test_a_record_of_another_state_version_is_refused_with_what_to_do(
    changelog: Changelog, kind: int, version: int
) -> None:
    """An upgrade without a new changelog, and going back after one."""
    key = max(one for one in changelog if decode_key(one).kind == kind)
    of_version = _with_version(changelog[key], kind, version)
    [(_, value)] = write_record(decode_key(key), of_version)

    with pytest.raises(ForeignRecordError) as refused:
        recovered(changelog | {key: value})

    assert f"state version == {version}, must be {STATE_VERSION}" in str(refused.value)
    assert (
        "start with the version of Litmus that wrote it, or count anew: litmus down, litmus recount"
        in str(refused.value)
    )


def _with_version(value: bytes, kind: int, version: int) -> Any:
    record: Any = read_record([value], KINDS[kind])
    name = "base" if kind == MANIFEST else "header"
    header = msgspec.structs.replace(getattr(record, name), state_version=version)
    return msgspec.structs.replace(record, **{name: header})


class FutureRecord(msgspec.Struct):
    """A record whose fields a later version named otherwise."""

    heading: dict[str, int]
    cells: bytes


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_of_a_future_format_is_refused_with_what_to_do(
    changelog: Changelog, kind: int
) -> None:
    key = max(one for one in changelog if decode_key(one).kind == kind)
    future: Any = FutureRecord({"state_version": 99}, b"cells")
    [(_, value)] = write_record(decode_key(key), future)

    with pytest.raises(
        ForeignRecordError, match=r"of another format.*version of Litmus that wrote"
    ):
        recovered(changelog | {key: value})


def _prefixes(writes: list[Write]) -> Iterator[list[Write]]:
    """Every state in which a crash may leave the writes of a tick.

    Records are sent in order, deletions once all of them are acknowledged.
    """
    records = [one for one in writes if one.value is not None]
    deletions = [one for one in writes if one.value is None]
    for count in range(len(records) + 1):
        yield records[:count]
    for count in range(1, len(deletions) + 1):
        yield records + deletions[:count]


def test_a_crash_between_any_two_writes_changes_no_number() -> None:
    """Over three cycles of segments and two ends of chunks."""
    log = a_log(ticks=50)
    whole = [*log, tick(51, T0 + 55_000, horizon=T0 + 35_000)]
    truth = numbers(Partition(0, writer="w"), whole)
    changelog: Changelog = {}
    crashes = 0
    for ticked in list(applied(Partition(0, writer="w"), log, len(log))):
        for some in _prefixes(ticked.writes) if ticked.writes else ():
            crashed = dict(changelog)
            make(crashed, some)
            assert numbers(recovered(crashed), whole) == truth
            crashes += 1
        make(changelog, ticked.writes)

    assert crashes > 60


@pytest.mark.parametrize(
    "order", [lambda events: events, lambda events: events[::-1]], ids=["in order", "reversed"]
)
def test_every_event_ten_times_in_either_order_counts_once(
    order: Callable[[list[Event]], list[Event]],
) -> None:
    random = Random(7)
    events = [_event(random, number, T0 + 15_000) for number in range(200)]

    def counted(sent: list[Event]) -> tuple[Any, ...]:
        log = [tick(1, T0, DefinitionChange(EXPERIMENT))]
        log += [batch(sent[start : start + 16]) for start in range(0, len(sent), 16)]
        return numbers(Partition(0, writer="w"), [*log, tick(2, T0 + 60_000)])

    ledger, sums = counted(order(events * 10))

    once, sums_once = counted(events)
    assert sums == sums_once
    assert (ledger.fresh, ledger.duplicate) == (once.fresh, once.duplicate + 9 * len(events))
    assert ledger.conflict == 0
