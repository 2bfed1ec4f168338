"""Faust resumes where the state says, never where the consumer group committed.

A worker's state knows up to which offset it is complete; the group's offset only measures lag.
Faust calls its seek in two places: when recovery of the tables has completed, and from the fetch
loop while flow is off. The state is loaded only in the first (before, the changelog has not been
read); both seek to what is loaded. Flow is stopped before partitions resume: otherwise messages
already fetched are thrown away and never fetched again (faust-streaming issue 596).
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import faust
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP

Load = Callable[[frozenset[TP]], Awaitable[None]]
"""Given every source partition now assigned: rebuild their state, forget all others."""

Cursor = Callable[[TP], int | None]
"""The next offset to read of a source partition; None while its state is not loaded."""


def resume_from_state(
    app: faust.App, *, sources: Iterable[str], load: Load, cursor: Cursor
) -> None:
    """Make ``app`` load its state after recovery and read ``sources`` from the state's cursor.

    Args:
        app: Created with ``TableManager=SeekingTableManager``.
        sources: Names of the topics that the state is built from.
        load: Called once per rebalance, after the tables hold all that the changelog holds.
        cursor: Called at every seek.
    """
    app.tables.seeks = (frozenset(sources), load, cursor)


class SeekingRecovery(Recovery):
    """Recovery that hands over to the state's own cursor."""

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Load the state, then let Faust resume."""
        await self._load()
        await super().on_recovery_completed(generation_id)

    async def _resume_streams(self, generation_id: int = 0) -> None:
        """Do the same for an app without tables."""
        await self._load()
        await super()._resume_streams(generation_id)

    async def _load(self) -> None:
        consumer = self.app.consumer
        consumer.stop_flow()
        self.app.flow_control.suspend()
        sources, load, cursor = self.tables.seeks
        _seek_to_state(consumer, sources, cursor)
        await load(frozenset(tp for tp in consumer.assignment() if tp.topic in sources))


class SeekingTableManager(TableManager):
    """Table manager with a recovery that seeks to the state."""

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


def _seek_to_state(consumer: Any, sources: frozenset[str], cursor: Cursor) -> None:
    if getattr(consumer, "seeks_to_state", False):
        return
    consumer.seeks_to_state = True
    seek_to_committed = consumer.perform_seek

    async def perform_seek() -> None:
        await seek_to_committed()
        for tp in list(consumer.assignment()):
            if tp.topic in sources:
                offset = cursor(tp)
                if offset is not None:
                    await consumer.seek(tp, offset)

    consumer.perform_seek = perform_seek
