"""The stack that is tortured: the usual one, its ways to the broker laid through a proxy.

Started as ``python -m tools.torture.supervised``, with the settings of a stack in the environment
and the wiring in its home.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
from rich.console import Console

from tools.errors import LitmusError
from tools.home import Home
from tools.narration import Narrator
from tools.processes import Plan, ProcessSpec, plan_stack
from tools.settings import Settings
from tools.stack import supervise
from tools.torture.clocks import Clocks

WIRING = "wiring.json"
KAFKA = "kafka"
_DEATHS_MAX = 1_000_000
"""Deaths are what it is for; a process that never comes back is found by the run itself."""


class Wiring(msgspec.Struct, frozen=True):
    """How the processes of a stack are tied together.

    Attributes:
        links: Name of a process to (the broker's port for it, the port that leads there).
    """

    links: dict[str, tuple[int, int]]


def clocks_of(home: Path) -> Clocks:
    """Return the clocks of the processes of a home's stack."""
    return Clocks(home / "clocks")


def write_wiring(home: Path, wiring: Wiring) -> None:
    """Lay down how the stack of a home is tied together."""
    (home / WIRING).write_bytes(msgspec.json.encode(wiring))


def plan_torture(settings: Settings, home: Home, wiring: Wiring) -> Plan:
    """Return the plan of ``litmus up``, with links and clocks that can be tampered with."""
    plan = plan_stack(settings, home, 1)
    stages = [
        replace(stage, processes=[_rewired(spec, home, wiring) for spec in stage.processes])
        for stage in plan.stages
    ]
    return Plan(stages, plan.addresses)


def _rewired(spec: ProcessSpec, home: Home, wiring: Wiring) -> ProcessSpec:
    if spec.name == KAFKA:
        assert spec.prepare is not None
        return replace(spec, prepare=partial(_prepare, spec.prepare, home.kafka, wiring))
    environment = dict(spec.environment)
    link = wiring.links.get(spec.name)
    if link is not None:
        environment["LITMUS_KAFKA"] = f"127.0.0.1:{link[1]}"
    environment |= clocks_of(home.root).environment(spec.name, environment["PYTHONPATH"])
    return replace(spec, environment=environment)


def _prepare(prepare: Callable[[], None], folder: Path, wiring: Wiring) -> None:
    """Prepare the broker as ever; then let it also listen where links lead to."""
    prepare()
    path = folder / "server.properties"
    path.write_text(with_listeners(path.read_text(), wiring))


def with_listeners(properties: str, wiring: Wiring) -> str:
    """Return a broker's properties with a listener per link, advertised as the link's port.

    A client that comes through a link is told to come back through it.
    """
    names = {f"VIA_{name.upper().replace('-', '_')}": ports for name, ports in wiring.links.items()}
    added = {
        "listeners": [f"{name}://127.0.0.1:{port}" for name, (port, _) in names.items()],
        "advertised.listeners": [f"{name}://127.0.0.1:{port}" for name, (_, port) in names.items()],
        "listener.security.protocol.map": [f"{name}:PLAINTEXT" for name in names],
    }
    lines = []
    for line in properties.splitlines():
        key, _, value = line.partition("=")
        lines.append(f"{key}={','.join([value, *added.pop(key)])}" if key in added else line)
    assert not added, f"the broker's properties lack {sorted(added)}"
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the stack until it is stopped; return the exit code."""
    settings = Settings()
    home = Home(settings.home)
    wiring = msgspec.json.decode((settings.home / WIRING).read_bytes(), type=Wiring)
    narrator = Narrator(Console(highlight=False), echoes=False)
    try:
        return supervise(
            home, partial(plan_torture, settings, home, wiring), narrator, deaths_max=_DEATHS_MAX
        )
    except LitmusError as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
