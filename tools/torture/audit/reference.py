"""What everything amounted to after each tick: all partitions together. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from schemas.control import (
    DUE_LOOKS_PER_SECOND_MAX,
    TICKS_PER_SECOND,
    DefinitionChange,
    Settings,
    Times,
)
from schemas.definitions import Metric
from tools.torture.audit.control_log import ControlLog
from tools.torture.audit.hashing import hash128
from tools.torture.audit.integers import shown
from tools.torture.audit.partition_fold import Deltas, TickMark
from tools.torture.audit.rules import (
    ATTRIBUTIONS,
    NEVER,
    SUM,
    SUMS,
    Rules,
)


class Counted(NamedTuple):
    """What some partitions amount to.

    Attributes:
        deltas: Integers by tick and ordinal, as differences.
        marks: By partition, where it stood after each tick.
        finals: Ordinals by the tick that made them final.
    """

    deltas: Deltas
    marks: dict[int, list[TickMark]]
    finals: dict[int, list[int]]


def add_deltas(into: Deltas, more: Deltas) -> None:
    """Add the differences of other partitions."""
    for tick, by_ordinal in more.items():
        here = into.setdefault(tick, {})
        for ordinal, delta in by_ordinal.items():
            known = here.get(ordinal)
            here[ordinal] = (
                delta if known is None else [a + b for a, b in zip(known, delta, strict=True)]
            )


def together(parts: Iterable[Counted]) -> Counted:
    """Return what several groups of partitions amount to."""
    whole = Counted({}, {}, {})
    for part in parts:
        add_deltas(whole.deltas, part.deltas)
        whole.marks.update(part.marks)
        whole.finals.update(part.finals)  # the same in every partition: it follows from ticks
    return whole


class Moment:
    """One experiment after a tick.

    Attributes:
        rules: As of the tick.
        integers: All of them.
        is_final: Whether it is final at the tick, or was before.
        needs_look: Whether a look of the tick must have been published.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.integers: list[int] = [0] * rules.size
        self.is_final = False
        self.needs_look = False
        self._looked: tuple[Any, ...] | None = None
        self._hash = hash128(rules.id)[1]

    def redefine(self, rules: Rules) -> None:
        """Go on under other rules."""
        if self.rules.started > rules.started or not any(self.integers):
            self.integers = [0] * rules.size
        self.integers += [0] * (rules.size - len(self.integers))
        self.rules = rules

    def is_due(self, tick: int, stride: int) -> bool:
        """Return whether a look is to be taken at a tick if something changed."""
        return (tick + self._hash) % stride == 0

    def attribution(self) -> dict[str, int]:
        """Return what became of metric events."""
        start = self.rules.crossovers + 1
        return dict(zip(ATTRIBUTIONS, self.integers[start:], strict=False))

    def note_look(self, *, is_due: bool, is_redefined: bool) -> None:
        """Note whether a look is needed: a definition changed, or it is due and integers did."""
        self.needs_look = False
        if self.rules.started >= NEVER:
            return
        start = self.rules.crossovers + 1
        totals = (
            self.is_final,
            *self.integers[:start],
            *self.integers[start + len(ATTRIBUTIONS) :],
        )
        if is_redefined or (is_due and totals != self._looked):
            self.needs_look = True
            self._looked = totals

    def as_strings(self) -> dict[str, Any]:
        """Return the integers as a look shows them."""
        return shown(self.rules, self.integers)

    def published(self) -> list[dict[str, Any]]:
        """Return units and total of every metric, basis and variant, as results name them."""
        definition = self.rules.definition
        return [
            {
                "metric_id": metric.id,
                "basis": basis,
                "variants": [
                    (variant, units, _shown_total(metric, total))
                    for variant, (units, total) in zip(
                        self.rules.places, self._pairs(start), strict=True
                    )
                ],
            }
            for metric, rules in zip(definition.metrics, self.rules.metrics, strict=True)
            for basis, start in (("matured", rules.matured), ("open", rules.start))
            if basis == "open" or metric.window_ms is not None
        ]

    def _pairs(self, start: int) -> Iterator[tuple[int, int]]:
        for at in range(start, start + SUMS * len(self.rules.places), SUMS):
            yield self.integers[at], self.integers[at + 1]


def _shown_total(metric: Metric, total: int) -> float:
    return total / 10**metric.precision if metric.kind == SUM else total


class TickState(NamedTuple):
    """All experiments after a tick.

    Attributes:
        number: Of the tick.
        times: Its times.
        offsets: Per partition, the first offset after it.
        rows: Per partition, rows so far by fate.
        moments: By experiment id.
        ledgers: By experiment id, what became of metric events as last reported.
    """

    number: int
    times: Times
    offsets: dict[int, int]
    rows: dict[int, tuple[int, ...]]
    moments: dict[str, Moment]
    ledgers: dict[str, dict[str, int]]


def walk(control: ControlLog, counted: Counted) -> Iterator[TickState]:
    """Yield what there is after each tick that every partition holds; objects are shared."""
    moments: dict[str, Moment] = {}
    ledgers: dict[str, dict[str, int]] = {}
    ids: dict[int, str] = {}
    end = min((len(marks) for marks in counted.marks.values()), default=0)
    for facts in control.ticks[:end]:
        redefined = set()
        for change in facts.changes:
            if isinstance(change, DefinitionChange):
                rules = Rules(change.definition, {})
                redefined.add(rules.id)
                ids[rules.ordinal] = rules.id
                if rules.id in moments:
                    moments[rules.id].redefine(rules)
                else:
                    moments[rules.id] = Moment(rules)
                    ledgers[rules.id] = dict.fromkeys(ATTRIBUTIONS, 0)
        stride = _stride(facts.settings, moments)
        changed = {ids[ordinal] for ordinal in counted.deltas.get(facts.number, {})}
        for ordinal, delta in counted.deltas.get(facts.number, {}).items():
            moment = moments[ids[ordinal]]
            moment.integers = [a + b for a, b in zip(moment.integers, delta, strict=True)]
        finals = {ids[ordinal] for ordinal in counted.finals.get(facts.number, ())}
        for experiment_id, moment in moments.items():
            is_new_final = experiment_id in finals
            moment.is_final = moment.is_final or is_new_final
            is_due = is_new_final or moment.is_due(facts.number, stride)
            if stride > 1 or experiment_id in changed | redefined | finals:
                is_redefined = experiment_id in redefined
                moment.note_look(is_due=is_due, is_redefined=is_redefined)
                if is_due:
                    ledgers[experiment_id] = moment.attribution()
            else:
                moment.needs_look = False
        marks = {number: marks[facts.number - 1] for number, marks in counted.marks.items()}
        yield TickState(
            facts.number,
            facts.times,
            {number: mark.next_offset for number, mark in marks.items()},
            {number: mark.rows for number, mark in marks.items()},
            moments,
            ledgers,
        )


def _stride(settings: Settings, moments: dict[str, Moment]) -> int:
    """Return how many ticks lie between two looks of an experiment."""
    if settings.stride is not None:
        return settings.stride
    running = sum(
        one.rules.definition.status in ("running", "paused") and not one.is_final
        for one in moments.values()
    )
    return max(1, -(-running * TICKS_PER_SECOND // DUE_LOOKS_PER_SECOND_MAX))
