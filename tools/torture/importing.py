"""Sends history of units in numbered batches while everything breaks, and notes all of it.

Each batch is sent until it is answered by no 5xx. Some are sent twice at once, some again when
they are done, some with other rows: then the first content must stay.
"""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

import httpx

from tools.torture.experiments import COVARIATE_DAYS, EVENTS
from tools.torture.giving import Commander

Json = dict[str, Any]

ROWS_MAX = 200
NEWCOMERS = 500
"""Units whose history is there before they are: so many beyond those that have come."""

_DAY_MS = 86_400_000
_TWICE_SHARE, _AGAIN_SHARE, _OTHER_SHARE = 0.2, 0.3, 0.25


class _Span(NamedTuple):
    """Days before today, both included: no two imports of a metric may share one."""

    first: int
    last: int


SPANS = {"older": _Span(COVARIATE_DAYS + 2, 5), "newer": _Span(4, 1)}
"""Imports of a run. The first ones of the older are before all covariates, and must not show."""


class Importer:
    """Imports history until told to end.

    Attributes:
        batches: That were done.
        problems: Answers that must not be.
    """

    def __init__(
        self,
        commander: Commander,
        *,
        unit_count: Callable[[], int],
        random: Random,
        now_ms: Callable[[], int],
    ) -> None:
        self._commander = commander
        self._unit_count = unit_count
        self._random = random
        self._now_ms = now_ms
        self._today = datetime.fromtimestamp(now_ms() / 1_000, UTC).date()
        self.batches = 0
        self.problems: list[str] = []

    async def go_on(self, is_over: asyncio.Event, *, every_s: float) -> None:
        """Declare the imports, and send batch after batch of all of them side by side."""
        async with asyncio.TaskGroup() as imports:
            for name in SPANS:
                imports.create_task(self._import(name, is_over, every_s))

    async def _import(self, name: str, is_over: asyncio.Event, every_s: float) -> None:
        first, last = (self._today - timedelta(days) for days in SPANS[name])
        body = {"metrics": list(EVENTS), "from": first.isoformat(), "to": last.isoformat()}
        for _ in range(2):  # declared again it is the same
            answer = await self._commander.give("PUT", f"/v1/imports/{name}", _encoded(body))
            self._expect(answer, 200, 201)
        number = 0
        while not is_over.is_set():
            number += 1
            await self._send(name, number)
            pause_s = self._random.uniform(0.5, 1.5) * every_s
            try:
                await asyncio.wait_for(is_over.wait(), pause_s)
            except TimeoutError:
                continue

    async def _send(self, name: str, number: int) -> None:
        """Send a batch until it is done; now and then more often than that."""
        random, path = self._random, f"/v1/imports/{name}/{number}"
        rows = self._rows(name)
        copies = 2 if random.random() < _TWICE_SHARE else 1
        sending = (self._commander.give("POST", path, rows) for _ in range(copies))
        for answer in await asyncio.gather(*sending):
            self._expect(answer, 200, 202)
        self.batches += 1
        if random.random() < _AGAIN_SHARE:
            self._expect(await self._commander.give("POST", path, rows), 200)
        if random.random() < _OTHER_SHARE:
            answer = await self._commander.give("POST", path, self._rows(name))
            self._expect(answer, 409, code="import_batch_differs")

    def _rows(self, name: str) -> bytes:
        """Return rows of a batch as NDJSON: units that came, and some that may come."""
        random, span = self._random, SPANS[name]
        units = self._unit_count() + NEWCOMERS
        today_ms = int(datetime.combine(self._today, datetime.min.time(), UTC).timestamp()) * 1_000
        lines = []
        for _ in range(random.randint(1, ROWS_MAX)):
            day_ms = today_ms - random.randint(span.last, span.first) * _DAY_MS
            row = {
                "type": "metric",
                "unit_id": f"u-{random.randrange(units)}",
                "metric": random.choice(EVENTS),
                "timestamp": day_ms + random.randrange(_DAY_MS),
                "value": random.randint(-3_000, 9_000) / 1_024,
            }
            lines.append(json.dumps(row))
        return "\n".join(lines).encode()

    def _expect(self, answer: httpx.Response, *statuses: int, code: str = "") -> None:
        told = answer.json().get("code", "") if answer.status_code >= 400 else ""
        if answer.status_code not in statuses or told != code:
            wanted = " or ".join(map(str, statuses))
            self.problems.append(
                f"{answer.request.method} {answer.request.url.path} must be {wanted} {code}, "
                f"is {answer.status_code} {answer.text[:300]}"
            )


def _encoded(body: Json) -> bytes:
    return json.dumps(body).encode()
