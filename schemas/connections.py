"""Limits on the connections of an HTTP server, which uvicorn leaves to a proxy in front of it.

How many there may be, how long a client may take over its headers, its body, and the answer. Mixed
into the server's protocol class by each service; standard library only.
"""

import asyncio
import time
from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Any, ClassVar, NamedTuple, cast

SWEEP_INTERVAL_S = 0.5
HEADER_OVERHEAD_BYTES = 4
"""Colon, space and the end of the line."""

LINGER_S = 1.0
REFUSED_S = 1.0
"""How long a connection that is one too many may take to send a request, and get its 503."""


class ConnectionLimits(NamedTuple):
    """What a server allows.

    Attributes:
        connections_max: Connections at a time.
        header_s: From a connection, or a request's first byte, to the end of its headers.
        header_bytes_max: Of a request's line and headers.
        body_s: From the end of the headers to the end of the body.
        answer_s: How long a client may take nothing of an answer that is waiting for it.
    """

    connections_max: int = 2_000
    header_s: float = 10.0
    header_bytes_max: int = 32_000
    body_s: float = 14.0
    answer_s: float = 15.0


class Closing(StrEnum):
    """Why the server closed a connection: label of a metric."""

    FULL = "full"
    IDLE_WHEN_FULL = "idle_when_full"
    SLOW_HEADERS = "slow_headers"
    LARGE_HEADERS = "large_headers"
    SLOW_BODY = "slow_body"
    SLOW_READER = "slow_reader"


class _Phase(Enum):
    IDLE = 0
    HEADERS = 1
    BODY = 2
    ANSWER = 3


_SLOW = {_Phase.HEADERS: Closing.SLOW_HEADERS, _Phase.BODY: Closing.SLOW_BODY}

_HEAD = (
    b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\n"
    b"%sconnection: close\r\n\r\n"
)
_PROBLEM = b'{"type":"about:blank","title":"%s","status":%d,"detail":"%s","code":"%s"}'


class ConnectionGuard:
    """All connections of one server. Lives in its event loop.

    Args:
        limits: What is allowed.
        report_closing: Told why a connection is closed.
        report_open: Told how many there are.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        *,
        report_closing: Callable[[Closing], None],
        report_open: Callable[[int], None],
    ) -> None:
        self.limits = limits
        self.report_closing = report_closing
        self._report_open = report_open
        self._open: set[BoundedConnection] = set()
        self._idle: dict[BoundedConnection, None] = {}
        self._is_sweeping = False

    def admit(self, connection: "BoundedConnection") -> bool:
        """Return whether a new connection may stay; the one idle for longest may have to go."""
        if len(self._open) >= self.limits.connections_max:
            longest_idle = next(iter(self._idle), None)
            if longest_idle is None:
                self.report_closing(Closing.FULL)
                return False
            self.forget(longest_idle)
            longest_idle.close(Closing.IDLE_WHEN_FULL)
        self._open.add(connection)
        self._report_open(len(self._open))
        self._sweep_later()
        return True

    def forget(self, connection: "BoundedConnection") -> None:
        """Note that a connection has ended, or is none of HTTP any more."""
        self._open.discard(connection)
        self._idle.pop(connection, None)
        self._report_open(len(self._open))

    def note_idle(self, connection: "BoundedConnection", *, is_idle: bool) -> None:
        """Note whether a connection waits for its next request."""
        if is_idle and connection in self._open:
            self._idle[connection] = None
        else:
            self._idle.pop(connection, None)

    def _sweep_later(self) -> None:
        if not self._is_sweeping:
            self._is_sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_INTERVAL_S, self._sweep)

    def _sweep(self) -> None:
        self._is_sweeping = False
        now_s = time.monotonic()
        for connection in [one for one in self._open if one.deadline_s < now_s]:
            connection.close_slow()
        if self._open:
            self._sweep_later()


class BoundedConnection(asyncio.Protocol):
    """Mixed into a protocol class of uvicorn, before it; one instance is one connection.

    Attributes:
        guard: Of the server; set by the class that is made for it.
        deadline_s: Monotonic time at which it is too slow.
    """

    guard: ClassVar[ConnectionGuard]
    deadline_s: float

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it once it has said something."""
        # uvloop's transports are asyncio's in all but their class.
        self._wire = cast("asyncio.Transport", transport)
        self._header_bytes = 0
        self._is_refused = not self.guard.admit(self)
        if self._is_refused:
            asyncio.get_running_loop().call_later(REFUSED_S, transport.close)
            return
        self._enter(_Phase.HEADERS)
        self.guard.note_idle(self, is_idle=True)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of it."""
        if not self._is_refused:
            self.guard.forget(self)
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless it is too much."""
        if self._is_over:
            return
        if self._is_refused:
            self._answer_and_close(503, "Service Unavailable", "too many connections")
            return
        self.guard.note_idle(self, is_idle=False)
        if self._phase is _Phase.IDLE:
            self._header_bytes = 0
            self._enter(_Phase.HEADERS)
        super().data_received(data)
        if self._phase is _Phase.HEADERS:
            self._header_bytes += len(data)
            if self._header_bytes > self.guard.limits.header_bytes_max:
                self._refuse_headers()

    def eof_received(self) -> None:
        """Pass it on, unless there is no one to pass it to."""
        if not self._is_refused:
            super().eof_received()

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read."""
        if not self._is_refused:
            self._is_blocked = True
            self.deadline_s = time.monotonic() + self.guard.limits.answer_s
            super().pause_writing()

    def resume_writing(self) -> None:
        """Go on."""
        if not self._is_refused:
            self._is_blocked = False
            self._enter(self._phase)
            super().resume_writing()

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._parsed_bytes = 0
        super().on_message_begin()  # type: ignore[misc]  # of the server's class

    def on_url(self, url: bytes) -> None:
        """Count, and pass it on."""
        self._parsed_bytes += len(url)
        super().on_url(url)  # type: ignore[misc]  # the same

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count, and pass it on."""
        self._parsed_bytes += len(name) + len(value) + HEADER_OVERHEAD_BYTES
        if self._parsed_bytes <= self.guard.limits.header_bytes_max:
            super().on_header(name, value)  # type: ignore[misc]  # the same

    def on_body(self, body: bytes) -> None:
        """Pass it on, unless its request was refused."""
        if not self._is_over:
            super().on_body(body)  # type: ignore[misc]  # the same

    def on_headers_complete(self) -> None:
        """Begin to wait for the body."""
        self._header_bytes = 0
        self._enter(_Phase.BODY)
        if self._parsed_bytes > self.guard.limits.header_bytes_max:
            self._refuse_headers()
            return
        super().on_headers_complete()  # type: ignore[misc]  # the same

    def on_message_complete(self) -> None:
        """Wait for nothing: what an answer may take is the application's affair."""
        self._enter(_Phase.ANSWER)
        if self._is_over:
            return
        super().on_message_complete()  # type: ignore[misc]  # the same

    def on_response_complete(self) -> None:
        """Be idle, unless the body is still coming or the next request waits already."""
        super().on_response_complete()  # type: ignore[misc]  # the same
        waiting: Any = getattr(self, "timeout_keep_alive_task", None)
        if self._phase is _Phase.ANSWER and waiting is not None:
            self._enter(_Phase.IDLE)
            self.guard.note_idle(self, is_idle=True)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to the protocol of WebSockets, which has limits of its own."""
        self.guard.forget(self)
        super().handle_websocket_upgrade()  # type: ignore[misc]  # the same

    def close_slow(self) -> None:
        """Close it for what it is slow at."""
        reason = Closing.SLOW_READER if self._is_blocked else _SLOW.get(self._phase)
        self.close(reason or Closing.SLOW_READER)

    def close(self, reason: Closing) -> None:
        """Close it now; what waits to be sent is dropped."""
        self.guard.report_closing(reason)
        self._wire.abort()

    _is_blocked = False
    _is_over = False
    _parsed_bytes = 0

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        if self._is_blocked:
            return
        limits = self.guard.limits
        allowed_s = {_Phase.HEADERS: limits.header_s, _Phase.BODY: limits.body_s}
        self.deadline_s = time.monotonic() + allowed_s.get(phase, float("inf"))

    def _refuse_headers(self) -> None:
        self.guard.report_closing(Closing.LARGE_HEADERS)
        self._answer_and_close(431, "Request Header Fields Too Large", "send fewer headers")

    def _answer_and_close(self, status: int, title: str, detail: str) -> None:
        self._is_over = True
        if self._wire.is_closing():
            return
        code = title.lower().replace(" ", "_")
        content = _PROBLEM % (title.encode(), status, detail.encode(), code.encode())
        retry = b"retry-after: 1\r\n" if status == 503 else b""
        self._wire.write(_HEAD % (status, title.encode(), len(content), retry) + content)
        if self._wire.can_write_eof():
            self._wire.write_eof()
        # What still arrives is read and forgotten: to close at once would be to cut the answer off.
        self.deadline_s = float("inf")
        asyncio.get_running_loop().call_later(LINGER_S, self._wire.abort)
