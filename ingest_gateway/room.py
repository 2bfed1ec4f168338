"""What requests may take up in memory together; what does not fit is refused at once.

Bodies are counted as they arrive, so that many slow or large ones cannot fill the memory. A
request counts as under way once its body is there: one that trickles in holds up no other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ingest_gateway.errors import QueueFullError
from ingest_gateway.telemetry import report_bodies, report_requests_under_way

WAIT_S_MAX = 0.8
"""Of the oldest request under way. Well below `answer_timeout_ms`: what is begun gets done."""


class Held:
    """The part of the room that one request takes up."""

    def __init__(self, room: "Room") -> None:
        self._room = room
        self.byte_count = 0

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
        self._room.take_place(self)


class Room:
    """The room of one gateway. Used on its event loop.

    Args:
        bytes_max: Bytes of bodies, as received and decompressed; a single one always fits.
        requests_max: Requests whose body is there and whose answer is not.
        clock_s: Monotonic seconds.
    """

    def __init__(self, *, bytes_max: int, requests_max: int, clock_s: Callable[[], float]) -> None:
        self._bytes_max = bytes_max
        self._requests_max = requests_max
        self._clock_s = clock_s
        self._bytes = 0
        self._begun: dict[Held, float] = {}
        self._holders = 0

    @property
    def is_congested(self) -> bool:
        """Return whether requests wait so long that another one would wait in vain.

        To work on more than can be answered in time is to answer none in time.
        """
        oldest_s = next(iter(self._begun.values()), None)
        return oldest_s is not None and self._clock_s() - oldest_s > WAIT_S_MAX

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
            self._begun.pop(held, None)
            self._report()

    def take_bytes(self, byte_count: int) -> None:
        """Count bytes of a body."""
        if self._holders > 1 and self._bytes + byte_count > self._bytes_max:
            raise QueueFullError(f"bodies of {self._bytes} bytes are here, must be fewer")
        self._bytes += byte_count
        self._report()

    def take_place(self, held: Held) -> None:
        """Count a request under way."""
        if len(self._begun) >= self._requests_max:
            raise QueueFullError(f"{len(self._begun)} requests are under way, must be fewer")
        if self.is_congested:
            raise QueueFullError(f"requests wait for longer than {WAIT_S_MAX} s already")
        self._begun[held] = self._clock_s()
        self._report()

    def _report(self) -> None:
        report_bodies(self._bytes)
        report_requests_under_way(len(self._begun))
