"""One of every record that is stored, made from nothing but builders: the same in every process.

``python -m tests.contract.golden`` writes those that are missing; an existing one is never
replaced, because what was written once must stay readable.
"""

from pathlib import Path
from typing import Any

import msgspec

from schemas.control import (
    CatalogueChange,
    CatalogueEntry,
    ControlFold,
    ControlRecord,
    ControlState,
    DefinitionChange,
    Import,
    ImportBatch,
    ImportChange,
    Outcome,
    Settings,
    SettingsChange,
    Times,
)
from schemas.definitions import Analysis, Interval, Metric
from schemas.imports import DAY_MS
from schemas.partials import ImportCount, encode_partial
from stream_processors.accumulate.checkpoints import segment_record
from stream_processors.accumulate.partition import Partition
from stream_processors.accumulate.records import (
    CHUNK,
    MANIFEST,
    SEGMENT,
    Key,
    decode_key,
    write_record,
)
from stream_processors.accumulate.state import SEGMENTS
from stream_processors.merge import changelog
from stream_processors.merge.merging import Merger
from tests.stream_processors.accumulate.builders import (
    T0,
    assignment,
    batch,
    definition,
    measured,
    tick,
)
from tests.stream_processors.merge.builders import (
    CONVERSION,
    COUNT,
    make_definition,
    make_partial,
    make_sums,
    rate,
)

FOLDER = Path(__file__).parent / "golden"

EVENTS = [
    assignment("u-1", "a-1", T0 + 1, variant="t"),
    assignment("ü", "a-2", T0 + 2),
    measured("u-1", "m-1", T0 + 3, value=-2.5, experiment="x"),
    measured("ü", "m-2", T0 + 4, value=49.9),
]
DEFINITION = definition(
    name="Größe",
    metrics=[
        Metric("bought", "conversion", "buy", window_ms=10_000),
        Metric("revenue", "sum", "buy", "secondary", precision=2, added_at_ms=T0, covariate_days=7),
        Metric("safe", "count", "crash", "guardrail", "decrease", 5_000, margin={"absolute": 0.1}),
    ],
    segments={"country": ["CA", "US"]},
    analysis=Analysis("always_valid", 0.01, 1_000),
    hypothesis={"null": "none", "minimum_effect": 0.02},
    intervals=[Interval(T0, T0 + 50), Interval(T0 + 60)],
)
ENTRY = CatalogueEntry("buy", 2, 7, live_from_day=T0 // DAY_MS)
IMPORT = Import("history", 0, ["buy"], 19_000, 19_001, 1, ImportBatch(2, "ab" * 32, 9), 5_000)
SETTINGS = Settings(60_000, 3, ["litmus.assignments/0"])


def control_record() -> bytes:
    record = ControlRecord(
        log_id="log",
        number=1,
        before=Times(0, 0, 0),
        low_water_ms=T0 - 5,
        commands_from=0,
        commands_to=2,
        changes=[
            DefinitionChange(DEFINITION),
            SettingsChange(SETTINGS),
            CatalogueChange(ENTRY),
            ImportChange(IMPORT),
        ],
        outcomes=[Outcome("c-1", 1, 201, definition=DEFINITION), Outcome("c-2", 1, 409, "no")],
        snapshot_offset=-1,
        snapshot=ControlState({"x": DEFINITION}, SETTINGS, {"buy": ENTRY}, {"history": IMPORT}),
        writer="control-0",
    )
    return msgspec.json.encode(record)


def control_tick() -> bytes:
    fold = ControlFold()
    fold.take(0, T0, control_record())
    return msgspec.json.encode(fold.tick())


def packed_batch() -> bytes:
    return batch(EVENTS).value


def partial() -> bytes:
    sums = make_sums("x", [rate(10, 3), rate(2**40, 2**40)], [rate(10, 0), rate(11, 1)], final=True)
    return encode_partial(make_partial(1, 7, sums, changes=[DefinitionChange(DEFINITION)]))


def checkpoints() -> dict[str, bytes]:
    """Return a segment, a chunk and a manifest of a partition after 46 ticks."""
    partition, written = Partition(0, writer="w"), {}
    messages = [tick(1, T0, DefinitionChange(DEFINITION), CatalogueChange(ENTRY)), batch(EVENTS)]
    messages += [tick(number, T0 + number) for number in range(2, 47)]
    for message in messages:
        ticked = partition.apply(partition.cursor, *message)
        for key, value in ticked.writes if ticked else []:
            if value is not None:
                written[decode_key(key).kind, decode_key(key).number] = value
    segments = [
        segment_record(
            partition.state,
            at,
            plan=partition.plan,
            header=partition.header,
            metrics=partition.metrics,
            unit_types=partition.unit_types,
        )
        for at in range(SEGMENTS)
    ]
    fullest = max(segments, key=lambda one: (len(one.columns["unit_high"]), len(one.days["day"])))
    return {
        "segment": write_record(Key(0, SEGMENT, 0, partition.cursor, 0, 0), fullest)[0][1],
        "chunk": written[CHUNK, 0],
        "manifest": written[MANIFEST, 0],
    }


def merged() -> dict[str, bytes]:
    """Return the records of a merger after two ticks of two partitions."""
    merger = Merger(2)
    change = DefinitionChange(make_definition(metrics=[CONVERSION, COUNT]))
    for offset in range(4):
        number, partition = offset // 2 + 1, offset % 2
        first = offset == 0
        units = [rate(900 * number, 40 * number), rate(910 * number, 61 * number)]
        sums = make_sums("checkout-color", units, units)
        merger.take(
            offset,
            make_partial(
                partition,
                number,
                sums,
                changes=[change] if first else [],
                imports=[ImportCount("spend", 3, 70 + partition)] if number == 2 else None,
            ),
        )
    stored = {
        changelog.Key.decode(key).name.kind: value
        for key, value in merger.records().items()
        if value
    }
    return {
        "merge-progress": stored["progress"],
        "merge-experiment": stored["experiment"],
        "merge-imports": stored["imports"],
    }


def make_all() -> dict[str, bytes]:
    """Return every record by its name."""
    single: dict[str, Any] = {
        "control-record": control_record,
        "tick": control_tick,
        "batch": packed_batch,
        "partial": partial,
    }
    return {name: make() for name, make in single.items()} | checkpoints() | merged()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, value in make_all().items():
        path = FOLDER / f"{name}.bin"
        if not path.exists():
            path.write_bytes(value)
            print(path, len(value))
