"""An import that is killed together with its gateway: the live engine counts every row once."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from schemas.imports import DAY_MS
from schemas.times import parse_day
from schemas.topics import LOOKS
from tests.stack import Stack, wait_until
from tests.torture.test_start_race import second_gateway
from tools.broker import client_settings
from tools.settings import CHECKOUT

UNITS = 60
DAYS = range(2, 13)
"""Days before today: all of a covariate of 14 days, also when the test runs over midnight."""

BATCH_ROWS = 40


def write_history(path: Path, metric: str, today: int) -> tuple[int, int]:
    """Write a file; return how many rows it has, and what they add up to in millionths."""
    rows = [
        {
            "unit_id": f"{metric}-{unit}",
            "metric": metric,
            "value": (unit + day) / 8,
            "timestamp": (today - day) * DAY_MS + unit,
        }
        for day in DAYS
        for unit in range(UNITS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(rows), sum(round(row["value"] * 1_000_000) for row in rows)


def assign(url: str, experiment_id: str, metric: str, units: range) -> None:
    events = [
        {
            "type": "assignment",
            "event_id": f"a-{unit}",
            "experiment_id": experiment_id,
            "unit_id": f"{metric}-{unit}",
            "variant": ("control", "treatment")[unit % 2],
        }
        for unit in units
    ]
    answer = httpx.post(f"{url}/v1/events", json=events)
    assert answer.json()["accepted"] == len(units), answer.text


@contextmanager
def running_import(stack: Stack, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command; it is killed in the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tools", "import", *arguments, "--json"],
        cwd=CHECKOUT,
        env=stack.environment,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def new_looks(stack: Stack) -> Iterator[Consumer]:
    """Read looks from now on."""
    consumer = Consumer(
        client_settings(stack.kafka)
        | {"group.id": "test-imports", "enable.auto.commit": False, "auto.offset.reset": "error"}
    )
    _, end = consumer.get_watermark_offsets(TopicPartition(LOOKS.name, 0), timeout=20)
    consumer.assign([TopicPartition(LOOKS.name, 0, end)])
    try:
        yield consumer
    finally:
        consumer.close()


@pytest.mark.timeout(500)
def test_the_engine_counts_an_import_once_though_it_and_its_gateway_are_killed(
    stack: Stack, tmp_path: Path
) -> None:
    name = f"spend-{uuid.uuid4().hex[:8]}"
    path = tmp_path / "history.ndjson"
    body = {
        "id": name,
        "variants": [{"id": "control"}, {"id": "treatment"}],
        "metrics": [{"id": name, "kind": "sum", "window": "1h", "covariate_days": 14}],
    }
    assert httpx.post(f"{stack.gateway_url}/v1/experiments", json=body).status_code == 201
    started = httpx.post(f"{stack.gateway_url}/v1/experiments/{name}/start")
    assert started.status_code == 200
    entry = httpx.get(f"{stack.gateway_url}/v1/metrics/{name}").json()
    assert entry["keep_days"] == 14
    row_count, total = write_history(path, name, parse_day(entry["live_from"]) - 1)
    assign(stack.gateway_url, name, name, range(UNITS // 2))

    def done() -> int:
        answer = httpx.get(f"{other}/v1/imports/{name}")
        return int(answer.json().get("done", 0))

    with new_looks(stack) as looks, second_gateway(stack) as other:
        command = [str(path), "--id", name, "--rows-per-batch", str(BATCH_ROWS)]
        urls = ["--gateway", stack.gateway_url, "--gateway", other]
        with running_import(stack, *command, *urls) as first:
            wait_until(lambda: done() >= 3, "three batches are in", 180, stack.explain)
            stack.kill("gateway")
            wait_until(lambda: done() >= 5, "the other gateway takes over", 180, stack.explain)
            assert first.poll() is None, "it was to be killed"
        again = subprocess.run(
            [sys.executable, "-P", "-m", "tools", "import", *command, *urls, "--json"],
            cwd=CHECKOUT,
            env=stack.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert again.returncode == 0, again.stdout + again.stderr
        report = json.loads(again.stdout)
        assert 0 < report["sent_count"] <= report["batch_count"] - 5
        assign(other, name, name, range(UNITS // 2, UNITS))
        shown = httpx.get(f"{other}/v1/imports/{name}").json()
        seen: dict[str, Any] = {}

        def is_counted() -> bool:
            for record in looks.consume(200, 0.2):
                if record.key() == name.encode() and record.error() is None:
                    seen.update(json.loads(record.value()))
            return bool(seen) and covariates(seen) == (UNITS, total)

        wait_until(is_counted, "a look has it", 120, lambda: str(seen.get("integers")))
    assert (shown["rows"], shown["next"]) == (row_count, -(-row_count // BATCH_ROWS) + 1)
    stack.wait_ready()
    wait_until(
        lambda: name in imports_that_balance(stack),
        "the ledger says that doors, log and engine agree on it",
        30,
        lambda: httpx.get(f"{stack.query_url}/v1/ledger").text,
    )


def imports_that_balance(stack: Stack) -> list[str]:
    """Return the imports of the ledger, if it balances."""
    ledger = httpx.get(f"{stack.query_url}/v1/ledger").json()
    return [one["import_id"] for one in ledger["imports"]] if ledger["balanced"] else []


def covariates(look: dict[str, Any]) -> tuple[int, int]:
    """Return units with a pre-period and the sum of their covariates, over both variants."""
    (metric,) = look["integers"]["open_covariates"]
    sums = [list(map(int, variant)) for variant in metric]
    return sum(one[0] for one in sums), sum(one[2] for one in sums)
