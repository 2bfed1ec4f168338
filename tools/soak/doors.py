"""Sends batches through both doors and counts what was acknowledged."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
import tenacity
from confluent_kafka import KafkaError, Message, Producer

from schemas.topics import ASSIGNMENTS, METRICS
from tools.soak.traffic import Batch, ndjson

RESEND_FOR_S = 120
FLUSH_TIMEOUT_S = 60
REQUEST_TIMEOUT_S = 30
_QUEUE_FULL_WAIT_S = 0.02


@dataclass
class Sent:
    """What the doors have taken.

    Attributes:
        events: Acknowledged events, each counted once.
        repeated: Events sent on purpose for the second time, and acknowledged.
        resent: Events sent again because the answer was missing or 5xx.
        views: Acknowledged events that the count metric counts, by variant.
        refused: Answers that were no acknowledgement, for a person.
    """

    events: int = 0
    repeated: int = 0
    resent: int = 0
    views: list[int] = field(default_factory=lambda: [0, 0])
    refused: list[str] = field(default_factory=list)

    def take(self, batch: Batch, *, again: bool) -> None:
        """Count a batch that was acknowledged."""
        if again:
            self.repeated += len(batch.bodies)
            return
        self.events += len(batch.bodies)
        self.views = [mine + more for mine, more in zip(self.views, batch.views, strict=True)]


class UnansweredError(Exception):
    """The answer was 5xx: nothing is known of the events, send them again with the same ids."""


class HttpDoor:
    """Posts NDJSON."""

    def __init__(self, client: httpx.AsyncClient, sent: Sent) -> None:
        self._client, self._sent = client, sent

    async def send(self, batch: Batch, *, again: bool = False) -> Mapping[str, int]:
        """Return where the batch is in the log, once it is acknowledged; try on if it is not."""
        content = ndjson(batch)
        try:
            answer = await self._until_answered(content, len(batch.bodies))
        except (httpx.TransportError, UnansweredError) as error:
            self._sent.refused.append(f"no answer to {len(batch.bodies)} events: {error!r}")
            return {}
        if answer.get("accepted") != len(batch.bodies):
            self._sent.refused.append(f"not all accepted: {str(answer)[:300]}")
            return {}
        self._sent.take(batch, again=again)
        return dict(answer["log"])

    async def _until_answered(self, content: bytes, count: int) -> dict:  # type: ignore[type-arg]
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type((httpx.TransportError, UnansweredError)),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=2),
            stop=tenacity.stop_after_delay(RESEND_FOR_S),
            reraise=True,
        ):
            with attempt:
                if attempt.retry_state.attempt_number > 1:
                    self._sent.resent += count
                response = await self._client.post(
                    "/v1/events",
                    content=content,
                    headers={"Content-Type": "application/x-ndjson"},
                )
                if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
                    raise UnansweredError(f"{response.status_code}: {response.text[:200]}")
        answer = response.json()
        return answer if isinstance(answer, dict) else {"answer": answer}


class KafkaDoor:
    """Produces one record for each event."""

    def __init__(self, bootstrap: str, sent: Sent) -> None:
        self._sent = sent
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 20,
                "compression.type": "lz4",
                "message.timeout.ms": RESEND_FOR_S * 1_000,
            }
        )

    async def send(self, batch: Batch, *, again: bool = False) -> None:
        """Hand a batch to the client; what it takes is counted, a loss is noted when it is told."""
        topic = ASSIGNMENTS.name if batch.assigns else METRICS.name
        for body, key in zip(batch.bodies, batch.keys, strict=True):
            while True:
                try:
                    self._producer.produce(topic, body, key=key, on_delivery=self._delivered)
                    break
                except BufferError:
                    self._producer.poll(0)
                    await asyncio.sleep(_QUEUE_FULL_WAIT_S)
        self._producer.poll(0)
        self._sent.take(batch, again=again)

    async def flush(self) -> None:
        """Wait until the broker has acknowledged everything."""
        left = await asyncio.to_thread(self._producer.flush, FLUSH_TIMEOUT_S)
        if left:
            self._sent.refused.append(f"{left} records were not acknowledged by the broker")

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._sent.refused.append(f"a record was not delivered: {error}")
