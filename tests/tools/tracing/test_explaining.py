"""What a trace says of every row is what the engine made of it; each is written apart."""

from collections import Counter
from random import Random

import pytest

from schemas.control import DefinitionChange
from schemas.definitions import Interval, Metric
from schemas.partials import sums_from_bytes
from stream_processors.accumulate.partition import Partition
from tests.stream_processors.accumulate.builders import (
    T0,
    Message,
    assignment,
    batch,
    definition,
    measured,
    tick,
)
from tests.tools.tracing.worlds import UNITS, Log, make_log
from tools.tracing.attributing import Outcome, attribute
from tools.tracing.explaining import as_json, explain
from tools.tracing.fates import Fate, judge
from tools.tracing.rows import Row, Unit, UnitLog

SEEDS = 20
FATES = ["received", "fresh", "duplicate", "conflict", "stale", "refused"]
ATTRIBUTED = [
    Outcome.COUNTED,
    Outcome.OUTSIDE_WINDOW,
    Outcome.EXCLUDED,
    Outcome.NO_ASSIGNMENT,
]


def engine_fates(log: Log) -> tuple[Partition, dict[int, str]]:
    """Return the engine after the log, and the fate of the one row of each batch."""
    partition = Partition(0, writer="w")
    fates, before = {}, [0] * 6
    for offset, message in enumerate(log.messages):
        partition.apply(offset, *message)
        after = partition.state.ledger.sum(axis=0).tolist()
        if log.events[offset] is not None:
            [place] = [at for at in range(1, 6) if after[at] != before[at]]
            fates[offset] = FATES[place]
        before = after
    return partition, fates


def unit_logs(messages: list[Message]) -> list[UnitLog]:
    logs = [UnitLog(Unit.of(kind, unit)) for kind in ("user", "device") for unit in UNITS]
    for log in logs:
        for offset, message in enumerate(messages):
            log.take(offset, *message)
    return logs


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_fate_of_every_row_is_the_engines(seed: int) -> None:
    log = make_log(Random(seed), horizon_lag=Random(seed).choice([None, 8, 20]))
    _, fates = engine_fates(log)

    judged = [one for unit in unit_logs(log.messages) for one in judge(unit.rows)]

    assert {one.row.offset: one.fate.value for one in judged} == fates


def test_the_worlds_hold_every_fate_and_every_outcome() -> None:
    fates: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for seed in range(SEEDS):
        log = make_log(Random(seed), horizon_lag=Random(seed).choice([None, 8, 20]))
        for unit in unit_logs(log.messages):
            judged = judge(unit.rows)
            fates.update(one.fate.value for one in judged)
            fresh = [one.row for one in judged if one.fate is Fate.FRESH]
            for row in fresh:
                for one in unit.control.definitions.values():
                    found = attribute(row, one, fresh)
                    outcomes.update([found.outcome] if found else [])

    assert set(fates) == {fate.value for fate in Fate}
    assert set(outcomes) == set(Outcome)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_attribution_and_totals_add_up_to_the_engines(seed: int) -> None:
    log = make_log(Random(seed), horizon_lag=None)
    partition, _ = engine_fates(log)

    units = unit_logs(log.messages)
    for one in partition.control.definitions.values():
        outcomes: Counter[Outcome] = Counter()
        totals: Counter[str] = Counter()
        for unit in units:
            fresh = [judged.row for judged in judge(unit.rows) if judged.fate is Fate.FRESH]
            outcomes += of_unit(fresh, one.id, unit, totals)
        sums = partition.experiment_sums(one, final=False)
        assert [outcomes[name] for name in ATTRIBUTED] == sums.attribution
        for metric, words in zip(one.metrics, sums.open, strict=True):
            assert totals[metric.id] == sum(arm.sum_q for arm in sums_from_bytes(words))


def of_unit(fresh: list[Row], experiment: str, unit: UnitLog, totals: Counter[str]) -> Counter:
    """Return the outcomes of a unit's metric events; add its totals, once per metric."""
    definition = unit.control.definitions[experiment]
    outcomes: Counter[Outcome] = Counter()
    total_of: dict[str, int] = {}
    for row in fresh:
        found = attribute(row, definition, fresh)
        if found is None or row.event.kind != "metric":
            continue
        outcomes[found.outcome] += 1
        if found.outcome in (Outcome.COUNTED, Outcome.OUTSIDE_WINDOW):
            total_of |= {share.metric.id: share.total or 0 for share in found.shares}
    totals.update(total_of)
    return outcomes


def trace(messages: list[Message], event_id: str, unit: str = "u") -> dict:
    log = UnitLog(Unit.of("user", unit))
    for offset, message in enumerate(messages):
        log.take(offset, *message)
    return as_json(explain(log, Unit.of("user", unit).event_hash(event_id)))


def test_a_counted_event_says_what_it_adds_to_which_total_and_from_which_tick_on() -> None:
    """Entry T0 + 1, window 10 s: it ends at T0 + 10,001; two events of 1.5 and 2 make 3.5."""
    spent = Metric("spent", "sum", "buy", window_ms=10_000, precision=2)
    found = trace(
        [
            tick(1, T0, DefinitionChange(definition(metrics=[spent]))),
            batch([assignment("u", "a", T0 + 1, variant="t")]),
            batch([measured("u", "m1", T0 + 5, value=1.5), measured("u", "m2", T0 + 6, value=2.0)]),
            tick(2, T0 + 50),
        ],
        "m2",
    )

    [row], [one] = found["rows"], found["experiments"]
    assert (row["offset"], row["row"], row["outcome"], row["tick_after"]) == (2, 1, "fresh", 2)
    assert (one["outcome"], one["entry"]["variant"]) == ("counted", "t")
    [share] = one["metrics"]
    assert (share["adds"], share["unit_total"], share["matured"]) == (2.0, 3.5, False)
    assert (share["window_ends"], share["window"]) == ("2023-11-14T22:13:30.001Z", "10s")


def test_a_resend_names_the_row_that_it_repeats_and_a_conflict_what_differs() -> None:
    first = measured("u", "m", T0 + 5)
    found = trace(
        [
            tick(1, T0, DefinitionChange(definition())),
            batch([first]),
            batch([first, first._replace(value=9.0)]),
        ],
        "m",
    )

    _, again, other = found["rows"]
    assert (again["outcome"], again["of"]) == ("duplicate", {"offset": 1, "row": 0})
    assert other["outcome"] == "conflict"
    assert other["differs"] == {"value": {"first": 1.0, "here": 9.0}}


def test_a_crossover_names_both_assignments() -> None:
    found = trace(
        [
            tick(1, T0, DefinitionChange(definition())),
            batch([assignment("u", "a", T0 + 1), assignment("u", "b", T0 + 2, variant="t")]),
            batch([measured("u", "m", T0 + 5)]),
        ],
        "m",
    )

    [one] = found["experiments"]
    assert one["outcome"] == "excluded"
    assert (one["entry"]["event_id"], one["crossover"]["event_id"]) == ("a", "b")


def test_an_event_after_the_stop_is_outside_the_window() -> None:
    stopped = definition(status="stopped", stopped_at_ms=T0 + 20, intervals=[Interval(T0, T0 + 20)])
    found = trace(
        [
            tick(1, T0, DefinitionChange(definition())),
            batch([assignment("u", "a", T0 + 1), measured("u", "m", T0 + 25)]),
            tick(2, T0 + 30, DefinitionChange(stopped)),
        ],
        "m",
    )

    [one] = found["experiments"]
    assert (one["outcome"], one["metrics"][0]["matures_at"]) == ("outside_window", None)
    assert one["stopped_at"] == "2023-11-14T22:13:20.020Z"
