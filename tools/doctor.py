"""``litmus doctor``: what the stack needs of this machine, looked at piece by piece."""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tools.broker import is_broker_ready
from tools.errors import LitmusError
from tools.home import Home
from tools.jars import JARS, SUMS, find_faults, read_sums
from tools.java import find_java
from tools.ports import require_free
from tools.settings import JavaSettings, Settings

_FREE_BYTES_MIN = 2 * 1024**3
_PACKAGES = ("aiokafka", "clickhouse_connect", "confluent_kafka", "fastapi", "faust", "numba")


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        subject: What.
        ok: Whether it is as it must be.
        detail: What was found; where it is not ok, what to do.
    """

    subject: str
    ok: bool
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Return what was found, in an order in which one would mend it."""
    return [_found(subject, look) for subject, look in _looks(settings)]


def _looks(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    home = Home(settings.home)
    yield "python", _python
    yield "packages", _packages
    if settings.kafka is None:
        yield "java", _java
        yield "jars", _jars
    else:
        yield "kafka", lambda: _kafka(settings.kafka or "")
    yield "disk", lambda: _disk(settings)
    yield "data", lambda: _data(home)
    if home.holder() is None:
        yield "ports", lambda: _ports(settings)


def _found(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, ok=True, detail=look())
    except LitmusError as error:
        return Finding(subject, ok=False, detail=str(error))


def _python() -> str:
    if sys.version_info[:2] != (3, 11):
        raise LitmusError(f"{sys.version.split()[0]}: Litmus is locked to Python 3.11")
    return sys.version.split()[0]


def _packages() -> str:
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise LitmusError(f"{name} cannot be imported ({error}): run `make setup`") from error
    return "they can be imported"


def _java() -> str:
    java = find_java(JavaSettings().java_home)
    return f"{java.path}, version {java.version}"


def _jars() -> str:
    faults = find_faults(JARS / "kafka", read_sums(SUMS))
    if faults:
        raise LitmusError(f"{faults[0]}; the next start, or `make setup`, fetches them again")
    return "Apache Kafka 4.3.1, every checksum right"


def _kafka(bootstrap: str) -> str:
    if not is_broker_ready(bootstrap, 5.0):
        raise LitmusError(f"no broker answers at {bootstrap} (LITMUS_KAFKA)")
    return f"{bootstrap} answers"


def _disk(settings: Settings) -> str:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < _FREE_BYTES_MIN:
        raise LitmusError(f"{free / 1024**3:.1f} GiB are free at {folder}, 2 GiB are needed")
    return f"{free / 1024**3:.0f} GiB free at {folder}"


def _data(home: Home) -> str:
    holder = home.holder()
    if holder is not None:
        return f"{home.root}, a stack runs from it (supervisor: pid {holder})"
    if not home.root.exists():
        return f"{home.root} is new"
    home.require_format()
    return f"{home.root}, format fits"


def _ports(settings: Settings) -> str:
    asked = (
        (settings.gateway_port, "LITMUS_GATEWAY_PORT"),
        (settings.query_port, "LITMUS_QUERY_PORT"),
    )
    for port, setting in asked:
        if port:
            require_free(port, host=settings.bind, setting=setting)
    return "free: " + ", ".join(str(port or "any") for port, _ in asked)
