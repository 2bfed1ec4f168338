"""What nothing can need any more is given back: cells, ids, recent events, days, units."""

from schemas.control import CatalogueChange, CatalogueEntry, DefinitionChange
from schemas.definitions import Interval, Metric
from stream_processors.accumulate.partition import UNUSED_CHECK_TICKS, Partition
from tests.stream_processors.accumulate.builders import (
    T0,
    Message,
    assignment,
    batch,
    definition,
    measured,
    tick,
)

DAY = 86_400_000
UNIT_COUNT = 12_000
KEEP_DAYS = 5
METRICS = [
    Metric("spent", "sum", "buy", window_ms=10_000, covariate_days=3),
    Metric("viewed", "conversion", "view", window_ms=20_000),
]
TABLES = {"unit_table", "id_table"}


def filled(partition: Partition) -> dict[str, int]:
    """Return the arrays that hold something; tables keep room for what comes next."""
    return {name: size for name, size in partition.memory().items() if size and name not in TABLES}


def apply(partition: Partition, *messages: Message) -> None:
    for message in messages:
        partition.apply(partition.cursor, *message)


def tick_until(partition: Partition, number: int, horizon: int) -> None:
    """Let ticks pass in which nothing happens."""
    while partition.tick < number:
        apply(partition, tick(partition.tick + 1, horizon + DAY, horizon=horizon))


def a_partition() -> Partition:
    """Return a partition that holds units, cells, kept days, ids and recent events."""
    partition = Partition(0, writer="w")
    entry = CatalogueEntry("buy", precision=6, keep_days=KEEP_DAYS, live_from_day=T0 // DAY)
    apply(
        partition,
        tick(1, T0, CatalogueChange(entry), DefinitionChange(definition(metrics=METRICS))),
        *(
            batch(
                [
                    event
                    for unit in range(first, first + 500)
                    for event in (
                        assignment(f"u{unit}", "a", T0 + 5),
                        measured(f"u{unit}", "m", T0 + 9),
                    )
                ]
            )
            for first in range(0, UNIT_COUNT, 500)
        ),
    )
    return partition


def stop(partition: Partition) -> None:
    stopped = definition(
        metrics=METRICS,
        status="stopped",
        stopped_at_ms=T0 + 15_000,
        intervals=[Interval(T0, T0 + 15_000)],
    )
    apply(partition, tick(partition.tick + 1, T0 + 20_000, DefinitionChange(stopped)))


def test_memory_returns_once_experiments_are_final_and_days_forgotten() -> None:
    partition = a_partition()
    full = partition.memory()
    assert set(filled(partition)) == {"units", "cells", "totals", "days", "recent", "heap"}
    stop(partition)

    # The horizon is past the stop: experiments are final, ids forgotten; the days are kept.
    tick_until(partition, 1_000, T0 + 16_000)
    tick_until(partition, UNUSED_CHECK_TICKS + 1, T0 + 16_000)
    assert set(filled(partition)) == {"units", "days"}
    assert filled(partition)["days"] == full["days"]

    # The last kept day is beyond what anything can ask for.
    tick_until(partition, 2 * UNUSED_CHECK_TICKS + 1, T0 + (KEEP_DAYS + 1) * DAY)
    assert filled(partition) == {}
    assert partition.memory()["unit_table"] < full["unit_table"]


def test_days_that_an_entry_may_still_ask_for_are_kept() -> None:
    partition = a_partition()
    stop(partition)

    # An assignment that can still arrive is of this day or a later one.
    tick_until(partition, 2 * UNUSED_CHECK_TICKS + 1, (T0 // DAY + KEEP_DAYS) * DAY)

    assert set(filled(partition)) == {"units", "days"}


def test_what_comes_again_does_not_add_up() -> None:
    """Ten rounds of as many new units leave no more than one of them."""
    partition = a_partition()
    stop(partition)
    tick_until(partition, 100, T0 + (KEEP_DAYS + 1) * DAY)
    sizes = []

    for round_ in range(10):
        now = T0 + (KEEP_DAYS + 2 + 8 * round_) * DAY
        units = [f"u{round_}.{unit}" for unit in range(6_000)]
        apply(partition, batch([measured(unit, "m", now) for unit in units]))
        tick_until(partition, partition.tick + UNUSED_CHECK_TICKS + 25, now + 7 * DAY)
        sizes.append(sum(partition.memory().values()))

    assert filled(partition) == {}
    assert max(sizes) == sizes[0]
