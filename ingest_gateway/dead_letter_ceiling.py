"""A ceiling on dead letters: poison must neither fill the disk nor vanish. Pure.

Bytes are counted over the last hour, by the minute, for each process. Beyond the ceiling nothing
is set aside any more, so nothing that would have to be is taken either: HTTP answers 503, the
Kafka door stands still where it is.
"""

from collections import deque
from collections.abc import Iterable

from ingest_gateway.sink import Message

WINDOW_MINUTES = 60
_MINUTE_S = 60.0


class DeadLetterCeiling:
    """What may be set aside within an hour.

    Args:
        bytes_per_hour_max: The ceiling. What is set aside together always fits when nothing was
            for an hour, however large it is.
    """

    def __init__(self, bytes_per_hour_max: int) -> None:
        self.bytes_per_hour_max = bytes_per_hour_max
        self._minutes: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def has_room(self, byte_count: int, now_s: float) -> bool:
        """Return whether so many bytes may be set aside now."""
        oldest = int(now_s // _MINUTE_S) - WINDOW_MINUTES
        while self._minutes and self._minutes[0][0] <= oldest:
            self._bytes -= self._minutes.popleft()[1]
        return not self._bytes or self._bytes + byte_count <= self.bytes_per_hour_max

    def add(self, byte_count: int, now_s: float) -> None:
        """Count what is about to be set aside."""
        minute = int(now_s // _MINUTE_S)
        self._bytes += byte_count
        if self._minutes and self._minutes[-1][0] == minute:
            byte_count += self._minutes.pop()[1]
        self._minutes.append((minute, byte_count))

    def take_back(self, byte_count: int, added_at_s: float) -> None:
        """Count no more what was added then: it was never sent."""
        minute = int(added_at_s // _MINUTE_S)
        for place, (at, size) in enumerate(self._minutes):
            if at == minute:
                self._minutes[place] = (at, size - byte_count)
                self._bytes -= byte_count


def bytes_of(messages: Iterable[Message]) -> int:
    """Return what messages take up on their topic, near enough."""
    return sum(
        len(one.value) + len(one.key or b"") + sum(len(value) for _, value in one.headers)
        for one in messages
    )
