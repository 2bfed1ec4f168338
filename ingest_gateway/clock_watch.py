"""Watches how far a gateway's clock is from that of the log, which is the broker's.

A gateway stamps events with its own clock and judges by it which are late. With a clock that is
off, events that it answers with 202 would be stale to the engine, or so far ahead that no id
before them could be forgotten. So it takes none until clocks are in step again.

Records of the control log say what the broker's clock was, five times a second, but may be read
late. They are held against the monotonic clock, which nobody sets: a delay can only make the
broker's clock look slower than it is. A reading that makes it faster is believed at once, one
that makes it slower only when all readings of a while agree. The own clock is no part of that:
when it is set, the skew follows with the next look.
"""

import logging
from collections import deque
from typing import NamedTuple

from ingest_gateway.reminder import Reminder
from ingest_gateway.telemetry import report_clock_skew
from schemas.times import format_time_ms

logger = logging.getLogger(__name__)

SKEW_S_MAX = 60.0
"""Ten minutes more than the lateness are ids known, five minutes ahead may an event be: clocks
that differ by less than this change nothing of either promise."""

READINGS = 4
AGREE_S = 0.4
"""So many readings, over so long, must agree that the broker's clock is slower than was thought."""

DOUBT_S = 1.5
"""After a start, an old last record may mean a silent log or a clock that is ahead. Within this
time a log that is written to has said which."""


class _Reading(NamedTuple):
    """The broker's clock less the monotonic one, and when it was read."""

    read_s: float
    ahead_ms: float


class ClockWatch:
    """Knows the broker's time by the monotonic clock. Pure but for its log; clocks are arguments.

    One thread reads, any may ask.
    """

    def __init__(self) -> None:
        self._ahead_ms: float | None = None
        self._lately: deque[_Reading] = deque()
        self._doubted_since_s: float | None = None
        self._skewed = Reminder(calm=False)

    @property
    def is_known(self) -> bool:
        """Return whether the broker's time is known: the log was read while it was written to."""
        return self._ahead_ms is not None

    def read(self, log_ms: int, own_ms: int, now_s: float) -> None:
        """Take a control record in that was the last of its log when it was read.

        Args:
            log_ms: The broker's clock when it was appended, or log time where that is ahead.
            own_ms: The own wall clock, as it was read.
            now_s: Monotonic seconds, as it was read.
        """
        ahead_ms = log_ms - now_s * 1_000
        self._lately.append(_Reading(now_s, ahead_ms))
        while len(self._lately) > READINGS and now_s - self._lately[1].read_s >= AGREE_S:
            self._lately.popleft()
        if self._ahead_ms is None:
            # A record that was read late makes the own clock look ahead, never behind.
            is_certain = own_ms - log_ms <= SKEW_S_MAX * 1_000
        else:
            is_certain = ahead_ms >= self._ahead_ms
        if is_certain:
            self._ahead_ms = ahead_ms
        elif len(self._lately) >= READINGS and now_s - self._lately[0].read_s >= AGREE_S:
            self._ahead_ms = max(reading.ahead_ms for reading in self._lately)

    def is_in_doubt(self, now_s: float) -> bool:
        """Return whether, after a start, it may soon be known what is not known yet."""
        if self._doubted_since_s is None:
            self._doubted_since_s = now_s
        return not self.is_known and now_s - self._doubted_since_s < DOUBT_S

    def skew_s(self, own_ms: int, now_s: float) -> float | None:
        """Return the own clock less the broker's; None while that is not known."""
        ahead_ms = self._ahead_ms
        return None if ahead_ms is None else (own_ms - now_s * 1_000 - ahead_ms) / 1_000

    def problem(self, own_ms: int, now_s: float) -> str | None:
        """Return what is wrong with the clocks and what to do; None if they are in step."""
        skew_s = self.skew_s(own_ms, now_s)
        if skew_s is None or abs(skew_s) <= SKEW_S_MAX:
            return None
        log_ms = own_ms - round(skew_s * 1_000)
        return (
            f"this gateway's clock says {format_time_ms(own_ms)}, the log's "
            f"{format_time_ms(log_ms)}: {abs(skew_s):.0f} s "
            f"{'ahead of' if skew_s > 0 else 'behind'} the log, must be {SKEW_S_MAX:.0f} s at "
            "most; events are refused until then, send them again. Set the clock that is wrong "
            "(NTP): this machine's or the broker's. Log time never goes back: if the broker's "
            "clock was ahead, it stands until that is passed"
        )

    def look(self, own_ms: int, now_s: float) -> None:
        """Report the present skew, and say it when it is too large."""
        skew_s = self.skew_s(own_ms, now_s)
        if skew_s is None:
            return
        report_clock_skew(skew_s)
        problem = self.problem(own_ms, now_s)
        if not self._skewed.is_due(problem is not None, now_s):
            return
        if problem is None:
            logger.info("clock_in_step skew_s=%.1f", skew_s)
        else:
            logger.error("clock_skewed skew_s=%.1f %s", skew_s, problem)
