"""Partials of all partitions become aligned looks. Pure: messages in, records out.

A tick is merged when every partition has reported it. An experiment gets a look at a tick when
it is due there and its integers or its definition changed since its last look; what is replayed
after a crash gives the same looks, with the same identities.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Self

import msgspec

from schemas.control import DefinitionChange, Settings, Times, stride_of
from schemas.definitions import public
from schemas.hashing import stable_hash64
from schemas.look_size import LOOK_BYTES_MAX
from schemas.partials import READABLE_VERSION, Ledger, Partial
from schemas.times import format_time_ms
from stream_processors.merge.alignment import WAITING_BYTES_MAX, Alignment, Waiting
from stream_processors.merge.assembly import Report
from stream_processors.merge.changelog import (
    EXPERIMENT_KIND,
    IMPORTS,
    PROGRESS,
    Changelog,
    Name,
)
from stream_processors.merge.experiment import MergedExperiment
from stream_processors.merge.look import Asked, Cut, Look, compute_looks
from stream_processors.merge.records import (
    RECORD_BYTES_MAX,
    Imports,
    ProgressRecord,
    encode_experiment,
    encode_imports,
    encode_progress,
    kept_experiments,
    kept_imports,
    kept_progress,
)
from stream_processors.merge.rows import Row, rows_of


class LogMismatchError(Exception):
    """Partials do not fit what was merged before: another log, or another partition count."""


class SkipCode(StrEnum):
    """Why a look that was due was not published."""

    STATE_VERSIONS = "state_versions"
    TOO_LARGE = "too_large"


class SkippedLook(NamedTuple):
    """A look that was due and not published; it is owed until it can be.

    Attributes:
        experiment_id: Whose.
        tick: When it was due.
        reason: For a person.
        code: For a program.
    """

    experiment_id: str
    tick: int
    reason: str
    code: SkipCode = SkipCode.STATE_VERSIONS


class Limits(NamedTuple):
    """What fits into a message, and into memory.

    Attributes:
        record_bytes: Of the changelog; an experiment that is larger is remembered in parts.
        look_bytes: Of a look or a snapshot; one that is larger is skipped.
        waiting_bytes: Of messages that wait for those of other partitions; see ``alignment``.
    """

    record_bytes: int = RECORD_BYTES_MAX
    look_bytes: int = LOOK_BYTES_MAX
    waiting_bytes: int = WAITING_BYTES_MAX


LIMITS = Limits()


class MergedTick(NamedTuple):
    """What is to be published for one tick.

    Attributes:
        tick: Number of the tick.
        times: Its times.
        looks: (experiment id, record) for ``litmus.looks``.
        snapshots: (experiment id, ``{"definition", "results"}``) for ``litmus.snapshots``, of
            every experiment with a look or a new definition; with ``segments``, where there are.
        rows: For ``litmus.snapshot-rows``.
        ledger: For ``litmus.ledger``.
        skipped: Looks that were due and not published, with the reason.
    """

    tick: int
    times: Times
    looks: list[tuple[str, dict[str, Any]]]
    snapshots: list[tuple[str, dict[str, Any]]]
    rows: list[Row]
    ledger: dict[str, Any]
    skipped: list[SkippedLook]


class Merger:
    """Folds ``litmus.partials``, in the order of offsets, into looks.

    A caller publishes what ``take`` returned, waits until that is acknowledged, and then writes
    what ``records`` returned, in its order; ``records`` is called before the next ``take``.

    Attributes:
        tick: Last tick that was merged; 0 before the first.
        times: Its times.
        settings: The logged settings at that tick.
        experiments: By id.
    """

    def __init__(self, partition_count: int, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self.log_id = ""
        self.tick = 0
        self.times = Times(0, 0, 0)
        self.settings = Settings()
        self.experiments: dict[str, MergedExperiment] = {}
        self._partition_count = partition_count
        self._alignment = self._align(0)
        self._offsets = [0] * partition_count
        self._ledgers = [Ledger()] * partition_count
        self._imports: Imports = [None] * partition_count
        self._imports_tick = 0
        self._attributions: dict[str, dict[str, int]] = {}
        self._owed: set[str] = set()
        self._skipped: dict[str, str] = {}
        self._unwritten: set[str] = set()
        self._imports_unwritten = False
        self._changelog = Changelog()

    @property
    def next_offset(self) -> int:
        """Return which offset of ``litmus.partials`` to take next.

        After a ``take`` it may lie before what was taken, or jump ahead again: of partitions that
        are ahead of another no more is held than fits, the rest is read again when it is needed.
        """
        return self._alignment.next_offset

    def take(self, offset: int, partial: Partial, *, size: int = 0) -> list[MergedTick]:
        """Take one message; return the tick that it completes, if any.

        Args:
            offset: Of the message; what lies before ``next_offset`` is ignored.
            partial: What it says.
            size: Its bytes. Without it a small message is assumed.

        Raises:
            LogMismatchError: If it is of another control log or an unknown partition.
            PartialGapError: If a tick of its partition is missing.
        """
        if offset < self.next_offset:
            return []
        if partial.partition >= self._partition_count:
            raise LogMismatchError(
                f"partition == {partial.partition}, must be below {self._partition_count}"
            )
        if self.log_id and partial.log_id != self.log_id:
            raise LogMismatchError(f"log_id == {partial.log_id!r}, must be {self.log_id!r}")
        self.log_id = partial.log_id
        reports = self._alignment.take(offset, partial, size)
        return [] if reports is None else [self._merge(reports)]

    def behind(self) -> list[int]:
        """Return the partitions that hold looks back: far behind the newest tick of any."""
        return self._alignment.behind()

    def waiting(self) -> Waiting:
        """Return what waits for partitions that have not reported."""
        return self._alignment.waiting()

    @property
    def is_full(self) -> bool:
        """Return whether reports are left to the topic, because as many as may be are held."""
        return self._alignment.is_full()

    @property
    def resume_offset(self) -> int:
        """Return where to go on after a restart: the smallest offset that is not merged."""
        return self._alignment.resume_offset()

    def _align(self, offset: int) -> Alignment:
        return Alignment(
            self._partition_count,
            tick=self.tick,
            offset=offset,
            bytes_max=self._limits.waiting_bytes,
        )

    def records(self) -> dict[str, bytes | None]:
        """Return what changed since the last call, to be written in this order; None deletes.

        They must be there before those of the next call are written, which delete what these
        supersede. If they cannot be written, go on from ``load``.
        """
        changed: dict[str, bytes | None] = {**self._changelog.deletions()}
        for experiment_id in sorted(self._unwritten):
            experiment = self.experiments[experiment_id]
            name, value = Name(EXPERIMENT_KIND, experiment_id), experiment.to_record()
            changed |= self._written(name, experiment.tick, encode_experiment(value))
        self._unwritten.clear()
        if self._imports_unwritten:
            changed |= self._written(IMPORTS, self._imports_tick, encode_imports(self._imports))
            self._imports_unwritten = False
        # Last, because it says that the others are there.
        changed |= self._written(PROGRESS, self.tick, encode_progress(self._progress()))
        return changed

    def _written(self, name: Name, tick: int, value: bytes) -> dict[str, bytes]:
        bytes_max = RECORD_BYTES_MAX if name == PROGRESS else self._limits.record_bytes
        return self._changelog.write(name, tick, value, bytes_max)

    @classmethod
    def load(
        cls, records: Mapping[str, bytes | None], partition_count: int, limits: Limits = LIMITS
    ) -> Self:
        """Return the merger that wrote ``records``; the newest may be missing among them.

        Raises:
            LogMismatchError: If they are of another number of partitions.
            RecordDamagedError: If more than the newest are missing.
        """
        merger = cls(partition_count, limits)
        changelog = merger._changelog = Changelog(records)
        progress = kept_progress(changelog)
        if progress is not None:
            merger._resume(progress, kept_imports(changelog, progress))
        for record in kept_experiments(changelog, merger.tick):
            experiment_id = record.definition.id
            merger.experiments[experiment_id] = MergedExperiment.from_record(record)
            merger._note(experiment_id)
        changelog.release()
        return merger

    def _resume(self, progress: ProgressRecord, imports: Imports) -> None:
        if len(progress.offsets) != self._partition_count:
            raise LogMismatchError(
                f"records of {len(progress.offsets)} partitions, must be {self._partition_count}"
            )
        self.log_id, self.tick, self.times = progress.log_id, progress.tick, progress.times
        self.settings = progress.settings
        self._alignment = self._align(progress.resume_offset)
        self._offsets, self._ledgers = list(progress.offsets), list(progress.ledgers)
        if imports:
            self._imports, self._imports_tick = list(imports), progress.imports_tick
        if progress.imports:
            self._imports_tick, self._imports_unwritten = progress.tick, True

    def _progress(self) -> ProgressRecord:
        return ProgressRecord(
            log_id=self.log_id,
            tick=self.tick,
            times=self.times,
            resume_offset=self.resume_offset,
            settings=self.settings,
            offsets=self._offsets,
            ledgers=self._ledgers,
            imports_tick=self._imports_tick,
        )

    def _merge(self, reports: list[Report]) -> MergedTick:
        first = reports[0]
        if any(report.times != first.times for report in reports):
            raise LogMismatchError(f"tick {first.tick} has several times")
        self.tick, self.times, self.settings = first.tick, first.times, first.settings
        self._offsets = [report.next_offset for report in reports]
        self._ledgers = [report.ledger for report in reports]
        self._imports = [
            before if report.imports is None else report.imports
            for before, report in zip(self._imports, reports, strict=True)
        ]
        if any(report.imports is not None for report in reports):
            self._imports_tick, self._imports_unwritten = self.tick, True
        redefined = self._redefine(first)
        due = self._report(reports)
        owed = {
            one
            for one in self._owed
            if self.experiments[one].tick < self.tick and self._is_due(one)
        }
        merged = MergedTick(self.tick, self.times, [], [], [], {}, [])
        touched = sorted(redefined | due | owed)
        self._look_at(touched, {report.state_version for report in reports}, merged)
        for experiment_id in touched:
            experiment = self.experiments[experiment_id]
            if experiment_id in redefined and not (experiment.has_started and experiment.fits):
                self._publish_definition(experiment_id, merged)
            self._note(experiment_id)
            self._unwritten.add(experiment_id)
        return merged._replace(ledger=self._ledger())

    def _redefine(self, report: Report) -> set[str]:
        """Make the tick's changes; return whose definition is another one now."""
        redefined = set()
        for change in report.changes:
            if not isinstance(change, DefinitionChange):
                continue
            definition = change.definition
            known = self.experiments.get(definition.id)
            if known is None:
                self.experiments[definition.id] = MergedExperiment(definition)
            elif known.tick < self.tick:
                known.redefine(definition)
            else:
                continue
            redefined.add(definition.id)
        return redefined

    def _report(self, reports: list[Report]) -> set[str]:
        """Replace sums by what partitions reported; return whose were reported."""
        due = set()
        for partition, report in enumerate(reports):
            for sums in report.experiments:
                experiment = self.experiments.get(sums.experiment_id)
                if experiment is None:
                    raise LogMismatchError(
                        f"tick {self.tick} has sums of {sums.experiment_id!r}, never defined"
                    )
                if experiment.tick < self.tick:
                    experiment.report(partition, report.state_version, sums)
                    due.add(sums.experiment_id)
        return due

    def _look_at(self, touched: list[str], tick_versions: set[int], merged: MergedTick) -> None:
        """Compute the looks of all experiments that were touched, together."""
        asked: dict[str, Asked] = {}
        for experiment_id in touched:
            self.experiments[experiment_id].tick = self.tick
            wanted = self._asked(experiment_id, tick_versions, merged)
            if wanted is not None:
                asked[experiment_id] = wanted
        looks = compute_looks(list(asked.values()))
        for (experiment_id, one), look in zip(asked.items(), looks, strict=True):
            experiment = self.experiments[experiment_id]
            definition = public(experiment.definition)
            snapshot: dict[str, Any] = {"definition": definition, "results": look.results}
            if definition["segments"]:
                snapshot["segments"] = look.record["segments"]
            size = self._bytes_beyond(look, snapshot)
            if size is not None:
                experiment.forgo(one)
                reason = f"a look of {size} bytes, must be {self._limits.look_bytes} at most"
                self._skip(
                    SkippedLook(experiment_id, self.tick, reason, SkipCode.TOO_LARGE), merged
                )
                continue
            experiment.remember(one, look)
            self._skipped.pop(experiment_id, None)
            merged.looks.append((experiment_id, look.record))
            merged.snapshots.append((experiment_id, snapshot))
            merged.rows.extend(rows_of(look.results, self.times.log_ms))

    def _bytes_beyond(self, look: Look, snapshot: dict[str, Any]) -> int | None:
        """Return how large the larger of two messages is, if that is too large."""
        bytes_max = self._limits.look_bytes
        size = len(msgspec.json.encode(look.record))
        # A snapshot is the same without integers and with the definition, which is small beside
        # what a look says of each of its metrics.
        if size > bytes_max // 4:
            size = max(size, len(msgspec.json.encode(snapshot)))
        return size if size > bytes_max else None

    def _skip(self, skipped: SkippedLook, merged: MergedTick) -> None:
        merged.skipped.append(skipped)
        self._skipped[skipped.experiment_id] = skipped.reason

    def _asked(
        self, experiment_id: str, tick_versions: set[int], merged: MergedTick
    ) -> Asked | None:
        experiment = self.experiments[experiment_id]
        if not experiment.has_started:
            return None
        versions = experiment.state_versions or tick_versions
        reason = None
        if len(versions) > 1 or len(tick_versions) > 1:
            listed = ", ".join(map(str, sorted(versions | tick_versions)))
            reason = f"mixed state versions: {listed}"
        elif min(versions) < READABLE_VERSION:
            oldest = min(versions)
            reason = f"sums of state version {oldest}, must be {READABLE_VERSION} at least"
        if reason is not None:
            experiment.is_owed = True
            self._skip(SkippedLook(experiment_id, self.tick, reason), merged)
            return None
        return experiment.asks(
            Cut(
                log_id=self.log_id,
                state_version=min(versions),
                tick=self.tick,
                times=self.times,
                offsets=dict(enumerate(self._offsets)),
                behind=tuple(self.behind()),
            )
        )

    def _is_due(self, experiment_id: str) -> bool:
        """Return whether every partition has reported what changed in it up to this tick."""
        running = sum(
            one.has_started and one.definition.status in ("running", "paused")
            for one in self.experiments.values()
        )
        stride = stride_of(self.settings, running)
        return (self.tick + stable_hash64(experiment_id)) % stride == 0

    def _publish_definition(self, experiment_id: str, merged: MergedTick) -> None:
        definition = public(self.experiments[experiment_id].definition)
        merged.snapshots.append((experiment_id, {"definition": definition, "results": None}))

    def _note(self, experiment_id: str) -> None:
        """Keep what is looked up at every tick beside the experiments."""
        experiment = self.experiments[experiment_id]
        self._attributions[experiment_id] = experiment.attribution()
        if experiment.is_owed and experiment.has_started and experiment.fits:
            self._owed.add(experiment_id)
        else:
            self._owed.discard(experiment_id)

    def _ledger(self) -> dict[str, Any]:
        partitions = [
            {"partition": partition, "offset": offset} | msgspec.structs.asdict(ledger)
            for partition, (offset, ledger) in enumerate(
                zip(self._offsets, self._ledgers, strict=True)
            )
        ]
        return {
            "tick": self.tick,
            "log_id": self.log_id,
            "as_of": format_time_ms(self.times.log_ms),
            "settled": format_time_ms(self.times.settled_ms),
            "rows": _added(self._ledgers),
            "partitions": partitions,
            "experiments": dict(self._attributions),
            "imports": _taken(self._imports),
            "behind": self.behind(),
            "skipped": dict(self._skipped),
        }


def _taken(imports: Imports) -> dict[str, dict[str, int]] | None:
    """Return parts and rows of every import in all partitions; None while one has not said."""
    found: dict[str, dict[str, int]] = {}
    for counts in imports:
        if counts is None:
            return None
        for one in counts:
            of_import = found.setdefault(one.import_id, {"parts": 0, "rows": 0})
            of_import["parts"] += one.parts
            of_import["rows"] += one.rows
    return found


def _added(ledgers: Iterable[Ledger]) -> dict[str, int]:
    rows = [msgspec.structs.asdict(ledger) for ledger in ledgers]
    return {name: sum(row[name] for row in rows) for name in Ledger.__struct_fields__}
