"""Requests share the room that there is; who finds none is refused, and it is free again later."""

import time

import pytest

from ingest_gateway.errors import QueueFullError
from ingest_gateway.room import WAIT_S_MAX, Room
from tests.ingest_gateway.test_events_route import metric
from tests.ingest_gateway.worlds import World


def test_bodies_share_the_bytes() -> None:
    room = Room(bytes_max=1_000, requests_max=10, clock_s=time.monotonic)
    with room.hold() as first:
        first.grow(900)
        with room.hold() as second, pytest.raises(QueueFullError):
            second.grow(101)
    with room.hold() as later:
        later.grow(1_000)


def test_a_body_that_is_alone_always_fits() -> None:
    room = Room(bytes_max=1_000, requests_max=10, clock_s=time.monotonic)
    with room.hold() as only:
        only.grow(4_000)
    with room.hold() as first, room.hold() as second:
        first.grow(500)
        second.grow(500)


def test_a_request_takes_a_place_only_once_its_body_is_there() -> None:
    room = Room(bytes_max=1_000, requests_max=1, clock_s=time.monotonic)
    with room.hold() as trickling, room.hold() as working:
        trickling.grow(10)
        working.begin()
        with room.hold() as late, pytest.raises(QueueFullError):
            late.begin()
    with room.hold() as after:
        after.begin()


def test_a_refused_request_leaves_nothing_behind() -> None:
    room = Room(bytes_max=1_000, requests_max=1, clock_s=time.monotonic)
    with room.hold() as first:
        first.begin()
        first.grow(600)
        for _ in range(5):
            with room.hold() as refused:
                refused.grow(300)
                with pytest.raises(QueueFullError):
                    refused.begin()
            with pytest.raises(QueueFullError), room.hold() as refused:
                refused.grow(500)
    with room.hold() as after:
        after.begin()
        after.grow(1_000)


def test_while_the_oldest_waits_too_long_no_other_is_begun() -> None:
    now_s = 100.0
    room = Room(bytes_max=1_000, requests_max=10, clock_s=lambda: now_s)
    with room.hold() as oldest:
        oldest.begin()
        now_s += WAIT_S_MAX
        assert not room.is_congested
        with room.hold() as second:
            second.begin()
        now_s += 0.1
        assert room.is_congested
        with room.hold() as third, pytest.raises(QueueFullError, match="wait"):
            third.begin()
    assert not room.is_congested


async def test_while_requests_wait_too_long_events_are_refused_before_their_body_is_read(
    memory: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = memory.parts.room
    with room.hold() as held:
        held.begin()
        monkeypatch.setattr(room, "_clock_s", lambda: time.monotonic() + 10)
        refused = await memory.client.post("/v1/events", content=b"anything")
        others = await memory.client.get("/health")
        decided = await memory.client.post("/v1/decisions", json={"unit_id": "u"})
    taken = await memory.client.post("/v1/events", json=metric())

    assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
    assert refused.headers["Retry-After"] == "1"
    assert (others.status_code, decided.status_code, taken.status_code) == (200, 200, 202)
