"""Measures how long an event takes from its 202 to a look that holds it, again and again."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tools.soak.doors import HttpDoor
from tools.soak.driving import Now
from tools.soak.judging import Latency
from tools.soak.traffic import Traffic

RECONNECT_AFTER_S = 0.5
LOOK_TIMEOUT_S = 60.0
"""A look that does not come in this time is counted with it; the run goes on."""


class Prober:
    """Watches the looks of one experiment over a WebSocket, as a page does.

    Attributes:
        latencies: What was measured so far.
    """

    def __init__(self, query_url: str, experiment: str) -> None:
        address = query_url.replace("http", "ws", 1)
        self._url = f"{address}/v1/experiments/{experiment}/live"
        self._offsets: Mapping[str, int] = {}
        self._looked = asyncio.Condition()
        self.latencies: list[Latency] = []

    async def watch(self) -> None:
        """Read looks until cancelled."""
        while True:
            try:
                async with connect(self._url, max_size=None, proxy=None) as socket:
                    async for message in socket:
                        await self._take(message)
            except (OSError, WebSocketException):
                await asyncio.sleep(RECONNECT_AFTER_S)

    async def probe(
        self, traffic: Traffic, http: HttpDoor, *, every_s: float, began_s: float, now_ms: Now
    ) -> None:
        """Send an event every so often and wait for its look, until cancelled."""
        while True:
            log = await http.send(traffic.events(1, now_ms()))
            answered_s = time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._past(log), LOOK_TIMEOUT_S)
            now_s = time.monotonic()
            self.latencies.append(Latency(now_s - began_s, (now_s - answered_s) * 1_000))
            await asyncio.sleep(every_s)

    async def _take(self, message: str | bytes) -> None:
        look = msgspec.json.decode(message).get("look")
        if look:
            async with self._looked:
                self._offsets = look["offsets"]
                self._looked.notify_all()

    async def _past(self, log: Mapping[str, int]) -> None:
        async with self._looked:
            await self._looked.wait_for(
                lambda: all(self._offsets.get(name, -1) > offset for name, offset in log.items())
            )
