"""Past definitions are those of the fold, and another log is never taken for the true one."""

import zlib
from collections.abc import Callable, Iterator

import msgspec
import pytest

from schemas.control import ControlState, DefinitionChange, Settings, SettingsChange
from schemas.partials import STATE_VERSION
from stream_processors.accumulate.control_history import (
    ControlHistory,
    LogMismatchError,
    control_history,
)
from stream_processors.accumulate.records import Header
from tests.stack import Broker
from tests.stream_processors.accumulate.builders import T0, batch, definition, measured
from tests.stream_processors.accumulate.real_logs import RealLogs

PARTITIONS = 3


@pytest.fixture
def logs(broker: Broker, topics: Callable[[int], None]) -> Iterator[RealLogs]:
    topics(PARTITIONS)
    return RealLogs(broker.bootstrap, PARTITIONS)


@pytest.fixture
async def history(broker: Broker, logs: RealLogs):  # noqa: ANN201
    async with control_history(broker.bootstrap) as one:
        yield one


def change(version: int) -> DefinitionChange:
    return DefinitionChange(definition(f"x{version % 3}", version % 3, version=version))


def header(logs: RealLogs, tick: int, offset: int) -> Header:
    """Return how far a state is that ends with ``tick``, standing before ``offset``."""
    value = logs.ticks[tick]
    times = msgspec.json.decode(value)["times"]
    return Header("log", STATE_VERSION, offset, tick, times, zlib.crc32(value))


# --- definitions as of past ticks ---


def write_rough_log(logs: RealLogs) -> None:
    """Write 20 ticks; 1, 7 and 14 hold snapshots; records that lost stand everywhere between."""
    for number in range(1, 21):
        late = logs.next_record(change(1_000 + number), writer="late", snapshot=number % 3 == 0)
        changes = [change(number)] if number % 2 else []
        assert logs.append(logs.next_record(*changes, snapshot=number % 7 == 0)) is not None
        if number % 4:
            assert logs.append(late) is None
        if number % 5 == 0:
            other = logs.next_record(log_id="another", number=1, snapshot=True)
            assert logs.append(other) is None


async def test_every_state_is_that_of_the_fold_from_the_beginning(
    logs: RealLogs, history: ControlHistory
) -> None:
    write_rough_log(logs)

    for tick, state in logs.states.items():
        assert await history.states_at({tick}) == {tick: state}


async def test_several_ticks_are_read_at_once(logs: RealLogs, history: ControlHistory) -> None:
    write_rough_log(logs)

    for asked in ({1, 20}, {6, 7, 8}, {13, 14, 20}, set(range(1, 21))):
        assert await history.states_at(asked) == {tick: logs.states[tick] for tick in asked}


async def test_nothing_asked_is_nothing_read(history: ControlHistory) -> None:
    assert await history.states_at(set()) == {}


async def test_settings_are_those_of_the_tick(logs: RealLogs, history: ControlHistory) -> None:
    logs.tick()
    logs.tick(SettingsChange(Settings(stride=7)))

    states = await history.states_at({1, 2})

    assert [states[tick].settings.stride for tick in (1, 2)] == [None, 7]


async def test_a_snapshot_that_lost_is_not_taken_for_the_winners(
    logs: RealLogs, history: ControlHistory
) -> None:
    """The last record of the log is one of two that hold a snapshot of tick 3; it came second."""
    logs.tick()
    logs.tick()
    late = logs.next_record(change(9), snapshot=True)
    logs.append(logs.next_record(change(3), snapshot=True))
    assert logs.append(late) is None

    assert await history.states_at({3}) == {3: logs.states[3]}
    assert "x0" in logs.states[3].definitions


async def test_a_tick_that_the_log_does_not_have_is_said_so(
    logs: RealLogs, history: ControlHistory
) -> None:
    write_rough_log(logs)

    with pytest.raises(LogMismatchError, match=r"has no tick \[21, 30\]: it was cut"):
        await history.states_at({20, 21, 30})


async def test_an_empty_log_has_no_tick_and_no_id(history: ControlHistory) -> None:
    assert await history.log_id() is None
    with pytest.raises(LogMismatchError, match=r"has no tick \[1\]"):
        await history.states_at({1})


async def test_the_log_is_that_of_its_first_record_though_another_was_begun(
    logs: RealLogs, history: ControlHistory
) -> None:
    logs.append(logs.next_record())
    other = logs.next_record(log_id="another", number=1, snapshot=True)
    assert logs.append(other) is None

    assert await history.log_id() == "log"


# --- proof that the log is the true one ---


def write_uneven_log(logs: RealLogs) -> dict[int, list[Header]]:
    """Write three ticks with batches between; return what a state to their end goes by."""
    proofs: dict[int, list[Header]] = {}
    for number in range(1, 4):
        logs.tick(change(number))
        proofs = {
            partition: [*proofs.get(partition, []), header(logs, number, end)]
            for partition, end in logs.ends.items()
        }
        for partition in range(PARTITIONS):
            for event in range(partition):
                logs.post(partition, batch([measured("u", f"e{number}.{event}", T0)]))
    return proofs


async def test_the_true_log_passes_in_all_partitions_and_any_order(
    logs: RealLogs, history: ControlHistory
) -> None:
    proofs = write_uneven_log(logs)

    await history.check(proofs)
    await history.check({one: headers[::-1] for one, headers in reversed(proofs.items())})


async def test_definitions_and_proofs_are_read_with_one_consumer(
    logs: RealLogs, history: ControlHistory
) -> None:
    proofs = write_uneven_log(logs)

    assert await history.log_id() == "log"
    await history.check(proofs)
    assert await history.states_at({2, 3}) == {tick: logs.states[tick] for tick in (2, 3)}
    await history.check(proofs)


async def test_no_state_needs_no_proof(logs: RealLogs, history: ControlHistory) -> None:
    nothing = Header("log", STATE_VERSION, 0, 0, logs.next_record().before, 0)

    await history.check({0: [], 1: [nothing]})


@pytest.mark.parametrize("partition", range(PARTITIONS))
async def test_a_log_with_other_ticks_is_refused_in_every_partition(
    logs: RealLogs, history: ControlHistory, partition: int
) -> None:
    proofs = write_uneven_log(logs)
    *earlier, last = proofs[partition]
    proofs[partition] = [*earlier, msgspec.structs.replace(last, tick_hash=last.tick_hash ^ 1)]

    with pytest.raises(LogMismatchError, match=rf"{partition}, offset \d+ is not tick 3"):
        await history.check(proofs)


async def test_a_batch_where_the_tick_was_is_refused(
    logs: RealLogs, history: ControlHistory
) -> None:
    proofs = write_uneven_log(logs)
    last = proofs[2][-1]
    moved = msgspec.structs.replace(last, offset=last.offset + 1)

    with pytest.raises(LogMismatchError, match="is not tick 3"):
        await history.check({2: [moved]})


async def test_a_log_that_was_cut_is_refused(
    broker: Broker, logs: RealLogs, topics: Callable[[int], None]
) -> None:
    proofs = write_uneven_log(logs)
    topics(PARTITIONS)
    cut = RealLogs(broker.bootstrap, PARTITIONS)
    for number in range(1, 3):
        cut.tick(change(number))

    async with control_history(broker.bootstrap) as history:
        with pytest.raises(
            LogMismatchError, match=r"ends at 2, but the state goes to.*`litmus recount`"
        ):
            await history.check(proofs)
        with pytest.raises(LogMismatchError, match=r"has no tick \[3\]"):
            await history.states_at({3})


async def test_a_log_that_was_made_anew_and_is_longer_is_refused(
    broker: Broker, logs: RealLogs, topics: Callable[[int], None]
) -> None:
    proofs = write_uneven_log(logs)
    topics(PARTITIONS)
    anew = RealLogs(broker.bootstrap, PARTITIONS)
    for number in range(1, 13):
        anew.tick(change(number))

    async with control_history(broker.bootstrap) as history:
        for partition, headers in proofs.items():
            with pytest.raises(LogMismatchError, match="the log was made anew"):
                await history.check({partition: headers})


def test_the_rough_log_is_rough_enough(logs: RealLogs) -> None:
    write_rough_log(logs)

    assert logs.fold.ignored_count == 15 + 4
    assert logs.states[20] != ControlState()
