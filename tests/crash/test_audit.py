"""The auditor itself: it is silent about an engine that is right, and sees one that is not."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from schemas.control import DefinitionChange
from schemas.definitions import Metric
from schemas.partials import decode_partial
from stream_processors.accumulate.partition import Partition
from stream_processors.merge.totals import totals_of
from tests.crash.audit import ATTRIBUTIONS, FATES, Journal, Outcome, audit, fates_of
from tests.crash.reading import cells_of, log_of
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

LAST_TICK = 40
METRICS = [
    Metric("bought", "conversion", "buy", window_ms=5_000),
    Metric("views", "count", "view", window_ms=8_000),
    Metric("spent", "sum", "buy", window_ms=5_000, precision=3),
]
DEFINITIONS = [
    definition("x", 0, metrics=METRICS),
    definition("y", 1, metrics=METRICS, crossover="first"),
]

Tamper = Callable[[list[Event]], list[Event]]


def events_of(random: Random) -> list[Event]:
    """Return units with assignments, crossovers, metric events and repeats."""
    events: list[Event] = []
    for number in range(60):
        unit, entry = f"u{number}", T0 + random.randrange(2_000)
        variant = random.choice("ct")
        for experiment in "xy":
            one = assignment(unit, f"a{experiment}", entry, experiment=experiment, variant=variant)
            events.append(one)
        if random.random() < 0.2:
            events.append(assignment(unit, "cross", entry + random.randint(-9, 9), variant="t"))
        for place in range(random.randrange(5)):
            when = entry + random.randint(-500, 9_000)
            metric, value = random.choice(["buy", "view"]), random.randint(-2_000, 5_000) / 1_000
            events.append(measured(unit, f"m{place}", when, metric=metric, value=value))
    events += random.choices(events, k=20)
    random.shuffle(events)
    return events


def messages_of(events: list[Event]) -> list[Message]:
    """Return a partition's messages: batches of ten, then ticks until all is checkpointed."""
    changes = [DefinitionChange(one) for one in DEFINITIONS]
    batches = [batch(events[at : at + 10]) for at in range(0, len(events), 10)]
    later = [tick(number, T0 + 1_000 * number) for number in range(2, LAST_TICK + 1)]
    return [tick(1, T0, *changes), *batches, *later]


def outcome_of(events: list[Event], *, tamper: Tamper = list) -> Outcome:
    """Return what an engine publishes that sees ``tamper(events)`` while the log has ``events``."""
    partition = Partition(0, writer="w")
    looks: list[dict[str, Any]] = []
    checkpoints: dict[bytes, bytes] = {}
    attribution: dict[str, dict[str, int]] = {}
    shift = len(messages_of(events)) - len(messages_of(tamper(events)))
    for offset, message in enumerate(messages_of(tamper(events))):
        ticked = partition.apply(offset, *message)
        if ticked is None:
            continue
        for write in ticked.writes:
            checkpoints[write.key] = write.value
        for partial in map(decode_partial, ticked.partials):
            for sums in partial.experiments:
                one = partition.control.definitions[sums.experiment_id]
                attribution[one.id] = dict(zip(ATTRIBUTIONS, sums.attribution, strict=True))
                looks.append(
                    {
                        "experiment_id": one.id,
                        "look": {
                            "tick": ticked.tick,
                            "offsets": {"0": partial.next_offset + shift},
                            "sha256": f"{one.id}{ticked.tick}",
                        },
                        "inputs": {"times": [0, partial.times.settled_ms, 0]},
                        "integers": totals_of(sums, one).as_strings(),
                        "metrics": [],
                    }
                )
    log = log_of(
        (0, offset, {"litmus.kind": kind}, value)
        for offset, (kind, value) in enumerate(messages_of(events))
    )
    row_counts = dict(
        zip(("received", *FATES), partition.state.ledger.sum(axis=0).tolist(), strict=True)
    )
    received = len(events)
    ledger = {
        "balanced": True,
        "rows": row_counts,
        "doors": {"posted": received, "received": received, "late": 0, "rejected": 0},
        "partitions": [{"partition": 0} | row_counts],
        "experiments": attribution,
        "clickhouse": {"rows": received, "missing": 0, "extra": 0},
    }
    return Outcome(DEFINITIONS, log, looks, cells_of(checkpoints), ledger, [])


def differences(events: list[Event], outcome: Outcome) -> list[str]:
    return audit(Journal(accepted=list(set(events))), outcome, random=Random(0))


@pytest.mark.parametrize("seed", range(5))
def test_an_engine_that_counts_right_is_found_right(seed: int) -> None:
    events = events_of(Random(seed))

    outcome = outcome_of(events)

    assert differences(events, outcome) == []
    assert fates_of(outcome.log.rows).counts[0]["duplicate"] == 20
    assert any(cell.has_two_variants for cell in outcome.cells.values())


def counting_event(events: list[Event]) -> Event:
    """Return an event that is there once and that its unit's window holds."""
    times = Counter(events)
    entries = {one.unit: one.timestamp for one in events if one.event_id == "ay"}
    return next(
        one
        for one in events
        if one.metric == "buy"
        and times[one] == 1
        and 10 < one.timestamp - entries[one.unit] < METRICS[0].window_ms - 10
    )


def without_one(events: list[Event]) -> list[Event]:
    lost = counting_event(events)
    return [one for one in events if one != lost]


def with_one_doubled(events: list[Event]) -> list[Event]:
    """Count an event twice, as an engine does that has forgotten its id."""
    return [*events, counting_event(events)._replace(event_id="again")]


def with_one_in_the_other_variant(events: list[Event]) -> list[Event]:
    times = Counter(events)
    units = Counter((one.unit, one.experiment) for one in events if one.variant)
    moved = next(
        one
        for one in events
        if one.variant and times[one] == 1 and units[one.unit, one.experiment] == 1
    )
    other = moved._replace(variant="c" if moved.variant == "t" else "t")
    return [other if one == moved else one for one in events]


@pytest.mark.parametrize("tamper", [without_one, with_one_doubled, with_one_in_the_other_variant])
@pytest.mark.parametrize("seed", range(3))
def test_an_engine_that_miscounts_one_event_is_found_out(tamper: Tamper, seed: int) -> None:
    events = events_of(Random(seed))

    found = differences(events, outcome_of(events, tamper=tamper))

    assert any("look" in one for one in found)
    assert any("unit" in one for one in found)


@pytest.mark.parametrize("tamper", [without_one, with_one_doubled, with_one_in_the_other_variant])
def test_a_door_that_loses_doubles_or_changes_one_event_is_found_out(tamper: Tamper) -> None:
    events = events_of(Random(0))

    found = differences(events, outcome_of(tamper(events)))

    assert any("not in the log" in one or "never accepted" in one for one in found)


def test_two_looks_of_a_tick_a_look_out_of_turn_and_a_wider_interval_are_found_out() -> None:
    events = events_of(Random(0))
    outcome = outcome_of(events)
    first = outcome.looks[0]
    again = first | {"look": first["look"] | {"sha256": "another"}}
    late = first | {"look": first["look"] | {"tick": 0}}

    repeated = differences(events, outcome._replace(looks=[*outcome.looks, first]))
    doubled = differences(events, outcome._replace(looks=[*outcome.looks, again]))
    turned = differences(events, outcome._replace(looks=[*outcome.looks, late]))
    widened = differences(
        events,
        outcome._replace(
            looks=[
                one | {"metrics": [interval(-at, at)]}
                for at, one in enumerate(outcome.looks)
                if one["experiment_id"] == "x"
            ]
            + [one for one in outcome.looks if one["experiment_id"] == "y"]
        ),
    )

    assert repeated == []
    assert any("two looks" in one for one in doubled)
    assert any("comes after" in one for one in turned)
    assert any("widened" in one for one in widened)


def interval(low: float, high: float) -> dict[str, Any]:
    running = {"running_p_value": 1.0, "running_low": low, "running_high": high}
    return {
        "metric_id": "bought",
        "effects": [{"variant": "t", "absolute": {"always_valid": running}}],
    }


def test_ledgers_that_do_not_agree_and_ticks_that_differ_are_found_out() -> None:
    events = events_of(Random(0))
    outcome = outcome_of(events)
    short = outcome.ledger | {"clickhouse": {"rows": len(events) - 1, "missing": 1, "extra": 0}}
    ticks = {0: outcome.log.ticks[0], 1: outcome.log.ticks[0][:3] + outcome.log.ticks[0][5:]}

    missing = differences(events, outcome._replace(ledger=short))
    gap = differences(events, outcome._replace(log=outcome.log._replace(ticks=ticks)))

    assert ["clickhouse" in one for one in missing] == [True]
    assert gap == ["partition 1: tick 6 follows 3"]
