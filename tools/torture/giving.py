"""Gives commands to the gateway, each until it is answered by no 5xx, and notes all of it."""

import asyncio
from collections.abc import Callable

import httpx

from tools.torture.journal import CommandAttempt, Journal

RETRY_S = 0.25
_TIMEOUT_S = 15.0


class Commander:
    """Sends what is no event: commands, and batches of imports."""

    def __init__(
        self,
        gateway_url: str,
        journal: Journal,
        *,
        now_ms: Callable[[], int],
        retry_s: float = RETRY_S,
    ) -> None:
        self._client = httpx.AsyncClient(base_url=gateway_url, timeout=_TIMEOUT_S, trust_env=False)
        self._journal = journal
        self._now_ms = now_ms
        self._retry_s = retry_s

    async def give(self, method: str, path: str, body: bytes) -> httpx.Response:
        """Return the first answer that is no 5xx. Every try has the same key."""
        number = self._journal.command(method, path, body, at_ms=self._now_ms())
        is_batch = method == "POST" and path.startswith("/v1/imports/")
        kind = "application/x-ndjson" if is_batch else "application/json"
        headers = {"Content-Type": kind, "Idempotency-Key": f"command-{number}"}
        while True:
            try:
                answer = await self._client.request(method, path, content=body, headers=headers)
            except httpx.TransportError:
                self._journal.append(CommandAttempt(number, self._now_ms(), 0))
            else:
                status = answer.status_code
                self._journal.append(CommandAttempt(number, self._now_ms(), status, answer.content))
                if status < 500:
                    return answer
            await asyncio.sleep(self._retry_s)

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()
