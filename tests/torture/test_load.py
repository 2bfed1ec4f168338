"""A load gives every event to its door, resends what may be lost, and notes all of it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from schemas.topics import ASSIGNMENTS, METRICS
from tests.stack import Broker
from tools.ports import free_ports
from tools.torture.crowd import Crowd, Habits
from tools.torture.experiments import Running
from tools.torture.journal import Attempt, Delivery, Event, Hostile, Journal, Posting, read_journal
from tools.torture.load import Accepted, Load

NOW_MS = 1_795_284_000_000
STEADY = ["x"]
RECORDS = 150


def _is_nameless(item: Event | Hostile) -> bool:
    return isinstance(item, Event) and item.event_id is None


class Door:
    """A door that fails, is silent, or forgets to say that it took something."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.app = FastAPI()
        self.app.post("/v1/events")(self.take)
        self.taken: Counter[str] = Counter()

    async def take(self, request: Request) -> Response:
        body = await request.body()
        chance = self._random.random()
        if chance < 0.1:
            return Response("not now", 503)
        lines = self._lines(body, request.headers["content-type"])
        good = [line for line in lines if self._is_good(line)]
        self.taken.update(good)
        if chance < 0.2:
            return Response("it is taken, but that is not said", 500)
        answer: dict[str, Any] = {
            "accepted": len(good),
            "late": 0,
            "rejected": [
                {"index": at, "code": "malformed", "field": None, "message": "bad"}
                for at, line in enumerate(lines)
                if line not in good
            ],
            "log": {"0": sum(self.taken.values())},
        }
        return Response(json.dumps(answer), 202 if good else 422)

    def _lines(self, body: bytes, form: str) -> list[str]:
        if form == "application/x-ndjson":
            return [line.decode() for line in body.split(b"\n")]
        found = json.loads(body)
        return [json.dumps(one) for one in (found if isinstance(found, list) else [found])]

    def _is_good(self, line: str) -> bool:
        try:
            return "hostile" not in json.loads(line)
        except ValueError:
            return False


@asynccontextmanager
async def served(door: Door) -> AsyncIterator[str]:
    (port,) = free_ports(1)
    config = uvicorn.Config(door.app, host="127.0.0.1", port=port, log_level="critical")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


async def test_all_is_answered_in_the_end_through_doors_that_fail(
    broker: Broker, topics: Any, tmp_path: Path
) -> None:
    topics(2)
    accepted: list[Accepted] = []
    door = Door(Random(1))
    # Bytes that break a rule are the real door's business; this one knows no rules.
    crowd = Crowd(
        Random(2), Running(STEADY), lateness_ms=60_000, habits=Habits(hostile=0.0, late=0.0)
    )
    async with served(door) as url:
        with Journal(tmp_path / "journal") as journal:
            load = Load(
                crowd,
                journal,
                gateway_url=url,
                kafka=broker.bootstrap,
                random=Random(3),
                now_ms=lambda: NOW_MS,
                on_accepted=accepted.append,
            )
            await load.prefill(2_500, lambda _: None)
            is_over = asyncio.Event()
            async with asyncio.timeout(300), asyncio.TaskGroup() as tasks:
                tasks.create_task(load.run(is_over, rate=800))
                while load.records < RECORDS or not load.retries:
                    await asyncio.sleep(0.05)
                is_over.set()
            await load.close()

    entries = list(read_journal(tmp_path / "journal"))
    postings = {entry.number: entry for entry in entries if isinstance(entry, Posting)}
    fates = {entry.number: entry.fate for entry in entries if isinstance(entry, Attempt | Delivery)}
    attempts = Counter(entry.number for entry in entries if isinstance(entry, Attempt))
    by_http = [one for one in postings.values() if one.door == "http"]
    by_kafka = [one for one in postings.values() if one.door == "kafka"]
    assert load.problems == []
    assert fates == dict.fromkeys(postings, "accepted"), "the last word on each"
    assert max(attempts.values()) > 1
    assert load.retries == sum(attempts.values()) - len(attempts)
    assert {one.topic for one in by_kafka} == {ASSIGNMENTS.name, METRICS.name}
    assert len(by_kafka) == load.records
    nameless = [one for one in postings.values() if any(_is_nameless(it) for it in one.items)]
    assert nameless, "no event without an id was sent"
    assert {one.door for one in nameless} == {"kafka"}
    sent = {
        (item.unit, item.event_id)
        for one in by_http
        for item in one.items
        if isinstance(item, Event)
    }
    taken = {(one["unit_id"], one["event_id"]) for one in map(json.loads, door.taken)}
    assert sent == taken, "nothing lost, nothing made up"
    assert sum(one.rows for one in accepted) == load.rows_accepted
    assert all(one.log or one.appended_ms for one in accepted)


async def test_an_answer_that_must_not_be_is_a_problem(
    broker: Broker, topics: Any, tmp_path: Path
) -> None:
    topics(2)

    class Refusing(Door):
        def _is_good(self, line: str) -> bool:
            return "u-7" not in line

    crowd = Crowd(Random(2), Running(STEADY), lateness_ms=60_000)
    async with served(Refusing(Random(1))) as url:
        with Journal(tmp_path / "journal") as journal:
            load = Load(
                crowd,
                journal,
                gateway_url=url,
                kafka=broker.bootstrap,
                random=Random(3),
                now_ms=lambda: NOW_MS,
            )
            await load.prefill(10, lambda _: None)
            await load.close()

    assert len(load.problems) == 1
    assert "must be accepted, is malformed" in load.problems[0]
