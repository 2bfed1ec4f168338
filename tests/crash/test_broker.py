"""A broker that is killed and comes back: posts go on, and windows close again by themselves."""

import time
from typing import Any

import httpx
import pytest

from tests.crash.conftest import Report
from tests.stack import Stack, wait_until

ID = "broker-away"
DEFINITION = {
    "id": ID,
    "variants": [{"id": "control"}, {"id": "treatment"}],
    "metrics": [{"id": "bought", "kind": "conversion", "event": "buy", "window": "1s"}],
}


@pytest.mark.timeout(300)
def test_windows_close_again_after_the_broker_was_killed(stack: Stack, report: Report) -> None:
    stack.wait_ready()
    answered(stack, "/v1/experiments", DEFINITION)
    answered(stack, f"/v1/experiments/{ID}/start", None)
    expose(stack, range(50))
    wait_until(lambda: matured(stack) == 50, "windows close", 60, stack.explain)

    killed_at = time.monotonic()
    old_pid = stack.kill("kafka")
    wait_until(lambda: stack.pid("kafka") != old_pid, "another broker runs", 60, stack.explain)
    expose(stack, range(50, 100))
    wait_until(lambda: matured(stack) == 100, "windows close again", 120, stack.explain)

    report("broker", {"kill to the next closed window, s": round(time.monotonic() - killed_at, 2)})


def expose(stack: Stack, numbers: range) -> None:
    now_ms = time.time_ns() // 1_000_000
    events = [
        {
            "type": "assignment",
            "event_id": f"a-{number}",
            "experiment_id": ID,
            "unit_id": f"away-{number}",
            "variant": ("control", "treatment")[number % 2],
            "timestamp": now_ms,
        }
        for number in numbers
    ]
    answered(stack, "/v1/events", events)


def answered(stack: Stack, path: str, body: Any) -> None:
    """Post until it is taken in; a resend has the same ids."""

    def is_taken() -> bool:
        try:
            answer = httpx.post(stack.gateway_url + path, json=body, timeout=15)
        except httpx.TransportError:
            return False
        assert answer.status_code < 400 or answer.status_code == 503, answer.text
        return answer.status_code < 400

    wait_until(is_taken, f"{path} is answered", 60, stack.explain)


def matured(stack: Stack) -> int:
    answer = httpx.get(f"{stack.query_url}/v1/experiments/{ID}/results", timeout=15)
    if answer.status_code != 200:
        return 0
    metrics = answer.json()["metrics"]
    return sum(
        variant["units"]
        for metric in metrics
        if metric["basis"] == "matured"
        for variant in metric["variants"]
    )
