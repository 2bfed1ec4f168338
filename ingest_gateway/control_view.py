"""What doors and gateways know of the control log, and how to wait until they know more.

What record n changes may be used only after record n + 1 was read: then every partition of
``litmus.events`` holds tick n, so no row that needs a change can stand before it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from ingest_gateway.clock_watch import ClockWatch
from ingest_gateway.settled_watch import SettledWatch
from schemas.control import ControlFold, ControlState, Outcome


class ControlView(Protocol):
    """What a gateway knows of the control log."""

    @property
    def usable(self) -> ControlState:
        """Return the newest state that may be used."""
        ...

    @property
    def is_caught_up(self) -> bool:
        """Return whether the log was once read to its end, so that the state is worth using."""
        ...

    @property
    def settled(self) -> SettledWatch:
        """Return how far settled time is behind."""
        ...

    @property
    def clock(self) -> ClockWatch:
        """Return what is known of the broker's clock."""
        ...

    async def fresh(self) -> ControlState:
        """Return a state that holds every change answered before this call.

        Raises:
            ViewUnavailableError: If it is not known what that is.
        """
        ...

    def outcome_of(self, command_id: str) -> "Future[Outcome]":
        """Return the outcome of a command, to come once its changes are usable.

        To be called before the command is sent; cancel it to stop waiting.
        """
        ...


class _Wait(NamedTuple):
    is_over: Callable[[], bool]
    future: "Future[None]"


class View:
    """The fold, what of it may be used, and who waits for more. One thread takes, any may wait.

    Attributes:
        usable: The state up to and including the record before the last.
        usable_tick: Number of the record that it is the state after; 0 before there is one.
        settled_lag_ms: Log time less settled time, of the last record.
        log_now_ms: When the broker appended it, or its log time where that is ahead. Log time that
            lags after a silence catches up within minutes; one that is ahead waits.
    """

    def __init__(self) -> None:
        self.usable = ControlState()
        self.usable_tick = 0
        self.settled_lag_ms = 0
        self.log_now_ms = 0
        self._fold = ControlFold()
        self._pending_outcomes: list[Outcome] = []
        self._lock = threading.Lock()
        self._waits: list[_Wait] = []
        self._outcomes: dict[str, Future[Outcome]] = {}

    @property
    def next_offset(self) -> int:
        """Return the first offset that was not read."""
        return self._fold.next_offset

    @property
    def last_number(self) -> int:
        """Return the number of the last valid record; 0 before the first."""
        return self._fold.last.record.number if self._fold.last else 0

    def take(self, offset: int, appended_ms: int, value: bytes) -> bool:
        """Read one record, and tell those who waited for it; return whether it is valid."""
        state_before, number_before = self._fold.state, self.last_number
        winner = self._fold.take(offset, appended_ms, value)
        if winner is not None:
            self.usable, self.usable_tick = state_before, number_before
            self.settled_lag_ms = winner.times.log_ms - winner.times.settled_ms
            self.log_now_ms = max(appended_ms, winner.times.log_ms)
            told, self._pending_outcomes = self._pending_outcomes, winner.record.outcomes
            for outcome in told:
                self._tell(outcome)
        self._end_waits()
        return winner is not None

    def outcome_of(self, command_id: str) -> "Future[Outcome]":
        """Return the outcome of a command, to come once its changes are usable."""
        future: Future[Outcome] = Future()
        with self._lock:
            self._outcomes[command_id] = future
        future.add_done_callback(lambda done: self._forget(command_id, done))
        return future

    def read_to(self, end_offset: int) -> "Future[None]":
        """Return what is done once everything below ``end_offset`` was read."""
        return self._wait_until(lambda: self.next_offset >= end_offset)

    def tick_read(self, number: int) -> "Future[None]":
        """Return what is done once record ``number`` was read."""
        return self._wait_until(lambda: self.last_number >= number)

    def _wait_until(self, is_over: Callable[[], bool]) -> "Future[None]":
        wait = _Wait(is_over, Future())
        with self._lock:
            self._waits.append(wait)
        self._end_waits()
        return wait.future

    def _end_waits(self) -> None:
        with self._lock:
            waits, self._waits = self._waits, []
            over: list[_Wait] = []
            for wait in waits:
                has_ended = wait.future.cancelled() or wait.is_over()
                (over if has_ended else self._waits).append(wait)
        for wait in over:
            if wait.future.set_running_or_notify_cancel():
                wait.future.set_result(None)

    def _tell(self, outcome: Outcome) -> None:
        with self._lock:
            future = self._outcomes.pop(outcome.command_id, None)
        if future is not None and future.set_running_or_notify_cancel():
            future.set_result(outcome)

    def _forget(self, command_id: str, future: "Future[Outcome]") -> None:
        with self._lock:
            if self._outcomes.get(command_id) is future:
                del self._outcomes[command_id]
