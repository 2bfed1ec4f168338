"""The ledger: the engine's account of every row, beside the doors' and the history's. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from query_api.history.queries import Comparison
from query_api.history.writer import Position
from query_api.kafka_log import Source
from schemas.topics import DEAD_LETTERS, EVENTS, LATE

Json = dict[str, Any]

FATES = ("fresh", "duplicate", "conflict", "stale", "refused")
_NO_ROWS = dict.fromkeys(("received", *FATES), 0)


class Doors(NamedTuple):
    """What the doors wrote, as a fold of their topics."""

    received: int
    late: int
    rejected: int


def doors_of(stored: Mapping[Source, Position]) -> Doors:
    """Return the doors' account, given how many rows of each topic the history has read."""

    def total(topic: str) -> int:
        return sum(p.row_count for source, p in stored.items() if source.topic == topic)

    return Doors(total(EVENTS.name), total(LATE.name), total(DEAD_LETTERS.name))


def events_offsets(stored: Mapping[Source, Position]) -> dict[int, int]:
    """Return the first offset not stored, per partition of litmus.events."""
    return {s.partition: p.next_offset for s, p in stored.items() if s.topic == EVENTS.name}


def engine_offsets(ledger: Json | None) -> dict[int, int]:
    """Return the first offset that the engine's account does not cover, per partition."""
    return {one["partition"]: one["offset"] for one in ledger["partitions"]} if ledger else {}


def lagging(stored: Mapping[Source, Position], ledger: Json | None) -> list[int]:
    """Return the partitions of which the engine has accounted for more than the history holds."""
    offsets = events_offsets(stored)
    return [p for p, end in sorted(engine_offsets(ledger).items()) if offsets.get(p, 0) < end]


def compose(
    engine: Json | None,
    *,
    doors: Doors,
    received_at_engine: Mapping[int, int],
    history: Comparison,
    behind: list[int],
) -> Json:
    """Return the ledger of the contract.

    Args:
        engine: Record of litmus.ledger; None before the first.
        doors: The doors' account.
        received_at_engine: Per partition, what the doors wrote below the engine's offset.
        history: Stored rows against the log.
        behind: Partitions whose history ends below the engine's offset: not balanced yet.
    """
    partitions = engine["partitions"] if engine else []
    is_balanced = not behind and all(
        _is_accounted_for(one) and one["received"] == received_at_engine.get(one["partition"], 0)
        for one in partitions
    )
    return {
        "balanced": is_balanced,
        "doors": {"posted": sum(doors), **doors._asdict()},
        "rows": {**_NO_ROWS, **(engine["rows"] if engine else {})},
        "partitions": partitions,
        "experiments": engine["experiments"] if engine else {},
        "clickhouse": history._asdict(),
        "tick": engine["tick"] if engine else None,
        "as_of": engine.get("as_of") if engine else None,
        "behind": behind,
    }


def _is_accounted_for(partition: Json) -> bool:
    return bool(partition["received"] == sum(partition[fate] for fate in FATES))
