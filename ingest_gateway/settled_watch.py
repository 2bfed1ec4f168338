"""Watches how far settled time lags behind log time: ids are kept, and memory grows, meanwhile.

A Kafka door that is down holds settled time, and with it the horizon, where it was: no window
closes and no id is forgotten before its records are in. Numbers stay right; memory does not stay
small. So there is an alert first, and a stop of the HTTP door before the memory is full.
"""

import logging
from enum import StrEnum

from ingest_gateway.telemetry import report_settled_lag

logger = logging.getLogger(__name__)

REPEAT_S = 60.0
"""An alert that lasts is repeated this often."""


class Settled(StrEnum):
    """How far behind settled time is."""

    CURRENT = "current"
    BEHIND = "behind"
    STOPPED = "stopped"


class SettledWatch:
    """Compares the times of the last tick with what is allowed. Pure but for its log.

    Args:
        alert_s: From this lag on it is said.
        stop_s: From this lag on the HTTP door takes no events.
    """

    def __init__(self, *, alert_s: float, stop_s: float) -> None:
        self._alert_s = alert_s
        self._stop_s = stop_s
        self._said_at_s = float("-inf")
        self.lag_s = 0.0
        self.state = Settled.CURRENT

    def look(self, lag_ms: int, now_s: float) -> Settled:
        """Take the present lag in.

        Args:
            lag_ms: Log time less settled time, of the last tick.
            now_s: Monotonic seconds.
        """
        self.lag_s = lag_ms / 1_000
        report_settled_lag(self.lag_s)
        before, self.state = self.state, self._state()
        if self.state is Settled.CURRENT:
            if before is not Settled.CURRENT:
                logger.info("settled_current lag_s=%.0f", self.lag_s)
        elif self.state is not before or now_s - self._said_at_s >= REPEAT_S:
            self._said_at_s = now_s
            level = logging.ERROR if self.state is Settled.STOPPED else logging.WARNING
            logger.log(level, "settled_%s lag_s=%.0f %s", self.state, self.lag_s, self.advice)
        return self.state

    @property
    def advice(self) -> str:
        """Return what an operator can do."""
        consequence = (
            f"events over HTTP are refused from {self._stop_s:.0f} s on"
            if self.state is Settled.BEHIND
            else "events over HTTP are refused"
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
