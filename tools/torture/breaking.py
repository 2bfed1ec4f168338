"""Breaks what a fault says, and mends it: one small procedure for each kind."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from tools.errors import LitmusError
from tools.torture.disks import Disk
from tools.torture.proxying import Proxy
from tools.torture.schedule import Fault, Kind
from tools.torture.stack import MODULES, Beside, TortureStack

READY_SECONDS_MAX = 60.0
BOTH_AT_WORK_S = 1.0
"""How long a process that was thawed works beside the one that took over."""

_POLL_S = 0.05
_STATE_DISK = "faust"
_CLICKHOUSE = "clickhouse"

_Procedures = Mapping[Kind, Callable[[Fault], Awaitable[None]]]


class Breaker:
    """Breaks a stack.

    ``begin`` returns when the fault is there, ``mend`` when nothing is left that we have to do:
    the stack must come back by itself from then on.
    """

    def __init__(self, stack: TortureStack, proxy: Proxy, disks: Mapping[str, Disk]) -> None:
        self._stack = stack
        self._proxy = proxy
        self._disks = disks
        self._substitutes: dict[int, Beside] = {}
        self._begin: _Procedures = {
            Kind.KILL: self._kill,
            Kind.TERMINATE: self._terminate,
            Kind.FREEZE: self._freeze,
            Kind.ZOMBIE: self._freeze_and_substitute,
            Kind.JOIN: self._join,
            Kind.LEAVE: self._leave,
            Kind.LOSE: self._lose,
            Kind.DRAIN: self._drain,
            Kind.BROKER_RESTART: self._terminate,
            Kind.BROKER_KILL: self._kill,
            Kind.KILL_ALL: self._kill_everything,
            Kind.SLOW_LINK: self._slow,
            Kind.CUT_LINK: self._cut,
            Kind.STALLED_LINK: self._stall,
            Kind.FULL_DISK: self._fill,
            Kind.CLOCK_STEP: self._step_clock,
        }
        self._mend: _Procedures = {
            Kind.FREEZE: self._thaw,
            Kind.ZOMBIE: self._thaw_beside_substitute,
            Kind.SLOW_LINK: self._mend_link,
            Kind.CUT_LINK: self._mend_link,
            Kind.STALLED_LINK: self._mend_link,
            Kind.FULL_DISK: self._empty,
            Kind.CLOCK_STEP: self._set_clock_right,
        }

    async def begin(self, fault: Fault) -> None:
        """Break it."""
        await self._begin[fault.kind](fault)

    async def mend(self, fault: Fault) -> None:
        """Take back what does not pass by itself."""
        mend = self._mend.get(fault.kind)
        if mend is not None:
            await mend(fault)

    async def mend_all(self) -> None:
        """Take back all that is not mended, whatever was under way."""
        for link in self._stack.links:
            with suppress(LitmusError, OSError, TimeoutError):
                await self._proxy.change(link)
        for disk in self._disks.values():
            with suppress(OSError):
                disk.free()
        with suppress(LitmusError):
            self._stack.send_all(signal.SIGCONT)
        for substitute in self._substitutes.values():
            await substitute.end(signal.SIGKILL)
        self._substitutes.clear()

    async def _kill(self, fault: Fault) -> None:
        await self._stack.send(fault.target, signal.SIGKILL)

    async def _terminate(self, fault: Fault) -> None:
        pid = await self._stack.send(fault.target, signal.SIGTERM)
        deadline = time.monotonic() + READY_SECONDS_MAX
        while self._stack.pid(fault.target) == pid:
            if time.monotonic() > deadline:
                raise LitmusError(f"{fault.target} does not end on SIGTERM.")
            await asyncio.sleep(_POLL_S)

    async def _freeze(self, fault: Fault) -> None:
        await self._stack.send(fault.target, signal.SIGSTOP)

    async def _thaw(self, fault: Fault) -> None:
        await self._stack.send(fault.target, signal.SIGCONT)

    async def _freeze_and_substitute(self, fault: Fault) -> None:
        """Freeze a process; let another of its kind take over what it had."""
        substitute = self._stack.beside(f"{fault.target}-substitute", MODULES[fault.target])
        self._substitutes[fault.number] = substitute
        substitute.start()
        await self._stack.send(fault.target, signal.SIGSTOP)

    async def _thaw_beside_substitute(self, fault: Fault) -> None:
        """Thaw it: it believes that nothing has happened. Then the other one goes."""
        await self._stack.send(fault.target, signal.SIGCONT)
        await asyncio.sleep(BOTH_AT_WORK_S)
        await self._substitutes.pop(fault.number).end(signal.SIGTERM)

    async def _join(self, _fault: Fault) -> None:
        joiner = self._stack.next_joiner()
        self._stack.joiners.append(joiner)
        joiner.start()
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not await joiner.is_ready():
            if time.monotonic() > deadline:
                raise LitmusError(f"{joiner.name} does not get ready.\n{self._stack.explain()}")
            await asyncio.sleep(_POLL_S)

    async def _leave(self, _fault: Fault) -> None:
        await self._stack.joiners.pop().end(signal.SIGTERM)

    async def _lose(self, _fault: Fault) -> None:
        await self._stack.joiners.pop().end(signal.SIGKILL)

    async def _drain(self, _fault: Fault) -> None:
        """Let a worker hand its partitions over, as ``litmus worker drain`` does."""
        await self._stack.joiners.pop().end(signal.SIGUSR2)

    async def _kill_everything(self, _fault: Fault) -> None:
        self._stack.send_all(signal.SIGKILL)
        for joiner in self._stack.joiners:
            await joiner.end(signal.SIGKILL)
            joiner.start()

    async def _slow(self, fault: Fault) -> None:
        await self._proxy.change(fault.target, delay_ms=fault.size)

    async def _cut(self, fault: Fault) -> None:
        await self._proxy.change(fault.target, is_cut=True)

    async def _stall(self, fault: Fault) -> None:
        await self._proxy.change(fault.target, is_stalled=True)

    async def _mend_link(self, fault: Fault) -> None:
        await self._proxy.change(fault.target)

    async def _fill(self, fault: Fault) -> None:
        await asyncio.to_thread(self._disks[fault.target].fill)
        if fault.target == _STATE_DISK:  # a worker must start with it
            await self._stack.send("accumulate-0", signal.SIGKILL)
        elif fault.target == _CLICKHOUSE:
            await self._stack.send("query-api", signal.SIGKILL)

    async def _empty(self, fault: Fault) -> None:
        await asyncio.to_thread(self._disks[fault.target].free)

    async def _step_clock(self, fault: Fault) -> None:
        self._stack.clocks.step(fault.target, fault.size)

    async def _set_clock_right(self, fault: Fault) -> None:
        self._stack.clocks.step(fault.target, 0)
