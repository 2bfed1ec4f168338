"""Runs the query API: ``python -m query_api``."""

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from query_api.app import create_app
from query_api.follower import Follower
from query_api.history.database import DATABASE
from query_api.history.queries import History
from query_api.history.sink import Sink
from query_api.live import Live
from query_api.metrics import CLOSED_CONNECTIONS, CONNECTIONS
from query_api.parts import Parts
from query_api.settings import Settings
from query_api.snapshots import Snapshots
from schemas.arrow import leave_pandas_out
from schemas.connections import BoundedConnection, ConnectionGuard, ConnectionLimits
from schemas.log_lines import log_to_stdout

DRAIN_S = 5
WEBSOCKET_BYTES_MAX = 4_096
"""Of what a client says: nothing that it says is of interest."""


def clock_ms() -> int:
    """Return the wall clock."""
    return time.time_ns() // 1_000_000


def assemble(settings: Settings) -> Parts:
    """Return the parts that the settings describe."""
    snapshots = Snapshots()
    live = Live(snapshots, clock_ms, clients_max=settings.live_clients_max)
    sink = Sink(
        settings.kafka, settings.history_dsn, DATABASE, is_shown=lambda: snapshots.caught_up
    )
    follower = Follower(settings.kafka, snapshots, live.publish)
    history = History(settings.history_dsn, DATABASE)
    return Parts(snapshots, live, history, sink, clock_ms, background=(follower, sink))


def use_own_temporary_folder(home: Path) -> None:
    """Write temporary files under ``home``, without those that a killed process left.

    chdb takes every insert from a file.
    """
    folder = home / "tmp" / "query-api"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tempfile.tempdir = str(folder.resolve())


def main() -> None:
    """Serve until SIGTERM or SIGINT; what is under way is answered first."""
    leave_pandas_out()
    log_to_stdout()
    settings = Settings()  # type: ignore[call-arg]  # the environment has it
    use_own_temporary_folder(settings.home)
    config = uvicorn.Config(
        create_app(assemble(settings)),
        host=settings.bind,
        port=settings.query_port,
        loop="uvloop",
        http=bounded_protocol(settings.connections_max),
        ws="websockets-sansio",
        ws_max_size=WEBSOCKET_BYTES_MAX,
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=DRAIN_S,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # uvicorn drains first, then raises the signal again
    uvicorn.Server(config).run()


def bounded_protocol(connections_max: int) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol, with limits on what a client may take up."""

    class BoundedProtocol(BoundedConnection, HttpToolsProtocol):
        guard = ConnectionGuard(
            ConnectionLimits(connections_max=connections_max),
            report_closing=lambda reason: CLOSED_CONNECTIONS.labels(reason.value).inc(),
            report_open=CONNECTIONS.set,
        )

    return BoundedProtocol


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
