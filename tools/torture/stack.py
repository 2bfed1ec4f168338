"""The stack that is tortured, as its torturer holds it: starts, finds, signals, explains, stops.

Start it from the main thread: what is started is on a leash, and dies with the thread that did it.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from tools.errors import LitmusError, NotRunningError, StartError
from tools.home import STOP_GRACE_SECONDS, Home
from tools.logs import last_lines
from tools.ports import free_ports
from tools.settings import CHECKOUT, Settings
from tools.stack import stop_stack
from tools.torture.schedule import JOINERS_MAX
from tools.torture.supervised import Wiring, clocks_of, write_wiring

START_SECONDS_MAX = 180.0
_POLL_S = 0.05
_LINES_SHOWN = 8


class Beside:
    """A process beside the supervised ones: another worker, a substitute for a frozen one.

    Attributes:
        name: Of its instance.
        module: What it runs.
    """

    def __init__(
        self, name: str, module: str, *, home: Home, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.module = module
        self._log = home.logs / f"{name}.log"
        (self._port,) = free_ports(1)
        own = {"LITMUS_INSTANCE": name, "LITMUS_PROBE_PORT": str(self._port)}
        self._environment = dict(environment) | own
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return its pid; None when it does not run."""
        return self._process.pid if self.is_alive and self._process else None

    @property
    def is_alive(self) -> bool:
        """Return whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; it is not ready yet."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_leash(), sys.executable, "-P", "-m", self.module],
                cwd=CHECKOUT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    async def is_ready(self) -> bool:
        """Return whether it says that it is ready."""
        return await _is_ready(self._port)

    async def end(self, number: signal.Signals) -> None:
        """Send a signal and wait until it is gone, by force where that takes too long."""
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(number)
        deadline = time.monotonic() + STOP_GRACE_SECONDS + 10
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
            await asyncio.sleep(_POLL_S)
        self._process = None


class TortureStack:
    """A supervised stack on links, and the processes beside it.

    Args:
        settings: Of the stack: a home of its own, ports.
        links: Processes whose way to the broker leads through a proxy.
    """

    def __init__(self, settings: Settings, *, links: tuple[str, ...]) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        ports = free_ports(2 * len(links) + 1)
        pairs = zip(ports[0::2], ports[1::2], strict=False)
        self._wiring = Wiring(dict(zip(links, pairs, strict=True)))
        self._clients_port = ports[-1]
        self._supervisor: subprocess.Popen[bytes] | None = None
        self.joiners: list[Beside] = []
        self.clocks = clocks_of(settings.home)

    @property
    def links(self) -> dict[str, tuple[int, int]]:
        """Return what the proxy must carry: name of a link to (its port, where it leads)."""
        ways = {name: (proxied, own) for name, (own, proxied) in self._wiring.links.items()}
        return ways | {"clients": (self._clients_port, self.settings.gateway_port)}

    @property
    def gateway_url(self) -> str:
        """Return the gateway's address for clients, which leads through the proxy."""
        return f"http://127.0.0.1:{self._clients_port}"

    @property
    def query_url(self) -> str:
        """Return the query API's address."""
        return f"http://127.0.0.1:{self.settings.query_port}"

    @property
    def kafka(self) -> str:
        """Return the broker's address for clients of ours, which no link stands before."""
        return str(self.describe()["kafka"])

    def describe(self) -> dict[str, Any]:
        """Return ``stack.json``.

        Raises:
            NotRunningError: If there is none.
        """
        description = self.home.description()
        if description is None:
            raise NotRunningError(f"No stack runs from {self.home.root}.")
        return description

    async def start(self) -> None:
        """Start it and wait until all is ready."""
        self.home.require_format()
        self.home.logs.mkdir(parents=True, exist_ok=True)
        write_wiring(self.home.root, self._wiring)
        with (self.home.logs / "supervisor.log").open("ab") as log:
            self._supervisor = subprocess.Popen(  # noqa: ASYNC220  # the leash is on this thread
                [*_leash(), sys.executable, "-P", "-m", "tools.torture.supervised"],
                cwd=CHECKOUT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the torturer alone, which stops it
            )
        await self.wait_ready()

    def _environment(self) -> dict[str, str]:
        return self.settings.environment() | {
            "LITMUS_GATEWAY_PORT": str(self.settings.gateway_port),
            "LITMUS_QUERY_PORT": str(self.settings.query_port),
        }

    async def wait_ready(self, seconds_max: float = START_SECONDS_MAX) -> None:
        """Wait until the supervisor says that every process is ready.

        Raises:
            StartError: If that takes too long, or it gave up.
        """
        deadline = time.monotonic() + seconds_max
        while not self.is_ready():
            if time.monotonic() > deadline or not self.is_up():
                raise StartError(f"The stack is not ready:\n{self.explain()}")
            await asyncio.sleep(2 * _POLL_S)

    def is_ready(self) -> bool:
        """Return whether the supervisor has seen all processes ready."""
        description = self.home.description()
        if description is None or description["state"] != "ready":
            return False
        return all(one["ready"] for one in description["processes"])

    def is_up(self) -> bool:
        """Return whether the supervisor runs."""
        return self._supervisor is not None and self._supervisor.poll() is None

    async def stop(self) -> None:
        """Stop everything; nothing if it is down."""
        for joiner in self.joiners:
            await joiner.end(signal.SIGKILL)
        self.joiners.clear()
        if self._supervisor is None:
            return
        self.send_all(signal.SIGCONT)
        with suppress(NotRunningError):
            await asyncio.to_thread(stop_stack, self.settings)
        await asyncio.to_thread(self._supervisor.wait, 60)
        self._supervisor = None

    def names(self) -> list[str]:
        """Return the supervised processes, the broker among them."""
        return [str(one["name"]) for one in self.describe()["processes"]]

    def pid(self, name: str) -> int | None:
        """Return the pid of a supervised process; None while there is none."""
        for entry in (self.home.description() or {"processes": []})["processes"]:
            if entry["name"] == name and entry["pid"] and psutil.pid_exists(entry["pid"]):
                return int(entry["pid"])
        return None

    async def running(self, name: str, seconds_max: float = 60.0) -> int:
        """Return the pid of a supervised process, waiting while it is being started again.

        Raises:
            LitmusError: If it is not started again.
        """
        deadline = time.monotonic() + seconds_max
        while (pid := self.pid(name)) is None:
            if time.monotonic() > deadline:
                raise LitmusError(f"{name} is not started again.\n{self.explain()}")
            await asyncio.sleep(_POLL_S)
        return pid

    async def send(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a supervised process; return its pid. SIGKILL is awaited."""
        pid = await self.running(name)
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        while number is signal.SIGKILL and self.pid(name) == pid:  # noqa: ASYNC110  # a file
            await asyncio.sleep(_POLL_S)
        return pid

    def send_all(self, number: signal.Signals) -> None:
        """Send a signal to every process at once, those beside the supervised ones included."""
        pids = [self.pid(name) for name in self.names()] + [one.pid for one in self.joiners]
        for pid in pids:
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def beside(self, name: str, module: str) -> Beside:
        """Return a process to be started beside the supervised ones."""
        own = {"LITMUS_KAFKA": self.kafka, "LITMUS_BIND": "127.0.0.1"}
        return Beside(name, module, home=self.home, environment=self._environment() | own)

    def next_joiner(self) -> Beside:
        """Return a further accumulate worker, under an id that is not in use."""
        used = {one.name for one in self.joiners}
        names = (f"accumulate-{number}" for number in range(1, JOINERS_MAX + 1))
        return self.beside(next(name for name in names if name not in used), ACCUMULATE)

    def explain(self) -> str:
        """Return the state of all processes and what they wrote last."""
        parts = [json.dumps(self.home.description(), indent=1)]
        parts += [f"{one.name}: pid {one.pid}, alive: {one.is_alive}" for one in self.joiners]
        for path in sorted(self.home.logs.glob("*.log")):
            parts += [f"{path.stem}: {line}" for line in last_lines(path, _LINES_SHOWN)]
        return "\n".join(parts)

    async def __aenter__(self) -> Self:
        """Start it."""
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        await asyncio.shield(self.stop())


ACCUMULATE = "stream_processors.accumulate"
MODULES = {
    "accumulate-0": ACCUMULATE,
    "control": "stream_processors.control",
    "kafka-door": "ingest_gateway.kafka_door",
    "merge": "stream_processors.merge",
}


def _leash() -> list[str]:
    return [sys.executable, "-I", str(CHECKOUT / "tools" / "leash.py"), str(os.getpid())]


async def _is_ready(port: int) -> bool:
    try:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{port}/ready")
    except httpx.TransportError:
        return False
    return answer.status_code == 200
