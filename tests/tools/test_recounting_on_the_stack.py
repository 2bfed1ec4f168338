"""Merge was away for longer than partials are kept: what its error says to do helps."""

import json
from collections import defaultdict
from functools import partial
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.topics import LOOKS, PARTIALS
from stream_processors.log_reading import read_to_end
from tests.stack import Stack, wait_until
from tools.broker import EmbeddedBroker
from tools.home import Home
from tools.recounting import FORGOTTEN

pytestmark = [pytest.mark.machine, pytest.mark.long]

UNITS = 60
EXPERIMENT = "x"


def send_units(stack: Stack) -> None:
    """Create and start an experiment; send its units, each request after looks at the last one."""
    metric = {"id": "bought", "kind": "conversion", "event": "buy", "window": "1h"}
    variants = [{"id": "c", "weight": 1}, {"id": "t", "weight": 1}]
    with httpx.Client(base_url=stack.gateway_url, timeout=60.0) as client:
        body = {"id": EXPERIMENT, "variants": variants, "metrics": [metric]}
        assert client.post("/v1/experiments", json=body).status_code == 201
        assert client.post(f"/v1/experiments/{EXPERIMENT}/start", json={}).is_success
        for count in range(20, UNITS + 1, 20):
            send_assignments(client, [f"u-{number}" for number in range(count - 20, count)])
            wait_until(partial(shows, stack, count), f"{count} units are shown")


def send_assignments(client: httpx.Client, units: list[str]) -> None:
    events = [
        {"type": "assignment", "event_id": "a", "unit_id": unit, "experiment_id": EXPERIMENT,
         "variant": "ct"[number % 2]}
        for number, unit in enumerate(units)
    ]  # fmt: skip
    answer = client.post("/v1/events", json=events)
    assert answer.status_code == 202, answer.text


def shows(stack: Stack, count: int) -> bool:
    answer = httpx.get(f"{stack.query_url}/v1/experiments/{EXPERIMENT}/results", timeout=60.0)
    return sum(one["units"] for one in answer.json().get("variants", [])) == count


def looks_of(bootstrap: str) -> dict[int, list[str]]:
    """Return the identities of all looks that were published, by tick."""
    found: dict[int, list[str]] = defaultdict(list)
    for message in (m for some in read_to_end(bootstrap, LOOKS.name, {0: None}) for m in some):
        look = json.loads(message.value() or b"")["look"]
        found[look["tick"]].append(look["sha256"])
    return dict(found)


def lose_partials(home: Home) -> None:
    """Leave the topic as it is after a day and more: one report came, and all of them went."""
    with EmbeddedBroker(home.kafka) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        producer.produce(PARTIALS.name, b"gone", b"0")
        assert producer.flush(60) == 0
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        everything = [TopicPartition(PARTIALS.name, 0, -1)]  # up to its end
        for deleted in admin.delete_records(everything).values():
            assert deleted.result(60).low_watermark > 1


def test_what_the_error_says_to_do_brings_the_same_looks_back(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack") as stack:
        send_units(stack)
        before = looks_of(stack.kafka)
        refused = stack.litmus("recount")
        assert (refused.returncode, "litmus down" in refused.stdout) == (1, True)

        stack.stop()
        lose_partials(stack.home)
        stack.litmus("up", "--detach", "--deaths-max", "1")
        lost = "What lies between left the topic before it was merged"
        log = stack.home.logs / "merge.log"
        wait_until(lambda: lost in log.read_text(), "merge says what is lost", 120, stack.explain)
        said = log.read_text()
        for command in ("`litmus down`", "`litmus recount`", "`litmus up`"):
            assert command in said
        stack.litmus("down")  # the stack has ended by itself, or not yet

        done = stack.litmus("recount")
        assert done.returncode == 0, done.stdout + done.stderr
        assert all(name in done.stdout for name in FORGOTTEN)
        stack.start()

        wait_until(partial(shows, stack, UNITS), "all units are shown", 120, stack.explain)
        wait_until(
            lambda: all(len(looks_of(stack.kafka)[tick]) > 1 for tick in before),
            "all looks are published again",
            120,
            stack.explain,
        )
        after = looks_of(stack.kafka)
        assert len(before) >= 3
        assert {tick: set(after[tick]) for tick in before} == {
            tick: set(identities) for tick, identities in before.items()
        }
        assert all(len(set(identities)) == 1 for identities in after.values())
