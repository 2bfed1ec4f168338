"""Watches how far settled time lags behind log time: ids are kept, and memory grows, meanwhile.

A Kafka door that is down holds settled time, and with it the horizon, where it was: no window
closes and no id is forgotten before its records are in. Numbers stay right; memory does not stay
small. So there is an alert first, and a stop of the HTTP door before the memory is full.

While control is silent settled time stands still just as well, and no record says so: the lag then
grows with the clock.
"""

import logging
from enum import StrEnum

from ingest_gateway.reminder import Reminder
from ingest_gateway.telemetry import report_settled_lag

logger = logging.getLogger(__name__)

SILENT_S = 10.0
"""After so long without a record, control is what to look at first."""


class Settled(StrEnum):
    """How far behind settled time is."""

    CURRENT = "current"
    BEHIND = "behind"
    STOPPED = "stopped"


class SettledWatch:
    """Compares settled time with what is allowed. Pure but for its log; time is an argument.

    Args:
        alert_s: From this lag on it is said.
        stop_s: From this lag on the HTTP door takes no events.
    """

    def __init__(self, *, alert_s: float, stop_s: float) -> None:
        self._alert_s = alert_s
        self._stop_s = stop_s
        self._behind = Reminder(Settled.CURRENT)
        self._read_lag_s = 0.0
        self._appended_s: float | None = None
        self._silent_s = 0.0
        self.lag_s = 0.0
        self.state = Settled.CURRENT

    def look(self, lag_ms: int, now_s: float, *, silent_s: float = 0.0) -> Settled:
        """Take the lag of a record in.

        Args:
            lag_ms: Log time less settled time, of the last tick.
            now_s: Monotonic seconds.
            silent_s: How old the record was when it was read, if that is much.
        """
        self._read_lag_s = lag_ms / 1_000
        self._appended_s = now_s - silent_s
        return self.pass_time(now_s)

    def pass_time(self, now_s: float) -> Settled:
        """Let time pass without a record: the lag grows with it.

        Args:
            now_s: Monotonic seconds.
        """
        if self._appended_s is None:
            return self.state
        self._silent_s = now_s - self._appended_s
        self.lag_s = self._read_lag_s + self._silent_s
        report_settled_lag(self.lag_s)
        self.state = self._state()
        if self._behind.is_due(self.state, now_s):
            self._say()
        return self.state

    def _say(self) -> None:
        if self.state is Settled.CURRENT:
            logger.info("settled_current lag_s=%.0f", self.lag_s)
        else:
            level = logging.ERROR if self.state is Settled.STOPPED else logging.WARNING
            logger.log(level, "settled_%s lag_s=%.0f %s", self.state, self.lag_s, self.advice)

    @property
    def advice(self) -> str:
        """Return what an operator can do."""
        consequence = (
            f"events over HTTP are refused from {self._stop_s:.0f} s on"
            if self.state is Settled.BEHIND
            else "events over HTTP are refused"
        )
        if self._silent_s >= SILENT_S:
            return (
                f"no record of litmus.control for {self._silent_s:.0f} s: no window closes and no "
                f"id is forgotten until there is one, {consequence}: look at /ready of control"
            )
        return (
            "no window closes and no id is forgotten until the Kafka doors have caught up, "
            f"{consequence}: look at their /ready, litmus_gateway_low_water_seconds and the "
            "end of litmus.assignments and litmus.metrics"
        )

    def _state(self) -> Settled:
        if self.lag_s >= self._stop_s:
            return Settled.STOPPED
        return Settled.BEHIND if self.lag_s >= self._alert_s else Settled.CURRENT
