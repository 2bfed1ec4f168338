"""What requests may take up in memory together; what does not fit is refused at once.

Bodies are counted as they arrive, so that many slow or large ones cannot fill the memory. A
request counts as under way once its body is there: one that trickles in holds up no other.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ingest_gateway.errors import QueueFullError
from ingest_gateway.telemetry import report_bodies, report_requests_under_way


class Held:
    """The part of the room that one request takes up."""

    def __init__(self, room: "Room") -> None:
        self._room = room
        self.byte_count = 0
        self.is_under_way = False

    def grow(self, byte_count: int) -> None:
        """Take up more.

        Raises:
            QueueFullError: If there is no room for it.
        """
        self._room.take_bytes(byte_count)
        self.byte_count += byte_count

    def begin(self) -> None:
        """Say that the body is there and the work begins.

        Raises:
            QueueFullError: If too many requests are under way.
        """
        self._room.take_place()
        self.is_under_way = True


class Room:
    """The room of one gateway. Used on its event loop.

    Args:
        bytes_max: Bytes of bodies, as received and decompressed; a single one always fits.
        requests_max: Requests whose body is there and whose answer is not.
    """

    def __init__(self, *, bytes_max: int, requests_max: int) -> None:
        self._bytes_max = bytes_max
        self._requests_max = requests_max
        self._bytes = 0
        self._requests = 0
        self._holders = 0

    @contextmanager
    def hold(self) -> Iterator[Held]:
        """Count what a request takes up for as long as the context lasts."""
        held = Held(self)
        self._holders += 1
        try:
            yield held
        finally:
            self._holders -= 1
            self._bytes -= held.byte_count
            self._requests -= held.is_under_way
            self._report()

    def take_bytes(self, byte_count: int) -> None:
        """Count bytes of a body."""
        if self._holders > 1 and self._bytes + byte_count > self._bytes_max:
            raise QueueFullError(f"bodies of {self._bytes} bytes are here, must be fewer")
        self._bytes += byte_count
        self._report()

    def take_place(self) -> None:
        """Count a request under way."""
        if self._requests >= self._requests_max:
            raise QueueFullError(f"{self._requests} requests are under way, must be fewer")
        self._requests += 1
        self._report()

    def _report(self) -> None:
        report_bodies(self._bytes)
        report_requests_under_way(self._requests)
