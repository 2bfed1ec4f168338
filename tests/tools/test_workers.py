"""Workers come and go by request: the supervisor alone decides, and always keeps one."""

import os
import signal
from pathlib import Path

import pytest

from tests.stack import wait_until
from tests.tools.test_supervisor import Run, SmallStack, run
from tools.errors import LitmusError
from tools.home import read_json
from tools.ports import free_ports
from tools.requests import Request, ask, refusal
from tools.workers import drain_worker

__all__ = ["run"]

pytestmark = pytest.mark.machine


def test_of_two_drains_at_once_one_is_refused_and_a_worker_stays(
    run: Run,
) -> None:
    names = ["accumulate-0", "accumulate-1"]
    stack = run([[[name, port] for name, port in zip(names, free_ports(2), strict=True)]])
    stack.wait_ready(*names)

    asked = {ask(stack.home, Request("drain", name)): name for name in names}
    wait_until(
        lambda: any(refusal(stack.home, one) for one in asked),
        "one is refused",
        120,
        lambda: stack.output,
    )
    (refused,) = [one for one in asked if refusal(stack.home, one)]
    wait_until(lambda: set(stack.pids()) == {asked[refused]}, "the other one is gone", 120)

    told = f"{asked[refused]} is the only accumulate worker that stays"
    assert told in (refusal(stack.home, refused) or "")
    assert stack.output.count("is drained") == 1
    with pytest.raises(LitmusError, match=told):
        drain_worker(stack.home, asked[refused])
    with pytest.raises(LitmusError, match=f"there are: {asked[refused]}$"):
        drain_worker(stack.home, "accumulate-7")
    assert set(stack.pids()) == {asked[refused]}


def test_a_worker_that_is_down_takes_nothing_over(run: Run) -> None:
    stack = with_one_down(run)

    told = r"accumulate-0 is not let go: no other .* \(accumulate-1: not running\)\. Ask again when"
    with pytest.raises(LitmusError, match=told):
        drain_worker(stack.home, "accumulate-0")
    (stack.home.root / "hold").unlink()
    stack.wait_ready("accumulate-0", "accumulate-1")

    ask(stack.home, Request("drain", "accumulate-0"))
    wait_until(lambda: known(stack) == {"accumulate-1"}, "it goes now", 120, lambda: stack.output)


def test_a_worker_that_is_drained_while_it_is_down_is_not_started_again(run: Run) -> None:
    stack = with_one_down(run)

    ask(stack.home, Request("drain", "accumulate-1"))
    told = "accumulate-1 is drained"
    wait_until(lambda: told in stack.output, told, 120, lambda: stack.output)
    (stack.home.root / "hold").unlink()

    wait_until(lambda: known(stack) == {"accumulate-0"}, "it is gone", 120, lambda: stack.output)
    assert stack.output.count("accumulate-1 is ready") == 1
    assert stack.ready() == {"accumulate-0"}


def test_a_worker_that_is_drained_before_it_was_ever_ready_does_not_fail_the_start(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    hold = tmp_path / "home" / "hold"
    hold.touch()
    first, second = free_ports(2)
    stack = run([[["accumulate-0", first]], [["accumulate-1", second, "held"]]])
    stack.wait_ready("accumulate-0")

    ask(stack.home, Request("drain", "accumulate-1"))
    told = "accumulate-1 is drained"
    wait_until(lambda: told in stack.output, told, 120, lambda: stack.output)
    hold.unlink()

    wait_until(
        lambda: (read_json(stack.home.stack) or {}).get("state") == "ready",
        "the stack is ready without it",
        120,
        lambda: stack.output,
    )
    wait_until(lambda: known(stack) == {"accumulate-0"}, "it is gone", 120, lambda: stack.output)
    assert "accumulate-1 is ready" not in stack.output


def with_one_down(run: Run) -> SmallStack:
    """Return a stack of two workers; the second was killed and waits, while ``hold`` is there."""
    names = ["accumulate-0", "accumulate-1"]
    first, second = free_ports(2)
    stack = run([[[names[0], first], [names[1], second, "held"]]])
    stack.wait_ready(*names)
    (stack.home.root / "hold").touch()
    os.kill(stack.pids()["accumulate-1"], signal.SIGKILL)
    told = "accumulate-1 was killed by SIGKILL"
    wait_until(lambda: told in stack.output, told, 120, lambda: stack.output)
    return stack


def known(stack: SmallStack) -> set[str]:
    """Return the names of all processes of a stack, whether they run or not."""
    description = read_json(stack.home.stack) or {"processes": []}
    return {entry["name"] for entry in description["processes"]}
