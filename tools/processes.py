"""The processes of a stack: what runs, with which settings, and how one sees that it is ready."""

import http.client
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from tools.broker import MAIN_CLASS, broker_command, is_broker_ready, prepare_broker
from tools.home import Home
from tools.ports import free_ports, require_free
from tools.settings import CHECKOUT, Settings
from tools.topics import await_group_coordinator, create_topics

PROBE_SECONDS_MAX = 2.0
ACCUMULATE = "accumulate-"
"""What names of accumulate workers begin with; a number follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """A process that the supervisor keeps up.

    Attributes:
        name: What people and ``stack.json`` call it.
        command: Program and arguments.
        program: The argument that tells this process from any other.
        environment: All of its environment.
        folder: Where it runs.
        port: Where it answers.
        probe: Returns None when it is ready, else why not. Blocks; called from a thread.
        prepare: Done before every start. Blocks; called from a thread.
        ready_seconds_max: How long it may take to get ready.
    """

    name: str
    command: Sequence[str]
    program: str
    environment: Mapping[str, str]
    port: int
    probe: Callable[[], str | None]
    folder: Path = CHECKOUT
    prepare: Callable[[], None] | None = None
    ready_seconds_max: float = 120.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Processes that start together; the next stage starts when all of them are ready.

    Attributes:
        processes: What starts.
        then: Done once they are ready, for example creating topics. Blocks; called from a thread.
    """

    processes: Sequence[ProcessSpec] = ()
    then: Callable[[], object] | None = None


class Plan(NamedTuple):
    """A stack before it starts.

    Attributes:
        stages: In the order of their start; they stop in the opposite order.
        addresses: ``kafka``, ``gateway``, ``query``, ``clickhouse``, as ``stack.json`` shows them.
        another: Given a name, what one more accumulate worker is; None: there are none here.
    """

    stages: list[Stage]
    addresses: dict[str, Any]
    another: Callable[[str], ProcessSpec] | None = None


def plan_stack(settings: Settings, home: Home, worker_count: int) -> Plan:
    """Return what has to run, with ports that are free now.

    Raises:
        PortBusyError: If a port that was asked for is taken.
        JavaMissingError: If the embedded broker has no Java.
    """
    gateway_port = _port(settings.gateway_port, settings.bind, "LITMUS_GATEWAY_PORT")
    query_port = _port(settings.query_port, settings.bind, "LITMUS_QUERY_PORT")
    stages = []
    bootstrap = settings.kafka
    if bootstrap is None:
        kafka = _kafka(settings, home)
        bootstrap = f"127.0.0.1:{kafka.port}"
        stages.append(Stage([kafka]))
    stages.append(Stage(then=partial(_ready_topics, bootstrap, settings.partitions)))

    environment = settings.environment() | {
        "LITMUS_KAFKA": bootstrap,
        "LITMUS_GATEWAY_PORT": str(gateway_port),
        "LITMUS_QUERY_PORT": str(query_port),
    }
    web = partial(_service, host=reachable(settings.bind), environment=environment)
    stages += _worker_stages(
        environment,
        worker_count,
        web("gateway", "ingest_gateway", gateway_port),
        web("query-api", "query_api", query_port),
    )
    addresses = {
        "kafka": bootstrap,
        "gateway": url_of(settings.bind, gateway_port),
        "query": url_of(settings.bind, query_port),
        "clickhouse": without_password(settings.clickhouse_dsn),
    }
    return Plan(stages, addresses, partial(_another, environment=environment))


def _worker_stages(
    environment: Mapping[str, str], worker_count: int, *web: ProcessSpec
) -> list[Stage]:
    ports = iter(free_ports(3 + worker_count))
    control = _worker("control", "stream_processors.control", next(ports), environment)
    door = _worker("kafka-door", "ingest_gateway.kafka_door", next(ports), environment)
    merge = _worker("merge", "stream_processors.merge", next(ports), environment)
    accumulate = [
        _worker(accumulate_name(number), "stream_processors.accumulate", port, environment)
        for number, port in enumerate(ports)
    ]
    return [Stage([control]), Stage([*web, door, *accumulate, merge])]


def accumulate_name(number: int) -> str:
    """Return the name of an accumulate worker."""
    return f"{ACCUMULATE}{number}"


def _another(name: str, *, environment: Mapping[str, str]) -> ProcessSpec:
    return _worker(name, "stream_processors.accumulate", free_ports(1)[0], environment)


def _service(
    name: str, module: str, port: int, *, host: str, environment: Mapping[str, str]
) -> ProcessSpec:
    return ProcessSpec(
        name=name,
        command=[sys.executable, "-P", "-m", module],
        program=module,
        environment=dict(environment) | {"LITMUS_INSTANCE": name},
        port=port,
        probe=partial(probe_http, host, port),
    )


def _worker(name: str, module: str, port: int, environment: Mapping[str, str]) -> ProcessSpec:
    # Its probe is for this machine alone, whatever gateway and query API listen on.
    own = {"LITMUS_PROBE_PORT": str(port), "LITMUS_BIND": "127.0.0.1"}
    return _service(name, module, port, host="127.0.0.1", environment=dict(environment) | own)


def _kafka(settings: Settings, home: Home) -> ProcessSpec:
    ports = home.kafka_ports()
    return ProcessSpec(
        name="kafka",
        command=broker_command(home.kafka),
        program=MAIN_CLASS,
        environment=settings.environment(),
        folder=home.kafka,
        port=ports.broker,
        probe=partial(_probe_kafka, f"127.0.0.1:{ports.broker}"),
        prepare=partial(prepare_broker, home.kafka, ports),
    )


def _ready_topics(bootstrap: str, partitions: int) -> None:
    create_topics(bootstrap, partitions)
    await_group_coordinator(bootstrap)


def _port(asked: int, host: str, setting: str) -> int:
    if asked == 0:
        return free_ports(1)[0]
    require_free(asked, host=host, setting=setting)
    return asked


def _probe_kafka(bootstrap: str) -> str | None:
    return (
        None if is_broker_ready(bootstrap, PROBE_SECONDS_MAX) else "the admin client gets no answer"
    )


def probe_http(host: str, port: int) -> str | None:
    """Return None if ``/ready`` answers 200, else why not."""
    try:
        status, text = _ask_ready(host, port)
    except (OSError, http.client.HTTPException) as error:
        return f"/ready does not answer ({error})"
    return None if status == HTTPStatus.OK else f"/ready says {status}: {text}"


def probe_state(host: str, port: int) -> dict[str, Any]:
    """Return what a worker's ``/ready`` says; empty if it does not answer."""
    try:
        _, text = _ask_ready(host, port)
        return dict(json.loads(text))
    except (OSError, ValueError, http.client.HTTPException):
        return {}


def _ask_ready(host: str, port: int) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=PROBE_SECONDS_MAX)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        return answer.status, answer.read(64_000).decode(errors="replace").strip()
    finally:
        connection.close()


def reachable(bind: str) -> str:
    """Return the address at which this machine reaches what listens on ``bind``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104  # read, not bound


def url_of(bind: str, port: int) -> str:
    """Return the address of a web service for a browser on this machine."""
    host = reachable(bind)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def without_password(dsn: str) -> str:
    """Return a DSN that may be shown."""
    scheme, separator, rest = dsn.partition("://")
    credentials, at, host = rest.rpartition("@")
    user = credentials.partition(":")[0]
    return f"{scheme}{separator}{user}{at}{host}" if at else dsn
