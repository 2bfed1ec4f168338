"""The changelog of merge as a compacted topic keeps it, and as it was before ticks were in keys."""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from stream_processors.merge.changelog import EXPERIMENT_KIND, IMPORTS_KIND, PROGRESS_KIND, Key
from stream_processors.merge.records import decode_imports

Write = tuple[str, bytes | None]


def compacted(writes: Iterable[Write]) -> dict[str, bytes]:
    """Return the newest value of every key that was not deleted."""
    return {key: value for key, value in dict(writes).items() if value is not None}


def as_before_ticks_were_in_keys(
    records: Mapping[str, bytes | None], *, bytes_max: int = 900_000, slot: int = 0
) -> dict[str, bytes]:
    """Return the same records under the keys, and in the parts, of before.

    ``records`` are all whole, one of each experiment.
    """
    whole: dict[tuple[str, str], bytes] = {}
    for place, value in sorted((Key.decode(key), value) for key, value in records.items() if value):
        whole[place.name] = whole.get(place.name, b"") + value
    older: dict[str, bytes] = {}
    imports = []
    for (kind, experiment_id), value in whole.items():
        if kind == IMPORTS_KIND:
            imports = decode_imports(value)
        elif kind == EXPERIMENT_KIND and len(value) <= bytes_max:
            older[f"experiment/{experiment_id}"] = value
        elif kind == EXPERIMENT_KIND:
            older |= _in_slot(experiment_id, value, bytes_max, slot)
    progress = msgspec.msgpack.decode(whole[PROGRESS_KIND, ""])
    del progress["imports_tick"]
    return older | {"progress": msgspec.msgpack.encode(progress | {"imports": imports})}


def _in_slot(experiment_id: str, value: bytes, bytes_max: int, slot: int) -> dict[str, bytes]:
    tick, sha256 = msgspec.msgpack.decode(value)["tick"], hashlib.sha256(value).digest()
    parts = [value[at : at + bytes_max] for at in range(0, len(value), bytes_max)]
    return {
        f"experiment-part/{slot}/{number}/{experiment_id}": msgspec.msgpack.encode(
            [tick, number, len(parts), sha256, part]
        )
        for number, part in enumerate(parts)
    }
