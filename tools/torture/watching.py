"""What a user sees of a run: looks as they are published, how old they are, what is not in them.

A fault is recovered from when a look is published that holds an event which each door took after
the fault was over, and the query API shows a look as new. The HTTP door says with its 202 where in
the log an event is; a record of Kafka is in a look whose settled time is past its append time,
because doors report what they have not yet passed on.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import httpx
import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas.topics import LOOKS
from tools.broker import client_settings
from tools.torture.load import Accepted

SAMPLE_S = 0.5
_POLL_S = 0.05
_ASK_TIMEOUT_S = 2.0


class _Head(msgspec.Struct):
    tick: int
    offsets: dict[str, int]


class _Inputs(msgspec.Struct):
    times: list[int]


class _Look(msgspec.Struct):
    experiment_id: str
    look: _Head
    inputs: _Inputs


class Seen(NamedTuple):
    """The newest look.

    Attributes:
        tick: Its number.
        log_ms: Log time of it.
        settled_ms: Up to when Kafka's records are in it.
        offsets: First offset, by partition, that is not in it.
    """

    tick: int = 0
    log_ms: int = 0
    settled_ms: int = 0
    offsets: dict[int, int] = {}  # noqa: RUF012  # a default of a tuple, never written to


class Sample(NamedTuple):
    """A point of the plot: seconds into the run, age of the newest look, events not in it."""

    at_s: float
    age_ms: int
    behind: int


class Watch:
    """Follows ``litmus.looks`` in a thread, and what was accepted on the loop.

    Attributes:
        looks: Looks read so far.
        samples: Of the whole run.
    """

    def __init__(
        self, kafka: str, query_url: str, *, experiment_id: str, now_ms: Callable[[], int]
    ) -> None:
        self._kafka = kafka
        self._url = f"{query_url}/v1/experiments/{experiment_id}/results"
        self._now_ms = now_ms
        self._seen = Seen()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="looks", daemon=True)
        self._pending: deque[Accepted] = deque()
        self._appended_ms = 0
        self._asked_after: list[_Proof] = []
        self.looks = 0
        self.samples: list[Sample] = []

    @property
    def seen(self) -> Seen:
        """Return the newest look."""
        return self._seen

    def accepted(self, accepted: Accepted) -> None:
        """Take note of what a door took."""
        if accepted.log:
            self._pending.append(accepted)
        self._appended_ms = max(self._appended_ms, accepted.appended_ms)
        for proof in self._asked_after:
            proof.offer(accepted)

    def behind(self) -> int:
        """Return how many events the HTTP door accepted that are in no look yet."""
        offsets = self._seen.offsets
        while self._pending and _holds(offsets, self._pending[0].log):
            self._pending.popleft()
        return sum(one.rows for one in self._pending if not _holds(offsets, one.log))

    async def until_all_is_in(self, settled_ms: int, seconds_max: float) -> bool:
        """Wait until looks hold all that was accepted, and are settled up to a time."""
        deadline = time.monotonic() + seconds_max
        settled_ms = max(settled_ms, self._appended_ms)
        while self.behind() or self._seen.settled_ms <= settled_ms:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def sample(self, started_s: float) -> None:
        """Take samples until cancelled."""
        while True:
            age_ms = max(0, self._now_ms() - self._seen.log_ms) if self._seen.log_ms else 0
            at_s = round(time.monotonic() - started_s, 2)
            self.samples.append(Sample(at_s, age_ms, self.behind()))
            await asyncio.sleep(SAMPLE_S)

    async def recovered(self, since_s: float, seconds_max: float) -> float | None:
        """Wait until a fault that was over at ``since_s`` is recovered from.

        Returns:
            When that was, on the monotonic clock; None: not in time.
        """
        proof = _Proof(since_s)
        self._asked_after.append(proof)
        deadline = time.monotonic() + seconds_max
        try:
            while not proof.is_in(self._seen):
                if time.monotonic() > deadline:
                    return None
                await asyncio.sleep(_POLL_S)
            tick = self._seen.tick
            while await self._shown_tick() < tick:
                if time.monotonic() > deadline:
                    return None
                await asyncio.sleep(_POLL_S)
        finally:
            self._asked_after.remove(proof)
        return time.monotonic()

    async def _shown_tick(self) -> int:
        with suppress(httpx.TransportError, ValueError, KeyError, TypeError):
            async with httpx.AsyncClient(timeout=_ASK_TIMEOUT_S, trust_env=False) as client:
                answer = await client.get(self._url)
            if answer.status_code == 200:
                return int(answer.json()["look"]["tick"])
        return -1

    def _follow(self) -> None:
        """Read looks until told to stop; a broker that is away comes back."""
        settings = {
            "group.id": "litmus-torture",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            "reconnect.backoff.max.ms": 500,
        }
        consumer = Consumer(client_settings(self._kafka) | settings)
        consumer.assign([TopicPartition(LOOKS.name, 0, 0)])
        decode = msgspec.json.Decoder(_Look).decode
        try:
            while not self._stop.is_set():
                with suppress(KafkaException):
                    for message in consumer.consume(500, 0.1):
                        if message.error() is None:
                            self._note(decode(message.value()))
        finally:
            consumer.close()

    def _note(self, look: _Look) -> None:
        self.looks += 1
        if look.look.tick <= self._seen.tick:
            return
        log_ms, settled_ms, _ = look.inputs.times
        offsets = {int(partition): offset for partition, offset in look.look.offsets.items()}
        self._seen = Seen(look.look.tick, log_ms, settled_ms, offsets)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)


class _Proof:
    """An event of each door that was sent after a moment, and whether a look holds them."""

    def __init__(self, since_s: float) -> None:
        self._since_s = since_s
        self._http: Accepted | None = None
        self._kafka: Accepted | None = None

    def offer(self, accepted: Accepted) -> None:
        """Keep what was sent first after the moment."""
        if accepted.sent_s < self._since_s:
            return
        if accepted.log:
            self._http = self._http or accepted
        elif accepted.appended_ms:
            self._kafka = self._kafka or accepted

    def is_in(self, seen: Seen) -> bool:
        """Return whether the look holds an event of each door."""
        if self._http is None or self._kafka is None:
            return False
        return _holds(seen.offsets, self._http.log) and seen.settled_ms > self._kafka.appended_ms


def _holds(offsets: dict[int, int], log: dict[int, int]) -> bool:
    return all(offsets.get(partition, -1) > offset for partition, offset in log.items())
