"""How large a control record gets with its snapshot, and what control does beyond that."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiokafka.codec import zstd_encode
from aiokafka.errors import MessageSizeTooLargeError

from schemas.control import SNAPSHOT_EVERY, ControlRecord, ControlState, Settings, Times
from schemas.control import decode_record as decoded
from schemas.topics import CONTROL
from stream_processors.control.agent import LiveWriter
from stream_processors.control.writing import (
    REQUEST_BYTES_MAX,
    SNAPSHOT_BYTES_MAX,
    SNAPSHOT_JSON_BYTES_MAX,
    Send,
    Writer,
)
from tests.stream_processors.control.logs import LATENESS_MS
from tests.stream_processors.control.operating import BODY, NOW_MS, Operator

MARGIN = 3_000
"""Bytes by which records of the same state may differ: times, offsets, who wrote it."""

RECORD_OVERHEAD_BYTES = 100_000
TEXT_BYTES = 9_000
PLAIN = ("the new form makes more visitors buy, because it is shorter; " * 200)[:TEXT_BYTES]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def random_text() -> Callable[[], str]:
    """Return texts that hardly compress."""
    rng = random.Random(1)
    return lambda: "".join(rng.choices(LETTERS, k=TEXT_BYTES))


def log_with(text: Callable[[], str], json_bytes: int) -> bytes:
    """Return the record before a snapshot is due, with archived definitions, of that size."""
    operator = Operator()
    operator.send("create", **BODY)
    definitions, size = {}, 0
    while size < json_bytes - 2 * TEXT_BYTES:
        number = len(definitions)
        one = msgspec.structs.replace(
            operator.x, id=f"x{number}", ordinal=number, status="archived", name=text()
        )
        definitions[one.id] = one
        size += len(msgspec.json.encode(one)) + len(one.id) + 4
    value = _record(definitions)
    padded = one.name + "x" * (json_bytes - len(value))
    value = _record(definitions | {one.id: msgspec.structs.replace(one, name=padded)})
    assert len(value) == json_bytes
    return value


def _record(definitions: dict[str, Any]) -> bytes:
    state, times = ControlState(definitions, Settings()), Times(0, 0, 0)
    number = SNAPSHOT_EVERY - 1
    return msgspec.json.encode(
        ControlRecord("log", number, times, None, 0, 0, [], [], -1, state, "seed")
    )


def writer_after(value: bytes) -> Writer:
    writer = Writer(name="w", log_id="log", partition_count=1, lateness_ms=LATENESS_MS, sources=[])
    writer.read_control(0, NOW_MS, value)
    return writer


def next_record(writer: Writer) -> Send:
    for send in writer.begin():
        writer.acknowledge(send)
    send = writer.append_next()
    assert send is not None
    return send


@pytest.mark.parametrize(
    ("text", "json_bytes", "carried"),
    [
        (lambda: PLAIN, SNAPSHOT_JSON_BYTES_MAX - MARGIN, True),
        (lambda: PLAIN, SNAPSHOT_JSON_BYTES_MAX + MARGIN, False),
        (random_text(), round(SNAPSHOT_BYTES_MAX / 0.697), True),
        (random_text(), round(SNAPSHOT_BYTES_MAX / 0.688), False),
    ],
    ids=["just-below", "just-above", "just-below-compressed", "just-above-compressed"],
)
def test_a_snapshot_stands_in_the_log_up_to_what_producer_and_topic_take(
    text: Callable[[], str], json_bytes: int, *, carried: bool
) -> None:
    writer = writer_after(log_with(text, json_bytes))

    send = next_record(writer)

    assert (decoded(send.value).snapshot is not None) == carried
    assert len(send.value) + RECORD_OVERHEAD_BYTES < REQUEST_BYTES_MAX
    taken = int(CONTROL.broker_config()["max.message.bytes"])
    assert len(zstd_encode(send.value)) + RECORD_OVERHEAD_BYTES < taken
    writer.read_control(1, NOW_MS + 200, send.value)
    assert writer.control.last is not None
    assert writer.control.last.record.number == SNAPSHOT_EVERY


class SmallTopic:
    """A broker whose topics take less than a snapshot, as an earlier version made them."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []

    async def send(self, topic: str, _key: bytes, value: bytes, *_: object) -> Awaitable[None]:
        delivery: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(zstd_encode(value)) > 1_048_576:
            delivery.set_exception(MessageSizeTooLargeError())
        else:
            self.taken.append((topic, value))
            delivery.set_result(None)
        return delivery


async def test_a_tick_that_the_topic_refuses_for_its_snapshot_goes_without_it() -> None:
    writer = writer_after(log_with(random_text(), 3_000_000))
    send, broker = next_record(writer), SmallTopic()
    assert decoded(send.value).snapshot is not None

    async def resume() -> Writer:
        return writer

    app: Any = SimpleNamespace(producer=broker)
    await LiveWriter(app, resume)._append(writer, send)

    ((topic, value),) = broker.taken
    whole = decoded(send.value)
    assert topic == CONTROL.name
    assert decoded(value) == msgspec.structs.replace(whole, snapshot=None)
    writer.read_control(1, NOW_MS + 200, value)
    assert writer.control.last is not None
    assert writer.control.last.record.number == SNAPSHOT_EVERY
