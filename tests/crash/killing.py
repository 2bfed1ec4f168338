"""Kills processes of a stack at random moments; measures how long each takes to be live again."""

import asyncio
import time
from random import Random
from typing import Any, NamedTuple

import httpx

from tests.stack import Stack

VICTIMS = ("accumulate-0", "gateway", "kafka-door", "control", "merge")
RECOVERY_SECONDS_MAX = 60.0
GAP_SECONDS = (0.3, 3.5)
TOGETHER_SHARE = 0.2
_POLL_S = 0.05


class Recovery(NamedTuple):
    """One kill.

    Attributes:
        name: Of the process.
        seconds: From the kill until it was ready and had gone on beyond the moment of the kill.
        pause_seconds: Of these, until the supervisor had started it again: its backoff.
    """

    name: str
    seconds: float
    pause_seconds: float


class Killer:
    """Kills with SIGKILL, every time a process that is live.

    Attributes:
        recoveries: Of all kills, in the order of recovery.
    """

    def __init__(self, stack: Stack, random: Random) -> None:
        self._stack = stack
        self._random = random
        self._client = httpx.AsyncClient(timeout=1.0)
        self._recovering: dict[str, asyncio.Task[None]] = {}
        self._tick = 0
        self.recoveries: list[Recovery] = []

    async def kill_many(self, rounds: int) -> None:
        """Kill every victim ``rounds`` times, sometimes two at once; wait until all are back."""
        order = [name for _ in range(rounds) for name in self._shuffled()]
        async with self._client:
            for at, name in enumerate(order):
                if at and self._random.random() > TOGETHER_SHARE:
                    await asyncio.sleep(self._random.uniform(*GAP_SECONDS))
                await self._kill(name)
            await asyncio.gather(*self._recovering.values())

    def _shuffled(self) -> list[str]:
        return self._random.sample(VICTIMS, len(VICTIMS))

    async def _kill(self, name: str) -> None:
        if name in self._recovering:
            await self._recovering[name]
        control = await self._ready("control")
        self._tick = max(self._tick, (control or {}).get("tick", 0))
        pid = await asyncio.to_thread(self._stack.kill, name)
        watch = self._watch(name, pid, self._tick, time.monotonic())
        self._recovering[name] = asyncio.create_task(watch)

    async def _watch(self, name: str, killed_pid: int, tick: int, killed_at: float) -> None:
        started_at: float | None = None
        while True:
            seconds = time.monotonic() - killed_at
            assert seconds < RECOVERY_SECONDS_MAX, f"{name}: {self._stack.explain()}"
            if started_at is None and self._entry(name)["pid"] not in (None, killed_pid):
                started_at = seconds
            if started_at is not None:
                state = await self._ready(name)
                # Beyond the moment of the kill; doors count no ticks, they are ready or not.
                if state is not None and state.get("tick", tick + 1) > tick:
                    seconds = time.monotonic() - killed_at
                    self.recoveries.append(Recovery(name, seconds, started_at))
                    return
            await asyncio.sleep(_POLL_S)

    async def _ready(self, name: str) -> dict[str, Any] | None:
        try:
            answer = await self._client.get(f"http://127.0.0.1:{self._entry(name)['port']}/ready")
        except httpx.TransportError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def _entry(self, name: str) -> dict[str, Any]:
        return next(one for one in self._stack.describe()["processes"] if one["name"] == name)
