"""The demo's own stack, in a home of its own that is wiped at the start."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from rich.console import Console

from tools.errors import NotRunningError
from tools.ports import free_ports, is_free
from tools.settings import SHARED, Settings
from tools.stack import start_detached, stop_stack

HOME = SHARED / "demo"


class Addresses(NamedTuple):
    """Where the parts of the stack that the demo talks to answer."""

    gateway: str
    query_api: str
    kafka: str


@contextmanager
def demo_stack(console: Console, *, keep: bool) -> Iterator[Addresses]:
    """Run a fresh stack; stop it at the end, unless the block went well and ``keep`` is set.

    Raises:
        StartError: If it does not start.
    """
    settings = _settings()
    _stop(settings)  # an earlier demo may have been left running, or been killed
    shutil.rmtree(settings.home, ignore_errors=True)
    stays = False
    try:
        described = start_detached(settings, [], console)
        yield Addresses(described["gateway"], described["query"], described["kafka"])
        stays = keep
    finally:
        if not stays:
            _stop(settings)


def _settings() -> Settings:
    """Return the usual ports where they are free, and parts that nobody shares."""
    usual = Settings()
    ports = [
        port if port and is_free(port) else instead
        for port, instead in zip((usual.gateway_port, usual.query_port), free_ports(2), strict=True)
    ]
    return Settings(
        home=HOME,
        kafka=None,
        clickhouse=None,
        gateway_port=ports[0],
        query_port=ports[1],
        bind="127.0.0.1",
        lateness="1h",
    )


def _stop(settings: Settings) -> None:
    with suppress(NotRunningError):
        stop_stack(settings)
