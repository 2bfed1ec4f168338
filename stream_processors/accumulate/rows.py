"""A packed batch as the kernels take it: names become numbers, once per distinct name. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.batch import KIND_ASSIGNMENT, Batch, read_names
from schemas.definitions import Definition
from schemas.imports import ImportPart
from stream_processors.accumulate.kernels.placing import EVERY, UNKNOWN
from stream_processors.accumulate.layout import marked_places
from stream_processors.accumulate.plan import Names


class Rows(NamedTuple):
    """Columns of shape (rows,).

    Attributes:
        kind: 0 assignment, 1 metric event.
        unit_high, unit_low, unit_type: The unit.
        event_hash: Upper half of the hash of unit and event id.
        experiment: Ordinal; EVERY for a metric event of all, UNKNOWN where there is no such one.
        code: Variant of an assignment, metric name of a metric event; -1 unknown.
        value: Of a metric event, as sent. Of an assignment its places: which results by segment
            the unit is in, by its attributes; see ``layout``.
        timestamp: Epoch milliseconds.
        given: Whether the producer gave the timestamp: then a resend must repeat it.
    """

    kind: NDArray[np.uint8]
    unit_high: NDArray[np.uint64]
    unit_low: NDArray[np.uint64]
    unit_type: NDArray[np.int32]
    event_hash: NDArray[np.uint64]
    experiment: NDArray[np.int32]
    code: NDArray[np.int32]
    value: NDArray[np.float64]
    timestamp: NDArray[np.int64]
    given: NDArray[np.bool_]


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
        event_hash=batch.event_hash_high,
        experiment=_of_their_type(experiment, unit_type, definitions, unit_types),
        code=code,
        value=_values(batch, definitions, is_assignment),
        timestamp=batch.timestamp,
        given=batch.timestamp_given,
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


def _values(
    batch: Batch, definitions: Mapping[str, Definition], is_assignment: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the values, and for assignments their places instead."""
    names = batch.experiment_id.values
    if not any(name in definitions and definitions[name].segments for name in names):
        return batch.value
    attributes = read_names(batch.attributes)
    # A code of -1 (none) is the last row or column.
    width = len(attributes.values) + 1
    pairs = batch.experiment_id.codes.astype(np.int64) * width + attributes.codes % width
    distinct, inverse = np.unique(pairs[is_assignment], return_inverse=True)
    places = np.zeros(len(distinct))
    for at, pair in enumerate(distinct.tolist()):
        row, column = divmod(pair, width)
        definition = definitions.get(names[row]) if row >= 0 else None
        if definition is not None:
            text = attributes.values[column] if column < width - 1 else None
            places[at] = marked_places(definition, text)
    values = batch.value.copy()
    values[is_assignment] = places[inverse]
    # As a batch's own are: kernels are compiled anew for columns of another kind.
    values.flags.writeable = False
    return values


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


class ImportRows(NamedTuple):
    """Columns of a part of an import, shape (rows,): what ``days.apply_import`` takes."""

    unit_high: NDArray[np.uint64]
    unit_low: NDArray[np.uint64]
    unit_type: NDArray[np.int32]
    metric: NDArray[np.int32]
    day: NDArray[np.int32]
    value: NDArray[np.float64]


def make_import_rows(
    part: ImportPart, columns: Mapping[str, NDArray[Any]], *, metrics: Names, unit_types: Names
) -> ImportRows:
    """Return the rows of a part of an import."""
    types = np.array([unit_types.code(name) for name in part.unit_types], np.int32)
    codes = np.array([metrics.code(name) for name in part.metrics], np.int32)
    return ImportRows(
        unit_high=columns["unit_high"],
        unit_low=columns["unit_low"],
        unit_type=types[columns["unit_type"]],
        metric=codes[columns["metric"]],
        day=columns["day"],
        value=columns["value"],
    )


def _take(values: NDArray[Any], codes: NDArray[np.int32], *, missing: int) -> NDArray[Any]:
    """Return ``values[codes]``, and ``missing`` where the code is -1."""
    return np.append(values, values.dtype.type(missing))[codes]
