"""One run: a stack, a load, the faults of a schedule, quiet, and the audit."""

import asyncio
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import httpx

from tools.meanwhile import meanwhile
from tools.torture.breaking import Breaker
from tools.torture.crowd import Crowd
from tools.torture.disks import Disk
from tools.torture.experiments import STEADY, Operator
from tools.torture.giving import Commander
from tools.torture.importing import Importer
from tools.torture.journal import Journal
from tools.torture.load import Load
from tools.torture.proxying import Proxy
from tools.torture.schedule import LINKS, Fault
from tools.torture.siege import RECOVERY_SECONDS_MAX, Endured, Siege
from tools.torture.stack import TortureStack
from tools.torture.watching import Sample, Watch

JOURNAL = "journal.msgpack"
COMMAND_EVERY_S = 12.0
IMPORT_EVERY_S = 1.0
LOAD_ENDS_SECONDS_MAX = 90.0
QUIET_SECONDS_MAX = 120.0
QUIET_AFTER_MS = 8_000
"""Events may be so far ahead when the load ends, and the short windows close after them."""

_POLL_S = 0.25
BROKER_LINKS = tuple(name for name in LINKS if name != "clients")
_EXPERIMENT = next(iter(STEADY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a run does.

    Attributes:
        seed: Of all chance but that of the machine.
        faults: The schedule.
        units: That are there before the first fault.
        rate: Events a second.
        lateness_ms: Of the stack.
        recovery_seconds_max: A fault must be recovered from in this time.
        seconds_max: No fault begins after so long.
    """

    seed: int
    faults: list[Fault]
    units: int
    rate: float
    lateness_ms: int
    recovery_seconds_max: float = RECOVERY_SECONDS_MAX
    seconds_max: float = math.inf


@dataclass
class Progress:
    """What can be seen of a run while it lasts, and what it came to.

    Attributes:
        phase: In words.
        units: Prefilled so far.
        seconds: Of each phase that is over.
        load, importer, watch, siege: Once they are there.
        ledger: What ``/v1/ledger`` said at last.
        problems: What broke the run.
    """

    phase: str = "starting"
    units: int = 0
    started_s: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    load: Load | None = None
    importer: Importer | None = None
    watch: Watch | None = None
    siege: Siege | None = None
    ledger: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _since_s: float = field(default_factory=time.monotonic)

    def enter(self, phase: str) -> None:
        """Begin a phase."""
        now_s = time.monotonic()
        self.seconds[self.phase] = round(now_s - self._since_s, 1)
        self.phase, self._since_s = phase, now_s

    def count_units(self, units: int) -> None:
        """Note how many units are prefilled."""
        self.units = units

    @property
    def endured(self) -> list[Endured]:
        """Return the faults so far."""
        return self.siege.endured if self.siege else []

    @property
    def samples(self) -> list[Sample]:
        """Return the plot so far."""
        return self.watch.samples if self.watch else []


class Parts(NamedTuple):
    """Who takes part in a run."""

    commander: Commander
    operator: Operator
    importer: Importer
    load: Load
    watch: Watch
    siege: Siege


async def besiege(
    course: Course,
    stack: TortureStack,
    disks: Mapping[str, Disk],
    progress: Progress,
    *,
    now_ms: Callable[[], int],
) -> None:
    """Run a load and a schedule on a stack, wait until all is quiet, and stop it.

    What went wrong stands in ``progress.problems``.
    """
    path = stack.settings.home / JOURNAL
    async with Proxy(stack.links) as proxy, stack:
        with Journal(path) as journal:
            parts = _assemble(course, stack, Breaker(stack, proxy, disks), journal, now_ms)
            progress.load, progress.importer = parts.load, parts.importer
            progress.watch, progress.siege = parts.watch, parts.siege
            try:
                await _run(course, stack, progress, now_ms, parts)
            finally:
                await parts.load.close()
                await parts.commander.close()
                parts.watch.close()
        progress.enter("stopping")
    progress.enter("stopped")


def _assemble(
    course: Course,
    stack: TortureStack,
    breaker: Breaker,
    journal: Journal,
    now_ms: Callable[[], int],
) -> Parts:
    watch = Watch(stack.kafka, stack.query_url, experiment_id=_EXPERIMENT, now_ms=now_ms)
    commander = Commander(stack.gateway_url, journal, now_ms=now_ms)
    operator = Operator(
        commander,
        lateness_ms=course.lateness_ms,
        random=_chance(course, "operator"),
        now_ms=now_ms,
    )
    crowd = Crowd(_chance(course, "crowd"), operator.running, lateness_ms=course.lateness_ms)
    importer = Importer(
        commander,
        unit_count=lambda: crowd.unit_count,
        random=_chance(course, "importer"),
        now_ms=now_ms,
    )
    load = Load(
        crowd,
        journal,
        gateway_url=stack.gateway_url,
        kafka=stack.kafka,
        random=_chance(course, "doors"),
        now_ms=now_ms,
        on_accepted=watch.accepted,
    )
    siege = Siege(
        stack,
        breaker,
        watch,
        journal,
        now_ms=now_ms,
        recovery_seconds_max=course.recovery_seconds_max,
    )
    return Parts(commander, operator, importer, load, watch, siege)


async def _run(
    course: Course, stack: TortureStack, progress: Progress, now_ms: Callable[[], int], parts: Parts
) -> None:
    _, operator, importer, load, watch, siege = parts
    progress.enter("creating experiments")
    await operator.start_all()
    watch.start()
    progress.enter(f"sending {course.units:,} units")
    await load.prefill(course.units, progress.count_units)
    progress.enter("breaking things")
    is_over = asyncio.Event()
    progress.started_s = time.monotonic()
    async with meanwhile(watch.sample(progress.started_s)):
        try:
            async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as tasks:
                tasks.create_task(load.run(is_over, rate=course.rate))
                tasks.create_task(operator.go_on(is_over, every_s=COMMAND_EVERY_S))
                tasks.create_task(importer.go_on(is_over, every_s=IMPORT_EVERY_S))
                await siege.carry_out(
                    course.faults, progress.started_s, seconds_max=course.seconds_max
                )
                is_over.set()
                limit.reschedule(asyncio.get_running_loop().time() + LOAD_ENDS_SECONDS_MAX)
        except TimeoutError:
            problem = f"The doors do not answer all that is sent.\n{stack.explain()}"
            progress.problems.append(problem)
            return
        progress.enter("growing quiet")
        await _grow_quiet(stack, watch, progress, now_ms())


async def _grow_quiet(stack: TortureStack, watch: Watch, progress: Progress, ended_ms: int) -> None:
    """Wait until all that was accepted is in looks, windows have closed, and history is whole."""
    await stack.wait_ready(QUIET_SECONDS_MAX)
    if not await watch.until_all_is_in(ended_ms + QUIET_AFTER_MS, QUIET_SECONDS_MAX):
        problem = f"Not all that was accepted comes to be in a look.\n{stack.explain()}"
        progress.problems.append(problem)
        return
    tick, deadline = watch.seen.tick, time.monotonic() + QUIET_SECONDS_MAX
    async with httpx.AsyncClient(base_url=stack.query_url, trust_env=False) as client:
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError, ValueError):
                answer = await client.get("/v1/ledger?thorough=true", timeout=30)
                ledger = answer.raise_for_status().json()
                if _is_settled(ledger, tick):
                    progress.ledger = ledger
                    return
                progress.ledger = ledger
            await asyncio.sleep(_POLL_S)
    progress.problems.append(f"The ledger does not balance: {json.dumps(progress.ledger)}")


def _is_settled(ledger: dict[str, Any], tick: int) -> bool:
    """Return whether a ledger holds all up to a tick, and history all rows of the log."""
    is_whole: bool = ledger["clickhouse"]["rows"] == ledger["rows"]["received"]
    return bool(ledger["balanced"]) and is_whole and (ledger["tick"] or 0) >= tick


def _chance(course: Course, what: str) -> Random:
    """Return a source of chance that no other part of the run draws from."""
    return Random(f"{course.seed}/{what}")  # noqa: S311  # repeatable, not secret
