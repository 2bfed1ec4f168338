"""Looks at the processes of a stack from outside: memory, descriptors, threads, CPU."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

DRIVER = "soak"
"""Name of the process that makes the load, among the others."""


class Sample(NamedTuple):
    """One process at one moment.

    Attributes:
        at_s: Seconds since the load began.
        name: As in ``stack.json``.
        pid: Another one after a restart.
        rss_bytes: Resident memory.
        uss_bytes: What would be free if it ended; None where it was not asked for.
        fds: Open file descriptors.
        threads: Threads.
        cpu_s: CPU seconds since it was started.
        held_files: Of them those of data, which broker and ClickHouse keep open by design, and
            of ``/proc``, three of which ClickHouse holds for every thread of its pool.
    """

    at_s: float
    name: str
    pid: int
    rss_bytes: int
    uss_bytes: int | None
    fds: int
    threads: int
    cpu_s: float
    held_files: int


class Sampler:
    """Samples all processes of a stack, and this one."""

    def __init__(self, home: Path) -> None:
        self._held = (f"{home.resolve()}/", "/proc/")

    def sample(self, at_s: float, processes: list[dict[str, Any]], *, uss: bool) -> list[Sample]:
        """Return a sample of every process that lives; ``processes`` as in ``stack.json``."""
        pids = [(entry["name"], entry["pid"]) for entry in processes if entry["pid"]]
        return list(self._samples(at_s, [*pids, (DRIVER, os.getpid())], uss=uss))

    def _samples(self, at_s: float, pids: list[tuple[str, int]], *, uss: bool) -> Iterator[Sample]:
        for name, pid in pids:
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    cpu = process.cpu_times()
                    yield Sample(
                        at_s,
                        name,
                        pid,
                        process.memory_info().rss,
                        process.memory_full_info().uss if uss else None,
                        process.num_fds(),
                        process.num_threads(),
                        cpu.user + cpu.system,
                        self._held_files(process),
                    )
            except psutil.NoSuchProcess:
                continue  # it died; the sample that is missing and its next pid say so

    def _held_files(self, process: psutil.Process) -> int:
        return sum(file.path.startswith(self._held) for file in process.open_files())
