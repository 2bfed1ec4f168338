"""A gateway and a control process around it: in memory, and on a real broker.

Control is the real writer of the control log; only what carries its records differs. In memory
the logs are lists; on a broker a thread reads and appends.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple

import httpx
from confluent_kafka import Consumer, Producer, TopicPartition

from ingest_gateway.__main__ import kafka_parts, new_id, wall_clock_ms
from ingest_gateway.app import create_app
from ingest_gateway.clock_watch import ClockWatch
from ingest_gateway.commands import Commands
from ingest_gateway.control_view import View
from ingest_gateway.dead_letter_ceiling import DeadLetterCeiling
from ingest_gateway.group_commit import GroupCommit
from ingest_gateway.imports import ImportDoor
from ingest_gateway.intake import Intake
from ingest_gateway.room import Room
from ingest_gateway.routes_request import Parts
from ingest_gateway.settings import GatewaySettings
from ingest_gateway.settled_watch import SettledWatch
from ingest_gateway.sink import MemorySink, Message
from schemas.control import ControlState, Outcome
from schemas.topics import COMMANDS, CONTROL
from stream_processors.control.writing import Send, Writer

PARTITIONS = 3
LATENESS_MS = 3_600_000

PATIENCE_MS = 60_000
"""What a request may take here: on a busy machine it may take long, and is right all the same."""


class World(NamedTuple):
    """A running gateway.

    Attributes:
        client: Talks to it.
        parts: What it is made of.
        read: Returns all messages of a topic, partition after partition, offsets as indices.
    """

    client: httpx.AsyncClient
    parts: Parts
    read: Callable[[str], list[list[Message]]]


def writer() -> Writer:
    """Return a control writer that begins a new log."""
    return Writer(
        name="test",
        log_id="log-of-tests",
        partition_count=PARTITIONS,
        lateness_ms=LATENESS_MS,
        sources=(),
    )


class MemoryControl:
    """Control, and the gateway's view of it, over the logs of a ``MemorySink``."""

    def __init__(self, sink: MemorySink, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._is_reading = True
        self._appended_ms: list[int] = []
        self.is_caught_up = False
        self.settled = SettledWatch(alert_s=900, stop_s=3_600)
        self.clock = ClockWatch()
        self._sink = sink
        self._view = View()
        self._writer = writer()
        self._writer.begin()

    @property
    def usable(self) -> ControlState:
        return self._view.usable

    def outcome_of(self, command_id: str) -> "Future[Outcome]":
        return self._view.outcome_of(command_id)

    async def fresh(self) -> ControlState:
        await asyncio.wrap_future(self._view.read_to(len(self._sink.logs[CONTROL.name, 0])))
        return self.usable

    async def run(self) -> None:
        """Append records until cancelled."""
        while True:
            if self._is_reading:
                self.step()
                self.is_caught_up = True
            await asyncio.sleep(0.001)

    def forget(self) -> None:
        """Know nothing any more, as a gateway that has just started."""
        self._is_reading = self.is_caught_up = False
        self._view = View()

    def read_all(self) -> None:
        """Read the log from its start, and go on."""
        for offset, record in enumerate(self._sink.logs[CONTROL.name, 0]):
            self._view.take(offset, self._appended_ms[offset], record.value)
        self._is_reading = True

    def step(self) -> None:
        """Append one record, and read it back everywhere."""
        for offset, command in enumerate(self._sink.logs[COMMANDS.name, 0]):
            self._writer.read_command(offset, wall_clock_ms(), command.value)
        send = self._writer.append_next()
        assert send is not None
        log = self._sink.logs[CONTROL.name, 0]
        log.append(Message(CONTROL.name, send.value, 0))
        appended_ms = wall_clock_ms()
        self._appended_ms.append(appended_ms)
        for duty in self._writer.read_control(len(log) - 1, appended_ms, send.value):
            self._writer.acknowledge(duty)
        self._view.take(len(log) - 1, appended_ms, send.value)
        self.clock.read(self._view.log_now_ms, self._clock_ms(), time.monotonic())


@asynccontextmanager
async def memory_world(clock_ms: Callable[[], int] = wall_clock_ms) -> AsyncIterator[World]:
    """Run a gateway over memory; ``clock_ms`` is its own clock, the log has the right one."""
    sink = MemorySink()
    control = MemoryControl(sink, clock_ms)
    group_commit = GroupCommit(sink, partition_count=PARTITIONS, clock_s=time.monotonic)
    commands = Commands(sink, control, timeout_ms=PATIENCE_MS, answer_timeout_ms=PATIENCE_MS)
    parts = Parts(
        sink=sink,
        view=control,
        intake=Intake(
            control,
            group_commit,
            clock_ms,
            answer_timeout_ms=PATIENCE_MS,
            ceiling=DeadLetterCeiling(1_000_000),
            clock_s=time.monotonic,
        ),
        commands=commands,
        clock_ms=clock_ms,
        new_id=new_id,
        # Its clock stands still: no request waits too long.
        room=Room(bytes_max=128 << 20, requests_max=1_000, clock_s=lambda: 0.0),
        imports=ImportDoor(
            sink,
            commands,
            partition_count=PARTITIONS,
            new_id=new_id,
            answer_timeout_ms=PATIENCE_MS,
        ),
    )

    @asynccontextmanager
    async def open_parts() -> AsyncIterator[Parts]:
        running = asyncio.create_task(control.run())
        yield parts
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    def read(topic: str) -> list[list[Message]]:
        return [sink.logs[topic, partition] for partition in range(PARTITIONS)]

    async with serving(open_parts) as client:
        yield World(client, parts, read)


@asynccontextmanager
async def broker_world(bootstrap: str) -> AsyncIterator[World]:
    """Run a gateway on a broker; a control process must run already."""
    settings = GatewaySettings(
        kafka=bootstrap,
        partitions=PARTITIONS,
        answer_timeout_ms=PATIENCE_MS,
        delivery_timeout_ms=PATIENCE_MS,
        command_timeout_ms=PATIENCE_MS,
    )
    failures: list[str] = []
    opened: list[Parts] = []
    open_kafka_parts = kafka_parts(settings, failures.append)

    @asynccontextmanager
    async def open_parts() -> AsyncIterator[Parts]:
        async with open_kafka_parts() as parts:
            opened.append(parts)
            yield parts

    async with serving(open_parts) as client:
        yield World(client, opened[0], lambda topic: read_topic(bootstrap, topic))
    assert not failures


@asynccontextmanager
async def serving(open_parts: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve in this process, and wait until it is ready."""
    app = create_app(open_parts)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            async with asyncio.timeout(PATIENCE_MS / 1_000):
                while (await client.get("/ready")).status_code != 200:
                    await asyncio.sleep(0.02)
            yield client


def read_topic(bootstrap: str, topic: str) -> list[list[Message]]:
    """Return all records that a topic holds now."""
    consumer = _consumer(bootstrap)
    logs = []
    try:
        for partition in sorted(consumer.list_topics(topic, timeout=60).topics[topic].partitions):
            low, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=60)
            consumer.assign([TopicPartition(topic, partition, low)])
            log: list[Message] = []
            while len(log) < end - low:
                record = consumer.poll(60)
                assert record is not None
                assert record.error() is None
                headers = record.headers() or ()
                log.append(Message(topic, record.value(), partition, record.key(), headers))
            logs.append(log)
    finally:
        consumer.close()
    return logs


@contextmanager
def control_on(bootstrap: str) -> Iterator[None]:
    """Run control on a broker, on a thread: a real writer over plain clients."""
    is_stopping = threading.Event()

    def run() -> None:
        consumer, producer = _consumer(bootstrap), Producer({"bootstrap.servers": bootstrap})
        consumer.assign([TopicPartition(name, 0, 0) for name in (CONTROL.name, COMMANDS.name)])
        control = writer()
        control.begin()

        def send(one: Send) -> None:
            def on_delivery(error: Any, _message: Any) -> None:
                assert error is None, error
                control.acknowledge(one)

            producer.produce(
                one.topic,
                one.value,
                one.key,
                one.partition,
                on_delivery,
                headers=list(one.headers),
            )

        while not is_stopping.is_set():
            for record in consumer.consume(100, 0.005):
                place = (record.offset(), record.timestamp()[1], record.value())
                if record.topic() == COMMANDS.name:
                    control.read_command(*place)
                else:
                    for duty in control.read_control(*place):
                        send(duty)
            producer.poll(0.01)
            appended = control.append_next()
            if appended is not None:
                send(appended)
        producer.flush(5)
        consumer.close()

    thread = threading.Thread(target=run, name="control", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_stopping.set()
        thread.join()


def _consumer(bootstrap: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "tests",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 50,
        }
    )
