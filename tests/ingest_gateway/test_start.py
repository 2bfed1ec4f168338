"""A gateway that has just started knows nothing: until it has read the control log it says so."""

import asyncio
import time

import httpx
import pytest

from ingest_gateway import routes_request
from schemas.control import Settings
from schemas.topics import LATE
from tests.ingest_gateway.worlds import MemoryControl, World

LATENESS_MS = 60_000

REQUESTS = [
    ("POST", "/v1/events", {"type": "metric", "unit_id": "u", "metric": "buy"}),
    ("POST", "/v1/decisions", {"unit_id": "u"}),
    ("GET", "/v1/experiments", None),
    ("GET", "/v1/experiments/checkout-color", None),
    ("POST", "/v1/experiments/checkout-color/start", {}),
    ("GET", "/v1/metrics", None),
    ("GET", "/v1/settings", None),
    ("GET", "/v1/imports", None),
]


def started_anew(world: World) -> MemoryControl:
    """Return the view of a gateway in memory, as it is before it has read anything."""
    control = world.parts.view
    assert isinstance(control, MemoryControl)
    control.forget()
    return control


async def test_before_the_control_log_was_read_every_request_is_sent_away_for_a_moment(
    memory: World,
) -> None:
    started_anew(memory)
    answers: list[httpx.Response] = await asyncio.gather(
        *(memory.client.request(method, path, json=body) for method, path, body in REQUESTS)
    )
    told = [(one.status_code, one.json()["code"]) for one in answers]
    assert told == [(503, "view_unavailable")] * len(REQUESTS)
    assert all(int(one.headers["retry-after"]) >= 1 for one in answers)


async def test_an_event_that_comes_before_the_log_was_read_is_judged_by_what_the_log_says(
    memory: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_request, "VIEW_TIMEOUT_S", 60.0)
    # Late by the logged setting, in time by the one that holds when there is none.
    age_ms = 2 * LATENESS_MS
    assert age_ms < Settings().lateness_ms
    answer = await memory.client.patch("/v1/settings", json={"lateness": f"{LATENESS_MS}ms"})
    assert answer.status_code == 200
    event = {
        "type": "metric",
        "unit_id": "u",
        "metric": "buy",
        "event_id": "e-1",
        "timestamp": int(time.time() * 1_000) - age_ms,
    }
    control = started_anew(memory)
    posting = asyncio.ensure_future(memory.client.post("/v1/events", json=event))
    await asyncio.wait([posting], timeout=0.15)
    assert not posting.done()
    control.read_all()
    answer = await posting
    assert (answer.status_code, answer.json()["accepted"], answer.json()["late"]) == (202, 0, 1)
    assert any(memory.read(LATE.name))
