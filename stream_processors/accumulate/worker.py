"""The accumulate app: where the engine meets Faust."""

import uuid
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial

import faust
from faust.types import TP

from schemas.topics import ACCUMULATE_APP, EVENTS, PARTIALS, SEGMENTS_TABLE
from stream_processors.accumulate.agent import LivePartitions, register_accumulate_agent
from stream_processors.accumulate.writing import Write
from stream_processors.log_reading import read_newest, read_to_end
from stream_processors.seeking import resume_from_state
from stream_processors.settings import WorkerSettings
from stream_processors.worker import bind_topic, create_faust_app


def create_app(settings: WorkerSettings) -> tuple[faust.App, LivePartitions]:
    """Return the app with its agent registered, and the state that its agent drives."""
    app = create_faust_app(settings, ACCUMULATE_APP)
    table = TableChangelog(app, settings)
    live = LivePartitions(
        servers=settings.kafka,
        writer=f"{settings.instance}-{uuid.uuid4().hex[:8]}",
        records=table.records,
        changelog=table,
        publish=Partials(app).publish,
        ids_max=settings.ids_max,
    )
    register_accumulate_agent(app, events=bind_topic(app, EVENTS.name), live=live)

    async def load(assigned: frozenset[TP]) -> None:
        await live.load(assigned)
        await live.catch_up(partial(read_to_end, settings.kafka, EVENTS.name))

    resume_from_state(app, sources=[EVENTS.name], load=load, cursor=live.cursor)

    @app.on_before_shutdown.connect  # type: ignore[untyped-decorator]
    async def close(_: faust.App, **__: object) -> None:
        await live.close()

    return app, live


class TableChangelog:
    """Records in the changelog of a Faust table, which holds no copy of them."""

    def __init__(self, app: faust.App, settings: WorkerSettings) -> None:
        self._servers = settings.kafka
        self._table = app.Table(
            SEGMENTS_TABLE, key_type=bytes, value_type=bytes, partitions=settings.partitions
        )

    def records(self, partitions: Sequence[int]) -> Mapping[int, Mapping[bytes, bytes]]:
        """Return what the changelog holds of some partitions. Blocks."""
        topic = self._table.changelog_topic.get_topic_name()
        return read_newest(self._servers, topic, partitions)

    def write(self, partition: int, write: Write) -> Awaitable[object]:
        """Send a record to the changelog. The explicit partition makes this legal anywhere."""
        delivery: Awaitable[object] = self._table.send_changelog(partition, *write)
        return delivery


class Partials:
    """Publishes to litmus.partials."""

    def __init__(self, app: faust.App) -> None:
        self._app = app

    async def publish(self, partition: int, message: bytes) -> None:
        """Return once the broker has the message; raise if it was not delivered."""
        key = str(partition).encode()
        delivery = await self._app.producer.send(PARTIALS.name, key, message, 0, None, None)
        await delivery
