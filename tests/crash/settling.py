"""Experiments on a stack, and waiting until all that was sent is counted, matured and kept."""

import time
from collections.abc import Callable
from random import Random
from typing import Any

import httpx

from schemas.times import format_time_ms
from tests.crash.audit import Journal, Outcome, audit, definition_of
from tests.crash.load import WINDOWS_MS, experiment_body
from tests.crash.reading import (
    cells_of,
    manifest_ticks,
    read_checkpoints,
    read_dead_letters,
    read_log,
    read_looks,
)
from tests.stack import Stack, wait_until

SETTLED_METRIC = "litmus_merge_settled_timestamp_seconds"
STARTED_BEFORE_S = 60
AUDIT_SEED = 11


def start_experiments(stack: Stack, policies: dict[str, str]) -> None:
    """Create and start an experiment per id, with its crossover policy."""
    at = format_time_ms(round((time.time() - STARTED_BEFORE_S) * 1_000))
    with httpx.Client(base_url=stack.gateway_url, timeout=30) as client:
        for experiment_id, crossover in policies.items():
            created = client.post("/v1/experiments", json=experiment_body(experiment_id, crossover))
            assert created.status_code == 201, created.text
            started = client.post(f"/v1/experiments/{experiment_id}/start", json={"at": at})
            assert started.status_code == 200, started.text


def settle(stack: Stack, partitions: int) -> None:
    """Wait until every window has passed in the last look, and a checkpoint holds it all."""
    passed_s = time.time() + max(WINDOWS_MS) / 1_000 + 0.5  # no entry lies ahead
    wait_until(lambda: settled_s(stack) > passed_s, "windows have passed", 120, stack.explain)
    tick = _probe(stack, "merge", "ready").json()["tick"]

    def is_kept() -> bool:
        ticks = manifest_ticks(read_checkpoints(stack.kafka))
        return len(ticks) == partitions and min(ticks.values()) > tick

    wait_until(is_kept, "a cycle of checkpoints has passed", 60, stack.explain)
    is_shown: Callable[[], bool] = lambda: (_ledger(stack)["tick"] or 0) > tick  # noqa: E731
    wait_until(is_shown, "the query API has read it", 60, stack.explain)


def settled_s(stack: Stack) -> float:
    """Return the settled time of the last tick that was merged, in epoch seconds."""
    try:
        lines = _probe(stack, "merge", "metrics").text.splitlines()
    except httpx.TransportError:
        return 0.0
    return next(float(one.split()[1]) for one in lines if one.startswith(SETTLED_METRIC + " "))


def outcome_of(stack: Stack) -> Outcome:
    """Return all that the stack published."""
    public = httpx.get(f"{stack.query_url}/v1/experiments", timeout=30).json()["experiments"]
    return Outcome(
        [definition_of(one, ordinal) for ordinal, one in enumerate(public)],
        read_log(stack.kafka),
        read_looks(stack.kafka),
        cells_of(read_checkpoints(stack.kafka)),
        _ledger(stack),
        read_dead_letters(stack.kafka),
    )


def settle_and_audit(stack: Stack, journal: Journal, partitions: int) -> tuple[Outcome, list[str]]:
    """Return what was published in the end, and how it differs from what was sent."""
    stack.wait_ready()
    settle(stack, partitions)
    outcome = outcome_of(stack)
    return outcome, audit(journal, outcome, random=Random(AUDIT_SEED))


def _ledger(stack: Stack) -> dict[str, Any]:
    answer = httpx.get(f"{stack.query_url}/v1/ledger", timeout=30)
    assert answer.status_code == 200, answer.text
    ledger: dict[str, Any] = answer.json()
    return ledger


def _probe(stack: Stack, name: str, path: str) -> httpx.Response:
    entry = next(one for one in stack.describe()["processes"] if one["name"] == name)
    return httpx.get(f"http://127.0.0.1:{entry['port']}/{path}", timeout=5)
