"""Sends a crowd's events through both doors until each of them is answered, and notes all of it.

It needs no faults: a soak test drives the same load. What meets a 5xx, a time-out or a cut
connection is sent again with the same ids; what was answered is never sent again, but for the
duplicates that the crowd means to send.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

import httpx
import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.topics import ASSIGNMENTS, METRICS, Topic
from tools.broker import client_settings
from tools.errors import LitmusError
from tools.torture.crowd import Crowd, Item, as_json
from tools.torture.journal import ACCEPTED, ANY, LATE, Attempt, Delivery, Event, Hostile, Journal

BATCH_ROWS = 50
STEP_S = 0.05
RETRY_S = 0.1
TIMEOUT_S = 5.0
REQUESTS_MAX = 24
"""At once; the others wait for their turn, as behind a producer's own limit."""

_KAFKA_SHARE = 0.4
_SINGLE_SHARE = 0.04
_PREFILL_ROWS = 1_000
_FAILURES_SHOWN = 5
_DELIVERY_SECONDS_MAX = 90

NdJson = "application/x-ndjson"
PlainJson = "application/json"


class Accepted(NamedTuple):
    """A 202, or a record that Kafka took.

    Attributes:
        sent_s: When it was sent, on the monotonic clock.
        rows: Events in it.
        log: Events partition to offset; empty for Kafka.
        appended_ms: The broker's time of appending a Kafka record; 0 for HTTP.
    """

    sent_s: float
    rows: int
    log: dict[int, int]
    appended_ms: int = 0


class _Answer(msgspec.Struct):
    accepted: int = 0
    late: int = 0
    rejected: list[dict[str, Any]] = []
    log: dict[str, int] = {}


class Load:
    """A load.

    Attributes:
        retries: Requests and records that had to be sent again.
        requests: Requests that were answered.
        records: Records that Kafka took.
        rows_accepted: Events that a door or Kafka took.
        problems: Answers that must not be: what is right was refused, or wrong was not.
    """

    def __init__(
        self,
        crowd: Crowd,
        journal: Journal,
        *,
        gateway_url: str,
        kafka: str,
        random: Random,
        now_ms: Callable[[], int],
        on_accepted: Callable[[Accepted], None] = lambda _: None,
    ) -> None:
        self._crowd = crowd
        self._journal = journal
        self._random = random
        self._now_ms = now_ms
        self._on_accepted = on_accepted
        self._url = f"{gateway_url}/v1/events"
        limits = httpx.Limits(max_connections=REQUESTS_MAX, max_keepalive_connections=REQUESTS_MAX)
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False)
        self._gate = asyncio.Semaphore(REQUESTS_MAX)
        self._kafka = kafka
        self._has_given_up = False
        self._producer = self._new_producer()
        self._resends: list[tuple[int, Item, Topic]] = []
        self._undelivered = 0
        self.retries = self.requests = self.records = self.rows_accepted = 0
        self.problems: list[str] = []

    async def prefill(self, units: int, on_progress: Callable[[int], None]) -> None:
        """Send the assignments of units that are there before the run, in large requests."""
        items: list[Item] = []
        async with asyncio.TaskGroup() as requests:
            done = 0
            for item in self._crowd.settle_in(units, self._now_ms()):
                items.append(item)
                if len(items) == _PREFILL_ROWS:
                    await self._gate.acquire()
                    self._gate.release()
                    requests.create_task(self._post(items, form=PlainJson))
                    done, items = done + len(items), []
                    on_progress(done)
                    await asyncio.sleep(0)
            if items:
                requests.create_task(self._post(items, form=PlainJson))
        on_progress(units)

    async def run(self, is_over: asyncio.Event, *, rate: float) -> None:
        """Send about ``rate`` events a second until ``is_over``; return when all are answered.

        Raises:
            LitmusError: If Kafka does not take a record in time.
        """
        started_s, drawn = time.monotonic(), 0.0
        async with asyncio.TaskGroup() as requests:
            while self._crowd.waiting_count or not is_over.is_set():
                now_s = time.monotonic() - started_s
                if not is_over.is_set():
                    owed = int(rate * now_s - drawn)
                    # After a stall of ours the crowd is not larger than before.
                    self._crowd.come(min(owed, int(rate)), now_s, self._now_ms())
                    drawn += owed
                self._send(self._crowd.due(now_s), requests)
                self._serve_producer()
                await asyncio.sleep(STEP_S)
        await self._until_delivered()

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    def _send(self, items: list[Item], requests: asyncio.TaskGroup) -> None:
        """Choose a door for every item."""
        together: list[Item] = []
        for item in items:
            door = self._random.random()
            is_hostile = isinstance(item.content, Hostile)
            if door < _KAFKA_SHARE or _is_nameless(item.content):
                self._produce_new(item)
            elif door < _KAFKA_SHARE + _SINGLE_SHARE or (is_hostile and door < 0.7):
                form = NdJson if is_hostile else PlainJson
                requests.create_task(self._post([item], form=form))
            else:
                together.append(item)
        for start in range(0, len(together), BATCH_ROWS):
            batch = together[start : start + BATCH_ROWS]
            # A line that is no JSON would make an array unreadable, with its neighbours.
            has_hostile = any(isinstance(item.content, Hostile) for item in batch)
            form = NdJson if has_hostile or self._random.random() < 0.5 else PlainJson
            requests.create_task(self._post(batch, form=form))

    async def _post(self, items: list[Item], *, form: str) -> None:
        """Send a request until it is answered by no 5xx; note what was answered."""
        raws = [_raw(item.content) for item in items]
        if form == NdJson:
            body = b"\n".join(raws)
        else:
            body = raws[0] if len(raws) == 1 else b"[" + b",".join(raws) + b"]"
        async with self._gate:
            number = self._journal.post(
                "http",
                [item.content for item in items],
                at_ms=self._now_ms(),
                wanted={at: one.wanted for at, one in enumerate(items) if one.wanted != ACCEPTED},
            )
            while True:
                sent_s = time.monotonic()
                attempt = await self._attempt(number, body, form)
                self._journal.append(attempt)
                if attempt.fate != "unknown":
                    break
                self.retries += 1
                await asyncio.sleep(RETRY_S)
        self.requests += 1
        self.rows_accepted += attempt.accepted
        self._check(items, attempt)
        if attempt.fate == "accepted":
            self._on_accepted(Accepted(sent_s, attempt.accepted, attempt.log))

    async def _attempt(self, number: int, body: bytes, form: str) -> Attempt:
        try:
            answer = await self._client.post(
                self._url, content=body, headers={"Content-Type": form}
            )
        except httpx.TransportError as error:
            return Attempt(number, self._now_ms(), 0, error=repr(error))
        status = answer.status_code
        if status not in (202, 422):
            return Attempt(number, self._now_ms(), status, error=answer.text[:500])
        try:
            told = msgspec.json.decode(answer.content, type=_Answer)
        except msgspec.DecodeError as error:
            return Attempt(number, self._now_ms(), 0, error=f"unreadable answer: {error}")
        return Attempt(
            number,
            self._now_ms(),
            status,
            accepted=told.accepted,
            late=told.late,
            rejected={one["index"]: one["code"] for one in told.rejected},
            log={int(partition): offset for partition, offset in told.log.items()},
        )

    def _check(self, items: Sequence[Item], attempt: Attempt) -> None:
        """Hold an answer to what must become of each item."""
        if attempt.status not in (202, 422):
            self.problems.append(f"request {attempt.number}: {attempt.status} {attempt.error}")
            return
        told = attempt.accepted + attempt.late + len(attempt.rejected)
        if told != len(items):
            self.problems.append(
                f"request {attempt.number}: {len(items)} sent, {told} answered for"
            )
        for at, item in enumerate(items):
            code = attempt.rejected.get(at)
            is_right = code is None if item.wanted in (ACCEPTED, LATE) else code == item.wanted
            if not is_right and item.wanted != ANY:
                self.problems.append(
                    f"request {attempt.number}: {item.content} must be {item.wanted}, "
                    f"is {code or 'accepted'}"
                )

    def _produce_new(self, item: Item) -> None:
        content = item.content
        is_metric = isinstance(content, Event) and content.metric
        topic = METRICS if is_metric or b'"metric"' in _raw(content) else ASSIGNMENTS
        wanted = {} if item.wanted == ACCEPTED else {0: item.wanted}
        number = self._journal.post(
            "kafka", [content], at_ms=self._now_ms(), topic=topic.name, wanted=wanted
        )
        self._undelivered += 1
        self._produce(number, item, topic)

    def _produce(self, number: int, item: Item, topic: Topic) -> None:
        sent_s = time.monotonic()
        content = item.content
        raw = _raw(content, is_type_given=number % 2 == 0)
        key = content.unit if isinstance(content, Event) else None

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._journal.append(Delivery(number, self._now_ms(), -1, -1, str(error)))
                if _is_nameless(content):  # it may be there: a second one would be another event
                    self._undelivered -= 1
                    return
                self.retries += 1
                self._resends.append((number, item, topic))
                return
            at = Delivery(number, self._now_ms(), message.partition(), message.offset())
            self._journal.append(at)
            self._undelivered -= 1
            self.records += 1
            self.rows_accepted += 1
            self._on_accepted(Accepted(sent_s, 1, {}, message.timestamp()[1]))

        try:
            self._producer.produce(topic.name, raw, key, on_delivery=on_delivery)
        except (BufferError, KafkaException):
            self._resends.append((number, item, topic))

    def _serve_producer(self) -> None:
        """Take Kafka's answers; send again what it did not take, by a new producer if it must."""
        self._producer.poll(0)
        resends, self._resends = self._resends, []
        if self._has_given_up:
            self._producer, self._has_given_up = self._new_producer(), False
        for number, item, topic in resends:
            self._produce(number, item, topic)

    async def _until_delivered(self) -> None:
        deadline = time.monotonic() + _DELIVERY_SECONDS_MAX
        while self._undelivered:
            self._serve_producer()
            if time.monotonic() > deadline:
                raise LitmusError(f"Kafka did not take {self._undelivered} records in time.")
            await asyncio.sleep(STEP_S)

    def _new_producer(self) -> Producer:
        def on_error(error: KafkaError) -> None:
            # An idempotent producer may find that it cannot go on, after a broker died.
            self._has_given_up |= error.fatal()

        return Producer(
            client_settings(self._kafka)
            | {
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.timeout.ms": 60_000,
                "reconnect.backoff.max.ms": 1_000,
                "error_cb": on_error,
            }
        )


def _is_nameless(content: Event | Hostile) -> bool:
    """Return whether an event has no id: the Kafka door alone knows it, by its place."""
    return isinstance(content, Event) and content.event_id is None


def _raw(content: Event | Hostile, *, is_type_given: bool = True) -> bytes:
    if isinstance(content, Hostile):
        return content.raw
    return json.dumps(as_json(content, is_type_given=is_type_given)).encode()
