"""Reads what the query API shows: every look over the WebSocket, the ledger every two seconds."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tools.demo.campaigns import ALPHA, experiment_id
from tools.demo.dataset import CAMPAIGNS
from tools.demo.latency import LatencyMeter
from tools.demo.results import fixed_p_value_in, reading_in

LEDGER_EVERY_S = 2.0
RECONNECT_AFTER_S = 0.5


@dataclass
class Path:
    """What someone saw who watched one campaign all the time.

    Attributes:
        looks: Looks with a p-value, those before the burn-in included.
        significant_looks: Those whose fixed-horizon p-value was below alpha.
        excluding_looks: Those whose always-valid interval excluded 0.
    """

    looks: int = 0
    significant_looks: int = 0
    excluding_looks: int = 0

    def add(self, results: dict[str, Any]) -> None:
        """Take one more look."""
        p_value, reading = fixed_p_value_in(results), reading_in(results)
        if p_value is not None:
            self.looks += 1
            self.significant_looks += p_value < ALPHA
        if reading is not None:
            self.excluding_looks += reading.excludes_zero


@dataclass
class Watch:
    """What was seen so far.

    Attributes:
        results: Latest results by campaign.
        paths: By campaign, over all looks.
        ledger: Latest ledger; None before the first.
        meter: Matches answers of the gateway with looks.
        first_result_s: When the first look with a unit in it arrived, on the monotonic clock.
    """

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    ledger: dict[str, Any] | None = None
    meter: LatencyMeter = field(default_factory=LatencyMeter)
    first_result_s: float | None = None

    def take(self, campaign: str, results: dict[str, Any], now_s: float) -> None:
        """Note results that arrived."""
        look = results.get("look")
        if not look:
            return
        if self.first_result_s is None and any(one["units"] for one in results["variants"]):
            self.first_result_s = now_s
        previous = self.results.get(campaign)
        self.results[campaign] = results
        if previous is None or previous["look"]["tick"] != look["tick"]:
            self.paths.setdefault(campaign, Path()).add(results)
            self.meter.looked(experiment_id(campaign), look["offsets"], now_s)


async def watch_all(watch: Watch, query_url: str, client: httpx.AsyncClient) -> None:
    """Watch every campaign and the ledger until cancelled."""
    async with asyncio.TaskGroup() as group:
        for campaign in CAMPAIGNS:
            group.create_task(_watch_campaign(watch, query_url, campaign))
        group.create_task(_watch_ledger(watch, client))


async def _watch_campaign(watch: Watch, query_url: str, campaign: str) -> None:
    address = query_url.replace("http", "ws", 1)
    url = f"{address}/v1/experiments/{experiment_id(campaign)}/live"
    while True:
        try:
            async with connect(url, max_size=None, proxy=None) as socket:
                async for message in socket:
                    watch.take(campaign, msgspec.json.decode(message), time.monotonic())
        except (OSError, WebSocketException):
            pass  # it says again where it stands as soon as it is back
        await asyncio.sleep(RECONNECT_AFTER_S)


async def _watch_ledger(watch: Watch, client: httpx.AsyncClient) -> None:
    while True:
        watch.ledger = await read_ledger(client) or watch.ledger
        await asyncio.sleep(LEDGER_EVERY_S)


async def read_ledger(client: httpx.AsyncClient) -> dict[str, Any] | None:
    """Return the ledger as the query API shows it, None if it does not at present."""
    return await _read(client, "/v1/ledger")


async def read_results(
    client: httpx.AsyncClient, campaigns: Iterable[str] = CAMPAIGNS
) -> dict[str, dict[str, Any]]:
    """Return the results that the query API shows at present, by campaign."""
    answers = {
        campaign: await _read(client, f"/v1/experiments/{experiment_id(campaign)}/results")
        for campaign in campaigns
    }
    return {campaign: answer for campaign, answer in answers.items() if answer is not None}


async def _read(client: httpx.AsyncClient, path: str) -> dict[str, Any] | None:
    try:
        response = await client.get(path)
    except httpx.TransportError:
        return None
    if response.status_code != httpx.codes.OK:
        return None
    answer = response.json()
    return answer if isinstance(answer, dict) else None
