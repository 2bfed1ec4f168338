"""What merge remembers, in records that are each valid as of their own tick.

They go to a changelog without a transaction: after a crash the last few writes may be missing.
The progress is written after the experiments it covers, so what is lost is replayed, and an
experiment whose record is newer than the progress skips what it already contains.
"""

import msgspec

from schemas.control import Settings, Times
from schemas.definitions import Definition
from schemas.partials import ExperimentSums, Ledger
from stream_processors.merge.path import ExperimentPath

PROGRESS_KEY = "progress"
EXPERIMENT_PREFIX = "experiment/"
RECORD_BYTES_MAX = 900_000


class RecordTooLargeError(Exception):
    """A record would not fit into a message of the changelog."""


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
    """

    log_id: str
    tick: int
    times: Times
    resume_offset: int
    settings: Settings
    offsets: list[int]
    ledgers: list[Ledger]


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


_encoder = msgspec.msgpack.Encoder()
_progress_decoder = msgspec.msgpack.Decoder(ProgressRecord)
_experiment_decoder = msgspec.msgpack.Decoder(ExperimentRecord)


def experiment_key(experiment_id: str) -> str:
    """Return the key of an experiment's record."""
    return EXPERIMENT_PREFIX + experiment_id


def encode_merge_record(key: str, record: ProgressRecord | ExperimentRecord) -> bytes:
    """Return the bytes of a record.

    Raises:
        RecordTooLargeError: If the changelog would refuse them.
    """
    value = _encoder.encode(record)
    if len(value) > RECORD_BYTES_MAX:
        raise RecordTooLargeError(f"{key}: {len(value)} bytes, must be {RECORD_BYTES_MAX} at most")
    return value


def decode_progress(value: bytes) -> ProgressRecord:
    """Return the record of the progress."""
    return _progress_decoder.decode(value)


def decode_experiment(value: bytes) -> ExperimentRecord:
    """Return the record of an experiment."""
    return _experiment_decoder.decode(value)
