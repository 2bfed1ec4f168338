"""``litmus trace`` and ``litmus audit`` on a real stack: where events went, and that sums hold."""

import json
import time
import uuid
from typing import Any

import httpx
import pytest

from tests.stack import Stack, wait_until

pytestmark = pytest.mark.timeout(500)


def started(stack: Stack) -> str:
    experiment_id = f"traced-{uuid.uuid4().hex[:8]}"
    body = {
        "id": experiment_id,
        "variants": [{"id": "control"}, {"id": "treatment"}],
        "metrics": [{"id": "purchase", "kind": "sum", "window": "1h"}],
    }
    experiments = f"{stack.gateway_url}/v1/experiments"
    httpx.post(experiments, json=body, timeout=30).raise_for_status()
    httpx.post(f"{experiments}/{experiment_id}/start", timeout=30).raise_for_status()
    return experiment_id


def traced(stack: Stack, unit: str, event: str) -> tuple[int, dict[str, Any]]:
    result = stack.litmus("trace", unit, event, "--json")
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)


def test_an_event_is_followed_from_the_door_to_the_look_and_to_clickhouse(stack: Stack) -> None:
    stack.wait_ready()
    experiment_id, now_ms = started(stack), int(time.time() * 1000)
    unit = f"unit-{experiment_id}"
    about = {"unit_id": unit, "timestamp": now_ms, "experiment_id": experiment_id}
    bought = {**about, "type": "metric", "event_id": "m", "metric": "purchase", "value": 2.5}
    events = [
        {**about, "type": "assignment", "event_id": "a", "variant": "treatment"},
        bought,
        bought,
        {**bought, "event_id": "old", "timestamp": 1_000},
        {**bought, "event_id": "ahead", "timestamp": now_ms + 10**7},
    ]
    httpx.post(f"{stack.gateway_url}/v1/events", json=events, timeout=30).raise_for_status()

    def is_known() -> bool:
        query, api = {"unit_id": unit, "event_id": "m"}, f"{stack.query_url}/v1"
        rows = httpx.get(f"{api}/history/rows", params=query, timeout=30).json()["events"]
        looks = httpx.get(f"{api}/experiments/{experiment_id}/looks", timeout=30).json()["looks"]
        held = httpx.get(f"{api}/experiments/{experiment_id}/results", timeout=30).json()
        units = sum(one["units"] for one in held["variants"])
        return len(rows) == 2 and units == 1 and bool(looks)

    wait_until(is_known, "a look and ClickHouse hold the event", 180)
    code, found = traced(stack, unit, "m")
    assert code == 0
    assert [row["outcome"] for row in found["rows"]] == ["fresh", "duplicate"]
    assert len(found["clickhouse"]["events"]) == 2
    [one] = [one for one in found["experiments"] if one["experiment_id"] == experiment_id]
    assert one["first_look"]["tick"] >= found["rows"][0]["tick_after"]
    assert (one["outcome"], one["metrics"][0]["unit_total"]) == ("counted", 2.5)

    _, late = traced(stack, unit, "old")
    assert (late["rows"], late["late"][0]["door"]) == ([], "http")
    _, refused = traced(stack, unit, "ahead")
    assert refused["dead_letters"][0]["code"] == "timestamp_ahead"
    code, unknown = traced(stack, unit, "nothing")
    assert (code, unknown["found"]) == (1, False)
    assert unknown["searched"]["unit_rows"] == 3


def test_an_audit_of_a_running_stack_finds_no_difference(stack: Stack) -> None:
    stack.wait_ready()
    started(stack)

    result = stack.litmus("audit", "--json")

    found = json.loads(result.stdout)
    assert (result.returncode, found["differences"]) == (0, []), result.stderr
    assert {one["folds"] for one in found["partitions"]} != {0}
    [worker] = found["workers"]
    assert (worker["error"], worker["partitions"]) == (None, list(range(len(found["partitions"]))))
