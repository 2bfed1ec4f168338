"""Carries out a schedule: breaks, mends, waits until all is well again, measures.

Three moments of a fault are noted. It *began*; it was *over* when nothing was left for an operator
to do (the kill itself; the end of a process that was asked to; the thaw; the mended link); it was
*recovered* from when a look was published, and shown by the query API, that holds an event which
each door took after it was over. Recovery is counted from when it was over; the outage from its
beginning.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tools.errors import LitmusError
from tools.torture.breaking import Breaker
from tools.torture.journal import FaultNote, Journal
from tools.torture.schedule import Fault, Kind
from tools.torture.stack import TortureStack
from tools.torture.watching import Watch

RECOVERY_SECONDS_MAX = 60.0

INSTANT = frozenset({Kind.KILL, Kind.LOSE, Kind.BROKER_KILL, Kind.KILL_ALL})


class Endured(NamedTuple):
    """A fault that was carried out; times are seconds into the run.

    Attributes:
        fault: It.
        began_s: When it began.
        over_s: When nothing was left for us to do; None if it never came so far.
        recovered_s: When it was recovered from; None if it was not.
        stall_ms: How old the newest look was at most, in between.
        problem: Why it did not survive.
    """

    fault: Fault
    began_s: float
    over_s: float | None = None
    recovered_s: float | None = None
    stall_ms: int = 0
    problem: str = ""

    @property
    def survived(self) -> bool:
        """Return whether all was well again in time."""
        return self.recovered_s is not None

    @property
    def recovery_s(self) -> float | None:
        """Return seconds from when it was over until it was recovered from."""
        if self.recovered_s is None or self.over_s is None:
            return None
        return round(self.recovered_s - self.over_s, 2)

    @property
    def outage_s(self) -> float | None:
        """Return seconds from its beginning until it was recovered from."""
        return None if self.recovered_s is None else round(self.recovered_s - self.began_s, 2)


class Siege:
    """Carries out a schedule on a stack under load.

    Attributes:
        endured: Faults that are done, in the order of their recovery.
        current: Faults that are under way.
    """

    def __init__(
        self,
        stack: TortureStack,
        breaker: Breaker,
        watch: Watch,
        journal: Journal,
        *,
        now_ms: Callable[[], int],
        recovery_seconds_max: float = RECOVERY_SECONDS_MAX,
    ) -> None:
        self._stack = stack
        self._breaker = breaker
        self._watch = watch
        self._journal = journal
        self._started_s = 0.0
        self._now_ms = now_ms
        self._seconds_max = recovery_seconds_max
        self.endured: list[Endured] = []
        self.current: list[Fault] = []

    async def carry_out(
        self, faults: Sequence[Fault], started_s: float, *, seconds_max: float
    ) -> None:
        """Do all of it; end early when something is not recovered from, or the time is up.

        Args:
            faults: In order.
            started_s: When the run began, on the monotonic clock.
            seconds_max: No fault begins after so long.
        """
        self._started_s = started_s
        under_way: list[asyncio.Task[None]] = []
        try:
            for fault in faults:
                if not fault.overlaps:
                    await asyncio.gather(*under_way)
                    under_way.clear()
                if any(not one.survived for one in self.endured):
                    break
                if self._elapsed() > seconds_max:
                    break
                await asyncio.sleep(fault.gap_s)
                under_way.append(asyncio.create_task(self._endure(fault)))
            await asyncio.gather(*under_way)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await self._breaker.mend_all()

    async def _endure(self, fault: Fault) -> None:
        self.current.append(fault)
        began_s = self._elapsed()
        done = Endured(fault, began_s)
        try:
            self._note(fault, "began")
            await self._breaker.begin(fault)
            await asyncio.sleep(fault.hold_s)
            await self._breaker.mend(fault)
            # A kill is over with itself, though it takes a moment to be seen.
            is_instant = fault.hold_s == 0 and fault.kind in INSTANT
            done = done._replace(over_s=began_s if is_instant else self._elapsed())
            self._note(fault, "over")
            done = await self._recover(done)
        except (LitmusError, OSError, TimeoutError) as error:
            done = done._replace(problem=f"{error or type(error).__name__}")
        finally:
            self.current.remove(fault)
        self._note(fault, "recovered" if done.survived else "not recovered")
        self.endured.append(done)

    async def _recover(self, done: Endured) -> Endured:
        assert done.over_s is not None
        seconds_max = self._seconds_max
        at_s = await self._watch.recovered(self._started_s + done.over_s, seconds_max)
        if at_s is None:
            problem = f"no fresh look within {seconds_max:.0f} s\n{self._stack.explain()}"
            return done._replace(problem=problem)
        done = done._replace(recovered_s=round(at_s - self._started_s, 2))
        stalls = [one.age_ms for one in self._watch.samples if one.at_s >= done.began_s]
        done = done._replace(stall_ms=max(stalls, default=0))
        try:
            await self._stack.wait_ready(seconds_max)
        except LitmusError as error:
            return done._replace(recovered_s=None, problem=str(error))
        return done

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._started_s, 2)

    def _note(self, fault: Fault, phase: str) -> None:
        note = FaultNote(fault.number, self._now_ms(), phase, str(fault.kind), fault.target)
        self._journal.append(note)
