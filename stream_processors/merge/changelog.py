"""Under which keys merge's changelog holds records, and which of them may be deleted.

The changelog is compacted: of a key only the newest value stays. A merge process that froze while
it wrote, and thaws when another has taken over, writes its older records after newer ones. So a
key names the tick that its record is as of, and no record is ever written over an older one: of
what is there the latest tick counts, whenever it came. A record that is larger than a message goes
in parts; a key also names the hash of the whole record, so that parts of two are never mixed.

A key is deleted only after a whole record of a later tick was acknowledged. Whoever deletes,
however late, the latest whole record stays.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

PREFIX = "at"
PROGRESS_KIND = "progress"
EXPERIMENT_KIND = "experiment"
IMPORTS_KIND = "imports"

_HASH_LENGTH = 16

_OLD_PROGRESS_KEY = "progress"
_OLD_EXPERIMENT_PREFIX = "experiment/"
_OLD_PART_PREFIX = "experiment-part/"
"""Keys without a tick, as written before: still read, deleted once there is a later record."""


class RecordDamagedError(Exception):
    """A record is not whole, or not what was written, although the progress builds on it."""


class Name(NamedTuple):
    """What a record is of: its kind, and the experiment if it is of one."""

    kind: str
    experiment_id: str = ""


PROGRESS = Name(PROGRESS_KIND)
IMPORTS = Name(IMPORTS_KIND)


class Key(NamedTuple):
    """A key of the changelog.

    Attributes:
        name: What the record is of.
        tick: As of which tick.
        part_count: How many parts it has.
        number: Of this part, from 0.
        sha256: Beginning of the hash of the whole record.
    """

    name: Name
    tick: int
    part_count: int
    number: int
    sha256: str

    def encode(self) -> str:
        """Return the key as it stands in the changelog."""
        kind, experiment_id = self.name
        where = f"{self.tick}/{self.part_count}/{self.number}/{self.sha256}"
        return f"{PREFIX}/{kind}/{where}/{experiment_id}"

    @classmethod
    def decode(cls, key: str) -> "Key":
        """Return a key of the changelog."""
        _, kind, tick, count, number, sha256, experiment_id = key.split("/", 6)
        return cls(Name(kind, experiment_id), int(tick), int(count), int(number), sha256)


def keys_of(name: Name, tick: int, value: bytes, bytes_max: int) -> dict[str, bytes]:
    """Return a record in parts of so many bytes, by key."""
    sha256 = hashlib.sha256(value).hexdigest()[:_HASH_LENGTH]
    starts = range(0, len(value), bytes_max)
    return {
        Key(name, tick, len(starts), number, sha256).encode(): value[start : start + bytes_max]
        for number, start in enumerate(starts)
    }


class _Found(NamedTuple):
    """Parts of one record."""

    tick: int
    part_count: int
    sha256: str
    parts: dict[int, bytes]

    def whole(self, name: Name) -> bytes | None:
        """Return the record, None if parts are missing."""
        if len(self.parts) < self.part_count:
            return None
        value = b"".join(self.parts[number] for number in range(self.part_count))
        if not hashlib.sha256(value).hexdigest().startswith(self.sha256):
            raise RecordDamagedError(
                f"{'/'.join(filter(None, name))}: what is there is not what was written. Restore "
                "the changelog of merge from a copy"
            )
        return value


class Changelog:
    """What the changelog holds, by key. ``read`` and ``release`` after a start, then ``write``."""

    def __init__(self, records: Mapping[str, bytes | None] = MappingProxyType({})) -> None:
        self._keys: dict[Name, dict[str, int]] = {}
        self._found: dict[Name, dict[tuple[int, str], _Found]] = {}
        self._superseded: set[str] = set()
        for key, value in records.items():
            if value is not None:
                self._add(key, value)

    def experiment_ids(self) -> list[str]:
        """Return of which experiments there is anything."""
        return sorted(name.experiment_id for name in self._found if name.kind == EXPERIMENT_KIND)

    def read(self, name: Name, tick: int | None = None) -> bytes | None:
        """Return the latest whole record, or that of a tick; None if there is none.

        Raises:
            RecordDamagedError: If its bytes are others than its key says.
        """
        for found in sorted(self._found.get(name, {}).values(), key=lambda one: -one.tick):
            value = found.whole(name) if tick in {None, found.tick} else None
            if value is not None:
                self._supersede(name, found.tick)
                return value
        return None

    def has_until(self, name: Name, tick: int) -> bool:
        """Return whether anything is there of a record of a tick or before, whole or not."""
        return any(found.tick <= tick for found in self._found.get(name, {}).values())

    def release(self) -> None:
        """Free what was read."""
        self._found.clear()

    def deletions(self) -> dict[str, None]:
        """Return what may be deleted, once; all that ``write`` returned before must be there."""
        superseded, self._superseded = sorted(self._superseded), set()
        return dict.fromkeys(superseded)

    def write(self, name: Name, tick: int, value: bytes, bytes_max: int) -> dict[str, bytes]:
        """Return the keys of a record, whose older ones may be deleted when it is there."""
        written = keys_of(name, tick, value, bytes_max)
        self._keys.setdefault(name, {}).update(dict.fromkeys(written, tick))
        self._supersede(name, tick)
        return written

    def _supersede(self, name: Name, tick: int) -> None:
        """Give up what is older; what a crash left of later records waits for still later ones."""
        keys = self._keys[name]
        older = [key for key, of_tick in keys.items() if of_tick < tick]
        for key in older:
            del keys[key]
        self._superseded.update(older)

    def _add(self, key: str, value: bytes) -> None:
        place = (_place if key.startswith(f"{PREFIX}/") else _old_place)(key, value)
        name, number, (tick, count, sha256, data) = place
        self._keys.setdefault(name, {})[key] = tick
        found = self._found.setdefault(name, {})
        empty = _Found(tick, count, sha256, {})
        found.setdefault((tick, sha256), empty).parts[number] = data


class _Content(NamedTuple):
    tick: int
    part_count: int
    sha256: str
    data: bytes


def _place(key: str, value: bytes) -> tuple[Name, int, _Content]:
    name, tick, count, number, sha256 = Key.decode(key)
    return name, number, _Content(tick, count, sha256, value)


# --- keys without a tick ---


class _OldPart(msgspec.Struct, frozen=True, array_like=True):
    """A part of a record; its key had one of two slots."""

    tick: int
    number: int
    count: int
    sha256: bytes
    data: bytes


class _OldRecord(msgspec.Struct, frozen=True):
    tick: int


_old_part_decoder = msgspec.msgpack.Decoder(_OldPart)
_old_record_decoder = msgspec.msgpack.Decoder(_OldRecord)


def _old_place(key: str, value: bytes) -> tuple[Name, int, _Content]:
    if key.startswith(_OLD_PART_PREFIX):
        part = _old_part_decoder.decode(value)
        _, _, experiment_id = key.removeprefix(_OLD_PART_PREFIX).split("/", 2)
        content = _Content(part.tick, part.count, part.sha256.hex(), part.data)
        return Name(EXPERIMENT_KIND, experiment_id), part.number, content
    single = _Content(_old_record_decoder.decode(value).tick, 1, "", value)
    if key == _OLD_PROGRESS_KEY:
        return PROGRESS, 0, single
    if key.startswith(_OLD_EXPERIMENT_PREFIX):
        return Name(EXPERIMENT_KIND, key.removeprefix(_OLD_EXPERIMENT_PREFIX)), 0, single
    raise RecordDamagedError(
        f"{key!r}: no key of the changelog of merge. Only merge may write there; delete the key"
    )
