"""The rules of counting, an example each; ``test_rules_of_counting`` has the random ones."""

from random import Random

import msgspec
import pytest

from schemas.control import (
    CatalogueChange,
    CatalogueEntry,
    ControlState,
    DefinitionChange,
    Settings,
)
from schemas.definitions import Interval, Metric
from schemas.imports import DAY_MS
from schemas.partials import Ledger, decode_partial, sums_from_bytes
from stream_processors.accumulate.partition import OffsetGapError, Partition, TickGapError
from stream_processors.accumulate.state import HEAP
from tests.stream_processors.accumulate.builders import (
    T0,
    Event,
    Message,
    assignment,
    batch,
    definition,
    measured,
    tick,
)
from tests.stream_processors.accumulate.holding import Integers, equals_its_fold, integers_of


def read(partition: Partition, messages: list[Message]) -> list[bytes]:
    """Apply messages; return the partials of the last tick."""
    partials: list[bytes] = []
    for message in messages[partition.cursor :]:
        ticked = partition.apply(partition.cursor, *message)
        if ticked:
            partials = ticked.partials
    return partials


def counted(partition: Partition, ordinal: int) -> Integers:
    """Return the engine's own report."""
    one = next(d for d in partition.control.definitions.values() if d.ordinal == ordinal)
    return integers_of(partition.experiment_sums(one, final=False), one)


def test_a_tick_reports_the_experiments_that_changed_and_no_others() -> None:
    partition = Partition(0, writer="w")
    changes = [DefinitionChange(definition("x", 0)), DefinitionChange(definition("y", 1))]
    read(partition, [tick(1, T0, *changes)])
    log = [
        tick(1, T0, *changes),
        tick(2, T0 + 1),
        batch([assignment("u", "a", T0)]),
        tick(3, T0 + 2),
        tick(4, T0 + 3),
    ]

    reported = []
    for message in log[1:]:
        ticked = partition.apply(partition.cursor, *message)
        if ticked:
            [partial] = ticked.partials
            reported.append([one.experiment_id for one in decode_partial(partial).experiments])

    assert reported == [[], ["x"], []]


def test_a_window_that_ends_in_silence_matures_with_the_ticks() -> None:
    """Entry T0, window 10 s: not matured at settled T0 + 9,999, matured at T0 + 10,000."""
    partition = Partition(0, writer="w")
    read(
        partition,
        [
            tick(1, T0, DefinitionChange(definition())),
            batch([assignment("u", "a", T0), measured("u", "m", T0 + 5)]),
            tick(2, T0 + 9_999),
        ],
    )
    assert counted(partition, 0)["matured"][0][0].total.unit_count == 0

    partition.apply(partition.cursor, *tick(3, T0 + 10_000))

    assert counted(partition, 0)["matured"][0][0].total.unit_count == 1
    assert counted(partition, 0)["matured"][0][0].total.sums == (1,)


def test_a_window_that_ends_at_a_tick_that_changes_another_experiment_is_reported() -> None:
    partition = Partition(0, writer="w")
    other = definition("y", 1)
    log = [
        tick(1, T0, DefinitionChange(definition("x", 0)), DefinitionChange(other)),
        batch([assignment("u", "a", T0)]),
        tick(2, T0 + 9_999),
    ]
    read(partition, log)

    changed = DefinitionChange(msgspec.structs.replace(other, name="another"))
    [partial] = partition.apply(partition.cursor, *tick(3, T0 + 10_000, changed)).partials

    [x, _] = decode_partial(partial).experiments
    assert x.experiment_id == "x"
    assert sums_from_bytes(x.matured[0])[0].unit_count == 1


def test_ids_are_forgotten_by_the_horizon_and_rows_before_it_are_stale() -> None:
    partition = Partition(0, writer="w")
    resend = measured("u", "m", T0 + 5)
    untimed = resend._replace(event_id="n", timestamp_given=False)
    log = [
        tick(1, T0, DefinitionChange(definition())),
        batch([resend, resend, resend._replace(value=2.0), untimed]),
        batch([untimed._replace(timestamp=T0 + 9)]),
        tick(2, T0 + 100, horizon=T0 + 6),
        batch([resend, untimed._replace(timestamp=T0 + 50)]),
    ]

    read(partition, log)

    # Fresh: m, n, and n again once its first time is beyond the horizon.
    ledger = Ledger(*partition.state.ledger.sum(axis=0).tolist())
    assert ledger == Ledger(received=7, fresh=3, duplicate=2, conflict=1, stale=1)


def test_an_experiment_that_changes_reports_with_the_change_though_it_is_not_due() -> None:
    """Merge publishes a look with the change: it must be of what is in it by then."""
    seldom = Settings(stride=1_000)
    partition = Partition(0, writer="w")
    read(
        partition,
        [
            tick(1, T0, DefinitionChange(definition()), settings=seldom),
            tick(2, T0 + 1, settings=seldom),
            batch([assignment("u", "a", T0)]),
        ],
    )

    quiet = partition.apply(partition.cursor, *tick(3, T0 + 2, settings=seldom))
    paused = definition(intervals=[Interval(T0, T0 + 3)], status="paused")
    change = tick(4, T0 + 3, DefinitionChange(paused), settings=seldom)
    changed = partition.apply(partition.cursor, *change)

    assert quiet is not None
    assert changed is not None
    assert decode_partial(quiet.partials[0]).experiments == []
    assert [one.units for one in decode_partial(changed.partials[0]).experiments] == [[1, 0]]


def test_an_experiment_is_final_once_the_horizon_is_past_its_stop() -> None:
    partition = Partition(0, writer="w")
    read(
        partition,
        [
            tick(1, T0, DefinitionChange(definition())),
            batch([assignment("u", "a", T0), measured("u", "m", T0 + 5)]),
            tick(2, T0 + 60),
        ],
    )
    ended = definition(status="stopped", stopped_at_ms=T0 + 50, intervals=[Interval(T0, T0 + 50)])
    partition.apply(partition.cursor, *tick(3, T0 + 70, DefinitionChange(ended)))

    [partial] = partition.apply(partition.cursor, *tick(4, T0 + 80, horizon=T0 + 51)).partials

    [last] = decode_partial(partial).experiments
    assert last.final
    assert last.units == [1, 0]
    assert (partition.state.cells["variant"][: partition.state.counts[1]] < 0).all()


@pytest.mark.parametrize("offset", [0, 2])
def test_a_missing_or_repeated_message_stops_the_worker(offset: int) -> None:
    partition = Partition(0, writer="w")
    partition.apply(0, *tick(1, T0))

    with pytest.raises(OffsetGapError, match=f"offset == {offset}, must be 1"):
        partition.apply(offset, *tick(2, T0))


def test_a_repeated_tick_is_ignored_and_a_missing_one_stops_the_worker() -> None:
    partition = Partition(0, writer="w", control=ControlState())
    partition.apply(0, *tick(1, T0))

    assert partition.apply(1, *tick(1, T0)) is None
    with pytest.raises(TickGapError, match="tick == 3, must be 2"):
        partition.apply(2, *tick(3, T0))


def test_units_that_wait_for_the_same_moment_several_times_mature_once_each() -> None:
    """Each assignment of the same time with a lower hash makes the unit wait anew."""
    units, partition = 60, Partition(0, writer="w")
    exposed = [assignment(f"u{unit}", f"a{at}", T0 + 5) for unit in range(units) for at in range(6)]
    Random(0).shuffle(exposed)
    read(partition, [tick(1, T0, DefinitionChange(definition())), batch(exposed)])
    assert partition.state.counts[HEAP] > 2 * units

    read(partition, [*[tick(1, T0)] * 2, tick(2, T0 + 10_005)])

    assert counted(partition, 0)["matured"][0][0].total.unit_count == units
    assert equals_its_fold(partition)


LIMIT = 2**62
"""Of a unit's sum of magnitudes, in quanta; it is known to within a million of them."""


def overflowed(metric: Metric, *events: Event) -> list[int]:
    """Return the units that left a metric, of one unit with these events."""
    one = definition(metrics=[metric])
    partition = Partition(0, writer="w")
    for message in (tick(1, T0, DefinitionChange(one)), *(batch([event]) for event in events)):
        partition.apply(partition.cursor, *message)
    found = counted(partition, 0)["overflowed"]
    assert equals_its_fold(partition)
    return found


@pytest.mark.parametrize(("more", "left"), [(0.0, 0), (1.0, 1), (-1.0, 1)])
def test_a_unit_leaves_before_its_magnitudes_can_reach_the_limit(more: float, left: int) -> None:
    metric = Metric("spent", "sum", "buy", window_ms=10_000, precision=0)
    large = measured("u", "m", T0 + 6, value=float(LIMIT - 2**21))
    small = measured("u", "n", T0 + 7, value=more)

    assert overflowed(metric, assignment("u", "a", T0 + 5), large, small) == [left]


def test_a_unit_is_back_when_the_event_that_was_too_large_is_outside_its_window() -> None:
    metric = Metric("slow", "quantile", "buy", window_ms=10, quantile=0.5, of="events")
    exposed, large = assignment("u", "a", T0 + 8), measured("u", "m", T0 + 15, value=1e300)

    assert overflowed(metric, exposed, large) == [1]
    assert overflowed(metric, exposed, large, assignment("u", "b", T0 + 1)) == [0]


def test_metrics_that_are_added_have_the_covariates_of_units_that_are_in() -> None:
    """The first of the added ones, and the next."""
    names = ("buy", "view")
    entries = [CatalogueEntry(name, 6, 3, (T0 - 2 * DAY_MS) // DAY_MS) for name in names]
    before = [
        measured("u", f"m{name}", T0 - DAY_MS, metric=name, value=value)
        for name, value in zip(names, (3.0, 4.0), strict=True)
    ]
    first = definition()
    added = [
        Metric(f"more {name}", "sum", name, window_ms=10_000, precision=0, covariate_days=2)
        for name in names
    ]
    one = msgspec.structs.replace(
        first,
        metrics=[*first.metrics, *(msgspec.structs.replace(m, added_at_ms=T0) for m in added)],
    )
    partition = Partition(0, writer="w")
    for message in (
        tick(1, T0, *map(CatalogueChange, entries), DefinitionChange(first)),
        batch([*before, assignment("u", "a", T0 + 5), assignment("v", "a", T0 + 5)]),
        batch([measured(unit, "m", T0 + 6, value=5.0) for unit in ("u", "v", "v2")]),
        tick(2, T0 + 9, DefinitionChange(one)),
    ):
        partition.apply(partition.cursor, *message)

    sums = [metric[0] for metric in counted(partition, 0)["open"]]
    assert [its.covariates.sums for its in sums[1:]] == [(5, 3 * 10**6), (0, 4 * 10**6)]
    assert [its.total.sums for its in sums] == [(2,), (10,), (0,)]
    assert equals_its_fold(partition)


COVARIATE = Metric("spent", "sum", "buy", window_ms=10_000, precision=0, covariate_days=2)
KEPT = CatalogueChange(CatalogueEntry("buy", 0, 3, (T0 - 2 * DAY_MS) // DAY_MS))


def test_a_unit_leaves_when_an_event_of_a_day_before_that_comes_late_is_too_large() -> None:
    partition = Partition(0, writer="w")
    for message in (
        tick(1, T0, KEPT, DefinitionChange(definition(metrics=[COVARIATE]))),
        batch([assignment("u", "a", T0 + 5), assignment("v", "a", T0 + 5)]),
        batch([measured("u", "m", T0 - DAY_MS, value=1e300), measured("v", "m", T0 - DAY_MS)]),
    ):
        partition.apply(partition.cursor, *message)

    assert counted(partition, 0)["overflowed"] == [1]
    assert equals_its_fold(partition)


def test_a_day_before_that_comes_late_says_nothing_of_a_unit_that_was_taken_back() -> None:
    partition = Partition(0, writer="w")
    paused = definition(metrics=[COVARIATE], status="paused", intervals=[Interval(T0, T0 + 3)])
    for message in (
        tick(1, T0, KEPT, DefinitionChange(definition(metrics=[COVARIATE]))),
        batch([assignment("u", "a", T0 + 5), measured("u", "m", T0 - DAY_MS)]),
        tick(2, T0 + 9, DefinitionChange(paused)),
        batch([measured("u", "n", T0 - DAY_MS, value=7.0)]),
    ):
        partition.apply(partition.cursor, *message)

    assert counted(partition, 0)["units"] == [0, 0]
    assert equals_its_fold(partition)


def test_a_crossover_is_none_when_a_shortened_interval_takes_back_the_second_assignment() -> None:
    partition = Partition(0, writer="w")
    paused = definition(status="paused", intervals=[Interval(T0, T0 + 3)])
    read(
        partition,
        [
            tick(1, T0, DefinitionChange(definition())),
            batch([assignment("u", "a", T0 + 1), assignment("u", "b", T0 + 5, variant="t")]),
            tick(2, T0 + 9, DefinitionChange(paused)),
        ],
    )

    assert (counted(partition, 0)["units"], counted(partition, 0)["crossovers"]) == ([1, 0], 0)
    assert equals_its_fold(partition)
