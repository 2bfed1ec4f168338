"""Requests share the room that there is; who finds none is refused, and it is free again later."""

import pytest

from ingest_gateway.errors import QueueFullError
from ingest_gateway.room import Room


def test_bodies_share_the_bytes() -> None:
    room = Room(bytes_max=1_000, requests_max=10)
    with room.hold() as first:
        first.grow(900)
        with room.hold() as second, pytest.raises(QueueFullError):
            second.grow(101)
    with room.hold() as later:
        later.grow(1_000)


def test_a_body_that_is_alone_always_fits() -> None:
    room = Room(bytes_max=1_000, requests_max=10)
    with room.hold() as only:
        only.grow(4_000)
    with room.hold() as first, room.hold() as second:
        first.grow(500)
        second.grow(500)


def test_a_request_takes_a_place_only_once_its_body_is_there() -> None:
    room = Room(bytes_max=1_000, requests_max=1)
    with room.hold() as trickling, room.hold() as working:
        trickling.grow(10)
        working.begin()
        with room.hold() as late, pytest.raises(QueueFullError):
            late.begin()
    with room.hold() as after:
        after.begin()


def test_a_refused_request_leaves_nothing_behind() -> None:
    room = Room(bytes_max=1_000, requests_max=1)
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
