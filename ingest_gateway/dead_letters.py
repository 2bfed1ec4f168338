"""What is refused, set aside unchanged: with where it was and what is wrong with it. Pure."""

from typing import NamedTuple

from ingest_gateway.errors import Rejection
from schemas.topics import DEAD_LETTERS, MESSAGE_BYTES_MAX

HTTP = "http"
"""Stands for the topic of what came over HTTP."""

KEY_BYTES_MAX = 64_000
_HEADERS_BYTES_MAX = 8_000


class Source(NamedTuple):
    """Where an event came from.

    Attributes:
        topic: Its topic; ``HTTP`` if it came over HTTP.
        partition: Its partition; -1 over HTTP.
        offset: Its offset; over HTTP its index in the request.
        key: Its key on the topic.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None = None


class Message(NamedTuple):
    """A message on its way to a topic."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


def http_source(rejection: Rejection) -> Source:
    """Return the source of an event that was refused over HTTP."""
    return Source(HTTP, -1, rejection.index)


def dead_letter(
    rejection: Rejection, raw: bytes, source: Source, *, error_class: str = "Rejection"
) -> Message:
    """Return the refused bytes as they came, with headers that say where from and why.

    What is too large for a message is cut; ``litmus.dlq.bytes`` then says how long it was.

    Args:
        rejection: Why it was refused.
        raw: The original bytes.
        source: Where they were.
        error_class: Which kind of error refused them.
    """
    headers = {
        "litmus.dlq.topic": source.topic,
        "litmus.dlq.partition": str(source.partition),
        "litmus.dlq.offset": str(source.offset),
        "litmus.dlq.code": rejection.code.value,
        "litmus.dlq.error.class": error_class,
        "litmus.dlq.error.message": rejection.message[:1_000],
        "litmus.dlq.field": rejection.field or "",
    }
    key = None if source.key is None else source.key[:KEY_BYTES_MAX]
    room = MESSAGE_BYTES_MAX - _HEADERS_BYTES_MAX - len(key or b"")
    if len(raw) > room:
        headers["litmus.dlq.bytes"] = str(len(raw))
    encoded = [(name, text.encode("utf-8", "replace")) for name, text in headers.items()]
    return Message(DEAD_LETTERS.name, key, raw[:room], encoded)
