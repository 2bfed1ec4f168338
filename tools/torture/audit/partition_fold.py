"""One partition of ``litmus.events`` from its first message to its last, counted by hand.

Units are dicts and lists, integers are Python's. What a tick changed is noted as differences of
integers, so that looks of all ticks are compared without counting anything twice.
"""

import heapq
from array import array
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

from schemas.control import (
    CatalogueChange,
    CatalogueEntry,
    DefinitionChange,
    Import,
    ImportChange,
    decode_tick,
)
from schemas.imports import read_import
from schemas.topics import KIND_BATCH, KIND_IMPORT, KIND_TICK
from tools.torture.audit.batches import fingerprint, known_id, rows_of_all
from tools.torture.audit.control_log import ControlLog, TickFacts
from tools.torture.audit.evidence import LogMessage
from tools.torture.audit.findings import Findings
from tools.torture.audit.hashing import hash128, partition_of
from tools.torture.audit.imports import Batch, BatchKey, fingerprint_of_row
from tools.torture.audit.rules import (
    CONVERSION,
    COUNT,
    COUNTED,
    EXCLUDED,
    NO_ASSIGNMENT,
    OUTSIDE,
    SUMS,
    Rules,
)
from tools.torture.audit.units import (
    MAGNITUDE_LIMIT,
    NOWHERE,
    Cell,
    Row,
    Unit,
    contribute,
    has_left,
    is_held,
    mature_metric,
    place,
    quantised,
)

MESSAGES_AT_ONCE = 500
AHEAD_MS_MAX = 5 * 60_000
EVENT_HASHES_CHECKED = 64
"""Of so many rows the hash of one event is computed again; those of units all are."""

FATES = ("received", "fresh", "duplicate", "conflict", "stale", "refused")

Deltas = dict[int, dict[int, list[int]]]
"""By tick, by ordinal: what the tick, and all before it since the last one, added."""


class TickMark(NamedTuple):
    """Where a partition stood after a tick.

    Attributes:
        next_offset: First offset after it.
        rows: Rows so far by fate, in the order of ``FATES``.
    """

    next_offset: int
    rows: tuple[int, ...]


class PartitionFold:
    """Counts one partition.

    Attributes:
        deltas: What each tick changed.
        marks: Of each tick, in order.
        finals: Ordinals by the tick that made them final.
        units: By type and id.
        rules: By ordinal, as of the last tick.
        fingerprints: Of rows in their order; a duplicate has its first one's, and is left out.
        places: Where each of these stands: offset * 2**20 + row.
        batches: Offset and rows of every batch, one after the other.
        not_counted: Positions of rows that were stale or refused.
        rows: Rows so far, by fate.
        anonymous: Fingerprint of a row that is known by its place, to the one it has without.
        catalogue: Of names of metric events, as of the last tick.
        imported: By unit hash, name of the events, UTC day and value of each row of imports.
        import_batches: Batches of imports that were the next ones.
        horizon: Of the last tick, ms.
    """

    def __init__(
        self, number: int, partition_count: int, control: ControlLog, findings: Findings
    ) -> None:
        self.number = number
        self.deltas: Deltas = {}
        self.marks: list[TickMark] = []
        self.finals: dict[int, list[int]] = {}
        self.units: dict[str, dict[str, Unit]] = {}
        self.rules: dict[int, Rules] = {}
        self.fingerprints = array("Q")
        self.places = array("Q")
        self.batches = array("Q")
        self.not_counted = array("Q")
        self.rows = [0] * len(FATES)
        self.anonymous: dict[int, int] = {}
        self.catalogue: dict[str, CatalogueEntry] = {}
        self.imported: dict[tuple[int, int], list[tuple[str, int, float]]] = {}
        self.import_batches: dict[BatchKey, Batch] = {}
        self.horizon = 0
        self.column_sums = [0, 0, 0]
        self._partition_count = partition_count
        self._control = control
        self._findings = findings
        self._lateness_max = max(
            (one.settings.lateness_ms for one in control.ticks), default=3_600_000
        )
        self._by_id: dict[str, Rules] = {}
        self._tracking: dict[str, list[Rules]] = {}
        self._imports: dict[str, Import] = {}
        self._imports_applied: dict[str, int] = {}
        self._by_hash: dict[tuple[int, int], Unit] = {}
        self._integers: dict[int, list[int]] = {}
        self._reported: dict[int, list[int]] = {}
        self._touched: set[int] = set()
        self._due: list[tuple[int, int, int, Unit]] = []
        self._pushed = 0
        self._settled = 0
        self._next_offset = 0
        self._watches: dict[int, list[Callable[[PartitionFold], None]]] = {}

    def watch(self, offset: int, look: Callable[["PartitionFold"], None]) -> None:
        """Have ``look`` called when all below ``offset``, where a tick ended, is counted."""
        self._watches.setdefault(offset, []).append(look)

    def feed(self, messages: Iterable[LogMessage]) -> None:
        """Count messages, which follow each other."""
        left = iter(messages)
        while chunk := list(islice(left, MESSAGES_AT_ONCE)):
            rows = rows_of_all([one.value for one in chunk if one.kind == KIND_BATCH])
            for offset, kind, value in chunk:
                batch = next(rows) if kind == KIND_BATCH else []
                if offset < self._next_offset:
                    self._differ(f"offset {offset} comes after {self._next_offset - 1}")
                    continue
                self._next_offset = offset + 1
                if kind == KIND_BATCH:
                    self._take_batch(offset, batch)
                elif kind == KIND_TICK:
                    self._take_tick(offset, value)
                elif kind == KIND_IMPORT:
                    self._take_import(offset, value)
                else:
                    self._differ(f"offset {offset}: kind {kind!r}, expected batch, tick or import")

    def finish(self) -> None:
        """Hold what was seen to what control says was done, when all messages were taken."""
        for offset in sorted(self._watches):
            self._differ(f"a checkpoint up to offset {offset}, no tick ends there", "cells")
        for import_id, declared in self._imports.items():
            applied = self._imports_applied.get(import_id, 0)
            expected = [declared.done]
            if declared.reserved is not None:
                expected.append(declared.reserved.number)
            self._findings.count("imports")
            if applied not in expected:
                line = f"import {import_id}: expected batches up to {expected}, found {applied}"
                self._differ(line, "imports")

    def _differ(self, line: str, check: str = "log") -> None:
        self._findings.differ(check, f"litmus.events/{self.number}, {line}")

    # --- rows ---

    def _take_batch(self, offset: int, rows: list[tuple[Any, ...]]) -> None:
        for at, row in enumerate(rows, offset << 20):
            self._take_row(at, row)
        self.batches.append(offset)
        self.batches.append(len(rows))

    def _take_row(self, at: int, columns: tuple[Any, ...]) -> None:
        (
            kind,
            unit_type,
            unit_id,
            unit_high,
            unit_low,
            event_id,
            high,
            low,
            experiment,
            variant,
            metric,
            attributes,
            value,
            timestamp,
            is_given,
            received_at,
        ) = columns
        self.rows[0] += 1
        self.column_sums[0] += timestamp
        self.column_sums[1] += low
        self.column_sums[2] += unit_low
        given = timestamp if is_given else None
        if received_at - timestamp > self._lateness_max or timestamp - received_at > AHEAD_MS_MAX:
            self._differ(
                f"{self._where(at)}: timestamp {timestamp}, received at {received_at}: "
                "must be late, or refused"
            )
        unit = self.units.setdefault(unit_type, {}).get(unit_id)
        fate = self._fate_by_rules(kind, unit_type, experiment, variant, timestamp)
        if fate:
            self.not_counted.append(at)
        elif (
            unit is not None
            and (first := unit.rows.get(event_id)) is not None
            and first.timestamp >= self.horizon
        ):
            fate = 2 if first[1:] == (given, experiment, variant, metric, value) else 3
        self.rows[fate or 1] += 1
        if fate != 2 or attributes is not None:
            said = (experiment, variant, metric, value, given, attributes)
            told_id = known_id(event_id) if "/" in event_id else event_id
            key = fingerprint(unit_type, unit_id, told_id, *said)
            self.fingerprints.append(key)
            self.places.append(at)
            if told_id != event_id:
                self.anonymous[key] = fingerprint(unit_type, unit_id, "", *said)
        if at % EVENT_HASHES_CHECKED == 0:
            found, expected = (high, low), hash128(event_id, unit_high, unit_low)
            self._findings.compare("hashes", self._where(at), expected, found)
        if fate:
            return
        if unit is None:
            unit = self._new_unit(at, unit_type, unit_id, (unit_high, unit_low))
        row = unit.rows[event_id] = Row(timestamp, given, experiment, variant, metric, value)
        unit.latest = max(unit.latest, timestamp)
        if variant is None:
            unit.measured.append(row)
            for rules in self._tracking.get(metric, ()):
                if rules.unit_type == unit_type and (experiment is None or experiment == rules.id):
                    self._count_event(unit, rules, row)
        else:
            unit.assigned.setdefault(experiment, []).append((timestamp, high, low, variant))
            self._assign(unit, self._by_id[experiment], timestamp, (high, low), variant)

    def _where(self, at: int) -> str:
        return f"offset {at >> 20} row {at & 0xFFFFF}"

    def _fate_by_rules(
        self, kind: int, unit_type: str, experiment: str | None, variant: str | None, time: int
    ) -> int:
        """Return 5 where a row is refused, 4 where it is stale, 0 otherwise."""
        if experiment is not None:
            rules = self._by_id.get(experiment)
            if rules is None or rules.unit_type != unit_type:
                return 5
            if kind == 0 and variant not in rules.places:
                return 5
        elif kind == 0:
            return 5
        return 4 if time < self.horizon else 0

    def _new_unit(self, at: int, unit_type: str, unit_id: str, unit_hash: tuple[int, int]) -> Unit:
        unit = self.units[unit_type][unit_id] = Unit(unit_type, unit_hash)
        self._by_hash[unit_hash] = unit
        unit.imported = self.imported.get(unit_hash, unit.imported)
        key = f"{unit_type}/{unit_id}"
        where = f"litmus.events/{self.number}, {self._where(at)}, unit {key}"
        self._findings.compare("hashes", where, hash128(key), unit_hash)
        at_home = partition_of(key, self._partition_count)
        self._findings.compare("units' partitions", where, at_home, self.number)
        return unit

    # --- what rows mean ---

    def _assign(
        self, unit: Unit, rules: Rules, time: int, event_hash: tuple[int, int], variant: str
    ) -> None:
        if rules.is_final or not rules.counts_at(time):
            return
        cell = unit.cells.get(rules.ordinal)
        if cell is not None and cell.variant != NOWHERE:
            is_first = (time, event_hash) < (cell.entry, cell.entry_hash)
            changes_other = rules.places[variant] != cell.variant and time < cell.other
            if not is_first and not changes_other:
                return
        self._place(unit, rules)

    def _place(self, unit: Unit, rules: Rules) -> None:
        """Count a unit in an experiment anew, from all its events."""
        integers = self._integers[rules.ordinal]
        before = unit.cells.get(rules.ordinal)
        if before is not None:
            contribute(integers, rules, before, -1)
        cell = place(unit, rules, self._settled)
        self._touched.add(rules.ordinal)
        if cell.variant == NOWHERE and not cell.before:
            unit.cells.pop(rules.ordinal, None)
            return
        unit.cells[rules.ordinal] = cell
        contribute(integers, rules, cell, 1)
        if cell.variant != NOWHERE:
            self._await(unit, rules, cell.entry)

    def _await(self, unit: Unit, rules: Rules, entry: int) -> None:
        for window in rules.windows:
            due = entry + window
            if self._settled < due <= rules.stopped:
                self._pushed += 1
                heapq.heappush(self._due, (due, self._pushed, rules.ordinal, unit))

    def _count_event(self, unit: Unit, rules: Rules, row: Row) -> None:
        """Add one metric event to what a unit amounts to."""
        timestamp = row.timestamp
        event: str = row.metric  # type: ignore[assignment]  # a metric event has one
        cell = unit.cells.get(rules.ordinal)
        is_before = cell is None or timestamp < cell.entry
        if is_before and rules.has_covariates and cell is not None and cell.variant != NOWHERE:
            self._place(unit, rules)
            return
        if timestamp < rules.since[event]:
            return
        integers, crossovers = self._integers[rules.ordinal], rules.crossovers
        self._touched.add(rules.ordinal)
        if cell is None:
            cell = unit.cells[rules.ordinal] = Cell(len(rules.metrics))
        if is_before:
            cell.before += 1
            integers[crossovers + NO_ASSIGNMENT] += 1
            return
        entry, is_out = cell.entry, cell.is_crossed and rules.excludes
        held = False
        for metric in rules.by_event[event]:
            if not is_held(entry, rules, metric, timestamp):
                continue
            held = True
            number = metric.place
            old = cell.totals[number]
            if metric.kind == COUNT:
                added, magnitude = 1, 0
            elif metric.kind == CONVERSION:
                added, magnitude = int(row.value > 0), 0
            else:
                added = quantised(metric, row.value)
                magnitude = abs(added)
            is_plain = cell.magnitudes[number] + magnitude < MAGNITUDE_LIMIT
            if is_out or (is_plain and not metric.days):
                cell.totals[number] = old + added
                cell.magnitudes[number] += magnitude
                if is_out or (metric.kind == CONVERSION and (old > 0 or not added)):
                    continue
                squares = (old + added) ** 2 - old * old
                at = metric.start + SUMS * cell.variant
                integers[at + 1] += added
                integers[at + 2] += squares
                if cell.matured >> number & 1:
                    at = metric.matured + SUMS * cell.variant
                    integers[at + 1] += added
                    integers[at + 2] += squares
            else:
                contribute(integers, rules, cell, -1)
                cell.totals[number] = old + added
                cell.magnitudes[number] += magnitude
                contribute(integers, rules, cell, 1)
        if held:
            cell.counted += 1
        else:
            cell.outside += 1
        if is_out:
            integers[crossovers + EXCLUDED] += 1
        else:
            integers[crossovers + (COUNTED if held else OUTSIDE)] += 1

    # --- ticks ---

    def _take_tick(self, offset: int, value: bytes) -> None:
        tick = decode_tick(value)
        last = len(self.marks)
        if tick.number <= last:
            return
        if tick.number != last + 1 or tick.number > len(self._control.ticks):
            end = len(self._control.ticks)
            self._differ(
                f"offset {offset}: tick {tick.number}, expected {last + 1} of {end}", "ticks"
            )
            return
        facts = self._control.ticks[last]
        found = (tick.log_id, tick.times, tick.settings, tick.changes)
        expected = (self._control.log_id, facts.times, facts.settings, facts.changes)
        where = f"litmus.events/{self.number}, tick {tick.number}"
        self._findings.compare("ticks", where, expected, found)
        self._change(facts)
        self._settle(facts)
        self._note(facts, offset + 1)

    def _change(self, facts: TickFacts) -> None:
        """Make a tick's changes; units that they may concern are counted anew."""
        changed: list[tuple[Rules, int]] = []
        for change in facts.changes:
            if isinstance(change, CatalogueChange):
                self.catalogue[change.entry.name] = change.entry
            elif isinstance(change, ImportChange):
                self._imports[change.declared.id] = change.declared
        for change in facts.changes:
            if isinstance(change, DefinitionChange):
                rules = Rules(change.definition, self.catalogue)
                before = self.rules.get(rules.ordinal)
                since = -1
                if before is not None:
                    rules.is_final = before.is_final
                    since = rules.changed_from(before)
                self.rules[rules.ordinal] = self._by_id[rules.id] = rules
                changed.append((rules, since))
        if not changed:
            return
        self._tracking = {}
        for rules in self.rules.values():
            for event in () if rules.is_final else rules.by_event:
                self._tracking.setdefault(event, []).append(rules)
        for rules, since in changed:
            if not rules.is_final:
                self._adopt(rules, since)

    def _adopt(self, rules: Rules, since: int) -> None:
        """Go on under changed rules."""
        integers = self._integers.setdefault(rules.ordinal, [])
        if since < 0:  # all may count otherwise; of a draft, even the places are others
            integers[:] = [0] * rules.size
            for unit in self._all_units():
                unit.cells.pop(rules.ordinal, None)
        else:
            integers += [0] * (rules.size - len(integers))
        self._touched.add(rules.ordinal)
        for unit in self._all_units():
            if unit.type == rules.unit_type and unit.latest >= since:
                self._place(unit, rules)
                continue
            cell = unit.cells.get(rules.ordinal)
            if cell is not None and len(cell.totals) < len(rules.metrics):
                more = len(rules.metrics) - len(cell.totals)
                cell.totals += [0] * more
                cell.magnitudes += [0] * more
                if rules.has_covariates and cell.variant != NOWHERE:
                    cell.covariates += [None] * (len(rules.metrics) - len(cell.covariates))

    def _all_units(self) -> Iterable[Unit]:
        for units in self.units.values():
            yield from units.values()

    def _settle(self, facts: TickFacts) -> None:
        """Bring matured sums to a tick's settled time."""
        self._settled, self.horizon = facts.times.settled_ms, facts.times.horizon_ms
        waiting = self._due
        while waiting and waiting[0][0] <= self._settled:
            due, _, ordinal, unit = heapq.heappop(waiting)
            rules, cell = self.rules[ordinal], unit.cells.get(ordinal)
            if cell is None or cell.variant == NOWHERE or due > rules.stopped:
                continue
            for metric in rules.metrics:
                bit = 1 << metric.place
                if cell.entry + metric.window != due or cell.matured & bit:
                    continue
                cell.matured |= bit
                is_in = not (cell.is_crossed and rules.excludes) and cell.entry >= metric.added
                if is_in and not has_left(cell, metric):
                    mature_metric(self._integers[ordinal], metric, cell, 1)
                    self._touched.add(ordinal)

    def _note(self, facts: TickFacts, next_offset: int) -> None:
        """Note what a tick changed; drop what is final with it."""
        for ordinal in self._touched:
            now, then = self._integers[ordinal], self._reported.get(ordinal, [])
            then = then + [0] * (len(now) - len(then))
            delta = [a - b for a, b in zip(now, then, strict=True)]
            if any(delta):
                self.deltas.setdefault(facts.number, {})[ordinal] = delta
                self._reported[ordinal] = now.copy()
        self._touched.clear()
        self.marks.append(TickMark(next_offset, tuple(self.rows)))
        for rules in self.rules.values():
            if not rules.is_final and self.horizon > rules.stopped:
                self._drop(rules)
                self.finals.setdefault(facts.number, []).append(rules.ordinal)
        for look in self._watches.pop(next_offset, ()):
            look(self)

    def _drop(self, rules: Rules) -> None:
        rules.is_final = True
        for unit in self._all_units():
            unit.cells.pop(rules.ordinal, None)
        for tracking in self._tracking.values():
            if rules in tracking:
                tracking.remove(rules)

    # --- imports ---

    def _take_import(self, offset: int, value: bytes) -> None:
        """Take the next batch of an import; repeats are void."""
        part, columns = read_import(value)
        declared = self._imports.get(part.import_id)
        agreed = declared.reserved if declared else None
        applied = self._imports_applied.get(part.import_id, 0)
        is_agreed = agreed is not None and (agreed.number, agreed.sha256) == (
            part.number,
            part.sha256,
        )
        if not is_agreed or part.number <= applied:
            return
        where = f"offset {offset}: batch {part.number} of import {part.import_id}"
        if part.number != applied + 1:
            self._differ(f"{where}, expected {applied + 1}", "imports")
            return
        self._findings.count("imports")
        self._imports_applied[part.import_id] = part.number
        rows = zip(
            *(
                columns[name].tolist()
                for name in ("unit_high", "unit_low", "metric", "day", "value")
            ),
            strict=True,
        )
        batch, concerned = Batch(), dict[int, Unit]()
        for high, low, metric, day, amount in rows:
            name = part.metrics[metric]
            batch = batch.plus(fingerprint_of_row(high, low, name, day, amount))
            entry = self.catalogue.get(name)
            if entry is not None and entry.keep_days:
                self.imported.setdefault((high, low), []).append((name, day, amount))
                unit = self._by_hash.get((high, low))
                if unit is not None:
                    concerned[id(unit)] = unit
        self.import_batches[part.import_id, part.number] = batch
        filled = set(part.metrics)
        reached = [
            one
            for one in self.rules.values()
            if one.has_covariates and not one.is_final and filled & set(one.by_event)
        ]
        for unit in concerned.values():
            unit.imported = self.imported[unit.hash]
            for rules in reached:
                if rules.ordinal in unit.cells:
                    self._place(unit, rules)
