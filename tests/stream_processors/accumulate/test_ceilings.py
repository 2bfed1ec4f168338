"""A worker with too many ids stops with what to do; what it counts of imports is what it took."""

import asyncio
from collections.abc import Awaitable

import msgspec
import pytest
from prometheus_client.core import Metric

from schemas.control import (
    CatalogueChange,
    CatalogueEntry,
    DefinitionChange,
    Import,
    ImportBatch,
    ImportChange,
    Settings,
    Tick,
    Times,
)
from schemas.topics import KIND_TICK
from stream_processors.accumulate.agent import LivePartitions
from stream_processors.accumulate.auditing import LiveAudit
from stream_processors.accumulate.ceilings import TooManyIdsError
from stream_processors.accumulate.outbox import Outbox
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.telemetry import StateCollector
from stream_processors.accumulate.writing import Write
from tests.stream_processors.accumulate.builders import (
    LOG_ID,
    T0,
    ImportRow,
    Message,
    assignment,
    batch,
    definition,
    import_part,
    tick,
)

DAY = T0 // 86_400_000


class Counting:
    """A topic that counts partials, and a changelog that takes everything."""

    def __init__(self) -> None:
        self.published = 0

    async def publish(self, _partition: int, _message: bytes) -> None:
        self.published += 1

    def write(self, _partition: int, _write: Write) -> Awaitable[object]:
        delivery: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        delivery.set_result(None)
        return delivery


def worker(out: Counting, *, partitions: int = 2, ids_max: int = 100) -> LivePartitions:
    """Return a process that owns partitions it has not read yet."""
    live = LivePartitions(
        servers="",
        writer="w",
        records=lambda _: {},
        changelog=out,
        publish=out.publish,
        ids_max=ids_max,
    )
    for number in range(partitions):
        live.partitions[number] = Partition(number, writer="w")
        live._outboxes[number] = Outbox(number, publish=out.publish, changelog=out)
    return live


async def send(live: LivePartitions, number: int, *messages: Message) -> None:
    for message in messages:
        await live.apply(number, live.partitions[number].cursor, *message)


def events(count: int, at: int = T0) -> Message:
    return batch([assignment(f"u{one}", f"a{at}-{one}", at) for one in range(count)])


BEHIND = Times(T0 + 3_600_000, T0, 0)
STARTED = tick(1, T0, DefinitionChange(definition()))


async def test_a_worker_with_one_id_too_many_stops_before_it_reports_and_says_what_to_do() -> None:
    out = Counting()
    live = worker(out)
    await send(live, 0, STARTED, events(60), tick(2, T0 + 200))
    await send(live, 1, STARTED, events(40), tick(2, T0 + 200))
    assert live.readiness()["ids"] == live.readiness()["ids_max"] == 100
    for number in (0, 1):
        await live._outboxes[number].finish(10)
    reported = out.published

    with pytest.raises(TooManyIdsError) as stopped:
        await send(live, 1, events(1, T0 + 1), tick(3, T0 + 400))

    assert "101 ids within the horizon, must be at most 100" in str(stopped.value)
    for advice in ("LITMUS_IDS_MAX", "litmus worker add", "log has it all"):
        assert advice in str(stopped.value)
    assert "retire_sources" not in str(stopped.value)
    await live._outboxes[1].finish(10)
    assert out.published == reported
    await live.close()


async def test_where_a_door_holds_ids_back_the_worker_says_so() -> None:
    live = worker(Counting(), partitions=1, ids_max=5)
    behind = Message(KIND_TICK, msgspec.json.encode(Tick(LOG_ID, 2, BEHIND, Settings(), [])))

    await send(live, 0, STARTED, events(5), behind)
    with pytest.raises(TooManyIdsError, match=r"3,600 s behind.*retire_sources"):
        await send(live, 0, events(1, T0 + 1))

    await live.close()


async def test_a_worker_stops_though_no_tick_comes_while_control_is_away() -> None:
    out = Counting()
    live = worker(out, partitions=1)
    await send(live, 0, STARTED, events(60), events(40, T0 + 1))
    assert live.readiness()["ids"] == 100

    with pytest.raises(TooManyIdsError, match=r"101 ids.*whether control is ready"):
        await send(live, 0, events(1, T0 + 2))

    assert live.partitions[0].tick == 1
    await live.close()


async def test_ids_that_the_horizon_passed_make_room() -> None:
    live = worker(Counting(), partitions=1)
    await send(live, 0, STARTED, events(90), tick(2, T0 + 200))
    for number in range(3, 60):  # ids are forgotten a chunk of ticks at a time
        await send(live, 0, tick(number, T0 + 200 * number, horizon=T0 + 100 * number))

    await send(live, 0, events(90, T0 + 9_000), tick(60, T0 + 12_000, horizon=T0 + 6_000))

    assert live.readiness()["ids"] == 90
    await live.close()


async def test_a_partition_that_goes_takes_its_ids_along() -> None:
    live = worker(Counting())
    await send(live, 0, STARTED, events(60), tick(2, T0 + 200))
    await send(live, 1, STARTED, events(40), tick(2, T0 + 200))

    await live.load(frozenset())

    assert live.readiness()["ids"] == 0


async def test_rows_of_imports_are_counted_by_whether_their_day_is_kept() -> None:
    live = worker(Counting(), partitions=1)
    rows = [ImportRow(f"u{day}", "spend", DAY - day) for day in (1, 3, 4, 30)]
    part = import_part(rows, import_id="i", number=1, sha256="one")
    declared = Import("i", 0, ["spend"], DAY - 30, DAY - 1, 0, ImportBatch(1, "one", 4))
    begin = tick(
        1,
        T0,
        CatalogueChange(CatalogueEntry("spend", 2, 3, DAY)),
        ImportChange(declared),
        horizon=T0,
    )

    await send(live, 0, begin, part, part)

    shown = series(live)
    of_partition = ("partition", "0")
    assert shown["litmus_accumulate_imported_rows_total", of_partition, ("outcome", "kept")] == 2
    assert shown["litmus_accumulate_imported_rows_total", of_partition, ("outcome", "too_old")] == 2
    assert shown["litmus_accumulate_ignored_import_parts_total", of_partition] == 1
    assert shown["litmus_accumulate_ids_max",] == 100
    await live.close()


def series(live: LivePartitions) -> dict[tuple[object, ...], float]:
    audit = LiveAudit(live.partitions, asyncio.get_running_loop)
    families: list[Metric] = list(StateCollector(live, audit).collect())
    return {
        (sample.name, *sample.labels.items()): sample.value
        for family in families
        for sample in family.samples
    }
