"""The proxy as its user sees it: starts it, tells it what is to happen to a link, ends it."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tools.errors import StartError
from tools.settings import CHECKOUT

_ANSWER_SECONDS_MAX = 30.0


class Proxy:
    """A running proxy.

    Args:
        links: Name of a link to (port to listen on, port that it leads to).
    """

    def __init__(self, links: Mapping[str, tuple[int, int]]) -> None:
        self._links = dict(links)
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def change(
        self, link: str, *, delay_ms: int = 0, is_stalled: bool = False, is_cut: bool = False
    ) -> None:
        """Make a link like this; without arguments it is a good one again."""
        order = {"link": link, "delay_ms": delay_ms, "is_stalled": is_stalled, "is_cut": is_cut}
        assert self._process is not None
        assert self._process.stdin is not None
        async with self._turn:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            await self._answer()

    async def _answer(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(_ANSWER_SECONDS_MAX):
            if not await self._process.stdout.readline():
                raise StartError("The proxy of `litmus torture` has ended; its error stands above.")

    async def __aenter__(self) -> Self:
        """Start it; return when it listens."""
        leash = [sys.executable, "-I", str(CHECKOUT / "tools" / "leash.py"), str(os.getpid())]
        self._process = await asyncio.create_subprocess_exec(
            *leash,
            *(sys.executable, "-P", "-m", "tools.torture.proxy", json.dumps(self._links)),
            cwd=CHECKOUT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            process_group=0,  # Ctrl-C in the terminal is not for it
        )
        await self._answer()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
