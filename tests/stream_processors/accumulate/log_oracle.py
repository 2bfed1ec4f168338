"""A partition of litmus.events as a person would read it: message by message, row by row.

Written apart from the engine: it keeps everything it ever read, forgets nothing, and says after
each message what the ledgers and the sums must be. What became of a row hangs on the rows before
it in the log; what is counted hangs only on the set of rows that were fresh.
"""

from collections import Counter, defaultdict
from functools import cache
from typing import Any

import pyarrow as pa

from schemas.batch import KIND_METRIC, read_batch
from schemas.control import (
    CatalogueEntry,
    ControlState,
    DefinitionChange,
    ImportBatch,
    Tick,
    Times,
    decode_tick,
)
from schemas.definitions import Definition
from schemas.hashing import stable_hash64, unit_hashes, unit_key
from schemas.imports import read_import
from schemas.partials import ImportCount, Ledger
from schemas.topics import KIND_BATCH, KIND_IMPORT, KIND_TICK
from tests.stream_processors.accumulate.builders import Event
from tests.stream_processors.accumulate.oracle import DAY_MS, DayRow, Days, Unit, added_over

UnitName = tuple[str, str]


class LogOracle:
    """What one partition's messages amount to.

    Attributes:
        control: Definitions, catalogue, imports and settings as of the last tick.
        times: Of the last tick.
        tick: Its number.
        rows: What became of every row.
        final: Experiments whose last report is out; nothing of them is counted any more.
        newly_final: Those of the last tick.
        parts: What became of the parts of import batches: taken, ignored.
    """

    def __init__(self) -> None:
        self.control = ControlState()
        self.times = Times(0, 0, 0)
        self.tick = 0
        self.rows: Counter = Counter()
        self.final: set[str] = set()
        self.newly_final: set[str] = set()
        self.parts: Counter = Counter()
        self._redefined: set[str] = set()
        self._last_of_id: dict[tuple[UnitName, str], Event] = {}
        self._events: dict[UnitName, list[Event]] = defaultdict(list)
        self._imported: dict[tuple[int, int], list[tuple[str, DayRow]]] = defaultdict(list)
        self._taken: Counter = Counter()
        self._rows_taken: Counter = Counter()
        self._units: dict[tuple[str, UnitName], Unit] = {}
        self._hashes: dict[UnitName, tuple[int, int]] = {}

    @property
    def ledger(self) -> Ledger:
        """Return the rows' ledger."""
        return Ledger(
            *(self.rows[name] for name in ("received", "fresh", "duplicate", "conflict")),
            *(self.rows[name] for name in ("stale", "refused")),
        )

    @property
    def imports(self) -> list[ImportCount]:
        """Return what was taken of each import, by their ordinals."""
        return [
            ImportCount(one.id, self._taken[one.id], self._rows_taken[one.id])
            for one in sorted(self.control.imports.values(), key=lambda one: one.ordinal)
            if self._taken[one.id]
        ]

    @property
    def running(self) -> list[Definition]:
        """Return the experiments whose sums are still kept."""
        return [one for one in self.control.definitions.values() if one.id not in self.final]

    def apply(self, kind: bytes, value: bytes) -> None:
        """Read the next message."""
        if kind == KIND_TICK:
            self._read_tick(decode_tick(value))
        elif kind == KIND_BATCH:
            for row in read_batch(value).to_pylist():
                self._read_row(_event_of(row))
        else:
            assert kind == KIND_IMPORT
            self._read_part(value)

    def attribution(self, definition: Definition) -> list[int]:
        """Return what became of an experiment's metric events."""
        outcome: Counter = Counter()
        for unit in self._units_of(definition):
            outcome += unit.attribution()
        return [
            outcome[name] for name in ("counted", "outside_window", "excluded", "no_assignment")
        ]

    def counted(self, definition: Definition) -> dict[str, Any]:
        """Return all that is counted of an experiment."""
        return added_over(self._units_of(definition), definition, self.times.settled_ms)

    # --- messages ---

    def _read_tick(self, tick: Tick) -> None:
        if tick.number <= self.tick:
            return
        before = self.control
        after = before.after(tick.changes)
        self.control = ControlState(
            after.definitions, tick.settings, after.catalogue, after.imports
        )
        self.tick, self.times = tick.number, tick.times
        if after.catalogue != before.catalogue:
            self._units.clear()
        for experiment in after.definitions:
            if after.definitions[experiment] != before.definitions.get(experiment):
                self._forget_units(lambda key, name=experiment: key[0] == name)
        self._redefined = {
            one.definition.id for one in tick.changes if isinstance(one, DefinitionChange)
        }
        self.final |= self.newly_final
        self.newly_final = {
            one.id
            for one in self.running
            if one.stopped_at_ms is not None and tick.times.horizon_ms > one.stopped_at_ms
        }

    def is_due(self, definition: Definition) -> bool:
        """Return whether the last tick has a look at an experiment, if its sums changed."""
        if definition.started_at_ms is None or definition.id in self.final:
            return False
        stride = self.control.settings.stride or 1
        return (
            definition.id in self.newly_final | self._redefined
            or (self.tick + _hash_of_name(definition.id)) % stride == 0
        )

    def _read_row(self, row: Event) -> None:
        unit = (row.unit_type, row.unit)
        what = self._what_becomes_of(row, unit)
        self.rows["received"] += 1
        self.rows[what] += 1
        if what != "fresh":
            return
        self._last_of_id[unit, row.event_id] = row
        self._events[unit].append(row)
        self._forget_units(lambda key: key[1] == unit)

    def _what_becomes_of(self, row: Event, unit: UnitName) -> str:
        horizon = self.times.horizon_ms
        if not self._knows_names_of(row):
            return "refused"
        if row.timestamp < horizon:
            return "stale"
        known = self._last_of_id.get((unit, row.event_id))
        if known is None or known.timestamp < horizon:
            return "fresh"
        return "duplicate" if _content(known) == _content(row) else "conflict"

    def _knows_names_of(self, row: Event) -> bool:
        if row.experiment is None:
            return row.metric is not None
        definition = self.control.definitions.get(row.experiment)
        if definition is None or definition.unit_type != row.unit_type:
            return False
        return row.metric is not None or row.variant in definition.variant_ids

    def _read_part(self, value: bytes) -> None:
        part, columns = read_import(value)
        declared = self.control.imports.get(part.import_id)
        reserved: ImportBatch | None = declared.reserved if declared else None
        if (
            reserved is None
            or part.number != self._taken[part.import_id] + 1
            or (part.number, part.sha256) != (reserved.number, reserved.sha256)
        ):
            self.parts["ignored"] += 1
            return
        self.parts["taken"] += 1
        self._taken[part.import_id] += 1
        self._rows_taken[part.import_id] += len(columns["day"])
        for high, low, metric, day, number in zip(
            *(columns[name].tolist() for name in ("unit_high", "unit_low", "metric", "day")),
            columns["value"].tolist(),
            strict=True,
        ):
            entry = self.control.catalogue.get(part.metrics[metric])
            if entry is not None and entry.keep_days > 0:
                self._imported[high, low].append((entry.name, DayRow(day, number)))
        self._units.clear()

    # --- units ---

    def _units_of(self, definition: Definition) -> list[Unit]:
        for name, events in self._events.items():
            key = (definition.id, name)
            if name[0] == definition.unit_type and key not in self._units:
                self._units[key] = Unit(definition, events, self._days_of(name, events))
        return [unit for key, unit in self._units.items() if key[0] == definition.id]

    def _days_of(self, unit: UnitName, events: list[Event]) -> Days:
        """Return what is kept of a unit by day: imported rows, and events of all experiments."""
        days: dict[str, list[DayRow]] = defaultdict(list)
        for name, row in self._imported[self._hash_of(unit)]:
            days[name].append(row)
        for event in events:
            entry = self.control.catalogue.get(event.metric or "")
            if entry is not None and event.experiment is None and _is_live(entry, event):
                days[entry.name].append(DayRow(event.timestamp // DAY_MS, event.value))
        return days

    def _forget_units(self, is_old: Any) -> None:
        for key in [key for key in self._units if is_old(key)]:
            del self._units[key]

    def _hash_of(self, unit: UnitName) -> tuple[int, int]:
        if unit not in self._hashes:
            high, low = unit_hashes(pa.array([unit_key(*unit)], pa.string()))
            self._hashes[unit] = int(high[0]), int(low[0])
        return self._hashes[unit]


_hash_of_name = cache(stable_hash64)


def _is_live(entry: CatalogueEntry, row: Event) -> bool:
    return entry.keep_days > 0 and row.timestamp // DAY_MS >= entry.live_from_day


def _event_of(row: dict[str, Any]) -> Event:
    is_metric = row["kind"] == KIND_METRIC
    return Event(
        unit=row["unit_id"],
        event_id=row["event_id"],
        timestamp=row["timestamp"],
        experiment=row["experiment_id"],
        variant=None if is_metric else row["variant"],
        metric=row["metric"] if is_metric else None,
        value=row["value"],
        unit_type=row["unit_type"],
        timestamp_given=row["timestamp_given"],
        attributes=row["attributes"],
    )


def _content(row: Event) -> tuple[Any, ...]:
    """Return what a resend must repeat."""
    time = row.timestamp if row.timestamp_given else None
    return row.experiment, row.variant, row.metric, row.value, time
