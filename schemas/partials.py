"""What a partition reports at a tick: the exact sums of its units, on their way to a look."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.control import Change, Settings, Times

STATE_VERSION = 2
"""Changes only when counting or a record's format does; no look mixes two of them."""

SUM_LIMBS = 3
SUM_WORDS = 1 + 2 * SUM_LIMBS
"""Words of a sum: unit count, then sum and sum of squares as three 64-bit limbs each."""

COVARIATE_WORDS = 1 + 5 * SUM_LIMBS
"""Words of sums with a covariate: see ``CovariateSums``, in the order of its fields."""


class ExperimentSums(msgspec.Struct, frozen=True):
    """Cumulative sums of one experiment over the units of one partition.

    Attributes:
        experiment_id: The experiment.
        units: Exposed units per variant, crossovers left out under policy ``exclude``.
        crossovers: Units that were assigned two variants.
        matured: Per metric, in the order of the definition: little-endian words of shape
            (variants, 7): unit count, Σ and Σ² of quantised totals in three limbs each.
        open: The same over all exposed units, with totals to date.
        matured_covariates: Per metric, empty where it has no covariate, else little-endian words
            of shape (variants, 16), see ``CovariateSums``.
        open_covariates: The same over all exposed units.
        overflowed: Per metric, units whose magnitude reached the limit and left.
        attribution: Metric events by what became of them: counted, outside_window, excluded,
            no_assignment.
        final: Whether this is the last report: the horizon is past the stop.
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
        experiments: The due experiments that changed; perhaps none.
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


class CovariateSums(msgspec.Struct, frozen=True):
    """Exact integer sums over the units of one variant that have a pre-period.

    A unit has one if any kept day of its covariate window holds an event or an imported row. The
    units without are a stratum of their own: what ``Sums`` has more than this.

    Attributes:
        unit_count: Units.
        sum_q: Σ of their totals q.
        sum_squares_q: Σq².
        sum_x: Σ of their covariates x, quantised as q is.
        sum_squares_x: Σx².
        sum_products: Σqx.
    """

    unit_count: int = 0
    sum_q: int = 0
    sum_squares_q: int = 0
    sum_x: int = 0
    sum_squares_x: int = 0
    sum_products: int = 0

    def plus(self, other: "CovariateSums") -> "CovariateSums":
        """Return the sums over the units of both; no unit may be in both."""
        mine, its = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return CovariateSums(*(a + b for a, b in zip(mine, its, strict=True)))


def sums_to_bytes(words: NDArray[np.uint64]) -> bytes:
    """Return the bytes of sums, one row per variant."""
    return np.ascontiguousarray(words, "<u8").tobytes()


def sums_from_bytes(value: bytes) -> list[Sums]:
    """Return the sums of every variant."""
    size = 8 * SUM_WORDS
    limbs = 8 * SUM_LIMBS
    return [
        Sums(
            int.from_bytes(value[at : at + 8], "little"),
            int.from_bytes(value[at + 8 : at + 8 + limbs], "little", signed=True),
            int.from_bytes(value[at + 8 + limbs : at + size], "little", signed=True),
        )
        for at in range(0, len(value), size)
    ]


def covariate_sums_from_bytes(value: bytes) -> list[CovariateSums]:
    """Return the covariate sums of every variant; none for a metric without a covariate."""
    size, limbs = 8 * COVARIATE_WORDS, 8 * SUM_LIMBS
    return [
        CovariateSums(
            int.from_bytes(value[at : at + 8], "little"),
            *(
                int.from_bytes(value[first : first + limbs], "little", signed=True)
                for first in range(at + 8, at + size, limbs)
            ),
        )
        for at in range(0, len(value), size)
    ]


_decoder = msgspec.msgpack.Decoder(Partial)
_encoder = msgspec.msgpack.Encoder()


def encode_partial(partial: Partial) -> bytes:
    """Return the message of a partial."""
    return _encoder.encode(partial)


def decode_partial(value: bytes) -> Partial:
    """Return the partial of a message."""
    return _decoder.decode(value)
