"""The merge app: where the merger meets Faust."""

import asyncio
from collections.abc import Awaitable, Generator, Mapping
from contextlib import closing

import faust
import msgspec
from faust.types import TP

from schemas.topics import LEDGER, MERGE_APP, MERGED_TABLE, PARTIALS
from stream_processors.log_reading import TopicMissingError, read_newest, read_to_end
from stream_processors.merge.agent import (
    LedgerTick,
    LiveMerger,
    Message,
    Send,
    encode,
    register_merge_agent,
)
from stream_processors.seeking import resume_from_state
from stream_processors.settings import WorkerSettings
from stream_processors.worker import bind_topic, create_faust_app


def create_app(settings: WorkerSettings) -> tuple[faust.App, LiveMerger]:
    """Return the app with its agent registered, and the merger that its agent drives."""
    app = create_faust_app(
        settings,
        MERGE_APP,
        topic_partitions=1,
    )
    records = TableRecords(app, settings.kafka)
    live = LiveMerger(
        partition_count=settings.partitions,
        records=records,
        publish=Publisher(app).publish,
        read_from=lambda offset: read_partials(settings.kafka, offset),
        read_ledger_tick=lambda: read_ledger_tick(settings.kafka),
    )
    register_merge_agent(app, partials=bind_topic(app, PARTIALS.name), live=live)

    async def load(assigned: frozenset[TP]) -> None:
        if assigned:
            await asyncio.to_thread(records.fetch)
        await live.load(assigned)

    resume_from_state(app, sources=[PARTIALS.name], load=load, cursor=live.cursor)
    return app, live


def read_partials(servers: str, offset: int) -> Generator[list[Message], None, None]:
    """Yield what is in ``litmus.partials`` from an offset on, to its end. Blocks, for a thread.

    If the offset is not there any more, it begins with the first one that is.
    """
    with closing(read_to_end(servers, PARTIALS.name, {0: offset})) as batches:
        for messages in batches:
            yield [(message.offset(), message.value() or b"") for message in messages]


def read_ledger_tick(servers: str) -> LedgerTick | None:
    """Return what the newest record of ``litmus.ledger`` is of; None without any. Blocks.

    Raises:
        LogUnreadableError: If the topic is there and cannot be read.
        msgspec.MsgspecError: If the record is no ledger.
    """
    try:
        newest = read_newest(servers, LEDGER.name, [0])[0]
    except TopicMissingError:
        return None
    value = newest.get(b"ledger")
    return None if value is None else msgspec.json.decode(value, type=LedgerTick)


class TableRecords:
    """Records in the changelog of a Faust table of one partition; no copy stays here."""

    def __init__(self, app: faust.App, servers: str) -> None:
        self._servers = servers
        self._fetched: dict[bytes, bytes] = {}
        self._table = app.Table(MERGED_TABLE, key_type=bytes, value_type=bytes, partitions=1)

    def fetch(self) -> None:
        """Read what the changelog holds by now. Blocks."""
        topic = self._table.changelog_topic.get_topic_name()
        self._fetched = read_newest(self._servers, topic, [0])[0]

    def read(self) -> Mapping[str, bytes]:
        """Return all records that were fetched, once."""
        fetched, self._fetched = self._fetched, {}
        return {key.decode(): value for key, value in fetched.items()}

    async def write(self, records: Mapping[str, bytes | None]) -> None:
        """Write records, the last one after the others; return once the broker has them."""
        *others, last = records.items()
        # The last says that the others are there: a crash may lose it, never only one of them.
        for together in (others, [last]):
            for delivery in [self._send(key.encode(), value) for key, value in together]:
                await delivery

    def _send(self, key: bytes, value: bytes | None) -> Awaitable[object]:
        delivery: Awaitable[object] = self._table.send_changelog(0, key, value)
        return delivery


class Publisher:
    """Sends records under their topic's key, each to the one partition of its topic."""

    def __init__(self, app: faust.App) -> None:
        self._app = app

    async def publish(self, sends: list[Send]) -> None:
        """Return once the broker has all of them; raise if one was not delivered."""
        deliveries = [
            await self._app.producer.send(
                send.topic.name,
                send.key.encode(),
                encode(send.value),
                0,
                send.timestamp_ms / 1_000,
                None,
            )
            for send in sends
        ]
        for delivery in deliveries:
            await delivery
