"""Run the HTTP gateway: ``python -m ingest_gateway``. Settings come from the environment."""

import asyncio
import logging
import resource
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest_gateway.app import OpenParts, create_app
from ingest_gateway.commands import Commands
from ingest_gateway.control_follower import FRESH_SHARE, ControlFollower
from ingest_gateway.dead_letter_ceiling import DeadLetterCeiling
from ingest_gateway.group_commit import GroupCommit
from ingest_gateway.imports import ImportDoor
from ingest_gateway.intake import Intake
from ingest_gateway.producer import KafkaSink
from ingest_gateway.room import Room
from ingest_gateway.routes_request import Parts
from ingest_gateway.settings import GatewaySettings
from ingest_gateway.settled_watch import SettledWatch
from ingest_gateway.telemetry import report_closed_connection, report_connections
from ingest_gateway.warm_up import compile_kernels
from schemas.arrow import leave_pandas_out
from schemas.connections import BoundedConnection, ConnectionGuard, ConnectionLimits
from schemas.log_lines import log_to_stdout

logger = logging.getLogger(__name__)

OTHER_FILES = 256
"""Files and connections that are no clients'."""


def main() -> int:
    """Serve until SIGTERM; return the exit code."""
    leave_pandas_out()
    log_to_stdout()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    settings = GatewaySettings()
    compile_kernels()
    failures: list[str] = []

    def end(reason: str) -> None:
        """End the process; may be called on any thread."""
        failures.append(reason)
        server.should_exit = True

    server = uvicorn.Server(
        uvicorn.Config(
            create_app(kafka_parts(settings, end)),
            host=settings.bind,
            port=settings.gateway_port,
            loop="uvloop",
            http=bounded_protocol(settings),
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=settings.shutdown_timeout_s,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again when it has shut down; that is no death.
        signal.signal(number, lambda *_: None)
    server.run()
    for reason in failures:
        logger.error("gateway_ended reason=%r", reason)
    return 1 if failures or not server.started else 0


def kafka_parts(settings: GatewaySettings, end: Callable[[str], None]) -> OpenParts:
    """Return what opens the parts on a real broker.

    Args:
        settings: Settings.
        end: Called with a reason when the process must end.
    """

    @asynccontextmanager
    async def open_parts() -> AsyncIterator[Parts]:
        sink = KafkaSink(
            settings.kafka,
            on_fatal=end,
            message_timeout_ms=settings.delivery_timeout_ms,
            queue_bytes_max=settings.queue_bytes_max,
        )
        view = ControlFollower(
            settings.kafka,
            partition_count=settings.partitions,
            on_failure=lambda error: end(repr(error)),
            settled=SettledWatch(
                alert_s=settings.settled_lag_alert_s, stop_s=settings.settled_lag_max_s
            ),
            fresh_timeout_s=FRESH_SHARE * settings.answer_timeout_ms / 1_000,
        )
        group_commit = GroupCommit(
            sink,
            partition_count=settings.partitions,
            clock_s=time.monotonic,
            rows_max=settings.queue_rows_max,
            bytes_max=settings.queue_bytes_max,
        )
        view.start()
        try:
            commands = Commands(
                sink,
                view,
                timeout_ms=settings.command_timeout_ms,
                answer_timeout_ms=settings.answer_timeout_ms,
            )
            yield Parts(
                sink=sink,
                view=view,
                intake=Intake(
                    view,
                    group_commit,
                    wall_clock_ms,
                    answer_timeout_ms=settings.answer_timeout_ms,
                    ceiling=DeadLetterCeiling(settings.dead_letter_bytes_per_hour),
                    clock_s=time.monotonic,
                ),
                commands=commands,
                clock_ms=wall_clock_ms,
                new_id=new_id,
                room=Room(
                    bytes_max=settings.body_bytes_max,
                    requests_max=settings.requests_max,
                    clock_s=time.monotonic,
                ),
                imports=ImportDoor(
                    sink,
                    commands,
                    partition_count=settings.partitions,
                    new_id=new_id,
                    answer_timeout_ms=settings.answer_timeout_ms,
                ),
            )
        finally:
            await group_commit.drain()
            await sink.close()
            await asyncio.to_thread(view.stop)

    return open_parts


def bounded_protocol(settings: GatewaySettings) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol, with limits on what a client may take up."""
    limits = ConnectionLimits(
        connections_max=settings.connections_max, header_s=settings.header_timeout_s
    )

    class BoundedProtocol(BoundedConnection, HttpToolsProtocol):
        guard = ConnectionGuard(
            limits, report_closing=report_closed_connection, report_open=report_connections
        )

    allow_open_files(settings.connections_max)
    return BoundedProtocol


def allow_open_files(connections_max: int) -> None:
    """Let this process open a file for every connection, as far as the system lets it."""
    wanted = connections_max + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < wanted:
            logger.warning("few_open_files limit=%d wanted=%d", most, wanted)


def new_id() -> str:
    """Return an id that no other command has."""
    return uuid.uuid4().hex


def wall_clock_ms() -> int:
    """Return epoch milliseconds."""
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
