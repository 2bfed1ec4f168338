"""Accumulate workers join, are killed, come back: partitions move, and no number changes."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import httpx
import pytest

from tests.crash.conftest import Report
from tests.crash.load import Load
from tests.crash.settling import settle_and_audit, start_experiments
from tests.stack import Stack
from tools.ports import free_ports
from tools.settings import CHECKOUT

PARTITIONS = 8
SEED = 20_261_122
UNITS_PER_SECOND = 40.0
SHARED_LOAD_S = 1.0
MOVE_SECONDS_MAX = 60.0


class Joiner:
    """A second accumulate worker beside a stack's own."""

    def __init__(self, stack: Stack) -> None:
        (self._port,) = free_ports(1)
        self._log = stack.home.logs / "accumulate-joining.log"
        own = {
            "LITMUS_KAFKA": stack.kafka,
            "LITMUS_INSTANCE": "accumulate-joining",
            "LITMUS_PROBE_PORT": str(self._port),
        }
        settings = stack.settings.environment() | own
        self._environment = settings | {"LITMUS_PARTITIONS": str(PARTITIONS)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "stream_processors.accumulate"],
                cwd=CHECKOUT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def end(self, number: signal.Signals) -> int:
        """Send a signal; return the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(30)
        self._process = None
        return code

    def live(self) -> set[int]:
        """Return the partitions that it has, all of them live."""
        return live_partitions(self._port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.end(signal.SIGKILL)


def live_partitions(port: int) -> set[int]:
    """Return the partitions that a worker says it has, all of them live; none if it is not."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/ready", timeout=2)
    except httpx.TransportError:
        return set()
    return set(answer.json()["live"]) if answer.status_code == 200 else set()


@pytest.mark.timeout(300)
def test_workers_that_join_and_are_killed_under_load_change_no_number(
    tmp_path: Path, report: Report
) -> None:
    environment = {"LITMUS_PARTITIONS": str(PARTITIONS)}
    with Stack(tmp_path / "home", environment=environment) as stack, Joiner(stack) as joiner:
        start_experiments(stack, {"joined": "exclude"})
        moves: dict[str, float] = {}
        load = asyncio.run(move_partitions(stack, joiner, moves))
        outcome, differences = settle_and_audit(stack, load.journal, PARTITIONS)

        report(
            "workers",
            {
                **{f"{name}, seconds": round(value, 1) for name, value in moves.items()},
                "events accepted": len(load.journal.accepted),
                "rows in the log": len(outcome.log.rows),
                "units compared": len(outcome.cells),
                "looks": len(outcome.looks),
                "differences": len(differences),
            },
        )
        assert differences == []
        assert len(outcome.cells) > UNITS_PER_SECOND


async def move_partitions(stack: Stack, joiner: Joiner, moves: dict[str, float]) -> Load:
    """Let a worker join, die, come back, and leave, under load; note how long each took."""
    load = Load(
        stack.gateway_url, stack.kafka, experiments=["joined"], seed=SEED, rate=UNITS_PER_SECOND
    )
    is_over = asyncio.Event()
    port = next(e["port"] for e in stack.describe()["processes"] if e["name"] == "accumulate-0")
    every = set(range(PARTITIONS))

    def is_shared() -> bool:
        own, others = live_partitions(port), joiner.live()
        return bool(own and others) and own | others == every and not own & others

    async def move(name: str, is_there: Callable[[], bool]) -> None:
        began = time.monotonic()
        while not await asyncio.to_thread(is_there):
            assert time.monotonic() - began < MOVE_SECONDS_MAX, f"{name}: {stack.explain()}"
            await asyncio.sleep(0.1)
        moves[name] = time.monotonic() - began
        await asyncio.sleep(SHARED_LOAD_S)

    async def change() -> None:
        joiner.start()
        await move("a second worker joins", is_shared)
        assert joiner.end(signal.SIGKILL) == -signal.SIGKILL
        await move("it is killed, the first takes over", lambda: live_partitions(port) == every)
        joiner.start()
        await move("it comes back", is_shared)
        await asyncio.to_thread(stack.kill, "accumulate-0")
        await move("the first is killed and comes back", is_shared)
        assert joiner.end(signal.SIGTERM) == 0
        await move("the second leaves", lambda: live_partitions(port) == every)
        is_over.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run(is_over))
        tasks.create_task(change())
    return load
