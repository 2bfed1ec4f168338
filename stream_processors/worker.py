"""How every Faust app of ours is made and run: the settings that keep its promises.

Reasons stand beside each setting that differs from Faust's defaults. The processors keep their
own offsets (see ``seeking``), so Faust is asked for membership, delivery and changelogs only.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol, TypeVar

import faust
import mode
import uvloop
from faust.types import TopicT
from prometheus_client import generate_latest

from schemas.log_lines import log_to_stdout
from schemas.partition_count import PartitionCountError
from schemas.probe import serve_probe
from stream_processors import telemetry
from stream_processors.broker_wait import await_partitions, wait_for_broker
from stream_processors.group_watch import GroupWatch
from stream_processors.patient_client import use_patient_clients
from stream_processors.seeking import SeekingTableManager, seek_to_state
from stream_processors.settings import MissingSettingsError, WorkerSettings

CRASH_GRACE_S = 2.0
"""How long Faust may take to stop after an error. Its consumer's thread can take a minute."""

CHANGELOG_RECORD_BYTES_MAX = 4 * 1024 * 1024

_log = logging.getLogger(__name__)

_SERVICE_LOGGERS = ("stream_processors.seeking", "stream_processors.group_watch")
"""Loggers under which Faust's services of ours report their own starting and stopping."""


def create_faust_app(settings: WorkerSettings, app_id: str, **changed: Any) -> faust.App:
    """Return an app without agents; ``changed`` overrides settings for one app."""
    options = _membership(settings) | _delivery() | _inactive(settings) | changed
    app = faust.App(
        app_id,
        broker=settings.broker_url,
        store=settings.store,
        datadir=str(settings.data_dir),
        key_serializer="raw",
        value_serializer="raw",
        TableManager=SeekingTableManager,
        # An error stops the process; the next start resumes at the state's own offset.
        agent_supervisor=mode.CrashingSupervisor,
        **options,
    )
    app.finalize()
    seek_to_state(app)
    return app


def bind_topic(app: faust.App, *names: str) -> TopicT:
    """Return a channel of undecoded records of existing topics.

    Agents decode for themselves. Left to Faust, a record that cannot be decoded is acknowledged
    and its error thrown into the agent.
    """
    return app.topic(
        *names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )


class Readable(Protocol):
    """What a worker drives, as far as its probe asks."""

    def readiness(self) -> dict[str, Any]:
        """Return what ``/ready`` shows."""


Driven = TypeVar("Driven", bound=Readable)


Questions = Mapping[str, Callable[[], dict[str, Any]]]
"""Path of a probe to what answers it."""


def run_process(
    create_app: Callable[[WorkerSettings], tuple[faust.App, Driven]],
    questions: Callable[[faust.App, Driven], Questions] | None = None,
) -> NoReturn:
    """Run one worker process: settings from the environment, probe, Faust; see ``run_worker``.

    Args:
        create_app: Makes the app, and what its agent drives.
        questions: Makes what the probe answers beside the usual.
    """
    try:
        settings = WorkerSettings.from_environment()
        app, driven = create_app(settings)
    except MissingSettingsError as error:
        sys.exit(str(error))
    serve_probe(
        settings.probe_port,
        readiness=driven.readiness,
        metrics=generate_latest,
        host=settings.bind,
        questions=questions(app, driven) if questions is not None else None,
    )
    telemetry.show(app)
    log_to_stdout()
    asyncio.run(wait_for_broker(settings.kafka))
    try:
        await_partitions(settings.kafka, settings.partitions)
    except PartitionCountError as error:
        sys.exit(str(error))
    run_worker(app)


def run_worker(app: faust.App) -> NoReturn:
    """Run ``app`` until SIGTERM or SIGUSR2 (exit 0), or an error (exit 1).

    After SIGTERM its partitions wait for it, a session timeout long. After SIGUSR2 it does not
    come back: the others get them at once.
    """
    app.conf.datadir.parent.mkdir(parents=True, exist_ok=True)  # Faust makes only the last level
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    # Faust says what it does in tables.
    for name in ("faust", "mode", "aiokafka", *_SERVICE_LOGGERS):
        logging.getLogger(name).setLevel(logging.WARNING)
    use_patient_clients()
    worker = DrainingWorker(app, GroupWatch(app), quiet=True, override_logging=False)
    worker.spinner = None  # it writes control characters into the log
    worker.execute_from_commandline()
    raise SystemExit  # never reached: the line above leaves by SystemExit


class DrainingWorker(faust.Worker):
    """Worker that can leave its group for good; Faust's opens a debugger at that signal.

    After an error it ends within seconds, however long Faust would wait for its own threads: what
    is not acknowledged is done again at the next start, as after a kill.
    """

    _is_ending = False

    def _crash(self, reason: BaseException) -> None:
        super()._crash(reason)
        if not self._is_ending:
            self._is_ending = True
            _end_in(CRASH_GRACE_S, reason)

    def _on_sigusr2(self) -> None:
        _log.info("drained: leaves the group, does not come back")
        self.app.consumer.leave_for_good()
        self._schedule_shutdown(signal.SIGUSR2)


def _end_in(grace_s: float, reason: BaseException) -> None:
    """End the process with exit code 1 after ``grace_s``, whatever it does by then."""

    def end() -> None:
        _log.critical("ends after %r", reason)
        os._exit(1)

    timer = threading.Timer(grace_s, end)
    timer.daemon = True
    timer.start()


def _membership(settings: WorkerSettings) -> dict[str, Any]:
    return {
        # A killed process is back with its partitions at once; another takes over after 10 s.
        "consumer_group_instance_id": settings.instance,
        # Part of the membership: a process that restarts must not look like another one.
        "canonical_url": f"http://{settings.instance}",
        "broker_session_timeout": 10.0,
        "broker_heartbeat_interval": 1.0,
        "broker_rebalance_timeout": 30.0,
        "broker_request_timeout": 60.0,
        # Catching up after a long outage is done without polling; whether it goes on, /ready says.
        "broker_max_poll_interval": 86_400.0,
        "stream_recovery_delay": 0.0,
        # Only a measure of lag: where to resume, the state knows.
        "broker_commit_interval": 1.0,
        "broker_commit_every": 500,
        "consumer_auto_offset_reset": "earliest",
    }


def _delivery() -> dict[str, Any]:
    return {
        "producer_acks": -1,
        # Also how long a batch may wait for its broker: the default is 20 minutes.
        "producer_request_timeout": 45.0,
        "producer_linger": 0.0,
        # Of checkpoints 510 MB a CPU-second; lz4, which aiokafka runs at level 9, 41, gzip 7.
        "producer_compression_type": "zstd",
        "producer_max_batch_size": 524_288,
        "producer_max_request_size": CHANGELOG_RECORD_BYTES_MAX,
        "consumer_max_fetch_size": 8 * 1024 * 1024,
        "broker_max_poll_records": 64,
        "stream_buffer_maxsize": 1024,
    }


def _inactive(settings: WorkerSettings) -> dict[str, Any]:
    return {
        # Topics are made before the processes start, with settings of their own.
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "topic_replication_factor": 1,
        "topic_partitions": settings.partitions,
        "table_standby_replicas": 0,
        "web_enabled": False,
        "worker_redirect_stdouts": False,
    }
