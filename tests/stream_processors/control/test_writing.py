"""Whatever writers and networks do, the control log is one chain and every partition has it."""

import random
from typing import Any

import msgspec
import pytest

from schemas.control import (
    CatalogueChange,
    CatalogueEntry,
    Command,
    ControlState,
    Import,
    ImportChange,
    Outcome,
)
from stream_processors.control import writing
from stream_processors.control.commands import Received, fold
from stream_processors.control.writing import Send, Writer
from tests.seeds import drawn
from tests.stream_processors.control.logs import Logs, run_schedule

SCHEDULES = 2_000
STEPS = 120
BODY = {"variants": [{"id": "a"}, {"id": "b"}], "metrics": [{"id": "m", "kind": "count"}]}


class WithoutReadBack(Writer):
    """Sabotage: takes its own append for the winner."""

    def append_next(self) -> Send | None:
        send = super().append_next()
        if send is not None:
            guess_ms = self.control.last.times.log_ms + 1 if self.control.last else 1
            follow = self.read_control(self.control.next_offset, guess_ms, send.value)
            self.pending = [*getattr(self, "pending", []), *follow]
        return send

    def read_control(self, offset: int, appended_ms: int, value: bytes) -> list[Send]:
        sends, self.pending = getattr(self, "pending", []), []
        return sends + super().read_control(offset, appended_ms, value)


class WithoutAcknowledgements(Writer):
    """Sabotage: appends without waiting for its copies."""

    def _may_append(self) -> bool:
        self._unacknowledged.clear()
        return super()._may_append()


class WithoutFirstCopy(Writer):
    """Sabotage: a new writer trusts that the last one has sent its copies."""

    def begin(self) -> list[Send]:
        super().begin()
        self._unacknowledged.clear()
        return []


@pytest.fixture(autouse=True)
def frequent_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SNAPSHOT_EVERY", 7)


def command(number: int, rng: random.Random) -> bytes:
    experiment = f"x{rng.randrange(2)}"
    action = rng.choice(
        ("create", "create", "start", "pause", "resume", "stop", "patch", "what",
         "catalogue", "import", "import_batch", "import_batch", "import_done")
    )  # fmt: skip
    action = {0: "catalogue", 1: "catalogue", 2: "import", 3: "import"}.get(number, action)
    bodies: dict[str, dict[str, Any]] = {
        "create": BODY | {"id": experiment},
        "patch": {"name": f"name {number}"},
        "catalogue": {"keep_days": rng.choice((7, 7, 8))},
        "import": {"metrics": [experiment], "from_day": 9, "to_day": rng.choice((9, 9, 10))},
        "import_batch": {
            "number": rng.randrange(1, 4),
            "sha256": rng.choice("ab") * 64,
            "row_count": 5,
        },
        "import_done": {"number": rng.randrange(1, 4)},
    }
    body = bodies.get(action, {})
    if number % 11 == 10:
        return b"no command"
    return msgspec.json.encode(Command(f"c{number}", action, experiment, body=body))


def logs_after(make: type[Writer], seed: int) -> Logs:
    rng = random.Random(seed)
    logs = Logs(partition_count=rng.randrange(1, 4))
    for number in range(rng.randrange(25)):
        logs.commands.append((logs.now_ms + 13 * number, command(number, rng)))
    run_schedule(logs, make, rng, steps=STEPS)
    return logs


def outcomes_of(logs: Logs) -> list[Outcome]:
    return [outcome for record in logs.records for outcome in record.outcomes]


def folded_at_once(logs: Logs) -> ControlState:
    """Return the state after all commands, one by one, without records, ticks or writers."""
    assert logs.records[0].snapshot is not None
    state = logs.records[0].snapshot
    for offset, (appended_ms, value) in enumerate(logs.commands):
        one = Received(offset, appended_ms, value)
        state = state.after(fold(state, [one], tick=1, from_offset=offset, answered={}).changes)
    return state


def check_promises(logs: Logs) -> int:
    """Check that entries never change and that a batch never has two contents; count batches."""
    entries: dict[str, CatalogueEntry] = {}
    imports: dict[str, Import] = {}
    contents: dict[tuple[str, int], str] = {}
    for change in (change for record in logs.records for change in record.changes):
        match change:
            case CatalogueChange(entry):
                assert entry.name not in entries
                entries[entry.name] = entry
            case ImportChange(declared):
                before = imports.get(declared.id, declared)
                assert declared.done in (before.done, before.done + 1)
                if declared.reserved is not None:
                    place, sha256 = (
                        (declared.id, declared.reserved.number),
                        declared.reserved.sha256,
                    )
                    assert contents.setdefault(place, sha256) == sha256
                    assert declared.reserved.number == declared.done + 1
                imports[declared.id] = declared
    return len(contents)


def test_two_writers_that_freeze_and_die_never_fork_the_log() -> None:
    batch_count = 0
    for seed in range(drawn(SCHEDULES)):
        logs = logs_after(Writer, seed)
        assert not logs.violations, (seed, logs.violations)
        assert [record.number for record in logs.records] == [
            number + 1 for number in range(len(logs.records))
        ]
        for partition in range(logs.partition_count):
            assert logs.last_tick(partition) >= len(logs.ticks) - 1

        assert logs.fold.state == folded_at_once(logs), seed
        told = outcomes_of(logs)
        ids = [f"c{number}" for number in range(len(logs.commands)) if number % 11 != 10]
        assert [outcome.command_id for outcome in told] == ids, seed
        published = {outcome.command_id: outcome for outcome in logs.outcomes}
        assert published == {outcome.command_id: outcome for outcome in told}, seed
        batch_count += check_promises(logs)
    assert batch_count > drawn(50)


@pytest.mark.parametrize("sabotaged", [WithoutReadBack, WithoutAcknowledgements, WithoutFirstCopy])
def test_every_rule_of_the_protocol_is_needed(sabotaged: type[Writer]) -> None:
    assert any(logs_after(sabotaged, seed).violations for seed in range(200))
