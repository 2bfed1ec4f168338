"""What merge remembers, in records that are each valid as of their own tick.

They go to a changelog without a transaction: after a crash the last few writes may be missing.
The progress is written after the experiments it covers, so what is lost is replayed, and an
experiment whose record is newer than the progress skips what it already contains.

An experiment whose record does not fit into a message is written in parts, into one of two slots
by turns: the slot that holds its newest whole record is never the one that is written to, so
wherever a crash cuts the writes off, the record before is still whole. Every part names its tick,
how many there are and the hash of the whole; the newest record that is whole counts, be it single
or in parts. What is left of older ones is overwritten in time, or never read again.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from schemas.control import Settings, Times
from schemas.definitions import Definition
from schemas.partials import ExperimentSums, ImportCount, Ledger
from stream_processors.merge.path import ExperimentPath

PROGRESS_KEY = "progress"
EXPERIMENT_PREFIX = "experiment/"
PART_PREFIX = "experiment-part/"
RECORD_BYTES_MAX = 900_000

PART_HEAD_BYTES = 64
"""Of a part, what is not the experiment's own bytes is less."""


class RecordTooLargeError(Exception):
    """A record would not fit into a message of the changelog."""


class RecordDamagedError(Exception):
    """No whole record is left of an experiment, although the progress says that there is one."""


class ProgressRecord(msgspec.Struct, frozen=True):
    """How far merge is, and what concerns no single experiment.

    Attributes:
        log_id: Which control log; empty before the first tick.
        tick: Last tick that was merged.
        times: Its times.
        resume_offset: Smallest offset of ``litmus.partials`` that is not merged.
        settings: The logged settings at the tick.
        offsets: Per partition of ``litmus.events``, the first offset that is not merged.
        ledgers: Per partition, its rows so far.
        imports: Per partition, what it has taken of imports; None while it has not said so. Empty
            in records from before they were counted.
    """

    log_id: str
    tick: int
    times: Times
    resume_offset: int
    settings: Settings
    offsets: list[int]
    ledgers: list[Ledger]
    imports: list[list[ImportCount] | None] = msgspec.field(default_factory=list)


class ExperimentRecord(msgspec.Struct, frozen=True):
    """One experiment, as of its own tick.

    Attributes:
        tick: Last tick that changed it.
        definition: As of that tick.
        sums: Last report per partition.
        state_versions: Rules under which each of these was counted.
        path: Path state after the last look.
        is_owed: Whether a look was due and skipped, or none was computed yet.
        sha256: Identity of the last look; empty before the first.
    """

    tick: int
    definition: Definition
    sums: dict[int, ExperimentSums]
    state_versions: dict[int, int]
    path: ExperimentPath
    is_owed: bool
    sha256: str


class ExperimentPart(msgspec.Struct, frozen=True, array_like=True):
    """A part of the record of an experiment that is too large for one message.

    Attributes:
        tick: Of the record.
        number: Of this part, from 0.
        count: How many parts there are.
        sha256: Of the bytes of all parts together.
        data: Its bytes of ``ExperimentRecord``.
    """

    tick: int
    number: int
    count: int
    sha256: bytes
    data: bytes


class KeptExperiment(NamedTuple):
    """An experiment as it was found.

    Attributes:
        record: Its newest whole record.
        slot: Where its parts are; None if it is a single record.
    """

    record: ExperimentRecord
    slot: int | None


_encoder = msgspec.msgpack.Encoder()
_progress_decoder = msgspec.msgpack.Decoder(ProgressRecord)
_experiment_decoder = msgspec.msgpack.Decoder(ExperimentRecord)
_part_decoder = msgspec.msgpack.Decoder(ExperimentPart)


def experiment_key(experiment_id: str) -> str:
    """Return the key of an experiment's record."""
    return EXPERIMENT_PREFIX + experiment_id


def part_key(experiment_id: str, slot: int, number: int) -> str:
    """Return the key of a part of an experiment's record."""
    return f"{PART_PREFIX}{slot}/{number}/{experiment_id}"


def encode_progress(record: ProgressRecord) -> bytes:
    """Return the bytes of the progress.

    Raises:
        RecordTooLargeError: If the changelog would refuse them.
    """
    value = _encoder.encode(record)
    if len(value) > RECORD_BYTES_MAX:
        message = f"{PROGRESS_KEY}: {len(value)} bytes, must be {RECORD_BYTES_MAX} at most"
        raise RecordTooLargeError(message)
    return value


def encode_experiment(
    record: ExperimentRecord, *, held: int | None, bytes_max: int = RECORD_BYTES_MAX
) -> tuple[dict[str, bytes], int | None]:
    """Return what is to be written of an experiment, and the slot that it goes to.

    Args:
        record: The experiment.
        held: Slot of its newest whole record; None if that is a single one, or none was written.
        bytes_max: No value is larger.
    """
    value = _encoder.encode(record)
    experiment_id = record.definition.id
    if len(value) <= bytes_max:
        return {experiment_key(experiment_id): value}, None
    slot = 1 if held == 0 else 0
    size = bytes_max - PART_HEAD_BYTES
    starts = range(0, len(value), size)
    sha256 = hashlib.sha256(value).digest()
    return {
        part_key(experiment_id, slot, number): _encoder.encode(
            ExperimentPart(record.tick, number, len(starts), sha256, value[start : start + size])
        )
        for number, start in enumerate(starts)
    }, slot


def decode_progress(value: bytes) -> ProgressRecord:
    """Return the record of the progress."""
    return _progress_decoder.decode(value)


def decode_experiment(value: bytes) -> ExperimentRecord:
    """Return the record of an experiment."""
    return _experiment_decoder.decode(value)


def kept_experiments(records: Mapping[str, bytes], progress_tick: int) -> Iterator[KeptExperiment]:
    """Yield the newest whole record of every experiment.

    An experiment of which there are only parts that are not all there was being written for the
    first time when the worker died: it is not among them, and is replayed.

    Args:
        records: What the changelog holds.
        progress_tick: Tick of the progress among them; 0 without one.

    Raises:
        RecordDamagedError: If an experiment up to that tick has no whole record, or its bytes are
            others than its parts say.
    """
    newest: dict[str, KeptExperiment] = {}
    for key, value in records.items():
        if key.startswith(EXPERIMENT_PREFIX):
            newest[key.removeprefix(EXPERIMENT_PREFIX)] = KeptExperiment(
                decode_experiment(value), None
            )
    for experiment_id, sets in _sets_of_parts(records).items():
        for (slot, tick, count, sha256), parts in sets.items():
            known = newest.get(experiment_id)
            if len(parts) == count and (known is None or known.record.tick < tick):
                record = _joined(experiment_id, [parts[at] for at in range(count)], sha256)
                newest[experiment_id] = KeptExperiment(record, slot)
        if experiment_id not in newest and min(tick for _, tick, _, _ in sets) <= progress_tick:
            raise RecordDamagedError(
                f"{experiment_id}: parts of its record are missing. Something else than merge "
                "wrote to its changelog or removed from it; restore that topic from a copy"
            )
    yield from newest.values()


_PartsOf = tuple[int, int, int, bytes]
"""Whose parts belong together: slot, tick, count and hash."""


def _sets_of_parts(records: Mapping[str, bytes]) -> dict[str, dict[_PartsOf, dict[int, bytes]]]:
    """Return parts by experiment, then by what they are parts of, then by number."""
    found: dict[str, dict[_PartsOf, dict[int, bytes]]] = {}
    for key, value in records.items():
        if not key.startswith(PART_PREFIX):
            continue
        slot, _, experiment_id = key.removeprefix(PART_PREFIX).split("/", 2)
        part = _part_decoder.decode(value)
        belongs_to = (int(slot), part.tick, part.count, part.sha256)
        sets = found.setdefault(experiment_id, {})
        sets.setdefault(belongs_to, {})[part.number] = part.data
    return found


def _joined(experiment_id: str, parts: list[bytes], sha256: bytes) -> ExperimentRecord:
    value = b"".join(parts)
    if hashlib.sha256(value).digest() != sha256:
        raise RecordDamagedError(
            f"{experiment_id}: its parts are not what was written. Restore the changelog of merge "
            "from a copy"
        )
    return decode_experiment(value)
