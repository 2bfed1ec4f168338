"""The auditor is silent about a run that is right, and sees every way in which one is not."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from schemas.topics import KIND_BATCH, KIND_TICK
from tests.seeds import seeds
from tests.stream_processors.accumulate.builders import Event, ImportRow, batch
from tests.tools.torture_audit.worlds import (
    Log,
    Outcome,
    World,
    log_of,
    make_world,
    run_world,
)
from tools.torture import journal as journals
from tools.torture.audit import Report, audit
from tools.torture.audit.batches import rows_of

Json = dict[str, Any]
SEEDS = range(3)


def report_of(outcome: Outcome) -> Report:
    return audit(outcome.evidence, outcome.run, processes=1)


def checks_of(report: Report) -> set[str]:
    return {one.partition(": ")[0] for one in report.differences}


@pytest.mark.parametrize("seed", seeds(40))
def test_a_run_that_counted_right_has_no_differences(seed: int) -> None:
    world = make_world(seed)
    outcome = run_world(world, partition_count=1 + seed % 3)

    report = report_of(outcome)

    assert report.differences == []
    assert report.looks_compared == len(outcome.evidence.look_records) > 5
    assert report.events_compared == len(set(world.events)) + len(world.late)
    assert report.compared["cells"] > 0
    assert report.compared["imports"] > 0
    assert report.compared["imported rows"] == 16
    assert report.compared["day totals"] > 0


def test_the_worlds_hold_what_the_rules_are_about() -> None:
    outcomes = [run_world(make_world(seed)) for seed in range(12)]
    looks = [msgspec.json.decode(one) for each in outcomes for one in each.evidence.look_records]
    rows = [each.run.ledger["rows"] for each in outcomes]
    attributed = [one for each in outcomes for one in each.run.ledger["experiments"].values()]

    assert all(any(one[fate] for one in rows) for fate in ("duplicate", "conflict", "stale"))
    assert all(any(one[name] for one in attributed) for name in attributed[0])
    assert any(one["crossovers"] for one in looks)
    assert any(one["final"] for one in looks)
    assert {one["status"] for one in looks} >= {"running", "paused", "stopped"}
    assert any(int(count) for one in looks for count in one["integers"]["overflowed"])
    assert any(_numbers(one["integers"]["matured_covariates"]) for one in looks)


def _numbers(value: Any) -> bool:
    """Return whether a number other than zero stands somewhere in nested lists."""
    return any(map(_numbers, value)) if isinstance(value, list) else value != "0"


# --- an engine that reads another log than there is ---


def rewritten(log: Log, change: Callable[[list[Event]], list[Event]]) -> Log:
    """Return a log whose batches hold other events, at the same offsets."""
    read: Log = {}
    for number, messages in log.items():
        read[number] = []
        for kind, value in messages:
            events = change(list(_events_of(value))) if kind == KIND_BATCH else []
            read[number].append((kind, batch(events).value if kind == KIND_BATCH else value))
    return read


def _events_of(value: bytes) -> Iterator[Event]:
    for row in rows_of(value):
        (_, unit_type, unit, _, _, event_id, _, _, experiment, variant, metric) = row[:11]
        yield Event(
            unit, event_id, row[13], experiment, variant, metric, row[12], unit_type, row[14]
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_an_engine_that_loses_one_event_is_found_out(seed: int) -> None:
    world = make_world(seed)
    lost = world.witness[1]

    read = rewritten(log_of(world, 2), lambda events: [one for one in events if one != lost])
    report = report_of(run_world(world, read=read))

    assert {"ledger", "cells"} <= checks_of(report)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_engine_that_counts_one_event_twice_is_found_out(seed: int) -> None:
    world = make_world(seed)
    doubled = world.witness[1]

    def double(events: list[Event]) -> list[Event]:
        again = [doubled._replace(event_id="again")] if doubled in events else []
        return events + again

    report = report_of(run_world(world, read=rewritten(log_of(world, 2), double)))

    assert {"ledger", "cells"} <= checks_of(report)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_engine_that_puts_a_unit_into_the_other_variant_is_found_out(seed: int) -> None:
    world = make_world(seed)
    moved = world.witness[0]
    other = moved._replace(variant="c" if moved.variant == "t" else "t")

    read = rewritten(
        log_of(world, 2), lambda events: [other if one == moved else one for one in events]
    )
    report = report_of(run_world(world, read=read))

    assert {"looks", "cells"} <= checks_of(report)


# --- doors ---


def doors_of(world: World, sent: World) -> Report:
    """Return the audit of a run of ``world`` when producers were told that they sent ``sent``."""
    outcome, told = run_world(world), run_world(sent)
    return report_of(Outcome(outcome.evidence, outcome.run._replace(journal=told.run.journal)))


def with_batches(world: World, change: Callable[[list[Event]], list[Event]]) -> World:
    return World(
        world.control,
        [[change(events) for events in batches] for batches in world.batches],
        world.imports,
        world.witness,
        world.late,
        world.hostile,
    )


def test_a_door_that_loses_an_accepted_event_is_found_out() -> None:
    world = make_world(1)
    lost = world.witness[1]

    report = doors_of(
        with_batches(world, lambda events: [one for one in events if one != lost]), sent=world
    )

    assert checks_of(report) == {"doors"}
    assert len(report.differences) == 1
    assert lost.event_id in report.differences[0]


def test_a_door_that_changes_an_event_is_found_out_twice() -> None:
    world = make_world(1)
    one = world.witness[1]
    other = one._replace(value=one.value + 1)

    report = doors_of(
        with_batches(world, lambda events: [other if two == one else two for two in events]),
        sent=world,
    )

    assert ["nobody sent this" in line for line in report.differences] == [True, False]


def test_an_event_that_was_refused_and_stands_in_the_log_is_found_out() -> None:
    world = make_world(1)
    outcome = run_world(world)
    postings = list(outcome.run.entries())
    one = world.witness[1]
    mine = next(
        entry
        for entry in postings
        if isinstance(entry, journals.Posting)
        and any(isinstance(i, journals.Event) and i.event_id == one.event_id for i in entry.items)
    )
    place = [getattr(item, "event_id", None) for item in mine.items].index(one.event_id)
    refused = [
        msgspec.structs.replace(entry, wanted={place: "unknown_variant"})
        if entry is mine
        else msgspec.structs.replace(
            entry,
            accepted=len(mine.items) - 1,
            rejected={place: "unknown_variant"},
        )
        if isinstance(entry, journals.Attempt)
        and entry.number == mine.number
        and entry.status == 202
        else entry
        for entry in postings
        if not (
            isinstance(entry, journals.Attempt)
            and entry.number == mine.number
            and entry.status == 503
        )
    ]

    report = report_of(Outcome(outcome.evidence, outcome.run._replace(journal=refused)))

    assert any("refused by its door" in line for line in report.differences)
    assert any(line.startswith("dead letters: expected one of") for line in report.differences)


def test_an_event_that_had_to_be_late_and_is_not_is_found_out() -> None:
    outcome = run_world(make_world(1))

    report = report_of(outcome.with_evidence(late_log=[]))

    assert checks_of(report) == {"doors", "ledger"}


def test_a_refusal_without_a_dead_letter_and_a_letter_of_nothing_are_found_out() -> None:
    outcome = run_world(make_world(1))
    first, *others = outcome.evidence.letters

    lost = report_of(outcome.with_evidence(letters=others))
    invented = report_of(
        outcome.with_evidence(letters=[first, *others, first._replace(raw=b"what")])
    )

    assert any("expected one of b'{'" in line for line in lost.differences)
    assert any("nobody was refused this" in line for line in invented.differences)


# --- imports ---

Rows = list[ImportRow]


def dropped(rows: Rows, row: ImportRow) -> Rows:
    at = rows.index(row)
    return rows[:at] + rows[at + 1 :]


def doubled(rows: Rows, row: ImportRow) -> Rows:
    return [*rows, row]


def of_another_day(rows: Rows, row: ImportRow) -> Rows:
    return [*dropped(rows, row), row._replace(day=row.day - 1)]


def of_another_unit(rows: Rows, row: ImportRow) -> Rows:
    return [*dropped(rows, row), row._replace(unit="another")]


def of_another_metric(rows: Rows, row: ImportRow) -> Rows:
    other = {"buy": "view", "view": "buy"}[row.metric]
    return [*dropped(rows, row), row._replace(metric=other)]


WRONG_IMPORTS = [dropped, doubled, of_another_day, of_another_unit, of_another_metric]


def with_import(world: World, change: Callable[[Rows, ImportRow], Rows]) -> World:
    """Return the world with one imported row of a day that is kept changed, wherever it is sent."""
    sent = [
        rows for those in world.imports.values() for rows, _, sha256 in those if sha256 == "one"
    ]
    row = sent[0][0]
    imports = {
        tick: [(change(rows, row) if rows is sent[0] else rows, *rest) for rows, *rest in those]
        for tick, those in world.imports.items()
    }
    return dataclasses.replace(world, imports=imports)


@pytest.mark.parametrize("change", WRONG_IMPORTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_an_engine_that_takes_an_imported_row_wrongly_is_found_out(
    seed: int, change: Callable[[Rows, ImportRow], Rows]
) -> None:
    world = make_world(seed)

    report = report_of(run_world(world, read=log_of(with_import(world, change), 2)))

    assert "day totals" in checks_of(report)
    assert "imported rows" not in checks_of(report)


@pytest.mark.parametrize("change", [dropped, doubled])
def test_an_imported_row_taken_wrongly_shows_in_covariates_of_looks(
    change: Callable[[Rows, ImportRow], Rows],
) -> None:
    """In those worlds where the unit is in an experiment with a covariate of that name."""
    lines = []
    for seed in range(8):
        world = make_world(seed)
        read = log_of(with_import(world, change), 2)
        lines += report_of(run_world(world, read=read)).differences

    assert any("open_covariates: expected" in line for line in lines)
    assert any("matured_covariates: expected" in line for line in lines)


@pytest.mark.parametrize("change", WRONG_IMPORTS)
def test_a_door_that_writes_another_row_than_it_was_sent_is_found_out(
    change: Callable[[Rows, ImportRow], Rows],
) -> None:
    world = make_world(1)

    report = doors_of(with_import(world, change), sent=world)

    assert "imported rows" in checks_of(report)
    assert any("import i, batch 1, partition" in line for line in report.differences)
    assert "day totals" not in checks_of(report)


def test_a_batch_that_nobody_sent_or_two_contents_of_one_are_found_out() -> None:
    outcome = run_world(make_world(1))
    entries = list(outcome.run.entries())
    of_first = [
        one for one in entries if isinstance(one, journals.Command) and one.path.endswith("/i/1")
    ]
    numbers = {one.number for one in of_first}
    unsent = [
        one
        for one in entries
        if not isinstance(one, journals.Command | journals.CommandAttempt)
        or one.number not in numbers
    ]
    other = msgspec.structs.replace(of_first[0], number=99, body=of_first[0].body.split(b"\n")[0])

    nobody = report_of(Outcome(outcome.evidence, outcome.run._replace(journal=unsent)))
    twice = [*entries, other, journals.CommandAttempt(99, 0, 200)]
    both = report_of(Outcome(outcome.evidence, outcome.run._replace(journal=twice)))
    unanswered = [*entries, other, journals.CommandAttempt(99, 0, 0)]
    neither = report_of(Outcome(outcome.evidence, outcome.run._replace(journal=unanswered)))

    assert nobody.differences == [
        "imported rows: import i, batch 1: expected nothing, nobody sent this"
    ]
    assert both.differences == [
        "imported rows: import i, batch 1: two different contents were told to be done"
    ]
    assert neither.differences == []


def test_a_ledger_that_says_other_rows_of_an_import_is_found_out() -> None:
    outcome = run_world(make_world(0))
    told = outcome.run.ledger["imports"][0]

    report = report_of(
        outcome.with_ledger(outcome.run.ledger | {"imports": [told | {"log_rows": 15}]})
    )

    assert ["import i: expected" in line for line in report.differences] == [True]


# --- events that are known by their place on a topic ---


def without_id(world: World, *, resent: bool) -> tuple[Outcome, World]:
    """Return a run whose witness's metric event was sent through Kafka without an id.

    Args:
        world: As it would be.
        resent: Whether Kafka said nothing of the record, which is there all the same.
    """
    witness = world.witness[1]
    placed = witness._replace(event_id=f"{'a' * 32}/0/7")
    changed = with_batches(
        world, lambda events: [placed if one == witness else one for one in events]
    )
    outcome = run_world(changed)
    item = journals.Event(
        witness.unit, None, witness.timestamp, None, None, witness.metric, witness.value
    )
    entries = [
        msgspec.structs.replace(
            one, items=[it for it in one.items if getattr(it, "event_id", 0) != placed.event_id]
        )
        if isinstance(one, journals.Posting)
        else one
        for one in outcome.run.entries()
    ]
    posted = {one.number: len(one.items) for one in entries if isinstance(one, journals.Posting)}
    entries = [
        msgspec.structs.replace(one, accepted=posted[one.number] - one.late - len(one.rejected))
        if isinstance(one, journals.Attempt) and one.status == 202
        else one
        for one in entries
    ]
    entries.append(journals.Posting(10**6, 0, "kafka", "litmus.metrics", [item]))
    where = (-1, -1, "unknown") if resent else (0, 7, "")
    entries.append(journals.Delivery(10**6, 0, *where))
    return Outcome(outcome.evidence, outcome.run._replace(journal=entries)), changed


@pytest.mark.parametrize("resent", [False, True])
def test_a_record_without_an_id_is_known_by_its_place(resent: bool) -> None:
    outcome, changed = without_id(make_world(1), resent=resent)

    assert report_of(outcome).differences == []

    twin = changed.witness[1]._replace(event_id=f"{'a' * 32}/0/8")
    doubled_by_the_door = with_batches(
        changed,
        lambda events: [
            two
            for one in events
            for two in ([one, twin] if one.event_id.endswith("/0/7") else [one])
        ],
    )
    again = run_world(doubled_by_the_door)
    report = report_of(Outcome(again.evidence, again.run._replace(journal=outcome.run.journal)))
    assert any("nobody sent this" in line for line in report.differences)


# --- looks ---


def looks_of(outcome: Outcome) -> list[Json]:
    return [msgspec.json.decode(one) for one in outcome.evidence.look_records]


def with_looks(outcome: Outcome, looks: list[Json]) -> Outcome:
    return outcome.with_evidence(look_records=[msgspec.json.encode(one) for one in looks])


def test_a_look_whose_integers_are_off_by_one_is_found_out_wherever_it_is() -> None:
    outcome = run_world(make_world(2))
    for name, change in (
        ("units", lambda integers: [str(int(integers["units"][0]) + 1), integers["units"][1]]),
        ("crossovers", lambda integers: str(int(integers["crossovers"]) + 1)),
        ("overflowed", lambda integers: ["1", *integers["overflowed"][1:]]),
    ):
        looks = looks_of(outcome)
        one = looks[len(looks) // 2]
        one["integers"] |= {name: change(one["integers"])}
        one["inputs"]["integers"] = one["integers"]

        report = report_of(with_looks(outcome, looks))

        tick = one["look"]["tick"]
        assert any(f"tick {tick}, {name}: expected" in line for line in report.differences), name
        assert any(f"tick {tick}, sha256: expected" in line for line in report.differences)


@pytest.mark.parametrize("basis", ["matured", "open", "matured_covariates", "open_covariates"])
def test_a_sum_that_is_off_by_one_is_found_out(basis: str) -> None:
    for seed in range(20):
        outcome = run_world(make_world(seed))
        looks = looks_of(outcome)
        found = [
            (one, number)
            for one in looks
            for number in range(len(one["integers"][basis]))
            if one["integers"][basis][number]
        ]
        if found:
            break
    one, number = found[-1]
    sums = one["integers"][basis][number][0]
    sums[1] = str(int(sums[1]) + 1)

    report = report_of(with_looks(outcome, looks))

    assert any(f", {basis}: expected" in line for line in report.differences)


def test_a_look_that_is_missing_is_found_out_whichever_it_is() -> None:
    outcome = run_world(make_world(3))
    looks = looks_of(outcome)
    for place, gone in enumerate(looks):
        report = report_of(with_looks(outcome, looks[:place] + looks[place + 1 :]))

        where = f"{gone['experiment_id']}, tick {gone['look']['tick']}"
        missing = f"looks: {where}: expected a look, found none"
        assert missing in report.differences


def test_a_repeated_look_is_no_difference_but_another_one_of_the_tick_is() -> None:
    outcome = run_world(make_world(3))
    looks = looks_of(outcome)
    again = looks[4] | {"look": looks[4]["look"] | {"sha256": "another"}}

    repeated = report_of(with_looks(outcome, [*looks[:10], *looks[4:]]))
    doubled = report_of(with_looks(outcome, [*looks[:10], again, *looks[10:]]))

    assert repeated.differences == []
    assert checks_of(doubled) == {"repeated looks"}


def test_a_look_of_other_offsets_times_or_definition_is_found_out() -> None:
    outcome = run_world(make_world(3))
    for path in (("look", "offsets"), ("inputs", "times"), ("inputs", "definition")):
        looks = looks_of(outcome)
        value = looks[5][path[0]][path[1]]
        if isinstance(value, dict):
            value["0"] += 1
        elif isinstance(value, list):
            value[1] += 1
        else:
            looks[5][path[0]][path[1]] = "another"

        report = report_of(with_looks(outcome, looks))

        assert any(path[1] in line.partition(": expected")[0] for line in report.differences)


def test_results_that_say_other_numbers_than_their_integers_are_found_out() -> None:
    outcome = run_world(make_world(3))
    looks = looks_of(outcome)
    looks[5]["variants"][0]["units"] += 1
    looks[6]["metrics"][0]["variants"][1]["total"] += 1

    report = report_of(with_looks(outcome, looks))

    assert [line.partition(": expected")[0].rpartition(", ")[2] for line in report.differences] == [
        "variants",
        "metrics",
    ]


def test_a_running_interval_that_widens_is_found_out() -> None:
    outcome = run_world(make_world(3))
    looks = [one for one in looks_of(outcome) if one["experiment_id"] == "x"][:2]
    others = [one for one in looks_of(outcome) if one["look"]["tick"] > looks[1]["look"]["tick"]]
    for number, one in enumerate(looks):
        running = {"running_p_value": 1.0, "running_low": -number, "running_high": number}
        one["metrics"][0]["effects"][0]["absolute"]["always_valid"] = running

    report = report_of(with_looks(outcome, looks + others))

    assert any("widened" in line for line in report.differences)


# --- ledgers, cells, ticks ---


@pytest.mark.parametrize("fate", ["received", "fresh", "duplicate", "conflict", "stale", "refused"])
def test_a_ledger_that_is_off_by_one_is_found_out(fate: str) -> None:
    outcome = run_world(make_world(0))
    ledger = msgspec.json.decode(msgspec.json.encode(outcome.run.ledger))
    ledger["partitions"][1][fate] += 1

    report = report_of(outcome.with_ledger(ledger))

    assert ["partition 1" in line for line in report.differences] == [True]


@pytest.mark.parametrize("name", ["counted", "outside_window", "excluded", "no_assignment"])
def test_an_attribution_that_is_off_by_one_is_found_out(name: str) -> None:
    outcome = run_world(make_world(0))
    ledger = msgspec.json.decode(msgspec.json.encode(outcome.run.ledger))
    ledger["experiments"]["x"][name] -= 1

    report = report_of(outcome.with_ledger(ledger))

    assert ["experiment x" in line for line in report.differences] == [True]


@pytest.mark.parametrize(
    "change",
    [
        {"balanced": False},
        {"clickhouse": {"rows": 1, "missing": 0, "extra": 0}},
        {"doors": {"posted": 0, "received": 0, "late": 0, "rejected": 0}},
    ],
)
def test_a_final_ledger_that_says_something_else_is_found_out(change: Json) -> None:
    outcome = run_world(make_world(0))

    report = report_of(outcome.with_ledger(outcome.run.ledger | change))

    assert checks_of(report) == {"ledger"}


def test_checkpoints_of_another_world_are_found_out_unit_by_unit() -> None:
    world = make_world(4)
    moved = world.witness[0]
    late = moved._replace(timestamp=moved.timestamp + 1)
    read = rewritten(
        log_of(world, 2), lambda events: [late if one == moved else one for one in events]
    )
    true, other = run_world(world), run_world(world, read=read)

    report = report_of(true.with_evidence(changelogs=other.evidence.changelogs))

    assert checks_of(report) == {"cells"}


def test_rows_that_no_look_holds_yet_are_found_out() -> None:
    outcome = run_world(make_world(0))
    log = {number: list(messages) for number, messages in outcome.evidence.log.items()}
    ticks = [at for at, (kind, _) in enumerate(log[0]) if kind == KIND_TICK]
    moved = log[0].pop(next(at for at, (kind, _) in enumerate(log[0]) if kind == KIND_BATCH))
    log[0].insert(ticks[-1], moved)

    report = report_of(outcome.with_evidence(log=log))

    assert {"looks", "ledger"} <= checks_of(report)


def test_a_tick_that_is_missing_or_another_one_is_found_out() -> None:
    outcome = run_world(make_world(0))
    log = outcome.evidence.log
    place = [at for at, (kind, _) in enumerate(log[1]) if kind == KIND_TICK][20]
    tick = msgspec.json.decode(log[1][place][1])
    tick["times"]["settled_ms"] += 1
    other = {**log, 1: [*log[1]]}
    other[1][place] = (KIND_TICK, msgspec.json.encode(tick))

    changed = report_of(outcome.with_evidence(log=other))
    missing = report_of(outcome.with_evidence(log={**log, 1: log[1][:place] + log[1][place + 1 :]}))

    assert "ticks" in checks_of(changed)
    assert "ticks" in checks_of(missing)


def test_an_audit_that_compared_nothing_is_no_success() -> None:
    outcome = run_world(make_world(0))
    empty: dict[int, list[tuple[bytes, bytes | None]]] = {0: [], 1: []}

    without_cells = report_of(outcome.with_evidence(changelogs=empty))
    without_journal = report_of(Outcome(outcome.evidence, outcome.run._replace(journal=[])))
    without_looks = report_of(outcome.with_evidence(look_records=[]))

    assert without_cells.differences == ["cells: nothing was compared"]
    assert "answers: nothing was compared" in without_journal.differences
    assert "looks: nothing was compared" in without_looks.differences


def test_two_processes_find_what_one_finds() -> None:
    outcome = run_world(make_world(0))

    alone, both = (audit(outcome.evidence, outcome.run, processes=count) for count in (1, 2))

    assert alone == both
