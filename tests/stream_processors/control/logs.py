"""In-memory logs that misbehave as a broker and a network can, and writers between them.

Sends arrive in any order, late, after their writer died, or never; writers freeze wherever they
are, die, and start again; several live at once. Every append is checked against the one claim that
doors rely on: before record n + 1 is valid, tick n stands in every partition.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from schemas.control import ControlFold, ControlRecord, Outcome, Tick, decode_tick
from schemas.topics import CONTROL, EVENTS
from stream_processors.control.writing import Send, Writer

LATENESS_MS = 3_600_000
SOURCES = ("litmus.assignments/0",)

MakeWriter = Callable[..., Writer]


@dataclass
class Logs:
    """The topics that a writer reads and writes, and the reader that everybody agrees with."""

    partition_count: int
    now_ms: int = 1_795_000_000_000
    control: list[tuple[int, bytes]] = field(default_factory=list)
    commands: list[tuple[int, bytes]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    fold: ControlFold = field(default_factory=ControlFold)
    records: list[ControlRecord] = field(default_factory=list)
    ticks: list[bytes] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.events: list[list[bytes]] = [[] for _ in range(self.partition_count)]

    def append(self, send: Send) -> None:
        """Let the broker take ``send``."""
        if send.topic == CONTROL.name:
            self._append_control(send.value)
        elif send.topic == EVENTS.name:
            self._append_tick(send)
        else:
            self.outcomes.append(msgspec.json.decode(send.value, type=Outcome))

    def last_tick(self, partition: int) -> int:
        """Return the last tick that the engine takes from a partition: only ``last + 1`` counts."""
        last = 0
        for value in self.events[partition]:
            number = decode_tick(value).number
            last = number if number == last + 1 else last
        return last

    def _append_control(self, value: bytes) -> None:
        self.control.append((self.now_ms, value))
        winner = self.fold.take(len(self.control) - 1, self.now_ms, value)
        if winner is None:
            return
        self.records.append(winner.record)
        self.ticks.append(msgspec.json.encode(self.fold.tick()))
        number = winner.record.number
        for partition in range(self.partition_count):
            if self.last_tick(partition) < number - 1:
                self.violations.append(f"record {number} before tick {number - 1} in {partition}")

    def _append_tick(self, send: Send) -> None:
        last = self.last_tick(send.partition)
        tick: Tick = decode_tick(send.value)
        self.events[send.partition].append(send.value)
        if tick.number > last + 1:
            self.violations.append(f"tick {tick.number} after {last} in {send.partition}")
        if tick.number > len(self.ticks) or self.ticks[tick.number - 1] != send.value:
            self.violations.append(f"tick {tick.number} in {send.partition} is not the log's")


class Process:
    """A writer with its connections: what it has sent may arrive whenever, or never."""

    def __init__(self, logs: Logs, make: MakeWriter, name: str) -> None:
        self._logs = logs
        self.in_flight: list[Send] = []
        self.delivered: list[Send] = []
        self.writer = make(
            name=name,
            log_id=f"log-of-{name}",
            partition_count=logs.partition_count,
            lateness_ms=LATENESS_MS,
            sources=SOURCES,
            origin_ms=logs.control[0][0] if logs.control else None,
        )
        for offset, (appended_ms, value) in self._from_the_snapshot_before_last():
            self.writer.read_control(offset, appended_ms, value)
        self.in_flight += self.writer.begin()

    def read_control(self) -> None:
        """Read the next control record, if there is one."""
        offset = self.writer.control.next_offset
        if offset < len(self._logs.control):
            self.in_flight += self.writer.read_control(offset, *self._logs.control[offset])

    def read_command(self) -> None:
        """Read the next command, if there is one."""
        offset = self.writer.next_command_offset
        if offset < len(self._logs.commands):
            self.writer.read_command(offset, *self._logs.commands[offset])

    def append_next(self) -> None:
        """Let the time for the next tick come."""
        send = self.writer.append_next()
        if send is not None:
            self.in_flight.append(send)

    def arrive(self, rng: random.Random) -> None:
        """Let any one send arrive at the broker; its acknowledgement is still under way."""
        if self.in_flight:
            send = self.in_flight.pop(rng.randrange(len(self.in_flight)))
            self._logs.append(send)
            self.delivered.append(send)

    def acknowledge(self, rng: random.Random) -> None:
        """Let any one acknowledgement arrive."""
        if self.delivered:
            self.writer.acknowledge(self.delivered.pop(rng.randrange(len(self.delivered))))

    def _from_the_snapshot_before_last(self) -> list[tuple[int, tuple[int, bytes]]]:
        numbered = list(enumerate(self._logs.control))
        if not numbered:
            return []
        decoder = msgspec.json.Decoder(ControlRecord)
        start = max(decoder.decode(numbered[-1][1][1]).snapshot_offset, 0)
        start = max(decoder.decode(numbered[start][1][1]).snapshot_offset, 0)
        return numbered[start:]


def run_schedule(logs: Logs, make: MakeWriter, rng: random.Random, *, steps: int) -> None:
    """Let two writers live, freeze, die and start again, in an order drawn from ``rng``."""
    processes = [Process(logs, make, "a"), Process(logs, make, "b")]
    orphans: list[Send] = []
    eager = [rng.random(), rng.random()]
    for step in range(steps):
        index = rng.choices((0, 1), weights=eager)[0]
        process = processes[index]
        logs.now_ms += rng.choice((0, 1, 7, 200, -50, 90_000) if rng.random() < 0.2 else (1, 5))
        draw = rng.random()
        if draw < 0.28:
            process.arrive(rng)
        elif draw < 0.55:
            process.acknowledge(rng)
        elif draw < 0.72:
            process.read_control()
        elif draw < 0.80:
            process.read_command()
        elif draw < 0.95:
            process.append_next()
        elif draw < 0.97 and orphans:
            logs.append(orphans.pop(rng.randrange(len(orphans))))
        elif draw < 0.985:
            eager = [rng.random() ** 4, rng.random() ** 4]
        else:
            orphans += [send for send in process.in_flight if rng.random() < 0.5]
            processes[index] = Process(logs, make, f"{'ab'[index]}{step}")
    settle(logs, make, rng)


def settle(logs: Logs, make: MakeWriter, rng: random.Random) -> None:
    """Let one new writer work undisturbed until all commands are folded and answered."""
    process = Process(logs, make, "last")
    quiet = 0
    for _ in range(400):
        process.read_control()
        process.read_command()
        process.append_next()
        while process.in_flight:
            process.arrive(rng)
            logs.now_ms += 3
        while process.delivered:
            process.acknowledge(rng)
        last = process.writer.control.last
        if last is not None and last.record.commands_to == len(logs.commands):
            quiet += 1
        if quiet == 10:
            return
    logs.violations.append("a writer that is left alone does not come to an end")
