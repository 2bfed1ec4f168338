"""One partition of litmus.events: messages in, partials and checkpoint records out. Pure.

Agent, replay, simulation, benchmark and property tests all drive this.
"""

import zlib
from typing import Any, NamedTuple

import msgspec
import numpy as np

from schemas.batch import unpack
from schemas.control import (
    CatalogueChange,
    ControlState,
    DefinitionChange,
    Settings,
    Tick,
    Times,
    decode_tick,
    stride_of,
)
from schemas.definitions import Definition
from schemas.hashing import stable_hash64
from schemas.imports import UnreadableImportError, read_import
from schemas.partials import (
    STATE_VERSION,
    ExperimentSums,
    ImportCount,
    Ledger,
    Partial,
    encode_partial,
    in_parts,
)
from schemas.topics import KIND_BATCH, KIND_IMPORT, KIND_TICK, MESSAGE_BYTES_MAX
from stream_processors.accumulate import memory
from stream_processors.accumulate.checkpoints import (
    compact,
    forget_days,
    forget_names,
    is_mostly_dead,
    is_mostly_free,
    is_mostly_unused,
    make_room,
    memory_in_use,
)
from stream_processors.accumulate.kernels import changing, contributing, counting, days
from stream_processors.accumulate.layout import EVENTS, sizes_of_all
from stream_processors.accumulate.plan import Names, in_order, is_final, make_plan
from stream_processors.accumulate.records import Header
from stream_processors.accumulate.refolding import refold_some
from stream_processors.accumulate.reporting import attribution, report
from stream_processors.accumulate.rows import make_import_rows, make_rows
from stream_processors.accumulate.state import (
    EXPERIMENT_SUMS,
    HEAP,
    RECENT_END,
    RECENT_START,
    empty_state,
    wider,
)
from stream_processors.accumulate.writing import CHUNK_TICKS, CheckpointWriter, Write

NEVER = Times(0, 0, 0)

NAMES_MAX = 1_000
"""So many names of metrics and unit types, and twice those in use, are held before old ones go."""

UNUSED_CHECK_TICKS = 1_500
"""How often units that hold nothing are looked for: every five minutes."""


IMPORTS_AGAIN_TICKS = 300
"""What was taken of imports is reported once a minute, too: whoever reads may be new."""


class OffsetGapError(Exception):
    """A message is missing or out of turn. Going on would lose it for good."""


class TickGapError(Exception):
    """A tick is missing, or is of another log: the partition is not a copy of the control log."""


class UnknownMessageError(Exception):
    """A message is no batch, tick or import: something else writes to litmus.events."""


class Ticked(NamedTuple):
    """What a tick yields.

    Attributes:
        tick: Its number.
        partials: Messages for litmus.partials; none while a replay catches up.
        writes: Records for the changelog, to be written once the partials are acknowledged.
    """

    tick: int
    partials: list[bytes]
    writes: list[Write]


class Partition:
    """The live state of one partition.

    Attributes:
        number: Which partition.
        cursor: Next source offset to apply.
        tick: Number of the last tick applied.
        times: Its times; all zero before the first.
        control: Definitions and settings as of that tick.
        is_live: Whether every segment has been caught up with, so that sums are kept.
        state: The arrays.
        ignored_imports: Parts of imports read since the start that were not the next ones.
    """

    def __init__(
        self,
        number: int,
        *,
        writer: str,
        control: ControlState | None = None,
        start: Header | None = None,
        log_id: str | None = None,
    ) -> None:
        self.number = number
        self.writer = writer
        self.control = control or ControlState()
        self.log_id = log_id or (start.log_id if start else None)
        self.cursor = start.offset if start else 0
        self.tick = start.tick if start else 0
        self.times = start.times if start else NEVER
        self.metrics, self.unit_types = Names(), Names()
        self.state = empty_state()
        self.is_live = False
        self.ignored_imports = 0
        self._tick_hash = start.tick_hash if start else 0
        self._final = self._finals()
        self._days_forgotten = -1
        self._names_max = NAMES_MAX
        self._redefined: frozenset[int] = frozenset()
        self._imports_reported: list[ImportCount] | None = None
        self.plan_anew()
        self.checkpoints = CheckpointWriter(number)

    @property
    def header(self) -> Header:
        """Return how far the state is complete."""
        return Header(
            self.log_id or "", STATE_VERSION, self.cursor, self.tick, self.times, self._tick_hash
        )

    def apply(self, offset: int, kind: bytes | None, value: bytes) -> Ticked | None:
        """Apply the next message; a tick yields something, a batch nothing.

        Raises:
            OffsetGapError: If ``offset`` is not the cursor.
            TickGapError: If it is a tick, not a repeated one, and not the next.
            UnknownMessageError, schemas.batch.UnreadableBatchError,
            schemas.imports.UnreadableImportError: If it is no message of ours.
            PartitionFullError: If it holds more than a partition can.
        """
        if offset != self.cursor:
            raise OffsetGapError(
                f"litmus.events/{self.number}: offset == {offset}, must be {self.cursor}"
            )
        if kind in (KIND_BATCH, KIND_IMPORT):
            apply = self._apply_batch if kind == KIND_BATCH else self._apply_import
            apply(offset, value)
            self.cursor = offset + 1
            return None
        if kind != KIND_TICK:
            raise UnknownMessageError(
                f"litmus.events/{self.number}, offset {offset}: kind == {kind!r}, "
                "must be batch, tick or import"
            )
        return self._apply_tick(offset, value)

    def sums(self) -> tuple[Any, ...]:
        """Return copies of all that is summed, for audits: they equal a fold at any time."""
        state = self.state
        filled = np.flatnonzero(state.histograms)
        return (
            state.units_of.copy(),
            state.experiments[["counted", "outside", "excluded"]].tolist(),
            state.sums.copy(),
            state.overflowed.copy(),
            filled,
            state.histograms[filled],
        )

    def memory(self) -> dict[str, int]:
        """Return bytes of state in use, by array."""
        return memory_in_use(self.state)

    def refold(self) -> None:
        """Compute all sums from the cells."""
        sizes = sizes_of_all(self._definitions)
        touched = self.state.experiments["touched"].copy()
        # Zeros take memory only where they are written to: most buckets never are.
        self.state = self.state._replace(
            experiments=np.zeros(len(self._definitions), EXPERIMENT_SUMS),
            units_of=np.zeros(sizes.units, np.int64),
            sums=np.zeros(sizes.sums, np.uint64),
            overflowed=np.zeros(sizes.overflowed, np.int64),
            histograms=np.zeros(sizes.histograms, np.int32),
            ranges=np.zeros((sizes.ranges, 2), np.int32),
        )
        heap_before = int(self.state.counts[HEAP])
        self.state.counts[HEAP] = 0
        room = int(contributing.heap_room(self.state, self.plan))
        self.state = make_room(self.state, heap=room)
        contributing.fold(self.state, self.plan, self.times.settled_ms)
        memory.release(self.state.heap, int(self.state.counts[HEAP]), heap_before)
        self.state.experiments["touched"] = touched

    def write_anew(self) -> None:
        """Let the next cycle write every segment, changed or not.

        Whoever owned the partition in between may have written newer records than this state knows
        of; manifests that name the older ones would make a recovery read far more of the log.
        """
        self.state.segments["dirty"] = True

    # --- messages ---

    def _apply_batch(self, offset: int, value: bytes) -> None:
        rows = make_rows(
            unpack(value),
            self.control.definitions,
            metrics=self.metrics,
            unit_types=self.unit_types,
        )
        count, assigning = len(rows.kind), int((rows.kind == 0).sum())
        self.state = make_room(
            self.state,
            units=count,
            cells=assigning,
            totals=assigning * self._totals_max,
            days=count - assigning,
            recent=count,
            heap=assigning * self._slots_max,
            nodes=(self._recent_count + count) * self._event_slots,
        )
        times = self.times
        counting.apply_rows(
            self.state, self.plan, rows, offset, times.settled_ms, times.horizon_ms, self.is_live
        )

    def _apply_import(self, offset: int, value: bytes) -> None:
        """Apply a part if it is of the batch that was agreed on; anything else is a repeat."""
        part, columns = read_import(value)
        declared = self.control.imports.get(part.import_id)
        agreed = declared.reserved if declared else None
        if (
            declared is None
            or agreed is None
            or (agreed.number, agreed.sha256) != (part.number, part.sha256)
        ):
            self.ignored_imports += 1
            return
        if not set(part.metrics) <= set(declared.metrics):
            raise UnreadableImportError(
                f"batch {part.number} of import {part.import_id!r} has metrics {part.metrics}, "
                f"must be among {declared.metrics}"
            )
        rows = make_import_rows(part, columns, metrics=self.metrics, unit_types=self.unit_types)
        self.state = make_room(self.state, units=len(rows.day), days=len(rows.day))
        self.state = self.state._replace(
            imported=wider(self.state.imported, declared.ordinal + 1),
            import_rows=wider(self.state.import_rows, declared.ordinal + 1),
        )
        times = self.times
        taken = days.apply_import(
            self.state,
            self.plan,
            rows,
            declared.ordinal,
            part.number,
            offset,
            times.settled_ms,
            times.horizon_ms,
            self.is_live,
        )
        self.ignored_imports += not taken

    def _apply_tick(self, offset: int, value: bytes) -> Ticked | None:
        tick = decode_tick(value)
        if self.log_id is not None and tick.log_id != self.log_id:
            raise TickGapError(f"log == {tick.log_id!r}, must be {self.log_id!r}")
        if tick.number <= self.tick:
            self.cursor = offset + 1
            return None
        if tick.number != self.tick + 1:
            raise TickGapError(
                f"litmus.events/{self.number}: tick == {tick.number}, must be {self.tick + 1}"
            )
        self.log_id = tick.log_id
        if self.is_live:
            # First, and by the rules until now: a fold does not say which experiments it changed.
            contributing.mature(self.state, self.plan, tick.times.settled_ms)
        before = self._definitions
        changed = self._change(tick, offset)
        self.tick, self.times, self.cursor = tick.number, tick.times, offset + 1
        self._tick_hash = zlib.crc32(value)
        self._settle(changed, before)
        newly_final = self._finals() - self._final
        partials = self._report(tick, newly_final) if self.is_live else []
        if newly_final:
            self._drop(newly_final, offset)
        writes = self.checkpoints.at_tick(
            self.state,
            self.plan,
            header=self.header,
            is_live=self.is_live,
            metrics=self.metrics,
            unit_types=self.unit_types,
        )
        self._tidy()
        return Ticked(tick.number, partials, writes)

    # --- what a tick does ---

    def _change(self, tick: Tick, offset: int) -> set[int]:
        """Make the changes of a tick; return the experiments with another definition."""
        after = self.control.after(tick.changes)
        after = msgspec.structs.replace(after, settings=tick.settings)
        entries = [one.entry for one in tick.changes if isinstance(one, CatalogueChange)]
        ordinals = {
            one.definition.ordinal for one in tick.changes if isinstance(one, DefinitionChange)
        }
        changed = sorted(ordinals - self._final)
        self._redefined = frozenset(changed)
        if not entries and not ordinals:
            self.control = after
            return ordinals
        horizon, old_plan = self.times.horizon_ms, self.plan
        for ordinal in changed:
            if ordinal < len(old_plan.experiments):
                changing.replace_recent(self.state, old_plan, ordinal, offset, -1, horizon)
        self.control = after
        self.plan_anew()
        for entry in entries:
            code = self.metrics.code(entry.name)
            self.state = make_room(self.state, days=self._recent_count)
            days.keep_recent(self.state, self.plan, code, offset, horizon)
        missing = int(changing.totals_missing(self.state, self.plan))
        nodes = self._recent_count * self._event_slots
        self.state = make_room(self.state, totals=missing, nodes=nodes)
        changing.widen_cells(self.state, self.plan)
        for ordinal in changed:
            changing.take_back_assignments(self.state, self.plan, ordinal, offset)
            changing.replace_recent(self.state, self.plan, ordinal, offset, 1, horizon)
            arriving = int(changing.count_recent_assignments(self.state, ordinal))
            self.state = make_room(self.state, cells=arriving, totals=arriving * self._totals_max)
            changing.assign_recent(self.state, old_plan, self.plan, ordinal, offset, horizon)
            self.state.experiments["touched"][ordinal] = True
        return ordinals

    @property
    def _recent_count(self) -> int:
        return int(self.state.counts[RECENT_END] - self.state.counts[RECENT_START])

    def _settle(self, changed: set[int], before: list[Definition]) -> None:
        """Bring the sums to the new settled time, and to changed definitions."""
        if not self.is_live:
            # A record of this very tick lacks the cells that were dropped after the last looks of
            # its final experiments; those looks are out, or the record would not be.
            if self.cursor <= int(self.state.segments["offset"].max()):
                return
            self.is_live = True
            self.state.experiments["touched"] = True
            self.refold()
        elif changed:
            self._refold_some(changed, before)
        else:
            contributing.mature(self.state, self.plan, self.times.settled_ms)

    def _refold_some(self, ordinals: set[int], before: list[Definition]) -> None:
        self.state = refold_some(
            self.state,
            self.plan,
            ordinals,
            before=before,
            after=self._definitions,
            settled_ms=self.times.settled_ms,
        )

    def _finals(self) -> set[int]:
        return {
            one.ordinal
            for one in self.control.definitions.values()
            if is_final(one, self.times.horizon_ms)
        }

    def _drop(self, newly_final: set[int], offset: int) -> None:
        for ordinal in newly_final:
            changing.drop_cells(self.state, self.plan, ordinal, offset)
            reached = self.state.segments["offset"] <= offset
            self.state.segments["dirty"][reached & (self.state.no_assignment[:, ordinal] != 0)] = (
                True
            )
            self.state.no_assignment[reached, ordinal] = 0
            self.state.experiments["touched"][ordinal] = False
        self._final |= newly_final
        self.plan_anew()
        if self.is_live:
            self._refold_some(newly_final, self._definitions)

    def _tidy(self) -> None:
        """Give back what is no longer needed, now and then."""
        if self.tick % CHUNK_TICKS:
            return
        day = days.day_of(self.times.horizon_ms)
        # Not while a replay catches up: days of segments that are ahead may be of metric names
        # whose catalogue entry it has not come to.
        if self.is_live and day != self._days_forgotten:
            forget_days(self.state, self.plan, self.times.horizon_ms)
            self._days_forgotten = day
        if len(self.metrics.values) + len(self.unit_types.values) > self._names_max:
            self.metrics, self.unit_types = forget_names(self.state, self.metrics, self.unit_types)
            self.plan_anew()
            names = len(self.metrics.values) + len(self.unit_types.values)
            self._names_max = NAMES_MAX + 2 * names
        unused = self.tick % UNUSED_CHECK_TICKS == 0 and is_mostly_unused(self.state)
        dead = is_mostly_dead(self.state) or is_mostly_free(self.state)
        if self.is_live and (unused or dead):
            self.state = compact(self.state, self.plan)
            self.refold()

    def plan_anew(self) -> None:
        """Make the plan of the definitions, and room in what is kept per experiment."""
        definitions = in_order(self.control.definitions)
        self.plan = make_plan(
            definitions,
            self.control.catalogue,
            final=self._final,
            metrics=self.metrics,
            unit_types=self.unit_types,
        )
        self._definitions = definitions
        self._slots_max = max((len(one.metrics) for one in definitions), default=0)
        self._totals_max = int(self.plan.experiments["totals"].max(initial=0))
        self._event_slots = int((self.plan.slots["kind"] == EVENTS).sum())
        count = len(definitions)
        experiments = np.zeros(count, EXPERIMENT_SUMS)
        experiments[: len(self.state.experiments)] = self.state.experiments
        self.state = self.state._replace(
            experiments=experiments, no_assignment=wider(self.state.no_assignment, count)
        )

    # --- reports ---

    def _report(self, tick: Tick, newly_final: set[int]) -> list[bytes]:
        """Return the partials of a tick: cumulative sums of the due experiments that changed."""
        reported = []
        for definition in self._due(tick.settings, newly_final):
            reported.append(
                self.experiment_sums(definition, final=definition.ordinal in newly_final)
            )
            self.state.experiments["touched"][definition.ordinal] = False
        parts = in_parts(reported, MESSAGE_BYTES_MAX // 2)
        ledger = Ledger(*self.state.ledger.sum(axis=0).tolist())
        imports = self._imports_to_report()
        return [
            encode_partial(
                Partial(
                    log_id=tick.log_id,
                    state_version=STATE_VERSION,
                    partition=self.number,
                    tick=tick.number,
                    times=tick.times,
                    next_offset=self.cursor,
                    writer=self.writer,
                    part=part,
                    parts=len(parts),
                    ledger=ledger,
                    changes=tick.changes if self.number == 0 and part == 0 else [],
                    settings=tick.settings,
                    experiments=experiments,
                    pieces=pieces,
                    imports=imports if part == 0 else None,
                )
            )
            for part, (experiments, pieces) in enumerate(parts)
        ]

    def import_counts(self) -> list[ImportCount]:
        """Return what was taken of every import; of none that no part was taken of."""
        parts = self.state.imported.min(axis=0).tolist()
        rows = self.state.import_rows.sum(axis=0).tolist()
        declared = sorted(self.control.imports.values(), key=lambda one: one.ordinal)
        return [
            ImportCount(one.id, parts[one.ordinal], rows[one.ordinal])
            for one in declared
            if one.ordinal < len(parts) and parts[one.ordinal]
        ]

    def _imports_to_report(self) -> list[ImportCount] | None:
        counts = self.import_counts()
        if counts == self._imports_reported and self.tick % IMPORTS_AGAIN_TICKS:
            return None
        self._imports_reported = counts
        return counts

    def _due(self, settings: Settings, newly_final: set[int]) -> list[Definition]:
        started = [
            one
            for one in self._definitions
            if one.started_at_ms is not None and one.ordinal not in self._final
        ]
        running = sum(one.status in ("running", "paused") for one in started)
        stride = stride_of(settings, running)
        return [
            one
            for one in started
            if one.ordinal in newly_final
            # Its look is due with the change, and must be of what is in it by then.
            or one.ordinal in self._redefined
            or (
                self.state.experiments["touched"][one.ordinal]
                and (self.tick + stable_hash64(one.id)) % stride == 0
            )
        ]

    def experiment_sums(self, definition: Definition, *, final: bool) -> ExperimentSums:
        """Return the cumulative sums of one experiment, as they are reported."""
        return report(self.state, self.plan, definition, final=final)

    def attribution(self, ordinal: int) -> list[int]:
        """Return the metric events of an experiment: counted, outside, excluded, no assignment."""
        return attribution(self.state, ordinal)
