"""What merge remembers, in records that are each valid as of their own tick.

They go to a changelog without a transaction: after a crash the last few writes may be missing.
The progress is written after the records it covers, so what is lost is replayed, and an experiment
whose record is newer than the progress skips what it already contains. Under which keys they are
written, and in how many parts, is in ``changelog``.
"""

from collections.abc import Iterator

import msgspec

from schemas.control import Settings, Times
from schemas.definitions import Definition
from schemas.partials import ExperimentSums, ImportCount, Ledger
from stream_processors.merge.changelog import (
    EXPERIMENT_KIND,
    IMPORTS,
    PROGRESS,
    Changelog,
    Name,
    RecordDamagedError,
)
from stream_processors.merge.path import ExperimentPath

RECORD_BYTES_MAX = 900_000

Imports = list[list[ImportCount] | None]
"""Per partition, what it has taken of imports; None while it has not said so."""


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
        imports: Empty. Per partition, in records from before they had a record of their own.
        imports_tick: Tick of the record of imports; 0 if there is none.
    """

    log_id: str
    tick: int
    times: Times
    resume_offset: int
    settings: Settings
    offsets: list[int]
    ledgers: list[Ledger]
    imports: Imports = msgspec.field(default_factory=list)
    imports_tick: int = 0


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


class ImportsRecord(msgspec.Struct, frozen=True):
    """What partitions have taken of imports.

    Attributes:
        import_ids: Of all imports, each once.
        counts: Per partition, for each import that it knows: its place in ``import_ids``, its
            parts, its rows. None while the partition has not said so.
    """

    import_ids: list[str]
    counts: list[list[int] | None]


_encoder = msgspec.msgpack.Encoder()
_progress_decoder = msgspec.msgpack.Decoder(ProgressRecord)
_experiment_decoder = msgspec.msgpack.Decoder(ExperimentRecord)
_imports_decoder = msgspec.msgpack.Decoder(ImportsRecord)


def encode_progress(record: ProgressRecord) -> bytes:
    """Return the bytes of the progress, which is one message because it is the last.

    Raises:
        RecordTooLargeError: If the changelog would refuse them.
    """
    value = _encoder.encode(record)
    if len(value) > RECORD_BYTES_MAX:
        message = f"progress: {len(value)} bytes, must be {RECORD_BYTES_MAX} at most"
        raise RecordTooLargeError(message)
    return value


def encode_experiment(record: ExperimentRecord) -> bytes:
    """Return the bytes of the record of an experiment, of any size."""
    return _encoder.encode(record)


def encode_imports(imports: Imports) -> bytes:
    """Return the bytes of the record of imports, of any size."""
    places: dict[str, int] = {}
    counts: list[list[int] | None] = []
    for taken in imports:
        if taken is None:
            counts.append(None)
            continue
        of_partition: list[int] = []
        for one in taken:
            of_partition += (places.setdefault(one.import_id, len(places)), one.parts, one.rows)
        counts.append(of_partition)
    return _encoder.encode(ImportsRecord(list(places), counts))


def decode_progress(value: bytes) -> ProgressRecord:
    """Return the record of the progress."""
    return _progress_decoder.decode(value)


def decode_experiment(value: bytes) -> ExperimentRecord:
    """Return the record of an experiment."""
    return _experiment_decoder.decode(value)


def decode_imports(value: bytes) -> Imports:
    """Return what partitions have taken of imports."""
    record = _imports_decoder.decode(value)
    return [
        None
        if flat is None
        else [
            ImportCount(record.import_ids[place], parts, rows)
            for place, parts, rows in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        ]
        for flat in record.counts
    ]


def kept_progress(changelog: Changelog) -> ProgressRecord | None:
    """Return the latest progress; None before the first."""
    value = changelog.read(PROGRESS)
    return None if value is None else decode_progress(value)


def kept_imports(changelog: Changelog, progress: ProgressRecord) -> Imports:
    """Return what partitions had taken of imports as of a progress; empty if none had said so.

    Raises:
        RecordDamagedError: If the progress says that there is a record and none is whole.
    """
    if not progress.imports_tick:
        return progress.imports
    value = changelog.read(IMPORTS, progress.imports_tick)
    if value is None:
        raise RecordDamagedError(_missing("imports"))
    return decode_imports(value)


def kept_experiments(changelog: Changelog, progress_tick: int) -> Iterator[ExperimentRecord]:
    """Yield the latest whole record of every experiment.

    An experiment of which there are only parts that are not all there was being written for the
    first time when the worker died: it is not among them, and is replayed.

    Args:
        changelog: What there is.
        progress_tick: Tick of the progress in it; 0 without one.

    Raises:
        RecordDamagedError: If an experiment up to that tick has no whole record, or its bytes are
            others than its keys say.
    """
    for experiment_id in changelog.experiment_ids():
        name = Name(EXPERIMENT_KIND, experiment_id)
        value = changelog.read(name)
        if value is not None:
            yield decode_experiment(value)
        elif changelog.has_until(name, progress_tick):
            raise RecordDamagedError(_missing(experiment_id))


def _missing(of_what: str) -> str:
    return (
        f"{of_what}: parts of its record are missing. Something else than merge wrote to its "
        "changelog or removed from it; restore that topic from a copy"
    )
