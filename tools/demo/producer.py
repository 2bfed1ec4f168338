"""Sends the schedule, each event at its time: requests through HTTP, records through Kafka."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

import httpx
import msgspec
import tenacity
from confluent_kafka import KafkaError, Message, Producer

from schemas.topics import ASSIGNMENTS, METRICS
from tools.demo.schedule import Record, Request

RESEND_FOR_S = 60
"""How long a request is tried again before the run fails."""

RECORDS_EVERY_MS = 20
FLUSH_TIMEOUT_S = 60
REQUEST_TIMEOUT_S = 15
REQUESTS_IN_FLIGHT_MAX = 32

_GATHER_WAIT_S = 0.05


class Clock:
    """Time since the start of the run, which has one wall-clock moment and then runs evenly."""

    def __init__(self, lead_ms: int = 0) -> None:
        """Start now, or ``lead_ms`` from now."""
        self._started_s = time.monotonic() + lead_ms / 1_000
        self.start_ms = time.time_ns() // 1_000_000 + lead_ms

    def elapsed_ms(self) -> float:
        """Return the milliseconds since the start; negative before it."""
        return (time.monotonic() - self._started_s) * 1_000

    async def until(self, due_ms: int) -> None:
        """Sleep until ``due_ms`` after the start, if that has not passed."""
        left_ms = due_ms - self.elapsed_ms()
        if left_ms > 0:
            await asyncio.sleep(left_ms / 1_000)


@dataclass
class Sent:
    """What was sent so far.

    Attributes:
        http_events: Events in requests that were answered with 202.
        kafka_events: Records that the broker acknowledged.
        repeated_events: How many of both were sent on purpose for the second time.
        resent_events: Events sent again because an answer was missing or 5xx.
        problems: What went wrong for good; anything here fails the run.
    """

    http_events: int = 0
    kafka_events: int = 0
    repeated_events: int = 0
    resent_events: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def event_count(self) -> int:
        """Return the events that a door or the broker has taken."""
        return self.http_events + self.kafka_events


class ResendError(Exception):
    """The answer was 5xx: nothing is known of the events, send them again with the same ids."""

    def __init__(self, status: int, retry_after_s: float | None) -> None:
        super().__init__(f"the gateway answered {status}")
        self.retry_after_s = retry_after_s


OnAccepted = Callable[[Request, Mapping[str, int]], None]
"""Called at once with a request and the ``log`` of its answer."""


async def send_requests(
    requests: Iterable[Request],
    *,
    client: httpx.AsyncClient,
    clock: Clock,
    sent: Sent,
    on_accepted: OnAccepted,
) -> None:
    """Post every request when it is due; a slow answer holds up nothing but itself."""
    free = asyncio.Semaphore(REQUESTS_IN_FLIGHT_MAX)

    async def post(request: Request) -> None:
        async with free:
            await _post(request, client, clock, sent, on_accepted)

    async with asyncio.TaskGroup() as group:
        for request in requests:
            await clock.until(request.due_ms)
            group.create_task(post(request))


async def _post(
    request: Request,
    client: httpx.AsyncClient,
    clock: Clock,
    sent: Sent,
    on_accepted: OnAccepted,
) -> None:
    content = msgspec.json.encode([event.body(clock.start_ms) for event in request.events])
    try:
        async for attempt in _attempts():
            with attempt:
                if attempt.retry_state.attempt_number > 1:
                    sent.resent_events += len(request.events)
                answer = await _post_once(client, content)
    except (httpx.TransportError, ResendError) as error:
        sent.problems.append(f"a request of {len(request.events)} events was lost: {error!r}")
        return
    if answer.get("rejected") or answer.get("late") or "accepted" not in answer:
        sent.problems.append(f"events were not accepted: {str(answer)[:500]}")
        return
    sent.http_events += len(request.events)
    if request.is_repeat:
        sent.repeated_events += len(request.events)
    on_accepted(request, answer["log"])


async def _post_once(client: httpx.AsyncClient, content: bytes) -> dict:  # type: ignore[type-arg]
    headers = {"Content-Type": "application/json"}
    response = await client.post("/v1/events", content=content, headers=headers)
    if response.status_code >= 500:
        retry_after = response.headers.get("Retry-After", "")
        raise ResendError(
            response.status_code, float(retry_after) if retry_after.isdigit() else None
        )
    answer = response.json()
    return answer if isinstance(answer, dict) else {"answer": answer}


def _attempts() -> AsyncIterator[tenacity.AttemptManager]:
    backoff = tenacity.wait_random_exponential(multiplier=0.1, max=2)

    def wait_s(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, ResendError) and error.retry_after_s is not None:
            return error.retry_after_s
        return backoff(state)

    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type((httpx.TransportError, ResendError)),
        wait=wait_s,
        stop=tenacity.stop_after_delay(RESEND_FOR_S),
        reraise=True,
    )


async def send_records(
    records: Iterable[Record], *, bootstrap: str, clock: Clock, sent: Sent
) -> None:
    """Produce every record when it is due and return once the broker has acknowledged all."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "compression.type": "lz4",
            "message.timeout.ms": FLUSH_TIMEOUT_S * 1_000,
        }
    )
    for span, due in groupby(records, key=lambda record: record.due_ms // RECORDS_EVERY_MS):
        await clock.until((span + 1) * RECORDS_EVERY_MS)
        for record in due:
            await _produce(producer, record, clock, sent)
        producer.poll(0)
    unsent = await asyncio.to_thread(producer.flush, FLUSH_TIMEOUT_S)
    if unsent:
        sent.problems.append(f"{unsent} records were not acknowledged by the broker")


async def _produce(producer: Producer, record: Record, clock: Clock, sent: Sent) -> None:
    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            sent.problems.append(f"a record was not delivered: {error}")
            return
        sent.kafka_events += 1
        sent.repeated_events += record.is_repeat

    topic = METRICS if record.event.is_click else ASSIGNMENTS
    value = msgspec.json.encode(record.event.body(clock.start_ms))
    while True:
        try:
            producer.produce(
                topic.name, value, key=record.event.unit_id.encode(), on_delivery=delivered
            )
        except BufferError:  # the client's queue is full: let it drain
            producer.poll(0)
            await asyncio.sleep(_GATHER_WAIT_S)
        else:
            return
