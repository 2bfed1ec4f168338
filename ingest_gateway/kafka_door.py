"""The Kafka door as a process: plain JSON records in, packed batches out.

Run it with ``python -m ingest_gateway.kafka_door``; ``door_loop`` says what it does.
"""

import logging
import signal
import sys
import threading
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from prometheus_client import generate_latest

from ingest_gateway.control_follower import ControlFollower, connection_config
from ingest_gateway.door_loop import DoorFailedError, KafkaDoor
from ingest_gateway.settings import KafkaDoorSettings
from ingest_gateway.settled_watch import Settled, SettledWatch
from ingest_gateway.source_positions import topic_ids_of
from ingest_gateway.telemetry import REGISTRY
from ingest_gateway.warm_up import compile_kernels
from schemas.arrow import leave_pandas_out
from schemas.log_lines import log_to_stdout
from schemas.probe import serve_probe

logger = logging.getLogger(__name__)


class DoorState:
    """How far the start of the door got, and why it stands still, for ``/ready``.

    Attributes:
        conditions: All of them must hold.
        settled: How far settled time is behind.
    """

    def __init__(self) -> None:
        self.conditions = {"control_log_read": False, "group_joined": False, "marks_move": False}
        self.settled: SettledWatch | None = None
        self._halted: str | None = None

    def halt(self, reason: str | None) -> None:
        """Note why the door stands still; None when it goes on."""
        self._halted = reason

    def describe(self) -> dict[str, Any]:
        """Return what ``/ready`` answers."""
        is_ready = all(self.conditions.values()) and self._halted is None
        state: dict[str, Any] = {"ready": is_ready} | self.conditions | {"halted": self._halted}
        if self.settled is not None:
            state |= {"settled": self.settled.state, "settled_lag_s": self.settled.lag_s}
            if self.settled.state is not Settled.CURRENT:
                state["settled_advice"] = self.settled.advice
        return state


def main() -> int:
    """Run the door until SIGTERM; return the exit code."""
    leave_pandas_out()
    log_to_stdout()
    settings = KafkaDoorSettings()
    is_stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: is_stopping.set())
    state = DoorState()
    serve_probe(
        settings.probe_port,
        readiness=state.describe,
        metrics=lambda: generate_latest(REGISTRY),
        host=settings.bind,
    )
    compile_kernels()
    try:
        run_door(settings, state, is_stopping)
    except (DoorFailedError, KafkaException):
        logger.exception("kafka_door_failed")
        return 1
    return 0


def run_door(settings: KafkaDoorSettings, state: DoorState, is_stopping: threading.Event) -> None:
    """Run the door until told to stop, noting in ``state`` how far its start got.

    Raises:
        DoorFailedError: If it cannot go on, or ``settings.partitions`` is not what the topic has.
        KafkaException: If reading cannot go on.
    """
    failures: list[Exception] = []

    def on_failure(error: Exception) -> None:
        failures.append(error)
        is_stopping.set()

    admin = AdminClient(connection_config(settings.kafka), logger=logger)
    state.settled = SettledWatch(
        alert_s=settings.settled_lag_alert_s, stop_s=settings.settled_lag_max_s
    )
    follower = ControlFollower(
        settings.kafka,
        partition_count=settings.partitions,
        on_failure=on_failure,
        settled=state.settled,
    )
    follower.start()
    try:
        topic_ids = _await_topic_ids(admin, is_stopping)
        while not follower.is_caught_up and not is_stopping.wait(0.05):
            pass
        state.conditions["control_log_read"] = follower.is_caught_up
        if not is_stopping.is_set():
            door = KafkaDoor(
                settings,
                follower=follower,
                topic_ids=topic_ids,
                on_assigned=lambda: state.conditions.update(group_joined=True),
                on_marks=lambda moving: state.conditions.update(marks_move=moving),
                on_halt=state.halt,
            )
            door.run(is_stopping)
    finally:
        follower.stop()
    if failures:
        raise DoorFailedError(f"the control log is not followed: {failures[0]}") from failures[0]


def _await_topic_ids(admin: AdminClient, is_stopping: threading.Event) -> dict[str, str]:
    while not is_stopping.is_set():
        try:
            return topic_ids_of(admin)
        except KafkaException as error:
            logger.info("topics_awaited reason=%r", error.args[0].str())
            is_stopping.wait(0.2)
    return {}


if __name__ == "__main__":
    sys.exit(main())
