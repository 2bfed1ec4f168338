"""The demo's own stack, in a home of its own that is wiped at the start."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tools.errors import StartError
from tools.home import Home
from tools.ports import free_ports, is_free
from tools.settings import CHECKOUT, SHARED, Settings

HOME = SHARED / "demo"
UP_TIMEOUT_S = 180
DOWN_TIMEOUT_S = 60

_LITMUS = (sys.executable, "-P", "-m", "tools")


class Addresses(NamedTuple):
    """Where the parts of the stack that the demo talks to answer."""

    gateway: str
    query_api: str
    kafka: str


@contextmanager
def demo_stack(*, keep: bool) -> Iterator[Addresses]:
    """Run a fresh stack; stop it at the end, unless it went well and ``keep`` says otherwise.

    Raises:
        StartError: If it does not start.
    """
    settings = _settings()
    _clear(settings)
    stays = False
    try:
        _start(settings)
        yield _addresses(settings)
        stays = keep
    finally:
        if not stays:
            _litmus("down", settings, timeout_s=DOWN_TIMEOUT_S)


def _settings() -> Settings:
    """Return the usual ports where they are free, and a home that nobody shares."""
    usual = Settings()
    free = free_ports(2)
    ports = [
        port if port and is_free(port) else instead
        for port, instead in zip((usual.gateway_port, usual.query_port), free, strict=True)
    ]
    return Settings(
        home=HOME, gateway_port=ports[0], query_port=ports[1], bind="127.0.0.1", lateness="1h"
    )


def _clear(settings: Settings) -> None:
    """Stop what an earlier demo left running and delete its data."""
    home = Home(settings.home)
    if home.holder() is not None:
        _litmus("down", settings, timeout_s=DOWN_TIMEOUT_S)
    home.stop_orphans()
    shutil.rmtree(settings.home, ignore_errors=True)


def _start(settings: Settings) -> None:
    done = _litmus("up", settings, "--detach", timeout_s=UP_TIMEOUT_S)
    if done.returncode:
        raise StartError(
            f"The stack of the demo did not start.\n{done.stdout}{done.stderr}\n"
            f"Its logs are in {settings.home / 'logs'}."
        )


def _addresses(settings: Settings) -> Addresses:
    described = Home(settings.home).description() or {}
    return Addresses(described["gateway"], described["query"], described["kafka"])


def _litmus(
    command: str, settings: Settings, *options: str, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    environment = settings.environment() | {
        "LITMUS_GATEWAY_PORT": str(settings.gateway_port),
        "LITMUS_QUERY_PORT": str(settings.query_port),
    }
    # The demo proves the embedded parts: no broker or server that others share is written to.
    for name in ("LITMUS_KAFKA", "LITMUS_CLICKHOUSE"):
        environment.pop(name, None)
    return subprocess.run(
        [*_LITMUS, command, *options],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
