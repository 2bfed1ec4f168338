"""A worker with another number of partitions than the topic has ends before it does anything."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from schemas.partition_count import PartitionCountError
from schemas.topics import EVENTS
from stream_processors.broker_wait import await_partitions
from tests.stack import Broker, wait_until
from tools.ports import free_ports
from tools.settings import CHECKOUT
from tools.topics import create_topics, partition_counts

PARTITIONS = 3
OTHER = 5

Topics = Callable[[int], None]


@pytest.mark.machine
@pytest.mark.parametrize("app", ["control", "accumulate", "merge"])
def test_a_worker_with_another_number_ends_and_says_what_to_set(
    app: str, broker: Broker, topics: Topics, tmp_path: Path
) -> None:
    topics(PARTITIONS)
    (port,) = free_ports(1)
    environment = {
        "LITMUS_KAFKA": broker.bootstrap,
        "LITMUS_HOME": str(tmp_path),
        "LITMUS_INSTANCE": f"{app}-0",
        "LITMUS_PARTITIONS": str(OTHER),
        "LITMUS_PROBE_PORT": str(port),
    }
    ended = subprocess.run(
        [sys.executable, "-P", "-m", f"stream_processors.{app}"],
        cwd=CHECKOUT,
        env=os.environ | environment | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    assert f"{EVENTS.name} has {PARTITIONS} partitions" in ended.stderr
    assert f"Set LITMUS_PARTITIONS={PARTITIONS} for every process" in ended.stderr


@pytest.mark.machine
def test_it_waits_for_a_topic_that_is_made_later(
    broker: Broker, topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    topics(PARTITIONS)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_topics([EVENTS.name], operation_timeout=30)[EVENTS.name].result(30)
    wait_until(lambda: EVENTS.name not in partition_counts(broker.bootstrap), "it is deleted")
    errors: list[Exception] = []

    def wait() -> None:
        try:
            await_partitions(broker.bootstrap, OTHER, pause_s=0.02)
        except PartitionCountError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    with caplog.at_level(logging.WARNING):
        waiting.start()
        wait_until(lambda: any("waits" in one for one in caplog.messages), "it says so")
    assert waiting.is_alive()
    create_topics(broker.bootstrap, PARTITIONS)
    waiting.join(60)
    assert f"LITMUS_PARTITIONS={PARTITIONS}" in str(errors[0])
    await_partitions(broker.bootstrap, PARTITIONS)
