"""How a writer starts: it reads litmus.control to its end before Faust hands it new records.

So it does with litmus.marks: they are many until the broker compacts them, and no window closes
before the newest are known. In litmus.control it starts at the snapshot before the last one, so
that it remembers the outcomes of at least the last ``SNAPSHOT_EVERY`` records, as a writer that has
been running does.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas.control import decode_record
from schemas.topics import CONTROL, MARKS
from stream_processors.control.writing import Writer
from stream_processors.log_reading import read_to_end

_LOG = TopicPartition(CONTROL.name, 0)
_FETCH_BYTES_MAX = 8 * 1024 * 1024
_SECONDS_MAX = 60.0
"""Without a record; how long all of them take depends on how far back the snapshots are."""

_RECORDS_AT_ONCE = 1_000


async def resume(servers: str, new_writer: Callable[[int | None], Writer]) -> Writer:
    """Return a writer that has read the control log and the marks to their present ends.

    Args:
        servers: Brokers, ``host:port`` separated by commas.
        new_writer: Makes one, given when the log's first record was appended (None: it is empty).

    Raises:
        TimeoutError: If the broker gives no record of the log for a minute.
    """
    writer = await _follow_control(servers, new_writer)
    await asyncio.to_thread(_read_marks, servers, writer)
    return writer


def _read_marks(servers: str, writer: Writer) -> None:
    for messages in read_to_end(servers, MARKS.name, {0: None}):
        for message in messages:
            writer.read_mark(message.value() or b"")
            writer.next_mark_offset = message.offset() + 1


async def _follow_control(servers: str, new_writer: Callable[[int | None], Writer]) -> Writer:
    async with _reader(servers) as reader:
        end = (await reader.end_offsets([_LOG]))[_LOG]
        begin = (await reader.beginning_offsets([_LOG]))[_LOG]
        if begin == end:
            return new_writer(None)
        writer = new_writer((await _record_at(reader, begin)).timestamp)
        last = await _record_at(reader, end - 1)
        snapshot = await _record_at(reader, max(begin, decode_record(last.value).snapshot_offset))
        reader.seek(_LOG, max(begin, decode_record(snapshot.value).snapshot_offset))
        while writer.control.next_offset < end:
            for record in await _next_records(reader):
                writer.read_control(record.offset, record.timestamp, record.value)
            await asyncio.sleep(0)  # what is fetched is given without a pause: heartbeats need one
        return writer


@asynccontextmanager
async def _reader(servers: str) -> AsyncIterator[AIOKafkaConsumer]:
    reader = AIOKafkaConsumer(
        bootstrap_servers=servers.split(","),
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=_FETCH_BYTES_MAX,
    )
    await reader.start()
    try:
        reader.assign([_LOG])
        yield reader
    finally:
        await reader.stop()


async def _record_at(reader: AIOKafkaConsumer, offset: int) -> ConsumerRecord[bytes, bytes]:
    reader.seek(_LOG, offset)
    async with asyncio.timeout(_SECONDS_MAX):
        return await reader.getone()


async def _next_records(reader: AIOKafkaConsumer) -> list[ConsumerRecord[bytes, bytes]]:
    found = await reader.getmany(
        _LOG, timeout_ms=round(_SECONDS_MAX * 1_000), max_records=_RECORDS_AT_ONCE
    )
    if not found:
        raise TimeoutError(f"no record of {CONTROL.name} came for {_SECONDS_MAX:.0f} s")
    return found[_LOG]
