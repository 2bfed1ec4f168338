"""The whole stack as ``litmus up`` starts it: every process real, every one replaceable."""

import json
import signal

import pytest

from tests.stack import Stack, wait_until

pytestmark = pytest.mark.machine

PROCESSES = {
    "kafka",
    "control",
    "gateway",
    "kafka-door",
    "accumulate-0",
    "merge",
    "query-api",
}


def test_status_lists_every_process_and_address(stack: Stack) -> None:
    stack.wait_ready()

    result = stack.litmus("status", "--json")

    assert result.returncode == 0
    status = json.loads(result.stdout)
    assert {entry["name"] for entry in status["processes"]} == PROCESSES
    assert all(entry["ready"] and entry["pid"] for entry in status["processes"])
    assert (status["gateway"], status["query"]) == (stack.gateway_url, stack.query_url)
    assert status["kafka"] == stack.kafka


def test_a_killed_worker_is_started_again(stack: Stack) -> None:
    stack.wait_ready()

    killed = stack.kill("accumulate-0")
    assert stack.litmus("status").returncode == 1
    stack.wait_ready()

    assert stack.pid("accumulate-0") != killed
    log = (stack.home.logs / "supervisor.log").read_text()
    assert "accumulate-0 was killed by SIGKILL" in log


def test_a_second_up_is_refused(stack: Stack) -> None:
    refused = stack.litmus("up", "--detach")

    assert refused.returncode == 1
    assert refused.stdout.startswith("Litmus already runs"), refused.stdout


def test_data_survive_down_and_up_and_the_supervisors_death(stack: Stack) -> None:
    stack.wait_ready()
    kafka = stack.kafka
    described = stack.litmus("topics", "list", "--json").stdout
    pids = {name: stack.pid(name) for name in PROCESSES}
    stack.stop()
    try:
        assert stack.litmus("status").returncode == 1
    finally:
        stack.start()
    assert stack.kafka == kafka
    assert stack.litmus("topics", "list", "--json").stdout == described
    assert not {stack.pid(name) for name in PROCESSES} & set(pids.values())

    stack.kill_supervisor()
    try:
        wait_until(lambda: stack.home.holder() is None, "the home is free")
    finally:
        stack.start()
    assert stack.litmus("topics", "create").stdout.strip() == "all topics are there"


def test_every_process_ends_by_itself_when_asked(stack: Stack) -> None:
    """A clean end is exit code 0; the supervisor tells what it saw."""
    stack.wait_ready()

    for name in sorted(PROCESSES - {"kafka"}):
        killed = stack.kill(name, signal.SIGTERM)
        wait_until(lambda name=name, killed=killed: stack.pid(name) != killed, f"{name} is new")

    stack.wait_ready()
    log = (stack.home.logs / "supervisor.log").read_text()
    assert {name for name in PROCESSES if f"{name} ended with exit code 0" in log} == (
        PROCESSES - {"kafka"}
    )
