"""Messages of the log as rows of tables, whole columns at a time. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from schemas.batch import SCHEMA
from schemas.times import parse_time_ms

Json = dict[str, Any]

_TIME = pa.timestamp("ms", tz="UTC")


class PackedBatch(NamedTuple):
    """A batch and where it stands."""

    partition: int
    offset: int
    batch: pa.RecordBatch


class DeadLetter(NamedTuple):
    """A record of ``litmus.dlq``; field names are those of the table."""

    kafka_partition: int
    kafka_offset: int
    appended_at: int
    topic: str
    partition: str
    offset: str
    code: str
    error_class: str
    error_message: str
    field: str
    key: bytes
    value: bytes


class Look(NamedTuple):
    """A record of ``litmus.looks``: the results object and the bytes that say it."""

    results: Json
    text: bytes


def event_rows(batches: Sequence[PackedBatch]) -> pa.Table:
    """Return the rows of all batches, in order, each with its position and door."""
    counts = np.array([len(one.batch) for one in batches], np.int64)
    partitions = np.array([one.partition for one in batches], np.uint32)
    offsets = np.array([one.offset for one in batches], np.uint64)
    starts = np.cumsum(counts) - counts
    rows = np.arange(counts.sum(), dtype=np.int64) - np.repeat(starts, counts)
    doors = pa.array([_door_of(one.batch) for one in batches], pa.string()).dictionary_encode()
    positions = {
        "kafka_partition": pa.array(np.repeat(partitions, counts)),
        "kafka_offset": pa.array(np.repeat(offsets, counts)),
        "row": pa.array(rows.astype(np.uint32)),
        "door": doors.take(pa.array(np.repeat(np.arange(len(batches)), counts))),
    }
    plain = [one.batch.replace_schema_metadata(None) for one in batches]
    columns = pa.Table.from_batches(plain, schema=SCHEMA).unify_dictionaries().combine_chunks()
    named = {name: columns.column(name) for name in SCHEMA.names}
    named["kind"] = named["kind"].cast(pa.int8())
    named["timestamp"] = named["timestamp"].cast(_TIME)
    named["received_at"] = named["received_at"].cast(_TIME)
    return pa.table({**positions, **named})


def batch_rows(batches: Sequence[PackedBatch], rows_through: Sequence[int]) -> pa.Table:
    """Return one row per batch.

    Args:
        batches: The batches.
        rows_through: Per batch, the rows of its partition up to and including it.
    """
    return pa.table(
        {
            "kafka_partition": pa.array([one.partition for one in batches], pa.uint32()),
            "kafka_offset": pa.array([one.offset for one in batches], pa.uint64()),
            "rows": pa.array([len(one.batch) for one in batches], pa.uint32()),
            "rows_through": pa.array(rows_through, pa.uint64()),
        }
    )


def dead_letter_rows(letters: Sequence[DeadLetter]) -> pa.Table:
    """Return one row per dead letter."""
    columns = dict(zip(DeadLetter._fields, zip(*letters, strict=True), strict=True))
    types = {"kafka_partition": pa.uint32(), "kafka_offset": pa.uint64(), "appended_at": _TIME}
    types |= {"key": pa.binary(), "value": pa.binary()}
    return pa.table(
        {name: pa.array(c, types.get(name, pa.string())) for name, c in columns.items()}
    )


def look_rows(looks: Sequence[Look]) -> pa.Table:
    """Return one row per look: its identity, and its text as published."""
    heads = [one.results["look"] for one in looks]
    return pa.table(
        {
            "experiment_id": pa.array([one.results["experiment_id"] for one in looks]),
            "tick": pa.array([head["tick"] for head in heads], pa.uint64()),
            "log_id": pa.array([head.get("log_id", "") for head in heads]),
            "sha256": pa.array([head.get("sha256", "") for head in heads]),
            "as_of": pa.array([parse_time_ms(head["as_of"]) for head in heads], _TIME),
            "look": pa.array([one.text for one in looks], pa.binary()),
        }
    )


def effect_rows(looks: Iterable[Look]) -> pa.Table | None:
    """Return one row per metric, basis and variant of every look; None if there are none."""
    rows = [row for one in looks for row in _effect_rows_of(one.results)]
    return pa.Table.from_pylist(rows, schema=_EFFECT_SCHEMA) if rows else None


_TEXTS = ("experiment_id", "metric_id", "basis", "variant")
_NUMBERS = (
    *("running_low", "running_high", "running_p_value"),
    *("fixed_horizon_low", "fixed_horizon_high", "fixed_horizon_p_value"),
    *("relative_effect", "relative_low", "relative_high"),
)
_EFFECT_SCHEMA = pa.schema(
    [(name, pa.string()) for name in _TEXTS]
    + [("tick", pa.uint64()), ("log_id", pa.string()), ("as_of", _TIME)]
    + [("kind", pa.string()), ("role", pa.string()), ("units", pa.uint64())]
    + [(name, pa.float64()) for name in ("total", "mean", "variance", "std_error")]
    + [("control", pa.string()), ("status", pa.string())]
    + [("effect", pa.float64()), ("effect_std_error", pa.float64()), ("interval", pa.string())]
    + [(name, pa.float64()) for name in ("low", "high", "p_value", *_NUMBERS)]
)


def _effect_rows_of(results: Json) -> Iterable[Json]:
    look = results["look"]
    head = {
        "experiment_id": results["experiment_id"],
        "tick": look["tick"],
        "log_id": look.get("log_id", ""),
        "as_of": parse_time_ms(look["as_of"]),
    }
    for metric in results["metrics"]:
        effects = {effect["variant"]: effect for effect in metric.get("effects", ())}
        for variant in metric["variants"]:
            yield {
                **head,
                "metric_id": metric["metric_id"],
                "basis": metric["basis"],
                "kind": metric.get("kind", ""),
                "role": metric.get("role", ""),
                "variant": variant["variant"],
                "units": variant["units"],
                **{name: variant.get(name) for name in ("total", "mean", "variance", "std_error")},
                **_effect_columns(effects.get(variant["variant"]), metric["basis"]),
            }


_FIELDS = {"bayesian": "posterior"}
"""Field of a method's numbers, where it is not called like the method."""


def _effect_columns(effect: Json | None, basis: str) -> Json:
    """Return an effect as the method of the definition reads it; pointwise on open units.

    Numbers of that method alone, the running ones too: null where it has none. Of the adjusted
    estimate where that decides. Looks of versions that had one method only say nothing of a
    decision: theirs was always valid.
    """
    if effect is None:  # the control
        return {"control": "", "status": "", "interval": ""}
    source, relative = effect.get("absolute") or {}, effect.get("relative") or {}
    interval, decision = "fixed_horizon", effect.get("decision") or {}
    if basis == "matured":
        interval = decision.get("method", "always_valid")
        if decision.get("of") == "cuped" and effect["cuped"] is not None:
            source, relative = effect["cuped"], effect["cuped"]["relative"]
    shown = source.get(_FIELDS.get(interval, interval)) or {}
    relative_shown = relative.get(_FIELDS.get(interval, interval)) or {}
    # Of a fixed horizon one look is planned: before it nobody may read a p-value.
    is_planned = interval != "fixed_horizon" or decision.get("status") == "ok"
    is_looked_at = basis == "matured" and is_planned
    return {
        "control": effect.get("control", ""),
        "status": effect.get("status", ""),
        "effect": _own(shown, source),
        "effect_std_error": shown.get("std_error", shown.get("sd", source.get("std_error"))),
        "interval": interval,
        "low": shown.get("low"),
        "high": shown.get("high"),
        "p_value": shown.get("p_value") if is_looked_at else None,
        **_running(shown, interval),
        **_fixed(shown, interval, is_looked_at=is_looked_at),
        "relative_effect": _own(relative_shown, relative),
        "relative_low": relative_shown.get("low"),
        "relative_high": relative_shown.get("high"),
    }


def _own(shown: Json, source: Json) -> float | None:
    """Return what an interval is around: a method's own estimate, where it has one."""
    estimate: float | None = shown.get("estimate", shown.get("mean", source.get("estimate")))
    return estimate


def _running(shown: Json, interval: str) -> Json:
    """Return the numbers over all looks so far, of a method that knows such."""
    p_value = {"always_valid": "running_p_value", "group_sequential": "p_value"}.get(interval, "")
    return {
        "running_low": shown.get("running_low"),
        "running_high": shown.get("running_high"),
        "running_p_value": shown.get(p_value),
    }


def _fixed(shown: Json, interval: str, *, is_looked_at: bool) -> Json:
    if interval != "fixed_horizon":
        return {}
    p_value = shown.get("p_value") if is_looked_at else None
    return {
        "fixed_horizon_low": shown.get("low"),
        "fixed_horizon_high": shown.get("high"),
        "fixed_horizon_p_value": p_value,
    }


def _door_of(batch: pa.RecordBatch) -> str:
    return ((batch.schema.metadata or {}).get(b"door") or b"").decode()


def read_look(text: bytes) -> Look:
    """Return the look of a message.

    Raises:
        msgspec.MsgspecError: If it is no JSON object.
    """
    return Look(msgspec.json.decode(text, type=Json), text)
