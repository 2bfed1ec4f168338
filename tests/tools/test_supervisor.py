"""The supervisor, over real processes: order, restarts, giving up, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.stack import wait_until
from tools.errors import NotRunningError
from tools.home import Home, read_json
from tools.ports import free_ports
from tools.settings import CHECKOUT, Settings
from tools.stack import look_at_stack

pytestmark = pytest.mark.machine

Plan = list[list[list[object]]]
Run = Callable[[Plan], "SmallStack"]


class SmallStack:
    """A supervisor of ``tests.tools.small_stack`` in a process of its own."""

    def __init__(self, root: Path, plan: Plan) -> None:
        self.home = Home(root)
        root.mkdir(exist_ok=True)
        self._output = root / "output"
        with self._output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.tools.small_stack", str(root), json.dumps(plan)],
                cwd=CHECKOUT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def ends(self) -> list[int]:
        """Return the ports of children that stopped cleanly, in that order."""
        path = self.home.root / "ends"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def pids(self) -> dict[str, int]:
        description = read_json(self.home.stack) or {"processes": []}
        return {entry["name"]: entry["pid"] for entry in description["processes"] if entry["pid"]}

    def ready(self) -> set[str]:
        description = read_json(self.home.stack) or {"processes": []}
        return {entry["name"] for entry in description["processes"] if entry["ready"]}

    def wait_ready(self, *names: str) -> None:
        wait_until(
            lambda: set(names) <= self.ready(), f"{names} are ready", 120, lambda: self.output
        )


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    stacks: list[SmallStack] = []

    def start(plan: Plan) -> SmallStack:
        stacks.append(SmallStack(tmp_path / "home", plan))
        return stacks[-1]

    yield start
    for stack in stacks:
        stack.process.kill()
        stack.process.wait()


def are_gone(pids: list[int]) -> bool:
    return not any(is_running(pid) for pid in pids)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_stages_start_in_order_and_stop_in_the_opposite_order(run: Run) -> None:
    first, second, third = free_ports(3)

    stack = run([[["one", first]], [["two", second], ["three", third]]])
    stack.wait_ready("one", "two", "three")
    pids = list(stack.pids().values())
    stack.process.send_signal(signal.SIGTERM)

    assert stack.process.wait(120) == 0
    assert stack.output.index("one is ready") < stack.output.index("two is ready")
    assert (sorted(stack.ends[:2]), stack.ends[2:]) == (sorted([second, third]), [first])
    assert are_gone(pids)
    assert stack.home.holder() is None


def test_a_killed_process_is_started_again_and_it_says_which_and_why(run: Run) -> None:
    first, second = free_ports(2)
    stack = run([[["one", first], ["two", second]]])
    stack.wait_ready("one", "two")
    before = stack.pids()

    os.kill(before["two"], signal.SIGKILL)
    wait_until(lambda: stack.pids().get("two", before["two"]) != before["two"], "two runs again")
    stack.wait_ready("one", "two")

    assert stack.pids()["one"] == before["one"]
    assert (
        f"two was killed by SIGKILL, its last line: child of port {second} begins; "
        "starting it again in 0.5 s"
    ) in stack.output


def test_what_cannot_be_started_again_just_now_is_tried_until_it_can(run: Run) -> None:
    (port,) = free_ports(1)
    stack = run([[["broker", port, "prepared"]]])
    stack.wait_ready("broker")

    (stack.home.root / "full").touch()
    os.kill(stack.pids()["broker"], signal.SIGKILL)
    told = "broker cannot be started ([Errno 28] no room)"
    wait_until(lambda: told in stack.output, "it is tried in vain", 120, lambda: stack.output)
    (stack.home.root / "full").unlink()

    wait_until(lambda: "broker" in stack.pids(), "it runs again", 120, lambda: stack.output)
    stack.wait_ready("broker")


def test_five_deaths_of_a_process_in_a_minute_stop_the_whole_stack(run: Run) -> None:
    first, second = free_ports(2)

    stack = run([[["steady", first], ["fragile", second, "dies"]]])
    wait_until(lambda: "steady" in stack.pids(), "steady runs")
    steady = stack.pids()["steady"]

    assert stack.process.wait(240) == 1
    assert (
        "giving up: 5 deaths of fragile in a minute; at last it ended with exit code 3"
        in stack.output
    )
    assert "fragile: cannot open the pod bay doors" in stack.output
    assert stack.output.count("starting it again") == 4
    assert are_gone([steady])
    told = r"(?s)The last one stopped by itself: giving up: 5 deaths of fragile"
    with pytest.raises(NotRunningError, match=told):
        look_at_stack(Settings(home=stack.home.root))


def test_five_processes_that_die_once_each_are_started_again(run: Run) -> None:
    names = ["one", "two", "three", "four", "five"]
    stack = run([[[name, port] for name, port in zip(names, free_ports(5), strict=True)]])
    stack.wait_ready(*names)
    before = stack.pids()

    for pid in before.values():
        os.kill(pid, signal.SIGKILL)

    def all_run_again() -> bool:
        now = stack.pids()
        return set(now) == set(names) and not set(now.values()) & set(before.values())

    wait_until(all_run_again, "all run again", 120, lambda: stack.output)
    stack.wait_ready(*names)
    assert "giving up" not in stack.output


def test_a_process_that_never_gets_ready_fails_the_start_and_says_why(run: Run) -> None:
    (port,) = free_ports(1)

    stack = run([[["mute", port, "never-ready"]]])

    assert stack.process.wait(120) == 1
    assert "mute did not get ready within 5 s: /ready does not answer" in stack.output
    assert f"mute: child of port {port} begins" in stack.output


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(run: Run) -> None:
    (port,) = free_ports(1)
    stack = run([[["mule", port, "stubborn"]]])
    stack.wait_ready("mule")
    pids = list(stack.pids().values())

    stack.process.send_signal(signal.SIGINT)

    assert stack.process.wait(120) == 0
    assert "mule does not stop after 1 s; killing it" in stack.output
    assert are_gone(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has parent death signals")
def test_nothing_outlives_a_killed_supervisor_and_the_next_start_works(run: Run) -> None:
    first, second = free_ports(2)
    plan: Plan = [[["one", first]], [["mule", second, "stubborn"]]]
    killed = run(plan)
    killed.wait_ready("one", "mule")
    pids = list(killed.pids().values())

    killed.process.kill()
    killed.process.wait()
    wait_until(lambda: are_gone(pids), "the children are gone")

    again = run(plan)
    wait_until(lambda: not set(again.pids().values()) & set(pids), "new ones run")
    again.wait_ready("one", "mule")


def test_a_second_start_from_the_same_home_is_refused(run: Run) -> None:
    first, second = free_ports(2)
    stack = run([[["one", first]]])
    stack.wait_ready("one")

    refused = run([[["other", second]]])

    assert refused.process.wait(120) == 2
    assert f"already runs from {stack.home.root} (supervisor: pid {stack.process.pid})" in (
        refused.output
    )
    assert stack.process.poll() is None
