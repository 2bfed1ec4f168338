"""What a partition reports at a tick: the exact sums of its units, on their way to a look.

Sums are sent as integers of as many bytes as they need; histograms as their counts that are not
zero, in columns. Equal sums are equal bytes.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.control import Change, Settings, Times

STATE_VERSION = 4
"""Changes only when counting or a record's format does; no look mixes two of them."""

READABLE_VERSION = 3
"""Bytes of sums that were counted under an earlier version cannot be read any more."""

PIECE_BYTES_MAX = 200_000
"""An experiment's sums that are larger are reported in pieces of so many bytes."""


class Reported(Protocol):
    """What is reported of the units of an experiment, or of those in one of its segments."""

    @property
    def units(self) -> list[int]:
        """Exposed units per variant, crossovers left out under policy ``exclude``."""

    @property
    def crossovers(self) -> int:
        """Units that were assigned two variants."""

    @property
    def overflowed(self) -> list[int]:
        """Per metric, units whose magnitude reached the limit and left."""

    @property
    def matured(self) -> list[bytes]:
        """Sums of totals per metric, over units whose window has passed."""

    @property
    def open(self) -> list[bytes]:
        """The same over all exposed units, with totals to date."""

    @property
    def matured_covariates(self) -> list[bytes]:
        """Sums with covariates per metric."""

    @property
    def open_covariates(self) -> list[bytes]:
        """The same over all exposed units."""

    @property
    def matured_capped(self) -> list[bytes]:
        """What caps do, per metric."""

    @property
    def open_capped(self) -> list[bytes]:
        """The same over all exposed units."""

    @property
    def matured_histograms(self) -> list[list[bytes]]:
        """Histograms per metric and variant."""

    @property
    def open_histograms(self) -> list[list[bytes]]:
        """The same over all exposed units."""


class SegmentSums(msgspec.Struct, frozen=True, array_like=True):
    """Cumulative sums over the units of one partition that are in one segment of an experiment.

    Attributes:
        group: Which: from 1 on, values of the first attribute in the order of the definition,
            then its other values, then the next attribute.

    The others are those of ``ExperimentSums``.
    """

    group: int
    units: list[int]
    crossovers: int
    overflowed: list[int]
    matured: list[bytes]
    open: list[bytes]
    matured_covariates: list[bytes]
    open_covariates: list[bytes]
    matured_capped: list[bytes]
    open_capped: list[bytes]
    matured_histograms: list[list[bytes]]
    open_histograms: list[list[bytes]]


class ExperimentSums(msgspec.Struct, frozen=True):
    """Cumulative sums of one experiment over the units of one partition.

    Attributes:
        experiment_id: The experiment.
        units: Exposed units per variant, crossovers left out under policy ``exclude``.
        crossovers: Units that were assigned two variants.
        matured: Per metric, in the order of the definition: integers of each variant: unit count,
            Σ of its quantised totals z_i, Σ of their products z_i·z_j for i <= j, row by row.
        open: The same over all exposed units, with totals to date.
        overflowed: Per metric, units whose magnitude reached the limit and left.
        attribution: Metric events by what became of them: counted, outside_window, excluded,
            no_assignment.
        final: Whether this is the last report: the horizon is past the stop.
        matured_covariates: Per metric, empty where it has no covariate, else the same integers
            over the units that have a pre-period, with covariates after the totals.
        open_covariates: The same over all exposed units.
        matured_capped: Per metric, empty where it has no cap. Of a fixed cap, the units above it
            of each variant; of a grid, per variant and class of totals (up to each cap and above
            the one before it, then above all): units, Σ and Σ² of their totals.
        open_capped: The same over all exposed units.
        matured_histograms: Per metric, empty where it has none, else of each variant: of unit
            totals, or of events' values by shard; see ``histogram_from_bytes``.
        open_histograms: The same over all exposed units.
        segments: The same of the segments that hold any unit, in the order of groups.
    """

    experiment_id: str
    units: list[int]
    crossovers: int
    matured: list[bytes]
    open: list[bytes]
    overflowed: list[int]
    attribution: list[int]
    final: bool = False
    matured_covariates: list[bytes] = msgspec.field(default_factory=list)
    open_covariates: list[bytes] = msgspec.field(default_factory=list)
    matured_capped: list[bytes] = msgspec.field(default_factory=list)
    open_capped: list[bytes] = msgspec.field(default_factory=list)
    matured_histograms: list[list[bytes]] = msgspec.field(default_factory=list)
    open_histograms: list[list[bytes]] = msgspec.field(default_factory=list)
    segments: list[SegmentSums] = msgspec.field(default_factory=list)


class Ledger(msgspec.Struct, frozen=True):
    """What became of the rows of a partition: ``received`` is the sum of the others."""

    received: int = 0
    fresh: int = 0
    duplicate: int = 0
    conflict: int = 0
    stale: int = 0
    refused: int = 0

    def is_balanced(self) -> bool:
        """Return whether every row received was accounted for."""
        rest = self.fresh + self.duplicate + self.conflict + self.stale + self.refused
        return self.received == rest


class ImportCount(msgspec.Struct, frozen=True, array_like=True):
    """What a partition has taken of an import.

    Attributes:
        import_id: The import.
        parts: Its parts of batches; also the number of the last batch, because it takes each once.
        rows: Rows in them, those included whose days are not kept any more.
    """

    import_id: str
    parts: int
    rows: int


class Piece(msgspec.Struct, frozen=True):
    """A piece of the sums of one experiment that are too large for one part.

    Attributes:
        experiment_id: The experiment.
        is_last: Whether the sums are whole with this piece; the others came before it.
        data: Bytes of the sums.
    """

    experiment_id: str
    is_last: bool
    data: bytes


class Partial(msgspec.Struct, frozen=True):
    """One part of one partition's report at one tick.

    Attributes:
        log_id: Which log of control the tick is from.
        state_version: Format and rules under which it was counted.
        partition: Of ``litmus.events``.
        tick: Number of the tick.
        times: Its times.
        next_offset: First offset of the partition that is not in the sums.
        writer: Who reports; parts are put together per writer.
        part: Number of this part, from 0.
        parts: How many there are.
        ledger: The rows of the partition so far.
        changes: What took effect with the tick; in part 0 of partition 0 only.
        settings: The logged settings at the tick.
        experiments: The due experiments that changed; perhaps none. See ``experiments_of``.
        pieces: Of experiments whose sums are too large for one part.
        imports: Of all imports that it has taken parts of; None: as in the report before. In part 0
            only.
    """

    log_id: str
    state_version: int
    partition: int
    tick: int
    times: Times
    next_offset: int
    writer: str
    part: int
    parts: int
    ledger: Ledger
    changes: list[Change]
    settings: Settings
    experiments: list[ExperimentSums]
    pieces: list[Piece] = msgspec.field(default_factory=list)
    imports: list[ImportCount] | None = None


class Sums(msgspec.Struct, frozen=True):
    """Exact integer sums over the units of one variant; values are quantised totals."""

    unit_count: int = 0
    sum_q: int = 0
    sum_squares_q: int = 0

    def plus(self, other: "Sums") -> "Sums":
        """Return the sums over the units of both; no unit may be in both."""
        return Sums(
            self.unit_count + other.unit_count,
            self.sum_q + other.sum_q,
            self.sum_squares_q + other.sum_squares_q,
        )


def integers_to_bytes(integers: Iterable[int]) -> bytes:
    """Return integers one after the other: a length, then as many bytes, in two's complement.

    Little-endian, as short as may be; 0 has no bytes but its length.
    """
    written = bytearray()
    for one in integers:
        length = (one.bit_length() if one >= 0 else (~one).bit_length()) // 8 + 1 if one else 0
        written.append(length)
        written += one.to_bytes(length, "little", signed=True)
    return bytes(written)


def integers_from_bytes(value: bytes) -> list[int]:
    """Return the integers that ``integers_to_bytes`` wrote down."""
    integers, at = [], 0
    while at < len(value):
        end = at + 1 + value[at]
        integers.append(int.from_bytes(value[at + 1 : end], "little", signed=True))
        at = end
    return integers


def sums_to_bytes(sums: Iterable[Sums]) -> bytes:
    """Return the bytes of the sums of one total, of every variant."""
    return integers_to_bytes(number for one in sums for number in msgspec.structs.astuple(one))


def sums_from_bytes(value: bytes) -> list[Sums]:
    """Return the sums of every variant, of a metric whose units have one total."""
    integers = iter(integers_from_bytes(value))
    return [Sums(*three) for three in zip(integers, integers, integers, strict=True)]


# --- histograms ---


class Histogram(NamedTuple):
    """Counts that are not zero.

    Attributes:
        width: Counts of a bucket: 1, or one of each of 64 shards.
        buckets: Shape (counts,), upwards; int64.
        shards: Shape (counts,), upwards within a bucket; all 0 of width 1.
        counts: Shape (counts,).
    """

    width: int
    buckets: NDArray[np.int64]
    shards: NDArray[np.int64]
    counts: NDArray[np.int64]


_HISTOGRAM = struct.Struct("<BBI")
_COUNT_TYPES = ("<u1", "<u2", "<u4", "<u8")


def histogram_to_bytes(counts: NDArray[np.integer], first_bucket: int) -> bytes:
    """Return the bytes of a histogram.

    Args:
        counts: Shape (buckets, 1) or (buckets, 64), none below zero.
        first_bucket: Bucket of the first row.
    """
    width = counts.shape[1]
    filled = np.flatnonzero(counts.any(axis=1))
    rows = counts[filled]
    flat = rows[rows != 0]
    size = int(np.searchsorted([8, 16, 32], int(flat.max(initial=0)).bit_length()))
    masks = np.packbits(rows != 0, axis=1, bitorder="little").tobytes() if width > 1 else b""
    return (
        _HISTOGRAM.pack(width, size, len(filled))
        + (filled + first_bucket).astype("<i2").tobytes()
        + masks
        + flat.astype(_COUNT_TYPES[size]).tobytes()
    )


def histogram_from_bytes(value: bytes) -> Histogram:
    """Return the histogram that ``histogram_to_bytes`` wrote down."""
    width, size, filled = _HISTOGRAM.unpack_from(value)
    at = _HISTOGRAM.size
    buckets = np.frombuffer(value, "<i2", filled, at).astype(np.int64)
    at += 2 * filled
    if width == 1:
        rows, shards = np.arange(filled), np.zeros(filled, np.int64)
    else:
        masks = np.frombuffer(value, np.uint8, filled * width // 8, at).reshape(filled, width // 8)
        at += masks.size
        rows, shards = np.nonzero(np.unpackbits(masks, axis=1, bitorder="little"))
    counts = np.frombuffer(value, _COUNT_TYPES[size], -1, at).astype(np.int64)
    return Histogram(width, buckets[rows], shards, counts)


# --- messages ---

_decoder = msgspec.msgpack.Decoder(Partial)
_encoder = msgspec.msgpack.Encoder()
_sums_decoder = msgspec.msgpack.Decoder(ExperimentSums)


def encode_partial(partial: Partial) -> bytes:
    """Return the message of a partial."""
    return _encoder.encode(partial)


def decode_partial(value: bytes) -> Partial:
    """Return the partial of a message."""
    return _decoder.decode(value)


def in_parts(
    reported: Sequence[ExperimentSums], bytes_max: int
) -> list[tuple[list[ExperimentSums], list[Piece]]]:
    """Return what each part of a report holds, so that none is much larger; at least one part."""
    parts: list[tuple[list[ExperimentSums], list[Piece]]] = [([], [])]
    size = 0
    for one in reported:
        written = _encoder.encode(one)
        starts = range(0, len(written), PIECE_BYTES_MAX)
        for start in starts:
            piece = written[start : start + PIECE_BYTES_MAX]
            if size and size + len(piece) > bytes_max:
                parts.append(([], []))
                size = 0
            size += len(piece)
            if len(starts) == 1:
                parts[-1][0].append(one)
            else:
                parts[-1][1].append(Piece(one.experiment_id, start == starts[-1], piece))
    return parts


def experiments_of(parts: Iterable[Partial]) -> list[ExperimentSums]:
    """Return the sums of all experiments that the parts of one report hold, in their order."""
    found: list[ExperimentSums] = []
    begun: dict[str, bytes] = {}
    for part in parts:
        found += part.experiments
        for piece in part.pieces:
            begun[piece.experiment_id] = begun.get(piece.experiment_id, b"") + piece.data
            if piece.is_last:
                found.append(_sums_decoder.decode(begun.pop(piece.experiment_id)))
    if begun:
        raise ValueError(f"sums of {sorted(begun)} are not whole: a part is missing")
    return found
