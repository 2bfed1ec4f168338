"""Imports between real doors and the real fold, over logs that a random schedule drives.

Gateways crash at any step; what they had sent arrives later, or never. Clients resend, send other
rows under a number, and send numbers out of their turn. A toy engine reads every partition by the
one rule that the real one has: a part counts if its number is the last + 1 and its hash is the one
that is reserved as of the last tick.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from ingest_gateway.import_rows import Row
from ingest_gateway.imports import ImportDoor, Taken
from ingest_gateway.sink import Delivery, Message
from schemas.control import Command, ControlState, ImportChange, Outcome
from schemas.imports import read_import
from stream_processors.control.commands import Received, fold

PARTITIONS = 2
BATCHES = 4
DAY = 20_000
NOW_MS = (DAY + 5) * 86_400_000

MakeDoor = Callable[..., ImportDoor]
Fold = Callable[..., Any]


class Tick(NamedTuple):
    """What the engine needs of a tick: the batch that is reserved, as number and hash."""

    reserved: tuple[int, str] | None


@dataclass
class Engine:
    """Reads one partition."""

    last: int = 0
    agreed: tuple[int, str] | None = None
    counted: Counter[tuple[int, int]] = field(default_factory=Counter)

    def read(self, entry: Tick | bytes) -> None:
        """Read the next entry of the partition."""
        if isinstance(entry, Tick):
            self.agreed = entry.reserved
            return
        part, rows = read_import(entry)
        if part.number == self.last + 1 and self.agreed == (part.number, part.sha256):
            self.last = part.number
            pairs = zip(rows["unit_low"].tolist(), rows["value"].tolist(), strict=True)
            self.counted.update((unit, int(value)) for unit, value in pairs)


class Logs:
    """The topics, and control, which is the real fold: a record at a time."""

    def __init__(self, fold_commands: Fold) -> None:
        self._fold = fold_commands
        self.commands: list[bytes] = []
        self.partitions: list[list[Tick | bytes]] = [[] for _ in range(PARTITIONS)]
        self.state = ControlState()
        self.folded = 0
        self.record: list[Outcome] = []
        self.usable: dict[str, Outcome] = {}
        self.answered: dict[str, Outcome] = {}

    def tick(self) -> None:
        """Append a record: the one before it is in use from now on."""
        self.usable |= {outcome.command_id: outcome for outcome in self.record}
        received = [
            Received(self.folded + n, NOW_MS, value)
            for n, value in enumerate(self.commands[self.folded :])
        ]
        folded = self._fold(
            self.state, received, tick=1, from_offset=self.folded, answered=self.answered
        )
        self.folded = folded.next_offset
        self.state = self.state.after(folded.changes)
        self.record = folded.outcomes
        self.answered |= {outcome.command_id: outcome for outcome in folded.outcomes}
        changed = any(isinstance(change, ImportChange) for change in folded.changes)
        reserved = self.state.imports["h"].reserved if "h" in self.state.imports else None
        if changed:
            agreed = None if reserved is None else (reserved.number, reserved.sha256)
            for partition in self.partitions:
                partition.append(Tick(agreed))


class Gateway:
    """A process with a door; its messages arrive when the schedule says so."""

    def __init__(self, logs: Logs, make: MakeDoor, ids: Callable[[], str]) -> None:
        self._logs = logs
        self.in_flight: list[Callable[[], None]] = []
        self.unread: dict[str, asyncio.Future[Outcome]] = {}
        self.door = make(
            self, self, partition_count=PARTITIONS, new_id=ids, answer_timeout_ms=60_000
        )
        self.requests: list[asyncio.Task[None]] = []

    async def send(self, command: Command) -> Outcome:
        """Send a command; it is answered when its record may be used."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.unread[command.id] = future
        value = msgspec.json.encode(command)
        self.in_flight.append(lambda: self._logs.commands.append(value))
        return await future

    async def publish(self, messages: Sequence[Message]) -> list[Delivery]:
        """Send messages; each arrives by itself, and then its acknowledgement does."""
        loop = asyncio.get_running_loop()
        done = [loop.create_future() for _ in messages]

        def arrive(message: Message, future: asyncio.Future[None]) -> None:
            self._logs.partitions[message.partition].append(message.value)
            if not future.done():
                future.set_result(None)

        for message, future in zip(messages, done, strict=True):
            self.in_flight.append(lambda m=message, f=future: arrive(m, f))  # type: ignore[misc]
        await asyncio.gather(*done)
        return [Delivery(one.topic, one.partition, 0) for one in messages]

    @property
    def reachable(self) -> bool:
        """Return that it can send."""
        return True

    def read_outcomes(self) -> None:
        """Read the control log to its end."""
        for command_id in list(self.unread):
            if command_id in self._logs.usable:
                future = self.unread.pop(command_id)
                if not future.done():
                    future.set_result(self._logs.usable[command_id])

    def begin(self, request: Coroutine[Any, Any, None]) -> None:
        """Take a request."""
        self.requests.append(asyncio.ensure_future(request))

    def die(self) -> None:
        """End at once; nobody gets an answer."""
        for request in self.requests:
            request.cancel()


def rows_of(number: int, content: int) -> list[Row]:
    """Return the rows of a batch in one of its two contents."""
    return [
        Row("user", f"u-{number}-{row}", "buy", DAY, float(10 * number + content))
        for row in range(3 + content)
    ]


class Run:
    """One schedule."""

    def __init__(self, seed: int, make: MakeDoor, fold_commands: Fold = fold) -> None:
        self.rng = random.Random(seed)
        self.logs = Logs(fold_commands)
        self.make = make
        self.told: dict[int, set[int]] = {}
        self.violations: list[str] = []
        self._id = 0
        self.gateways = [self._gateway() for _ in range(2)]
        self.orphans: list[Callable[[], None]] = []
        for command in (
            Command("a", "catalogue", "buy", body={"keep_days": 30}),
            Command("b", "import", "h", body={"metrics": ["buy"], "from_day": DAY, "to_day": DAY}),
        ):
            self.logs.commands.append(msgspec.json.encode(command))
        self.logs.tick()

    async def run(self, steps: int) -> list[str]:
        """Let everything happen, then one client finish; return what was broken."""
        for _ in range(steps):
            self._step()
            await self._settle()
        await self._finish()
        for gateway in self.gateways:
            gateway.die()
        await asyncio.sleep(0)
        self._check()
        return self.violations

    def _gateway(self) -> Gateway:
        return Gateway(self.logs, self.make, self._new_id)

    def _new_id(self) -> str:
        self._id += 1
        return f"c{self._id}"

    def _step(self) -> None:
        rng = self.rng
        index = rng.randrange(2)
        gateway, draw = self.gateways[index], rng.random()
        if draw < 0.15:
            done = self.logs.state.imports["h"].done
            number = min(max(done + rng.choice((0, 1, 1, 1, 2)), 1), BATCHES)
            self._post(gateway, number, int(rng.random() < 0.3))
        elif draw < 0.55:
            if gateway.in_flight:
                gateway.in_flight.pop(rng.randrange(len(gateway.in_flight)))()
        elif draw < 0.75:
            self.logs.tick()
        elif draw < 0.92:
            gateway.read_outcomes()
        elif draw < 0.96 and self.orphans:
            self.orphans.pop(rng.randrange(len(self.orphans)))()
        elif draw > 0.97:
            gateway.die()
            self.orphans += [one for one in gateway.in_flight if rng.random() < 0.6]
            self.gateways[index] = self._gateway()

    def _post(self, gateway: Gateway, number: int, content: int) -> None:
        async def request() -> None:
            taken = await gateway.door.take("h", number, rows_of(number, content))
            if isinstance(taken, Taken):
                self.told.setdefault(number, set()).add(content)

        gateway.begin(request())

    async def _settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    async def _finish(self) -> None:
        """Send every batch in one content or the other until each is taken; then the orphans."""
        gateway = self._gateway()
        self.gateways.append(gateway)
        for number in range(1, BATCHES + 1):
            for content in (0, 1):
                self._post(gateway, number, content)
                for _ in range(6):
                    await self._settle()
                    while gateway.in_flight:
                        gateway.in_flight.pop(0)()
                    self.logs.tick()
                    self.logs.tick()
                    gateway.read_outcomes()
                await self._settle()
            if number not in self.told:
                self.violations.append(f"batch {number} never ends")
                return
        for orphan in self.orphans:
            orphan()

    def _check(self) -> None:
        counted: Counter[tuple[int, int]] = Counter()
        for partition in self.logs.partitions:
            engine = Engine()
            for entry in partition:
                engine.read(entry)
            counted += engine.counted
        for number, contents in self.told.items():
            if len(contents) > 1:
                self.violations.append(f"batch {number} was taken in two contents")
        expected = Counter(
            10 * number + min(contents)
            for number, contents in self.told.items()
            for _ in rows_of(number, min(contents))
        )
        if Counter(value for _, value in counted.elements()) != expected:
            self.violations.append(f"counted {sorted(counted.values())}, told {self.told}")
        if any(times > 1 for times in counted.values()):
            self.violations.append("a row counts twice")


def violations_of(seed: int, make: MakeDoor = ImportDoor, fold_commands: Fold = fold) -> list[str]:
    """Return what one schedule breaks."""
    return asyncio.run(Run(seed, make, fold_commands).run(90))
