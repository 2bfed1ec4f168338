"""Definitions as of past ticks, and proof that the log is the one the state was made from.

Read once per rebalance, with a consumer of its own: from the last snapshot at or before the
earliest tick that is asked for.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas.control import ControlFold, ControlState, decode_record
from schemas.topics import CONTROL, EVENTS
from stream_processors.accumulate.records import Header

_LOG = TopicPartition(CONTROL.name, 0)
_FETCH_BYTES_MAX = 8 * 1024 * 1024
_SECONDS_MAX = 60.0


class LogMismatchError(Exception):
    """The log is not the one that the state was made from: it was cut, or made anew."""


class ControlHistory:
    """Reads litmus.control and the ticks of litmus.events."""

    def __init__(self, reader: AIOKafkaConsumer) -> None:
        self._reader = reader
        self._next: tuple[TopicPartition, int] | None = None

    async def log_id(self) -> str | None:
        """Return the id of the control log, None while it is empty."""
        begin, end = await self._bounds(_LOG)
        if begin == end:
            return None
        # The first record decides: a later one may be of a writer that lost, with its own id.
        return decode_record((await self._record_at(_LOG, begin)).value).log_id

    async def states_at(self, ticks: set[int]) -> dict[int, ControlState]:
        """Return definitions and settings as of each tick.

        Raises:
            LogMismatchError: If the log has no such tick.
        """
        if not ticks:
            return {}
        begin, end = await self._bounds(_LOG)
        offset = await self._snapshot_before(min(ticks), begin, end)
        fold = ControlFold()
        states: dict[int, ControlState] = {}
        while len(states) < len(ticks):
            if offset >= end:
                missing = sorted(ticks - set(states))
                raise LogMismatchError(f"{CONTROL.name} has no tick {missing}: it was cut")
            record = await self._record_at(_LOG, offset)
            winner = fold.take(record.offset, record.timestamp, record.value)
            if winner is not None and winner.record.number in ticks:
                states[winner.record.number] = fold.state
            offset += 1
        return states

    async def check(self, proofs: Mapping[int, list[Header]]) -> None:
        """Hold the last tick of every partition's state against the log.

        Args:
            proofs: Partition to the headers of its records.

        Raises:
            LogMismatchError: If another message, or none, is where the tick was.
        """
        for partition, headers in proofs.items():
            last = max(headers, key=lambda header: header.offset, default=None)
            if last is None or last.offset == 0:
                continue
            source = TopicPartition(EVENTS.name, partition)
            begin, end = await self._bounds(source)
            if last.offset > end:
                raise LogMismatchError(
                    f"{EVENTS.name}/{partition} ends at {end}, but the state goes to "
                    f"{last.offset}: the log was cut or made anew; restore it, or stop the "
                    "stack and all workers (`litmus down`), run `litmus recount`, and start again "
                    "(`litmus up`) to count anew what there is"
                )
            if last.offset - 1 < begin:
                continue  # trimmed by retention; contiguity is checked at the first message
            record = await self._record_at(source, last.offset - 1)
            if zlib.crc32(record.value) != last.tick_hash:
                raise LogMismatchError(
                    f"{EVENTS.name}/{partition}, offset {last.offset - 1} is not tick {last.tick} "
                    "that the state was made from: the log was made anew; restore it, or stop "
                    "the stack and all workers (`litmus down`), run `litmus recount`, and start "
                    "again (`litmus up`) to count anew what there is"
                )

    async def _snapshot_before(self, tick: int, begin: int, end: int) -> int:
        if begin == end:
            return begin
        # The last record may be a late one that lost, and so may its own snapshot be; the one
        # that it knew was valid.
        last = decode_record((await self._record_at(_LOG, end - 1)).value)
        offset = max(begin, last.snapshot_offset)
        while offset > begin:
            record = decode_record((await self._record_at(_LOG, offset)).value)
            if record.number <= tick:
                break
            offset = max(begin, record.snapshot_offset)
        return offset

    async def _bounds(self, tp: TopicPartition) -> tuple[int, int]:
        begin = (await self._reader.beginning_offsets([tp]))[tp]
        end = (await self._reader.end_offsets([tp]))[tp]
        return begin, end

    async def _record_at(self, tp: TopicPartition, offset: int) -> ConsumerRecord[bytes, bytes]:
        """Return one record; records in order come from one fetch."""
        if self._next != (tp, offset):
            # One partition at a time: assigning forgets the positions of all others.
            self._reader.assign([tp])
            self._reader.seek(tp, offset)
        async with asyncio.timeout(_SECONDS_MAX):
            record = await self._reader.getone(tp)
        self._next = (tp, offset + 1)
        return record


@asynccontextmanager
async def control_history(servers: str) -> AsyncIterator[ControlHistory]:
    """Open a history and close it again.

    Args:
        servers: Brokers, ``host:port`` separated by commas.
    """
    reader = AIOKafkaConsumer(
        bootstrap_servers=servers.split(","),
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=_FETCH_BYTES_MAX,
    )
    await reader.start()
    try:
        yield ControlHistory(reader)
    finally:
        await reader.stop()
