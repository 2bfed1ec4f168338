"""A seeded stream of people who are assigned and do things, sent through both doors until accepted.

What is sent follows from the seed; when it is sent, and hence its timestamps, from the clock.
Every event keeps its id through all retries.
"""

import asyncio
import heapq
import itertools
import json
import time
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

import httpx
from confluent_kafka import KafkaError, Message, Producer

from schemas.times import format_time_ms
from schemas.topics import ASSIGNMENTS, METRICS
from tests.crash.audit import Journal
from tests.stream_processors.accumulate.builders import Event
from tools.broker import client_settings

Json = dict[str, Any]

WINDOWS_MS = (3_000, 5_000)
STEP_S = 0.1
BATCH_ROWS_MAX = 60
RETRY_S = 0.1
REFUSED_SHARE = 0.002
REQUESTS_MAX = 16


def experiment_body(experiment_id: str, crossover: str) -> Json:
    """Return an experiment with a metric of every kind, and windows of a few seconds."""
    short, long = (f"{window}ms" for window in WINDOWS_MS)
    return {
        "id": experiment_id,
        "variants": [{"id": "c", "weight": 1}, {"id": "t", "weight": 1}],
        "crossover": crossover,
        "metrics": [
            {"id": "bought", "kind": "conversion", "event": "buy", "window": short},
            {"id": "views", "kind": "count", "event": "view", "window": long},
            {"id": "spent", "kind": "sum", "event": "buy", "window": long, "precision": 3},
        ],
        "analysis": {"n_star": 500},
    }


class Sending(NamedTuple):
    """An event and when it is sent, in seconds from the load's start; ``number`` breaks ties."""

    at_s: float
    number: int
    event: Event


class Crowd:
    """Who comes, and what they do."""

    def __init__(self, random: Random, experiments: list[str]) -> None:
        self._random = random
        self._experiments = experiments
        self._numbers = itertools.count()

    def arrival(self, now_s: float, start_ms: int) -> Iterator[Sending]:
        """Yield all that one unit will do, in no order: some of it earlier than it happened."""
        random, unit = self._random, f"unit-{next(self._numbers)}"
        entry = start_ms + round(now_s * 1_000) - random.randrange(2_000)
        events = []
        several = min(random.choice([1, 1, 2]), len(self._experiments))
        for experiment in random.sample(self._experiments, several):
            events += self._assignments(unit, entry, experiment)
        for place in range(random.choice([0, 1, 2, 2, 4])):
            events.append(self._metric(unit, f"{unit}-m{place}", entry))
        for event in events:
            yield self._sending(now_s, event)
            while random.random() < 0.08:
                yield self._sending(now_s, event)
            if event.metric and random.random() < 0.01:
                yield self._sending(now_s, event._replace(value=event.value + 1))

    def _assignments(self, unit: str, entry: int, experiment: str) -> Iterator[Event]:
        random = self._random
        variant, other = random.sample(["c", "t"], 2)
        first = Event(unit, f"{unit}-{experiment}", entry, experiment, variant)
        yield first
        if random.random() < 0.15:  # an earlier one, that may arrive later
            earlier = entry - random.randrange(1_500)
            yield first._replace(event_id=f"{first.event_id}-earlier", timestamp=earlier)
        if random.random() < 0.1:
            when = entry + random.randint(-1_500, 1_500)
            crossed = first._replace(event_id=f"{first.event_id}-cross", variant=other)
            yield crossed._replace(timestamp=when)

    def _metric(self, unit: str, event_id: str, entry: int) -> Event:
        random = self._random
        return Event(
            unit,
            event_id,
            entry + random.randint(-1_000, 7_000),
            random.choice([None, None, None, *self._experiments]),
            None,
            random.choice(["buy", "view"]),
            random.randint(-3_000, 9_000) / 1_024,
        )

    def _sending(self, now_s: float, event: Event) -> Sending:
        return Sending(now_s + self._random.expovariate(1.0), next(self._numbers), event)


class Load:
    """Sends a crowd's events, and notes what was accepted.

    Attributes:
        journal: What was sent.
        retries: Requests that had to be sent again.
        requests: Requests that were answered.
    """

    def __init__(
        self, gateway_url: str, kafka: str, *, experiments: list[str], seed: int, rate: float
    ) -> None:
        self._random = Random(seed)
        self._crowd = Crowd(self._random, experiments)
        self._experiments = experiments
        self._rate = rate
        self._url = f"{gateway_url}/v1/events"
        self._client = httpx.AsyncClient(timeout=5.0)
        self._gate = asyncio.Semaphore(REQUESTS_MAX)
        self._producer = Producer(
            client_settings(kafka) | {"acks": "all", "enable.idempotence": True, "linger.ms": 5}
        )
        self._failures: list[str] = []
        self.journal = Journal()
        self.retries = self.requests = 0

    async def run(self, is_over: asyncio.Event) -> None:
        """Send until ``is_over`` and all who came have done what they do; all is acknowledged."""
        start_ms, started_s = round(time.time() * 1_000), time.monotonic()
        waiting: list[Sending] = []
        owed = 0.0
        async with self._client, asyncio.TaskGroup() as requests:
            while waiting or not is_over.is_set():
                now_s = time.monotonic() - started_s
                if not is_over.is_set():
                    owed += self._rate * STEP_S
                    while owed >= 1:
                        owed -= 1
                        for one in self._crowd.arrival(now_s, start_ms):
                            heapq.heappush(waiting, one)
                due = []
                while waiting and waiting[0].at_s <= now_s:
                    due.append(heapq.heappop(waiting).event)
                self._send(due, requests)
                self._producer.poll(0)
                await asyncio.sleep(STEP_S)
        left = await asyncio.to_thread(self._producer.flush, 30)
        assert not left, f"{left} records are not acknowledged"
        assert not self._failures, self._failures[:5]

    def _send(self, events: list[Event], requests: asyncio.TaskGroup) -> None:
        """Choose a door for every event."""
        together = []
        for event in events:
            door = self._random.random()
            if door < 0.4:
                self._produce(event)
            elif door < 0.46:
                requests.create_task(self._post([event], is_single=True))
            else:
                together.append(event)
            if self._random.random() < REFUSED_SHARE:
                self._send_refused(event, requests)
        for start in range(0, len(together), BATCH_ROWS_MAX):
            requests.create_task(
                self._post(together[start : start + BATCH_ROWS_MAX], is_single=False)
            )

    def _produce(self, event: Event) -> None:
        body = as_json(event)
        if self._random.random() < 0.5:
            del body["type"]  # the topic says it

        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            if error is None:
                self.journal.accepted.append(event)
            else:
                self._failures.append(f"Kafka did not take {event}: {error}")

        topic = METRICS if event.metric else ASSIGNMENTS
        self._producer.produce(topic.name, json.dumps(body), event.unit, on_delivery=on_delivery)

    async def _post(self, events: list[Event], *, is_single: bool) -> None:
        bodies = [as_json(event) for event in events]
        answer = await self._answer(json.dumps(bodies[0] if is_single else bodies).encode())
        taken = answer.json()
        if answer.status_code != 202 or taken["accepted"] != len(events):
            self._failures.append(f"{answer.status_code}: {answer.text}")
        self.journal.accepted += events

    async def _answer(self, body: bytes) -> httpx.Response:
        """Send a request until it is answered by anything but a 5xx."""
        async with self._gate:
            while True:
                try:
                    answer = await self._client.post(
                        self._url, content=body, headers={"Content-Type": "application/json"}
                    )
                except httpx.TransportError:
                    self.retries += 1
                else:
                    if answer.status_code < 500:
                        self.requests += 1
                        return answer
                    self.retries += 1
                await asyncio.sleep(RETRY_S)

    def _send_refused(self, event: Event, requests: asyncio.TaskGroup) -> None:
        """Send an event of a variant that there is not, through a door chosen by chance."""
        wrong = as_json(
            Event(event.unit, f"{event.event_id}-x", event.timestamp, self._experiments[0], "none")
        )
        raw = json.dumps(wrong).encode()
        self.journal.rejected.append(raw)
        if self._random.random() < 0.5:
            self._producer.produce(ASSIGNMENTS.name, raw)
        else:
            requests.create_task(self._post_refused(raw))

    async def _post_refused(self, raw: bytes) -> None:
        answer = await self._answer(raw)
        codes = [one["code"] for one in answer.json()["rejected"]]
        if (answer.status_code, codes) != (422, ["unknown_variant"]):
            self._failures.append(f"{answer.status_code}: {answer.text}")


def as_json(event: Event) -> Json:
    """Return an event as producers write it; the time in one of its two forms."""
    fields: Json = {
        "type": "metric" if event.metric else "assignment",
        "event_id": event.event_id,
        "unit_id": event.unit,
        "timestamp": event.timestamp if event.timestamp % 2 else format_time_ms(event.timestamp),
    }
    if event.experiment is not None:
        fields["experiment_id"] = event.experiment
    if event.metric:
        return fields | {"metric": event.metric, "value": event.value}
    return fields | {"variant": event.variant}
