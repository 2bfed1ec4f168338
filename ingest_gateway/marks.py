"""How far a Kafka door has taken its source partitions in: low-water marks. Pure.

A mark m of a source partition says: every record that the broker appended to it before m is in
``litmus.events``, ``litmus.late`` or ``litmus.dlq``, acknowledged. Why it may say so:

1. Marks are written in rounds. The broker stamps the marks of a round with its time of appending
   them, b. Only after the door has read that stamp does it ask for the end of each source
   partition. The broker's clock does not go back, so a record stamped before b was appended
   before the marks were, and lies below the end that is answered.
2. If all records below that end are acknowledged (the door's position is past it, and nothing
   taken in hand is under way), all records stamped before b are: the mark is b.
3. Else, if records are under way, a record not acknowledged is one of them or comes after all of
   them in the partition, so its stamp is not below the lowest of theirs: the mark is that.
4. Else nothing new is known, and the former mark stays true: what is acknowledged stays so.

Nothing of this depends on who owns the partition. A door that lost it, or starts from an old
committed offset, may know less and never claims more; all below a committed offset was
acknowledged by whoever committed it. So the highest mark ever written is a lower bound, and
readers keep the highest.

Several brokers stamp with clocks of their own, and a follower's copy may trail the end: both are
covered by ``clock_skew_ms``, which is taken off b.
"""

from collections import deque

NO_MARK_MS = 0
"""The mark of a source that nothing is known about."""


class Hand:
    """Records of one source partition that were taken in together and are under way.

    Attributes:
        next_offset: First offset after them.
        earliest_ms: The lowest of their append times.
    """

    __slots__ = ("earliest_ms", "is_acknowledged", "next_offset")

    def __init__(self, next_offset: int, earliest_ms: int) -> None:
        self.next_offset = next_offset
        self.earliest_ms = earliest_ms
        self.is_acknowledged = False


class SourceProgress:
    """Progress in one source partition, from when the door was given it.

    Args:
        position: First offset to be read, everything below being acknowledged.
        low_water_ms: The last mark known, by whichever door.

    Attributes:
        position: First offset that was not taken in hand.
        committable: First offset that is not acknowledged, or lies above one that is not.
        low_water_ms: The last mark.
    """

    def __init__(self, position: int, low_water_ms: int = NO_MARK_MS) -> None:
        self.position = position
        self.committable = position
        self.low_water_ms = low_water_ms
        self._hands: deque[Hand] = deque()

    def take(self, *, next_offset: int, earliest_ms: int) -> Hand:
        """Note that the records from ``position`` to ``next_offset`` are in hand now."""
        hand = Hand(next_offset, earliest_ms)
        self._hands.append(hand)
        self.position = next_offset
        return hand

    def skip_to(self, offset: int) -> None:
        """Note that there is nothing to take below ``offset``: transaction markers, say."""
        self.position = max(self.position, offset)
        self._settle()

    def acknowledge(self, hand: Hand) -> None:
        """Note that all records of ``hand`` are durable, perhaps before earlier ones are."""
        hand.is_acknowledged = True
        self._settle()

    @property
    def is_settled(self) -> bool:
        """Return whether nothing is under way."""
        return not self._hands

    def mark(self, *, asked_after_ms: int, end_offset: int) -> int:
        """Return the low-water mark, which never goes back.

        Args:
            asked_after_ms: Broker's time before ``end_offset`` was asked for, less the skew.
            end_offset: End of the source partition, asked for after that time.
        """
        if self._hands:
            known_ms = min(h.earliest_ms for h in self._hands if not h.is_acknowledged)
        elif self.position >= end_offset:
            known_ms = asked_after_ms
        else:
            known_ms = self.low_water_ms
        self.low_water_ms = max(self.low_water_ms, known_ms)
        return self.low_water_ms

    def _settle(self) -> None:
        while self._hands and self._hands[0].is_acknowledged:
            self.committable = self._hands.popleft().next_offset
        if not self._hands:
            self.committable = self.position
