"""What ``litmus up``, ``down``, ``status`` and ``logs`` do, without the command line around it."""

import asyncio
import ipaddress
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
from rich.console import Console

from tools.broker import is_broker_ready
from tools.errors import BindError, NotRunningError, StartError
from tools.home import STOP_GRACE_SECONDS, Home, is_noted_process
from tools.logs import last_lines
from tools.narration import Narrator
from tools.processes import PROBE_SECONDS_MAX, Plan, plan_stack, probe_http, reachable
from tools.settings import CHECKOUT, Settings
from tools.supervisor import DEATHS_MAX, Supervisor

START_SECONDS_MAX = 300.0
_STOP_SECONDS_MAX = 5 * STOP_GRACE_SECONDS
_POLL_SECONDS = 0.1


def run_stack(
    settings: Settings,
    narrator: Narrator,
    *,
    worker_count: int = 1,
    deaths_max: int = DEATHS_MAX,
) -> int:
    """Run a stack in this process until it is stopped; return the exit code.

    Raises:
        LitmusError: If it cannot even begin.
    """
    home = Home(settings.home)
    make_plan = partial(plan_stack, settings, home, worker_count)
    return supervise(home, make_plan, narrator, deaths_max=deaths_max)


def supervise(
    home: Home,
    make_plan: Callable[[], Plan],
    narrator: Narrator,
    *,
    deaths_max: int = DEATHS_MAX,
    grace_seconds: float = STOP_GRACE_SECONDS,
) -> int:
    """Hold a home, clean it of what a killed supervisor left, run a plan; return the exit code.

    Raises:
        LitmusError: If it cannot even begin.
    """
    with home.locked():
        home.require_format()
        orphans = home.stop_orphans()
        if orphans:
            narrator.warn(f"stopped what a killed supervisor left behind: {', '.join(orphans)}")
        plan = make_plan()
        narrator.say(f"starting from {home.root}")
        supervisor = Supervisor(
            home, plan, narrator, deaths_max=deaths_max, grace_seconds=grace_seconds
        )
        return asyncio.run(supervisor.run())


def start_detached(settings: Settings, arguments: list[str], console: Console) -> dict[str, Any]:
    """Start a supervisor that outlives this process; return ``stack.json`` when all is ready.

    Raises:
        AlreadyRunningError: If a stack runs from this home.
        StartError: If it did not get ready; the message holds its last log lines.
    """
    home = Home(settings.home)
    home.require_free()
    home.logs.mkdir(parents=True, exist_ok=True)
    log_path = home.logs / "supervisor.log"
    environment = settings.environment() | _asked_for(settings)
    with log_path.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "tools", "up", "--quiet", *arguments],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline, ready = time.monotonic() + START_SECONDS_MAX, (child.pid, "ready")
    with console.status("starting"):
        while time.monotonic() < deadline:
            if child.poll() is not None:
                lines = "\n".join(last_lines(log_path, 15))
                raise StartError(f"The stack did not start:\n{lines}")
            description = home.description()
            if description and (description["supervisor"], description["state"]) == ready:
                child.returncode = 0  # it goes on without us: no warning about that
                return description
            time.sleep(_POLL_SECONDS)
    child.terminate()
    raise StartError(f"The stack did not get ready in {START_SECONDS_MAX:.0f} s; see {log_path}")


def stop_stack(settings: Settings) -> None:
    """Stop the stack of a home and wait until it is gone.

    Raises:
        NotRunningError: If there is none; what a killed one left is stopped all the same.
    """
    home = Home(settings.home)
    supervisor = home.holder()
    if supervisor is None:
        orphans = home.stop_orphans()
        home.stack.unlink(missing_ok=True)
        if orphans:
            return
        raise NotRunningError(f"No stack runs from {home.root}.")
    os.kill(supervisor, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS_MAX
    while home.holder() == supervisor:
        if time.monotonic() > deadline:
            os.kill(supervisor, signal.SIGKILL)  # its children are on a leash
        time.sleep(_POLL_SECONDS)
    home.stop_orphans()
    home.stack.unlink(missing_ok=True)


def look_at_stack(settings: Settings) -> dict[str, Any]:
    """Return ``stack.json`` with every process looked at now; ``ready`` says whether all are.

    Raises:
        NotRunningError: If no stack runs from this home.
    """
    home = Home(settings.home)
    description = home.description()
    if home.holder() is None or description is None:
        left = " A supervisor was killed; `litmus up` or `down` cleans up." if description else ""
        reason = home.why_it_gave_up()
        gave_up = f"\nThe last one stopped by itself: {reason}" if reason and not left else ""
        raise NotRunningError(
            f"No stack runs from {home.root}.{left} `litmus up` starts one.{gave_up}"
        )
    processes = description["processes"]
    with ThreadPoolExecutor(max_workers=max(1, len(processes))) as pool:
        looks = pool.map(lambda entry: _is_ready(entry, description["kafka"], settings), processes)
        lag = pool.submit(_settled_lag_ms, processes)
        for entry, is_ready in zip(processes, looks, strict=True):
            entry["ready"] = is_ready
    all_ready = description["state"] == "ready" and all(entry["ready"] for entry in processes)
    return description | {"ready": all_ready, "settled_lag_ms": lag.result()}


def require_loopback(bind: str, *, allow_remote: bool) -> None:
    """Check that only this machine can reach an address, unless that was asked for.

    Raises:
        BindError: If others could.
    """
    is_loopback = bind == "localhost"
    with suppress(ValueError):
        is_loopback = ipaddress.ip_address(bind).is_loopback
    if not is_loopback and not allow_remote:
        raise BindError(
            f"{bind} can be reached from other machines, and Litmus has no authentication yet: "
            "everyone there could read and change every experiment. If that is what you want, "
            "say so with --allow-remote."
        )


def _is_ready(entry: dict[str, Any], kafka: str, settings: Settings) -> bool:
    if not is_noted_process(entry):
        return False
    if entry["name"] == "kafka":
        return is_broker_ready(kafka)
    host = reachable(settings.bind) if entry["name"] in ("gateway", "query-api") else "127.0.0.1"
    return probe_http(host, entry["port"]) is None


def _settled_lag_ms(processes: list[dict[str, Any]]) -> int | None:
    """Return how far settled time is behind log time; None while no control process says."""
    for entry in processes:
        if entry["name"] == "control":
            url = f"http://127.0.0.1:{entry['port']}/ready"
            with suppress(httpx.HTTPError, ValueError):
                lag: int | None = httpx.get(url, timeout=PROBE_SECONDS_MAX).json()["settled_lag_ms"]
                return lag
    return None


def _asked_for(settings: Settings) -> dict[str, str]:
    """Return the settings that the supervisor reads and its processes get in another form."""
    return {
        "LITMUS_GATEWAY_PORT": str(settings.gateway_port),
        "LITMUS_QUERY_PORT": str(settings.query_port),
        "LITMUS_CLICKHOUSE": settings.clickhouse or "",
        "LITMUS_KAFKA": settings.kafka or "",
    }
