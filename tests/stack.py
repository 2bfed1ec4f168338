"""Real parts for tests: a broker, its topics, a whole stack. None of them outlives the tests.

A broker runs in a container where a Docker daemon answers, else from Kafka's jars. Whatever is
started is on a leash: it dies with the test run, however that ends.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, Self

import docker
import httpx
import psutil
import pytest
from confluent_kafka.admin import AdminClient
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer

from tools.broker import PROPERTIES, EmbeddedBroker, is_broker_ready
from tools.errors import NotRunningError
from tools.home import Home, KafkaPorts
from tools.logs import last_lines
from tools.ports import free_ports
from tools.settings import CHECKOUT, Settings
from tools.stack import look_at_stack, stop_stack
from tools.topics import EVERY_TOPIC, create_topics, partition_counts

KAFKA_IMAGE = "apache/kafka:4.3.1"
READY_SECONDS_MAX = 180.0
_POLL_SECONDS = 0.1


class Broker(Protocol):
    """A broker for tests; ``bootstrap`` is ``host:port`` for clients."""

    bootstrap: str


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real broker, the same for the whole run."""
    with ExitStack() as cleanup:
        found = cleanup.enter_context(container_broker()) if is_docker_there() else None
        yield found or cleanup.enter_context(EmbeddedBroker(tmp_path_factory.mktemp("broker")))


@pytest.fixture
def topics(broker: Broker) -> Callable[[int], None]:
    """Call it with ``LITMUS_PARTITIONS`` to get all topics, new and empty."""
    return lambda partitions: create_fresh_topics(broker.bootstrap, partitions)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Stack"]:
    """A whole stack, the same for the whole run; kill its processes, but leave it ready."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


def create_fresh_topics(bootstrap: str, partitions: int) -> None:
    """Delete all topics of ours, with what they hold, and create them again."""
    ours = {topic.name for topic in EVERY_TOPIC} & partition_counts(bootstrap).keys()
    if ours:
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for future in admin.delete_topics(list(ours), operation_timeout=30).values():
            future.result(30)
        wait_until(lambda: not ours & partition_counts(bootstrap).keys(), "topics are deleted")
    create_topics(bootstrap, partitions)
    names = {topic.name for topic in EVERY_TOPIC}
    wait_until(lambda: names <= partition_counts(bootstrap).keys(), "topics are created")


def is_docker_there() -> bool:
    """Return whether a Docker daemon answers."""
    try:
        client = docker.from_env()
        try:
            return bool(client.ping())
        finally:
            client.close()
    except DockerException:
        return False


@contextmanager
def container_broker() -> Iterator[Broker | None]:
    """Run the broker's image; yield None where it cannot be pulled."""
    ports = KafkaPorts(*free_ports(2))
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(ports.broker, ports.broker)
    for line in PROPERTIES.format(**ports._asdict()).splitlines():
        name, _, value = line.partition("=")
        if name == "listeners":
            value = value.replace("PLAINTEXT://127.0.0.1", "PLAINTEXT://0.0.0.0")
        if name != "log.dirs":
            container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    try:
        container.start()
    except DockerException:
        yield None
        return
    try:
        container.bootstrap = f"127.0.0.1:{ports.broker}"
        wait_until(lambda: is_broker_ready(container.bootstrap, 1.0), "the broker is ready")
        yield container
    finally:
        container.stop()


class Stack:
    """A stack like that of ``litmus up``, in a home of its own and on free ports.

    Start it from the main thread: its leash is tied to the thread that starts it.

    Args:
        home: Its home; data there survive ``stop`` and ``start``.
        workers: Accumulate processes.
        deaths_max: Deaths of a process in a minute after which it gives up; more to kill.
        environment: Settings beyond ``LITMUS_HOME`` and the ports.
    """

    def __init__(
        self,
        home: Path,
        *,
        workers: int = 1,
        deaths_max: int = 1_000,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.home = Home(home)
        self._options = ["--workers", str(workers), "--deaths-max", str(deaths_max)]
        gateway_port, query_port = free_ports(2)  # the same ones after a restart
        own = {
            "LITMUS_HOME": str(home),
            "LITMUS_GATEWAY_PORT": str(gateway_port),
            "LITMUS_QUERY_PORT": str(query_port),
        }
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("LITMUS_")
        }
        self.environment = inherited | own | dict(environment or {}) | {"PYTHONPATH": str(CHECKOUT)}
        self.settings = Settings(home=home, gateway_port=gateway_port, query_port=query_port)
        self.gateway_url = f"http://127.0.0.1:{gateway_port}"
        self.query_url = f"http://127.0.0.1:{query_port}"
        self._supervisor: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until all is ready."""
        self.home.logs.mkdir(parents=True, exist_ok=True)
        leash = [sys.executable, "-I", str(CHECKOUT / "tools" / "leash.py"), str(os.getpid())]
        with (self.home.logs / "supervisor.log").open("ab") as log:
            self._supervisor = subprocess.Popen(
                [*leash, sys.executable, "-P", "-m", "tools", "up", "--quiet", *self._options],
                cwd=CHECKOUT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_ready()

    def stop(self) -> None:
        """Stop it as ``litmus down`` does; nothing if it is down."""
        with suppress(NotRunningError):
            stop_stack(self.settings)
        if self._supervisor is not None:
            self._supervisor.wait(120)
            self._supervisor = None

    def wait_ready(self, timeout_seconds: float = READY_SECONDS_MAX) -> None:
        """Wait until every process is ready, and the history holds what the log held then."""
        wait_until(self._is_ready, "the stack is ready", timeout_seconds, self.explain)

    def pid(self, name: str) -> int:
        """Return the pid of a process, waiting while it is being started again."""
        wait_until(lambda: self._pid(name) is not None, f"{name} runs", 120, self.explain)
        pid = self._pid(name)
        assert pid is not None
        return pid

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a process and return the pid it had."""
        pid = self.pid(name)
        os.kill(pid, number)
        if number == signal.SIGKILL:
            wait_until(lambda: self._pid(name) != pid, f"{name} is gone", 120, self.explain)
        return pid

    def kill_supervisor(self) -> None:
        """Kill the supervisor with SIGKILL; its processes die with it."""
        assert self._supervisor is not None
        self._supervisor.kill()
        self._supervisor.wait()
        self._supervisor = None

    @property
    def kafka(self) -> str:
        """Return the broker's address."""
        return str(self.describe()["kafka"])

    def describe(self) -> dict[str, Any]:
        """Return ``stack.json``."""
        description = self.home.description()
        assert description is not None, self.explain()
        return description

    def litmus(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the ``litmus`` command on this stack."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "tools", *arguments],
            cwd=CHECKOUT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def explain(self) -> str:
        """Return what the stack wrote last, for the message of a failed test."""
        parts = [json.dumps(self.home.description())]
        for path in sorted(self.home.logs.glob("*.log")):
            parts += [f"{path.stem}: {line}" for line in last_lines(path, 8)]
        return "\n".join(parts)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _is_ready(self) -> bool:
        supervisor = self._supervisor
        if supervisor is not None and supervisor.poll() is not None:
            pytest.fail(f"the supervisor ended ({supervisor.returncode}):\n{self.explain()}")
        try:
            is_ready = bool(look_at_stack(self.settings)["ready"])
            return is_ready and self._has_history()
        except (NotRunningError, httpx.TransportError):
            return False

    def _has_history(self) -> bool:
        return bool(httpx.get(f"{self.query_url}/ready", timeout=30).json()["history"]["caught_up"])

    def _pid(self, name: str) -> int | None:
        entries = (self.home.description() or {"processes": []})["processes"]
        for entry in entries:
            if entry["name"] == name and entry["pid"] and psutil.pid_exists(entry["pid"]):
                return int(entry["pid"])
        return None


def wait_until(
    condition: Callable[[], bool],
    what: str,
    timeout_seconds: float = 120.0,
    explain: Callable[[], str] = str,
) -> None:
    """Wait for a condition; fail with what it was, and an explanation, when it takes too long."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not so after {timeout_seconds:.0f} s: {what}\n{explain()}")
        time.sleep(_POLL_SECONDS)
