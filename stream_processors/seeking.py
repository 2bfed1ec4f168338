"""Faust resumes where the state says, never where the consumer group committed.

A worker's state knows up to which offset it is complete; the group's offset only measures lag.
State is loaded when partitions have been assigned, by its owner and from wherever it is kept: a
changelog stays the changelog of a Faust table, but Faust's own recovery of tables, one record at
a time into a copy in memory, is left out. Flow is stopped before partitions resume: otherwise
messages already fetched are thrown away and never fetched again (faust-streaming issue 596).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import faust
import mode
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP

Load = Callable[[frozenset[TP]], Awaitable[None]]
"""Given every source partition now assigned: rebuild their state, forget all others."""

Cursor = Callable[[TP], int | None]
"""The next offset to read of a source partition; None while its state is not loaded."""

_NOTHING_TO_READ_S = 1.0


def resume_from_state(
    app: faust.App, *, sources: Iterable[str], load: Load, cursor: Cursor
) -> None:
    """Make ``app`` load its state after every rebalance and read ``sources`` from its cursor.

    Args:
        app: Made with ``TableManager=SeekingTableManager`` and ``seek_to_state``.
        sources: Names of the topics that the state is built from.
        load: Called once per rebalance, while nothing is delivered.
        cursor: Called at every seek.
    """
    app.tables.seeks = (frozenset(sources), load, cursor)


def seek_to_state(app: faust.App) -> None:
    """Give ``app`` a consumer that seeks to the state; before anything else is made of it."""
    app.transport = SeekingTransport(app.conf.broker_consumer, app)


class SeekingConsumer(Consumer):
    """Consumer that never goes back to the group's offsets, nor reads changelogs."""

    async def perform_seek(self) -> None:
        """Seek to the group's offsets, for Faust's books, and then to the state's."""
        await super().perform_seek()
        sources, _, cursor = self.app.tables.seeks
        for tp in list(self.assignment()):
            if tp.topic in sources:
                offset = cursor(tp)
                if offset is not None:
                    await self.seek(tp, offset)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take partitions over; what is no source stays with the broker.

        Pausing in Faust only keeps from delivering: aiokafka would fetch, and hold back others.
        """
        try:
            await self._thread.call_thread(self._pause_fetching)
        except Exception as error:
            await self.app.crash(error)  # aiokafka would log it and go on without partitions
            raise
        await super().on_partitions_assigned(assigned, generation_id)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Watch the sources; that nothing is fetched of the others is meant so."""
        sources, _, _ = self.app.tables.seeks
        if tp.topic in sources:
            super().verify_event_path(now, tp)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume partitions, and wake the loop that fetches from them."""
        super().resume_partitions(tps)
        self._resumed.set()

    def leave_for_good(self) -> None:
        """Say so when this process stops: the others share what it owned at once.

        A static member says nothing when it stops, so that it may come back to its partitions.
        """
        if self._thread._consumer is not None:  # noqa: SLF001  # no public way
            self._thread._consumer._coordinator._group_instance_id = None  # noqa: SLF001

    def _reset_state(self) -> None:
        super()._reset_state()
        self._resumed = asyncio.Event()

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109  # as in Faust
        """Go on as soon as there is something to read; Faust looks once a second."""
        if self.flow_active and not self._get_active_partitions():
            self._resumed.clear()
            await self.wait(self._resumed, timeout=_NOTHING_TO_READ_S)
            return {}, set()
        return await super()._wait_next_records(timeout)

    async def _pause_fetching(self) -> None:
        sources, _, _ = self.app.tables.seeks
        consumer = self._thread._consumer  # noqa: SLF001  # no public way
        consumer.pause(*(tp for tp in consumer.assignment() if tp.topic not in sources))


class SeekingTransport(Transport):
    """Kafka, with our consumer."""

    Consumer = SeekingConsumer


class SeekingRecovery(Recovery):
    """Recovery that hands over to the state's own loading and cursor."""

    @mode.Service.task  # type: ignore[untyped-decorator]
    async def _restart_recovery(self) -> None:
        """Load and resume after every rebalance; begin again when another one comes between."""
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                return
            self.signal_recovery_start.clear()
            generation = self._generation_id
            try:
                await self._wait(self._load())
                await self._resume_streams(generation)
            except RebalanceAgain:
                continue
            except ServiceStopped:
                return

    async def _load(self) -> None:
        consumer = self.app.consumer
        consumer.stop_flow()
        self.app.flow_control.suspend()
        sources, load, _ = self.tables.seeks
        await load(frozenset(tp for tp in consumer.assignment() if tp.topic in sources))


class SeekingTableManager(TableManager):
    """Table manager that leaves the reading of changelogs to those who keep state in them."""

    seeks: tuple[frozenset[str], Load, Cursor]
    _recovery: Recovery | None

    @property
    def recovery(self) -> Recovery:
        """Return the recovery service, made on first use as in Faust."""
        if self._recovery is None:
            self._recovery = SeekingRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Start at once: Faust waits a second here for tables that agents make as they start."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()
