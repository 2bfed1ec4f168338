"""The whole product under fire, for a few minutes: nothing lost, nothing twice, nothing left over.

A longer siege: ``make torture FAULTS=300 SEED=1``.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tools.home import read_json
from tools.settings import CHECKOUT, Settings

pytestmark = pytest.mark.machine

FAULTS = 12
SEED = 5
START_SECONDS_MAX = 240.0

KINDS = (
    "kill gateway",
    "kill accumulate",
    "kill control",
    "kill merge",
    "terminate kafka-door",
    "cut link accumulate",
    "stalled link kafka-door",
    "clock step control",
    "worker drained",
    "broker kill",
)
"""Faults that are soon recovered from, of every sort; processes that are frozen for longer than a
session, and those that work beside their substitutes, have tests of their own, without a load."""

DISK = "full disk clickhouse"
MOUNTING = """
import sys
from pathlib import Path
from tools.torture.disks import mount_disks
from tools.torture.schedule import DISKS

sys.exit("clickhouse" not in mount_disks(Path(sys.argv[1]), DISKS)[0])
"""


def command(folder: Path, *options: str) -> list[str]:
    where = ["--home", str(folder / "home"), "--reports", str(folder / "reports")]
    return [sys.executable, "-P", "-m", "tools", "torture", *where, *options]


def heed_interrupts() -> None:
    """Undo what a shell does to commands in its background: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def processes_of(home: Path) -> list[psutil.Process]:
    """Return all that runs from a home, or under its name."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        told = [*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()]
        if any(str(home) in one for one in told) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def can_fill_disks(folder: Path) -> bool:
    """Return whether this machine lets a process of ours mount small disks."""
    command = [sys.executable, "-P", "-c", MOUNTING, str(folder)]
    environment = Settings().environment()
    return not subprocess.run(command, cwd=CHECKOUT, env=environment, check=False).returncode


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_a_short_torture_changes_no_number(tmp_path: Path) -> None:
    options = ["--faults", str(FAULTS), "--seed", str(SEED), "--units", "2000", "--rate", "160"]
    options += ["--seconds-between", "0", "--recovery-max", "150"]
    for one in (*KINDS, DISK) if can_fill_disks(tmp_path / "disks") else KINDS:
        options += ["--only", one]
    run = subprocess.run(
        command(tmp_path, *options),
        cwd=CHECKOUT,
        env=Settings().environment(),
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )

    assert run.returncode == 0, f"{run.stdout[-8_000:]}\n{run.stderr[-4_000:]}"
    report: dict[str, Any] = json.loads((tmp_path / "reports" / "torture.json").read_text())
    print(run.stdout[-3_000:])
    assert report["seed"] == SEED
    assert report["differences"] == 0
    assert sum(one["count"] for one in report["faults"]) == FAULTS
    assert all(one["survived"] == one["count"] for one in report["faults"])
    assert len(report["faults"]) >= 6
    assert report["events_compared"] > 5_000
    assert report["looks_compared"] > 100
    assert report["sent"]["sent_again"] > 0, "no request ever met a door that was away"
    assert (tmp_path / "reports" / "torture.html").stat().st_size > 100_000
    assert processes_of(tmp_path / "home") == []


@pytest.mark.timeout(500)
def test_a_torture_that_is_interrupted_leaves_nothing_running(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, "--faults", "5", "--units", "0", "--rate", "50"),
        cwd=CHECKOUT,
        env=Settings().environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509  # no thread here holds what it needs
    )
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while (read_json(tmp_path / "home" / "stack.json") or {}).get("state") != "ready":
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)

        assert process.wait(180) == 130
        assert processes_of(tmp_path / "home") == []
    finally:
        process.kill()
        process.wait()
