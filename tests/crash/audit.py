"""Holds what a run published to what was sent: one unit at a time, in plain Python.

Nothing of the engine: events as they were sent, the log as it stands in Kafka, and the rules as a
person applies them (``tests/stream_processors/accumulate/oracle.py``). Every difference is a line
of text; none means that nothing was lost, doubled or misplaced.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from schemas.definitions import Definition, Interval, Metric, Variant
from schemas.times import parse_duration_ms, parse_time_ms
from tests.crash.reading import Cell, Cells, Log, Row
from tests.stream_processors.accumulate.builders import Event
from tests.stream_processors.accumulate.oracle import Unit, expected

PREFIXES_CHECKED = 6
FATES = ("fresh", "duplicate", "conflict", "stale", "refused")
ATTRIBUTIONS = ("counted", "outside_window", "excluded", "no_assignment")

Json = dict[str, Any]


@dataclass
class Journal:
    """What the producers know.

    Attributes:
        accepted: Events that a door answered with 202, or that Kafka acknowledged.
        rejected: Bytes of events that were sent although they break a rule.
    """

    accepted: list[Event] = field(default_factory=list)
    rejected: list[bytes] = field(default_factory=list)


class Outcome(NamedTuple):
    """What the stack published.

    Attributes:
        definitions: In the order of creation.
        log: litmus.events.
        looks: litmus.looks, in order.
        cells: What the newest checkpoints hold.
        ledger: What ``/v1/ledger`` says.
        dead_letters: litmus.dlq.
    """

    definitions: list[Definition]
    log: Log
    looks: list[Json]
    cells: Cells
    ledger: Json
    dead_letters: list[bytes]


class Fates(NamedTuple):
    """What becomes of rows: per partition by fate, and the rows that are fresh."""

    counts: dict[int, Counter[str]]
    fresh: list[Row]


def definition_of(public: Json, ordinal: int) -> Definition:
    """Return the definition that the API shows; it never paused."""
    started, stopped = (
        None if public[name] is None else parse_time_ms(public[name])
        for name in ("started_at", "stopped_at")
    )
    return Definition(
        id=public["id"],
        ordinal=ordinal,
        version=public["version"],
        seed=public["seed"],
        unit_type=public["unit_type"],
        crossover=public["crossover"],
        variants=[Variant(**one) for one in public["variants"]],
        metrics=[
            Metric(
                one["id"],
                one["kind"],
                one["event"],
                window_ms=parse_duration_ms(one["window"]) if one["window"] else None,
                precision=one["precision"],
            )
            for one in public["metrics"]
        ],
        status=public["status"],
        started_at_ms=started,
        stopped_at_ms=stopped,
        intervals=[] if started is None else [Interval(started, stopped)],
    )


def audit(journal: Journal, outcome: Outcome, *, random: Random) -> list[str]:
    """Return every difference between what was sent and what was published."""
    fates = fates_of(outcome.log.rows)
    return [
        *_log_differences(journal, outcome),
        *_tick_differences(outcome.log),
        *_ledger_differences(outcome, fates),
        *_identity_differences(outcome.looks),
        *_interval_differences(outcome.looks),
        *_look_differences(outcome, fates, random),
        *_cell_differences(outcome, fates),
    ]


def fates_of(rows: list[Row]) -> Fates:
    """Return what becomes of every row: the first of an id counts, and what it says stays."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    known: dict[tuple[str, str, str], Event] = {}
    fresh = []
    for row in rows:
        event = row.event
        first = known.setdefault((event.unit_type, event.unit, event.event_id), event)
        if first is event:
            fresh.append(row)
        fate = "fresh" if first is event else "duplicate" if first == event else "conflict"
        counts[row.partition].update([fate, "received"])
    return Fates(counts, fresh)


def _log_differences(journal: Journal, outcome: Outcome) -> list[str]:
    logged, sent = {row.event for row in outcome.log.rows}, set(journal.accepted)
    letters = set(outcome.dead_letters)
    return [
        *(f"accepted, not in the log: {event}" for event in sent - logged),
        *(f"in the log, never accepted: {event}" for event in logged - sent),
        *(f"no dead letter of {raw!r}" for raw in set(journal.rejected) - letters),
        *(f"a dead letter of {raw!r}" for raw in letters - set(journal.rejected)),
    ]


def _tick_differences(log: Log) -> list[str]:
    """Every partition holds the same ticks, in order, perhaps repeated."""
    found, texts = [], {}
    for partition, ticks in log.ticks.items():
        last = 0
        for number, text in ticks:
            if texts.setdefault(number, text) != text:
                found.append(f"partition {partition}: tick {number} is another one elsewhere")
            if number > last + 1:
                found.append(f"partition {partition}: tick {number} follows {last}")
            last = max(last, number)
    return found


def _ledger_differences(outcome: Outcome, fates: Fates) -> list[str]:
    ledger = outcome.ledger
    totals = sum(fates.counts.values(), Counter())
    rows, letters = totals["received"], len(outcome.dead_letters)
    said = {
        "balanced": ledger["balanced"],
        "rows": ledger["rows"],
        "doors": ledger["doors"],
        "clickhouse": ledger["clickhouse"],
    }
    wanted = {
        "balanced": True,
        "rows": {name: totals[name] for name in ("received", *FATES)},
        "doors": {"posted": rows + letters, "received": rows, "late": 0, "rejected": letters},
        "clickhouse": {"rows": rows, "missing": 0, "extra": 0},
    }
    for one in ledger["partitions"]:
        number = one["partition"]
        said[f"partition {number}"] = {name: one[name] for name in ("received", *FATES)}
        wanted[f"partition {number}"] = {
            name: fates.counts[number][name] for name in ("received", *FATES)
        }
    events = [row.event for row in fates.fresh]
    for definition in outcome.definitions:
        counts = expected(definition, events, _END_OF_TIME)["attribution"]
        said[definition.id] = ledger["experiments"][definition.id]
        wanted[definition.id] = dict(zip(ATTRIBUTIONS, counts, strict=True))
    return [
        f"ledger, {name}: {said[name]}, must be {wanted[name]}"
        for name in wanted
        if said[name] != wanted[name]
    ]


_END_OF_TIME = 2**62


def _identity_differences(looks: list[Json]) -> list[str]:
    """A (experiment, tick) has one look, repeated or not, and ticks go on."""
    found, identities, last = [], {}, Counter()
    for one in looks:
        experiment, tick = one["experiment_id"], one["look"]["tick"]
        sha256 = one["look"]["sha256"]
        if (experiment, tick) in identities:
            if identities[experiment, tick] != sha256:
                found.append(f"{experiment} has two looks at tick {tick}")
            continue
        identities[experiment, tick] = sha256
        if tick < last[experiment]:
            found.append(f"{experiment}: look {tick} comes after {last[experiment]}")
        last[experiment] = max(last[experiment], tick)
    return found


def _interval_differences(looks: list[Json]) -> list[str]:
    """No running interval widens, no running p-value rises."""
    found: list[str] = []
    paths: dict[tuple[str, str, str], Json] = {}
    for one in sorted(looks, key=lambda one: one["look"]["tick"]):
        for metric in one["metrics"]:
            for effect in metric["effects"]:
                now = effect["absolute"].get("always_valid")
                if now is None:
                    continue
                path = (one["experiment_id"], metric["metric_id"], effect["variant"])
                before = paths.setdefault(path, now)
                if _is_wider(before, now):
                    found.append(f"{path} widened at tick {one['look']['tick']}: {before}, {now}")
                paths[path] = now
    return found


def _is_wider(before: Json, now: Json) -> bool:
    if now["running_p_value"] > before["running_p_value"]:
        return True
    if before["running_low"] is None or now["running_low"] is None:  # empty, and stays so
        return before["running_low"] is None and now["running_low"] is not None
    return (
        now["running_low"] < before["running_low"] or now["running_high"] > before["running_high"]
    )


def _look_differences(outcome: Outcome, fates: Fates, random: Random) -> list[str]:
    """The last look is what everything amounts to; looks on the way, what was in them by then."""
    found = []
    for definition in outcome.definitions:
        looks = [one for one in outcome.looks if one["experiment_id"] == definition.id]
        if not looks:
            return [f"{definition.id} has no look"]
        last = max(looks, key=lambda one: one["look"]["tick"])
        events = [row.event for row in fates.fresh]
        found += _integer_differences(definition, last, events, settled=_END_OF_TIME)
        for look in random.sample(looks, min(PREFIXES_CHECKED, len(looks))):
            offsets = {int(number): at for number, at in look["look"]["offsets"].items()}
            events = [row.event for row in fates.fresh if row.offset < offsets[row.partition]]
            settled = look["inputs"]["times"][1]
            found += _integer_differences(definition, look, events, settled=settled)
    return found


def _integer_differences(
    definition: Definition, look: Json, events: list[Event], *, settled: int
) -> list[str]:
    counts = expected(definition, events, settled)
    wanted = {
        "units": [str(count) for count in counts["units"]],
        "crossovers": str(counts["crossovers"]),
        "matured": _in_decimal(counts["matured"]),
        "open": _in_decimal(counts["open"]),
        "overflowed": [str(count) for count in counts["overflowed"]],
    }
    where = f"{definition.id}, look {look['look']['tick']}"
    return [
        f"{where}, {name}: {look['integers'][name]}, must be {wanted[name]}"
        for name in wanted
        if look["integers"][name] != wanted[name]
    ]


def _in_decimal(metrics: list[list[Any]]) -> list[list[list[str]]]:
    return [
        [[str(one.unit_count), str(one.sum_q), str(one.sum_squares_q)] for one in variants]
        for variants in metrics
    ]


def _cell_differences(outcome: Outcome, fates: Fates) -> list[str]:
    """Unit by unit: what the checkpoints hold is what the unit's own events amount to."""
    of_unit: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for row in fates.fresh:
        of_unit[row.unit_hash].append(row.event)
    wanted: Cells = {}
    for definition in outcome.definitions:
        for unit_hash, events in of_unit.items():
            unit = Unit(definition, events)
            if unit.first is not None:
                wanted[definition.ordinal, *unit_hash] = _cell(unit, events)
    keys = wanted.keys() | outcome.cells.keys()
    return [
        f"experiment {key[0]}, unit {key[1]:x}{key[2]:016x}: "
        f"{outcome.cells.get(key)}, must be {wanted.get(key)}"
        for key in sorted(keys)
        if outcome.cells.get(key) != wanted.get(key)
    ]


def _cell(unit: Unit, events: list[Event]) -> Cell:
    definition, entry = unit.definition, unit.first.timestamp
    variants = {
        one.variant
        for one in events
        if one.experiment == definition.id and one.variant and definition.counts_at(one.timestamp)
    }
    outcome = unit.attribution()
    return Cell(
        definition.variant_ids.index(unit.first.variant),
        entry,
        len(variants) > 1,
        outcome["counted"] + outcome["outside_window"] + outcome["excluded"],
        tuple(_total(unit, metric) for metric in definition.metrics),
    )


def _total(unit: Unit, metric: Metric) -> int:
    """Return a unit's total; of a conversion the events that convert, which may be several."""
    held = [one for one in unit.events if unit.holds(metric, one)]
    if metric.kind == "conversion":
        return sum(one.value > 0 for one in held)
    if metric.kind == "count":
        return len(held)
    return sum(round(one.value * 10.0**metric.precision) for one in held)
