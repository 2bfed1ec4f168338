"""What every process answers about itself: ``/health``, ``/ready``, ``/metrics``, on loopback.

For processes that are no web service. Standard library only; the metrics come as a function.
"""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _ProbeServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, but not that a client went away: probes run out of time."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve_probe(
    port: int,
    *,
    readiness: Callable[[], dict[str, Any]],
    metrics: Callable[[], bytes],
    host: str = "127.0.0.1",
    questions: Mapping[str, Callable[[], dict[str, Any]]] | None = None,
) -> ThreadingHTTPServer:
    """Serve the probe from a thread of its own and return the server.

    Args:
        port: Where to listen; 0 takes a free one.
        readiness: Returns what ``/ready`` shows; its ``"ready"`` decides 200 or 503.
        metrics: Returns the Prometheus text.
        host: Address to bind.
        questions: Path to what answers it, for more than the usual.

    Raises:
        OSError: If the port is taken.
    """
    asked = questions or {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                self._answer(200, "application/json", b'{"status":"ok"}')
            elif self.path == "/ready":
                answer = readiness()
                status = 200 if answer["ready"] else 503
                self._answer(status, "application/json", json.dumps(answer).encode())
            elif self.path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4", metrics())
            elif self.path in asked:
                self._answer(200, "application/json", json.dumps(asked[self.path]()).encode())
            else:
                self._answer(404, "text/plain", b"/health, /ready or /metrics\n")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
            """Say nothing: probes come every second."""

    server = _ProbeServer((host, port), Handler)
    threading.Thread(target=server.serve_forever, name="probe", daemon=True).start()
    return server
