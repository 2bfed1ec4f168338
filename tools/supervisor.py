"""Keeps the processes of a stack up: starts in order, watches, restarts, gives up, stops.

Everything happens on one event loop; what blocks (checksums, probes) runs in threads. What is
known stands in ``stack.json`` at any time, so that another process can see it and, should this one
be killed, clean up.
"""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from tools.errors import LitmusError, StartError
from tools.home import DATA_FORMAT, STOP_GRACE_SECONDS, Home, process_created, write_json
from tools.logs import LogFile, last_lines
from tools.narration import Narrator
from tools.processes import ACCUMULATE, Plan, ProcessSpec
from tools.requests import Request, forget_requests, refuse, take_requests
from tools.settings import CHECKOUT

DEATHS_MAX = 5
DEATHS_WINDOW_SECONDS = 60.0

STEADY_SECONDS = 10.0
"""A process that ran for so long is started again at once when it dies."""

_BACKOFF_FIRST_SECONDS = 0.5
_BACKOFF_SECONDS_MAX = 10.0
_PROBE_STARTING_SECONDS = 0.1
_PROBE_READY_SECONDS = 1.0
_FOLLOW_SECONDS = 0.2
_DRAIN_SECONDS_MAX = 30.0
_LAST_LINES = 10


class Child:
    """A process of the stack and what is known of it.

    Attributes:
        spec: What it is.
        pid: Of the running process; None while there is none.
        is_ready: Whether its last probe succeeded.
        reason: Why it is not ready.
        restarts: How often it had to be started again.
        is_leaving: Whether it is not to be started again.
        deaths: When it died within the last minute.
    """

    def __init__(self, spec: ProcessSpec, log: LogFile) -> None:
        self.spec = spec
        self.log = log
        self.pid: int | None = None
        self.created: float | None = None
        self.is_ready = False
        self.reason = "not started"
        self.restarts = 0
        self.up_since = 0.0
        self.is_leaving = False
        self.deaths: deque[float] = deque()
        self.is_ended = asyncio.Event()
        self.is_ended.set()

    def described(self) -> dict[str, Any]:
        """Return its entry in ``stack.json``."""
        return {
            "name": self.spec.name,
            "pid": self.pid,
            "ready": self.is_ready,
            "port": self.spec.port,
            "restarts": self.restarts,
            "created": self.created,
            "program": self.spec.program,
        }

    def signal(self, number: int) -> None:
        """Send a signal to the process and what it started."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class Supervisor:
    """Runs a plan until it is told to stop, or gives up."""

    def __init__(
        self,
        home: Home,
        plan: Plan,
        narrator: Narrator,
        *,
        deaths_max: int = DEATHS_MAX,
        grace_seconds: float = STOP_GRACE_SECONDS,
    ) -> None:
        self._home = home
        self._plan = plan
        self._narrator = narrator
        self._deaths_max = deaths_max
        self._grace_seconds = grace_seconds
        self._state = "starting"
        self._stop = asyncio.Event()
        self._failure: str | None = None
        self._tasks: list[asyncio.Task[None]] = []
        home.logs.mkdir(parents=True, exist_ok=True)
        forget_requests(home)
        self._stages = [
            (stage, [Child(spec, LogFile(self._log_path(spec.name))) for spec in stage.processes])
            for stage in plan.stages
        ]
        self.children = [child for _, children in self._stages for child in children]

    async def run(self) -> int:
        """Run the stack; return the exit code: 0 after a stop, 1 after giving up."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        self._home.failure.unlink(missing_ok=True)
        self._describe()
        follower = asyncio.create_task(self._follow())
        try:
            starting = asyncio.create_task(self._start())
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and (error := starting.exception()) is not None:
                self._fail(error)
            await self._stop.wait()
            await _cancel([starting, stopping])
        finally:
            await self._stop_all()
            await _cancel([follower])
            self._show_new_lines()
            self._home.stack.unlink(missing_ok=True)
        if self._failure is not None:
            write_json(self._home.failure, {"reason": self._failure})
            self._narrator.say(self._failure, "bold red")
            return 1
        self._narrator.say("stopped")
        return 0

    async def _start(self) -> None:
        for stage, children in self._stages:
            self._tasks += [asyncio.create_task(self._keep_up(child)) for child in children]
            self._tasks += [asyncio.create_task(self._probe(child)) for child in children]
            await asyncio.gather(*(self._until_ready(child) for child in children))
            if stage.then is not None:
                await asyncio.to_thread(stage.then)
        self._state = "ready"
        self._describe()
        self._announce()

    def _announce(self) -> None:
        addresses = self._plan.addresses
        self._narrator.say("ready", "bold green")
        for label, key in (("page and results", "query"), ("gateway", "gateway")):
            self._narrator.say(f"  {label:<17} {addresses[key]}")
        self._narrator.say(f"  {'Kafka':<17} {addresses['kafka']}")
        self._narrator.say(f"  {'data and logs':<17} {self._home.root}")

    async def _until_ready(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + child.spec.ready_seconds_max
        while not (child.is_ready or child.is_leaving):
            if loop.time() > deadline:
                name, limit = child.spec.name, child.spec.ready_seconds_max
                raise StartError(
                    f"{name} did not get ready within {limit:.0f} s: {child.reason}"
                    f"{self._last_lines_of(name)}"
                )
            await asyncio.sleep(_PROBE_STARTING_SECONDS / 2)

    async def _keep_up(self, child: Child) -> None:
        """Start a process again and again until the stack stops."""
        failures = 0
        while not self._stop.is_set():
            try:
                how, lived_seconds = await self._live(child)
            except (LitmusError, OSError) as error:
                child.is_ended.set()
                if child.restarts == 0:  # it never ran: that does not pass by itself
                    self._fail(error)
                    return
                how, lived_seconds = f"cannot be started ({error})", 0.0
            if child.is_leaving:
                self._forget(child)
            if self._stop.is_set() or child.is_leaving:
                return
            failures = 0 if lived_seconds > STEADY_SECONDS else failures + 1
            pause = _pause_seconds(failures)
            if self._count_death(child, how):
                return
            self._narrator.warn(
                f"{child.spec.name} {how}{self._last_line_of(child)}; "
                f"starting it again {f'in {pause:g} s' if pause else 'at once'}"
            )
            child.restarts += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)

    async def _live(self, child: Child) -> tuple[str, float]:
        """Start a process and wait for its end; return that in words, and how long it lived."""
        if child.spec.prepare is not None:
            await asyncio.to_thread(child.spec.prepare)
        if self._stop.is_set() or child.is_leaving:  # also drained between two lives
            return "was not started", 0.0
        process = await self._spawn(child)
        if self._stop.is_set() or child.is_leaving:  # asked for while this one was being born
            child.signal(signal.SIGTERM)
        returncode = await process.wait()
        lived_seconds = asyncio.get_running_loop().time() - child.up_since
        self._on_exit(child)
        return how_it_ended(returncode), lived_seconds

    async def _spawn(self, child: Child) -> asyncio.subprocess.Process:
        spec = child.spec
        child.is_ended.clear()
        leash = [sys.executable, "-I", str(CHECKOUT / "tools" / "leash.py"), str(os.getpid())]
        with self._log_path(spec.name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *leash,
                *spec.command,
                cwd=spec.folder,
                env=dict(spec.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                # Of its own, so that Ctrl-C in the terminal reaches the supervisor alone.
                process_group=0,
            )
        child.pid, child.created = process.pid, process_created(process.pid)
        child.up_since = asyncio.get_running_loop().time()
        self._describe()
        return process

    def _on_exit(self, child: Child) -> None:
        child.signal(signal.SIGKILL)  # what it may have started itself
        child.pid = child.created = None
        child.is_ready, child.reason = False, "not running"
        child.is_ended.set()
        self._describe()

    def _count_death(self, child: Child, how: str) -> bool:
        """Note a death; return whether it was one too many of this process."""
        now = asyncio.get_running_loop().time()
        child.deaths.append(now)
        while child.deaths[0] < now - DEATHS_WINDOW_SECONDS:
            child.deaths.popleft()
        if len(child.deaths) < self._deaths_max:
            return False
        name = child.spec.name
        self._fail(
            LitmusError(
                f"giving up: {len(child.deaths)} deaths of {name} in a minute; at last it "
                f"{how}{self._last_lines_of(name)}"
            )
        )
        return True

    async def _probe(self, child: Child) -> None:
        """Keep ``is_ready`` true to what the process answers."""
        while not self._stop.is_set() and child in self.children:
            pid = child.pid
            if pid is not None:
                reason = await asyncio.to_thread(child.spec.probe)
                if child.pid == pid:
                    self._note_probe(child, reason)
            pause = _PROBE_READY_SECONDS if child.is_ready else _PROBE_STARTING_SECONDS
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)

    def _note_probe(self, child: Child, reason: str | None) -> None:
        was_ready, child.is_ready, child.reason = child.is_ready, reason is None, reason or ""
        if was_ready == child.is_ready:
            return
        self._describe()
        if child.is_ready:
            seconds = asyncio.get_running_loop().time() - child.up_since
            self._narrator.say(f"{child.spec.name} is ready (pid {child.pid}, {seconds:.1f} s)")
        else:
            self._narrator.warn(f"{child.spec.name} is not ready any more: {reason}")

    async def _stop_all(self) -> None:
        self._stop.set()
        self._state = "stopping"
        self._describe()
        for _, children in reversed(self._stages):
            await self._stop_stage(children)
        await _cancel(self._tasks)

    async def _stop_stage(self, children: Iterable[Child]) -> None:
        running = [child for child in children if not child.is_ended.is_set()]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for child in running:
                child.signal(number)
            ends = [asyncio.create_task(child.is_ended.wait()) for child in running]
            if ends:
                await asyncio.wait(ends, timeout=self._grace_seconds)
                await _cancel(ends)
            running = [child for child in running if not child.is_ended.is_set()]
            for child in running:
                self._narrator.warn(
                    f"{child.spec.name} does not stop after {self._grace_seconds:g} s; killing it"
                )

    def _on_signal(self) -> None:
        if self._stop.is_set():
            for child in self.children:
                child.signal(signal.SIGKILL)  # asked twice
            return
        self._narrator.say("stopping (once more: at once)")
        self._stop.set()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = str(error) or repr(error)
        self._stop.set()

    async def _follow(self) -> None:
        while True:
            self._show_new_lines()
            for asked_as, request in take_requests(self._home).items():
                problem = self._heed(request)
                if problem is not None:
                    refuse(self._home, asked_as, problem)
                    self._narrator.warn(f"cannot {request.action} {request.name}: {problem}")
            await asyncio.sleep(_FOLLOW_SECONDS)

    def _heed(self, request: Request) -> str | None:
        """Begin what is asked; return None, or why it is refused."""
        if self._stop.is_set():
            return "The stack stops."
        if request.action == "add":
            return self._add(request.name)
        return self._let_go(request.name)

    def _add(self, name: str) -> str | None:
        if self._plan.another is None:
            return "No worker can be added to this stack."
        if name in {child.spec.name for child in self.children}:
            return f"{name} runs already: another request was faster. Ask again."
        child = Child(self._plan.another(name), LogFile(self._log_path(name)))
        self._stages[-1][1].append(child)
        self.children.append(child)
        self._tasks += [asyncio.create_task(work(child)) for work in (self._keep_up, self._probe)]
        self._narrator.say(f"{name} is added")
        return None

    def _let_go(self, name: str) -> str | None:
        workers = {one.spec.name: one for one in self.children if _is_accumulate(one)}
        # Those that leave already take nothing over.
        staying = sorted(one for one, child in workers.items() if not child.is_leaving)
        if name not in staying:
            return f"No worker that stays is called {name!r}; there are: {', '.join(staying)}"
        if staying == [name]:
            return (
                f"{name} is the only accumulate worker that stays: nobody could take over. "
                "`litmus worker add` starts another one; `litmus down` stops the stack."
            )
        others = [workers[one] for one in staying if one != name]
        if not any(one.is_ready for one in others):
            reasons = "; ".join(f"{one.spec.name}: {one.reason}" for one in others)
            return (
                f"{name} is not let go: no other accumulate worker is ready to take over "
                f"({reasons}). Ask again when `litmus status` shows one ready; `litmus logs` says "
                "what keeps it; `litmus worker add` starts another one."
            )
        child = workers[name]
        child.is_leaving = True
        self._tasks.append(asyncio.create_task(self._drain(child)))
        self._narrator.say(f"{name} is drained")
        return None

    async def _drain(self, child: Child) -> None:
        child.signal(signal.SIGUSR2)
        try:
            await asyncio.wait_for(child.is_ended.wait(), _DRAIN_SECONDS_MAX)
        except TimeoutError:
            self._narrator.warn(
                f"{child.spec.name} does not end after {_DRAIN_SECONDS_MAX:g} s; killing it"
            )
            child.signal(signal.SIGKILL)

    def _forget(self, child: Child) -> None:
        self.children.remove(child)
        for _, children in self._stages:
            if child in children:
                children.remove(child)
        self._describe()

    def _show_new_lines(self) -> None:
        for child in self.children:
            for line in child.log.new_lines():
                if self._narrator.echoes:
                    self._narrator.line(child.spec.name, line)
            child.log.trim()

    def _log_path(self, name: str) -> Any:
        return self._home.logs / f"{name}.log"

    def _last_line_of(self, child: Child) -> str:
        lines = last_lines(self._log_path(child.spec.name), 1)
        return f", its last line: {lines[0]}" if lines else ""

    def _last_lines_of(self, name: str) -> str:
        lines = last_lines(self._log_path(name), _LAST_LINES)
        return "".join(f"\n  {name}: {line}" for line in lines)

    def _describe(self) -> None:
        description = {
            "format": DATA_FORMAT,
            "home": str(self._home.root),
            "state": self._state,
            "supervisor": os.getpid(),
            **self._plan.addresses,
            "processes": [child.described() for child in self.children],
        }
        write_json(self._home.stack, description)


def _is_accumulate(child: Child) -> bool:
    return child.spec.name.startswith(ACCUMULATE)


def _pause_seconds(failures: int) -> float:
    """Return how long to wait before a start, after so many short lives in a row."""
    if failures == 0:
        return 0.0
    return float(min(_BACKOFF_FIRST_SECONDS * 2 ** (failures - 1), _BACKOFF_SECONDS_MAX))


def how_it_ended(returncode: int) -> str:
    """Return the end of a process in words."""
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    return f"was killed by {signal.Signals(-returncode).name}"


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
