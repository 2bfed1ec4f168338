"""A packed batch as the kernels take it: names become numbers, once per distinct name. Pure."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.batch import KIND_ASSIGNMENT, Batch
from schemas.batch import Names as NameColumn
from schemas.definitions import Definition
from schemas.hashing import stable_hash64
from stream_processors.accumulate.kernels.placing import EVERY, UNKNOWN
from stream_processors.accumulate.plan import Names


class Rows(NamedTuple):
    """Columns of shape (rows,).

    Attributes:
        kind: 0 assignment, 1 metric event.
        unit_high, unit_low, unit_type: The unit.
        event_high, event_low: Hash of unit and event id.
        experiment: Ordinal; EVERY for a metric event of all, UNKNOWN where there is no such one.
        code: Variant of an assignment, metric name of a metric event; -1 unknown.
        value: As sent.
        timestamp: Epoch milliseconds.
        content: Hash of what a resend must repeat: kind, experiment, variant, metric, value, and
            the timestamp if the producer gave it.
    """

    kind: NDArray[np.uint8]
    unit_high: NDArray[np.uint64]
    unit_low: NDArray[np.uint64]
    unit_type: NDArray[np.int32]
    event_high: NDArray[np.uint64]
    event_low: NDArray[np.uint64]
    experiment: NDArray[np.int32]
    code: NDArray[np.int32]
    value: NDArray[np.float64]
    timestamp: NDArray[np.int64]
    content: NDArray[np.uint64]


def make_rows(
    batch: Batch, definitions: Mapping[str, Definition], *, metrics: Names, unit_types: Names
) -> Rows:
    """Return the rows of a batch, by the definitions of the last tick."""
    is_assignment = batch.kind == KIND_ASSIGNMENT
    experiment = _experiments(batch, definitions, is_assignment)
    codes = np.array([metrics.code(name) for name in batch.metric.values], np.int32)
    code = np.where(
        is_assignment,
        _variants(batch, definitions) if is_assignment.any() else -1,
        _take(codes, batch.metric.codes, missing=-1),
    ).astype(np.int32)
    types = np.array([unit_types.code(name) for name in batch.unit_type.values], np.int32)
    unit_type = types[batch.unit_type.codes]
    return Rows(
        kind=batch.kind,
        unit_high=batch.unit_hash_high,
        unit_low=batch.unit_hash_low,
        unit_type=unit_type,
        event_high=batch.event_hash_high,
        event_low=batch.event_hash_low,
        experiment=_of_their_type(experiment, unit_type, definitions, unit_types),
        code=code,
        value=batch.value,
        timestamp=batch.timestamp,
        content=_content(batch),
    )


def _experiments(
    batch: Batch, definitions: Mapping[str, Definition], is_assignment: NDArray[np.bool_]
) -> NDArray[np.int32]:
    ordinals = np.array(
        [
            definitions[name].ordinal if name in definitions else UNKNOWN
            for name in batch.experiment_id.values
        ],
        np.int32,
    )
    experiment = _take(ordinals, batch.experiment_id.codes, missing=EVERY)
    return np.where(is_assignment & (experiment == EVERY), UNKNOWN, experiment).astype(np.int32)


def _variants(batch: Batch, definitions: Mapping[str, Definition]) -> NDArray[np.int32]:
    """Return the place of each row's variant among those of its experiment."""
    names = batch.variant.values
    table = np.full((len(batch.experiment_id.values) + 1, len(names) + 1), -1, np.int32)
    for row, experiment_id in enumerate(batch.experiment_id.values):
        if experiment_id in definitions:
            places = {one: at for at, one in enumerate(definitions[experiment_id].variant_ids)}
            table[row, :-1] = [places.get(name, -1) for name in names]
    # A code of -1 (none) reads the last row or column, which is -1 throughout.
    return table[batch.experiment_id.codes, batch.variant.codes]


def _of_their_type(
    experiment: NDArray[np.int32],
    unit_type: NDArray[np.int32],
    definitions: Mapping[str, Definition],
    unit_types: Names,
) -> NDArray[np.int32]:
    """Return ``experiment`` with UNKNOWN where an experiment is of another unit type."""
    if not definitions:
        return experiment
    types = np.empty(len(definitions), np.int32)
    for one in definitions.values():
        types[one.ordinal] = unit_types.code(one.unit_type)
    named = experiment >= 0
    other = named & (types[np.where(named, experiment, 0)] != unit_type)
    return np.where(other, UNKNOWN, experiment).astype(np.int32)


def _content(batch: Batch) -> NDArray[np.uint64]:
    # Adding 0.0 makes the two zeros one.
    value = (batch.value + 0.0).view(np.uint64)
    given = np.where(batch.timestamp_given, batch.timestamp, -1).astype(np.uint64)
    content = batch.kind.astype(np.uint64)
    for part in (
        _hashes(batch.experiment_id),
        _hashes(batch.variant),
        _hashes(batch.metric),
        value,
        given,
    ):
        content = _mix(content ^ part)
    return content


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the finaliser of SplitMix64: every bit of the result hangs on every bit of ``x``."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _hashes(column: NameColumn) -> NDArray[np.uint64]:
    return _take(
        np.array([_hash_of(name) for name in column.values], np.uint64), column.codes, missing=0
    )


@lru_cache(maxsize=65_536)
def _hash_of(name: str) -> int:
    return stable_hash64(name)


def _take(values: NDArray[Any], codes: NDArray[np.int32], *, missing: int) -> NDArray[Any]:
    """Return ``values[codes]``, and ``missing`` where the code is -1."""
    return np.append(values, values.dtype.type(missing))[codes]
