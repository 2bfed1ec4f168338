"""The probe answers what the process says of itself, and nobody who goes away disturbs it."""

import http.client
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from schemas.probe import serve_probe


class Process:
    """What a process says of itself; ``asked`` is set while ``metrics`` waits for ``go_on``."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {"ready": True, "tick": 7}
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def readiness(self) -> dict[str, Any]:
        return self.answer

    def metrics(self) -> bytes:
        self.asked.set()
        self.go_on.wait(60)
        # More than the buffers of two sockets hold: the answer is still being written when
        # the client is gone.
        return b"litmus_rows_total 1\n" * 500_000


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def port(process: Process) -> Iterator[int]:
    server = serve_probe(0, readiness=process.readiness, metrics=process.metrics)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def get(port: int, path: str) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read()
    finally:
        connection.close()


def test_a_ready_process_answers_200_and_says_more(port: int) -> None:
    status, content_type, body = get(port, "/ready")

    assert (status, content_type) == (200, "application/json")
    assert json.loads(body) == {"ready": True, "tick": 7}


def test_a_process_that_is_not_ready_answers_503_and_says_why(port: int, process: Process) -> None:
    process.answer = {"ready": False, "behind": [3]}

    status, _, body = get(port, "/ready")

    assert status == 503
    assert json.loads(body) == {"ready": False, "behind": [3]}


def test_a_process_that_is_not_ready_is_healthy(port: int, process: Process) -> None:
    process.answer = {"ready": False}

    assert get(port, "/health")[0] == 200


def test_metrics_are_text_for_prometheus(port: int) -> None:
    status, content_type, body = get(port, "/metrics")

    assert (status, content_type) == (200, "text/plain; version=0.0.4")
    assert body.startswith(b"litmus_rows_total 1\n")


@pytest.mark.parametrize("path", ["/", "/readyz", "/ready/", "/metrics/../ready"])
def test_any_other_path_answers_404_and_names_those_there_are(port: int, path: str) -> None:
    status, _, body = get(port, path)

    assert status == 404
    assert body == b"/health, /ready or /metrics\n"


def leave(client: socket.socket) -> None:
    """Close with a reset, as a probe that ran out of time does."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def before_asking(client: socket.socket, process: Process) -> None:
    leave(client)


def in_the_middle_of_asking(client: socket.socket, process: Process) -> None:
    client.sendall(b"GET /metr")
    leave(client)


def before_the_answer(client: socket.socket, process: Process) -> None:
    process.go_on.clear()
    client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert process.asked.wait(60)
    leave(client)
    process.go_on.set()


def amid_the_answer(client: socket.socket, process: Process) -> None:
    client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert client.recv(1)
    leave(client)


@pytest.mark.parametrize(
    "when", [before_asking, in_the_middle_of_asking, before_the_answer, amid_the_answer]
)
def test_a_client_that_goes_away_leaves_no_trace(
    port: int,
    process: Process,
    capfd: pytest.CaptureFixture[str],
    when: Callable[[socket.socket, Process], None],
) -> None:
    threads = set(threading.enumerate())
    when(socket.create_connection(("127.0.0.1", port), timeout=60), process)

    assert get(port, "/health")[0] == 200
    for handling in set(threading.enumerate()) - threads:
        handling.join(60)
        assert not handling.is_alive()
    assert capfd.readouterr().err == ""


def test_a_taken_port_is_said_so(port: int, process: Process) -> None:
    with pytest.raises(OSError, match="in use"):
        serve_probe(port, readiness=process.readiness, metrics=process.metrics)


def test_a_process_that_cannot_say_how_it_is_is_still_reported(
    port: int, process: Process, capfd: pytest.CaptureFixture[str]
) -> None:
    process.answer = {}

    with pytest.raises(http.client.RemoteDisconnected):
        get(port, "/ready")

    assert "KeyError: 'ready'" in capfd.readouterr().err
