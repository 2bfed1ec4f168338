"""A home: the folder with a stack's data, logs and its description, ``stack.json``.

One stack at a time runs from a home; the lock says which. It is the kernel's, so a supervisor that
was killed leaves none behind.
"""

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tools.errors import AlreadyRunningError, DataFormatError
from tools.ports import free_ports, is_free

DATA_FORMAT = 1
"""Raised when data of an older version cannot be read any more."""

STOP_GRACE_SECONDS = 10.0

_CREATE_TIME_TOLERANCE_SECONDS = 2.0
"""A process's start is known to the tick; the clock may have been set since it was noted."""


class KafkaPorts(NamedTuple):
    """Loopback ports of the broker of a home."""

    broker: int
    controller: int


class Home:
    """Paths of a home, and what keeps two stacks and two data formats apart."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kafka = root / "kafka"
        self.clickhouse = root / "clickhouse"
        self.logs = root / "logs"
        self.stack = root / "stack.json"
        self.failure = root / "failure.json"
        self.requests = root / "requests"
        self._format = root / "format.json"
        self._ports = root / "ports.json"
        self._lock = root / "lock"

    def require_format(self) -> None:
        """Check that the data here, if any, are of this version; note the format in a new home.

        Raises:
            DataFormatError: If they are of another one.
        """
        advice = (
            f"Choose another home (LITMUS_HOME=<folder>), or delete these data: `make clean`, or "
            f"rm -r '{self.root}'."
        )
        noted = read_json(self._format)
        if noted is None:
            if self.kafka.exists() or self.clickhouse.exists():
                raise DataFormatError(f"{self.root} holds data without a format number. {advice}")
            self.root.mkdir(parents=True, exist_ok=True)
            write_json(self._format, {"format": DATA_FORMAT})
            return
        found = noted.get("format")
        if found != DATA_FORMAT:
            age = "an older" if isinstance(found, int) and found < DATA_FORMAT else "a newer"
            raise DataFormatError(
                f"{self.root} holds data of {age} format ({found}; this version reads "
                f"{DATA_FORMAT}). {advice}"
            )

    def kafka_ports(self) -> KafkaPorts:
        """Return the broker's ports: chosen once, chosen again only where they are taken."""
        kept = read_json(self._ports)
        if kept is not None:
            ports = KafkaPorts(kept["broker"], kept["controller"])
            if all(is_free(port) for port in ports):
                return ports
        ports = KafkaPorts(*free_ports(2))
        self.root.mkdir(parents=True, exist_ok=True)
        write_json(self._ports, ports._asdict())
        return ports

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this home for this process.

        Raises:
            AlreadyRunningError: If another process does.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._already_running() from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            try:
                yield
            finally:
                lock.truncate(0)

    def require_free(self) -> None:
        """Check that no stack runs from here.

        Raises:
            AlreadyRunningError: If one does.
        """
        if self.holder() is not None:
            raise self._already_running()

    def _already_running(self) -> AlreadyRunningError:
        return AlreadyRunningError(
            f"Litmus already runs from {self.root} (supervisor: pid {self.holder()}). "
            "`litmus status` shows it, `litmus down` stops it; a second stack needs a "
            "LITMUS_HOME and ports of its own."
        )

    def why_it_gave_up(self) -> str | None:
        """Return why the last stack stopped by itself; None if it did not."""
        reason = (read_json(self.failure) or {}).get("reason")
        return None if reason is None else str(reason)

    def holder(self) -> int | None:
        """Return the pid of the supervisor that runs from here; None: there is none."""
        with suppress(FileNotFoundError), self._lock.open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = lock.read()
                return int(text) if text else None
        return None

    def description(self) -> dict[str, Any] | None:
        """Return what ``stack.json`` says of the stack, whether it runs or not."""
        return read_json(self.stack)

    def stop_orphans(self) -> list[str]:
        """Stop what a killed supervisor left behind and return the names of it.

        Only processes that are the noted ones beyond doubt: same pid, same start, same program.
        """
        noted = (self.description() or {}).get("processes", [])
        orphans = [(entry["name"], orphan) for entry in noted if (orphan := _find_noted(entry))]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for _, orphan in orphans:
                with suppress(psutil.NoSuchProcess):
                    orphan.send_signal(number)
            _, alive = psutil.wait_procs([orphan for _, orphan in orphans], STOP_GRACE_SECONDS)
            if not alive:
                break
        return [name for name, _ in orphans]


def process_created(pid: int) -> float | None:
    """Return when a process was started; None if there is none, or it is dead and not reaped."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def is_noted_process(entry: dict[str, Any]) -> bool:
    """Return whether the process of an entry of ``stack.json`` lives, not another by its pid."""
    return _find_noted(entry) is not None


def _find_noted(entry: dict[str, Any]) -> psutil.Process | None:
    pid, created = entry.get("pid"), entry.get("created")
    if not pid or created is None:
        return None
    now_created = process_created(pid)
    if now_created is None or abs(now_created - created) > _CREATE_TIME_TOLERANCE_SECONDS:
        return None
    try:
        process = psutil.Process(pid)
        same_program = entry["program"] in process.cmdline()
    except psutil.Error:
        return None
    return process if same_program else None


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a file; None if there is no such file, or no object in it."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write an object so that readers see the old file or the new one, never half of it."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(value, indent=2) + "\n")
    scratch.replace(path)
