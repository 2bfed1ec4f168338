"""One unit, and what it amounts to in one experiment: a function of its events and the rules.

``place`` says it from scratch, from all events of the unit, whenever an assignment or a rule may
have changed it. A metric event that only adds to it is added by ``PartitionFold``.
"""

from typing import NamedTuple

from tools.torture.audit.rules import (
    CONVERSION,
    COUNT,
    COUNTED,
    COVARIATE_SUMS,
    EXCLUDED,
    NEVER,
    NO_ASSIGNMENT,
    OUTSIDE,
    SUMS,
    MetricRules,
    Rules,
)

MAGNITUDE_LIMIT = 1 << 62
"""A unit whose Σ|q| reaches this leaves the metric."""

DAY_MS = 86_400_000
NOWHERE = -1


class Row(NamedTuple):
    """What an event says.

    Attributes:
        timestamp: Its time.
        given: The same where the producer gave it, None where a door did.
        experiment: Its experiment, None for all.
        variant: Of an assignment.
        metric: Of a metric event.
        value: As sent.
    """

    timestamp: int
    given: int | None
    experiment: str | None
    variant: str | None
    metric: str | None
    value: float


class Unit:
    """A unit and its events that were counted as fresh.

    Attributes:
        type: Its type.
        hash: Its 128-bit hash, high half first.
        rows: By event id, the newest row that was fresh.
        measured: Its metric events.
        assigned: By experiment, its assignments: timestamp, halves of the event's hash, variant.
        imported: Name of events, UTC day and value of each row of imports.
        latest: Time of its latest event.
        cells: By ordinal of the experiment.
    """

    __slots__ = ("assigned", "cells", "hash", "imported", "latest", "measured", "rows", "type")

    def __init__(self, unit_type: str, unit_hash: tuple[int, int]) -> None:
        self.type = unit_type
        self.hash = unit_hash
        self.rows: dict[str, Row] = {}
        self.measured: list[Row] = []
        self.assigned: dict[str, list[tuple[int, int, int, str]]] = {}
        self.imported: list[tuple[str, int, float]] = []
        self.latest = 0
        self.cells: dict[int, Cell] = {}


class Cell:
    """A unit in an experiment.

    Attributes:
        variant: Place of the variant, NOWHERE without an assignment that counts.
        entry: Time of the first assignment.
        entry_hash: Hash of its event.
        is_crossed: Whether two variants were assigned.
        other: Time of the earliest assignment to another variant, NEVER for none.
        counted: Metric events that a window holds.
        outside: Those since entry that none holds.
        before: Those before entry.
        totals: Per metric: events with a positive value, events, or Σq.
        magnitudes: Per metric, Σ|q|.
        matured: Metrics whose window has passed, as bits.
        covariates: Per metric the total before, None without a pre-period; empty for none at all.
        left: Metrics that the unit left by the magnitude of its covariate, as bits.
    """

    __slots__ = (
        "before",
        "counted",
        "covariates",
        "entry",
        "entry_hash",
        "is_crossed",
        "left",
        "magnitudes",
        "matured",
        "other",
        "outside",
        "totals",
        "variant",
    )

    def __init__(self, metric_count: int) -> None:
        self.variant = NOWHERE
        self.entry = NEVER
        self.entry_hash = (0, 0)
        self.is_crossed = False
        self.other = NEVER
        self.counted = self.outside = self.before = 0
        self.totals = [0] * metric_count
        self.magnitudes = [0] * metric_count
        self.matured = 0
        self.covariates: list[int | None] = []
        self.left = 0


def quantised(metric: MetricRules, value: float) -> int:
    """Return the integer that a value counts as; halves go to the even one."""
    return round(value * metric.scale)


def place(unit: Unit, rules: Rules, settled: int) -> Cell:
    """Return what a unit amounts to in an experiment."""
    cell = Cell(len(rules.metrics))
    assignments = [one for one in unit.assigned.get(rules.id, ()) if rules.counts_at(one[0])]
    if assignments:
        cell.entry, high, low, variant = min(assignments)
        cell.entry_hash = (high, low)
        cell.variant = rules.places[variant]
        cell.other = min((one[0] for one in assignments if one[3] != variant), default=NEVER)
        cell.is_crossed = cell.other != NEVER
    for row in unit.measured:
        if row.experiment is None or row.experiment == rules.id:
            _count_event(cell, rules, row)
    if assignments:
        until = min(settled, rules.stopped)
        for metric in rules.metrics:
            if cell.entry + metric.window <= until:
                cell.matured |= 1 << metric.place
        if rules.has_covariates:
            for metric in rules.metrics:
                counts = cell.entry >= metric.added
                x, magnitude = _covariate(unit, metric, cell.entry) if counts else (None, 0)
                cell.covariates.append(x)
                if magnitude >= MAGNITUDE_LIMIT:
                    cell.left |= 1 << metric.place
    return cell


def _count_event(cell: Cell, rules: Rules, row: Row) -> None:
    tracking = rules.by_event.get(row.metric or "")
    if tracking is None or row.timestamp < rules.since[row.metric or ""]:
        return
    if row.timestamp < cell.entry:
        cell.before += 1
        return
    held = False
    for metric in tracking:
        if is_held(cell.entry, rules, metric, row.timestamp):
            held = True
            if metric.kind == CONVERSION:
                cell.totals[metric.place] += row.value > 0
            elif metric.kind == COUNT:
                cell.totals[metric.place] += 1
            else:
                q = quantised(metric, row.value)
                cell.totals[metric.place] += q
                cell.magnitudes[metric.place] += abs(q)
    if held:
        cell.counted += 1
    else:
        cell.outside += 1


def is_held(entry: int, rules: Rules, metric: MetricRules, timestamp: int) -> bool:
    """Return whether an event since entry counts for a metric."""
    return timestamp < entry + metric.window and timestamp < rules.stopped and entry >= metric.added


def _covariate(unit: Unit, metric: MetricRules, entry: int) -> tuple[int | None, int]:
    """Return the unit's total over the whole UTC days before its day of entry, and Σ|q|.

    The total is None where no event, and no row of an import, lies in these days.
    """
    end = entry // DAY_MS
    start = end - metric.days
    values = [
        value for event, day, value in unit.imported if event == metric.event and start <= day < end
    ]
    for row in unit.measured if metric.days else ():
        day = row.timestamp // DAY_MS
        is_live = row.experiment is None and day >= metric.live_from
        if is_live and row.metric == metric.event and start <= day < end:
            values.append(row.value)
    if not values:
        return None, 0
    if metric.kind == CONVERSION:
        return int(any(value > 0 for value in values)), 0
    if metric.kind == COUNT:
        return len(values), 0
    quanta = [quantised(metric, value) for value in values]
    return sum(quanta), sum(map(abs, quanta))


def has_left(cell: Cell, metric: MetricRules) -> bool:
    """Return whether a unit left a metric by its magnitude."""
    place = metric.place
    return cell.magnitudes[place] >= MAGNITUDE_LIMIT or bool(cell.left >> place & 1)


def contribute(integers: list[int], rules: Rules, cell: Cell, sign: int) -> None:
    """Add what a cell is to an experiment's integers, or take it back."""
    crossovers = rules.crossovers
    integers[crossovers + NO_ASSIGNMENT] += sign * cell.before
    if cell.variant == NOWHERE:
        return
    if cell.is_crossed and rules.excludes:
        integers[crossovers] += sign
        integers[crossovers + EXCLUDED] += sign * (cell.counted + cell.outside)
        return
    integers[cell.variant] += sign
    integers[crossovers + COUNTED] += sign * cell.counted
    integers[crossovers + OUTSIDE] += sign * cell.outside
    # Of a metric that was added since it was counted it has no total: nothing is to be taken back.
    for metric in rules.metrics[: len(cell.totals)]:
        if cell.entry < metric.added:
            continue
        if has_left(cell, metric):
            integers[metric.overflowed] += sign
            continue
        _add_sums(integers, metric, cell, sign, metric.start)
        if metric.days:
            _add_covariate(integers, metric, cell, sign, metric.covariates)
        if cell.matured >> metric.place & 1:
            mature_metric(integers, metric, cell, sign)


def mature_metric(integers: list[int], metric: MetricRules, cell: Cell, sign: int) -> None:
    """Add a cell's total of a metric to the sums over matured units, or take it back."""
    _add_sums(integers, metric, cell, sign, metric.matured)
    if metric.days:
        _add_covariate(integers, metric, cell, sign, metric.matured_covariates)


def datum(metric: MetricRules, total: int) -> int:
    """Return what a unit's total is: of a conversion, whether there is one."""
    return min(total, 1) if metric.kind == CONVERSION else total


def _add_sums(integers: list[int], metric: MetricRules, cell: Cell, sign: int, start: int) -> None:
    at = start + SUMS * cell.variant
    q = datum(metric, cell.totals[metric.place])
    integers[at] += sign
    integers[at + 1] += sign * q
    integers[at + 2] += sign * q * q


def _add_covariate(
    integers: list[int], metric: MetricRules, cell: Cell, sign: int, start: int
) -> None:
    x = cell.covariates[metric.place]
    if x is None:
        return
    at = start + COVARIATE_SUMS * cell.variant
    q = datum(metric, cell.totals[metric.place])
    for place, product in enumerate((1, q, q * q, x, x * x, q * x)):
        integers[at + place] += sign * product
