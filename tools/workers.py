"""``litmus worker``: more accumulate workers while the stack runs, or fewer, without a pause.

A worker that is killed or stopped keeps its partitions for a session timeout, so that it may come
back to them. One that is drained gives them to the others at once.
"""

import time
from collections.abc import Callable
from typing import Any

from schemas.topics import EVENTS
from tools.errors import LitmusError, NotRunningError
from tools.home import Home
from tools.processes import ACCUMULATE, accumulate_name, probe_state
from tools.requests import Request, ask, refusal
from tools.topics import partition_counts

SECONDS_MAX = 120.0
_POLL_SECONDS = 0.1


def add_worker(home: Home) -> str:
    """Start another accumulate worker; return its name once every partition is owned and live.

    Raises:
        NotRunningError: If no stack runs from this home.
        LitmusError: If it does not get ready.
    """
    names = {entry["name"] for entry in accumulate_workers(home)}
    numbers = (number for number in range(len(names) + 1))
    name = next(one for one in map(accumulate_name, numbers) if one not in names)
    asked_as = ask(home, Request("add", name))
    _wait(
        lambda: any(one["name"] == name and one["ready"] for one in accumulate_workers(home)),
        f"{name} did not get ready",
        lambda: refusal(home, asked_as),
    )
    _wait_owned(home)
    return name


def drain_worker(home: Home, name: str) -> None:
    """Let an accumulate worker hand over all it owns and end; return when others are live with it.

    Raises:
        NotRunningError: If no stack runs from this home.
        LitmusError: If there is no such worker, or no other one that stays and is ready.
    """
    names = sorted(entry["name"] for entry in accumulate_workers(home))
    if name not in names:
        raise LitmusError(f"No accumulate worker is called {name!r}; there are: {', '.join(names)}")
    asked_as = ask(home, Request("drain", name))
    _wait(
        lambda: all(one["name"] != name for one in accumulate_workers(home)),
        f"{name} did not end",
        lambda: refusal(home, asked_as),
    )
    _wait_owned(home)


def accumulate_workers(home: Home) -> list[dict[str, Any]]:
    """Return the entries of ``stack.json`` of all accumulate workers.

    Raises:
        NotRunningError: If no stack runs from this home.
    """
    description = home.description()
    if home.holder() is None or description is None:
        raise NotRunningError(f"No stack runs from {home.root}. `litmus up` starts one.")
    return [one for one in description["processes"] if one["name"].startswith(ACCUMULATE)]


def owners(home: Home) -> dict[int, list[str]]:
    """Return, per partition that is live anywhere, the workers that say it is theirs."""
    owned: dict[int, list[str]] = {}
    for entry in accumulate_workers(home):
        for number in probe_state("127.0.0.1", entry["port"]).get("live", []):
            owned.setdefault(number, []).append(entry["name"])
    return owned


def _wait_owned(home: Home) -> None:
    """Wait until every worker is ready and every partition has one owner."""
    bootstrap = str((home.description() or {})["kafka"])
    every = list(range(partition_counts(bootstrap)[EVENTS.name]))

    def is_settled() -> bool:
        states = [probe_state("127.0.0.1", one["port"]) for one in accumulate_workers(home)]
        owned = sorted(number for state in states for number in state.get("live", []))
        return owned == every and all(state.get("ready") for state in states)

    _wait(is_settled, "partitions did not come to rest")


def _wait(
    is_done: Callable[[], bool], problem: str, why_not: Callable[[], str | None] | None = None
) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        refused = why_not() if why_not is not None else None
        if refused is not None:
            raise LitmusError(refused)
        if is_done():
            return
        if time.monotonic() > deadline:
            raise LitmusError(f"{problem} within {SECONDS_MAX:.0f} s; see `litmus logs`")
        time.sleep(_POLL_SECONDS)
