"""Imports are sent until each batch is done; what was told of them is held to the log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tools.ports import free_ports
from tools.torture.audit.findings import Findings
from tools.torture.audit.imports import Logged, compare_imports, read_sent
from tools.torture.experiments import COVARIATE_DAYS, KEEP_DAYS
from tools.torture.giving import Commander
from tools.torture.importing import SPANS, Importer
from tools.torture.journal import Command, CommandAttempt, Entry, Journal, read_journal

NOW_MS = 1_795_284_000_000
PARTITIONS = 3
BATCHES = 30


class Gateway:
    """A gateway that fails, forgets to answer, and takes each number once; ``lax``: any content.

    Attributes:
        done: Content of every batch, by import.
        seen: Answers that were given, by status and code.
    """

    def __init__(self, random: Random, *, lax: bool = False) -> None:
        self._random = random
        self._lax = lax
        self.app = FastAPI()
        self.app.put("/v1/imports/{name}")(self.declare)
        self.app.post("/v1/imports/{name}/{number}")(self.take)
        self.done: dict[str, list[bytes]] = {}
        self.seen: set[tuple[int, str]] = set()

    async def declare(self, name: str, request: Request) -> Response:
        body = await request.json()
        assert body["metrics"] == ["buy", "view"]
        assert body["from"] <= body["to"] < "2026-11-21", "the days before today"
        is_new = name not in self.done
        self.done.setdefault(name, [])
        return JSONResponse(body, 201 if is_new else 200)

    async def take(self, name: str, number: int, request: Request) -> Response:
        body = await request.body()
        assert request.headers["content-type"] == "application/x-ndjson"
        chance = self._random.random()
        status, code = self._judge(self.done[name], number, body) if chance > 0.2 else (503, "")
        if 0.2 < chance < 0.4:
            status, code = 500, ""  # it is taken, but that is not said
        self.seen.add((status, code))
        return JSONResponse({"code": code}, status)

    def _judge(self, done: list[bytes], number: int, body: bytes) -> tuple[int, str]:
        if number == len(done) + 1:
            done.append(body)
            return 202, ""
        if number <= len(done) and (self._lax or done[number - 1] == body):
            return 200, ""
        return 409, "import_batch_differs" if number <= len(done) else "import_out_of_order"


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    (port,) = free_ports(1)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


async def run(gateway: Gateway, path: Path) -> tuple[Importer, list[Entry]]:
    """Import until so many batches are done; return who did, and the journal."""
    async with served(gateway.app) as url:
        with Journal(path) as journal:
            commander = Commander(url, journal, now_ms=lambda: NOW_MS, retry_s=0.01)
            importer = Importer(
                commander, unit_count=lambda: 40, random=Random(5), now_ms=lambda: NOW_MS
            )
            is_over = asyncio.Event()
            importing = asyncio.create_task(importer.go_on(is_over, every_s=0.01))
            async with asyncio.timeout(60):
                while importer.batches < BATCHES and not importing.done():
                    await asyncio.sleep(0.01)
            is_over.set()
            await importing
            await commander.close()
    return importer, list(read_journal(path))


def logged(done: dict[str, list[bytes]]) -> Logged:
    """Return what the log holds when a gateway wrote just what it took."""
    entries: list[Entry] = []
    for name, bodies in done.items():
        for number, body in enumerate(bodies, 1):
            place = len(entries)
            entries.append(Command(place, 0, "POST", f"/v1/imports/{name}/{number}", body))
            entries.append(CommandAttempt(place, 0, 202))
    contents = read_sent(entries, PARTITIONS).done
    return {
        partition: {key: one[0][partition] for key, one in contents.items()}
        for partition in range(PARTITIONS)
    }


async def test_every_batch_is_done_once_through_a_gateway_that_fails(tmp_path: Path) -> None:
    gateway = Gateway(Random(1))

    importer, entries = await run(gateway, tmp_path / "journal")

    assert importer.problems == []
    assert set(gateway.done) == set(SPANS)
    assert sum(map(len, gateway.done.values())) == importer.batches >= BATCHES
    assert gateway.seen >= {(202, ""), (200, ""), (409, "import_batch_differs"), (503, "")}
    findings = Findings()
    compare_imports(read_sent(entries, PARTITIONS), logged(gateway.done), findings)
    assert findings.differences == []
    assert findings.compared["imported rows"] == sum(
        len(body.splitlines()) for bodies in gateway.done.values() for body in bodies
    )


async def test_what_was_told_differs_from_a_log_that_lacks_a_row(tmp_path: Path) -> None:
    gateway = Gateway(Random(1))
    _, entries = await run(gateway, tmp_path / "journal")
    first = gateway.done["newer"][0]
    gateway.done["newer"][0] = b"\n".join(first.splitlines()[1:])
    findings = Findings()

    compare_imports(read_sent(entries, PARTITIONS), logged(gateway.done), findings)

    [line] = findings.differences
    assert "import newer, batch 1, partition" in line


async def test_a_gateway_that_takes_other_rows_under_a_number_is_a_problem(tmp_path: Path) -> None:
    importer, entries = await run(Gateway(Random(1), lax=True), tmp_path / "journal")

    assert importer.problems
    assert all("must be 409 import_batch_differs" in one for one in importer.problems)
    findings = Findings()
    compare_imports(
        read_sent(entries, PARTITIONS), {one: {} for one in range(PARTITIONS)}, findings
    )
    assert any("two different contents" in line for line in findings.differences)


def days_of(span: Any) -> set[int]:
    return set(range(span.last, span.first + 1))


def test_imports_share_no_day_and_reach_further_back_than_covariates() -> None:
    older, newer = (days_of(SPANS[name]) for name in ("older", "newer"))

    assert not older & newer
    assert min(older | newer) == 1
    assert max(older) > COVARIATE_DAYS
    assert max(older) <= KEEP_DAYS
