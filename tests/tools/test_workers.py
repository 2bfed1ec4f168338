"""Workers come and go by request: the supervisor alone decides, and always keeps one."""

import pytest

from tests.stack import wait_until
from tests.tools.test_supervisor import Run, run
from tools.errors import LitmusError
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
