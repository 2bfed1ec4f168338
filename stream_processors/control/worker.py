"""The control app: one small process, so that ticks never wait for arithmetic."""

import uuid
from functools import partial

import faust

from schemas.topics import CONTROL_APP
from schemas.topics import SOURCES as SOURCE_TOPICS
from stream_processors.control.agent import SOURCES, LiveWriter, register_control_agent
from stream_processors.control.resuming import resume
from stream_processors.control.writing import REQUEST_BYTES_MAX, Writer
from stream_processors.seeking import resume_from_state
from stream_processors.settings import WorkerSettings
from stream_processors.worker import bind_topic, create_faust_app


def create_app(settings: WorkerSettings) -> tuple[faust.App, LiveWriter]:
    """Return the app with its agent registered, and what its agent drives."""
    app = create_faust_app(
        settings,
        CONTROL_APP,
        # Without a table and with 0 here Faust would spread the topics over processes: one has
        # to read them all. Others stand by.
        table_standby_replicas=1,
        topic_partitions=1,
        producer_max_request_size=REQUEST_BYTES_MAX,
    )
    live_writer = LiveWriter(app, partial(resume, settings.kafka, partial(_new_writer, settings)))
    register_control_agent(app, records=bind_topic(app, *SOURCES), live_writer=live_writer)
    resume_from_state(app, sources=SOURCES, load=live_writer.load, cursor=live_writer.cursor)
    return app, live_writer


def _new_writer(settings: WorkerSettings, origin_ms: int | None) -> Writer:
    return Writer(
        name=settings.instance,
        log_id=uuid.uuid4().hex,
        partition_count=settings.partitions,
        lateness_ms=settings.lateness_ms,
        sources=[
            f"{topic.name}/{partition}"
            for topic in SOURCE_TOPICS
            for partition in range(topic.partitions(settings.partitions))
        ],
        origin_ms=origin_ms,
    )
