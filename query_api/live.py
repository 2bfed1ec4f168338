"""Fans new looks out to the clients that follow an experiment.

A client has room for one: the newest. Who takes none for long is disconnected, so that one slow
reader costs neither memory nor the others' time.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from query_api.metrics import LIVE_CLIENTS, LIVE_DROPPED, LIVE_EVICTED, LIVE_REFUSED
from query_api.snapshots import Snapshot, Snapshots, current_results

DROPS_MAX = 50
"""News in a row that a client may miss; ten seconds at five looks a second."""

HEARTBEAT_S = 2.0
"""While nothing is new, the same look comes again this often, with its age: silence would look
like a broken line, and an old look like one that is out of date."""

SEND_TIMEOUT_S = 10.0
TOO_SLOW = "too slow: newer results were dropped for too long"


CLIENTS_MAX = 1_000


class EvictedError(Exception):
    """The client took nothing for too long."""


class TooManyClientsError(Exception):
    """As many clients follow as may."""


class Subscription:
    """One client that follows one experiment.

    Attributes:
        dropped_count: News in a row that it missed.
    """

    def __init__(self, live: "Live", experiment_id: str) -> None:
        self._live = live
        self._experiment_id = experiment_id
        self._news = asyncio.Event()
        self._news.set()  # the current look comes first
        self.evicted = asyncio.Event()
        self.dropped_count = 0

    def notify(self) -> None:
        """Say that there is something new; what was not taken is superseded."""
        if self._news.is_set():
            self.dropped_count += 1
            LIVE_DROPPED.inc()
            if self.dropped_count > DROPS_MAX and not self.evicted.is_set():
                LIVE_EVICTED.inc()
                self.evicted.set()
        self._news.set()

    async def next(self) -> str:
        """Return the newest results as JSON: at once if there are newer ones, else at a heartbeat.

        Raises:
            EvictedError: If the client was too slow.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_S):
                await self._news.wait()
        if self.evicted.is_set():
            raise EvictedError(TOO_SLOW)
        self._news.clear()
        self.dropped_count = 0
        return self._live.render(self._experiment_id)


class Live:
    """All clients that follow a result. Lives in the event loop; any thread may ``publish``.

    Attributes:
        snapshots: Where the latest is.
        clients_max: How many may follow.
    """

    def __init__(
        self, snapshots: Snapshots, clock_ms: Callable[[], int], *, clients_max: int = CLIENTS_MAX
    ) -> None:
        self.snapshots = snapshots
        self.clients_max = clients_max
        self._client_count = 0
        self._clock_ms = clock_ms
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rendered: dict[str, tuple[Snapshot, int, str]] = {}

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say in which loop the clients are served."""
        self._loop = loop

    def close(self) -> None:
        """Fan nothing out any more."""
        self._loop = None

    @contextmanager
    def follow(self, experiment_id: str, transport: str) -> Iterator[Subscription]:
        """Follow an experiment for as long as the context lasts.

        Raises:
            TooManyClientsError: If as many as may follow already.
        """
        self.check_room()
        self._client_count += 1
        subscription = Subscription(self, experiment_id)
        self._subscriptions.setdefault(experiment_id, set()).add(subscription)
        LIVE_CLIENTS.labels(transport).inc()
        try:
            yield subscription
        finally:
            self._client_count -= 1
            LIVE_CLIENTS.labels(transport).dec()
            rest = self._subscriptions[experiment_id]
            rest.discard(subscription)
            if not rest:
                del self._subscriptions[experiment_id]
                self._rendered.pop(experiment_id, None)

    def check_room(self) -> None:
        """Refuse a client that would be one too many.

        Raises:
            TooManyClientsError: If it would.
        """
        if self._client_count >= self.clients_max:
            LIVE_REFUSED.inc()
            raise TooManyClientsError(f"{self._client_count} clients follow, must be fewer")

    def publish(self, experiment_ids: Iterable[str]) -> None:
        """Tell the clients of these experiments that there is something new. Thread-safe."""
        loop = self._loop
        if loop is not None and experiment_ids:
            loop.call_soon_threadsafe(self._notify, list(experiment_ids))

    def render(self, experiment_id: str) -> str:
        """Return the latest results as JSON; clients served in one millisecond share the text."""
        snapshot = self.snapshots.get(experiment_id)
        if snapshot is None:
            return "null"
        now_ms = self._clock_ms()
        before = self._rendered.get(experiment_id)
        if before is not None and before[0] is snapshot and before[1] == now_ms:
            return before[2]
        results = current_results(snapshot, now_ms=now_ms, ledger=self.snapshots.ledger)
        text = msgspec.json.encode(results).decode()
        self._rendered[experiment_id] = (snapshot, now_ms, text)
        return text

    def _notify(self, experiment_ids: list[str]) -> None:
        for experiment_id in experiment_ids:
            for subscription in self._subscriptions.get(experiment_id, ()):
                subscription.notify()
