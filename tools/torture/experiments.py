"""The experiments of a run, and an operator who goes on changing them while it lasts."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from schemas.times import format_time_ms
from tools.errors import LitmusError
from tools.torture.giving import Commander

Json = dict[str, Any]

STEADY = {"excluding": "exclude", "first-stays": "first", "growing": "exclude"}
"""Experiments that run from before the load until its end, by crossover policy."""

PAUSING = "pausing"
WINDOWS_MS = {"short": 3_000, "long": 5_000, "minute": 60_000}
METRICS_ADDED_MAX = 6
LATENESS_SHARES = (0.75, 1.0, 1.25, 1.5)
"""Of the lateness with which the stack was started."""

EVENTS = ("buy", "view")
COVARIATE_DAYS = 7
KEEP_DAYS = 10
ENTRIES_ADDED_MAX = 100


def experiment_body(experiment_id: str, crossover: str = "exclude") -> Json:
    """Return an experiment with metrics of several kinds, windows and covariates."""
    short, long, minute = (f"{window}ms" for window in WINDOWS_MS.values())
    return {
        "id": experiment_id,
        "variants": [{"id": "c", "weight": 1}, {"id": "t", "weight": 1}],
        "crossover": crossover,
        "metrics": [
            {"id": "bought", "kind": "conversion", "event": "buy", "window": short},
            {"id": "views", "kind": "count", "event": "view", "window": long}
            | {"covariate_days": 2},
            {"id": "spent", "kind": "sum", "event": "buy", "window": minute}
            | {"covariate_days": COVARIATE_DAYS},
            {"id": "seen", "kind": "count", "event": "view", "role": "secondary"},
        ],
        "analysis": {"n_star": 500},
    }


@dataclass
class Running:
    """Experiments that a unit may be assigned to now.

    Attributes:
        steady: Never touched: what is sent to them must be accepted.
        passing: Paused, stopped and started during the run: whether they take an assignment
            is a race.
    """

    steady: list[str] = field(default_factory=list)
    passing: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """Return all."""
        return [*self.steady, *self.passing]


class CommandRefusedError(LitmusError):
    """A command that must be possible was refused."""


class Operator:
    """Gives commands, each with a key of its own, until they are answered by no 5xx.

    Attributes:
        running: What is running, as far as answers have told.
    """

    def __init__(
        self,
        commander: Commander,
        *,
        lateness_ms: int,
        random: Random,
        now_ms: Callable[[], int],
    ) -> None:
        self._commander = commander
        self._random = random
        self._now_ms = now_ms
        self._versions: dict[str, int] = {}
        self._is_paused = False
        self._waves = 0
        self._added = 0
        self._entries = 0
        self._lateness_ms = lateness_ms
        self.running = Running()

    async def start_all(self) -> None:
        """Make the catalogue; create and start the experiments of the run."""
        for name in EVENTS:
            body = {"precision": 3, "keep_days": KEEP_DAYS}
            await self._command("PUT", f"/v1/metrics/{name}", body)
        at = format_time_ms(self._now_ms() - self._lateness_ms // 2)
        for name, crossover in (STEADY | {PAUSING: "exclude"}).items():
            await self._create(name, crossover)
            await self._command("POST", f"/v1/experiments/{name}/start", {"at": at})
            (self.running.passing if name == PAUSING else self.running.steady).append(name)

    async def go_on(self, is_over: asyncio.Event, *, every_s: float) -> None:
        """Give one command after another until told to end."""
        turns = [
            self._pause_or_resume,
            self._add_metric,
            self._next_wave,
            self._change_lateness,
            self._make_entry,
        ]
        while not is_over.is_set():
            await self._random.choice(turns)()
            pause_s = self._random.uniform(0.5, 1.5) * every_s
            try:
                await asyncio.wait_for(is_over.wait(), pause_s)
            except TimeoutError:
                continue

    async def _pause_or_resume(self) -> None:
        action = "resume" if self._is_paused else "pause"
        await self._command("POST", f"/v1/experiments/{PAUSING}/{action}", {})
        self._is_paused = not self._is_paused

    async def _add_metric(self) -> None:
        if self._added == METRICS_ADDED_MAX:
            return
        self._added += 1
        metrics = experiment_body("growing")["metrics"]
        metrics += [
            {"id": f"more-{number}", "kind": "sum", "event": "buy", "window": "10s"}
            | {"role": "secondary"}
            for number in range(self._added)
        ]
        body = {"metrics": metrics, "version": self._versions["growing"]}
        await self._command("PATCH", "/v1/experiments/growing", body)

    async def _next_wave(self) -> None:
        """Start another experiment, stop the one before, put away the one before that."""
        number, self._waves = self._waves, self._waves + 1
        name = f"wave-{number}"
        await self._create(name, self._random.choice(["exclude", "first"]))
        await self._command("POST", f"/v1/experiments/{name}/start", {})
        self.running.passing.append(name)
        if number >= 1:
            before = f"wave-{number - 1}"
            self.running.passing.remove(before)
            await self._command("POST", f"/v1/experiments/{before}/stop", {})
        if number >= 2:
            await self._command("POST", f"/v1/experiments/wave-{number - 2}/archive", {})

    async def _change_lateness(self) -> None:
        """Raise or lower it: what the load sends is clearly late, or clearly not, under each."""
        share = self._random.choice(LATENESS_SHARES)
        body = {"lateness": f"{round(self._lateness_ms * share)}ms"}
        await self._command("PATCH", "/v1/settings", body)

    async def _create(self, name: str, crossover: str) -> None:
        await self._command("POST", "/v1/experiments", experiment_body(name, crossover))

    async def _make_entry(self) -> None:
        """Make an entry of the catalogue, also the same again; one that differs is refused."""
        if self._entries == ENTRIES_ADDED_MAX:
            return
        path = f"/v1/metrics/extra-{self._entries}"
        self._entries += 1
        body = {"precision": self._random.randint(0, 6), "keep_days": self._random.choice([0, 5])}
        for _ in range(2):
            await self._command("PUT", path, body)
        other = body | {"precision": body["precision"] + 1}
        answer = await self._commander.give("PUT", path, json.dumps(other).encode())
        if (answer.status_code, answer.json().get("code")) != (409, "entry_differs"):
            raise CommandRefusedError(f"PUT {path}: {answer.text[:500]}, must be entry_differs")

    async def _command(self, method: str, path: str, body: Json) -> None:
        """Give a command; keep the version it led to.

        Raises:
            CommandRefusedError: If it was refused.
        """
        answer = await self._commander.give(method, path, json.dumps(body).encode())
        if answer.status_code >= 400:
            raise CommandRefusedError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        told = answer.json()
        if "version" in told and "id" in told:
            self._versions[told["id"]] = told["version"]
