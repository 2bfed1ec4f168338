"""What was published before a reader began: many records of an experiment, of which few count.

A compacted topic still holds what was written since the last compaction. To read a record whole
takes hundreds of microseconds, to see which look it holds a tenth of that. Pure.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

_NONE = ("", -1)


class _Look(msgspec.Struct):
    tick: int
    log_id: str = ""


class _Results(msgspec.Struct):
    look: _Look | None = None


class _Definition(msgspec.Struct):
    version: int


class _Head(msgspec.Struct):
    """As much of a record of ``litmus.snapshots`` as says whether another one replaces it."""

    definition: _Definition
    results: _Results | None = None
    segments: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)


_head_decoder = msgspec.json.Decoder(_Head)


class _Held(NamedTuple):
    version: int
    look: tuple[str, int]
    value: bytes


class Backlog:
    """Records of ``litmus.snapshots`` in their order, without those that a later one replaces.

    Reading what is left gives the same snapshots as reading all of it: a record is left out only if
    a later one has no older definition and a newer look.

    Attributes:
        left_out: How many were replaced, or deleted.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._held: dict[str, list[_Held]] = {}
        self._deleted: set[str] = set()

    def add(self, key: str, value: bytes | None) -> None:
        """Take the next record in.

        Raises:
            msgspec.MsgspecError: If it is no snapshot.
        """
        if value is None:
            self.left_out += len(self._held.pop(key, ()))
            self._deleted.add(key)
            return
        head = _head_decoder.decode(value)
        look = head.results.look if head.results else None
        new = _Held(head.definition.version, (look.log_id, look.tick) if look else _NONE, value)
        held = self._held.setdefault(key, [])
        while held and held[-1].version <= new.version and held[-1].look < new.look:
            held.pop()
            self.left_out += 1
        held.append(new)

    def records(self) -> Iterator[tuple[str, bytes | None]]:
        """Yield what is left: keys, and values or None for a deletion that came before them."""
        for key in self._deleted:
            yield key, None
        for key, held in self._held.items():
            for one in held:
                yield key, one.value
