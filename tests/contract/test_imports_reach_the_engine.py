"""What doors write of an import is what the engine counts: real fold, real parts, real engine."""

import random
from typing import Any

import msgspec
import pytest

from ingest_gateway.import_rows import Row, parts_of, sha256_of
from schemas.control import Command
from schemas.imports import DAY_MS
from schemas.topics import CONTROL, EVENTS, KIND_IMPORT, KIND_TICK
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.state import DAYS
from stream_processors.control.writing import Writer

PARTITIONS = 2
NOW_MS = 1_795_000_000_000
TODAY = NOW_MS // DAY_MS
BODY: dict[str, Any] = {
    "id": "x",
    "variants": [{"id": "a"}, {"id": "b"}],
    "metrics": [{"id": "m", "kind": "sum", "event": "buy", "precision": 2, "covariate_days": 14}],
}


class Logs:
    """The control log and the partitions, written by one writer and one gateway."""

    def __init__(self) -> None:
        self.partitions: list[list[tuple[bytes, bytes]]] = [[] for _ in range(PARTITIONS)]
        self._commands = self._records = 0
        self._writer = Writer(
            name="w", log_id="l", partition_count=PARTITIONS, lateness_ms=3_600_000, sources=()
        )
        self._writer.begin()
        self.tick()

    def tick(self) -> None:
        send = self._writer.append_next()
        assert send is not None
        assert send.topic == CONTROL.name
        now_ms = NOW_MS + 200 * self._records
        for duty in self._writer.read_control(self._records, now_ms, send.value):
            if duty.topic == EVENTS.name:
                self.partitions[duty.partition].append((KIND_TICK, duty.value))
            self._writer.acknowledge(duty)
        self._records += 1

    def command(self, action: str, subject: str, **body: Any) -> None:
        command = Command(f"c{self._commands}", action, subject, body=body)
        self._writer.read_command(self._commands, NOW_MS, msgspec.json.encode(command))
        self._commands += 1
        self.tick()
        last = self._writer.control.last
        assert last is not None
        (outcome,) = last.record.outcomes
        assert outcome.status < 300, outcome
        self.tick()

    def batch(self, number: int, rows: list[Row], rng: random.Random) -> None:
        """Reserve, write and finish a batch; parts come repeatedly, and other ones between."""
        sha256 = sha256_of(rows)
        self.command("import_batch", "h", number=number, sha256=sha256, row_count=len(rows))
        more = {"import_id": "h", "partition_count": PARTITIONS}
        right = parts_of(rows, number=number, sha256=sha256, **more)  # type: ignore[arg-type]
        wrong = [
            parts_of(rows, number=number + 1, sha256=sha256, **more),  # type: ignore[arg-type]
            parts_of(rows[1:], number=number, sha256=sha256_of(rows[1:]), **more),  # type: ignore[arg-type]
        ]
        for partition, log in enumerate(self.partitions):
            sent = [rng.choice(wrong)[partition], right[partition], right[partition]]
            rng.shuffle(sent)
            log += [(KIND_IMPORT, part) for part in sent]
        self.command("import_done", "h", number=number)
        for partition, log in enumerate(self.partitions):
            if rng.random() < 0.5:
                log.append((KIND_IMPORT, right[partition]))


@pytest.mark.parametrize("seed", range(3))
def test_every_row_of_an_import_is_counted_once_on_its_day(seed: int) -> None:
    rng, logs = random.Random(seed), Logs()
    logs.command("create", "x", **BODY)
    logs.command("start", "x")
    logs.command("import", "h", metrics=["buy"], from_day=TODAY - 14, to_day=TODAY)
    batches = [
        [
            Row("user", f"u-{rng.randrange(20)}", "buy", TODAY - rng.randrange(14), rng.random())
            for _ in range(rng.randrange(1, 40))
        ]
        for _ in range(5)
    ]
    for number, rows in enumerate(batches, 1):
        logs.batch(number, rows, rng)

    days: dict[int, tuple[int, int]] = {}
    ignored, taken = 0, []
    for number, log in enumerate(logs.partitions):
        partition = Partition(number, writer="t")
        for offset, (kind, value) in enumerate(log):
            partition.apply(offset, kind, value)
        ignored += partition.ignored_imports
        taken += partition.import_counts()
        for day in partition.state.days[: partition.state.counts[DAYS]]:
            rows, total = days.get(int(day["day"]), (0, 0))
            days[int(day["day"])] = rows + int(day["rows"]), total + int(day["total"])

    expected: dict[int, tuple[int, int]] = {}
    for row in (row for batch in batches for row in batch):
        rows, total = expected.get(row.day, (0, 0))
        expected[row.day] = rows + 1, total + round(row.value * 100)
    assert days == expected
    assert {(one.import_id, one.parts) for one in taken} == {("h", len(batches))}
    assert sum(one.rows for one in taken) == sum(map(len, batches))
    assert ignored >= 2 * PARTITIONS * len(batches)
